"""Normalisation: by hand, over devices, gradients, the window's edges, extremes, and torch."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxvision.ops import normalization
from tests.ops.compiled import Case, check_cases, compiled
from tests.reference.ops import normalization as reference

OPTIONS = [
    {},
    {"size": 4, "alpha": 0.5, "beta": 0.5, "k": 2.0},
    {"size": 1, "alpha": 1.0},
    {"size": 2, "alpha": 1.0, "k": 0.1},
    {"size": 25, "alpha": 3.0, "beta": 1.0},
]


def maps(shape=(2, 3, 2, 7), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) * 3


def norm_arguments(shape=(4, 3, 2, 5)):
    rng = np.random.default_rng(1)
    scale, bias = rng.uniform(0.5, 2, shape[-1]), rng.normal(size=shape[-1])
    return maps(shape) + np.arange(shape[-1], dtype="f4"), np.float32(scale), np.float32(bias)


def test_each_equals_the_reference():
    cases = {}
    for shape in ((4, 3, 2, 5), (7, 3), (1, 1)):
        cases[f"batch norm of {shape}"] = Case(
            normalization.batch_norm,
            reference.batch_norm,
            norm_arguments(shape),
            rtol=1e-4,
            atol=1e-4,
        )
    pair = normalization.local_response_norm, reference.local_response_norm
    for options in OPTIONS:
        cases[str(options)] = Case(*pair, (maps(),), options)
    for shape in ((1,), (3,), (2, 0), (0, 4)):
        for options in OPTIONS[::2]:
            cases[f"{options} of {shape}"] = Case(*pair, (maps(shape),), options, atol=0)
    check_cases(cases)


def test_batch_norm_by_hand():
    x, scale, bias = np.float32([[1], [3], [8]]), np.float32([2]), np.float32([10])
    # Mean 4, deviations -3, -1 and 4, variance 26 / 3; with 1 / 3 added to it, its root is 3.
    y, mean, var = compiled(normalization.batch_norm)(x, scale, bias, epsilon=1 / 3)
    np.testing.assert_allclose(y, [[8], [10 - 2 / 3], [10 + 8 / 3]], rtol=1e-5)
    np.testing.assert_allclose((mean, var), [[4], [26 / 3]], rtol=1e-5)


@pytest.mark.parametrize("transform", [jax.vmap, jax.pmap])
def test_batch_norm_over_a_mapped_axis_is_that_of_the_whole_batch(transform):
    x, scale, bias = norm_arguments()
    weights = maps(x.shape, seed=2)

    def objective(x, scale, bias, weights, axis_name=None):
        y, mean, var = normalization.batch_norm(x, scale, bias, axis_name=axis_name)
        return (y * weights).sum(), (y, mean, var)

    run = jax.value_and_grad(objective, argnums=(0, 1, 2), has_aux=True)
    (_, (y, *statistics)), (by_x, *by_others) = jax.jit(run)(x, scale, bias, weights)
    mapped = transform(
        functools.partial(run, axis_name="batch"), axis_name="batch", in_axes=(0, None, None, 0)
    )
    if transform is jax.vmap:
        mapped = jax.jit(mapped)
    (_, (parts, *shared)), (by_parts, *by_shared) = mapped(
        x[:, None], scale, bias, weights[:, None]
    )
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    close(parts[:, 0], y)
    close(by_parts[:, 0], by_x)
    for found, expected in zip(shared, statistics, strict=True):
        close(found, np.stack([expected] * len(x)))
    for found, expected in zip(by_shared, by_others, strict=True):
        close(found.sum(axis=0), expected)


def test_gradients_of_batch_norm_equal_those_of_its_equation():
    def plain(x, scale, bias):
        mean, var = x.mean((0, 1, 2), keepdims=True), x.var((0, 1, 2), keepdims=True)
        return scale[None, None, None] * (x - mean) / jnp.sqrt(var + 1e-5) + bias[None, None, None]

    def op(*arrays):
        return normalization.batch_norm(*arrays)[0]

    with jax.enable_x64(True):
        arguments = [np.float64(array) for array in norm_arguments()]
        weights = maps(arguments[0].shape, seed=2)

        @jax.jit
        def gradients(*arguments):
            def of(fn):
                total = lambda *arrays: (fn(*arrays) * weights).sum()  # noqa: E731
                return jax.grad(total, argnums=(0, 1, 2))(*arguments)

            return of(op), of(plain)

        close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9)
        jax.tree.map(close, *gradients(*arguments))
    _, *others = norm_arguments()

    @jax.jit
    def of_constant_and_of_mean(constant, x):
        by_mean = jax.grad(lambda x: normalization.batch_norm(x, *others)[1].sum())(x)
        return jax.grad(lambda x: op(x, *others).sum())(constant), by_mean

    # The same value everywhere has no variance.
    gradient, by_mean = jax.device_get(of_constant_and_of_mean(np.ones((3, 5), "f4"), maps((3, 5))))
    assert np.isfinite(gradient).all()
    assert not by_mean.any()


def test_batch_norm_of_half_precision_is_computed_in_single():
    x, scale, bias = norm_arguments()
    half = (x * 300).astype(np.float16)  # whose squares leave float16

    @jax.jit
    def run(half):
        found = normalization.batch_norm(half, scale, bias)
        expected = normalization.batch_norm(half.astype("f4"), scale, bias)
        by_x = jax.grad(lambda x: normalization.batch_norm(x, scale, bias)[0].max())(half)
        return found, expected, by_x

    found, expected, by_x = run(half)
    chex.assert_trees_all_equal(found, expected)
    assert by_x.dtype == jnp.float16


def test_lrn_by_hand():
    # Equation of the paper's section 3.3: a / (2 + 1e-4 sum a^2)^0.75 over 5 channels.
    papers = {"size": 5, "alpha": 5e-4, "beta": 0.75, "k": 2.0}

    @jax.jit
    def run(x, more):
        odd = normalization.local_response_norm(x, size=3, alpha=3.0, beta=1.0, k=1.0)
        even = normalization.local_response_norm(x, size=2, alpha=2.0, beta=1.0)
        return odd, even, normalization.local_response_norm(more, **papers)

    more = maps((9,)) * 30
    odd, even, found = run(np.float32([1, 2, 3]), more)
    # Window of 3, alpha / 3 = 1: each over 1 + its square and its neighbours' squares.
    np.testing.assert_allclose(odd, [1 / 6, 2 / 15, 3 / 14], rtol=1e-6)
    # An even window has one more channel before than after.
    np.testing.assert_allclose(even, [1 / 2, 2 / 6, 3 / 14], rtol=1e-6)
    squares = np.convolve(more.astype(np.float64) ** 2, np.ones(5), "same")
    np.testing.assert_allclose(found, more / (2 + 1e-4 * squares) ** 0.75, rtol=1e-5)


@jax.jit
def _normed(x):
    """And the gradient of the sum."""

    def total(x):
        y = normalization.local_response_norm(x)
        return y.sum(), y

    return jax.grad(total, has_aux=True)(x)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(arrays(np.float32, (2, 6), elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False)))
def test_any_values_equal_the_reference(x):
    gradient, y = _normed(x)
    np.testing.assert_allclose(y, reference.local_response_norm(x), rtol=1e-4, atol=1e-6)
    assert np.isfinite(gradient).all()


def test_precision_stays_and_nothing_has_a_finite_gradient():
    with jax.enable_x64(True):
        x = maps().astype(np.float64)
        pair = normalization.local_response_norm, reference.local_response_norm
        check_cases({str(how): Case(*pair, (x,), how, rtol=1e-13, atol=0) for how in OPTIONS[:3]})
    assert np.isfinite(_normed(np.zeros((2, 6), np.float32))[0]).all()
    half = (maps() * 300).astype(np.float16)  # whose squares leave float16
    expected = _normed(half.astype("f4"))[1].astype(np.float16)
    np.testing.assert_array_equal(_normed(half)[1], expected)


def test_wrong_arguments_are_named():
    for bad in (np.float32(1), np.int32([1, 2])):
        with pytest.raises(AssertionError, match="x is "):
            normalization.local_response_norm(bad)
    for options in (
        {"size": 0},
        {"size": 2.5},
        {"alpha": -1.0},
        {"k": 0.0},
        {"beta": float("inf")},
        {"alpha": float("nan")},
    ):
        with pytest.raises(ValueError, match=f"{next(iter(options))} is "):
            normalization.local_response_norm(maps(), **options)


@pytest.mark.parity
@pytest.mark.parametrize("options", OPTIONS)
def test_lrn_equals_torch(options):
    torch = pytest.importorskip("torch")
    x = maps()
    expected = torch.nn.functional.local_response_norm(
        torch.tensor(x).permute(0, 3, 1, 2), **({"size": 5} | options)
    )
    np.testing.assert_allclose(
        normalization.local_response_norm(x, **options),
        expected.permute(0, 2, 3, 1).numpy(),
        rtol=1e-5,
    )
