"""Convolution, norm and activation as siblings; groups as linen's; transposed convolution."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.layers import Conv, ConvTranspose, batch_norm, conv_norm_act
from jaxvision.ops import conv2d
from jaxvision.testing import check_op


class Block(nn.Module):
    groups: int = 1
    stride: int = 1
    padding: int | None = None
    dilation: int = 1
    use_bias: bool | None = None

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
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            use_bias=self.use_bias,
            param_dtype=jnp.float32,
        )


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("stride", [1, 2])
def test_conv_norm_act_makes_named_siblings_of_the_right_shapes(groups, stride):
    x = jax.ShapeDtypeStruct((2, 5, 6, 4), jnp.float32)
    init = Block(groups, stride).init_with_output
    y, variables = jax.eval_shape(init, jax.random.key(0), x)
    assert y.shape == (2, -(-5 // stride), 6 // stride, 8)
    assert variables["params"].keys() == {"a_0", "a_1"}
    assert variables["params"]["a_0"].keys() == {"kernel"}
    assert variables["params"]["a_0"]["kernel"].shape == (3, 3, 4 // groups, 8)


def test_conv_norm_act_takes_a_padding():
    init = Block(padding=0).init_with_output
    y, _ = jax.eval_shape(init, jax.random.key(0), jnp.ones((1, 5, 6, 4)))
    assert y.shape == (1, 3, 4, 8)


def test_a_dilated_conv_norm_act_has_zeros_between_the_taps_of_its_kernel():
    x = np.random.default_rng(0).normal(size=(2, 7, 8, 4)).astype(np.float32)
    ways = [(1, None), (2, None), (1, 0)]

    @jax.jit
    def run(x):
        results = []
        for stride, padding in ways:
            block = Block(dilation=2, stride=stride, padding=padding)
            y, variables = block.init_with_output(jax.random.key(0), x)
            kernel = variables["params"]["a_0"]["kernel"]
            wide = jnp.zeros((5, 5, 4, 8)).at[::2, ::2].set(kernel)
            expected = conv2d(x, wide, stride=stride, padding=2 if padding is None else padding)
            results.append((y, expected))
        return results

    for y, expected in run(x):
        np.testing.assert_allclose(y, np.maximum(expected, 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("use_bias", "leaves"), [(None, {"kernel"}), (True, {"kernel", "bias"})])
def test_conv_norm_act_has_a_bias_besides_the_norm_where_it_is_wanted(use_bias, leaves):
    init = Block(use_bias=use_bias).init
    variables = jax.eval_shape(init, jax.random.key(0), jnp.ones((1, 5, 6, 4)))
    assert variables["params"]["a_0"].keys() == leaves


def stamped(variables, x):
    """Each pixel stamps its multiple of the kernel, at twice its place less one."""
    kernel, bias = (variables["params"][name] for name in ("transposed_kernel", "bias"))
    batch, height, width, channels = x.shape
    canvas = np.zeros((batch, 2 * height + 2, 2 * width + 2, kernel.shape[-1]))
    for b, h, w, c in np.ndindex(batch, height, width, channels):
        canvas[b, 2 * h : 2 * h + 3, 2 * w : 2 * w + 3] += float(x[b, h, w, c]) * kernel[:, :, c]
    return canvas[:, 1:-1, 1:-1] + bias


def test_a_transposed_convolution_stamps_its_kernel():
    layer = ConvTranspose(3, (3, 3), stride=2, padding=1, output_padding=1)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 4, 2)).astype(np.float32)
    params = {"transposed_kernel": rng.normal(size=(3, 3, 2, 3)), "bias": rng.normal(size=3)}
    variables = {"params": jax.tree.map(np.float32, params)}
    check_op(layer.apply, stamped, variables, x, rtol=1e-5, atol=1e-5, transforms=("jit",))


def test_a_transposed_convolution_that_halves_the_channels_keeps_the_variance():
    x = np.random.default_rng(0).normal(size=(2, 16, 16, 64)).astype(np.float32)
    layer = ConvTranspose(32, (2, 2), stride=2)
    y, variables = jax.jit(layer.init_with_output)(jax.random.key(0), x)
    assert y.shape == (2, 32, 32, 32)
    assert 0.9 < y.var() < 1.1
    assert not variables["params"]["bias"].any()


def test_dtypes_of_a_transposed_convolution():
    def run(key, x, **options):
        layer = ConvTranspose(3, (2, 2), stride=2, **options)
        return jax.eval_shape(layer.init_with_output, key, x)

    x = jnp.zeros((1, 2, 2, 3))
    y, variables = run(jax.random.key(0), x, dtype=jnp.bfloat16, use_bias=False)
    assert y.dtype == jnp.bfloat16
    assert {name: leaf.dtype for name, leaf in variables["params"].items()} == {
        "transposed_kernel": jnp.float32
    }
    _, variables = run(jax.random.key(0), x, param_dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in variables["params"].values()} == {jnp.dtype(jnp.bfloat16)}


QUICK = [
    (3, 1, {}),
    (3, 2, {"strides": 2, "padding": 1}),
    (3, 4, {"padding": "CIRCULAR"}),
]
OTHERS = [
    (1, 1, {}),
    (1, 4, {"strides": 2, "padding": 1}),
    (3, 2, {}),
    (3, 4, {"strides": 2, "padding": 1}),
    (3, 1, {"padding": "CIRCULAR"}),
]


@pytest.mark.parametrize(
    "ways", [QUICK, pytest.param(OTHERS, marks=pytest.mark.slow)], ids=["quick", "others"]
)
def test_conv_is_linens_in_variables_values_and_gradients(ways):
    x = np.random.default_rng(0).normal(size=(2, 7, 6, 4)).astype(np.float32)

    @jax.jit
    def run(key, x):
        def of(layer, size, groups, options):
            layer = layer(8, (size, size), feature_group_count=groups, **options)
            variables = layer.init(key, x)
            total = jax.value_and_grad(lambda v: (layer.apply(v, x) ** 2).sum())
            return variables, total(variables)

        return [[of(layer, *way) for layer in (Conv, nn.Conv)] for way in ways]

    for (variables, found), (their_variables, expected) in run(jax.random.key(0), x):
        jax.tree.map(np.testing.assert_array_equal, variables, their_variables)
        close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-3)
        jax.tree.map(close, found, expected)
