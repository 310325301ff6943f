"""Files of region proposals: boxes for each image of a source, written once and read many times.

A file is an .npz with three arrays, none of them pickled:

- "boxes" f32[sum of counts, 4]: the proposals of all images, one image after the other; xyxy,
  pixels of the image, the best first
- "counts" i64[N]: how many proposals each image has
- "sizes" i64[N, 2]: (height, width) of each image, by which it is recognized
"""

import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from jaxvision.core import InputError, Record
from jaxvision.core.files import read_npz, replacing
from jaxvision.data.sources.boxes import ROUNDING
from jaxvision.data.sources.skeletons import Skeleton
from jaxvision.data.sources.source import (
    Source,
    as_path,
    category_ids_of,
    image_file_of,
    image_id_of,
    image_of,
    size_of,
)

Propose = Callable[[np.ndarray], np.ndarray]
"""An image u8[H, W, 3] -> proposals f[P, 4], xyxy, pixels, the best first."""

_ARRAYS = {"boxes": ("f", 2), "counts": ("iu", 1), "sizes": ("iu", 2)}
_ADVICE = "write it with jaxvision.data.write_proposals"


def write_proposals(path: str | os.PathLike[str], source: Source, propose: Propose) -> None:
    """Computes the proposals of all images of a source and writes them to a file.

    For those of a trained region proposal network, `propose` predicts with it:
    `lambda image: next(jaxvision.predict.predict(task, variables, [image])).result.boxes`.

    Args:
      path: of the file, which ends in .npz; an interrupted call leaves no partial file.
      source: with images.
      propose: such as `selective_search`.
    Raises:
      InputError: the file has another suffix, or a proposal is not a box in its image.
    """
    path = _checked_path(path)
    boxes, sizes = [], []
    for index in range(len(source)):
        where = source.where(index)
        image = image_of(source[index], where)
        found = np.asarray(propose(image), np.float32)
        sizes.append(image.shape[:2])
        _check_boxes(found, image.shape[:2], where)
        boxes.append(found)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, "wb") as file:
        np.savez(
            file,
            boxes=np.concatenate([np.zeros((0, 4), np.float32), *boxes]),
            counts=np.array([len(x) for x in boxes], np.int64),
            sizes=np.array(sizes, np.int64).reshape(-1, 2),
        )


class WithProposals:
    """A source whose records also have "proposals", f32[P, 4], of a file.

    Args:
      source: the records; those of the file were computed of it, in the same order.
      path: of the file, see `write_proposals`.

    Attributes:
      class_names: those of the source.
    Raises:
      InputError: there is no such file, it is damaged or none of proposals, or it has another
        number of images; on reading a record: it has an image of another size.
    """

    def __init__(self, source: Source, path: str | os.PathLike[str]):
        self._source, self._path = source, _checked_path(path)
        self._boxes, self._sizes = _read(self._path)
        if len(self._boxes) != len(source):
            raise InputError(
                f"{self._path} has proposals of {len(self._boxes)} images, but the source has "
                f"{len(source)} records: {_ADVICE} of this source"
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._source.class_names

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        record, where = self._source[index], self.where(index)
        size = image_of(record, where).shape[:2]
        return {**record, "proposals": self._checked(index, size, where)}

    def where(self, index: int) -> str:
        return self._source.where(index)

    def target(self, index: int) -> Record:
        """Returns the record of the source without "image", and without the proposals."""
        return self._source.target(index)

    def size(self, index: int) -> tuple[int, int]:
        """Returns the (height, width) of an image, see `size_of`."""
        return size_of(self._source, index)

    @property
    def box_counts(self) -> list[int]:
        """How many boxes each record has, where the source knows it."""
        return self._source.box_counts

    def image_id(self, index: int) -> int | str:
        """Returns what an image is called, see `image_id_of`."""
        return image_id_of(self._source, index)

    def image_file(self, index: int) -> pathlib.Path | None:
        """The file of a record's image, where the source has them."""
        return image_file_of(self._source, index)

    @property
    def category_ids(self) -> tuple[int | str, ...]:
        """Of the classes, see `category_ids_of`."""
        return category_ids_of(self._source)

    @property
    def skeleton(self) -> Skeleton | None:
        """Of the objects' keypoints, where the source has them."""
        return self._source.skeleton

    def _checked(self, index: int, size: tuple[int, int], where: str) -> np.ndarray:
        known = tuple(self._sizes[index].tolist())
        if known != tuple(size):
            raise InputError(
                "{0}: the image has {2} x {1} pixels, but {5} has proposals of one with {4} x {3}: "
                "{6} of this source".format(where, *size, *known, self._path, _ADVICE)
            )
        return self._boxes[index]


def _checked_path(path: str | os.PathLike[str]) -> pathlib.Path:
    path = as_path(path, "file of proposals")
    if path.suffix != ".npz":
        raise InputError(f"{path} is no file of proposals: give a name that ends in .npz")
    return path


def _read(path: pathlib.Path) -> tuple[list[np.ndarray], np.ndarray]:
    """Returns the proposals of each image, f32[P, 4], and the images' sizes, i64[N, 2]."""

    def choose(names: list[str]) -> list[str]:
        missing = sorted(_ARRAYS.keys() - set(names))
        if missing:
            raise InputError(f"{path} has no array {missing[0]!r} of proposals: {_ADVICE}")
        return [*_ARRAYS]

    arrays = read_npz(path, _ADVICE, choose)
    boxes, counts, sizes = (arrays[name] for name in _ARRAYS)
    fits = all(
        (arrays[name].dtype.kind in kind) and arrays[name].ndim == rank
        for name, (kind, rank) in _ARRAYS.items()
    )
    fits = fits and boxes.shape[1] == 4 and sizes.shape == (len(counts), 2)
    if not fits or (counts < 0).any() or counts.sum() != len(boxes):
        raise InputError(f"{path} has arrays that do not fit together: {_ADVICE}")
    each = np.split(boxes, np.cumsum(counts)[:-1]) if len(counts) else []
    for number, (found, size) in enumerate(zip(each, sizes.tolist(), strict=True)):
        _check_boxes(found, size, f"{path}, image {number}")
    return [found.astype(np.float32) for found in each], sizes.astype(np.int64)


def _check_boxes(boxes: np.ndarray, size: Sequence[int], where: str) -> None:
    """Raises InputError unless proposals are boxes f[P, 4] in an image of a (height, width)."""
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"{where}: proposals are {list(boxes.shape)}: give [P, 4]")
    height, width = size
    start, stop = boxes[:, :2], boxes[:, 2:]
    inside = (start >= -ROUNDING) & (stop <= np.array([[width, height]]) + ROUNDING)
    wrong = np.flatnonzero(~(inside & (start < stop)).all(axis=1))  # NaN is wrong as well
    if wrong.size:
        shown = ", ".join(f"{x:g}" for x in boxes[wrong[0]].tolist())
        raise InputError(
            f"{where}: proposal {wrong[0] + 1} ({shown}) is no box in an image of "
            f"{width} x {height} pixels: correct what proposes it"
        )
