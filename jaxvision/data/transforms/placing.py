"""Resizes and pads an image to the size of a network's input, on the host."""

import numpy as np
from PIL import Image

from jaxvision.core import InputError, Inputs, check_range, lookup
from jaxvision.core.inputs import RESIZE
from jaxvision.data.sources.source import Record, image_of
from jaxvision.ops.placement import (
    PLACEMENTS,
    Placement,
    center_crop,
    paste,
    placed_size,
)

METHODS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
"""Ways to bring an image to another size; all but nearest are antialiased where they shrink."""

Window = tuple[int, int, int, int]
"""(top, left, height, width) of a part of an image."""


def resize_image(
    image: np.ndarray,
    size: tuple[int, int],
    *,
    method: str = "bilinear",
    window: Window | None = None,
) -> np.ndarray:
    """Resizes an image, or a window of it.

    Args:
      image: u8[H, W, C].
      size: (height, width) of the result.
      method: a key of `METHODS`.
      window: the part that is resized; None: all.
    Returns:
      u8[height, width, C].
    """
    top, left, height, width = window or (0, 0, *image.shape[:2])
    box = (left, top, left + width, top + height)
    if image.shape[2] == 3:
        return np.asarray(Image.fromarray(image).resize(size[::-1], METHODS[method], box=box))
    channels = [
        np.asarray(Image.fromarray(image[:, :, c]).resize(size[::-1], METHODS[method], box=box))
        for c in range(image.shape[2])
    ]
    return np.stack(channels, axis=-1)


def place(
    image: np.ndarray, target: tuple[int, int], *, method: str, fill: int = 127
) -> tuple[np.ndarray, Placement]:
    """Brings an image to the size of a network's input.

    Args:
      image: u8[H, W, C].
      target: (height, width) of the network's input.
      method: a key of `PLACEMENTS`.
      fill: value of the pixels that the image does not cover.
    Returns:
      u8[height, width, C], resized bilinearly (antialiased where it shrinks), and where it lies.
    Raises:
      InputError: an unknown method.
    """
    check_range("fill", fill, least=0, most=255)
    placement = lookup(PLACEMENTS, method, "resize")(image.shape[:2], target)
    return _placed(image, target, placement, method="bilinear", fill=fill), placement


def checked_image(record: Record, where: str, inputs: Inputs) -> np.ndarray:
    """Returns the image of a record, u8[H, W, C].

    Args:
      record: with "image".
      where: names the record in messages.
      inputs: of the network.
    Raises:
      InputError: it has another dtype or rank, or another number of channels than the network.
    """
    image = image_of(record, where)
    channels = image.shape[2]
    if channels != inputs.channels:
        fix = f"set channels={channels}" if channels in (1, 3) else "store it as grey or RGB"
        raise InputError(
            f"{where}: the image has {channels} channels instead of {inputs.channels}: {fix}"
        )
    return image


def place_image(record: Record, where: str, inputs: Inputs) -> tuple[np.ndarray, Placement]:
    """Brings the image of a record to a network's input.

    Args:
      record: with "image" u8[H, W, C].
      where: names the record in messages.
      inputs: of the network.
    Returns:
      u8[height, width, C], and where the image lies in it.
    Raises:
      InputError: as for `checked_image`; or the image has another size, and `inputs.resize` is
        None.
    """
    image = checked_image(record, where, inputs)
    try:
        return fit_image(image, inputs)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def fit_image(image: np.ndarray, inputs: Inputs) -> tuple[np.ndarray, Placement]:
    """Brings an image to the size of a network's input, in the way that `inputs` says.

    Args:
      image: u8[H, W, C].
      inputs: its `size`, `resize`, `method`, `shorter_side` and `fill` are used.
    Returns:
      u8[height, width, C], and where the image lies in it.
    Raises:
      InputError: the image has another size, and `inputs.resize` is None.
    """
    size = image.shape[:2]
    if inputs.resize is None:
        if size != inputs.size:
            (height, width), (rows, columns) = size, inputs.size
            raise InputError(
                f"the image has {width} x {height} pixels instead of {columns} x {rows}: "
                f"make the size ({height}, {width}), or set resize to one of {', '.join(RESIZE)}"
            )
        return image, Placement(1, 1, 0, 0)
    if inputs.resize == "crop":
        placement = center_crop(size, inputs.size, inputs.shorter_side)
    else:
        placement = PLACEMENTS[inputs.resize](size, inputs.size)
    placed = _placed(image, inputs.size, placement, method=inputs.method, fill=inputs.fill)
    return placed, placement


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
    shape = image.shape
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


def extent_in(inputs: Inputs) -> np.ndarray:
    """Returns the extent of an image in a network's input, i32[2]: all of it."""
    return np.array(inputs.size, np.int32)


def _placed(
    image: np.ndarray, target: tuple[int, int], placement: Placement, *, method: str, fill: int
) -> np.ndarray:
    size = placed_size(image, placement)
    if size != image.shape[:2]:
        image = resize_image(image, size, method=method)
    if size == target:
        return image
    result = np.full((*target, image.shape[2]), fill, np.uint8)
    paste(image, result, placement)
    return result
