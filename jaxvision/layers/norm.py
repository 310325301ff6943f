"""Normalisation layers behind one signature, so that a network can take any of them."""

import math
from typing import Any, Protocol

import flax.linen as nn
import jax.numpy as jnp
from jax import Array


class Norm(Protocol):
    """What a network's field `norm` is: creates a named layer and applies it."""

    def __call__(
        self,
        x: Array,
        *,
        name: str,
        train: bool,
        axis_name: str | None,
        dtype: Any,
        param_dtype: Any,
    ) -> Array: ...


def batch_norm(
    x: Array,
    *,
    name: str,
    train: bool,
    axis_name: str | None = None,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    momentum: float = 0.9,
    epsilon: float = 1e-5,
    scale_init: nn.initializers.Initializer = nn.initializers.ones,
) -> Array:
    """Batch normalisation over all axes but the last (Ioffe & Szegedy 2015).

    With `axis_name`, batch statistics are means over the devices of that mapped axis. Parameters
    and defaults as in torch, with one difference: the running variance is the biased one, smaller
    by the factor (n - 1) / n over n values a channel.

    Args:
      x: [..., C].
      name: the layer's name.
      train: whether to use (and update) the statistics of this batch.
      axis_name: mapped axis to synchronise over, or None.
      dtype: of the result; None keeps the input's.
      param_dtype: of scale and bias.
      momentum: share of the running statistics that an update keeps.
      epsilon: added to the variance.
      scale_init: initialisation of the scale.
    Returns:
      The shape of x.
    """
    return nn.BatchNorm(
        use_running_average=not train,
        axis_name=axis_name,
        momentum=momentum,
        epsilon=epsilon,
        scale_init=scale_init,
        dtype=dtype,
        param_dtype=param_dtype,
        name=name,
    )(x)


def group_norm(
    x: Array,
    *,
    name: str,
    train: bool,
    axis_name: str | None = None,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    num_groups: int = 32,
    epsilon: float = 1e-5,
    scale_init: nn.initializers.Initializer = nn.initializers.ones,
) -> Array:
    """Group normalisation: over all places, and the channels of a group, of one example.

    It does the same in training and in evaluation and on any number of devices, so `train` and
    `axis_name` change nothing. Parameters and epsilon as in torch.

    Args:
      x: [B, ..., C].
      name: the layer's name.
      train: not used.
      axis_name: not used.
      dtype: of the result; None keeps the input's.
      param_dtype: of scale and bias.
      num_groups: of channels; for a C that it does not divide, the greatest number that divides
        both.
      epsilon: added to the variance.
      scale_init: initialisation of the scale.
    Returns:
      The shape of x.
    Source: Wu & He 2018 ("Group normalization"), section 3.
    """
    del train, axis_name
    return nn.GroupNorm(
        num_groups=math.gcd(num_groups, x.shape[-1]),
        epsilon=epsilon,
        scale_init=scale_init,
        dtype=dtype,
        param_dtype=param_dtype,
        name=name,
    )(x)


def layer_norm(
    x: Array,
    *,
    name: str,
    train: bool,
    axis_name: str | None = None,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    epsilon: float = 1e-5,
    scale_init: nn.initializers.Initializer = nn.initializers.ones,
) -> Array:
    """Layer normalisation: over the channels of one place.

    It does the same in training and in evaluation and on any number of devices, so `train` and
    `axis_name` change nothing. Parameters and epsilon as in torch.

    Args:
      x: [..., C].
      name: the layer's name.
      train: not used.
      axis_name: not used.
      dtype: of the result; None keeps the input's.
      param_dtype: of scale and bias.
      epsilon: added to the variance.
      scale_init: initialisation of the scale.
    Returns:
      The shape of x.
    Source: Ba, Kiros & Hinton 2016 ("Layer normalization"), section 3.
    """
    del train, axis_name
    return nn.LayerNorm(
        epsilon=epsilon,
        scale_init=scale_init,
        use_fast_variance=False,
        dtype=dtype,
        param_dtype=param_dtype,
        name=name,
    )(x)


def instance_norm(
    x: Array,
    *,
    name: str,
    train: bool,
    axis_name: str | None = None,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    epsilon: float = 1e-5,
    scale_init: nn.initializers.Initializer = nn.initializers.ones,
) -> Array:
    """Instance normalisation: over all places of one channel of one example.

    It does the same in training and in evaluation and on any number of devices, so `train` and
    `axis_name` change nothing. Epsilon as in torch; scale and bias are there, as with torch's
    `affine=True`.

    Args:
      x: [B, ..., C].
      name: the layer's name.
      train: not used.
      axis_name: not used.
      dtype: of the result; None keeps the input's.
      param_dtype: of scale and bias.
      epsilon: added to the variance.
      scale_init: initialisation of the scale.
    Returns:
      The shape of x.
    Source: Ulyanov, Vedaldi & Lempitsky 2016 ("Instance normalization"), equation 1.
    """
    del train, axis_name
    return nn.InstanceNorm(
        epsilon=epsilon,
        scale_init=scale_init,
        use_fast_variance=False,
        dtype=dtype,
        param_dtype=param_dtype,
        name=name,
    )(x)


NORMS: dict[str, Norm] = {
    "batch_norm": batch_norm,
    "group_norm": group_norm,
    "instance_norm": instance_norm,
    "layer_norm": layer_norm,
}
"""What the field `norm` of a network may be called in a config."""
