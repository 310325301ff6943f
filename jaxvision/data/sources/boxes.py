"""Checks the boxes of annotations against their image, and clips them to it."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

ROUNDING = 0.5  # pixels by which a box may reach beyond its image


def box_problems(boxes: np.ndarray, size: tuple[int, int]) -> Iterator[str]:
    """Finds what is wrong with the boxes of an image, if anything is.

    The corners of a box must be in order. It must lie in the image, up to `ROUNDING`, and the part
    that lies there must have an area.

    Args:
      boxes: f64[G, 4], xyxy, pixels.
      size: (height, width) of the image.
    Yields:
      a line for each bad box, with its number from 1.
    """
    for number, (box, inside) in enumerate(
        zip(boxes.tolist(), clip_boxes(boxes, size).tolist(), strict=True), start=1
    ):
        reason = _wrong_with(box, inside, size)
        if reason:
            shown = ", ".join(f"{x:g}" for x in box)
            yield f"box {number} ({shown}) {reason}"


def clip_boxes(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the parts of boxes that lie in the image; arguments as for `box_problems`."""
    height, width = size
    return np.clip(boxes, 0, np.array([[width, height, width, height]]))


def box_windows(
    boxes: np.ndarray, size: tuple[int, int], *, margin: float = 0.0, square: bool = False
) -> np.ndarray:
    """Computes the windows of an image that show its boxes, in whole pixels.

    A window's sides are those of the box, and it begins where the box begins, both to the nearest
    pixel. What would lie beyond the image is cut off.

    Args:
      boxes: f64[G, 4], xyxy, pixels.
      size: (height, width) of the image.
      margin: what a window shows on each side of the box, as a share of the box's longer side.
      square: sides both as the longer one, with the box in the middle; but a window that would lie
        beyond the image is moved into it, and cut only where it is larger than the image.
    Returns:
      i64[G, 4], xyxy: a window is image[y1:y2, x1:x2], and has a pixel at least.
    """
    start, sides = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    longer = sides.max(axis=1, keepdims=True)
    around = margin * longer + ((longer - sides) / 2 if square else 0)
    first, count = (
        np.floor(x + 0.5).astype(np.int64) for x in (start - around, sides + 2 * around)
    )
    image = np.array([size[::-1]])
    if square:
        first = np.clip(first, 0, np.maximum(image - count, 0))
    last = np.clip(first + count, 1, image)
    return np.concatenate([np.clip(first, 0, last - 1), last], axis=1)


def _wrong_with(box: Sequence[float], inside: Sequence[float], size: tuple[int, int]) -> str | None:
    if not all(map(math.isfinite, box)):
        return "is not finite"
    x1, y1, x2, y2 = box
    if x2 < x1 or y2 < y1:
        return "has its corners in the wrong order (x2 < x1 or y2 < y1)"
    if x2 == x1 or y2 == y1:
        return "has no area"
    if any(abs(x - nearest) > ROUNDING for x, nearest in zip(box, inside, strict=True)):
        return "reaches beyond the image of {1} x {0}".format(*size)
    x1, y1, x2, y2 = inside
    if x2 == x1 or y2 == y1:
        return "has no area in the image"
    return None
