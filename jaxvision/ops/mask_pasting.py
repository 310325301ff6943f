"""Puts the small masks of a detector, one for each box, into the image; on the host, with numpy.

The rules are those of torchvision's Mask R-CNN: a mask of M x M cells is padded by one cell of 0 on
all sides, and its box is enlarged about its centre by (M + 2) / M. The corners of that box are cut
to integers towards zero; the box covers x2 - x1 + 1 pixels across and y2 - y1 + 1 pixels down, at
least 1. The padded mask is resized to these pixels bilinearly, between the centres of its cells and
without antialiasing, and cut at the image's edges.

Sources: He et al., Mask R-CNN, 2017, section 3.1; torchvision, `models/detection/roi_heads.py`.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxvision.core import InputError
from jaxvision.ops.run_lengths import MaskTable, checked

_FARTHEST = 2**30  # pixels


class _Window(NamedTuple):
    """The part of a mask that is not background.

    Attributes:
      left: column of the image at which it begins.
      top: row of the image.
      pixels: bool[w, h], column by column; w or h may be 0.
    """

    left: int
    top: int
    pixels: np.ndarray


def paste_masks(
    probabilities: Any, boxes: Any, size: tuple[int, int], *, threshold: float = 0.5
) -> np.ndarray:
    """Puts the masks of boxes into the image.

    Many masks of a large image take much memory: `paste_run_lengths` needs less.

    Args:
      probabilities: f[D, M, M], of the cells of each box, row by row, in 0..1.
      boxes: f[D, 4], xyxy, pixels of the image; they may reach beyond it.
      size: (height, width) of the image.
      threshold: a pixel belongs to the object if its probability is above it.
    Returns:
      bool[D, height, width].
    Raises:
      InputError: a coordinate is not finite, or more than 2^30 in magnitude.
    """
    height, width = size
    windows = _windows(probabilities, boxes, size, threshold)
    masks = np.zeros((len(boxes), height, width), bool)
    for mask, (left, top, pixels) in zip(masks, windows, strict=True):
        w, h = pixels.shape
        mask[top : top + h, left : left + w] = pixels.T
    return masks


def paste_run_lengths(
    probabilities: Any, boxes: Any, size: tuple[int, int], *, threshold: float = 0.5
) -> MaskTable:
    """Puts the masks of boxes into the image, as run-lengths; see `paste_masks`.

    Args:
      probabilities: f[D, M, M], of the cells of each box, row by row, in 0..1.
      boxes: f[D, 4], xyxy, pixels of the image; they may reach beyond it.
      size: (height, width) of the image.
      threshold: a pixel belongs to the object if its probability is above it.
    Returns:
      D masks, with as few runs as possible.
    Raises:
      InputError: a coordinate is not finite, or more than 2^30 in magnitude.
    """
    height, width = size
    parts = [
        _run_lengths(window, height, width)
        for window in _windows(probabilities, boxes, size, threshold)
    ]
    return MaskTable(
        sizes=np.tile(np.int64([height, width]), (len(parts), 1)),
        counts=np.concatenate([np.zeros(0, np.int64), *parts]),
        splits=np.cumsum([0, *map(len, parts)]),
    )


def _windows(
    probabilities: Any, boxes: Any, size: tuple[int, int], threshold: float
) -> Iterator[_Window]:
    """Computes the pixels of each box that are in the image.

    Raises:
      InputError: a coordinate is not finite, or more than 2^30 in magnitude.
    """
    probabilities = checked("probabilities", probabilities, 3, np.floating, "f[D, M, M]")
    count, cells = probabilities.shape[:2]
    if probabilities.shape[2] != cells:
        raise AssertionError(f"probabilities has shape {probabilities.shape}: give f[D, M, M]")
    boxes = checked("boxes", boxes, 2, np.floating, f"f[{count}, 4]", count)
    if boxes.shape[1] != 4:
        raise AssertionError(f"boxes has shape {boxes.shape}: give f[{count}, 4]")
    wrong = np.flatnonzero(~(np.abs(boxes) <= _FARTHEST).all(axis=1))
    if wrong.size:
        raise InputError(
            f"boxes[{wrong[0]}] is {boxes[wrong[0]].tolist()}: give numbers of at most "
            f"{_FARTHEST} in magnitude"
        )
    return _computed(probabilities, boxes, size, threshold)


def _computed(
    probabilities: np.ndarray, boxes: np.ndarray, size: tuple[int, int], threshold: float
) -> Iterator[_Window]:
    cells = probabilities.shape[1] + 2
    first, last = _enlarged(boxes, cells / (cells - 2))
    # Ends before the image or begins behind it: nothing of it is in the image.
    sides = np.array(size[::-1])
    lengths = np.maximum(last - first + 1, 1)
    begins = np.clip(first, 0, sides)
    ends = np.clip(last + 1, begins, sides)
    padded = np.zeros((cells, cells), probabilities.dtype)
    for mask, start, length, begin, end in zip(
        probabilities, first, lengths, begins, ends, strict=True
    ):
        padded[1:-1, 1:-1] = mask
        left, top = begin.tolist()
        rows = _interpolated(padded, top - start[1], end[1] - start[1], length[1])
        # From here on column by column, as run-lengths need it.
        columns = np.ascontiguousarray(rows.T)
        pixels = _interpolated(columns, left - start[0], end[0] - start[0], length[0])
        yield _Window(left, top, pixels > threshold)


def _enlarged(boxes: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Enlarges boxes about their centres: f[D, 4] -> corners i64[D, 2], xy, cut towards zero."""
    low, high = boxes[:, :2], boxes[:, 2:]
    center, half = (high + low) * 0.5, (high - low) * 0.5 * scale
    return (center - half).astype(np.int64), (center + half).astype(np.int64)


def _interpolated(cells: np.ndarray, begin: int, end: int, length: int) -> np.ndarray:
    """Resizes C rows to `length` ones, of which rows begin..end - 1 are computed.

    Args:
      cells: f[C, N].
    Returns:
      f[end - begin, N].
    """
    dtype = cells.dtype.type
    middle = np.arange(begin, end).astype(dtype) + dtype(0.5)
    place = np.maximum(dtype(len(cells)) / dtype(length) * middle - dtype(0.5), 0)
    before = place.astype(np.int64)
    share = (place - before.astype(dtype))[:, None]
    after = np.minimum(before + 1, len(cells) - 1)
    return cells[before] * (1 - share) + cells[after] * share


def _run_lengths(window: _Window, height: int, width: int) -> np.ndarray:
    """The counts of a mask, i64[R], see `RunLengths`."""
    left, top, pixels = window
    framed = np.zeros((pixels.shape[0], pixels.shape[1] + 2), bool)
    framed[:, 1:-1] = pixels
    column, row = np.nonzero(framed[:, 1:] != framed[:, :-1])
    changes = (left + column) * height + top + row
    # A run that ends at the bottom goes on at the top of the next column.
    goes_on = np.flatnonzero(changes[1:] == changes[:-1])
    changes = np.delete(changes, np.concatenate([goes_on, goes_on + 1]))
    changes = changes[changes < height * width]
    return np.diff(changes, prepend=0, append=height * width)
