"""Batches for the engine, read ahead by Grain's threads or worker processes.

A batch is a pure function of its number: which records it holds follows from the seed, and
nothing else is state. So the position in the data is one integer, the same for any number of
threads, workers, processes and devices.
"""

import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grain
import jax
import numpy as np
from absl import flags

from jaxvision.core import InputError, check_divisible, check_range
from jaxvision.data.sources.source import Record, Source

Transform = Callable[[Record, str], Any]
"""(record, where) -> one example, a struct of numpy arrays."""


@dataclass(frozen=True)
class Reading:
    """How batches are read ahead.

    Attributes:
      threads: that read batches, in this process or in each worker.
      workers: processes; 0 reads in this one.
      ahead: batches kept ready by this process or by each worker.
    """

    threads: int = 2
    workers: int = 0
    ahead: int = 4

    def __post_init__(self) -> None:
        check_range("config.data.threads", self.threads, least=0)
        check_range("config.data.workers", self.workers, least=0)


@dataclass(frozen=True)
class Share:
    """This process's part of every global batch: `index` of `count` equal slices."""

    index: int = 0
    count: int = 1

    def of(self, batch_size: int) -> range:
        """Places in the global batch that belong to this process.

        Raises:
          InputError: the batch cannot be cut into `count` equal parts of at least one.
        """
        check_divisible(batch_size, self.count, "processes")
        size = batch_size // self.count
        return range(self.index * size, (self.index + 1) * size)


@dataclass(frozen=True)
class Alternating:
    """Several transforms of which one, drawn at random, holds for some batches: multi-scale.

    Attributes:
      transforms: of equal results but for the image's size.
      every: batches between two draws.
      seed: of the draws; which transform a batch gets follows from that and its number.
    Raises:
      InputError: no transforms, or `every` is below 1.
    """

    transforms: tuple[Transform, ...]
    every: int
    seed: int

    def __post_init__(self) -> None:
        check_range("the number of transforms", len(self.transforms), least=1)
        check_range("config.data.size_every", self.every, least=1)

    def of_batch(self, number: int) -> Transform:
        """The transform of a batch."""
        rng = np.random.RandomState((self.seed, number // self.every))
        return self.transforms[rng.randint(len(self.transforms))]


@dataclass(frozen=True)
class Random:
    """A transform that draws.

    Attributes:
      transform: (record, where, rng) -> one example; what rng draws follows from the seed, the
        epoch and the example's place in it.
    """

    transform: Callable[[Record, str, np.random.RandomState], Any]


def _stack(examples: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *examples)


# RandomState's streams are frozen by numpy's compatibility policy, a Generator's are not: a run
# that is resumed after an upgrade sees the same order.


@functools.lru_cache(maxsize=2)
def _epoch_order(records: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.RandomState((seed, epoch)).permutation(records)


@dataclass(frozen=True)
class _TrainBatches:
    """Batch number -> this process's part of it. Picklable, for worker processes."""

    source: Source
    transform: Transform | Alternating | Random
    batch_size: int
    seed: int
    share: Share
    partners: int

    def _example(self, index: int, transform: Transform | Random, *place: int) -> Any:
        record, where = self.source[index], self.source.where(index)
        if isinstance(transform, Random):
            return transform.transform(record, where, np.random.RandomState((self.seed, *place)))
        return transform(record, where)

    def _at(self, position: int, transform: Transform | Random) -> Any:
        """The example at a place in the endless shuffled stream of all processes."""
        epoch, place = divmod(position, len(self.source))
        order = _epoch_order(len(self.source), self.seed, epoch)
        example = self._example(int(order[place]), transform, epoch, place, 0)
        if self.partners:
            rng = np.random.RandomState((self.seed, epoch, place))
            chosen = rng.randint(len(self.source), size=self.partners)
            others = [
                self._example(int(i), transform, epoch, place, number)
                for number, i in enumerate(chosen, start=1)
            ]
            example = example.replace(partners=_stack(others))
        return example

    def __call__(self, number: int) -> Any:
        transform = self.transform
        if isinstance(transform, Alternating):
            transform = transform.of_batch(number)
        first, places = number * self.batch_size, self.share.of(self.batch_size)
        return _stack([self._at(first + place, transform) for place in places])


@dataclass(frozen=True)
class _EvalBatches:
    """Batch number -> this process's part of it, in the source's order, filler at the end."""

    source: Source
    transform: Transform
    batch_size: int
    share: Share

    def _at(self, position: int) -> Any:
        if position < len(self.source):
            return self.transform(self.source[position], self.source.where(position))
        # Filler: all zeros, and so is its mask.
        return jax.tree.map(np.zeros_like, self._at(0))

    def __call__(self, number: int) -> Any:
        first = number * self.batch_size
        return _stack([self._at(first + place) for place in self.share.of(self.batch_size)])


def _read(batches: Callable[[int], Any], start: int, stop: int, reading: Reading) -> Iterator[Any]:
    stream = (
        grain.MapDataset.range(start, stop)
        .map(batches)
        .to_iter_dataset(
            grain.ReadOptions(num_threads=reading.threads, prefetch_buffer_size=reading.ahead)
        )
    )
    if reading.workers:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain's workers read absl flags
        stream = stream.mp_prefetch(grain.MultiprocessingOptions(num_workers=reading.workers))
    return iter(stream)


class TrainLoader:
    """An endless, shuffled stream of batches: a `jaxvision.core.DataIterator`.

    Every record comes once in an epoch; batches run across the border of two epochs, so nothing is
    dropped.

    Args:
      source: the records.
      transform: makes an example of each; or several that alternate, or one that draws.
      batch_size: of the global batch, over all processes.
      seed: of the order and the partners.
      share: this process's part of each batch.
      partners: how many other examples, drawn at random, arrive with each one in the field
        `partners`.
      reading: threads and workers.
    Raises:
      InputError: no records, a batch size that the processes cannot share, or a seed that is no
        unsigned 32-bit integer.
    """

    def __init__(
        self,
        source: Source,
        transform: Transform | Alternating | Random,
        *,
        batch_size: int,
        seed: int,
        share: Share = Share(),
        partners: int = 0,
        reading: Reading = Reading(),
    ):
        if not len(source):
            raise InputError("the training data has no records")
        share.of(batch_size)
        check_range("config.seed", seed, least=0, most=2**32 - 1)
        self._batches = _TrainBatches(source, transform, batch_size, seed, share, partners)
        self._reading = reading
        self._position, self._stream = 0, None

    def __iter__(self) -> "TrainLoader":
        return self

    def __next__(self) -> Any:
        if self._stream is None:
            self._stream = _read(self._batches, self._position, sys.maxsize, self._reading)
        batch = next(self._stream)
        self._position += 1
        return batch

    def get_state(self) -> dict[str, int]:
        """The position: {"batches": how many were taken, "records": how many there are}."""
        return {"batches": self._position, "records": len(self._batches.source)}

    def set_state(self, state: dict[str, int]) -> None:
        """Goes to a position that `get_state` gave.

        Raises:
          InputError: the data has another number of records by now.
        """
        records = len(self._batches.source)
        if state["records"] != records:
            raise InputError(
                f"the training data has {records} records, but the run began with "
                f"{state['records']}: restore the data or use another --workdir"
            )
        self._position = state["batches"]
        self._stream = None


class EvalLoader:
    """All records once, in order; the last batch is filled up with masked zeros.

    Args:
      source: the records.
      transform: makes an example of each.
      batch_size: of the global batch, over all processes.
      share: this process's part of each batch.
      reading: threads and workers.
    Raises:
      InputError: no records, or a batch size that the processes cannot share.
    """

    def __init__(
        self,
        source: Source,
        transform: Transform,
        *,
        batch_size: int,
        share: Share = Share(),
        reading: Reading = Reading(),
    ):
        if not len(source):
            raise InputError("the evaluation data has no records")
        share.of(batch_size)
        self._batches = _EvalBatches(source, transform, batch_size, share)
        self._reading = reading
        self._length = -(-len(source) // batch_size)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        return _read(self._batches, 0, len(self), self._reading)
