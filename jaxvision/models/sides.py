"""Which sizes of images a network takes."""

from typing import Any

from jax import Array

from jaxvision.core import InputError


def side_before(layer: Any, side: int) -> int:
    """The least side of a map of which a convolution makes one of this side.

    Args:
      layer: with `kernel_size`, `stride` and `padding`.
      side: of what it gives.
    """
    return layer.stride * (side - 1) + layer.kernel_size - 2 * layer.padding


def check_sides(images: Array, step: int, *, remainder: int = 0, more_than: int = 0) -> None:
    """Raises InputError, naming the next sizes that fit, if height or width do not.

    Args:
      images: [B, H, W, C].
      step: between sides that fit.
      remainder: of their division by `step`.
      more_than: which they are larger than.
    """
    smallest = more_than + 1 + (remainder - more_than - 1) % step
    for axis, side in zip(("height", "width"), images.shape[1:3], strict=True):
        below = side - (side - remainder) % step
        if side < smallest or below != side:
            near = sorted({max(below, smallest), max(below + step, smallest)})
            fitting = " or ".join(str(size) for size in near)
            raise InputError(f"the {axis} of the images is {side}: this network takes {fitting}")
