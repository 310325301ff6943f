"""Restores images of any size."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvision.augment import rgb_to_ycbcr, ycbcr_to_rgb
from jaxvision.ops import resize_bicubic
from jaxvision.predict.batches import computed
from jaxvision.predict.tiles import Tiles


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
        return computed(self.begin(image), self.batch_size).result()

    def begin(self, image: np.ndarray) -> "Restoring":
        """What the network has to do for an image, see `jaxvision.predict.batches`.

        Args:
          image: as of a call.
        """
        if image.shape[2] == 1:
            if self.color != "rgb":
                whole = enlarge(image, self.factor) if self.enlarged else image
                tiles = [self._tiles(whole)]
                return Restoring(tiles, lambda found: to_bytes(found[0]).repeat(3, axis=2))
            image = image.repeat(3, axis=2)
        if self.color == "luminance":
            planes = np.asarray(rgb_to_ycbcr(image))
            enlarged = enlarge(planes, self.factor)

            def recolored(found: Sequence[np.ndarray]) -> np.ndarray:
                whole = np.concatenate([found[0], enlarged[..., 1:]], axis=-1)
                return to_bytes(ycbcr_to_rgb(whole))

            light = (enlarged if self.enlarged else planes)[..., :1]
            return Restoring([self._tiles(light)], recolored)
        whole = enlarge(image, self.factor) if self.enlarged else image.astype(np.float32)
        parts = np.split(whole, 3, axis=-1) if self.color == "grey" else [whole]
        return Restoring(
            [self._tiles(part) for part in parts],
            lambda found: to_bytes(np.concatenate(found, axis=-1)),
        )

    def _tiles(self, image: np.ndarray) -> Tiles:
        """Of [H, W, C] in 0..255; they give f32[H, W, C], larger if the network enlarges."""
        return Tiles(
            self.restore,
            np.asarray(image, np.float32) / 255,
            tile=self.tile,
            margin=self.margin,
            factor=1 if self.enlarged else self.factor,
            batch_size=self.batch_size,
            border=self.border,
        )


class Restoring:
    """An image that is being restored, as `run_in_batches` takes it.

    Args:
      planes: the tiles of each of its planes, which have one size.
      join: the results of the planes -> u8[H, W, 3].
    """

    def __init__(self, planes: Sequence[Tiles], join: Callable[[Sequence[np.ndarray]], np.ndarray]):
        self._planes, self._join = planes, join
        self.run, self.shape = planes[0].run, planes[0].shape

    def __len__(self) -> int:
        return sum(map(len, self._planes))

    def __getitem__(self, number: int) -> np.ndarray:
        plane, tile = divmod(number, len(self._planes[0]))
        return self._planes[plane][tile]

    def put(self, number: int, output: np.ndarray) -> None:
        """Takes what the network gives for a tile."""
        plane, tile = divmod(number, len(self._planes[0]))
        self._planes[plane].put(tile, output)

    def result(self) -> np.ndarray:
        """The restored image u8[H, W, 3], when the results of all tiles are here."""
        return self._join([plane.result() for plane in self._planes])


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
