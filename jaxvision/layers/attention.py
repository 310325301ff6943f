"""Attention, windows of a map for attention, and the feed-forward layers of transformers."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from jax import Array, lax

from jaxvision.core import InputError, at_least_float32

gelu = functools.partial(nn.gelu, approximate=False)
"""x Phi(x), with Phi the cumulative distribution function of the normal distribution (Hendrycks &
Gimpel 2016, "Gaussian error linear units"); not the approximation that is Flax's default."""

glorot_uniform = nn.initializers.glorot_uniform()
"""Initialisation of Glorot & Bengio 2010 ("Understanding the difficulty of training deep
feedforward neural networks", equation 16)."""


def attention(
    query: Array,
    key: Array,
    value: Array,
    *,
    scale: Array | float | None = None,
    bias: Array | None = None,
) -> Array:
    """Computes softmax(scale query key^T + bias) value for each head.

    Args:
      query: [..., Q, heads, D].
      key: [..., K, heads, D].
      value: [..., K, heads, V].
      scale: a number, or an array that broadcasts against [..., heads, Q, K] and has the same
        number of axes; None: D^-0.5.
      bias: an array like `scale`, or None.
    Returns:
      [..., Q, heads, V], in value's dtype. The softmax is computed in at least float32; of half
      precision all products are products of half precision, those of the gradient too.
    Source: Vaswani et al. 2017 ("Attention is all you need"), equation 1.
    """
    scores = _scores(query, key) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if bias is not None:
        scores = scores + bias
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    return jnp.einsum("...hqk,...khd->...qhd", weights, value)


# `jax.nn.dot_product_attention` is not used: on a CPU it compiles neither for float16 nor for small
# arrays of bfloat16, and its softmax is one of float32 for float64 too.
@jax.custom_jvp
def _scores(query: Array, key: Array) -> Array:
    """The products of all queries and keys, [..., heads, Q, K], in at least float32."""
    wide = jnp.promote_types(query.dtype, jnp.float32)
    return jnp.einsum("...qhd,...khd->...hqk", query, key, preferred_element_type=wide)


@_scores.defjvp
def _scores_jvp(arrays: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    """The tangent is one of the arrays' dtype: so its transpose multiplies arrays of that alone."""
    (query, key), (by_query, by_key) = arrays, tangents
    scores = _scores(query, key)
    product = functools.partial(jnp.einsum, "...qhd,...khd->...hqk")
    return scores, (product(by_query, key) + product(query, by_key)).astype(scores.dtype)


def self_attention(
    x: Array,
    heads: int,
    *,
    names: tuple[str, str],
    scale: Array | float | None = None,
    bias: Array | None = None,
    cosine: bool = False,
    kernel_init: nn.initializers.Initializer = glorot_uniform,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Array:
    """Applies self-attention over the positions of a sequence, between two dense layers.

    The output of the first layer holds queries, keys and values, in this order, each head by head.

    Args:
      x: [..., L, C].
      heads: number of heads, each with C / heads channels.
      names: names of the two layers.
      scale: scale of `attention`.
      bias: bias of `attention`.
      cosine: whether queries and keys are normalised to length 1, and keys have no bias (their
        parameter exists but has no effect, as in torchvision).
    Returns:
      an array of the shape of x.
    Raises:
      InputError: heads does not divide the number of channels.
    Source: Vaswani et al. 2017, section 3.2.2; with `cosine` Liu et al. 2022 ("Swin Transformer
      V2"), equation 2.
    """
    channels = x.shape[-1]
    if channels % heads:
        raise InputError(
            f"heads is {heads}, which does not divide the {channels} channels: give a divisor"
        )
    dense = functools.partial(
        nn.Dense, kernel_init=kernel_init, dtype=dtype, param_dtype=param_dtype
    )
    promote = _promote_without_key_bias if cosine else promote_dtype
    y = dense(3 * channels, name=names[0], promote_dtype=promote)(x)
    y = y.reshape(*x.shape[:-1], 3 * heads, channels // heads)
    query, key, value = jnp.split(y, 3, axis=-2)
    if cosine:
        query, key = _unit(query), _unit(key)
    y = attention(query, key, value, scale=scale, bias=bias)
    return dense(channels, name=names[1])(y.reshape(x.shape))


def _promote_without_key_bias(x: Array, kernel: Array, bias: Array, *, dtype: Any):
    x, kernel, bias = promote_dtype(x, kernel, bias, dtype=dtype)
    channels = len(bias) // 3
    return x, kernel, bias.at[channels : 2 * channels].set(0)


def _unit(x: Array) -> Array:
    wide = at_least_float32(x)
    squared = jnp.square(wide).sum(-1, keepdims=True)
    return (wide * lax.rsqrt(jnp.maximum(squared, 1e-24))).astype(x.dtype)


def feed_forward(
    x: Array,
    *,
    names: tuple[str, str],
    train: bool,
    expansion: int = 4,
    act: Callable[[Array], Array] = gelu,
    dropout: float = 0.0,
    kernel_init: nn.initializers.Initializer = glorot_uniform,
    bias_init: nn.initializers.Initializer = nn.initializers.zeros,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
) -> Array:
    """Applies two dense layers at each position.

    Args:
      x: [..., C].
      names: names of the two layers.
      train: whether to apply dropout, which needs a key for "dropout".
      expansion: the first layer has expansion * C channels.
      act: activation between the two layers.
      dropout: dropout rate after each layer.
    Returns:
      an array of the shape of x.
    Source: Vaswani et al. 2017, section 3.3.
    """
    options = {"kernel_init": kernel_init, "bias_init": bias_init}
    dense = functools.partial(nn.Dense, dtype=dtype, param_dtype=param_dtype, **options)
    drop = functools.partial(nn.Dropout, dropout, deterministic=not train)
    channels = x.shape[-1]
    y = drop()(act(dense(expansion * channels, name=names[0])(x)))
    return drop()(dense(channels, name=names[1])(y))


def to_windows(x: Array, size: int, *, grid: bool = False) -> Array:
    """Splits a map into windows of size x size cells.

    Args:
      x: [B, H, W, C]; size divides H and W.
      size: side of a window in cells.
      grid: whether the cells of a window are spread over the whole map, H / size and W / size
        apart. Otherwise they are adjacent.
    Returns:
      [B, H W / size^2, size^2, C], windows and cells row by row.
    Source: Tu et al. 2022 ("MaxViT"), section 3.2.
    """
    batch, height, width, channels = x.shape
    rows, columns = height // size, width // size
    if grid:
        x = x.reshape(batch, size, rows, size, columns, channels).transpose(0, 2, 4, 1, 3, 5)
    else:
        x = x.reshape(batch, rows, size, columns, size, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, rows * columns, size * size, channels)


def from_windows(x: Array, height: int, width: int, *, grid: bool = False) -> Array:
    """Joins windows to a map, as the inverse of `to_windows`.

    Args:
      x: [B, H W / size^2, size^2, C].
      height: H.
      width: W.
      grid: as for `to_windows`.
    Returns:
      [B, H, W, C].
    """
    batch, _, cells, channels = x.shape
    size = round(cells**0.5)
    x = x.reshape(batch, height // size, width // size, size, size, channels)
    x = x.transpose((0, 3, 1, 4, 2, 5) if grid else (0, 1, 3, 2, 4, 5))
    return x.reshape(batch, height, width, channels)


def relative_position_index(size: int) -> np.ndarray:
    """Returns the index of the offset between any two cells of a window.

    The (2 size - 1)^2 possible offsets are numbered row by row.

    Args:
      size: side of the window in cells.
    Returns:
      i64[size^2, size^2]; element [i, j] is the index of the offset of cell i from cell j.
    Source: Liu et al. 2021 ("Swin Transformer"), section 3.2.
    """
    row, column = np.divmod(np.arange(size * size), size)
    rows, columns = (axis[:, None] - axis[None] + size - 1 for axis in (row, column))
    return rows * (2 * size - 1) + columns
