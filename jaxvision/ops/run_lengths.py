"""Masks as run-lengths, in COCO's form. On the host: numpy, int64 and float64.

A mask of H rows and W columns is read column by column into one line of H * W pixels, and stored as
the lengths of its runs: the first of background (perhaps 0 long), then foreground and background in
turn. A box is xyxy, half-open: the mask's pixels have x1 <= x < x2, y1 <= y < y2.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxvision.core import InputError

# Ends of runs that are looked up at once: bounds the memory, far above what a call costs.
_ENDS_AT_ONCE = 2**20
_FINE = 5  # points of a polygon's boundary to a pixel's side
_FARTHEST = 2**16  # pixels: the walk along a boundary has a step for each of its points


@dataclasses.dataclass(frozen=True, eq=False)
class RunLengths:
    """One mask.

    Attributes:
      size: (height, width).
      counts: i64[R], lengths of runs of background and foreground in turn, background first.
    Raises:
      AssertionError: the counts have another shape or are no integers.
      InputError: a size that cannot be, a negative count, or counts that do not sum to height *
        width.
    """

    size: tuple[int, int]
    counts: np.ndarray

    def __post_init__(self):
        counts = _checked("counts", self.counts, 1, np.integer, "int[R]").astype(np.int64)
        if np.shape(self.size) != (2,) or any(side != int(side) or side < 0 for side in self.size):
            raise InputError(f"size is {self.size}: give (height, width), whole and at least 0")
        height, width = (int(side) for side in self.size)
        if counts.size and counts.min() < 0:
            position = int(counts.argmin())
            raise InputError(f"counts[{position}] is {counts[position]}: give at least 0")
        if counts.sum() != height * width:
            raise InputError(
                f"counts sum to {counts.sum()}: a mask of {height} x {width} "
                f"has {height * width} pixels"
            )
        object.__setattr__(self, "size", (height, width))
        object.__setattr__(self, "counts", counts)


@dataclasses.dataclass(frozen=True, eq=False)
class Polygons:
    """The outlines of one mask, in COCO's form: what any of them holds belongs to the mask.

    Attributes:
      corners: of each polygon f64[P, 2], (x, y) in pixels, P at least 3; the last is joined to the
        first. They may lie beyond the image.
    Raises:
      AssertionError: corners have another shape or are no numbers.
      InputError: no polygon, fewer than 3 corners, or a coordinate that is not finite or more than
        65,536 in magnitude.
    """

    corners: tuple[np.ndarray, ...]

    def __post_init__(self):
        corners = tuple(
            _checked(f"corners[{index}]", x, 2, np.number, "number[P, 2]").astype(np.float64)
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


def encode_mask(mask: np.ndarray) -> RunLengths:
    """The run-lengths of a mask.

    Args:
      mask: bool[H, W].
    Returns:
      its run-lengths, the shortest there are.
    Raises:
      AssertionError: the argument has another shape or is no bool.
    """
    mask = _checked("mask", mask, 2, np.bool_, "bool[H, W]")
    line = mask.ravel(order="F")
    changes = np.flatnonzero(line[1:] != line[:-1]) + 1
    counts = np.diff(changes, prepend=0, append=line.size)
    if line[:1].any():
        counts = np.concatenate([[0], counts])
    return RunLengths(mask.shape, counts)


def encode_polygons(polygons: Polygons, size: tuple[int, int]) -> RunLengths:
    """The run-lengths of the mask that polygons outline, pixel for pixel COCO's.

    A corner is moved to a grid five times as fine as the pixels: (u, v) = (5 x + 1/2, 5 y + 1/2)
    with the fractions cut off. An edge is walked along its longer side (u if both are equal), from
    the lower end, point by point; the other coordinate is rounded in the same way. A step between
    u = 5 x + 2 and 5 x + 3 crosses the middle of column x: there, inside and outside change places
    from row ceil((v - 2) / 5) on, with the lower v of the step's two points.

    Args:
      polygons: of one mask.
      size: (height, width) of the image.
    Returns:
      the run-lengths, the shortest there are.
    Raises:
      AssertionError: the argument is no `Polygons`.
      InputError: a size that cannot be.
    Source: what COCO's mask interface (Lin et al. 2014, "Microsoft COCO") makes of polygons.
    """
    if not isinstance(polygons, Polygons):
        raise AssertionError(f"polygons is {type(polygons).__name__}: give Polygons")
    height, width = size
    # Each polygon has a line of pixels of its own, and one place more, where its last run may end.
    line = height * width + 1
    polygon, u, v = _middles_crossed(polygons)
    column, row = u // _FINE, np.clip((v + _FINE // 2) // _FINE, 0, height)
    seen = (column >= 0) & (column < width)
    place = (polygon * line + column * height + row)[seen]
    changes, times = np.unique(place, return_counts=True)
    changes = changes[times % 2 == 1] % line
    # The runs of all polygons on one line: a pixel is held where more of them began than ended.
    begins = changes[0::2]
    ends = np.concatenate([begins, changes[1::2]])
    order = np.argsort(ends, kind="stable")  # what begins comes before what ends there
    held = np.cumsum(np.where(order < begins.size, 1, -1)) > 0
    ends = ends[order][held != np.concatenate([[False], held[:-1]])]
    ends = ends[ends < height * width]
    return RunLengths(size, np.diff(ends, prepend=0, append=height * width))


def _middles_crossed(polygons: Polygons) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The steps over the middle of a column, anywhere: the polygon, and the least u and v of each.

    Returns:
      i64[S], i64[S], i64[S].
    """
    counts = np.array([len(corners) for corners in polygons.corners])
    stops = np.cumsum(counts)
    following = np.arange(1, stops[-1] + 1)
    following[stops - 1] = stops - counts
    first = (_FINE * np.concatenate(polygons.corners) + 0.5).astype(np.int64)
    last = first[following]
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
    polygon = np.repeat(np.arange(counts.size), counts)[edge]
    return polygon[crossed], u[crossed], v[crossed]


def decode_mask(run_lengths: RunLengths) -> np.ndarray:
    """The mask of run-lengths.

    Args:
      run_lengths: of one mask.
    Returns:
      bool[H, W].
    Raises:
      AssertionError: the argument is no `RunLengths`.
    """
    _check_run_lengths("run_lengths", run_lengths)
    foreground = np.arange(run_lengths.counts.size) % 2 == 1
    return np.repeat(foreground, run_lengths.counts).reshape(run_lengths.size, order="F")


def mask_area(run_lengths: RunLengths) -> int:
    """How many pixels a mask has.

    Args:
      run_lengths: of one mask.
    Returns:
      the number of its pixels.
    Raises:
      AssertionError: the argument is no `RunLengths`.
    """
    _check_run_lengths("run_lengths", run_lengths)
    return int(run_lengths.counts[1::2].sum())


def mask_to_box(run_lengths: RunLengths) -> np.ndarray:
    """The smallest box around a mask.

    Args:
      run_lengths: of one mask.
    Returns:
      f64[4], xyxy, pixels; zeros for an empty mask.
    Raises:
      AssertionError: the argument is no `RunLengths`.
    """
    _check_run_lengths("run_lengths", run_lengths)
    return _pack([run_lengths]).boxes()[0]


def compress_counts(counts: np.ndarray) -> bytes:
    """Counts as text, in COCO's compressed form.

    From the fourth on, a count is replaced by its difference to the last but one. Each number is
    written in two's complement in as few digits of 5 bits as hold it, the lowest first: a digit
    d becomes the character 48 + d, or 48 + 32 + d if another follows.

    Args:
      counts: int[R].
    Returns:
      ASCII characters.
    Raises:
      AssertionError: the argument has another shape or is no integer.
      InputError: a number that the form cannot hold.
    """
    counts = _checked("counts", counts, 1, np.integer, "int[R]").astype(np.int64)
    wrong = np.flatnonzero((counts < -(2**58)) | (counts > 2**58))
    if wrong.size:
        raise InputError(f"counts[{wrong[0]}] is {counts[wrong[0]]}: give at most 2^58")
    numbers = counts.copy()
    numbers[3:] -= counts[1:-2]
    magnitudes = np.where(numbers < 0, ~numbers, numbers)
    digit = np.arange(12)
    digits = numbers[:, None] >> (5 * digit) & 31
    # A digit follows if the ones before it, with their sign, do not hold the number.
    follows = magnitudes[:, None] >> (5 * digit + 4) > 0
    written = np.concatenate([np.ones((counts.size, 1), bool), follows[:, :-1]], axis=1)
    return (48 + digits + 32 * follows)[written].astype(np.uint8).tobytes()


def decompress_counts(text: bytes | str) -> np.ndarray:
    """Counts from COCO's compressed form; the inverse of `compress_counts`.

    Args:
      text: ASCII characters.
    Returns:
      i64[R].
    Raises:
      InputError: a character that does not occur in this form, or an unfinished number.
    """
    if isinstance(text, str):
        text = text.encode()
    digits = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if ((digits < 0) | (digits > 63)).any():
        position = int(np.argmax((digits < 0) | (digits > 63)))
        raise InputError(
            f"character {position} of the compressed counts is {chr(digits[position] + 48)!r}: "
            "give what COCO's mask interface writes"
        )
    last = np.flatnonzero(digits < 32)
    if digits.size and digits[-1] >= 32:
        raise InputError("the compressed counts end within a number: give the whole text")
    first = np.concatenate([[0], last[:-1] + 1])[: last.size]
    lengths = last - first + 1
    if last.size and lengths.max() > 12:
        raise InputError("the compressed counts hold a number of more than 60 bits")
    place = np.arange(digits.size) - np.repeat(first, lengths)
    numbers = np.add.reduceat((digits & 31) << (5 * place), first) if last.size else last
    numbers = numbers - np.where(digits[last] & 16, 1 << (5 * lengths), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def run_length_iou(
    masks1: Sequence[RunLengths], masks2: Sequence[RunLengths], crowd: np.ndarray | None = None
) -> np.ndarray:
    """Intersection over union of each pair of masks.

    IoU = |A and B| / |A or B|; |A and B| / |A| where B is a crowd.

    Args:
      masks1: N of them.
      masks2: M of them.
      crowd: bool[M], which of masks2 are regions of many objects; None: none.
    Returns:
      f64[N, M], in [0, 1]; 0 where a mask is empty.
    Raises:
      AssertionError: an element is no `RunLengths`, or crowd has another shape or dtype.
      InputError: masks of different sizes.
    """
    n, m = len(masks1), len(masks2)
    first, second = np.divmod(np.arange(n * m), m or 1)
    return paired_run_length_iou(masks1, masks2, first, second, crowd).reshape(n, m)


def paired_run_length_iou(
    masks1: Sequence[RunLengths],
    masks2: Sequence[RunLengths],
    first: np.ndarray,
    second: np.ndarray,
    crowd: np.ndarray | None = None,
    *,
    least: float = 0.0,
) -> np.ndarray:
    """Intersection over union of chosen pairs of masks, as `run_length_iou`.

    Args:
      masks1: N of them.
      masks2: M of them.
      first: int[P], of each pair the index into masks1.
      second: int[P], of each pair the index into masks2.
      crowd: bool[M], which of masks2 are regions of many objects; None: none.
      least: a smaller IoU may be given as 0; the larger this is, the fewer pairs are worked out.
    Returns:
      f64[P], in [0, 1]; 0 where a mask is empty.
    Raises:
      AssertionError: an element is no `RunLengths`, or an array has another shape or dtype.
      InputError: an index without a mask, or a pair of masks of different sizes.
    """
    for name, masks in (("masks1", masks1), ("masks2", masks2)):
        for index, mask in enumerate(masks):
            _check_run_lengths(f"{name}[{index}]", mask)
    runs1, runs2 = _pack(masks1), _pack(masks2)
    first = _checked("first", first, 1, np.integer, "int[P]")
    second = _checked("second", second, 1, np.integer, f"int[{first.size}]", first.size)
    for name, index, masks in (("first", first, masks1), ("second", second, masks2)):
        wrong = np.flatnonzero((index < 0) | (index >= len(masks)))
        if wrong.size:
            raise InputError(
                f"{name}[{wrong[0]}] is {index[wrong[0]]}: there are {len(masks)} masks"
            )
    crowd = np.zeros(len(masks2), bool) if crowd is None else crowd
    crowd = _checked("crowd", crowd, 1, np.bool_, f"bool[{len(masks2)}]", len(masks2))[second]
    different = (runs1.sizes[first] != runs2.sizes[second]).any(axis=1)
    if different.any():
        i, j = (int(index[different][0]) for index in (first, second))
        raise InputError(
            f"masks1[{i}] is {masks1[i].size} and masks2[{j}] is {masks2[j].size} large: "
            "give masks of one image"
        )
    areas1, areas2 = runs1.areas()[first], runs2.areas()[second]

    def over_union(intersection):
        union = np.where(crowd, areas1, areas1 + areas2 - intersection)
        return intersection / np.maximum(union, 1)

    shared = _box_intersections(runs1.boxes()[first], runs2.boxes()[second])
    most = np.minimum(shared, np.minimum(areas1, areas2))
    near = np.flatnonzero((most > 0) & (over_union(most) >= least))
    intersection = np.zeros(first.size, np.int64)
    intersection[near] = _intersections(runs1, runs2, first[near], second[near])
    return over_union(intersection)


def concatenated_ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """arange(start, start + count) for each start and count, one after the other.

    Args:
      starts: i64[N].
      counts: i64[N], at least 0.
    Returns:
      i64[sum of counts].
    """
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(counts.sum())


class _Runs(NamedTuple):
    """The runs of many masks, one after the other on one long line of pixels."""

    sizes: np.ndarray  # i64[N, 2], height and width
    offsets: np.ndarray  # i64[N], where on the line each mask begins
    splits: np.ndarray  # i64[N + 1], mask i has the runs splits[i] to splits[i + 1]
    counts: np.ndarray  # i64[R]
    foreground: np.ndarray  # bool[R]

    def areas(self) -> np.ndarray:
        """i64[N], pixels of each mask."""
        before = np.concatenate([[0], np.cumsum(self.counts * self.foreground)])
        return before[self.splits[1:]] - before[self.splits[:-1]]

    def boxes(self) -> np.ndarray:
        """f64[N, 4], the smallest box around each mask."""
        boxes = np.zeros((len(self.sizes), 4))
        runs, mask = self.drawn()
        if not runs.size:
            return boxes
        height = self.sizes[mask, 0]
        begin = (np.cumsum(self.counts) - self.counts)[runs] - self.offsets[mask]
        last = begin + self.counts[runs] - 1
        column, last_column = begin // height, last // height
        one_column = column == last_column
        first = np.flatnonzero(np.diff(mask, prepend=-1))
        boxes[mask[first]] = np.stack(
            [
                np.minimum.reduceat(column, first),
                np.minimum.reduceat(np.where(one_column, begin % height, 0), first),
                np.maximum.reduceat(last_column, first) + 1,
                np.maximum.reduceat(np.where(one_column, last % height + 1, height), first),
            ],
            axis=1,
        )
        return boxes

    def drawn(self) -> tuple[np.ndarray, np.ndarray]:
        """The runs of foreground that are not empty, i64[F], and the mask of each, i64[F]."""
        runs = np.flatnonzero(self.foreground & (self.counts > 0))
        return runs, np.searchsorted(self.splits, runs, side="right") - 1


def _pack(masks: Sequence[RunLengths]) -> _Runs:
    sizes = np.array([mask.size for mask in masks], np.int64).reshape(-1, 2)
    lengths = np.array([mask.counts.size for mask in masks], np.int64)
    pixels = sizes.prod(axis=1)
    place = concatenated_ranges(np.zeros_like(lengths), lengths)
    return _Runs(
        sizes=sizes,
        offsets=np.cumsum(pixels) - pixels,
        splits=np.concatenate([[0], np.cumsum(lengths)]),
        counts=np.concatenate([np.zeros(0, np.int64), *(mask.counts for mask in masks)]),
        foreground=place % 2 == 1,
    )


def _box_intersections(boxes1: np.ndarray, boxes2: np.ndarray) -> np.ndarray:
    """Pixels that two boxes share: f64[P, 4], f64[P, 4] -> i64[P]."""
    sides = np.minimum(boxes1[:, 2:], boxes2[:, 2:]) - np.maximum(boxes1[:, :2], boxes2[:, :2])
    return np.maximum(sides, 0).prod(axis=1).astype(np.int64)


def _intersections(runs1: _Runs, runs2: _Runs, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pixels that each pair of masks shares, i64[P].

    Let F(x) be the pixels of foreground before x on the line of all masks2. A run of foreground
    from a to b shares F(b) - F(a) pixels with the mask that it is laid upon; the mask's offset puts
    it there. F is found by a binary search among the ends of the runs.
    """
    knots = np.concatenate([[0], np.cumsum(runs2.counts)])
    values = np.concatenate([[0], np.cumsum(runs2.counts * runs2.foreground)])
    slopes = np.append(runs2.foreground, False)

    def foreground_before(x):
        knot = np.searchsorted(knots, x, side="right") - 1
        return values[knot] + slopes[knot] * (x - knots[knot])

    drawn, mask = runs1.drawn()
    ends = np.cumsum(runs1.counts)[drawn] - runs1.offsets[mask]
    begins = ends - runs1.counts[drawn]
    splits = np.searchsorted(mask, np.arange(len(runs1.sizes) + 1))
    starts, counts = splits[first], splits[first + 1] - splits[first]
    until = np.cumsum(counts)
    intersection = np.zeros(first.size, np.int64)
    done = 0
    while done < first.size:
        budget = until[done] - counts[done] + _ENDS_AT_ONCE
        stop = max(done + 1, int(np.searchsorted(until, budget, side="right")))
        pairs = slice(done, stop)
        runs = concatenated_ranges(starts[pairs], counts[pairs])
        offset = np.repeat(runs2.offsets[second[pairs]], counts[pairs])
        shared = foreground_before(offset + ends[runs]) - foreground_before(offset + begins[runs])
        total = np.concatenate([[0], np.cumsum(shared)])
        within = until[pairs] - until[done] + counts[done]
        intersection[pairs] = total[within] - total[within - counts[pairs]]
        done = stop
    return intersection


def _checked(name, x, rank: int, kind: type, wanted: str, size: int | None = None) -> np.ndarray:
    """x as a numpy array; AssertionError, naming it, if its rank, first size or dtype is wrong."""
    x = np.asarray(x)
    fits = x.ndim == rank and (size is None or x.shape[0] == size)
    if not fits or not np.issubdtype(x.dtype, kind):
        raise AssertionError(f"{name} is {x.dtype}{list(x.shape)}: give {wanted}")
    return x


def _check_run_lengths(name: str, x) -> None:
    if not isinstance(x, RunLengths):
        raise AssertionError(f"{name} is {type(x).__name__}: give RunLengths")
