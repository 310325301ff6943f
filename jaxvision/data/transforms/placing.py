"""Resizes and pads an image to the size of a network's input, on the host."""

from typing import Any

import numpy as np
from PIL import Image

from jaxvision.core import InputError, Inputs, check_range, lookup
from jaxvision.core.inputs import RESIZE
from jaxvision.data.sources.source import Record, image_of
from jaxvision.ops.placement import (
    PLACEMENTS,
    Placement,
    paste,
    placed_size,
    placement_of,
)

try:
    import cykooz_resizer
except ImportError:  # Pillow resizes windows then
    cykooz_resizer = None

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

    Pillow resizes it, but for windows with "bilinear", which random crops have: if cykooz-resizer
    is installed, it resizes these in a quarter of the time, to values at most 1 off Pillow's.

    Args:
      image: u8[H, W, C].
      size: (height, width) of the result.
      method: a key of `METHODS`.
      window: the part that is resized; pixels around it count too, as far as the filter reaches.
        None: all.
    Returns:
      u8[height, width, C].
    """
    fast = cykooz_resizer is not None and method == "bilinear" and image.shape[2] in (1, 3)
    if window is not None and fast:
        return _resize_window(image, size, window)
    top, left, height, width = window or (0, 0, *image.shape[:2])
    box = (left, top, left + width, top + height)
    if image.shape[2] == 3:
        return np.asarray(Image.fromarray(image).resize(size[::-1], METHODS[method], box=box))
    channels = [
        np.asarray(Image.fromarray(image[:, :, c]).resize(size[::-1], METHODS[method], box=box))
        for c in range(image.shape[2])
    ]
    return np.stack(channels, axis=-1)


def _resize_window(image: np.ndarray, size: tuple[int, int], window: Window) -> np.ndarray:
    """Does the same as `resize_image`, bilinearly and with 1 or 3 channels."""
    (height, width, channels), (top, left, rows, columns) = image.shape, window
    kind = {1: cykooz_resizer.PixelType.U8, 3: cykooz_resizer.PixelType.U8x3}[channels]
    source = cykooz_resizer.ImageData(width, height, kind, image.tobytes())
    result = cykooz_resizer.ImageData(size[1], size[0], kind)
    options = cykooz_resizer.ResizeOptions(
        cykooz_resizer.ResizeAlg.convolution(cykooz_resizer.FilterType.bilinear),
        crop_box=cykooz_resizer.CropBox(left, top, columns, rows),
    )
    # Threads cannot share one: it keeps the rows in between.
    cykooz_resizer.Resizer().resize(source, result, options)
    return np.frombuffer(result.get_buffer(), np.uint8).reshape(*size, channels)


def interpolate(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes an image as torchvision's detectors do: bilinearly, without antialiasing or rounding.

    Row i of h rows is at the row (i + 1/2) H / h - 1/2 of the image's H rows, clipped to the first
    and the last.

    Args:
      image: [H, W, C], integers or floats.
      size: (height, width) of the result.
    Returns:
      [height, width, C], float32, or the image's dtype if that is float64.
    """
    image = image.astype(np.result_type(image.dtype, np.float32))
    # The axis that shrinks most is resized first, so that the second step has less to compute.
    for axis in sorted((0, 1), key=lambda axis: size[axis] / image.shape[axis]):
        image = _interpolate_along(image, axis, size[axis])
    return image


def _interpolate_along(image: np.ndarray, axis: int, new: int) -> np.ndarray:
    old, number = image.shape[axis], image.dtype.type
    if new == old:
        return image
    place = number(old) / number(new) * (np.arange(new, dtype=number) + number(0.5)) - number(0.5)
    place = np.clip(place, 0, old - 1)
    low = place.astype(int)
    share = (place - low.astype(number)).reshape(-1, *(1,) * (image.ndim - 1 - axis))
    high = np.minimum(low + 1, old - 1)
    return image.take(low, axis) * (1 - share) + image.take(high, axis) * share


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
    lookup(PLACEMENTS, method, "resize")
    return fit_image(image, Inputs(target, resize=method, fill=fill))


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


def place_image(
    record: Record, where: str, inputs: Inputs, size: tuple[int, int] | None = None
) -> tuple[np.ndarray, Placement]:
    """Brings the image of a record to a network's input.

    Args:
      record: with "image" u8[H, W, C].
      where: names the record in messages.
      inputs: of the network.
      size: as for `fit_image`.
    Returns:
      u8 or f32 [height, width, C], and where the image lies in it.
    Raises:
      InputError: as for `checked_image`; or the image has another size, and `inputs.resize` is
        None.
    """
    image = checked_image(record, where, inputs)
    try:
        return fit_image(image, inputs, size)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def fit_image(
    image: np.ndarray, inputs: Inputs, size: tuple[int, int] | None = None
) -> tuple[np.ndarray, Placement]:
    """Brings an image to the size of a network's input, in the way that `inputs` says.

    Args:
      image: u8[H, W, C]; with `resampling` "float32" also floats in 0..255.
      inputs: all but `channels` and `std` are used.
      size: (height, width) of the result, in which an image may be smaller than in its own; None:
        that of `inputs.size_of`.
    Returns:
      [height, width, C], uint8, or float32 with `resampling` "float32" (float64 of a float64
      image); and where the image lies in it.
    Raises:
      InputError: the image has another size, and `inputs.resize` is None.
    """
    given = image.shape[:2]
    if inputs.resize is None:
        if given != inputs.size:
            (height, width), (rows, columns) = given, inputs.size
            raise InputError(
                f"the image has {width} x {height} pixels instead of {columns} x {rows}: "
                f"make the size ({height}, {width}), or set resize to one of {', '.join(RESIZE)}"
            )
        return image, Placement(1, 1, 0, 0)
    size = inputs.size_of(given) if size is None else size
    placement = placement_of(given, inputs, size)
    return _placed(image, size, placement, inputs), placement


def resize_for(
    image: np.ndarray, size: tuple[int, int], inputs: Inputs, *, window: Window | None = None
) -> np.ndarray:
    """Resizes an image, or a window of it, with the method and the resampling of `inputs`.

    Args:
      image: as for `fit_image`.
      size: (height, width) of the result.
      inputs: its `method` and `resampling` are used.
      window: the part that is resized; None: all.
    Returns:
      [height, width, C], of the dtype of `fit_image`.
    """
    if inputs.resampling == "float32":
        if window is not None:
            top, left, height, width = window
            image = image[top : top + height, left : left + width]
        return interpolate(image, size)
    if window is None and size == image.shape[:2]:
        return image
    return resize_image(image, size, method=inputs.method, window=window)


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


def extent_in(inputs: Inputs, placed: np.ndarray, placement: Placement, size: Any) -> np.ndarray:
    """Returns the extent of an image in a network's input, i32[2]: all of it without its padding.

    Args:
      inputs: of the network.
      placed: [height, width, C], the input.
      placement: where the image lies in it.
      size: (height, width) of the original image.
    """
    extent = placed_size(size, placement) if inputs.pads else placed.shape[:2]
    return np.array(extent, np.int32)


def _placed(
    image: np.ndarray, target: tuple[int, int], placement: Placement, inputs: Inputs
) -> np.ndarray:
    image = resize_for(image, placed_size(image.shape[:2], placement), inputs)
    if image.shape[:2] == target:
        return image
    result = np.empty((*target, image.shape[2]), image.dtype)
    result[...] = _fill(inputs, image.dtype)
    paste(image, result, placement)
    return result


def _fill(inputs: Inputs, dtype: Any) -> np.ndarray:
    """The values of the pixels that an image does not cover."""
    if not inputs.pads:
        return np.array(inputs.fill, dtype)
    # Nearly 0 after normalisation, also where an augmentation moves it; `prepare` makes it 0.
    mean = 255 * np.array(inputs.mean)
    return np.rint(mean).clip(0, 255).astype(dtype) if dtype == np.uint8 else mean.astype(dtype)


def points_inside(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns which points f[K, 2] (xy) lie in an image of a size (height, width): bool[K]."""
    return ((points >= 0) & (points <= np.array(size[::-1]))).all(axis=1)
