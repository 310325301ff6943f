"""Normalisation of arrays: over a batch, and over neighbouring channels."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxvision.core import at_least_float32, check_array
from jaxvision.ops.static import integer


def batch_norm(
    x: Array, scale: Array, bias: Array, *, epsilon: float = 1e-5, axis_name: str | None = None
) -> tuple[Array, Array, Array]:
    """Normalises each channel by the mean and variance of the batch, then applies scale and bias.

    y = scale (x - mean) / sqrt(var + epsilon) + bias. The derivative is written by hand: the
    gradient keeps one copy of the activation and takes two passes over it.

    Args:
      x: float[..., C].
      scale: float[C].
      bias: float[C].
      epsilon: added to the variance.
      axis_name: mapped axis over whose devices the statistics are averaged, or None.
    Returns:
      (y, mean, var): y has the shape of x, mean and var are f32[C]; float64 stays float64, half
      precision becomes float32. The variance is the biased one. The derivatives of the returned
      mean and var are zero, but those of y include their dependence on x.
    Source: Ioffe & Szegedy 2015 ("Batch normalization"), algorithm 1 and the gradients of
      section 3.
    """
    x = check_array("x", x, ("...", "C"))
    scale = check_array("scale", scale, (x.shape[-1],))
    bias = check_array("bias", bias, (x.shape[-1],))
    dtype = jnp.promote_types(jnp.result_type(x, scale, bias), jnp.float32)
    scale, bias = scale.astype(dtype), bias.astype(dtype)
    return _batch_norm(x, scale, bias, epsilon, axis_name)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def _batch_norm(
    x: Array, scale: Array, bias: Array, epsilon: float, axis_name: str | None
) -> tuple[Array, Array, Array]:
    y, mean, var, _ = _normalize(x, scale, bias, epsilon, axis_name)
    return y, mean, var


@_batch_norm.defjvp
def _batch_norm_jvp(
    epsilon: float,
    axis_name: str | None,
    primals: tuple[Array, Array, Array],
    tangents: tuple[Array, Array, Array],
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array]]:
    x, scale, _ = primals
    y, mean, var, inverse = _normalize(*primals, epsilon, axis_name)
    # Without jax.checkpoint the normalised activations would be kept besides x, which the layers
    # around this one keep anyway.
    tangent_of = jax.checkpoint(functools.partial(_tangent, axis_name=axis_name), prevent_cse=False)
    tangent = tangent_of(x, scale, mean, inverse, *tangents)
    mean, var = lax.stop_gradient((mean, var))
    return (y, mean, var), (tangent, jnp.zeros_like(mean), jnp.zeros_like(var))


def _normalize(
    x: Array, scale: Array, bias: Array, epsilon: float, axis_name: str | None
) -> tuple[Array, Array, Array, Array]:
    """Returns (y, mean, variance, 1 / standard deviation)."""
    wide = x.astype(scale.dtype)
    mean, square = _means((wide, jnp.square(wide)), axis_name)
    var = jnp.maximum(square - jnp.square(mean), 0)
    inverse = lax.rsqrt(var + epsilon)
    y = (wide - _last(mean, x)) * _last(scale * inverse, x) + _last(bias, x)
    return y, mean, var, inverse


def _tangent(
    x: Array,
    scale: Array,
    mean: Array,
    inverse: Array,
    by_x: Array,
    by_scale: Array,
    by_bias: Array,
    *,
    axis_name: str | None,
) -> Array:
    """Computes the tangent of y. Its transpose takes two sums over all pixels and one more pass."""
    normalized = (x.astype(scale.dtype) - _last(mean, x)) * _last(inverse, x)
    factor = scale * inverse
    by_x = by_x.astype(scale.dtype)
    by_mean, by_deviation = _means((by_x, by_x * normalized), axis_name)
    slope, shift = by_scale - factor * by_deviation, by_bias - factor * by_mean
    return _last(factor, x) * by_x + normalized * _last(slope, x) + _last(shift, x)


def _means(arrays: tuple[Array, ...], axis_name: str | None) -> tuple[Array, ...]:
    """Returns the mean of each channel, also over the mapped axis if there is one."""
    means = tuple(x.mean(axis=tuple(range(x.ndim - 1))) for x in arrays)
    return means if axis_name is None else lax.pmean(means, axis_name)


def _last(values: Array, x: Array) -> Array:
    """Reshapes values [C] so that they broadcast against x."""
    return values.reshape((1,) * (x.ndim - 1) + values.shape)


def local_response_norm(
    x: Array, *, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Array:
    """Divides each value by a power of the sum of squares of neighbouring channels.

    y_c = x_c / (k + alpha / n sum_j x_j^2)^beta over the n channels j from c - floor(n / 2) to
    c + floor((n - 1) / 2), as far as they exist; n is `size`. This is torch's definition. In the
    paper alpha is not divided by n: its k = 2, n = 5, alpha = 1e-4, beta = 0.75 correspond to
    k = 2, size = 5, alpha = 5e-4, beta = 0.75 here.

    Args:
      x: float[..., C].
      size: n.
      alpha: at least 0.
      beta: the exponent.
      k: more than 0.
    Returns:
      float[..., C]; half precision is computed in float32.
    Raises:
      ValueError: an option is out of range.
    Source: Krizhevsky et al. 2012 ("ImageNet classification with deep convolutional neural
      networks"), section 3.3; torch.nn.functional.local_response_norm.
    """
    size = integer("size", size)
    for name, value, valid in (("alpha", alpha, alpha >= 0), ("beta", beta, True), ("k", k, k > 0)):
        if not valid or not math.isfinite(value):
            raise ValueError(f"{name} is {value!r}: give alpha >= 0, k > 0, and finite numbers")
    x = check_array("x", x, ("...", "C"))
    wide = at_least_float32(x)
    channels = x.shape[-1]
    # A window that reaches beyond all channels contains no further values.
    before, after = min(size // 2, channels), min((size - 1) // 2, channels)
    padding = [(0, 0)] * (x.ndim - 1) + [(before, after)]
    squares = jnp.pad(wide * wide, padding)
    shifted = (
        lax.slice_in_dim(squares, start, start + channels, axis=-1)
        for start in range(before + after + 1)
    )
    total = functools.reduce(jnp.add, shifted)
    return (wide * (k + alpha / size * total) ** -beta).astype(x.dtype)
