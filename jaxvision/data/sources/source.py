"""Sources: random access to raw records."""

import pathlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from jaxvision.core import InputError, check_range

Record = dict[str, Any]
"""One raw record: "image" (uint8 [H, W, C]), "label" (int), or whatever the task needs."""


class Source(Protocol):
    """Records by index. Picklable, so that worker processes can have a copy.

    Those for classification have `labels` too, int[N], without decoding an image.
    """

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

    @property
    def labels(self) -> np.ndarray:
        """int[N], of a source for classification."""
        return self._source.labels[self._indices]


class Cached:
    """Keeps records that were read.

    Args:
      source: the source.
      most: records to keep, the last ones read for the first time; None: all of them, for sets that
        fit into memory.
    """

    def __init__(self, source: Source, *, most: int | None = None):
        self._source, self._most, self._records = source, most, {}

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


def hold_out(source: Source, fraction: float) -> tuple[Subset, Subset]:
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


def data_folder(data: Any) -> pathlib.Path:
    """The folder of a config's data.

    Args:
      data: config with `dir`.
    Raises:
      InputError: it is not set.
    """
    if not data.dir:
        raise InputError("config.data.dir is not set: give the folder of the data")
    return pathlib.Path(data.dir).expanduser()


def image_of(record: Record, where: str, *, channels: int | None = 3) -> np.ndarray:
    """The image of a record, u8[H, W, channels].

    Args:
      record: with "image".
      where: names the record in messages.
      channels: that it must have, or None for any.
    Raises:
      InputError: it has another form.
    """
    image = np.asarray(record["image"])
    if image.dtype != np.uint8 or image.ndim != 3 or channels not in (None, image.shape[2]):
        raise InputError(
            f"{where}: the image is {image.dtype}{list(image.shape)}, not uint8 "
            f"[H, W, {channels or 'C'}]"
        )
    return image


_SHOWN = 10  # problems in an error message


def refuse(name: str, problems: Sequence[Any], *, advice: str | None = None) -> None:
    """Raises InputError if there are problems, and lists the first of them.

    Args:
      name: of the data.
      problems: a line each.
      advice: the last line of the message.
    """
    if not problems:
        return
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = [f"{name} has {count}:", *(f"  {problem}" for problem in problems[:_SHOWN])]
    if len(problems) > _SHOWN:
        lines.append(f"  and {len(problems) - _SHOWN} more")
    raise InputError("\n".join([*lines, *([advice] if advice else [])]))


def own_split(data: Any, split: str) -> str:
    """What a config's data itself calls a split.

    Args:
      data: config with `train_split` and `test_split`.
      split: "train" and "test" stand for these; any other stands for itself.
    """
    return {"train": data.train_split, "test": data.test_split}.get(split, split)
