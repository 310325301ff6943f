"""Convolution, norm and activation as named siblings."""

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
"""`flax.linen.Conv`, fast on CPU with groups too (`feature_group_count`)."""

PADDINGS: dict[str, Callable[[int], int]] = {
    "same": lambda kernel_size: (kernel_size - 1) // 2,
    "valid": lambda kernel_size: 0,
}
"""What the field `padding` of a network may be called: side of a kernel -> zeros on every side."""

he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""Initialisation of He et al. 2015 ("Delving deep into rectifiers", equation 14)."""


class ConvTranspose(nn.Module):
    """`jaxvision.ops.conv_transpose2d` with a bias: torch's ConvTranspose2d.

    The kernel is called "transposed_kernel", since torch keeps its axes in another order than a
    convolution's. With a stride of the kernel's size `he_normal` keeps the variance if the channels
    are halved.

    Attributes:
      features: channels out.
      kernel_size: (height, width).
      stride: step between the pixels of the input in the output.
      padding: rows and columns to cut off on every side.
      output_padding: rows and columns to add at the bottom and on the right.
      use_bias: whether to add one.
      kernel_init: of the kernel [height, width, C, features].
      dtype: of the computation; None follows the input and the parameters.
      param_dtype: of the parameters.

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
    """A convolution, a norm and an activation.

    A function and not a module: both layers become children of the module that calls it, under
    the two names given, as in torchvision's state dicts. Padding is explicit, as in the published
    networks ("SAME" differs from it at stride 2).

    Args:
      x: [B, H, W, C].
      features: channels out.
      kernel_size: of both sides, or (height, width); odd, unless `padding` is given.
      name: the convolution's name.
      norm_name: the norm's name.
      norm: a `jaxvision.layers.Norm` with everything but x and the name filled in, or None.
      stride: of the convolution.
      padding: zeros on every side, or (above and below, left and right); None:
        dilation (kernel_size - 1) / 2.
      dilation: step between the kernel's taps.
      groups: of channels; C for a depthwise convolution.
      use_bias: whether the convolution has one; None: if there is no norm.
      act: activation, or None.
      kernel_init: of the kernel.
      dtype: of the computation.
      param_dtype: of the kernel.
    Returns:
      [B, h, w, features]; without `padding` h = ceil(H / stride), w = ceil(W / stride).
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
    """`conv_norm_act` whose layers are two neighbours in a sequence, as in torchvision's networks.

    Args:
      x: [B, H, W, C].
      features: channels out.
      kernel_size: as of `conv_norm_act`.
      sequence: its name; the layers are {sequence}_{place} and {sequence}_{place + 1}.
      place: of the convolution.
      **options: of `conv_norm_act`.
    Returns:
      As `conv_norm_act`.
    """
    names = {"name": f"{sequence}_{place}", "norm_name": f"{sequence}_{place + 1}"}
    return conv_norm_act(x, features, kernel_size, **names, **options)
