"""Inference on images of any size, by overlapping tiles of one size."""

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
    tile: int,
    margin: int,
    factor: int = 1,
    step: int = 1,
    batch_size: int = 1,
) -> np.ndarray:
    """What a network makes of an image of any size, of which it sees tiles of one size.

    The image is continued beyond its border by its mirror image, and cut into tiles that overlap.
    Of what comes of a tile only that stays which is `margin` away from the tile's border, so that
    every pixel is seen with its surroundings. As all batches have one shape, a jitted function is
    compiled once for images of all sizes. One batch at a time is on the device.

    For a convolutional network whose pixels depend on no others than those within `margin`, the
    result equals that for the whole image:
      - if the network pads nothing, so that it takes `lost` rows off each side (the paper's U-Net
        92, at 572 -> 388): everywhere, where the whole is the image mirrored by `lost`;
      - if it pads: wherever the image's border is `margin` away.
    Maps of lower resolution within the network must lie in the same places of tiles and whole: give
    `step`. A network that looks at the whole of what it is given, as one with a global pooling,
    has no such margin.

    Args:
      predict: images [B, tile, tile, C] -> [B, t, t, ...], a function for JAX, jitted. t is
        factor tile, or less by the same on all sides.
      image: number[H, W, C], of any height and width, on the host.
      tile: side of the tiles, in pixels: one that the network takes.
      margin: pixels along a tile's border for which nothing of it is kept; at least what `predict`
        takes off.
      factor: by which `predict` enlarges.
      step: the network's stride, that of its coarsest map: 16 for a U-Net of five levels. The
        distance between tiles is the largest multiple of it for which there is room.
      batch_size: tiles in a batch; the last is filled up.
    Returns:
      [factor H, factor W, ...], in the dtype of what `predict` gives, on the host.
    Raises:
      AssertionError: the image or what `predict` gives has another shape or dtype.
      InputError: the margin is smaller than what `predict` takes off, or too large for the tile, or
        an option is out of range.
    Source: Ronneberger, Fischer & Brox, "U-Net: convolutional networks for biomedical image
      segmentation", 2015, section 2 and figure 2.
    """
    image = check_pixels("image", image, ("H", "W", "C"), np.number)
    check_range("margin", margin, least=0)
    options = {"tile": tile, "factor": factor, "step": step, "batch_size": batch_size}
    for name, value in options.items():
        check_range(name, value, least=1)
    like = np.broadcast_to(image[:1, :1], (batch_size, tile, tile, image.shape[2]))
    output = jax.eval_shape(predict, like)
    cut = _check_output(output, like.shape, factor)

    lost = -(-cut // factor)
    check_range("margin", margin, least=lost)
    # Tiles start `before` a multiple of `step`, where the whole image mirrored by `lost` starts.
    before = lost + -(-(margin - lost) // step) * step
    stride = (tile - before - margin) // step * step
    if stride < 1:
        raise InputError(
            f"tile is {tile}: with margin {margin} and step {step} nothing of it is kept, give at "
            f"least {before + step + margin}"
        )
    height, width = image.shape[:2]
    corners = [(y, x) for y in range(0, height, stride) for x in range(0, width, stride)]
    result = np.empty((factor * height, factor * width, *output.shape[3:]), output.dtype)
    first = factor * before - cut
    for number in range(0, len(corners), batch_size):
        batch = corners[number : number + batch_size]
        filled = batch + batch[-1:] * (batch_size - len(batch))
        tiles = [cut_tile(image, (y - before, x - before), tile) for y, x in filled]
        found = jax.device_get(predict(np.stack(tiles)))
        for (y, x), of_tile in zip(batch, found, strict=False):
            top, left, side = factor * y, factor * x, factor * stride
            place = result[top : top + side, left : left + side]
            place[...] = of_tile[first : first + place.shape[0], first : first + place.shape[1]]
    return result


def _check_output(output: Any, shape: tuple[int, ...], factor: int) -> int:
    """The pixels that it lacks on each side, for tiles of a shape."""
    count, tile = shape[:2]
    if not isinstance(output, jax.ShapeDtypeStruct):
        raise AssertionError(f"predict gives a {type(output).__name__}: give one array")
    given = f"predict gives {output.dtype}{list(output.shape)} of {list(shape)}"
    if output.ndim < 3 or output.shape[0] != count or output.shape[1] != output.shape[2]:
        raise AssertionError(f"{given}: give [{count}, t, t, ...]")
    lacking = factor * tile - output.shape[1]
    if lacking < 0 or lacking % 2:
        raise AssertionError(
            f"{given}: with factor {factor}, give {factor * tile} rows and columns, or fewer by as "
            "many on either side"
        )
    return lacking // 2
