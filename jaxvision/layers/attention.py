"""What transformers share: attention, the windows it looks into, and the layers after it."""

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
"""x times the normal distribution's share below x (Hendrycks & Gimpel 2016, "Gaussian error linear
units"), not the approximation that is flax's default."""

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
    """softmax(scale query key^T + bias) value, of each head.

    Args:
      query: [..., Q, heads, D].
      key: [..., K, heads, D].
      value: [..., K, heads, V].
      scale: a number, or an array that broadcasts against [..., heads, Q, K] and has as many axes;
        None: D^-0.5.
      bias: likewise such an array, or None.
    Returns:
      [..., Q, heads, V], in value's dtype; the softmax is one of float32 at least.
    Source: Vaswani et al. 2017 ("Attention is all you need"), equation 1.
    """
    wide = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.einsum("...qhd,...khd->...hqk", query, key, preferred_element_type=wide)
    scores = scores * (query.shape[-1] ** -0.5 if scale is None else scale)
    if bias is not None:
        scores = scores + bias
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    return jnp.einsum("...hqk,...khd->...qhd", weights, value)


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
    """Attention among the places of one sequence, between two dense layers.

    The first layer gives queries, keys and values, in this order, each head by head. Both become
    children of the module that calls this.

    Args:
      x: [..., L, C].
      heads: which share the channels out.
      names: of the two layers.
      scale: as `attention`'s.
      bias: as `attention`'s.
      cosine: whether queries and keys have the length 1, and keys no bias (their parameter is there
        and does nothing, as in torchvision).
      kernel_init: of both kernels.
      dtype: of the computation.
      param_dtype: of the parameters.
    Returns:
      The shape of x.
    Raises:
      InputError: the heads do not divide the channels.
    Source: Vaswani et al. 2017, section 3.2.2; with `cosine` Liu et al. 2022 ("Swin Transformer
      V2"), equation 2.
    """
    channels = x.shape[-1]
    if channels % heads:
        raise InputError(f"{heads} heads cannot share {channels} channels: give a divisor of these")
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
    """Two dense layers at each place, which become children of the module that calls this.

    Args:
      x: [..., C].
      names: of the two layers.
      train: whether to drop; takes a key for "dropout" then.
      expansion: channels between the two for each of x.
      act: activation between the two.
      dropout: share of what is dropped after each.
      kernel_init: of both kernels.
      bias_init: of both biases.
      dtype: of the computation.
      param_dtype: of the parameters.
    Returns:
      The shape of x.
    Source: Vaswani et al. 2017, section 3.3.
    """
    options = {"kernel_init": kernel_init, "bias_init": bias_init}
    dense = functools.partial(nn.Dense, dtype=dtype, param_dtype=param_dtype, **options)
    drop = functools.partial(nn.Dropout, dropout, deterministic=not train)
    channels = x.shape[-1]
    y = drop()(act(dense(expansion * channels, name=names[0])(x)))
    return drop()(dense(channels, name=names[1])(y))


def to_windows(x: Array, size: int, *, grid: bool = False) -> Array:
    """A map in groups of size x size cells.

    Args:
      x: [B, H, W, C]; the size divides H and W.
      size: cells on a side of a group.
      grid: whether a group's cells are spread over the whole map, H / size and W / size apart;
        neighbours otherwise.
    Returns:
      [B, H W / size^2, size^2, C], groups and cells row by row.
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
    """The inverse of `to_windows`.

    Args:
      x: [B, H W / size^2, size^2, C].
      height: H.
      width: W.
      grid: as there.
    Returns:
      [B, H, W, C].
    """
    batch, _, cells, channels = x.shape
    size = round(cells**0.5)
    x = x.reshape(batch, height // size, width // size, size, size, channels)
    x = x.transpose((0, 3, 1, 4, 2, 5) if grid else (0, 1, 3, 2, 4, 5))
    return x.reshape(batch, height, width, channels)


def relative_position_index(size: int) -> np.ndarray:
    """Which of the (2 size - 1)^2 offsets, row by row, lies between two cells of a window.

    Args:
      size: cells on a side of the window.
    Returns:
      i64[size^2, size^2]; at [i, j] the number of the offset of cell i from cell j.
    Source: Liu et al. 2021 ("Swin Transformer"), section 3.2.
    """
    row, column = np.divmod(np.arange(size * size), size)
    rows, columns = (axis[:, None] - axis[None] + size - 1 for axis in (row, column))
    return rows * (2 * size - 1) + columns
