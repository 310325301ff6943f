"""Cutout: one square of each image is hidden, on the device."""

from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.augment.move import change_images, extent_in
from jaxvision.augment.options import check_fill, check_whole
from jaxvision.augment.sampling import GREY, fill_like

E = TypeVar("E", bound=Any)


@dataclass(frozen=True)
class Cutout:
    """Fills a square at a random position; annotations stay as they are.

    The centre of the square is uniform over the pixels of the image without its padding, and the
    part of the square that is outside is lost. The dtype is kept. See DeVries & Taylor 2017
    ("Improved regularization of convolutional neural networks with Cutout"), section 3.2, whose
    sizes are 16 for CIFAR-10 and 8 for CIFAR-100.

    Attributes:
      size: side of the square in pixels, at least 1.
      fill: value of the pixels of the square, in 0..255, or one for each channel; the mean of the
        images in the paper.
    """

    size: int
    fill: float | tuple[float, ...] = GREY
    partners: ClassVar[int] = 0

    def __post_init__(self) -> None:
        check_whole("size", self.size, least=1)
        object.__setattr__(self, "fill", check_fill(self.fill))

    def __call__(self, key: Array, example: E) -> E:
        """Changes only the image.

        Args:
          key: key[].
          example: a batch struct without its leading axis.
        """
        extent = extent_in(example)
        first = jax.random.randint(key, (2,), 0, extent) - self.size // 2
        last = jnp.minimum(first + self.size, extent)

        def change(image: Array) -> Array:
            rows, columns = jnp.arange(image.shape[0]), jnp.arange(image.shape[1])
            inside_rows = (rows >= first[0]) & (rows < last[0])
            inside_columns = (columns >= first[1]) & (columns < last[1])
            inside = inside_rows[:, None, None] & inside_columns[None, :, None]
            return jnp.where(inside, fill_like(image, self.fill), image)

        return change_images(example, change)
