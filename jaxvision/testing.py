"""Tools for testing array functions, built on chex.

They compare an operator with a slow reference under every transformation, and check that padding
does not change a loss::

    from jaxvision.testing import check_op, check_padding_invariance

    check_op(box_area, slow_box_area, boxes)
    check_padding_invariance(my_loss, predictions, boxes, box_mask, padded=(1,), mask=2)
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

TRANSFORMS = ("eager", "jit", "vmap", "pmap")
"""The transformations under which `transformed` can run a function."""


def transformed(fn: Callable[..., Any], transform: str) -> Callable[..., Any]:
    """Returns a function that runs `fn` under a transformation, with its signature and results.

    Under "vmap" and "pmap" the arguments are repeated (over all local devices for "pmap"), and the
    results of all copies must be equal. All transformations except "eager" compile the function as
    a whole. Keyword arguments are static.

    Args:
      fn: a function of positional arrays (any pytrees) that returns arrays.
      transform: one of `TRANSFORMS`.
    Raises:
      ValueError: transform is unknown.
      AssertionError: when called, if the results of the copies differ.
    """
    if transform not in TRANSFORMS:
        raise ValueError(f"unknown transform {transform!r}: choose one of {', '.join(TRANSFORMS)}")

    @functools.wraps(fn)
    def run(*args: Any, **static: Any) -> Any:
        bound = functools.partial(fn, **static) if static else fn
        if transform == "eager":
            return bound(*args)
        if transform == "jit":
            return jax.jit(bound)(*args)
        copies = 2 if transform == "vmap" else jax.local_device_count()
        mapped = jax.jit(jax.vmap(bound)) if transform == "vmap" else jax.pmap(bound)

        def repeat(x: Any) -> Any:
            x = _to_numpy(x)
            stack = jnp.stack if isinstance(x, jax.Array) else np.stack
            return stack([x] * copies)

        results = jax.tree.map(_fetch, mapped(*jax.tree.map(repeat, args)))
        first = jax.tree.map(lambda x: x[0], results)
        for copy in range(1, copies):
            chex.assert_trees_all_equal(first, jax.tree.map(lambda x, i=copy: x[i], results))
        return first

    return run


def _fetch(x: jax.Array) -> Any:
    # JAX cannot assemble an empty array from the devices of a pmap.
    return np.zeros(x.shape, x.dtype) if x.size == 0 else jax.device_get(x)


def _to_numpy(x: Any) -> Any:
    is_key = isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return x if is_key else np.asarray(x)


def check_op(
    op: Callable[..., Any],
    reference: Callable[..., Any],
    *args: Any,
    rtol: float = 1e-5,
    atol: float = 1e-6,
    transforms: Sequence[str] = TRANSFORMS,
    **static: Any,
) -> None:
    """Asserts that an operator equals a reference under every transformation.

    Args:
      op: the operator.
      reference: the same function in plain numpy; it is called with numpy arrays (PRNG keys stay
        keys).
      *args: the arguments of both functions.
      rtol: relative tolerance of each element.
      atol: absolute tolerance of each element.
      transforms: the transformations to test, from `TRANSFORMS`.
      **static: keyword arguments of both functions.
    Raises:
      AssertionError: a result differs in value, shape or structure.
    """
    expected = reference(*jax.tree.map(_to_numpy, args), **static)
    for transform in transforms:
        actual = jax.device_get(transformed(op, transform)(*args, **static))
        chex.assert_trees_all_equal_shapes(actual, expected)
        try:
            chex.assert_trees_all_close(actual, expected, rtol=rtol, atol=atol)
        except AssertionError as error:
            raise AssertionError(f"under {transform}: {error}") from error


def check_finite_gradients(
    fn: Callable[..., Any], *args: Any, argnums: Sequence[int] = (0,)
) -> None:
    """Asserts that the sum of all outputs of a function has finite gradients, under jit.

    Args:
      fn: a function of arrays that returns a pytree of arrays.
      *args: its arguments.
      argnums: positions of the arguments to differentiate by.
    Raises:
      AssertionError: a gradient is NaN or infinite.
    """

    def total(*args: Any) -> jax.Array:
        return sum(jnp.sum(x) for x in jax.tree.leaves(fn(*args)))

    gradients = jax.jit(jax.grad(total, argnums=tuple(argnums)))(*args)
    chex.assert_tree_all_finite(jax.device_get(gradients))


def check_padding_invariance(
    loss: Callable[..., Any],
    *args: Any,
    padded: Sequence[int],
    mask: int,
    extra: int = 7,
    rtol: float = 1e-6,
    atol: float = 1e-6,
) -> None:
    """Asserts that masked rows change neither the value of a loss or metric nor its gradients.

    The arguments in `padded` get `extra` more rows of arbitrary values along axis 0; the mask gets
    as many rows of False. The values must not change, nor may the gradients by any floating-point
    argument. The gradients by the added rows must be zero.

    Args:
      loss: a function of one example that returns any pytree of arrays.
      *args: its arguments.
      padded: positions of the arguments that are padded along axis 0.
      mask: position of the mask, bool[N, ...].
      extra: number of rows to add.
      rtol: relative tolerance.
      atol: absolute tolerance.
    Raises:
      AssertionError: a value or a gradient changes.
    """
    rng = np.random.default_rng(0)

    def pad(position: int, x: Any) -> Any:
        if position == mask:
            return np.concatenate([x, np.zeros((extra, *np.shape(x)[1:]), bool)])
        if position not in padded:
            return x
        x = np.asarray(x)
        shape = (extra, *x.shape[1:])
        if np.issubdtype(x.dtype, np.integer):
            junk = rng.integers(x.min(initial=0), x.max(initial=0) + 1, shape)
        else:
            junk = rng.normal(scale=10, size=shape)
        return np.concatenate([x, junk.astype(x.dtype)])

    padded_args = [
        jax.tree.map(functools.partial(pad, position), arg) for position, arg in enumerate(args)
    ]
    floating = [n for n, arg in enumerate(args) if n != mask and _is_floating(arg)]

    def total(*args: Any) -> tuple[jax.Array, Any]:
        values = loss(*args)
        return sum(jnp.sum(x) for x in jax.tree.leaves(values)), values

    @jax.jit
    def values_and_gradients(*args: Any) -> tuple[Any, Any]:
        if not floating:
            return loss(*args), ()
        gradients, values = jax.grad(total, argnums=floating, has_aux=True)(*args)
        return values, gradients

    values, gradients = jax.device_get(values_and_gradients(*args))
    padded_values, padded_gradients = jax.device_get(values_and_gradients(*padded_args))
    chex.assert_trees_all_close(padded_values, values, rtol=rtol, atol=atol)
    for position, plain, with_padding in zip(floating, gradients, padded_gradients, strict=True):
        if position in padded:
            # The gradient by the added rows must be zero.
            plain = jax.tree.map(
                lambda g: np.concatenate([g, np.zeros((extra, *g.shape[1:]), g.dtype)]), plain
            )
        chex.assert_trees_all_close(with_padding, plain, rtol=rtol, atol=atol)


def _is_floating(tree: Any) -> bool:
    leaves = jax.tree.leaves(tree)
    return bool(leaves) and all(jnp.issubdtype(jnp.result_type(x), jnp.floating) for x in leaves)
