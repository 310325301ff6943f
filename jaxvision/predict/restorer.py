"""Photographs of any size, restored."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvision.augment import rgb_to_ycbcr, ycbcr_to_rgb
from jaxvision.core import Task, check_array
from jaxvision.ops import resize_bicubic
from jaxvision.predict.predictor import Images
from jaxvision.predict.tiles import predict_in_tiles


@dataclass(frozen=True)
class Restorer:
    """A network that is ready for photographs.

    Attributes:
      restore: images f32[B, tile, tile, C] in 0..1 -> f32[B, t, t, C] in 0..255, jitted.
      color: what it restores: "rgb"; "grey", which is done to each channel; or "luminance", which
        leaves the colours.
      factor: by which a photograph is enlarged; 1 by a denoiser.
      enlarged: whether the network takes photographs that are enlarged already.
      tile: pixels a side, of the network's input.
      margin: of them, those along the border whose results are not kept.
    """

    restore: Callable[[Array], Array]
    color: str
    factor: int
    enlarged: bool
    tile: int
    margin: int

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The restored photograph.

        Args:
          image: u8[H, W, 3].
        Returns:
          u8[factor H, factor W, 3].
        """
        if self.color == "luminance":
            planes = np.asarray(rgb_to_ycbcr(image))
            enlarged = self.bicubic(planes)
            light = self._tiled(planes[..., :1] if not self.enlarged else enlarged[..., :1])
            result = ycbcr_to_rgb(np.concatenate([light, enlarged[..., 1:]], axis=-1))
        else:
            whole = (self.bicubic(image) if self.enlarged else image).astype(np.float32)
            parts = np.split(whole, 3, axis=-1) if self.color == "grey" else [whole]
            result = np.concatenate([self._tiled(part) for part in parts], axis=-1)
        return np.asarray(jnp.clip(jnp.round(result), 0, 255).astype(jnp.uint8))

    def bicubic(self, image: np.ndarray) -> np.ndarray:
        """The photograph enlarged without the network: f32[factor H, factor W, C], not rounded."""
        size = [self.factor * side for side in image.shape[:2]]
        return np.asarray(resize_bicubic(jnp.asarray(image, jnp.float32), size))

    def _tiled(self, image: np.ndarray) -> np.ndarray:
        """[H, W, C] in 0..255 -> f32[H, W, C], or larger by the factor if the network enlarges."""
        return predict_in_tiles(
            self.restore,
            np.asarray(image, np.float32) / 255,
            tile=self.tile,
            margin=self.margin,
            factor=1 if self.enlarged else self.factor,
        )


def restore_of_task(task: Task, variables: Any) -> Callable[[Array], Array]:
    """The network of a task as `Restorer.restore`, compiled.

    Args:
      task: of restoration.
      variables: of the network.
    """

    def restore(variables: Any, images: Array) -> Array:
        images = check_array("images", images, ("B", "H", "W", "C"))
        how = {"keys": None, "step": jnp.int32(0), "train": False}
        outputs, _ = task.forward(variables, Images(images), **how)
        return jax.vmap(task.decode)(outputs)

    compiled = jax.jit(restore)
    return lambda images: compiled(variables, images)
