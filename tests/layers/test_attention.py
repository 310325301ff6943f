"""Attention against its equation, and windows against their definition, cell by cell."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.layers import (
    attention,
    from_windows,
    gelu,
    relative_position_index,
    self_attention,
    to_windows,
)
from tests.jaxprs import equations_of


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def reference_attention(query, key, value, scale, bias):
    """One head: [Q, D], [K, D], [K, V], a number and [Q, K]."""
    rows = []
    for number, one in enumerate(query.astype(np.float64)):
        scores = np.array([scale * one @ other for other in key]) + bias[number]
        weights = np.exp(scores - scores.max())
        rows.append((weights / weights.sum()) @ value)
    return np.stack(rows)


def test_attention_of_each_head_is_the_equation():
    query, key, value = normal(2, 5, 3, 4), normal(2, 6, 3, 4, seed=1), normal(2, 6, 3, 2, seed=2)
    scale, bias = np.float32([[[[0.3]], [[1.0]], [[2.0]]]]), normal(1, 3, 5, 6, seed=3)
    given = jax.jit(attention)(query, key, value, scale=scale, bias=bias)
    assert given.shape == (2, 5, 3, 2)
    for example in range(2):
        for head in range(3):
            arrays = (x[example, :, head] for x in (query, key, value))
            expected = reference_attention(*arrays, scale[0, head, 0, 0], bias[0, head])
            np.testing.assert_allclose(given[example, :, head], expected, rtol=1e-4, atol=1e-6)


def test_scores_are_divided_by_the_root_of_their_length_and_biased_by_nothing():
    query, key, value = normal(5, 1, 4), normal(6, 1, 4, seed=1), normal(6, 1, 2, seed=2)
    expected = reference_attention(query[:, 0], key[:, 0], value[:, 0], 0.5, np.zeros((5, 6)))
    found = jax.jit(attention)(query, key, value)[:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_the_softmax_of_half_precision_is_one_of_float32():
    # Scores of 100 and 100.78125, which would be 101 in bfloat16.
    arrays = np.full((1, 1, 1), 100), np.array([[[1]], [[1.0078125]]]), np.array([[[0]], [[1]]])
    given = jax.jit(attention)(*(x.astype(jnp.bfloat16) for x in arrays))
    assert given.dtype == jnp.bfloat16
    np.testing.assert_allclose(given.item(), 1 / (1 + math.exp(-0.78125)), rtol=1e-2)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_derivatives_of_attention_in_every_mode(dtype):
    with jax.enable_x64(dtype is jnp.float64):
        arrays = tuple(normal(2, 5, 2, 4, seed=seed).astype(dtype) for seed in range(3))
        bias = normal(1, 2, 5, 5, seed=3).astype(dtype)
        u, v = (tuple(normal(*x.shape, seed=seed).astype(dtype) for x in arrays) for seed in (4, 5))

        def objective(query, key, value):
            return jnp.sin(attention(query, key, value, bias=bias)).sum()

        @jax.jit
        def run(arrays, u, v):
            def product(direction):
                return jax.jvp(jax.grad(objective, (0, 1, 2)), arrays, direction)[1]

            along = jax.jvp(objective, arrays, u)[1]
            return along, jax.grad(objective, (0, 1, 2))(*arrays), product(u), product(v)

        along, gradient, of_u, of_v = run(arrays, u, v)

    def dot(one, other):
        return sum(np.vdot(x, y) for x, y in zip(one, other, strict=True))

    rtol = 1e-9 if dtype is jnp.float64 else 1e-4
    np.testing.assert_allclose(along, dot(gradient, u), rtol=rtol)
    assert abs(dot(of_u, v)) > 0.1
    np.testing.assert_allclose(dot(of_u, v), dot(of_v, u), rtol=rtol)


def test_products_of_half_precision_are_so_in_the_gradient_too_and_near_those_of_float32():
    arrays = tuple(normal(2, 5, 2, 4, seed=seed) for seed in range(3))

    def total(*arrays):
        return jnp.sin(attention(*arrays).astype(jnp.float32)).sum()

    half = tuple(x.astype(jnp.bfloat16) for x in arrays)
    gradients = jax.value_and_grad(total, (0, 1, 2))
    traced = jax.make_jaxpr(gradients)(*half)
    products = [x for x in equations_of(traced.jaxpr) if x.primitive.name == "dot_general"]
    assert len(products) == 6
    assert {x.aval.dtype for product in products for x in product.invars} == {
        jnp.dtype(jnp.bfloat16)
    }
    found, expected = jax.jit(lambda *x: (gradients(*x[:3]), gradients(*x[3:])))(*half, *arrays)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.abs(np.float32(x) - y).max() < 0.02 * np.abs(y).max()


class SelfAttention(nn.Module):
    heads: int = 2
    cosine: bool = False
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x):
        options = {"names": ("qkv", "out"), "cosine": self.cosine, "dtype": self.dtype}
        return self_attention(x, self.heads, **options)


def reference_self_attention(params, x, heads, cosine):
    """Of one sequence [L, C]."""
    x, depth = x.astype(np.float64), x.shape[-1] // heads
    bias = np.array(params["qkv"]["bias"])
    if cosine:
        bias[x.shape[-1] : 2 * x.shape[-1]] = 0
    query, key, value = np.split(x @ params["qkv"]["kernel"] + bias, 3, axis=-1)
    results = []
    for head in range(heads):
        own = slice(head * depth, (head + 1) * depth)
        one, other, scale = query[:, own], key[:, own], depth**-0.5
        if cosine:
            one, other = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (one, other))
        no_bias = np.zeros((len(x), len(x)))
        results.append(reference_attention(one, other, value[:, own], scale, no_bias))
    return np.concatenate(results, axis=-1) @ params["out"]["kernel"] + params["out"]["bias"]


def test_self_attention_is_its_layers_around_attention():
    models, x = {cosine: SelfAttention(cosine=cosine) for cosine in (False, True)}, normal(3, 5, 8)
    shapes = jax.eval_shape(models[True].init, jax.random.key(0), x)["params"]
    assert jax.tree.map(jnp.shape, shapes) == {
        "qkv": {"kernel": (8, 24), "bias": (24,)},
        "out": {"kernel": (8, 8), "bias": (8,)},
    }
    params = jax.tree.map(lambda like: 0.5 * normal(*like.shape, seed=like.size), shapes)

    @jax.jit
    def run(params, x):
        return {cosine: model.apply({"params": params}, x) for cosine, model in models.items()}

    for cosine, given in run(params, x).items():
        for one, expected in zip(given, x, strict=True):
            expected = reference_self_attention(params, expected, 2, cosine)
            np.testing.assert_allclose(one, expected, rtol=1e-4, atol=1e-5)


def test_a_direction_of_nothing_has_a_finite_gradient():
    dtypes = (jnp.float32, jnp.float16)
    x = np.zeros((1, 3, 4), "f4")
    shapes = jax.eval_shape(SelfAttention(cosine=True).init, jax.random.key(0), x)
    variables = jax.tree.map(lambda like: np.zeros(like.shape, like.dtype), shapes)

    @jax.jit
    def gradients(x):
        def total(x, dtype):
            return SelfAttention(cosine=True, dtype=dtype).apply(variables, x).sum()

        return [jax.grad(total)(x.astype(dtype), dtype) for dtype in dtypes]

    for dtype, gradient in zip(dtypes, gradients(x), strict=True):
        assert gradient.dtype == dtype
        assert np.isfinite(gradient).all()


def test_heads_that_do_not_divide_the_channels():
    with pytest.raises(InputError, match="heads is 3, which does not divide the 8 channels"):
        jax.eval_shape(SelfAttention(heads=3).init, jax.random.key(0), normal(1, 5, 8))


def test_windows_of_neighbours_and_of_a_grid():
    x = np.arange(24).reshape(1, 4, 6, 1)
    both = jax.jit(lambda x: [to_windows(x, 2, grid=grid) for grid in (False, True)])
    windows, grid = (windows[0, :, :, 0] for windows in jax.device_get(both(x)))
    assert windows.tolist()[:2] == [[0, 1, 6, 7], [2, 3, 8, 9]]
    assert windows.tolist()[5] == [16, 17, 22, 23]
    assert grid.tolist()[:2] == [[0, 3, 12, 15], [1, 4, 13, 16]]
    assert grid.tolist()[5] == [8, 11, 20, 23]


@pytest.mark.parametrize("grid", [False, True])
def test_windows_go_back(grid):
    @jax.jit
    def run(x):
        windows = to_windows(x, 3, grid=grid)
        return windows, from_windows(windows, 6, 9, grid=grid)

    x = normal(2, 6, 9, 5)
    windows, again = run(x)
    assert windows.shape == (2, 6, 9, 5)
    np.testing.assert_array_equal(again, x)


def test_position_indices_number_offsets():
    size, offsets = 3, {}
    index = relative_position_index(size)
    for i in range(size**2):
        for j in range(size**2):
            offset = (i // size - j // size, i % size - j % size)
            assert offsets.setdefault(index[i, j], offset) == offset
    ordered = [offsets[number] for number in range((2 * size - 1) ** 2)]
    assert ordered == [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)]


def test_gelu_is_the_exact_one():
    x = np.linspace(-5, 5, 41, dtype=np.float32)
    expected = [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x]
    np.testing.assert_allclose(jax.jit(gelu)(x), expected, rtol=1e-4, atol=1e-6)
