"""Checks that a network can process images of a given size."""

from typing import Any

from jax import Array

from jaxvision.core import InputError


def side_before(layer: Any, side: int) -> int:
    """Returns the least side of the input for which a convolution returns a map of this side.

    Args:
      layer: an object with `kernel_size`, `stride` and `padding`.
      side: side of the map that the convolution returns.
    """
    return layer.stride * (side - 1) + layer.kernel_size - 2 * layer.padding


def check_sides(images: Array, step: int, *, remainder: int = 0, more_than: int = 0) -> None:
    """Raises InputError, naming the nearest sizes that fit, if height or width do not fit.

    Args:
      images: [B, H, W, C].
      step: difference between neighbouring sides that fit.
      remainder: remainder of a side that fits when it is divided by `step`.
      more_than: sides must be larger than this.
    """
    smallest = more_than + 1 + (remainder - more_than - 1) % step
    for axis, side in zip(("height", "width"), images.shape[1:3], strict=True):
        below = side - (side - remainder) % step
        if side < smallest or below != side:
            near = sorted({max(below, smallest), max(below + step, smallest)})
            fitting = " or ".join(str(size) for size in near)
            raise InputError(f"the {axis} of the images is {side}: this network takes {fitting}")
