"""Convolution, norm and activation as siblings: names, shapes, and groups as linen's."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.layers import Conv, batch_norm, conv_norm_act


class Block(nn.Module):
    groups: int = 1
    stride: int = 1

    @nn.compact
    def __call__(self, x):
        return conv_norm_act(
            x,
            8,
            3,
            name="a_0",
            norm_name="a_1",
            norm=functools.partial(batch_norm, train=False),
            stride=self.stride,
            groups=self.groups,
            param_dtype=jnp.float32,
        )


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("stride", [1, 2])
def test_conv_norm_act_makes_named_siblings_of_the_right_shapes(groups, stride):
    x = jnp.ones((2, 5, 6, 4))
    y, variables = Block(groups, stride).init_with_output(jax.random.key(0), x)
    assert y.shape == (2, -(-5 // stride), 6 // stride, 8)
    assert variables["params"].keys() == {"a_0", "a_1"}
    assert variables["params"]["a_0"].keys() == {"kernel"}
    assert variables["params"]["a_0"]["kernel"].shape == (3, 3, 4 // groups, 8)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("options", [{}, {"strides": 2, "padding": 1}, {"padding": "CIRCULAR"}])
@pytest.mark.parametrize("size", [1, 3])
def test_conv_is_linens_in_variables_values_and_gradients(groups, options, size):
    x = np.random.default_rng(0).normal(size=(2, 7, 6, 4)).astype(np.float32)
    ours, theirs = (
        layer(8, (size, size), feature_group_count=groups, **options) for layer in (Conv, nn.Conv)
    )
    variables = ours.init(jax.random.key(0), x)
    jax.tree.map(np.testing.assert_array_equal, variables, theirs.init(jax.random.key(0), x))

    def value_and_gradients(layer):
        return jax.value_and_grad(lambda v: (layer.apply(v, x) ** 2).sum())(variables)

    for a, b in zip(
        *(jax.tree.leaves(value_and_gradients(layer)) for layer in (ours, theirs)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-3)
