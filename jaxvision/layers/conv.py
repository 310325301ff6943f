"""Convolutions, followed by a norm and an activation."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import Array

from jaxvision.ops.convolution import Pair, conv_general_dilated, conv_transpose2d
from jaxvision.ops.static import pair

Conv = functools.partial(nn.Conv, conv_general_dilated_cls=lambda: conv_general_dilated)
"""`flax.linen.Conv`, which is also fast on CPUs with groups (`feature_group_count`)."""

PADDINGS: dict[str, Callable[[int], int]] = {
    "same": lambda kernel_size: (kernel_size - 1) // 2,
    "valid": lambda kernel_size: 0,
}
"""Values of the field `padding` of a network: name -> (side of a kernel -> zeros on every side)."""

he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""Initialisation of He et al. 2015 ("Delving deep into rectifiers", equation 14)."""


class ConvTranspose(nn.Module):
    """The transposed convolution `jaxvision.ops.conv_transpose2d` with a bias.

    It equals torch's ConvTranspose2d. The kernel is named "transposed_kernel", because the order of
    its axes in torch differs from that of a convolution. If the stride equals the kernel size and
    the channels are halved, `he_normal` keeps the variance.

    Attributes:
      features: output channels.
      kernel_size: (height, width).
      stride: distance in the output between neighbouring pixels of the input.
      padding: rows and columns to remove on every side.
      output_padding: rows and columns to add at the bottom and on the right.
      use_bias: whether to add a bias.
      kernel_init: initialisation of the kernel [height, width, C, features].

    Call:
      x f32[B, H, W, C] -> [B, (H - 1) stride - 2 padding + height + output_padding, ..., features].
    """

    features: int
    kernel_size: tuple[int, int]
    stride: Pair = 1
    padding: Pair = 0
    output_padding: Pair = 0
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = he_normal
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("transposed_kernel", self.kernel_init, shape, self.param_dtype)
        bias = None
        if self.use_bias:
            zeros = nn.initializers.zeros
            bias = self.param("bias", zeros, (self.features,), self.param_dtype)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = conv_transpose2d(
            x,
            kernel,
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
        )
        return y if bias is None else y + bias[None, None, None]


def conv_norm_act(
    x: Array,
    features: int,
    kernel_size: Pair,
    *,
    name: str,
    norm_name: str,
    norm: Callable[..., Array] | None,
    stride: int = 1,
    padding: Pair | None = None,
    dilation: int = 1,
    groups: int = 1,
    use_bias: bool | None = None,
    act: Callable[[Array], Array] | None = nn.relu,
    kernel_init: nn.initializers.Initializer = he_normal,
    dtype: Any = None,
    param_dtype: Any = None,
) -> Array:
    """Applies a convolution, a norm and an activation.

    This is a function and not a module: both layers become children of the module that calls it,
    under the two names given, as in torchvision's state dicts. Padding is explicit, as in the
    published networks ("SAME" differs from it at stride 2).

    Args:
      x: [B, H, W, C].
      features: output channels.
      kernel_size: one size for both sides, or (height, width); odd, unless `padding` is given.
      name: name of the convolution.
      norm_name: name of the norm.
      norm: a `jaxvision.layers.Norm` to which only x and the name must be given, or None; see
        `norm_of`.
      stride: stride of the convolution.
      padding: zeros on every side, or (above and below, left and right); None:
        dilation (kernel_size - 1) / 2.
      dilation: distance between the elements of the kernel.
      groups: number of groups of channels; C for a depthwise convolution.
      use_bias: whether the convolution has a bias. None: only if there is no norm.
      act: activation, or None.
    Returns:
      [B, h, w, features]; if `padding` is None, h = ceil(H / stride) and w = ceil(W / stride).
    """
    sides = pair("kernel_size", kernel_size)
    if padding is None:
        padding = [dilation * (side - 1) // 2 for side in sides]
    x = Conv(
        features,
        sides,
        strides=stride,
        padding=[(zeros, zeros) for zeros in pair("padding", padding, least=0)],
        kernel_dilation=dilation,
        feature_group_count=groups,
        use_bias=norm is None if use_bias is None else use_bias,
        kernel_init=kernel_init,
        dtype=dtype,
        param_dtype=param_dtype,
        name=name,
    )(x)
    if norm is not None:
        x = norm(x, name=norm_name)
    return x if act is None else act(x)


def conv_in_sequence(
    x: Array, features: int, kernel_size: Pair, sequence: str, place: int = 0, **options: Any
) -> Array:
    """Applies `conv_norm_act`, with names for neighbours in a sequence, as torchvision has them.

    Args:
      x: [B, H, W, C].
      features: output channels.
      kernel_size: as for `conv_norm_act`.
      sequence: name of the sequence. The layers are {sequence}_{place} and {sequence}_{place + 1}.
      place: index of the convolution in the sequence.
      **options: further options of `conv_norm_act`.
    Returns:
      the result of `conv_norm_act`.
    """
    names = {"name": f"{sequence}_{place}", "norm_name": f"{sequence}_{place + 1}"}
    return conv_norm_act(x, features, kernel_size, **names, **options)
