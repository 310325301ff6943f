"""Normalisation without learned parameters."""

import functools
import math

import jax.numpy as jnp
from jax import Array, lax

from jaxvision.core import at_least_float32, check_array
from jaxvision.ops.static import integer


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
