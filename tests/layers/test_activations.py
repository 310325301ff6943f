"""ReLU with the derivative of its result: values, derivatives, and what it keeps in memory."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxvision.layers import relu
from jaxvision.ops import conv2d
from tests.derivatives import check_derivatives

VALUES = np.float32([-np.inf, -2, -0.0, 0, 1e-30, 3, np.inf, np.nan])


def test_values_and_gradients_are_those_of_flax_also_at_zero_and_without_a_number():
    @jax.jit
    def run(x):
        def results(fn):
            return fn(x), jax.vmap(jax.grad(fn))(x), jax.jvp(fn, (x,), (x,)), jax.vmap(fn)(x)

        return results(relu), results(nn.relu)

    jax.tree.map(np.testing.assert_array_equal, *run(VALUES))
    half = VALUES.astype(jnp.bfloat16)
    assert relu(half).dtype == jax.grad(lambda x: relu(x).sum())(half).dtype == jnp.bfloat16


def test_all_derivatives_agree():
    with jax.enable_x64(True):
        x = np.random.default_rng(0).permutation(11) - 5.5
        check_derivatives(lambda x: relu(x * abs(x)), x)


def test_of_frozen_layers_the_results_alone_are_kept():
    """By `flax.linen.relu`, the results of the convolutions would be kept as well."""
    side, channels, depth = 64, 32, 8

    def total(kernels, x):
        for kernel in kernels:
            x = relu(conv2d(x, kernel) * 1.5 + 0.5)
        return (x**2).sum()

    kernels = [jax.ShapeDtypeStruct((1, 1, channels, channels), jnp.float32)] * depth
    x = jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)
    compiled = jax.jit(jax.grad(total)).lower(kernels, x).compile()
    # The results of all layers, and two arrays of their size that are worked on.
    assert compiled.memory_analysis().temp_size_in_bytes < (depth + 2.5) * 4 * side**2 * channels
