"""Restores images of any size."""

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvision.augment import rgb_to_ycbcr, ycbcr_to_rgb
from jaxvision.ops import resize_bicubic
from jaxvision.predict.tiles import predict_in_tiles


@dataclass(frozen=True)
class Restorer:
    """Restores images of any size with a network that takes tiles.

    Attributes:
      restore: images f32[B, *tile, C] in 0..1 -> f32[B, h, w, C] in 0..255, jitted.
      color: what the network restores: "rgb"; "grey", which is done to each channel; or
        "luminance", which changes only the brightness. Grey images are restored as they are.
      factor: by which an image is enlarged; 1 if it is not.
      enlarged: whether the network takes images that are already enlarged (bicubically).
      tile: (height, width) of the network's input, or the side of a square one, pixels.
      margin: width of the border of a tile whose result is not used, pixels of the network's
        input.
      batch_size: tiles in a batch.
      border: what tiles have beyond the image, see `predict_in_tiles`.
    """

    restore: Callable[[Array], Array]
    color: str
    factor: int
    enlarged: bool
    tile: int | tuple[int, int]
    margin: int
    batch_size: int = 1
    border: str = "reflect"

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Restores an image.

        Args:
          image: u8[H, W, 3], or u8[H, W, 1] of a grey image.
        Returns:
          u8[factor H, factor W, 3].
        """
        if image.shape[2] == 1:
            if self.color != "rgb":
                whole = enlarge(image, self.factor) if self.enlarged else image
                return to_bytes(self._tiled(whole)).repeat(3, axis=2)
            image = image.repeat(3, axis=2)
        if self.color == "luminance":
            planes = np.asarray(rgb_to_ycbcr(image))
            enlarged = enlarge(planes, self.factor)
            light = self._tiled((enlarged if self.enlarged else planes)[..., :1])
            result = ycbcr_to_rgb(np.concatenate([light, enlarged[..., 1:]], axis=-1))
        else:
            whole = enlarge(image, self.factor) if self.enlarged else image.astype(np.float32)
            parts = np.split(whole, 3, axis=-1) if self.color == "grey" else [whole]
            result = np.concatenate([self._tiled(part) for part in parts], axis=-1)
        return to_bytes(result)

    def _tiled(self, image: np.ndarray) -> np.ndarray:
        """[H, W, C] in 0..255 -> f32[H, W, C], or larger by the factor if the network enlarges."""
        return predict_in_tiles(
            self.restore,
            np.asarray(image, np.float32) / 255,
            tile=self.tile,
            margin=self.margin,
            factor=1 if self.enlarged else self.factor,
            batch_size=self.batch_size,
            border=self.border,
        )


def enlarge(image: np.ndarray, factor: int) -> np.ndarray:
    """Enlarges an image bicubically, without a network.

    Args:
      image: number[H, W, C].
      factor: by which it is enlarged; 1 changes nothing.
    Returns:
      f32[factor H, factor W, C], not rounded.
    """
    size = [factor * side for side in image.shape[:2]]
    return np.asarray(resize_bicubic(jnp.asarray(image, jnp.float32), size))


def to_bytes(image: np.ndarray) -> np.ndarray:
    """Rounds numbers and clips them to 0..255: u8, of the same shape."""
    return np.asarray(jnp.clip(jnp.round(image), 0, 255).astype(jnp.uint8))
