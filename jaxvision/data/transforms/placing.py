"""Brings an image to the size of a network's input, on the host."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from jaxvision.core import InputError, Inputs, check_range, lookup
from jaxvision.core.inputs import RESIZE
from jaxvision.ops.placement import (
    PLACEMENTS,
    Placement,
    letterbox,
    paste,
    placed_size,
    stretch,
)

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def check_placing(target: tuple[int, int], *, method: str | None, fill: int) -> None:
    """Raises InputError if `place` cannot take these; a method of None resizes nothing."""
    for side in target:
        check_range("size", side, least=1)
    check_range("fill", fill, least=0, most=255)
    if method is not None:
        lookup(PLACEMENTS, method, "resize")


def resize_image(
    image: np.ndarray,
    size: tuple[int, int],
    *,
    method: str = "bilinear",
    window: tuple[int, int, int, int] | None = None,
) -> np.ndarray:
    """Resizes an image, or a window of it.

    Args:
      image: u8[H, W, C].
      size: (height, width) of the result.
      method: "nearest", "bilinear" or "bicubic"; all but "nearest" are antialiased where they
        shrink.
      window: (top, left, height, width) of the part that is resized; None: the whole image.
    Returns:
      u8[height, width, C].
    """
    top, left, height, width = window or (0, 0, *image.shape[:2])
    if (height, width) == size:
        return image[top : top + height, left : left + width]
    how = {"resample": _RESAMPLING[method], "box": (left, top, left + width, top + height)}
    if image.shape[2] == 3:
        return np.asarray(Image.fromarray(image).resize(size[::-1], **how))
    channels = [
        np.asarray(Image.fromarray(image[:, :, c]).resize(size[::-1], **how))
        for c in range(image.shape[2])
    ]
    return np.stack(channels, axis=-1)


def placement_of(size: tuple[int, int], inputs: Inputs) -> Placement:
    """Computes where an image lies in the network's input.

    Args:
      size: (height, width) of the image.
      inputs: how images become the network's input.
    Raises:
      InputError: `inputs.resize` is None, and the image has another size than the input.
    """
    if inputs.resize == "letterbox":
        return letterbox(size, inputs.size)
    if inputs.resize == "stretch":
        return stretch(size, inputs.size)
    if inputs.resize == "crop":
        return _center_crop(size, inputs.size, inputs.shorter_side or max(inputs.size))
    if tuple(size) != inputs.size:
        (height, width), (rows, columns) = size, inputs.size
        raise InputError(
            f"the image has {width} x {height} pixels, but the network takes {columns} x {rows}: "
            f"give images of that size, or set resize to one of {', '.join(RESIZE)}"
        )
    return Placement(1, 1, 0, 0)


def fit_image(image: np.ndarray, inputs: Inputs) -> tuple[np.ndarray, Placement]:
    """Brings an image to the size of the network's input, in the way that `inputs` says.

    Args:
      image: u8[H, W, C].
      inputs: its `size`, `resize`, `method`, `shorter_side` and `fill` are used.
    Returns:
      u8[height, width, C], and where the image lies in it.
    Raises:
      InputError: `inputs.resize` is None, and the image has another size than the input.
    """
    placement = placement_of(image.shape[:2], inputs)
    image = resize_image(image, placed_size(image, placement), method=inputs.method)
    if image.shape[:2] == inputs.size:
        return image, placement
    result = np.full((*inputs.size, image.shape[2]), inputs.fill, np.uint8)
    paste(image, result, placement)
    return result, placement


def placed_extent(
    size: tuple[int, int], placement: Placement, target: tuple[int, int]
) -> tuple[int, int]:
    """Computes the `extent` of an image: what has no padding at the bottom and at the right.

    Args:
      size: (height, width) of the image.
      placement: where it lies in the network's input.
      target: (height, width) of the network's input.
    Returns:
      (height, width), pixels of the network's input.
    """
    ends = (
        round(size[0] * placement.scale_y + placement.offset_y),
        round(size[1] * placement.scale_x + placement.offset_x),
    )
    return min(ends[0], target[0]), min(ends[1], target[1])


def with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Makes an image grey or RGB.

    Args:
      image: u8[H, W], u8[H, W, 1] or u8[H, W, 3].
      channels: 1 or 3. Grey values are those of ITU-R BT.601, as in Pillow's mode L.
    Returns:
      u8[H, W, channels].
    Raises:
      InputError: the image has another shape or dtype.
    """
    image = np.asarray(image)
    shape: Sequence[int] = image.shape
    if image.dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))):
        raise InputError(
            f"the image is {image.dtype}{list(shape)}: give uint8 [H, W], [H, W, 1] or [H, W, 3]"
        )
    if not image.size:
        raise InputError(f"the image is {image.dtype}{list(shape)}: give at least one pixel")
    if len(shape) == 2:
        image = image[:, :, None]
    if image.shape[2] == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=2)
    grey = np.rint(image @ np.float32([0.299, 0.587, 0.114]))
    return grey.astype(np.uint8)[:, :, None]


def place(
    image: np.ndarray, target: tuple[int, int], *, method: str, fill: int = 127
) -> tuple[np.ndarray, Placement]:
    """Brings an image to a size; `fit_image` does the same for an `Inputs`.

    Args:
      image: u8[H, W, 3].
      target: (height, width).
      method: a key of `PLACEMENTS`.
      fill: value of the pixels around the image.
    Returns:
      u8[height, width, 3], resized bilinearly (antialiased when shrinking), and where it lies.
    Raises:
      InputError: an unknown method.
    """
    lookup(PLACEMENTS, method, "resize")
    return fit_image(image, Inputs(target, resize=method, fill=fill))


def _center_crop(size: tuple[int, int], target: tuple[int, int], shorter_side: int) -> Placement:
    """Computes where an image lies whose shorter side is resized, and whose centre is cut out."""
    factor = shorter_side / min(size)
    # Of the longer side a part of a pixel is left out, as torchvision does.
    height, width = (max(shorter_side, int(side * factor)) for side in size)
    top, left = round((height - target[0]) / 2), round((width - target[1]) / 2)
    return Placement(width / size[1], height / size[0], -left, -top)
