"""What the blocks of many families share: recalibrated channels, dropped paths, less memory."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.layers.conv import Conv, he_normal


def make_divisible(channels: float, divisor: int = 8) -> int:
    """A multiple of `divisor` near a number of channels, and at least 90 % of it.

    Source: Sandler et al. 2018 ("MobileNetV2"), the authors' implementation.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


def squeeze_excite(
    x: Array,
    features: int,
    *,
    name: str,
    act: Callable[[Array], Array] = nn.relu,
    gate: Callable[[Array], Array] = nn.sigmoid,
    kernel_init: nn.initializers.Initializer = he_normal,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Array:
    """Each channel times a gate that depends on the means of all.

    Two 1x1 convolutions, {name}_fc1 and {name}_fc2, which become children of the module that calls
    this.

    Args:
      x: [B, H, W, C].
      features: channels between the two.
      name: prefix of both.
      act: after the first.
      gate: after the second.
      kernel_init: of the kernels.
      dtype: of the computation.
      param_dtype: of the parameters.
    Returns:
      The shape of x.
    Source: Hu, Shen & Sun 2018 ("Squeeze-and-excitation networks"), equations 2 to 4.
    """
    options = {"kernel_init": kernel_init, "dtype": dtype, "param_dtype": param_dtype}
    y = x.mean(axis=(1, 2), keepdims=True)
    y = act(Conv(features, (1, 1), name=f"{name}_fc1", **options)(y))
    return x * gate(Conv(x.shape[-1], (1, 1), name=f"{name}_fc2", **options)(y))


def drop_path(x: Array, rate: float, *, train: bool) -> Array:
    """In training, a branch that is zero for a share of the examples, and larger for the others.

    Takes a key for "dropout" where it is to be random.

    Args:
      x: [B, ...].
      rate: probability of zero; the others are divided by 1 - rate.
      train: whether anything happens.
    Returns:
      The shape of x.
    Source: Huang, Sun, Liu, Sedra & Weinberger 2016 ("Deep networks with stochastic depth").
    """
    return nn.Dropout(rate, broadcast_dims=range(1, x.ndim), deterministic=not train)(x)


def run_block(module: Any, block: Callable[[Any], Array], x: Any) -> Array:
    """block(x), computed a second time in the backward pass if the module has `remat`.

    Only x is then kept for it, not what the block computes on the way.

    Args:
      module: that calls this, and has the field `remat`.
      block: what computes an array; the layers that it makes become children of the module.
      x: its argument, an array or several.
    """
    if not module.remat:
        return block(x)
    return nn.remat(lambda _, x: block(x))(module, x)
