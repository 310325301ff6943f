"""Options of loaders: which part of a batch, how it is read, and transforms that change."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxvision.core import OptionError, Record, check_divisible, check_range

Transform = Callable[[Record, str], Any]
"""(record, where) -> one example, a struct of numpy arrays.

It may have a method `check_source(source)`, which raises InputError if the source does not fit, and
returns what to warn of, or None; a loader calls it once, before it reads a record. It may have an
attribute `inputs`; if these have several shapes, it also takes `size`, the (height, width) that the
example's image gets."""


@dataclass(frozen=True)
class ReadOptions:
    """How batches are read ahead.

    Attributes:
      threads: that read batches, in this process or in each worker.
      workers: processes that read parts of batches, of at most 16 examples; 0: this one reads.
      ahead: batches that this process, or parts of batches that each worker keeps ready.
    Raises:
      OptionError: a number below 0.
    """

    threads: int = 2
    workers: int = 0
    ahead: int = 4

    def __post_init__(self) -> None:
        check_range("threads", self.threads, least=0)
        check_range("workers", self.workers, least=0)
        check_range("ahead", self.ahead, least=0)


@dataclass(frozen=True)
class Shard:
    """One process's part of every global batch.

    Attributes:
      index: of the process.
      count: of equal parts.
    Raises:
      OptionError: there is no such part.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        check_range("count", self.count, least=1)
        check_range("index", self.index, least=0, less_than=self.count)

    def places(self, batch_size: int) -> range:
        """Returns the places in the global batch that belong to this process.

        Args:
          batch_size: of the global batch.
        Raises:
          InputError: the batch cannot be cut into `count` equal parts of at least one.
        """
        check_divisible(batch_size, self.count, "processes")
        size = batch_size // self.count
        return range(self.index * size, (self.index + 1) * size)


@dataclass(frozen=True)
class RandomTransform:
    """A transform that draws random numbers.

    Attributes:
      transform: (record, where, rng) -> one example, otherwise as `Transform`; what the
        np.random.RandomState draws follows from the seed of the loader, the epoch and the example's
        place in it.
    """

    transform: Callable[[Record, str, np.random.RandomState], Any]


@dataclass(frozen=True)
class MultiScale:
    """Several transforms, of which some batches each use one that is drawn at random.

    Attributes:
      transforms: of equal results but for the image's size.
      every: batches between two draws.
      seed: of the draws; which transform a batch uses follows from it and the batch's number.
    Raises:
      OptionError: there are no transforms, or `every` is below 1.
    """

    transforms: tuple[Transform | RandomTransform, ...]
    every: int
    seed: int

    def __post_init__(self) -> None:
        if not self.transforms:
            raise OptionError("transforms", "transforms is empty: give at least 1")
        check_range("every", self.every, least=1)

    def of_batch(self, number: int) -> Transform | RandomTransform:
        """Returns the transform of a batch."""
        rng = np.random.RandomState((self.seed, number // self.every))
        return self.transforms[rng.randint(len(self.transforms))]
