"""Sources: random access to raw records."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from jaxvision.core import check_range

Record = dict[str, Any]
"""One raw record: "image" (uint8 [H, W, C]), "label" (int), or whatever the task needs."""


class Source(Protocol):
    """Records by index. Picklable, so that worker processes can have a copy."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...

    def where(self, index: int) -> str:
        """Names a record for an error message: its file and its place there."""
        ...


class Subset:
    """Some records of a source.

    Args:
      source: the source.
      indices: which of its records, in which order.
    """

    def __init__(self, source: Source, indices: Sequence[int]):
        self._source, self._indices = source, np.asarray(indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Record:
        return self._source[int(self._indices[index])]

    def where(self, index: int) -> str:
        return self._source.where(int(self._indices[index]))


class Cached:
    """Keeps every record that was read, for sets that fit into memory."""

    def __init__(self, source: Source):
        self._source, self._records = source, {}

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        if index not in self._records:
            self._records[index] = self._source[index]
        return self._records[index]

    def where(self, index: int) -> str:
        return self._source.where(index)


def hold_out(source: Source, fraction: float) -> tuple[Source, Source]:
    """Splits off a random part, the same one on every call and every machine.

    Args:
      source: what to split.
      fraction: share of the part, 0 <= fraction < 1.
    Returns:
      (rest, part); the part has round(fraction * len(source)) records.
    Raises:
      InputError: the fraction is out of range.
    """
    check_range("config.data.validation_fraction", fraction, least=0, less_than=1)
    # RandomState's stream is frozen by numpy's compatibility policy; a Generator's is not.
    order = np.random.RandomState(0).permutation(len(source))
    held = round(fraction * len(source))
    return Subset(source, np.sort(order[held:])), Subset(source, np.sort(order[:held]))


def own_split(data: Any, split: str) -> str:
    """What a config's data itself calls a split.

    Args:
      data: config with `train_split` and `test_split`.
      split: "train" and "test" stand for these; any other stands for itself.
    """
    return {"train": data.train_split, "test": data.test_split}.get(split, split)
