"""Normalisation: by hand, over devices, gradients, the window's edges, extremes, and torch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax.test_util import check_grads

from jaxvision.ops import normalization
from jaxvision.testing import TRANSFORMS, check_finite_gradients, check_op
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


@pytest.mark.parametrize("shape", [(4, 3, 2, 5), (7, 3), (1, 1)])
def test_batch_norm_equals_the_reference(shape):
    check_op(
        normalization.batch_norm,
        reference.batch_norm,
        *norm_arguments(shape),
        rtol=1e-4,
        atol=1e-4,
        transforms=("jit",) if shape[0] < 4 else TRANSFORMS,
    )


def test_batch_norm_by_hand():
    x, scale, bias = np.float32([[1], [3], [8]]), np.float32([2]), np.float32([10])
    # Mean 4, deviations -3, -1 and 4, variance 26 / 3; with 1 / 3 added to it, its root is 3.
    y, mean, var = normalization.batch_norm(x, scale, bias, epsilon=1 / 3)
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


def test_gradients_of_batch_norm_equal_finite_differences():
    def plain(x, scale, bias):
        mean, var = x.mean((0, 1, 2), keepdims=True), x.var((0, 1, 2), keepdims=True)
        return scale[None, None, None] * (x - mean) / jnp.sqrt(var + 1e-5) + bias[None, None, None]

    with jax.enable_x64(True):
        arguments = [np.float64(array) for array in norm_arguments()]
        weights = maps(arguments[0].shape, seed=2)
        op, expected = (
            jax.jit(lambda *arrays, fn=fn: (fn(*arrays) * weights).sum())
            for fn in (lambda *arrays: normalization.batch_norm(*arrays)[0], plain)
        )
        check_grads(op, arguments, order=1, modes=["rev"])
        found, wanted = (jax.grad(fn, argnums=(0, 1, 2))(*arguments) for fn in (op, expected))
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9), found, wanted
        )
    _, *others = norm_arguments()
    # The same value everywhere has no variance.
    check_finite_gradients(lambda x: normalization.batch_norm(x, *others)[0], np.ones((3, 5), "f4"))
    by_mean = jax.grad(lambda x: normalization.batch_norm(x, *others)[1].sum())(maps((3, 5)))
    assert not by_mean.any()


def test_batch_norm_of_half_precision_is_computed_in_single():
    x, scale, bias = norm_arguments()
    half = jnp.asarray(x * 300, jnp.float16)  # whose squares leave float16
    found = normalization.batch_norm(half, scale, bias)
    expected = normalization.batch_norm(half.astype("f4"), scale, bias)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    by_x = jax.grad(lambda x: normalization.batch_norm(x, scale, bias)[0].max())(half)
    assert by_x.dtype == jnp.float16


@pytest.mark.parametrize("options", OPTIONS)
def test_lrn_equals_the_reference(options):
    op, expected = (
        functools.partial(module.local_response_norm, **options)
        for module in (normalization, reference)
    )
    check_op(op, expected, maps(), transforms=("jit",) if options else TRANSFORMS)
    for shape in ((1,), (3,), (2, 0), (0, 4)):
        np.testing.assert_allclose(op(maps(shape)), expected(maps(shape)), rtol=1e-5)


def test_lrn_by_hand():
    # Window of 3, alpha / 3 = 1: each over 1 + its square and its neighbours' squares.
    actual = normalization.local_response_norm(
        np.float32([1, 2, 3]), size=3, alpha=3.0, beta=1.0, k=1.0
    )
    np.testing.assert_allclose(actual, [1 / 6, 2 / 15, 3 / 14], rtol=1e-6)
    # An even window has one more channel before than after.
    actual = normalization.local_response_norm(np.float32([1, 2, 3]), size=2, alpha=2.0, beta=1.0)
    np.testing.assert_allclose(actual, [1 / 2, 2 / 6, 3 / 14], rtol=1e-6)


def test_the_papers_alpha():
    # Equation of section 3.3: a / (2 + 1e-4 sum a^2)^0.75 over 5 channels.
    x = maps((9,)) * 30
    squares = np.convolve(x.astype(np.float64) ** 2, np.ones(5), "same")
    actual = normalization.local_response_norm(x, size=5, alpha=5e-4, beta=0.75, k=2.0)
    np.testing.assert_allclose(actual, x / (2 + 1e-4 * squares) ** 0.75, rtol=1e-5)


_OP = jax.jit(normalization.local_response_norm)
_GRADIENT = jax.jit(jax.grad(lambda x: _OP(x).sum()))


@settings(deadline=None, derandomize=True, max_examples=50)
@given(arrays(np.float32, (2, 6), elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False)))
def test_any_values_equal_the_reference(x):
    np.testing.assert_allclose(_OP(x), reference.local_response_norm(x), rtol=1e-4, atol=1e-6)
    assert np.isfinite(_GRADIENT(x)).all()


def test_gradients_equal_finite_differences_and_precision_stays():
    with jax.enable_x64(True):
        x = maps().astype(np.float64)
        for options in OPTIONS[:3]:
            op = jax.jit(functools.partial(normalization.local_response_norm, **options))
            check_grads(op, (x,), order=1, modes=["rev"])
            expected = reference.local_response_norm(x, **options)
            np.testing.assert_allclose(op(x), expected, rtol=1e-13)
    check_finite_gradients(normalization.local_response_norm, np.zeros((2, 3), np.float32))
    half = jnp.asarray(maps() * 300, jnp.float16)  # whose squares leave float16
    np.testing.assert_array_equal(_OP(half), _OP(half.astype("f4")).astype(jnp.float16))


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
