"""Batches for the engine, read ahead by Grain's threads or worker processes.

A batch is a pure function of its number: which records it holds follows from the seed, and
nothing else is state. So the position in the data is one integer, the same for any number of
threads, workers, processes and devices.

Worker processes read parts of batches, of a few examples each, and this process joins them: so the
memory that workers need depends neither on the size of a batch nor on how many of them read it.
"""

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grain
import jax
import numpy as np
from absl import flags

from jaxvision.core import InputError, Record, check_range
from jaxvision.core.inputs import Size
from jaxvision.core.memory import check_memory
from jaxvision.data.loading.options import (
    MultiScale,
    RandomTransform,
    ReadOptions,
    Shard,
    Transform,
)
from jaxvision.data.loading.order import (
    GroupedOrder,
    Groups,
    check_no_exact,
    epoch_order,
    group_records,
    in_batches,
    parts_of,
    size_in,
)
from jaxvision.data.sources.source import Source

log = logging.getLogger(__name__)

_READ = ReadOptions()
_PART = 16  # examples that a worker hands over at once, at most
_WHOLE = slice(None)


def _batch(examples: Iterator[Any], count: int, batch_size: int) -> Any:
    """Stacks examples, which are made one by one: the first shows whether a batch fits into memory.

    Args:
      examples: of a batch, or of a part of it.
      count: of examples in this process's batch.
      batch_size: of the global batch.
    """
    first = next(examples)
    size = sum(np.asarray(x).nbytes for x in jax.tree.leaves(first))
    check_memory("batch_size", batch_size, count * size, "the examples of a batch take")
    return _stack([first, *examples])


def _stack(examples: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *examples)


def _join(parts: Sequence[Any]) -> Any:
    """Joins the parts of a batch; its arrays are copies, not the shared memory of workers."""
    return jax.tree.map(lambda *leaves: np.concatenate([np.asarray(x) for x in leaves]), *parts)


class _Generator(threading.local):
    """A generator of random numbers for each thread: seeding one is faster than making one."""

    def __init__(self):
        self.rng = np.random.RandomState(0)


_GENERATOR = _Generator()


@dataclass(frozen=True)
class _Placed:
    """A transform that puts images into an input of one (height, width); None: of their own."""

    transform: Transform | RandomTransform
    size: Size | None

    def __call__(self, record: Record, where: str, seed: tuple[int, ...]) -> Any:
        placed = {} if self.size is None else {"size": self.size}
        if isinstance(self.transform, RandomTransform):
            _GENERATOR.rng.seed(seed)
            return self.transform.transform(record, where, _GENERATOR.rng, **placed)
        return self.transform(record, where, **placed)


@dataclass(frozen=True, eq=False)
class _TrainBatches:
    """Batch number -> this process's examples of it. Can be pickled, for worker processes.

    Calling it with `part` gives those examples alone: a slice of this process's.
    """

    source: Source
    transform: Transform | MultiScale | RandomTransform
    batch_size: int
    seed: int
    shard: Shard
    partners: int
    groups: Groups | None
    order: GroupedOrder | None

    def _example(self, index: int, transform: _Placed, *place: int) -> Any:
        return transform(self.source[index], self.source.where(index), (self.seed, *place))

    def _at(self, position: int, transform: _Placed) -> Any:
        """Returns the example at a place in the endless shuffled stream of all processes."""
        epoch, place = divmod(position, len(self.source))
        order = epoch_order(len(self.source), self.seed, epoch)
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

    @property
    def places(self) -> range:
        """The places in the global batch that are this process's."""
        return self.shard.places(self.batch_size)

    def __call__(self, number: int, part: slice = _WHOLE) -> Any:
        transform = self.transform
        if isinstance(transform, MultiScale):
            transform = transform.of_batch(number)
        size = None
        if self.order is None:
            stream = range(number * self.batch_size, (number + 1) * self.batch_size)
        else:
            group, stream = self.order.batch(number)
            size = size_in(transform, self.groups.sizes[group])
        placed = _Placed(transform, size)
        examples = (self._at(stream[place], placed) for place in self.places[part])
        return _batch(examples, len(self.places), self.batch_size)


@dataclass(frozen=True, eq=False)
class _EvalBatches:
    """Like `_TrainBatches`, with filler after the last record of a group."""

    source: Source
    transform: Transform
    batch_size: int
    shard: Shard
    batches: list[np.ndarray]

    def _at(self, indices: np.ndarray, place: int) -> Any:
        if place < len(indices):
            index = int(indices[place])
            return self.transform(self.source[index], self.source.where(index))
        # Filler: all zeros, and so is its mask.
        return jax.tree.map(np.zeros_like, self._at(indices, 0))

    @property
    def places(self) -> range:
        """The places in the global batch that are this process's."""
        return self.shard.places(self.batch_size)

    def __call__(self, number: int, part: slice = _WHOLE) -> Any:
        examples = (self._at(self.batches[number], place) for place in self.places[part])
        return _batch(examples, len(self.places), self.batch_size)


@dataclass(frozen=True, eq=False)
class _Parts:
    """Number of a part -> its examples, where each batch has `count` parts."""

    batches: _TrainBatches | _EvalBatches
    count: int

    def __call__(self, number: int) -> Any:
        batch, part = divmod(number, self.count)
        size = -(-len(self.batches.places) // self.count)
        return self.batches(batch, slice(part * size, (part + 1) * size))


def _parts(batches: _TrainBatches | _EvalBatches) -> _Parts:
    """Cuts batches into parts that workers read."""
    return _Parts(batches, -(-len(batches.places) // _PART))


def _live_as_long_as_the_parent(worker: int, workers: int) -> None:
    """Lets a worker process end with the process that it reads for, and not before.

    Ctrl-C and schedulers signal workers too, while a training still needs batches to stop after a
    step. Grain stops its workers without these signals. One that still starts is ended by them.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _read(
    batches: _TrainBatches | _EvalBatches, start: int, stop: int, read: ReadOptions
) -> Iterator[Any]:
    """Yields the batches of the numbers from `start` to before `stop`."""
    parts = _parts(batches) if read.workers else _Parts(batches, 1)
    stop = min(stop, sys.maxsize // parts.count)
    stream = (
        grain.MapDataset.range(start * parts.count, stop * parts.count)
        .map(parts)
        .to_iter_dataset(
            grain.ReadOptions(num_threads=read.threads, prefetch_buffer_size=read.ahead)
        )
    )
    if read.workers:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain's workers read absl flags
        options = grain.MultiprocessingOptions(num_workers=read.workers)
        stream = stream.mp_prefetch(options, worker_init_fn=_live_as_long_as_the_parent)
        stream = stream.batch(parts.count, batch_fn=_join)
    return iter(stream)


def _shard(shard: Shard | None, batch_size: int) -> Shard:
    """Returns a shard that the batch can be cut into; None: this process's."""
    if shard is None:
        shard = Shard(jax.process_index(), jax.process_count())
    shard.places(batch_size)
    return shard


def _check(transform: Transform | MultiScale | RandomTransform, source: Source) -> None:
    """Calls `check_source` of each transform that has it, and warns of what that tells."""
    checks = (getattr(part, "check_source", None) for part in parts_of(transform))
    told = (check(source) for check in checks if check is not None)
    for warning in dict.fromkeys(filter(None, told)):  # of several sizes it is the same
        log.warning("%s", warning)


class TrainLoader:
    """An endless, shuffled stream of batches: a `jaxvision.core.DataIterator`.

    Every record comes once in an epoch. Batches run across the border of two epochs, so nothing is
    dropped. If the `inputs` of the transform have several shapes, all images of a batch have one of
    them, partners too; see `GroupedOrder` for what an epoch is then.

    Args:
      source: the records.
      transform: makes an example of each; or a `MultiScale` or `RandomTransform`.
      batch_size: of the global batch, over all processes.
      seed: of the order, the partners and what transforms draw.
      partners: how many other examples, drawn at random, arrive with each one in the field
        `partners`.
      shard: the part of each batch; None: this process's.
      read: threads and workers.

    Attributes:
      batch_size, seed, partners: as given.
    Raises:
      InputError: there are no records, the processes cannot share the batch, the seed is not an
        unsigned 32-bit integer, the source does not fit the transform, or the transform gives each
        image its own shape.
    """

    def __init__(
        self,
        source: Source,
        transform: Transform | MultiScale | RandomTransform,
        *,
        batch_size: int,
        seed: int,
        partners: int = 0,
        shard: Shard | None = None,
        read: ReadOptions = _READ,
    ):
        if not len(source):
            raise InputError("the training data has no records")
        shard = _shard(shard, batch_size)
        check_range("seed", seed, least=0, most=2**32 - 1)
        check_range("partners", partners, least=0)
        _check(transform, source)
        check_no_exact(transform)
        groups = group_records(source, transform)
        order = groups and GroupedOrder(groups.of_record, batch_size, seed)
        self.batch_size, self.seed, self.partners = batch_size, seed, partners
        self._batches = _TrainBatches(
            source, transform, batch_size, seed, shard, partners, groups, order
        )
        self._options = read
        self._position, self._stream = 0, None

    def __iter__(self) -> "TrainLoader":
        return self

    def __next__(self) -> Any:
        if self._stream is None:
            self._stream = _read(self._batches, self._position, sys.maxsize, self._options)
        batch = next(self._stream)
        self._position += 1
        return batch

    def get_state(self) -> dict[str, int]:
        """Returns the position: {"batches": how many were taken, "records": how many there are}."""
        return {"batches": self._position, "records": len(self._batches.source)}

    def set_state(self, state: dict[str, int]) -> None:
        """Goes to a position that `get_state` gave.

        Raises:
          InputError: the data has another number of records now.
        """
        records = len(self._batches.source)
        if state["records"] != records:
            raise InputError(
                f"the training data has {records} records, but the run began with "
                f"{state['records']}: restore the data, or start another run"
            )
        self._position = state["batches"]
        self._stream = None


class EvalLoader:
    """All records once, in order; the last batch is filled up with masked zeros.

    If the `inputs` of the transform have several shapes, the records are ordered by them, and the
    last batch of each shape is filled up. If each image has its own shape, a batch has one image in
    each process.

    Args:
      source: the records.
      transform: makes an example of each.
      batch_size: of the global batch, over all processes.
      shard: the part of each batch; None: this process's.
      read: threads and workers.

    Attributes:
      batch_size: as given, or the number of processes where each image has its own shape.
      order: i64[N], the record of each example, filler left out.
    Raises:
      InputError: there are no records, the processes cannot share the batch, or the source does not
        fit the transform.
    """

    def __init__(
        self,
        source: Source,
        transform: Transform,
        *,
        batch_size: int,
        shard: Shard | None = None,
        read: ReadOptions = _READ,
    ):
        if not len(source):
            raise InputError("the evaluation data has no records")
        shard = _shard(shard, batch_size)
        _check(transform, source)
        inputs = getattr(transform, "inputs", None)
        if inputs is not None and inputs.shapes == "exact":
            batch_size = shard.count
        batches = in_batches(group_records(source, transform), len(source), batch_size)
        self.batch_size, self.order = batch_size, np.concatenate(batches)
        self._batches = _EvalBatches(source, transform, batch_size, shard, batches)
        self._options = read
        self._targets: list[Record] | None = None

    def __len__(self) -> int:
        return len(self._batches.batches)

    def __iter__(self) -> Iterator[Any]:
        return _read(self._batches, 0, len(self), self._options)

    def targets(self) -> list[Record]:
        """Returns the records of all examples without their images, in the order of the examples.

        They are of the whole global batches, not only of this process's part. They are computed
        once and kept.
        """
        if self._targets is None:
            source = self._batches.source
            self._targets = [source.target(index) for index in self.order.tolist()]
        return self._targets
