"""The contract of a data source, and what all sources share."""

import math
import pathlib
import re
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from jaxvision.core import InputError, OptionError, Record, one_line, reason_of
from jaxvision.core.files import read_text

_LINES = 10  # of an error message


_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?", re.ASCII | re.IGNORECASE)


class Source(Protocol):
    """Random access to the records of a data set. It can be pickled, for worker processes.

    A record is a mapping: "image" u8[H, W, C], and what is known of it. Sources for classification
    also have `labels`, int[N], and those of boxes `box_counts`, the number of boxes of each record;
    neither of them decodes an image. A source whose targets have no "size" may have a method
    `size(index)`, which gives the (height, width) of an image without decoding it.

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

    The image is decoded only where the source has no method `size`, and the record's target has no
    "size".
    """
    if callable(getattr(source, "size", None)):
        return source.size(index)
    size = source.target(index).get("size")
    return size or image_of(source[index], source.where(index)).shape[:2]


def image_id_of(source: Source, index: int) -> int | str:
    """Returns what an image is called in COCO's form of results.

    It is what a method `image_id` of the source gives, otherwise its index.
    """
    if callable(getattr(source, "image_id", None)):
        return source.image_id(index)
    return index


def image_file_of(source: Source, index: int) -> pathlib.Path | None:
    """Returns the file of an image, if a method `image_file` of the source gives it."""
    if callable(getattr(source, "image_file", None)):
        return source.image_file(index)
    return None


def number_of(name: str) -> int | None:
    """Returns the whole number that the name of an image is, such as "000000000139"; None: none.

    It has at most 15 digits, so that every reader of json gives it back exactly.
    """
    digits = name.lstrip("0") or "0"
    return int(digits) if name.isascii() and name.isdecimal() and len(digits) <= 15 else None


def category_ids_of(source: Source) -> tuple[int | str, ...]:
    """Returns the ids of the classes in COCO's form of results.

    They are the `category_ids` of the source, otherwise 1, 2, ...
    """
    ids = getattr(source, "category_ids", None)
    return tuple(range(1, len(source.class_names) + 1)) if ids is None else tuple(ids)


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


def number_in(text: str) -> float:
    """Returns the number that a text is; raises ValueError if it is none or not finite.

    Python itself also reads "nan", "1_000" and digits of other scripts.
    """
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not a number")
    return value


def lines_of(path: pathlib.Path) -> list[str]:
    """Returns the lines of a text file in UTF-8 that are not blank, without blanks around them.

    Raises:
      InputError: there is no such regular file, or it cannot be read.
    """
    try:
        lines = read_text(path).splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({reason_of(error)})") from error
    return [line.strip() for line in lines if line.strip()]


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
    last = [advice] if advice else []
    room = _LINES - 1 - len(last)
    shown = len(problems) if len(problems) <= room else room - 1
    lines = [f"  {one_line(str(problem), 600)}" for problem in problems[:shown]]
    if len(problems) > shown:
        lines.append(f"  and {len(problems) - shown} more")
    raise InputError("\n".join([f"{name} has {count}:", *lines, *last]))
