"""What every public loss and metric of one example promises, checked for a table of them."""

import dataclasses
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.core import sum_terms
from jaxvision.testing import check_op, check_padding_invariance
from tests.makers import extreme_boxes, extreme_numbers

BATCH = 4


@dataclasses.dataclass(frozen=True)
class Case:
    """A public function of one example.

    Attributes:
      function: it.
      reference: its slow twin.
      arrays: makers of its array arguments, by name and in order.
      options: its keyword arguments.
      predicted: the arguments to differentiate by; none for what has no gradient.
      empty: what some arguments are for an example without anything in it: name -> value.
      padded: arguments with rows that may be padding, along axis 0.
      mask: the argument that says which rows are no padding.
      any_dtype: arguments that may have more than one kind of dtype.
      paddable: (function with options) -> the same with rows to pad along axis 0 and a mask, where
        it is not so by itself.
    """

    function: Callable[..., Any]
    reference: Callable[..., Any]
    arrays: dict[str, Callable[..., Any]]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    predicted: tuple[str, ...] = ()
    empty: dict[str, Any] = dataclasses.field(default_factory=dict)
    padded: tuple[str, ...] = ()
    mask: str | None = None
    any_dtype: tuple[str, ...] = ()
    paddable: Callable[..., Any] | None = None

    @property
    def bound(self):
        return partial(self.function, **self.options)

    def make(self, seed):
        rng = np.random.default_rng(seed)
        return [maker(rng) for maker in self.arrays.values()]

    def without_anything(self, seed):
        arrays = dict(zip(self.arrays, self.make(seed), strict=True))
        for name, value in self.empty.items():
            arrays[name] = np.full_like(arrays[name], value)
        return list(arrays.values())

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


def _stack(arrays):
    is_key = isinstance(arrays[0], jax.Array)
    return jnp.stack(arrays) if is_key else np.stack(arrays)


def as_terms(result):
    """Named pairs, whatever form a function returns them in."""
    return result if isinstance(result, dict) else {"only": result}


def _reference(case, arrays):
    return as_terms(case.reference(*arrays, **case.options))


def check_one_example(case):
    check_op(
        case.function,
        case.reference,
        *case.make(0),
        transforms=["eager", "jit"],
        rtol=2e-5,
        atol=1e-5,
        **case.options,
    )


def check_batch(case):
    """A batch of different examples: under vmap each is itself, over devices the sums add up."""
    examples, batch = case.make_batch(1)
    expected = [_reference(case, example) for example in examples]
    stacked = jax.tree.map(lambda *x: np.stack(x), *expected)

    mapped = as_terms(jax.jit(jax.vmap(case.bound))(*batch))
    close = partial(chex.assert_trees_all_close, rtol=2e-5, atol=1e-5)
    close(jax.device_get(mapped), stacked)

    def device(real, *shard):
        terms = as_terms(jax.vmap(case.bound)(*shard))
        return jax.lax.psum(sum_terms(terms, real), "batch")

    real = np.ones((BATCH, 1), bool)
    shards = jax.tree.map(lambda x: x[:, None], batch)
    sums = jax.device_get(jax.pmap(device, axis_name="batch")(real, *shards))
    for copy in range(BATCH):
        first = jax.tree.map(lambda x, i=copy: x[i], sums)
        close(first, jax.tree.map(lambda x: x.sum(axis=0), stacked))


def check_filler(case):
    """Filler images, whatever is in them, change nothing: the batch doubled."""
    _, batch = case.make_batch(1)
    _, junk = case.make_batch(100)
    real = np.arange(2 * BATCH) < BATCH

    @jax.jit
    def sums(real, *batch):
        return sum_terms(as_terms(jax.vmap(case.bound)(*batch)), real)

    both = jax.tree.map(lambda a, b: _concatenate(a, b), batch, junk)
    chex.assert_trees_all_close(sums(real, *both), sums(real[:BATCH], *batch), rtol=1e-6, atol=1e-6)


def _concatenate(a, b):
    return jnp.concatenate([a, b]) if isinstance(a, jax.Array) else np.concatenate([a, b])


def check_padding(case):
    """Rows of padding, as many as there are, change neither value nor gradient."""
    arrays = case.make(3)
    names = list(case.arrays)
    function = case.paddable(case.bound) if case.paddable else case.bound
    sizes = {len(arrays[names.index(name)]) for name in case.padded}
    assert len(sizes) == 1
    if case.mask is None:  # the adapted function takes one as its last argument
        arrays.append(np.ones(*sizes, bool))
        names.append(None)
    check_padding_invariance(
        function,
        *arrays,
        padded=[names.index(name) for name in case.padded],
        mask=names.index(case.mask),
        extra=sizes.pop(),
    )


def check_extremes(case):
    """No NaN anywhere, and finite gradients, on the hardest values and where there is nothing."""
    positions = tuple(list(case.arrays).index(name) for name in case.predicted)
    inputs = [case.without_anything(0), *map(case.make_extreme, range(8))]

    def total(*arrays):
        terms = as_terms(case.bound(*arrays))
        return sum(jnp.sum(x) for x in jax.tree.leaves(terms)), terms

    if not positions:
        run = jax.jit(case.bound)
        for arrays in inputs:
            chex.assert_tree_all_finite(run(*arrays))
        return
    run = jax.jit(jax.value_and_grad(total, argnums=positions, has_aux=True))
    for arrays in inputs:
        chex.assert_tree_all_finite(run(*arrays))


def check_errors(case, argument):
    """A wrong shape or dtype names the argument."""
    arrays = case.make(0)
    position = list(case.arrays).index(argument)
    given = arrays[position]
    several = isinstance(given, list)
    right = np.asarray(given[0] if several else given)
    named = rf"^{argument}\[0\] is " if several else rf"^{argument} is "
    # Where two arguments of any shape must have the same one, the error may name the other.
    wrong_shape = np.zeros((2, 3, 5, 7, 11, 13), right.dtype), r"^\w+(\[0\])? is "
    wrong_dtype = (right.astype("f4") if right.dtype == bool else right > 0), named
    for wrong, message in (wrong_shape, wrong_dtype)[: 1 if argument in case.any_dtype else 2]:
        arrays[position] = [wrong, *given[1:]] if several else wrong
        with pytest.raises(AssertionError, match=message):
            jax.eval_shape(case.bound, *arrays)


def check_documentation(case):
    parameters = inspect.signature(case.function).parameters.values()
    positional = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    assert positional == list(case.arrays), "arrays are positional, options keyword-only"
    doc = inspect.getdoc(case.function)
    for section in ("Args:", "Returns:", "Raises:"):
        assert section in doc
    for name in [*case.arrays, *case.options]:
        assert f"{name}:" in doc, f"{name} is not documented"
