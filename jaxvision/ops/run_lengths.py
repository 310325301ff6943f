"""Masks as run-lengths, in COCO's form, computed on the host with numpy (int64 and float64).

A mask of H rows and W columns is read column by column into one line of H * W pixels, and stored as
the lengths of its runs, which alternate between background and foreground. The first run is
background and may have length 0. A box is xyxy, half-open: the mask's pixels have x1 <= x < x2,
y1 <= y < y2. The functions raise AssertionError, naming the argument, if an argument has another
type than documented.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxvision.core import InputError

# Number of ends of runs that are looked up at once. It bounds the memory, and is large enough that
# the cost of a call does not matter.
_ENDS_AT_ONCE = 2**20
_CHARACTERS_AT_ONCE = 2**17  # of compressed masks; what is computed for them fits into a cache


@dataclasses.dataclass(frozen=True, eq=False)
class RunLengths:
    """One mask as run-lengths.

    Attributes:
      size: (height, width).
      counts: i64[R], lengths of the runs: background, foreground, background and so on.
    Raises:
      InputError: size is not two integers of at least 0, a count is negative, or the counts do not
        sum to height * width.
    """

    size: tuple[int, int]
    counts: np.ndarray

    def __post_init__(self):
        counts = checked("counts", self.counts, 1, np.integer, "int[R]").astype(np.int64)
        if np.shape(self.size) != (2,) or any(side != int(side) or side < 0 for side in self.size):
            raise InputError(
                f"size is {self.size}: give (height, width), two integers of at least 0"
            )
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
class MaskTable(Sequence):
    """Many masks as run-lengths, in a few arrays: a sequence of `RunLengths` that takes less time.

    Attributes:
      sizes: i64[N, 2], (height, width) of each mask.
      counts: i64[R], the lengths of the runs of all masks, one mask after the other.
      splits: i64[N + 1]: mask i has the runs from splits[i] to splits[i + 1] - 1.
    Raises:
      InputError: a size or a count is negative, the splits do not ascend from 0 to R, or the counts
        of a mask do not sum to height * width.
    """

    sizes: np.ndarray
    counts: np.ndarray
    splits: np.ndarray

    def __post_init__(self):
        columns = ("sizes", 2, "int[N, 2]"), ("counts", 1, "int[R]"), ("splits", 1, "int[N + 1]")
        for name, rank, wanted in columns:
            column = checked(name, getattr(self, name), rank, np.integer, wanted)
            object.__setattr__(self, name, column.astype(np.int64, copy=False))
        if self.sizes.shape[1] != 2:
            raise AssertionError(f"sizes has shape {self.sizes.shape}: give int[N, 2]")
        if self.splits.size != len(self.sizes) + 1:
            raise AssertionError(f"splits has shape {self.splits.shape}: give int[N + 1]")
        ends = self.splits[0], self.splits[-1]
        if ends != (0, self.counts.size) or (np.diff(self.splits) < 0).any():
            raise InputError(f"splits: give numbers that ascend from 0 to {self.counts.size}")
        for name in ("sizes", "counts"):
            column = getattr(self, name)
            if column.size and column.min() < 0:
                raise InputError(f"{name}: {column.min()} is among them: give at least 0")
        sums, pixels = self._sums(self.counts), self.sizes.prod(axis=1)
        for row in np.flatnonzero(sums != pixels)[:1].tolist():
            height, width = self.sizes[row].tolist()
            raise InputError(
                f"the counts of mask {row} sum to {sums[row]}: a mask of {height} x {width} "
                f"has {pixels[row]} pixels"
            )

    @classmethod
    def of(cls, masks: Sequence[RunLengths], name: str = "masks") -> "MaskTable":
        """Puts masks together; a table is returned as it is.

        Raises:
          AssertionError: one is not a `RunLengths`; the message has the name and its position.
        """
        if isinstance(masks, cls):
            return masks
        for row, mask in enumerate(masks):
            _check_run_lengths(f"{name}[{row}]", mask)
        return cls(
            sizes=np.array([mask.size for mask in masks], np.int64).reshape(-1, 2),
            counts=np.concatenate([np.zeros(0, np.int64), *(mask.counts for mask in masks)]),
            splits=np.cumsum([0, *(mask.counts.size for mask in masks)]),
        )

    @classmethod
    def concatenate(cls, tables: Sequence["MaskTable"]) -> "MaskTable":
        """Puts at least one table together."""
        runs = np.concatenate([np.diff(table.splits) for table in tables])
        return cls(
            sizes=np.concatenate([table.sizes for table in tables]),
            counts=np.concatenate([table.counts for table in tables]),
            splits=np.concatenate([[0], np.cumsum(runs)]),
        )

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, row: int) -> RunLengths:
        if not -len(self) <= row < len(self):
            raise IndexError(f"there is no mask {row}: there are {len(self)}")
        row = int(row) % len(self)
        return RunLengths(tuple(self.sizes[row]), self.counts[slice(*self.splits[row : row + 2])])

    def take(self, rows: np.ndarray) -> "MaskTable":
        """Returns a table of some of the masks, i64[M] rows."""
        lengths = np.diff(self.splits)[rows]
        runs = concatenated_ranges(self.splits[rows], lengths)
        splits = np.concatenate([[0], np.cumsum(lengths)])
        return MaskTable(self.sizes[rows], self.counts[runs], splits)

    def areas(self) -> np.ndarray:
        """Returns i64[N], the number of pixels of each mask."""
        # Foreground less background, if all masks began at even positions; else the negative.
        signed = self.counts.copy()
        signed[0::2] *= -1
        difference = self._sums(signed) * np.where(self.splits[:-1] % 2, -1, 1)
        return (self.sizes.prod(axis=1) + difference) // 2

    def boxes(self) -> np.ndarray:
        """Returns f64[N, 4], the smallest box around each mask, xyxy; zeros for an empty one."""
        boxes = np.zeros((len(self), 4))
        mask, begin, end = self.foreground()
        if not mask.size:
            return boxes
        height, last = self.sizes[mask, 0], end - 1
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

    def foreground(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the runs of foreground that are not empty.

        Returns:
          i64[F], i64[F], i64[F]: the mask of each run, ascending, and the pixels at which it begins
          and ends, on the line of its mask.
        """
        mask = np.repeat(np.arange(len(self)), np.diff(self.splits))
        parity = np.arange(self.counts.size) - self.splits[mask]
        runs = np.flatnonzero((parity % 2 == 1) & (self.counts > 0))
        mask = mask[runs]
        end = np.cumsum(self.counts)[runs] - self.offsets()[mask]
        return mask, end - self.counts[runs], end

    def offsets(self) -> np.ndarray:
        """Returns i64[N], where each mask begins if their pixels are put on one line."""
        pixels = self.sizes.prod(axis=1)
        return np.cumsum(pixels) - pixels

    def _sums(self, values: np.ndarray) -> np.ndarray:
        """Sums the values of the runs of each mask."""
        before = np.concatenate([[0], np.cumsum(values)])
        return before[self.splits[1:]] - before[self.splits[:-1]]


def encode_mask(mask: np.ndarray) -> RunLengths:
    """Converts a mask to run-lengths.

    Args:
      mask: bool[H, W].
    Returns:
      the run-lengths, with as few runs as possible.
    """
    mask = checked("mask", mask, 2, np.bool_, "bool[H, W]")
    line = mask.ravel(order="F")
    changes = np.flatnonzero(line[1:] != line[:-1]) + 1
    counts = np.diff(changes, prepend=0, append=line.size)
    if line[:1].any():
        counts = np.concatenate([[0], counts])
    return RunLengths(mask.shape, counts)


def decode_mask(run_lengths: RunLengths) -> np.ndarray:
    """Converts run-lengths to a mask.

    Args:
      run_lengths: the run-lengths of one mask.
    Returns:
      bool[H, W].
    """
    _check_run_lengths("run_lengths", run_lengths)
    foreground = np.arange(run_lengths.counts.size) % 2 == 1
    return np.repeat(foreground, run_lengths.counts).reshape(run_lengths.size, order="F")


def mask_area(run_lengths: RunLengths) -> int:
    """Computes the number of pixels of a mask.

    Args:
      run_lengths: the run-lengths of one mask.
    Returns:
      the number of its pixels.
    """
    _check_run_lengths("run_lengths", run_lengths)
    return int(run_lengths.counts[1::2].sum())


def mask_to_box(run_lengths: RunLengths) -> np.ndarray:
    """Computes the smallest box around a mask.

    Args:
      run_lengths: the run-lengths of one mask.
    Returns:
      f64[4], xyxy, pixels; zeros for an empty mask.
    """
    _check_run_lengths("run_lengths", run_lengths)
    return MaskTable.of([run_lengths]).boxes()[0]


def compress_counts(counts: np.ndarray) -> bytes:
    """Compresses counts to text, in COCO's form.

    From the fourth one on, a count is replaced by its difference to the count two before it. Each
    number is written in two's complement with as few digits of 5 bits as possible, the lowest digit
    first. A digit d becomes the character 48 + d, or 48 + 32 + d if another digit follows.

    Args:
      counts: int[R].
    Returns:
      ASCII characters.
    Raises:
      InputError: a number is more than 2^58 in magnitude.
    """
    counts = checked("counts", counts, 1, np.integer, "int[R]").astype(np.int64)
    wrong = np.flatnonzero((counts < -(2**58)) | (counts > 2**58))
    if wrong.size:
        raise InputError(
            f"counts[{wrong[0]}] is {counts[wrong[0]]}: give at most 2^58 in magnitude"
        )
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
    """Decompresses counts from COCO's form, as the inverse of `compress_counts`.

    Args:
      text: ASCII characters.
    Returns:
      i64[R].
    Raises:
      InputError: a character does not occur in this form, or a number is incomplete or too long.
    """
    counts, _ = _decompressed([text])
    return counts


def decompress_masks(sizes: np.ndarray, texts: Sequence[bytes | str]) -> MaskTable:
    """Decompresses the masks of COCO's results, much faster than one after the other.

    Args:
      sizes: int[N, 2], (height, width) of each mask.
      texts: the ASCII characters of each mask, see `compress_counts`.
    Returns:
      the masks.
    Raises:
      InputError: as for `decompress_counts` and `MaskTable`.
    """
    sizes = checked("sizes", sizes, 2, np.integer, f"int[{len(texts)}, 2]", len(texts))
    lengths = np.array([len(text) for text in texts], np.int64)
    block = (np.cumsum(lengths) - lengths) // _CHARACTERS_AT_ONCE
    starts = np.flatnonzero(np.diff(block, prepend=-1)).tolist()
    parts = [
        _decompressed(texts[start:stop])
        for start, stop in itertools.pairwise([*starts, len(texts)])
    ]
    counts, runs = ([part[k] for part in parts] for k in (0, 1))
    none = np.zeros(0, np.int64)
    splits = np.concatenate([[0], np.cumsum(np.concatenate([none, *runs]))])
    return MaskTable(sizes, np.concatenate([none, *counts]), splits)


def _decompressed(texts: Sequence[bytes | str]) -> tuple[np.ndarray, np.ndarray]:
    """Decompresses texts: their counts, concatenated, i64[R], and how many each has, i64[N]."""
    # json may have half a pair of surrogates, which is no character.
    texts = [x.encode(errors="surrogatepass") if isinstance(x, str) else x for x in texts]
    digits = np.frombuffer(b"".join(texts), np.uint8) - np.uint8(48)
    wrong = np.flatnonzero(digits > 63)
    stops = np.cumsum([len(text) for text in texts])
    if wrong.size:
        text = int(np.searchsorted(stops, wrong[0], side="right"))
        position = int(wrong[0] - stops[text] + len(texts[text]))
        raise InputError(
            f"character {position} of the compressed counts is {chr(texts[text][position])!r}: "
            "give text in COCO's compressed form"
        )
    last = np.flatnonzero(digits < 32)
    if (digits[stops[stops > 0] - 1] >= 32).any():
        raise InputError("the compressed counts end within a number: give the whole text")
    lengths = np.diff(last, prepend=-1)
    longest = lengths.max(initial=1)
    if longest > 12:
        raise InputError("the compressed counts hold a number of more than 60 bits")
    # The last digit has the sign in its fifth bit.
    numbers = (digits[last] ^ 16).astype(np.int64) - 16
    for before in range(1, longest):
        longer = np.flatnonzero(lengths > before)
        numbers[longer] = (numbers[longer] << 5) + (digits[last[longer] - before] & 31)
    # Sums of every second number, from the second and the third on, begin anew with each text.
    until = np.searchsorted(last, stops)
    runs = np.diff(until, prepend=0)
    for first in (1, 2):
        has = np.flatnonzero(runs > first)
        start, count = (until - runs)[has] + first, (runs[has] - first + 1) // 2
        places = start.repeat(count) + 2 * concatenated_ranges(np.zeros_like(count), count)
        sums = np.cumsum(numbers[places])
        begins = np.cumsum(count) - count
        numbers[places] = sums - np.repeat(sums[begins] - numbers[start], count)
    return numbers, runs


def run_length_iou(
    masks1: Sequence[RunLengths], masks2: Sequence[RunLengths], crowd: np.ndarray | None = None
) -> np.ndarray:
    """Computes the intersection over union of each pair of masks.

    IoU = |A and B| / |A or B|, or |A and B| / |A| if B is a crowd.

    Args:
      masks1: N masks.
      masks2: M masks.
      crowd: bool[M], True for the masks2 that are regions of many objects; None: none is.
    Returns:
      f64[N, M], in [0, 1]; 0 if a mask is empty.
    Raises:
      InputError: masks have different sizes.
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
    """Computes `run_length_iou` of selected pairs of masks.

    Args:
      masks1: N masks.
      masks2: M masks.
      first: int[P], index into masks1 for each pair.
      second: int[P], index into masks2 for each pair.
      crowd: bool[M], True for the masks2 that are regions of many objects; None: none is.
      least: an IoU below this value may be returned as 0. A larger value saves computation.
    Returns:
      f64[P], in [0, 1]; 0 if a mask is empty.
    Raises:
      InputError: an index is out of range, or the masks of a pair have different sizes.
    """
    table1, table2 = MaskTable.of(masks1, "masks1"), MaskTable.of(masks2, "masks2")
    first = checked("first", first, 1, np.integer, "int[P]")
    second = checked("second", second, 1, np.integer, f"int[{first.size}]", first.size)
    for name, index, masks in (("first", first, masks1), ("second", second, masks2)):
        wrong = np.flatnonzero((index < 0) | (index >= len(masks)))
        if wrong.size:
            raise InputError(
                f"{name}[{wrong[0]}] is {index[wrong[0]]}: there are {len(masks)} masks"
            )
    crowd = np.zeros(len(masks2), bool) if crowd is None else crowd
    crowd = checked("crowd", crowd, 1, np.bool_, f"bool[{len(masks2)}]", len(masks2))[second]
    different = (table1.sizes[first] != table2.sizes[second]).any(axis=1)
    if different.any():
        i, j = (int(index[different][0]) for index in (first, second))
        raise InputError(
            f"masks1[{i}] is {masks1[i].size} and masks2[{j}] is {masks2[j].size} in size: "
            "give masks of one image"
        )
    areas1, areas2 = table1.areas()[first], table2.areas()[second]

    def over_union(intersection):
        union = np.where(crowd, areas1, areas1 + areas2 - intersection)
        return intersection / np.maximum(union, 1)

    shared = _box_intersections(table1.boxes()[first], table2.boxes()[second])
    most = np.minimum(shared, np.minimum(areas1, areas2))
    near = np.flatnonzero((most > 0) & (over_union(most) >= least))
    intersection = np.zeros(first.size, np.int64)
    intersection[near] = _intersections(table1, table2, first[near], second[near])
    return over_union(intersection)


def concatenated_ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Concatenates arange(start, start + count) for each start and count.

    Args:
      starts: i64[N].
      counts: i64[N], at least 0.
    Returns:
      i64[sum of counts].
    """
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(counts.sum())


def _box_intersections(boxes1: np.ndarray, boxes2: np.ndarray) -> np.ndarray:
    """Returns the number of pixels that two boxes share: f64[P, 4], f64[P, 4] -> i64[P]."""
    sides = np.minimum(boxes1[:, 2:], boxes2[:, 2:]) - np.maximum(boxes1[:, :2], boxes2[:, :2])
    return np.maximum(sides, 0).prod(axis=1).astype(np.int64)


def _intersections(
    masks1: MaskTable, masks2: MaskTable, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """Returns the number of pixels that each pair of masks shares, i64[P].

    Let F(x) be the number of foreground pixels before x on the line of all masks2. A run of
    foreground from a to b, shifted to the place of the mask of masks2, shares F(b) - F(a) pixels
    with this mask. F is found by a binary search among the begins of the runs.
    """
    offsets = masks2.offsets()
    mask2, begins2, ends2 = masks2.foreground()
    lengths2 = np.concatenate([[0], ends2 - begins2])
    begins2 = np.concatenate([[-1], begins2 + offsets[mask2]])
    before2 = np.cumsum(lengths2) - lengths2

    def foreground_before(x):
        run = np.searchsorted(begins2, x, side="right") - 1
        return before2[run] + np.minimum(x - begins2[run], lengths2[run])

    mask1, begins, ends = masks1.foreground()
    splits = np.searchsorted(mask1, np.arange(len(masks1) + 1))
    starts, counts = splits[first], splits[first + 1] - splits[first]
    until = np.cumsum(counts)
    intersection = np.zeros(first.size, np.int64)
    done = 0
    while done < first.size:
        budget = until[done] - counts[done] + _ENDS_AT_ONCE
        stop = max(done + 1, int(np.searchsorted(until, budget, side="right")))
        pairs = slice(done, stop)
        runs = concatenated_ranges(starts[pairs], counts[pairs])
        offset = np.repeat(offsets[second[pairs]], counts[pairs])
        shared = foreground_before(offset + ends[runs]) - foreground_before(offset + begins[runs])
        total = np.concatenate([[0], np.cumsum(shared)])
        within = until[pairs] - until[done] + counts[done]
        intersection[pairs] = total[within] - total[within - counts[pairs]]
        done = stop
    return intersection


def checked(
    name: str, x: Any, rank: int, kind: type, wanted: str, size: int | None = None
) -> np.ndarray:
    """Returns x as a numpy array; AssertionError names it if its rank, size or dtype is wrong."""
    x = np.asarray(x)
    fits = x.ndim == rank and (size is None or x.shape[0] == size)
    if not fits or not np.issubdtype(x.dtype, kind):
        raise AssertionError(f"{name} is {x.dtype}{list(x.shape)}: give {wanted}")
    return x


def _check_run_lengths(name: str, x) -> None:
    if not isinstance(x, RunLengths):
        raise AssertionError(f"{name} is {type(x).__name__}: give RunLengths")
