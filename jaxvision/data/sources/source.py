"""The contract of a data source, and what all sources share."""

import pathlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from jaxvision.core import InputError, OptionError, Record

_SHOWN = 10  # problems in an error message


class Source(Protocol):
    """Random access to the records of a data set. It can be pickled, for worker processes.

    A record is a mapping: "image" u8[H, W, C], and what is known of it. Sources for classification
    also have `labels`, int[N], and those of boxes `box_counts`, the number of boxes of each record;
    neither of them decodes an image.

    Attributes:
      class_names: of the labels, or of the landmarks; () where they are not known.
    """

    @property
    def class_names(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...

    def where(self, index: int) -> str:
        """Names a record in error messages: its file and its place there."""
        ...

    def target(self, index: int) -> Record:
        """Returns the record without "image", and does not decode the image if it can avoid it."""
        ...


def without_image(record: Record) -> Record:
    """Returns a record without its entry "image"."""
    return {name: value for name, value in record.items() if name != "image"}


def image_of(record: Record, where: str) -> np.ndarray:
    """Returns the image of a record, u8[H, W, C].

    Args:
      record: with "image".
      where: names the record in messages.
    Raises:
      InputError: it has another dtype or rank.
    """
    image = np.asarray(record["image"])
    if image.dtype != np.uint8 or image.ndim != 3:
        raise InputError(
            f"{where}: the image is {image.dtype}{list(image.shape)}: give uint8 [H, W, C]"
        )
    return image


def size_of(source: Source, index: int) -> tuple[int, int]:
    """Returns the (height, width) of a record's image.

    The image is decoded only where the record's target has no "size".
    """
    size = source.target(index).get("size")
    return size or image_of(source[index], source.where(index)).shape[:2]


def as_path(path: Any, what: str = "folder") -> pathlib.Path:
    """Returns a path, of which ~ is the home folder.

    Args:
      path: of a file or folder.
      what: it is of, for the message.
    Raises:
      OptionError: no path is given.
    """
    if not path:
        raise OptionError("path", f"path is {path!r}: give the {what} of the data")
    return pathlib.Path(path).expanduser()


def refuse(name: str, problems: Sequence[Any], *, advice: str | None = None) -> None:
    """Raises InputError if there are problems; the message lists the first of them.

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
