"""Labels of an image's pixels, whatever its size."""

from collections.abc import Callable

import numpy as np
from jax import Array

from jaxvision.data import Placement
from jaxvision.predict.tiles import predict_in_tiles


def labels_of_original(
    labels: np.ndarray, placement: Placement, size: tuple[int, int]
) -> np.ndarray:
    """The labels of an image that was resized for the network: those of the nearest pixels.

    Args:
      labels: int[h, w], of the network's input.
      placement: where the image lies in it.
      size: (height, width) of the image.
    Returns:
      int[height, width].
    """
    scales = placement.scale_y, placement.scale_x
    offsets = placement.offset_y, placement.offset_x
    rows, columns = (
        np.clip(np.floor((np.arange(side) + 0.5) * scale + offset), 0, most - 1).astype(int)
        for side, scale, offset, most in zip(size, scales, offsets, labels.shape, strict=True)
    )
    return labels[rows[:, None], columns[None]]


def label_tiles(
    predict: Callable[[Array], Array], image: np.ndarray, *, tile: int, labelled: int, step: int
) -> np.ndarray:
    """The labels of an image of any size, tile by tile; see `predict_in_tiles`.

    Of a tile, what is nearer to its border than an eighth of its side is not kept.

    Args:
      predict: images u8[B, tile, tile, 3] -> int[B, labelled, labelled], jitted.
      image: u8[H, W, 3].
      tile: pixels a side.
      labelled: of them, those in the middle that `predict` labels.
      step: the network's stride, as for `predict_in_tiles`.
    Returns:
      int[H, W].
    """
    margin = max(tile // 8, (tile - labelled) // 2)
    return predict_in_tiles(predict, image, tile=tile, margin=margin, step=step)
