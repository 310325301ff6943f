"""Polygons in COCO's form, and their masks, computed on the host with numpy."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxvision.core import InputError
from jaxvision.ops.run_lengths import RunLengths, checked, concatenated_ranges, mask_area

_FINE = 5  # points of a polygon's boundary along the side of a pixel
_FARTHEST = 2**16  # pixels; bounds the number of points of a boundary, each of which is a step


@dataclasses.dataclass(frozen=True, eq=False)
class Polygons:
    """One mask as polygons, in COCO's form: the mask is the union of their interiors.

    Attributes:
      corners: f64[P, 2] for each polygon, (x, y) in pixels, P at least 3. The last corner is joined
        to the first one. Corners may lie outside the image.
    Raises:
      InputError: there is no polygon, a polygon has fewer than 3 corners, or a coordinate is not
        finite or is more than 65,536 in magnitude.
    """

    corners: tuple[np.ndarray, ...]

    def __post_init__(self):
        corners = tuple(
            checked(f"corners[{index}]", x, 2, np.number, "number[P, 2]").astype(np.float64)
            for index, x in enumerate(self.corners)
        )
        if not corners:
            raise InputError("corners is empty: give at least one polygon")
        for index, x in enumerate(corners):
            if x.shape[1] != 2:
                raise AssertionError(f"corners[{index}] has shape {x.shape}: give number[P, 2]")
            if len(x) < 3:
                raise InputError(f"corners[{index}] has {len(x)} corners: give at least 3")
            if not (np.abs(x) <= _FARTHEST).all():
                raise InputError(
                    f"corners[{index}] has a coordinate that is not finite or more than "
                    f"{_FARTHEST} in magnitude"
                )
        object.__setattr__(self, "corners", corners)


def encode_polygons(polygons: Polygons, size: tuple[int, int]) -> RunLengths:
    """Converts polygons to run-lengths; the mask equals that of COCO's mask interface exactly.

    A corner is moved to a grid five times as fine as the pixels: (u, v) = (5 x + 1/2, 5 y + 1/2)
    with the fractions cut off. An edge is followed along its longer side (u if both are equal),
    from the lower end, point by point; the other coordinate is rounded in the same way. A step
    between u = 5 x + 2 and 5 x + 3 crosses the middle of column x. In this column inside and
    outside are exchanged from row ceil((v - 2) / 5) on, with the lower v of the step's two points.

    Args:
      polygons: the polygons of one mask.
      size: (height, width) of the image.
    Returns:
      the run-lengths, with as few runs as possible.
    Raises:
      InputError: size is not two integers of at least 0.
    Source: COCO's mask interface (Lin et al. 2014, "Microsoft COCO").
    """
    if not isinstance(polygons, Polygons):
        raise AssertionError(f"polygons is {type(polygons).__name__}: give Polygons")
    height, width = size
    _, changes = _changes(polygons.corners, size)
    # The runs of all polygons on one line: a pixel is in the mask if more runs began than ended.
    begins = changes[0::2]
    ends = np.concatenate([begins, changes[1::2]])
    order = np.argsort(ends, kind="stable")  # at equal positions, begins come before ends
    held = np.cumsum(np.where(order < begins.size, 1, -1)) > 0
    ends = ends[order][held != np.concatenate([[False], held[:-1]])]
    ends = ends[ends < height * width]
    return RunLengths(size, np.diff(ends, prepend=0, append=height * width))


def polygons_have_pixels(masks: Sequence[Polygons], size: tuple[int, int]) -> np.ndarray:
    """Tells which masks have a pixel in an image.

    Polygons that are thinner than a pixel may have none. This is faster than `encode_polygons`, as
    it first looks at one column of each polygon, the middle one.

    Args:
      masks: the polygons of each mask.
      size: (height, width) of the image.
    Returns:
      bool[N], False for masks of which `encode_polygons` gives no pixel.
    """
    have = np.zeros(len(masks), bool)
    if not len(masks) or not all(size):
        return have
    corners = [part for mask in masks for part in mask.corners]
    mask_of = np.repeat(np.arange(len(masks)), [len(mask.corners) for mask in masks])
    starts = np.cumsum([0, *(len(part) for part in corners[:-1])])
    x = np.concatenate(corners)[:, 0]
    ends = np.stack([ufunc.reduceat(x, starts) for ufunc in (np.minimum, np.maximum)])
    middle = np.clip(ends, 0, size[1]).mean(axis=0).astype(np.int64)
    polygon, _ = _changes(corners, size, np.minimum(middle, size[1] - 1))
    have[mask_of[polygon]] = True
    for row in np.flatnonzero(~have):
        have[row] = mask_area(encode_polygons(masks[row], size)) > 0
    return have


def _changes(
    corners: Sequence[np.ndarray], size: tuple[int, int], columns: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Finds where inside and outside of polygons are exchanged, column by column.

    Args:
      corners: f64[P, 2] of each polygon.
      size: (height, width) of the image.
      columns: i64[N], the only column to look at for each polygon; None: all of them.
    Returns:
      i64[C], i64[C]: the polygon of each change, and the pixel column * height + row from which on
      it holds, height * width at the end; ascending for each polygon. A polygon without changes
      has no pixel.
    """
    height, width = size
    # Each polygon has its own line of pixels, with one extra position, where its last run may end.
    line = height * width + 1
    polygon, u, v = _middles_crossed(corners, columns)
    column, row = u // _FINE, np.clip((v + _FINE // 2) // _FINE, 0, height)
    seen = (column >= 0) & (column < width)
    if columns is not None:
        seen &= column == columns[polygon]
    place = (polygon * line + column * height + row)[seen]
    changes, times = np.unique(place, return_counts=True)
    return np.divmod(changes[times % 2 == 1], line)


def _middles_crossed(
    corners: Sequence[np.ndarray], columns: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the steps that cross the middle of a column, also outside the image.

    Args:
      corners: f64[P, 2] of each polygon.
      columns: i64[N], leave out the edges of each polygon that do not cross the middle of its
        column; None: take all.
    Returns:
      i64[S], i64[S], i64[S]: the polygon of each step, and its least u and v.
    """
    counts = np.array([len(part) for part in corners])
    stops = np.cumsum(counts)
    following = np.arange(1, stops[-1] + 1)
    following[stops - 1] = stops - counts
    first = (_FINE * np.concatenate(corners) + 0.5).astype(np.int64)
    last = first[following]
    owner = np.repeat(np.arange(counts.size), counts)
    if columns is not None:
        middle = _FINE * columns[owner] + _FINE // 2
        crossing = (first[:, 0] <= middle) != (last[:, 0] <= middle)
        first, last, owner = (x[crossing] for x in (first, last, owner))
    width, height = np.abs(last - first).T
    steep = height > width
    # From here on an edge's ends are (along its longer side, across it).
    first, last = (np.where(steep[:, None], end[:, ::-1], end) for end in (first, last))
    backwards = first[:, :1] > last[:, :1]
    low, high = np.where(backwards, last, first), np.where(backwards, first, last)
    steps, rise = (high - low).T
    slope = rise / np.maximum(steps, 1)
    edge = np.repeat(np.arange(steps.size), steps)
    step = concatenated_ranges(np.zeros_like(steps), steps)
    before, after = (
        (low[edge, 1] + slope[edge] * taken + 0.5).astype(np.int64) for taken in (step, step + 1)
    )
    along, across = low[edge, 0] + step, np.minimum(before, after)
    steep = steep[edge]
    u, v = np.where(steep, across, along), np.where(steep, along, across)
    crossed = (u % _FINE == _FINE // 2) & ~(steep & (before == after))
    return owner[edge][crossed], u[crossed], v[crossed]
