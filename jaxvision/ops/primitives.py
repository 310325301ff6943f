"""Functions with a form for each platform, as primitives of JAX.

Derivatives are taken before a program is lowered, and the platform is known only then. So such a
function is one equation of the program until it is lowered: derivatives and `jax.vmap` treat it as
one, and a program lowered for one platform holds the form for that platform and no other.

Only this file imports `jax.extend` and `jax.interpreters`.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import Jaxpr, Primitive, jaxprs_in_params
from jax.interpreters import ad, batching, mlir, xla
from jax.interpreters.partial_eval import dce_jaxpr

__all__ = [
    "Form",
    "Jaxpr",
    "by_platform",
    "dce_jaxpr",
    "jaxprs_in_params",
    "library_forms",
    "multilinear",
    "stored",
    "stored_together",
]

_library_forms = jax.make_user_context(False)


@contextlib.contextmanager
def library_forms() -> Iterator[None]:
    """Within it, functions are traced in the form for accelerators: JAX's own operations alone.

    For programs that read what JAX traces, such as exporters, and know no other primitives. What
    `jax.jit` has traced outside of the context is not used within it, nor the reverse.
    """
    with _library_forms(True):
        yield


def by_platform(
    *arrays: Any,
    default: Callable[..., Any],
    cpu: Callable[..., Any],
    gpu: Callable[..., Any] | None = None,
    **static: Any,
) -> Any:
    """`cpu(*arrays, **static)` on a CPU, `gpu(...)` on a GPU, `default(...)` elsewhere.

    Not differentiable: stop the gradients of the arrays, or give a rule by `jax.custom_jvp`.

    Args:
      *arrays: pytrees of arrays.
      default: the form for all other platforms, hashable.
      cpu: the form for CPUs; its results have the same structure, shapes and dtypes.
      gpu: likewise, for GPUs; None: the default.
      **static: options of both, hashable.
    Returns:
      What the form returns, a pytree of arrays.
    """
    if _library_forms.value:
        return default(*arrays, **static)
    leaves, tree = jax.tree.flatten(arrays)
    result = jax.tree.structure(jax.eval_shape(functools.partial(default, **static), *arrays))
    options = _static(
        forms=(default, cpu, gpu or default), tree=tree, options=tuple(static.items())
    )
    flat = _by_platform.bind(*leaves, static=options, mapped=())
    return jax.tree.unflatten(result, flat)


@jax.custom_jvp
def stored(x: Array) -> Array:
    """x itself, which CPUs and GPUs compute once and keep in memory until its last use.

    XLA otherwise computes cheap operations again wherever their result is used, for which it keeps
    what they are computed from. Where the result is in memory anyway, that is a second array of its
    size. On TPUs, and under `library_forms`, it has no effect.

    Args:
      x: an array.
    Returns:
      x. Its derivatives are those of x.
    """
    return by_platform(x, default=_unchanged, cpu=_stored_on_cpu, gpu=lax.optimization_barrier)


stored.defjvp(lambda arrays, tangents: (stored(*arrays), *tangents))


def _unchanged(x: Array) -> Array:
    return x


def _stored_on_cpu(x: Array) -> Array:
    return stored_together(x)[0]


def stored_together(*arrays: Array) -> tuple[Array, ...]:
    """The arrays, each of which is in memory before anything is computed of one of them.

    So a copy of one array is not made before the others exist. For programs on a CPU.
    """
    # XLA removes its optimization barrier on CPUs before it fuses operations, but not a call that
    # must not be inlined. The call does nothing: its results are its arguments.
    with set_xla_metadata(inlineable="false"):
        return _call(*arrays)


@functools.partial(jax.jit, inline=False)
def _call(*arrays: Array) -> tuple[Array, ...]:
    return arrays


class Form(NamedTuple):
    """A function in a form for each platform.

    Attributes:
      name: of the primitive.
      default: the form for all other platforms, (*arrays, **static) -> array.
      cpu: the form for CPUs.
      gpu: the form for GPUs; None: the default.
    """

    name: str
    default: Callable[..., Array]
    cpu: Callable[..., Array]
    gpu: Callable[..., Array] | None = None


def multilinear(*forms: Form, residuals: int = 0) -> tuple[Callable[..., Array], ...]:
    """Primitives that are each other's transposes, with derivatives of any order.

    They all belong to one function of N arrays that is linear in each and gives one number, such as
    the inner product of an array with a convolution of two others. Function n takes all arrays but
    number n, in their order, and returns the derivative by that one.

    Args:
      *forms: of the N functions.
      residuals: arrays that each function takes before the others, which have no derivative.
    Returns:
      The functions, (*residuals, *arrays, **static) -> array; options are hashable, and the same
      for all.
    """
    primitives = [_primitive(*form) for form in forms]
    for own in range(len(forms)):
        inputs = [n for n in range(len(forms)) if n != own]
        _define_derivatives(primitives, own, inputs, residuals)
    return tuple(map(_function, primitives, forms))


def _function(primitive: Primitive, form: Form) -> Callable[..., Array]:
    def call(*arrays: Array, **static: Any) -> Array:
        if _library_forms.value:
            return form.default(*arrays, **static)
        return primitive.bind(*arrays, static=_static(**static), mapped=())

    return call


def _define_derivatives(
    primitives: list[Primitive], own: int, inputs: list[int], residuals: int
) -> None:
    primitive = primitives[own]

    def tangent_of(position: int) -> Callable[..., Array]:
        def rule(tangent: Array, *arrays: Array, **params: Any) -> Array:
            return primitive.bind(*arrays[:position], tangent, *arrays[position + 1 :], **params)

        return rule

    def transpose(
        cotangent: Array, *arrays: Any, mapped: Any, static: _Static
    ) -> list[Array | None]:
        position = next(n for n, x in enumerate(arrays) if ad.is_undefined_primal(x))
        target = inputs[position - residuals]

        def arguments(values: tuple, of_cotangent: Any) -> tuple:
            """Of the target, from what belongs to each argument of this one."""
            known = {**dict(zip(inputs, values[residuals:], strict=True)), own: of_cotangent}
            return (*values[:residuals], *(known[n] for n in sorted(known) if n != target))

        result = primitives[target].bind(
            *arguments(arrays, cotangent),
            static=static,
            mapped=tuple(arguments(axes, 0) for axes in mapped),
        )
        # An array that was not mapped has one cotangent for all. The last map's axis is the first.
        shared = [n for n, axes in enumerate(reversed(mapped)) if axes[position] is None]
        results: list[Array | None] = [None] * len(arrays)
        results[position] = result.sum(axis=tuple(shared)) if shared else result
        return results

    ad.deflinear2(primitive, transpose)
    rules = [tangent_of(residuals + n) for n in range(len(inputs))]
    ad.defjvp(primitive, *[None] * residuals, *rules)


class _Static(NamedTuple):
    options: tuple[tuple[str, Any], ...]
    precision: str | None  # of products, where the function is called, not where it is lowered


def _static(**options: Any) -> _Static:
    return _Static(tuple(options.items()), jax.config.jax_default_matmul_precision)


def _primitive(
    name: str,
    default: Callable[..., Any],
    cpu: Callable[..., Any],
    gpu: Callable[..., Any] | None = None,
    *,
    multiple: bool = False,
) -> Primitive:
    """A primitive with a form for each platform, without derivatives.

    Its parameters are `static`, the forms' options, and `mapped`, for each `jax.vmap` around it,
    the innermost first, the axis (0 or None) of each argument.
    """

    def run(form: Callable[..., Any], *arrays: Array, static: _Static, mapped: Any) -> Any:
        fn = functools.partial(form, **dict(static.options))
        for axes in mapped:
            fn = jax.vmap(fn, axes)
        with jax.default_matmul_precision(static.precision):
            return fn(*arrays)

    def abstract(*arrays: Any, **params: Any) -> Any:
        results = jax.eval_shape(functools.partial(run, default, **params), *arrays)
        return jax.tree.map(lambda x: jax.core.ShapedArray(x.shape, x.dtype), results)

    def batch(arrays: Any, axes: Any, *, static: _Static, mapped: Any) -> tuple[Any, Any]:
        arrays = [
            x if n is None else jnp.moveaxis(x, n, 0) for x, n in zip(arrays, axes, strict=True)
        ]
        level = tuple(None if n is None else 0 for n in axes)
        results = primitive.bind(*arrays, static=static, mapped=(*mapped, level))
        return results, jax.tree.map(lambda _: 0, results)

    primitive = Primitive(name)
    primitive.multiple_results = multiple
    primitive.def_impl(functools.partial(xla.apply_primitive, primitive))
    primitive.def_abstract_eval(abstract)
    batching.primitive_batchers[primitive] = batch
    gpu = gpu or default
    for platform, form in ((None, default), ("cpu", cpu), ("cuda", gpu), ("rocm", gpu)):
        lowering = mlir.lower_fun(functools.partial(run, form), multiple_results=multiple)
        # Not inline: equal calls of a program share one function.
        mlir.register_lowering(primitive, lowering, platform=platform, inline=False)
    return primitive


def _run_form(number: int, *leaves: Array, forms: Any, tree: Any, options: Any) -> list[Array]:
    return jax.tree.leaves(forms[number](*jax.tree.unflatten(tree, leaves), **dict(options)))


_by_platform = _primitive(
    "by_platform",
    functools.partial(_run_form, 0),
    functools.partial(_run_form, 1),
    functools.partial(_run_form, 2),
    multiple=True,
)
