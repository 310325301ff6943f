"""Parts of blocks that many families share: squeeze-and-excitation, drop path, remat."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.layers.conv import Conv, he_normal


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Rounds a number of channels to a multiple of `divisor` that is at least 90 % of it.

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
    """Multiplies each channel by a gate that is computed from the means of all channels.

    The gate is computed by two 1x1 convolutions, {name}_fc1 and {name}_fc2.

    Args:
      x: [B, H, W, C].
      features: channels between the two convolutions.
      name: prefix of their names.
      act: activation after the first convolution.
      gate: activation after the second convolution.
    Returns:
      an array of the shape of x.
    Source: Hu, Shen & Sun 2018 ("Squeeze-and-excitation networks"), equations 2 to 4.
    """
    options = {"kernel_init": kernel_init, "dtype": dtype, "param_dtype": param_dtype}
    y = x.mean(axis=(1, 2), keepdims=True)
    y = act(Conv(features, (1, 1), name=f"{name}_fc1", **options)(y))
    return x * gate(Conv(x.shape[-1], (1, 1), name=f"{name}_fc2", **options)(y))


def drop_path(x: Array, rate: float, *, train: bool) -> Array:
    """Applies stochastic depth: in training, sets a branch to zero for random examples.

    It needs a key for "dropout" if `train` is True and the rate is above 0.

    Args:
      x: [B, ...], the output of the branch.
      rate: probability of zero. The examples that are kept are divided by 1 - rate.
      train: whether to drop. If it is False, the result is x.
    Returns:
      an array of the shape of x.
    Source: Huang, Sun, Liu, Sedra & Weinberger 2016 ("Deep networks with stochastic depth").
    """
    return nn.Dropout(rate, broadcast_dims=range(1, x.ndim), deterministic=not train)(x)


def run_block(module: Any, block: Callable[[Any], Any], x: Any) -> Any:
    """Computes block(x), and computes it again in the backward pass if `module.remat` is True.

    This saves memory: only x is kept for the backward pass, not the intermediate values.

    Args:
      module: the module that calls this function; it has the field `remat`.
      block: a function that returns an array or a tree of arrays. Its layers become children of
        the module.
      x: the argument of block, an array or a tree of arrays.
    """
    if not module.remat:
        return block(x)
    return nn.remat(lambda _, x: block(x))(module, x)
