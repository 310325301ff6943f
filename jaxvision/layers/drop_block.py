"""DropBlock, a dropout of regions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxvision.core import check_range


class DropBlock(nn.Module):
    """Sets square blocks of each channel to zero in training.

    Blocks lie within the map. What is kept is multiplied so that the number of elements of an
    example, divided by that of its kept ones, is made up for. It needs a key for "dropout" if
    `train` is True and the rate is above 0.

    Attributes:
      rate: about the share of a map that is dropped, in [0, 1).
      size: side of a block, pixels; at most the shorter side of the map.

    Call:
      x [B, H, W, C] -> an array of the same shape.

    Source: Ghiasi, Lin & Le 2018 ("DropBlock"), algorithm 1.
    """

    rate: float
    size: int = 7

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        check_range("rate", self.rate, least=0, less_than=1)
        check_range("size", self.size, least=1)
        if not train or not self.rate:
            return x
        _, height, width, _ = x.shape
        size = min(self.size, height, width)
        rows, columns = height - size + 1, width - size + 1  # places of a block's corner
        chance = min(self.rate * height * width / (size**2 * rows * columns), 1.0)
        shape = (x.shape[0], rows, columns, x.shape[3])
        corners = jax.random.bernoulli(self.make_rng("dropout"), chance, shape)
        # A pixel is dropped if a corner is at most size - 1 above and left of it.
        window, border = (1, size, size, 1), ((0, 0), (size - 1,) * 2, (size - 1,) * 2, (0, 0))
        dropped = lax.reduce_window(
            corners.astype(jnp.float32), 0.0, lax.max, window, (1, 1, 1, 1), border
        )
        kept = 1 - dropped
        count = kept.sum(axis=(1, 2, 3), keepdims=True)
        factor = kept * (kept[0].size / jnp.maximum(count, 1))
        return x * factor.astype(x.dtype)
