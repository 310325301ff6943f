"""What every public loss and metric of one example promises, checked for a table of them."""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.core import sum_terms
from jaxvision.testing import check_op
from tests.makers import extreme_boxes, extreme_numbers

BATCH = 4
NO_CLASS = 99
KINDS = {"float32": jnp.floating, "int32": jnp.integer, "bool": jnp.bool_}


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A public function of one example.

    Attributes:
      function: the public function.
      reference: its slow reference implementation.
      arrays: makers of its array arguments, by name and in order.
      axes: a comma between arguments, a word for each axis: a number is the one size allowed, axes
        with the same letter have the same size, and before a "*" there may be more axes.
      options: its keyword arguments.
      predicted: the arguments to differentiate by; none for what has no gradient.
      empty: what some arguments are for an example without anything in it: name -> value.
      padded: arguments with rows that may be padding.
      padded_axis: the axis of these rows.
      mask: the argument that says which rows are no padding, if there is one.
      accepts: the kinds of dtypes that an argument may have besides its own: name -> some of KINDS.
      ignored: (arrays by name) -> {name: where in the array it is that nothing counts}, if there is
        more than the mask says.
    """

    function: Callable[..., Any]
    reference: Callable[..., Any]
    arrays: dict[str, Callable[..., Any]]
    axes: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    predicted: tuple[str, ...] = ()
    empty: dict[str, Any] = dataclasses.field(default_factory=dict)
    padded: tuple[str, ...] = ()
    padded_axis: int = 0
    mask: str | None = None
    accepts: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    ignored: Callable[[dict[str, Any]], dict[str, Any]] | None = None

    @property
    def bound(self):
        return partial(self.function, **self.options)

    @functools.cached_property
    def run(self):
        """arrays -> (values, gradients by the arrays of floats, None for others), as one program.

        All checks share it, as compiling takes longer than they do.
        """
        floating = [n for n, x in enumerate(self.make(0)) if _is_floating(x)]

        def total(*arrays):
            values = self.bound(*arrays)
            return sum(jnp.sum(x) for x in jax.tree.leaves(values)), values

        def run(*arrays):
            if not self.predicted:
                return self.bound(*arrays), [None] * len(arrays)
            gradients, values = jax.grad(total, argnums=floating, has_aux=True)(*arrays)
            by_position = dict(zip(floating, gradients, strict=True))
            return values, [by_position.get(n) for n in range(len(arrays))]

        compiled = jax.jit(run)
        return lambda *arrays: jax.device_get(compiled(*arrays))

    def make(self, seed):
        rng = np.random.default_rng(seed)
        return [maker(rng) for maker in self.arrays.values()]

    def without_anything(self, seed):
        arrays = dict(zip(self.arrays, self.make(seed), strict=True))
        for name, value in self.empty.items():
            arrays[name] = np.full_like(arrays[name], value)
        return list(arrays.values())

    def with_junk(self, arrays):
        """NaN, and classes that do not exist, where nothing counts."""
        named = dict(zip(self.arrays, arrays, strict=True))
        ignored = {}
        if self.ignored:
            ignored = self.ignored(named)
        elif self.mask:
            ignored = dict.fromkeys(self.padded, ~named[self.mask])
        for name, where in ignored.items():
            junk = np.nan if np.issubdtype(named[name].dtype, np.floating) else NO_CLASS
            named[name] = named[name].copy()
            named[name][where] = junk
        return list(named.values())

    def axes_of(self):
        """name -> words, without the "*"."""
        words = (axes.replace("*", "").split() for axes in self.axes.split(","))
        return dict(zip(self.arrays, words, strict=True))

    def any_rank(self):
        """The arguments that may have more axes, all the same ones."""
        starred = ("*" in axes for axes in self.axes.split(","))
        return [name for name, has in zip(self.arrays, starred, strict=True) if has]

    def make_extreme(self, seed):
        """Large logits in the predictions, and boxes of every kind."""
        rng = np.random.default_rng(seed)

        def exaggerate(name, x):
            if isinstance(x, list):
                return [exaggerate(name, y) for y in x]
            if not jnp.issubdtype(x.dtype, jnp.floating):
                return x
            if name.startswith(("boxes", "proposals", "anchors", "default")) and x.shape[-1] == 4:
                return extreme_boxes(*x.shape[:-1])(rng)
            return extreme_numbers(*x.shape)(rng) if name in self.predicted else x

        return [exaggerate(*pair) for pair in zip(self.arrays, self.make(seed), strict=True)]

    def make_batch(self, seed):
        """Four different examples, the last of them empty, stacked."""
        examples = [self.make(seed + i) for i in range(BATCH - 1)]
        examples.append(self.without_anything(seed + BATCH))
        return examples, jax.tree.map(lambda *x: _stack(x), *examples)


def _is_floating(x):
    return all(jnp.issubdtype(y.dtype, jnp.floating) for y in jax.tree.leaves(x))


def _stack(arrays):
    is_key = isinstance(arrays[0], jax.Array)
    return jnp.stack(arrays) if is_key else np.stack(arrays)


def as_terms(result):
    """Named pairs, whatever form a function returns them in; of what is no pair, twice the same."""
    if isinstance(result, dict):
        return result
    return {"only": result if isinstance(result, tuple) else (result, result)}


def _reference(case, arrays):
    return as_terms(case.reference(*arrays, **case.options))


def check_one_example(case):
    arrays = case.make(0)
    values, _ = case.run(*arrays)
    expected = case.reference(*arrays, **case.options)
    chex.assert_trees_all_equal_shapes(values, expected)
    chex.assert_trees_all_close(values, expected, rtol=2e-5, atol=1e-5)


def check_operation_by_operation(case):
    """Each operation compiled by itself, which takes long."""
    tolerances = {"rtol": 2e-5, "atol": 1e-5}
    arrays, options = case.make(0), case.options
    check_op(case.function, case.reference, *arrays, transforms=["eager"], **tolerances, **options)


def check_batch(case):
    """A batch of different examples: under vmap each is itself, over devices the sums add up.

    Filler images, whatever is in them, change nothing: each device has one besides its example.
    """
    examples, batch = case.make_batch(1)
    _, junk = case.make_batch(100)
    expected = [_reference(case, example) for example in examples]
    stacked = jax.tree.map(lambda *x: np.stack(x), *expected)

    def device(*shard):
        terms = as_terms(jax.vmap(case.bound)(*shard))
        return terms, jax.lax.psum(sum_terms(terms, np.array([True, False])), "batch")

    shards = jax.tree.map(_side_by_side, batch, junk)
    terms, sums = jax.device_get(jax.pmap(device, axis_name="batch")(*shards))
    terms = jax.tree.map(lambda x: x[:, 0], terms)
    chex.assert_trees_all_close(terms, stacked, rtol=2e-5, atol=1e-5)
    without_filler = jax.tree.map(lambda x: x.sum(axis=0), terms)
    for copy in range(BATCH):
        of_copy = jax.tree.map(lambda x, i=copy: x[i], sums)
        chex.assert_trees_all_close(of_copy, without_filler, rtol=1e-6, atol=1e-6)


def _side_by_side(a, b):
    stack = jnp.stack if isinstance(a, jax.Array) else np.stack
    return stack([a, b], axis=1)


def check_padding(case):
    """Rows of padding, as many as there are, change neither value nor gradient.

    What `jaxvision.testing.check_padding_invariance` checks, with the program of the other checks.
    """
    arrays = case.make(3)
    axis, rng = case.padded_axis, np.random.default_rng(0)

    def with_padding(name, x):
        if name == case.mask:
            return np.concatenate([x, np.zeros_like(x)])
        if name not in case.padded:
            return x
        if np.issubdtype(x.dtype, np.integer):
            junk = rng.integers(x.min(), x.max() + 1, x.shape)
        else:
            junk = rng.normal(scale=10, size=x.shape)
        return np.concatenate([x, junk.astype(x.dtype)], axis)

    padded = [with_padding(name, x) for name, x in zip(case.arrays, arrays, strict=True)]
    values, gradients = case.run(*arrays)
    padded_values, padded_gradients = case.run(*padded)
    chex.assert_trees_all_close(padded_values, values, rtol=1e-6, atol=1e-6)
    for name, plain, actual in zip(case.arrays, gradients, padded_gradients, strict=True):
        if plain is not None and name in case.padded:
            plain = np.concatenate([plain, np.zeros_like(plain)], axis)
        chex.assert_trees_all_close(actual, plain, rtol=1e-6, atol=1e-6)


def check_extremes(case):
    """No NaN anywhere, and finite gradients, on the hardest values and where there is nothing.

    What does not count is masked before arithmetic: be it NaN, no value and no gradient changes.
    """
    ordinary = [case.without_anything(0), *map(case.make, range(4))]

    def run(*arrays):
        values, gradients = case.run(*arrays)
        by_name = dict(zip(case.arrays, gradients, strict=True))
        return values, [by_name[name] for name in case.predicted]

    for arrays in [*ordinary, *map(case.make_extreme, range(8))]:
        chex.assert_tree_all_finite(run(*arrays))
    for arrays in ordinary:
        chex.assert_trees_all_equal(run(*case.with_junk(arrays)), run(*arrays))


def check_half_precision(case):
    """Half precision is computed, and returned, in float32."""
    arrays = case.make(5)

    def as_type(dtype, arrays):
        def convert(x):
            floats = jnp.issubdtype(x.dtype, jnp.floating)
            return jnp.asarray(x, dtype) if floats else x

        return jax.tree.map(convert, arrays)

    half = as_type(jnp.bfloat16, arrays)
    actual = jax.jit(case.bound)(*half)
    expected, _ = case.run(*as_type(jnp.float32, half))
    chex.assert_trees_all_close(actual, expected, rtol=1e-6)
    other = jax.eval_shape(case.bound, *as_type(jnp.float16, arrays))
    assert {x.dtype for x in jax.tree.leaves([actual, other])} == {np.dtype("f4")}


def _refuses(case, argument, wrong, culprits):
    """The error names one of the culprits, the first array where that is a list of them."""
    arrays = dict(zip(case.arrays, case.make(0), strict=True))
    several = isinstance(arrays[argument], list)
    arrays[argument] = [wrong, *arrays[argument][1:]] if several else wrong
    names = "|".join(x + r"\[0\]" * isinstance(arrays[x], list) for x in culprits)
    with pytest.raises(AssertionError, match=f"^({names}) is "):
        jax.eval_shape(case.bound, *arrays.values())


def check_errors(case, argument):
    """A wrong rank, size or dtype names the argument.

    Where others take a size from it, one of them is named: none is the wrong one.
    """
    right = case.make(0)[list(case.arrays).index(argument)]
    right = np.asarray(right[0] if isinstance(right, list) else right)

    def culprits(names):
        return names[1:] if names[:1] == [argument] else [argument]

    _refuses(case, argument, np.stack([right, right]), culprits(case.any_rank()))
    for axis, size in enumerate(case.axes_of()[argument]):
        sharing = [name for name, sizes in case.axes_of().items() if size in sizes]
        wrong = [argument] if size.isdigit() else culprits(sharing)
        if wrong:
            _refuses(case, argument, np.concatenate([right, right.take([0], axis)], axis), wrong)
    for dtype, kind in KINDS.items():
        if dtype in case.accepts.get(argument, ()):
            arrays = dict(zip(case.arrays, case.make(0), strict=True))
            jax.eval_shape(case.bound, *{**arrays, argument: right.astype(dtype)}.values())
        elif not jnp.issubdtype(right.dtype, kind):
            _refuses(case, argument, right.astype(dtype), [argument])


def check_documentation(case):
    parameters = inspect.signature(case.function).parameters.values()
    positional = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    assert positional == list(case.arrays), "arrays are positional, options keyword-only"
    for p in parameters:
        annotation = str(p.annotation)
        is_array = "Array" in annotation and "Callable" not in annotation
        assert is_array == (p.name in case.arrays), f"{p.name} is an array but no option"
    doc = inspect.getdoc(case.function)
    for section in ("Args:", "Returns:"):
        assert section in doc
    for p in parameters:
        assert re.search(rf"^  {p.name}: \S", doc, re.MULTILINE), f"{p.name} is not documented"
