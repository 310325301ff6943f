"""Local response normalisation: the window's edges, extremes, and torch."""

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
