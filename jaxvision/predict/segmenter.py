"""Computes the labels of an image's pixels, for an image of any size."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from jax import Array

from jaxvision.core import IGNORED
from jaxvision.ops.placement import Placement
from jaxvision.predict.batches import computed
from jaxvision.predict.tiles import Tiles


def labels_of_original(
    labels: np.ndarray,
    placement: Placement,
    size: tuple[int, int],
    *,
    input_size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Computes the labels of an image from those of the network's input: the nearest pixel's.

    Args:
      labels: int[h, w], of the network's input, or of its centre if the network takes its border
        off.
      placement: where the image lies in the network's input.
      size: (height, width) of the image.
      input_size: (height, width) of the network's input; None: that of the labels.
    Returns:
      int[height, width]; `jaxvision.core.IGNORED` where the network gives no label, as for pixels
      that a crop cuts off.
    """
    scales = placement.scale_y, placement.scale_x
    offsets = placement.offset_y, placement.offset_x
    indices, known = [], []
    for axis in range(2):
        border = 0 if input_size is None else (input_size[axis] - labels.shape[axis]) // 2
        centers = (np.arange(size[axis]) + 0.5) * scales[axis] + offsets[axis]
        places = np.floor(centers).astype(int) - border
        known.append((places >= 0) & (places < labels.shape[axis]))
        indices.append(np.clip(places, 0, labels.shape[axis] - 1))
    found = labels[indices[0][:, None], indices[1][None]]
    inside = known[0][:, None] & known[1][None]
    return found if inside.all() else np.where(inside, found, np.asarray(IGNORED, found.dtype))


def label_tiles(
    predict: Callable[[Array], Array],
    image: np.ndarray,
    *,
    tile: tuple[int, int],
    labelled: tuple[int, int],
    step: int,
    batch_size: int = 1,
    overlap: float = 0.25,
    average: bool = False,
) -> np.ndarray:
    """Computes the labels of an image of any size, tile by tile; see `predict_in_tiles`.

    What is nearer to the border of a tile than half of the overlap is not used, or is averaged with
    the other tiles.

    Args:
      predict: images u8[B, *tile, C] -> int[B, *labelled], jitted; with `average` the probabilities
        of the classes, f32[B, *labelled, K].
      image: u8[H, W, C].
      tile: (height, width) of a tile, pixels.
      labelled: (height, width) of the centre of a tile that `predict` labels.
      step: the network's stride, as for `predict_in_tiles`.
      batch_size: tiles in a batch.
      overlap: share of the tile's shorter side by which neighbouring tiles overlap at least.
      average: whether the probabilities of overlapping tiles are averaged.
    Returns:
      int[H, W].
    """
    tiles = LabelTiles(
        predict,
        image,
        tile=tile,
        labelled=labelled,
        step=step,
        batch_size=batch_size,
        overlap=overlap,
        average=average,
    )
    return computed(tiles, batch_size).result()


class LabelTiles(Tiles):
    """The tiles of an image, and its labels; the arguments are those of `label_tiles`."""

    def __init__(
        self,
        predict: Callable[[Array], Array],
        image: np.ndarray,
        *,
        tile: tuple[int, int],
        labelled: tuple[int, int],
        overlap: float = 0.25,
        **how: Any,
    ):
        lost = max((side - kept) // 2 for side, kept in zip(tile, labelled, strict=True))
        margin = max(int(min(tile) * overlap / 2), lost)
        super().__init__(predict, image, tile=tile, margin=margin, **how)
        self._average = how.get("average", False)

    def result(self) -> np.ndarray:
        """The labels int[H, W], when the results of all tiles are here."""
        found = super().result()
        return found.argmax(axis=-1) if self._average else found


def stride_of_maps(names: Iterable[str]) -> int:
    """Computes a network's stride from the names of its maps: 2 ** n for the coarsest map, cn."""
    levels = [int(name[1:]) for name in names if re.fullmatch(r"c\d+", name)]
    return 2 ** max(levels, default=0)
