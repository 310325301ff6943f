"""Convolution, norm and activation as named siblings."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
from jax import Array

from jaxvision.ops.convolution import conv_general_dilated

Conv = functools.partial(nn.Conv, conv_general_dilated_cls=lambda: conv_general_dilated)
"""`flax.linen.Conv`, fast on CPU with groups too (`feature_group_count`)."""

he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""Initialisation of He et al. 2015 ("Delving deep into rectifiers", equation 14)."""


def conv_norm_act(
    x: Array,
    features: int,
    kernel_size: int,
    *,
    name: str,
    norm_name: str,
    norm: Callable[..., Array] | None,
    stride: int = 1,
    groups: int = 1,
    act: Callable[[Array], Array] | None = nn.relu,
    dtype: Any = None,
    param_dtype: Any = None,
) -> Array:
    """A convolution, a norm and an activation; the convolution has a bias if there is no norm.

    A function and not a module: both layers become children of the module that calls it, under
    the two names given, as in torchvision's state dicts. Padding is explicit, as in the published
    networks: (kernel_size - 1) // 2 on every side ("SAME" differs from it at stride 2).

    Args:
      x: [B, H, W, C].
      features: channels out.
      kernel_size: odd.
      name: the convolution's name.
      norm_name: the norm's name.
      norm: a `jaxvision.layers.Norm` with everything but x and the name filled in, or None.
      stride: of the convolution.
      groups: of channels; C for a depthwise convolution.
      act: activation, or None.
      dtype: of the computation.
      param_dtype: of the kernel.
    Returns:
      [B, ceil(H / stride), ceil(W / stride), features].
    """
    x = Conv(
        features,
        (kernel_size, kernel_size),
        strides=stride,
        padding=(kernel_size - 1) // 2,
        feature_group_count=groups,
        use_bias=norm is None,
        kernel_init=he_normal,
        dtype=dtype,
        param_dtype=param_dtype,
        name=name,
    )(x)
    if norm is not None:
        x = norm(x, name=norm_name)
    return x if act is None else act(x)
