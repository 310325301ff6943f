"""Normalisation layers behind one signature, so that a network can take any of them."""

import contextlib
import math
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any, Protocol

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import canonicalize_dtype
from jax import Array, lax

from jaxvision.ops import batch_norm as normalize_batch


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
    """Batch normalisation over all axes but the last (Ioffe & Szegedy 2015): `BatchNorm`.

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
    return BatchNorm(
        axis_name=axis_name,
        momentum=momentum,
        epsilon=epsilon,
        scale_init=scale_init,
        dtype=dtype,
        param_dtype=param_dtype,
        name=name,
    )(x, train=train)


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, by `jaxvision.ops.batch_norm`.

    Variables are those of `flax.linen.BatchNorm`. Defaults are torch's, with one difference: the
    running variance is the biased one, smaller by the factor (n - 1) / n over n values a channel.

    Attributes:
      momentum: share of the running statistics that an update keeps.
      epsilon: added to the variance.
      scale_init: initialisation of the scale.
      axis_name: mapped axis, over whose devices batch statistics are means, or None.
      dtype: of the result; None follows the input and the parameters.
      param_dtype: of scale and bias; running statistics are float32.

    Call:
      x float[..., C] -> [..., C]; with `train` by the statistics of this batch, which move the
      running ones, else by the running ones.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    scale_init: nn.initializers.Initializer = nn.initializers.ones
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        shape = x.shape[-1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        var = self.variable("batch_stats", "var", jnp.ones, shape)
        scale = self.param("scale", self.scale_init, shape, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, shape, self.param_dtype)
        dtype = canonicalize_dtype(x, scale, bias, dtype=self.dtype)
        if not train:
            factor = scale * lax.rsqrt(var.value + self.epsilon)
            centre, factor, bias = (
                jnp.expand_dims(values, range(x.ndim - 1)) for values in (mean.value, factor, bias)
            )
            return ((x - centre) * factor + bias).astype(dtype)
        # Initialisation has no mapped axis.
        axis_name = None if self.is_initializing() else self.axis_name
        y, *batch = normalize_batch(x, scale, bias, epsilon=self.epsilon, axis_name=axis_name)
        if not self.is_initializing():
            for running, now in zip((mean, var), batch, strict=True):
                running.value = self.momentum * running.value + (1 - self.momentum) * now
        return y.astype(dtype)


@contextlib.contextmanager
def frozen_statistics(names: Collection[str]) -> Iterator[None]:
    """Within it, batch norms do in training what they do in evaluation.

    They use their running statistics, which stay as they are; scale and bias may still be trained.

    Args:
      names: of the norms: their paths, as "backbone/bn1".
    """

    def intercept(
        call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        called = isinstance(context.module, BatchNorm) and context.method_name == "__call__"
        if called and "/".join(context.module.path) in names:
            kwargs = {**kwargs, "train": False}
        return call(*args, **kwargs)

    with nn.intercept_methods(intercept):
        yield


def group_norm(x: Array, *, num_groups: int = 32, **fields: Any) -> Array:
    """Group normalisation: over all places, and the channels of a group, of one example.

    Args:
      x: [B, ..., C].
      num_groups: of channels; for a C that it does not divide, the greatest number that divides
        both.
      **fields: name, train, axis_name, dtype, param_dtype, epsilon and scale_init as of
        `batch_norm`. It does the same in training and in evaluation and on any number of devices,
        so `train` and `axis_name` change nothing.
    Returns:
      The shape of x.
    Source: Wu & He 2018 ("Group normalization"), section 3.
    """
    layer = partial(nn.GroupNorm, num_groups=math.gcd(num_groups, x.shape[-1]))
    return _within_example(layer, x, **fields)


def layer_norm(x: Array, **fields: Any) -> Array:
    """Layer normalisation: over the channels of one place.

    Args:
      x: [..., C].
      **fields: as of `group_norm`.
    Returns:
      The shape of x.
    Source: Ba, Kiros & Hinton 2016 ("Layer normalization"), section 3.
    """
    return _within_example(partial(nn.LayerNorm, use_fast_variance=False), x, **fields)


def instance_norm(x: Array, **fields: Any) -> Array:
    """Instance normalisation: over all places of one channel of one example.

    Scale and bias are there, as with torch's `affine=True`.

    Args:
      x: [B, ..., C].
      **fields: as of `group_norm`.
    Returns:
      The shape of x.
    Source: Ulyanov, Vedaldi & Lempitsky 2016 ("Instance normalization"), equation 1.
    """
    return _within_example(partial(nn.InstanceNorm, use_fast_variance=False), x, **fields)


def _within_example(
    layer: Callable[..., nn.Module],
    x: Array,
    *,
    name: str,
    train: bool,
    axis_name: str | None = None,
    epsilon: float = 1e-5,
    **fields: Any,
) -> Array:
    """A norm that sees one example at a time, with torch's epsilon."""
    del train, axis_name
    return layer(name=name, epsilon=epsilon, **fields)(x)


NORMS: dict[str, Norm] = {
    "batch_norm": batch_norm,
    "group_norm": group_norm,
    "instance_norm": instance_norm,
    "layer_norm": layer_norm,
}
"""What the field `norm` of a network may be called in a config."""
