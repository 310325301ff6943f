"""Normalisation layers with one common signature, so that a network can use any of them."""

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
    """The type of the field `norm` of a network: it creates a named layer and applies it."""

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
    """Applies `BatchNorm`, batch normalisation over all axes but the last.

    Args:
      x: [..., C].
      name: name of the layer.
      train: whether to use the statistics of this batch and update the running statistics.
      axis_name: mapped axis over whose devices the statistics are averaged, or None.
      dtype: dtype of the result; None: that of the input and the parameters.
      param_dtype: dtype of scale and bias.
      momentum: fraction of the running statistics that an update keeps.
      epsilon: added to the variance.
      scale_init: initialisation of the scale.
    Returns:
      an array of the shape of x.
    Source: Ioffe & Szegedy 2015 ("Batch normalization"), algorithms 1 and 2.
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

    It has the variables of `flax.linen.BatchNorm` and the defaults of torch, with one difference:
    the running variance is the biased one, which is smaller than torch's by the factor (n - 1) / n
    for n values in a channel.

    Attributes:
      momentum: fraction of the running statistics that an update keeps.
      epsilon: added to the variance.
      scale_init: initialisation of the scale.
      axis_name: mapped axis over whose devices the statistics are averaged, or None.
      dtype: dtype of the result; None: that of the input and the parameters.
      param_dtype: dtype of scale and bias; running statistics are float32.

    Call:
      x float[..., C] -> [..., C]. With `train`, x is normalised by the statistics of this batch,
      which also update the running statistics. Otherwise the running statistics are used.
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
        # Initialisation runs outside the mapped axis.
        axis_name = None if self.is_initializing() else self.axis_name
        y, *batch = normalize_batch(x, scale, bias, epsilon=self.epsilon, axis_name=axis_name)
        if not self.is_initializing():
            for running, now in zip((mean, var), batch, strict=True):
                running.value = self.momentum * running.value + (1 - self.momentum) * now
        return y.astype(dtype)


def frozen_batch_norm(
    x: Array,
    *,
    name: str,
    train: bool,
    axis_name: str | None = None,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    epsilon: float = 1e-5,
) -> Array:
    """Applies `FrozenBatchNorm`: a batch norm that stays as its pretrained weights have it.

    Args:
      x: [..., C].
      name: name of the layer.
      train: no effect: the result is the same in training and in evaluation.
      axis_name: no effect.
      dtype: dtype of the result; None: that of the input and the variables.
      param_dtype: no effect: there are no parameters.
      epsilon: added to the variance. It is 0 for torchvision's RetinaNet of the first version.
    Returns:
      an array of the shape of x.
    """
    del train, axis_name, param_dtype
    return FrozenBatchNorm(epsilon=epsilon, dtype=dtype, name=name)(x)


class FrozenBatchNorm(nn.Module):
    """A batch norm whose statistics, scale and bias are all fixed, as torchvision's has them.

    It computes x factor + (bias - mean factor) with factor = scale / sqrt(var + epsilon). All four
    vectors are in the collection "batch_stats": they have no gradient and are not counted as
    parameters. Their names are those of `BatchNorm`, so weights of either fit the other by
    `jaxvision.interop`. Without pretrained weights it changes nothing.

    Attributes:
      epsilon: added to the variance.
      dtype: dtype of the result; None: that of the input and the variables.

    Call:
      x float[..., C] -> [..., C].
    """

    epsilon: float = 1e-5
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = x.shape[-1:]
        starts = {"mean": jnp.zeros, "var": jnp.ones, "scale": jnp.ones, "bias": jnp.zeros}
        mean, var, scale, bias = (
            self.variable("batch_stats", name, start, shape).value for name, start in starts.items()
        )
        factor = scale * lax.rsqrt(var + self.epsilon)
        axes = range(x.ndim - 1)
        factor, shift = (jnp.expand_dims(v, axes) for v in (factor, bias - mean * factor))
        return (x * factor + shift).astype(canonicalize_dtype(x, scale, dtype=self.dtype))


@contextlib.contextmanager
def frozen_statistics(names: Collection[str]) -> Iterator[None]:
    """Within this context, the named batch norms work in training as they do in evaluation.

    They use their running statistics and do not update them. Scale and bias can still be trained.

    Args:
      names: paths of the norms, such as "backbone/bn1".
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
    """Applies group normalisation: over all positions and the channels of a group, per example.

    Args:
      x: [B, ..., C].
      num_groups: number of groups of channels. If it does not divide C, their greatest common
        divisor is used.
      **fields: name, train, axis_name, dtype, param_dtype, epsilon and scale_init as for
        `batch_norm`. `train` and `axis_name` have no effect: the result is the same in training
        and in evaluation, and on any number of devices.
    Returns:
      an array of the shape of x.
    Source: Wu & He 2018 ("Group normalization"), section 3.
    """
    layer = partial(nn.GroupNorm, num_groups=math.gcd(num_groups, x.shape[-1]))
    return _within_example(layer, x, **fields)


def layer_norm(x: Array, **fields: Any) -> Array:
    """Applies layer normalisation: over the channels of each position.

    Args:
      x: [..., C].
      **fields: as for `group_norm`.
    Returns:
      an array of the shape of x.
    Source: Ba, Kiros & Hinton 2016 ("Layer normalization"), section 3.
    """
    return _within_example(partial(nn.LayerNorm, use_fast_variance=False), x, **fields)


def instance_norm(x: Array, **fields: Any) -> Array:
    """Applies instance normalisation: over all positions of each channel of each example.

    It has a scale and a bias, like torch's with `affine=True`.

    Args:
      x: [B, ..., C].
      **fields: as for `group_norm`.
    Returns:
      an array of the shape of x.
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
    """Applies a norm that treats each example separately, with torch's epsilon."""
    del train, axis_name
    return layer(name=name, epsilon=epsilon, **fields)(x)


NORMS: dict[str, Norm] = {
    "batch_norm": batch_norm,
    "frozen_batch_norm": frozen_batch_norm,
    "group_norm": group_norm,
    "instance_norm": instance_norm,
    "layer_norm": layer_norm,
}
"""Values of the field `norm` of a network by name."""
