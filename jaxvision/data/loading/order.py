"""The order of records: in epochs, and in groups whose images have one shape."""

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from jaxvision.core import Inputs, OptionError
from jaxvision.core.inputs import Size
from jaxvision.data.loading.options import MultiScale, RandomTransform
from jaxvision.data.sources.source import Source, size_of

# RandomState's streams are frozen by numpy's compatibility policy, a Generator's are not: a run
# that is resumed after an upgrade sees the same order.


@functools.lru_cache(maxsize=4)
def epoch_order(records: int, seed: int, epoch: int) -> np.ndarray:
    """Returns the records of an epoch in their random order, i64[N].

    Args:
      records: N.
      seed: of the order.
      epoch: counted from 0.
    """
    return np.random.RandomState((seed, epoch)).permutation(records)


def parts_of(transform: Any) -> tuple[Any, ...]:
    """Returns the transforms of one or several sizes that a transform consists of."""
    parts = transform.transforms if isinstance(transform, MultiScale) else (transform,)
    return tuple(x.transform if isinstance(x, RandomTransform) else x for x in parts)


def size_in(transform: Any, size: Size) -> Size | None:
    """Returns the (height, width) that a transform gives an image; None where all get the same.

    Args:
      transform: no `MultiScale`.
      size: (height, width) of the image.
    """
    (part,) = parts_of(transform)
    inputs: Inputs | None = getattr(part, "inputs", None)
    if inputs is None or inputs.shapes == "fixed":
        return None
    return inputs.size_of(size)


class Groups(NamedTuple):
    """Records grouped by the shapes that they get.

    Attributes:
      of_record: i64[N], the group of each record.
      sizes: (height, width) of an original image of each group.
    """

    of_record: np.ndarray
    sizes: tuple[Size, ...]


def group_records(source: Source, transform: Any) -> Groups | None:
    """Groups records so that those of a group have one shape, in each size of a `MultiScale`.

    The size of each image is read, see `size_of`.

    Args:
      source: the records.
      transform: of the records.
    Returns:
      the groups, the one of the largest images first; None: all images get one shape.
    """
    parts = parts_of(transform)
    if all(size_in(part, (1, 1)) is None for part in parts):
        return None
    with ThreadPoolExecutor() as pool:  # it mostly waits for files
        sizes = list(pool.map(functools.partial(size_of, source), range(len(source))))
    keys = [tuple(size_in(part, size) for part in parts) for size in sizes]
    examples = dict(zip(keys, sizes, strict=True))
    ordered = sorted(examples, key=lambda key: (-np.prod(key[0] or (0,)), key))
    numbers = {key: number for number, key in enumerate(ordered)}
    of_record = np.array([numbers[key] for key in keys], np.int64)
    return Groups(of_record, tuple(examples[key] for key in ordered))


def check_no_exact(transform: Any) -> None:
    """Raises OptionError if a transform for training gives each image its own shape."""
    for part in parts_of(transform):
        inputs = getattr(part, "inputs", None)
        if inputs is not None and inputs.shapes == "exact":
            raise OptionError(
                "shapes",
                "shapes is 'exact', which is for evaluation and prediction: train with 'buckets' "
                "or 'fixed'",
            )


@dataclass(frozen=True, eq=False)
class GroupedOrder:
    """Batches of one group each, out of the endless shuffled stream of all records.

    The stream has each record once in an epoch. Each group collects its records from it, and makes
    a batch whenever it has enough of them. So the n-th occurrence of a record in the batches is
    that of epoch n, and no record is dropped or comes more often than others: at any time at most
    batch_size - 1 records of each group wait. A group of fewer records than a batch has several
    epochs of them in one batch.

    Attributes:
      groups: i64[N], the group of each record.
      batch_size: of the global batch.
      seed: of the order.
    """

    groups: np.ndarray
    batch_size: int
    seed: int

    @functools.cached_property
    def _counts(self) -> np.ndarray:
        return np.bincount(self.groups)

    def _batches_before(self, epoch: int) -> int:
        """How many batches are complete before an epoch."""
        return int((epoch * self._counts // self.batch_size).sum())

    def batch(self, number: int) -> tuple[int, list[int]]:
        """Returns the group of a batch, and the places of its records in the stream.

        Args:
          number: of the batch, counted from 0.
        """
        epoch = number * self.batch_size // len(self.groups)  # or later
        while self._batches_before(epoch + 1) <= number:
            epoch += 1
        places = _places(self, epoch)
        # The records that complete a batch.
        counted = epoch * self._counts[places.group] + places.rank
        last = np.flatnonzero((counted + 1) % self.batch_size == 0)
        place = last[number - self._batches_before(epoch)]
        group, stop = int(places.group[place]), int(counted[place]) + 1
        stream = []
        for count in range(stop - self.batch_size, stop):
            its_epoch, rank = divmod(count, int(self._counts[group]))
            its_place = _places(self, its_epoch).of_group[group][rank]
            stream.append(its_epoch * len(self.groups) + int(its_place))
        return group, stream


class _Places(NamedTuple):
    """The places of an epoch.

    Attributes:
      group: i64[N], the group of each place's record.
      rank: i64[N], how many records of its group come before it.
      of_group: for each group its places.
    """

    group: np.ndarray
    rank: np.ndarray
    of_group: Sequence[np.ndarray]


@functools.lru_cache(maxsize=4)
def _places(order: GroupedOrder, epoch: int) -> _Places:
    group = order.groups[epoch_order(len(order.groups), order.seed, epoch)]
    of_group = [np.flatnonzero(group == number) for number in range(order.groups.max() + 1)]
    rank = np.zeros(len(group), np.int64)
    for places in of_group:
        rank[places] = np.arange(len(places))
    return _Places(group, rank, of_group)


def in_batches(groups: Groups | None, records: int, batch_size: int) -> list[np.ndarray]:
    """Returns the records of each batch of an evaluation: all once, group by group.

    Args:
      groups: of the records; None: they are one group.
      records: how many there are.
      batch_size: of the global batch; the last batch of a group may have fewer records.
    """
    of_record = np.zeros(records, np.int64) if groups is None else groups.of_record
    each = (np.flatnonzero(of_record == group) for group in range(of_record.max() + 1))
    return [x[start : start + batch_size] for x in each for start in range(0, len(x), batch_size)]
