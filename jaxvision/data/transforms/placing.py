"""Resizes and pads an image to the size of a network's input, on the host."""

import numpy as np
from PIL import Image

from jaxvision.core import check_range, lookup
from jaxvision.ops.placement import PLACEMENTS, Placement, paste, placed_size


def check_placing(target: tuple[int, int], *, method: str | None, fill: int) -> None:
    """Raises InputError if `place` cannot take these; a method of None resizes nothing."""
    for side in target:
        check_range("size", side, least=1)
    check_range("fill", fill, least=0, most=255)
    if method is not None:
        lookup(PLACEMENTS, method, "resize")


def place(
    image: np.ndarray, target: tuple[int, int], *, method: str, fill: int = 127
) -> tuple[np.ndarray, Placement]:
    """An image in the network's size.

    Args:
      image: u8[H, W, 3].
      target: (height, width).
      method: a key of `PLACEMENTS`.
      fill: around it.
    Returns:
      u8[height, width, 3], resized bilinearly (antialiased when shrinking), and where it lies.
    Raises:
      InputError: an unknown method.
    """
    placement = lookup(PLACEMENTS, method, "resize")(image.shape[:2], target)
    height, width = placed_size(image, placement)
    if (height, width) != image.shape[:2]:
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        image = np.asarray(resized)
    if (height, width) == target:
        return image, placement
    result = np.full((*target, image.shape[2]), fill, np.uint8)
    paste(image, result, placement)
    return result, placement
