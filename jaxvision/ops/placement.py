"""Placements of an original image in a network's input: the geometry of resizing and its inverse.

The functions compute with plain numbers on the host and check nothing.
"""

from typing import Any, NamedTuple

import numpy as np

from jaxvision.core import Inputs


class Placement(NamedTuple):
    """The transformation x' = scale_x x + offset_x and y' = scale_y y + offset_y, in pixels.

    A pixel's left edge is x, its right edge x + 1, so that boxes map exactly.
    """

    scale_x: float
    scale_y: float
    offset_x: float
    offset_y: float


def letterbox(size: tuple[int, int], target: tuple[int, int]) -> Placement:
    """Resizes an image to the largest size that fits, keeps its aspect ratio, and centres it.

    The aspect ratio is kept up to rounding to whole pixels.

    Args:
      size: (height, width) of the original.
      target: (height, width) of the network's input.
    """
    (height, width), (rows, columns) = size, target
    scale = min(rows / height, columns / width)
    new_height = min(rows, max(1, round(height * scale)))
    new_width = min(columns, max(1, round(width * scale)))
    return Placement(
        new_width / width,
        new_height / height,
        (columns - new_width) // 2,
        (rows - new_height) // 2,
    )


def stretch(size: tuple[int, int], target: tuple[int, int]) -> Placement:
    """Resizes an image to the size of the network's input without keeping its aspect ratio.

    The arguments are those of `letterbox`.
    """
    return Placement(target[1] / size[1], target[0] / size[0], 0, 0)


def center_crop(
    size: tuple[int, int], target: tuple[int, int], shorter_side: int | None = None
) -> Placement:
    """Resizes the shorter side of an image and crops the centre to the network's input.

    Args:
      size: (height, width) of the original.
      target: (height, width) of the network's input.
      shorter_side: length of the resized image's shorter side in pixels, at least the larger side
        of `target`; None: the larger side of `target`.
    Returns:
      a placement whose offsets are 0 or negative.
    """
    side = max(target) if shorter_side is None else shorter_side
    factor = side / min(size)
    # The longer side is rounded down to whole pixels, as in torchvision.
    height, width = (max(side, int(x * factor)) for x in size)
    top, left = (round((x - y) / 2) for x, y in zip((height, width), target, strict=True))
    return Placement(width / size[1], height / size[0], -left, -top)


PLACEMENTS = {"letterbox": letterbox, "stretch": stretch, "crop": center_crop}
"""Functions (size, target) -> `Placement`, by the name of the way to resize."""


def placement_of(
    size: tuple[int, int], inputs: Inputs, target: tuple[int, int] | None = None
) -> Placement:
    """Places an image in a network's input in the way that `inputs` says.

    Args:
      size: (height, width) of the original.
      inputs: of the network.
      target: (height, width) of the network's input; None: that of `inputs.size_of`.
    """
    target = inputs.size_of(size) if target is None else target
    if inputs.pads:
        height, width = inputs.resized(size, target)
        return Placement(width / size[1], height / size[0], 0, 0)
    if inputs.resize is None:
        return Placement(1, 1, 0, 0)
    if inputs.resize == "crop":
        return center_crop(size, target, inputs.shorter_side)
    return PLACEMENTS[inputs.resize](size, target)


def place_mask(
    mask: np.ndarray, target: tuple[int, int], placement: Placement, *, fill: int = 0
) -> np.ndarray:
    """Moves a mask, or labels of pixels, to the place of the image in the network's input.

    Each pixel of the result has the value of the mask's pixel that contains its centre: row i of h
    rows in the result shows row floor((i + 1/2) H / h) of the mask's H rows. An object that is
    smaller than a pixel of the result may lose its whole mask.

    Args:
      mask: [H, W], of bools or numbers.
      target: (height, width) of the network's input.
      placement: placement of the image.
      fill: value of pixels that the image does not cover.
    Returns:
      [height, width], of the mask's dtype.
    """
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new)
        for new, old in zip(placed_size(mask.shape, placement), mask.shape, strict=True)
    )
    result = np.full(target, fill, mask.dtype)
    # Columns first, because decoded run-lengths are stored column by column in memory.
    paste(mask[:, columns][rows], result, placement)
    return result


def placed_size(size: tuple[int, int], placement: Placement) -> tuple[int, int]:
    """Returns the size of an image after it is resized for the network's input.

    Args:
      size: (height, width) of the original.
      placement: placement of the image.
    """
    height, width = size
    return round(height * placement.scale_y), round(width * placement.scale_x)


def paste(image: np.ndarray, result: np.ndarray, placement: Placement) -> None:
    """Writes a resized image into the network's input; parts outside the input are left out.

    Args:
      image: [h, w, ...], of the size `placed_size`.
      result: [height, width, ...], which is changed in place.
      placement: placement of the image.
    """
    top, left = int(placement.offset_y), int(placement.offset_x)
    image = image[max(-top, 0) :, max(-left, 0) :]
    window = result[max(top, 0) :, max(left, 0) :]
    height, width = (min(pair) for pair in zip(image.shape[:2], window.shape[:2], strict=True))
    window[:height, :width] = image[:height, :width]


def to_input(boxes: Any, placement: Any) -> Any:
    """Converts boxes of the original image to pixels of the network's input.

    Args:
      boxes: f[N, 4], xyxy, a numpy or JAX array.
      placement: a `Placement`, or its four numbers as an array f[4].
    Returns:
      f[N, 4].
    """
    scale, offset = _pairs(placement)
    return boxes * scale + offset


def to_original(boxes: Any, placement: Any) -> Any:
    """Converts boxes of the network's input to pixels of the original image, see `to_input`."""
    scale, offset = _pairs(placement)
    return (boxes - offset) / scale


_ORDER = np.array([0, 1, 0, 1])


def _pairs(placement: Any) -> tuple[Any, Any]:
    """Returns the scale and the offset of both corners, [1, 4] each."""
    numbers = np.asarray(placement) if isinstance(placement, tuple) else placement
    return numbers[_ORDER][None], numbers[_ORDER + 2][None]
