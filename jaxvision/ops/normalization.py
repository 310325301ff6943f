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
    """Each channel with the batch's mean and variance taken out, and a scale and a bias put in.

    y = scale (x - mean) / sqrt(var + epsilon) + bias. The gradient is written out: of each
    activation it keeps one copy, and two passes over it do.

    Args:
      x: float[..., C].
      scale: float[C].
      bias: float[C].
      epsilon: added to the variance.
      axis_name: mapped axis over which statistics are means too, or None.
    Returns:
      (y, mean, var): y of the shape of x, and f32[C] both; float64 stays, half precision becomes
      float32. The variance is the biased one. No gradient goes through mean and var, but y's does
      take them into account; differentiable in reverse mode only.
    Raises:
      AssertionError: wrong shapes, or no float.
    Source: Ioffe & Szegedy 2015 ("Batch normalization"), algorithm 1 and the gradients of
      section 3.
    """
    x = check_array("x", x, ("...", "C"))
    scale = check_array("scale", scale, (x.shape[-1],))
    bias = check_array("bias", bias, (x.shape[-1],))
    dtype = jnp.promote_types(jnp.result_type(x, scale, bias), jnp.float32)
    scale, bias = scale.astype(dtype), bias.astype(dtype)
    return _batch_norm(x, scale, bias, epsilon, axis_name)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _batch_norm(
    x: Array, scale: Array, bias: Array, epsilon: float, axis_name: str | None
) -> tuple[Array, Array, Array]:
    return _batch_norm_forward(x, scale, bias, epsilon, axis_name)[0]


def _batch_norm_forward(
    x: Array, scale: Array, bias: Array, epsilon: float, axis_name: str | None
) -> tuple[tuple[Array, Array, Array], tuple[Array, ...]]:
    wide = x.astype(scale.dtype)
    mean, square = _means((wide, jnp.square(wide)), axis_name)
    var = jnp.maximum(square - jnp.square(mean), 0)
    inverse = lax.rsqrt(var + epsilon)
    y = (wide - _last(mean, x)) * _last(scale * inverse, x) + _last(bias, x)
    return (y, mean, var), (x, scale, mean, inverse)


def _batch_norm_backward(
    epsilon: float,
    axis_name: str | None,
    kept: tuple[Array, ...],
    gradients: tuple[Array, Array, Array],
) -> tuple[Array, Array, Array]:
    x, scale, mean, inverse = kept
    by_y, _, _ = gradients  # None goes through the statistics.
    centred = x.astype(scale.dtype) - _last(mean, x)
    local = _means((by_y, by_y * centred), None)
    by_mean, by_deviation = local if axis_name is None else lax.pmean(local, axis_name)
    rest = by_y - _last(by_mean, x) - centred * _last(by_deviation * jnp.square(inverse), x)
    count = math.prod(x.shape[:-1])
    by_x = (rest * _last(scale * inverse, x)).astype(x.dtype)
    return by_x, count * local[1] * inverse, count * local[0]


_batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


def _means(arrays: tuple[Array, ...], axis_name: str | None) -> tuple[Array, ...]:
    """Of each channel, also over the mapped axis."""
    means = tuple(x.mean(axis=tuple(range(x.ndim - 1))) for x in arrays)
    return means if axis_name is None else lax.pmean(means, axis_name)


def _last(values: Array, x: Array) -> Array:
    """[C] as an array that broadcasts against x."""
    return values.reshape((1,) * (x.ndim - 1) + values.shape)


def local_response_norm(
    x: Array, *, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Array:
    """Each value over a power of the squares of its neighbours among the channels.

    y_c = x_c / (k + alpha / n sum_j x_j^2)^beta over the n channels j from c - floor(n / 2) to
    c + floor((n - 1) / 2), as far as there are such; n is `size`. This is torch's. In the paper
    alpha is not divided by n: for its k = 2, n = 5, alpha = 1e-4, beta = 0.75 give k = 2,
    alpha = 5e-4.

    Args:
      x: float[..., C].
      size: n.
      alpha: at least 0.
      beta: the power.
      k: above 0.
    Returns:
      float[..., C]; half precision is computed in float32.
    Raises:
      AssertionError: x has no axis or is no float.
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
    # Windows larger than the channels on both sides have nothing more to add.
    before, after = min(size // 2, channels), min((size - 1) // 2, channels)
    padding = [(0, 0)] * (x.ndim - 1) + [(before, after)]
    squares = jnp.pad(wide * wide, padding)
    shifted = (
        lax.slice_in_dim(squares, start, start + channels, axis=-1)
        for start in range(before + after + 1)
    )
    total = functools.reduce(jnp.add, shifted)
    return (wide * (k + alpha / size * total) ** -beta).astype(x.dtype)
