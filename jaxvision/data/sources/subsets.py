"""Parts of sources, and records that are kept in memory."""

import pathlib
from collections.abc import Sequence

import numpy as np

from jaxvision.core import OptionError, Record, check_range
from jaxvision.data.sources.checks import check_labels
from jaxvision.data.sources.skeletons import Skeleton
from jaxvision.data.sources.source import (
    Source,
    category_ids_of,
    image_file_of,
    image_id_of,
    size_of,
    without_image,
)


class Subset:
    """Some records of a source.

    Args:
      source: the source.
      indices: which of its records, in which order.

    Attributes:
      class_names: those of the source.
    """

    def __init__(self, source: Source, indices: Sequence[int]):
        self._source, self._indices = source, np.asarray(indices, np.int64)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._source.class_names

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Record:
        return self._source[int(self._indices[index])]

    def where(self, index: int) -> str:
        return self._source.where(int(self._indices[index]))

    def target(self, index: int) -> Record:
        return self._source.target(int(self._indices[index]))

    def size(self, index: int) -> tuple[int, int]:
        """Returns the (height, width) of an image, see `size_of`."""
        return size_of(self._source, int(self._indices[index]))

    @property
    def labels(self) -> np.ndarray:
        """int[N], where the source has them."""
        return self._source.labels[self._indices]

    @property
    def box_counts(self) -> list[int]:
        """How many boxes each record has, where the source knows it."""
        counts = self._source.box_counts
        return [counts[index] for index in self._indices.tolist()]

    @property
    def skeleton(self) -> Skeleton | None:
        """Of the objects' keypoints, where the source has them."""
        return self._source.skeleton

    def image_id(self, index: int) -> int | str:
        """Returns what an image is called, see `image_id_of`."""
        return image_id_of(self._source, int(self._indices[index]))

    def image_file(self, index: int) -> pathlib.Path | None:
        """The file of a record's image, where the source has them."""
        return image_file_of(self._source, int(self._indices[index]))

    @property
    def category_ids(self) -> tuple[int | str, ...]:
        """Of the classes, see `category_ids_of`."""
        return category_ids_of(self._source)


class Cached:
    """Keeps records in memory once they are read.

    Args:
      source: the source.
      most: how many records to keep; beyond it the one that was read first is dropped. None: all of
        them, for data that fits into memory.

    Attributes:
      class_names: those of the source.
    """

    def __init__(self, source: Source, *, most: int | None = None):
        self._source, self._most, self._records = source, most, {}

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._source.class_names

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        record = self._records.get(index)
        if record is None:
            record = self._records[index] = self._source[index]
            if self._most is not None and len(self._records) > self._most:
                self._records.pop(next(iter(self._records)), None)
        return record

    def where(self, index: int) -> str:
        return self._source.where(index)

    def target(self, index: int) -> Record:
        record = self._records.get(index)
        return self._source.target(index) if record is None else without_image(record)

    def size(self, index: int) -> tuple[int, int]:
        """Returns the (height, width) of an image, see `size_of`."""
        return size_of(self._source, index)

    @property
    def labels(self) -> np.ndarray:
        """int[N], where the source has them."""
        return self._source.labels

    @property
    def box_counts(self) -> list[int]:
        """How many boxes each record has, where the source knows it."""
        return self._source.box_counts

    @property
    def skeleton(self) -> Skeleton | None:
        """Of the objects' keypoints, where the source has them."""
        return self._source.skeleton

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


def hold_out(source: Source, fraction: float) -> tuple[Subset, Subset]:
    """Splits off a random part, which is the same on every call and every machine.

    Args:
      source: what to split.
      fraction: of the records that the part gets, 0 <= fraction < 1.
    Returns:
      (rest, part); the part has round(fraction * len(source)) records.
    Raises:
      OptionError: the fraction is out of range.
    """
    check_range("fraction", fraction, least=0, less_than=1)
    # RandomState's stream is frozen by numpy's compatibility policy; a Generator's is not.
    order = np.random.RandomState(0).permutation(len(source))
    held = round(fraction * len(source))
    return Subset(source, np.sort(order[held:])), Subset(source, np.sort(order[:held]))


def few_of_each(source: Source, count: int) -> Subset:
    """Takes as many random records of each class, the same on every call and every machine.

    The records of a smaller count are among those of a larger one.

    Args:
      source: with `labels`. If it has no class names, its classes are 0 to its largest label.
      count: records of each class, at least 1.
    Returns:
      `count` records of each class, in the source's order.
    Raises:
      OptionError: the count is below 1, or a class has fewer records.
      InputError: a label is out of range.
    """
    check_range("count", count, least=1)
    labels = np.asarray(source.labels)
    num_classes = len(source.class_names) or int(labels.max(initial=-1)) + 1
    check_labels(source, num_classes, option="class_names")
    labels = labels.astype(np.int64)
    have = np.bincount(labels, minlength=num_classes)
    if have.min(initial=count) < count:
        least = int(have.argmin())
        name = source.class_names[least] if source.class_names else least
        raise OptionError(
            "count",
            f"count is {count}, but class {name} has {have[least]} images: lower it, or add images",
        )
    # RandomState's stream is frozen by numpy's compatibility policy; a Generator's is not.
    order = np.random.RandomState(0).permutation(len(source))
    order = order[np.argsort(labels[order], kind="stable")]  # class by class
    starts = np.cumsum(have) - have
    return Subset(source, np.sort(order[starts[:, None] + np.arange(count)], axis=None))
