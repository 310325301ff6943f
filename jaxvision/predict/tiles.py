"""Runs a function on images of any size, by overlapping tiles of one size."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import Array

from jaxvision.core import InputError, check_range
from jaxvision.data import cut_tile
from jaxvision.predict.arrays import check_pixels


def predict_in_tiles(
    predict: Callable[[Array], Array],
    image: np.ndarray,
    *,
    tile: int | tuple[int, int],
    margin: int,
    factor: int = 1,
    step: int = 1,
    batch_size: int = 1,
) -> np.ndarray:
    """Runs a function on an image of any size; the function sees only tiles of one size.

    The image is continued beyond its border by its mirror image, and is cut into tiles that
    overlap. Of the result of a tile, what is nearer than `margin` to the tile's border is not used,
    so that every pixel of the result was computed with its surroundings. All batches have one
    shape, so a jitted function is compiled once for images of all sizes. One batch at a time is on
    the device.

    If each pixel of a convolutional network's result depends only on pixels within `margin`, then
    the result equals that for the whole image:
      - everywhere, if the network pads nothing and therefore takes `lost` rows off each side (the
        paper's U-Net takes 92: 572 -> 388), where the whole is the image mirrored by `lost`;
      - at places whose distance to the image's border is at least `margin`, if the network pads.
    Maps of lower resolution in the network must have the same grid in tiles and in the whole image:
    give `step`. A network that looks at the whole of its input, such as one with a global pooling,
    has no such margin.

    Args:
      predict: images [B, *tile, C] -> [B, h, w, ...], a function for JAX, jitted. h and w are
        factor times the tile's height and width, or less by the same number on all sides.
      image: number[H, W, C], of any height and width, on the host.
      tile: (height, width) of the tiles, or the side of square ones, pixels; the network must take
        images of this size.
      margin: width of the border of a tile whose result is not used, pixels; at least what
        `predict` takes off.
      factor: by which `predict` enlarges.
      step: the network's stride, that is, the stride of its coarsest map: 16 for a U-Net of five
        levels. The distance between tiles is the largest multiple of it that is possible.
      batch_size: tiles in a batch; the last batch is filled up.
    Returns:
      [factor H, factor W, ...], in the dtype of the result of `predict`, on the host.
    Raises:
      AssertionError: the image or the result of `predict` has another shape or dtype.
      InputError: the margin is smaller than what `predict` takes off, or too large for the tile, or
        an option is out of range.
    Source: Ronneberger, Fischer & Brox, "U-Net: convolutional networks for biomedical image
      segmentation", 2015, section 2 and figure 2.
    """
    image = check_pixels("image", image, ("H", "W", "C"), np.number)
    check_range("margin", margin, least=0)
    sides = (tile, tile) if isinstance(tile, int) else tuple(tile)
    for side in sides:
        check_range("tile", side, least=1)
    for name, value in {"factor": factor, "step": step, "batch_size": batch_size}.items():
        check_range(name, value, least=1)
    like = np.broadcast_to(image[:1, :1], (batch_size, *sides, image.shape[2]))
    output = jax.eval_shape(predict, like)
    cut = _check_output(output, like.shape, factor)

    lost = -(-cut // factor)
    check_range("margin", margin, least=lost)
    # Tiles start `before` a multiple of `step`, where the whole image mirrored by `lost` starts.
    before = lost + -(-(margin - lost) // step) * step
    strides = [(side - before - margin) // step * step for side in sides]
    if min(strides) < 1:
        raise InputError(
            f"tile is {min(sides)}: with margin {margin} and step {step} nothing of it is used: "
            f"give at least {before + step + margin}"
        )
    corners = [
        (y, x)
        for y in range(0, image.shape[0], strides[0])
        for x in range(0, image.shape[1], strides[1])
    ]
    result = np.empty(
        (factor * image.shape[0], factor * image.shape[1], *output.shape[3:]), output.dtype
    )
    first = factor * before - cut
    for number in range(0, len(corners), batch_size):
        batch = corners[number : number + batch_size]
        filled = batch + batch[-1:] * (batch_size - len(batch))
        tiles = [_cut(image, (y - before, x - before), sides) for y, x in filled]
        found = jax.device_get(predict(np.stack(tiles)))
        for (y, x), of_tile in zip(batch, found, strict=False):
            top, left = factor * y, factor * x
            place = result[top : top + factor * strides[0], left : left + factor * strides[1]]
            place[...] = of_tile[first : first + place.shape[0], first : first + place.shape[1]]
    return result


def _cut(image: np.ndarray, origin: tuple[int, int], sides: tuple[int, ...]) -> np.ndarray:
    """Cuts a tile out of the image, which is continued by its mirror image."""
    return cut_tile(image, origin, max(sides))[: sides[0], : sides[1]]


def _check_output(output: Any, shape: tuple[int, ...], factor: int) -> int:
    """Computes how many pixels the result lacks on each side.

    Args:
      output: the shape and dtype of what `predict` gives.
      shape: of the batch of tiles.
      factor: as for `predict_in_tiles`.
    Raises:
      AssertionError: the result is not one array with such a shape.
    """
    if not isinstance(output, jax.ShapeDtypeStruct):
        raise AssertionError(f"predict gives a {type(output).__name__}: give one array")
    given = f"predict gives {output.dtype}{list(output.shape)} for {list(shape)}"
    if output.ndim < 3 or output.shape[0] != shape[0]:
        raise AssertionError(f"{given}: give [{shape[0]}, h, w, ...]")
    rows, columns = (factor * side for side in shape[1:3])
    lacking = rows - output.shape[1]
    if lacking < 0 or lacking % 2 or columns - output.shape[2] != lacking:
        raise AssertionError(
            f"{given}: with factor {factor}, give {rows} rows and {columns} columns, or fewer by "
            "the same number on all sides"
        )
    return lacking // 2
