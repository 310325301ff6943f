"""Parses the text of a Darknet description to sections of options, with line numbers."""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple, Self, TypeVar

from jaxvision.core import InputError, one_line

T = TypeVar("T")

_LARGEST = 2**31 - 1  # Darknet's integers have 32 bits


class Option(NamedTuple):
    name: str
    value: str
    line: int


@dataclasses.dataclass(frozen=True)
class Section:
    """A section of a description: a layer, or [net].

    If an option is given twice, the first one counts, as in Darknet. An option without a default is
    required.

    Attributes:
      kind: the name in the brackets.
      line: its line.
      options: the options, in order.
      source: name of the file, for messages.
    """

    kind: str
    line: int
    options: tuple[Option, ...]
    source: str

    def find(self, name: str) -> Option | None:
        return next((option for option in self.options if option.name == name), None)

    def with_options(self, values: Mapping[str, int]) -> Self:
        """The section with other values of some options."""
        others = (option for option in self.options if option.name not in values)
        new = (Option(name, str(value), self.line) for name, value in values.items())
        return dataclasses.replace(self, options=(*others, *new)) if values else self

    def text_of(self) -> str:
        """The section as lines of text."""
        lines = (f"{option.name}={option.value}\n" for option in self.options)
        return f"[{self.kind}]\n{''.join(lines)}"

    def error(self, message: str, name: str | None = None) -> InputError:
        """Returns an error with the line of the option, if it is given, or of the section."""
        option = self.find(name) if name is not None else None
        line = self.line if option is None else option.line
        return InputError(f"{self.source}, line {line}: {one_line(f'[{self.kind}] {message}')}")

    def text(self, name: str, default: str | None = None) -> str:
        return self._one(name, str, "a word", default)

    def integer(self, name: str, default: int | None = None, *, least: int | None = 1) -> int:
        value = self._one(name, _integer, "an integer", default)
        if least is not None and value < least:
            raise self.error(f"{name} is {value}: give at least {least}", name)
        return value

    def number(self, name: str, default: float | None = None) -> float:
        return self._one(name, _finite, "a number", default)

    def flag(self, name: str) -> bool:
        """Returns whether the option is on, which means not 0."""
        return self.integer(name, 0, least=0) != 0

    def integers(self, name: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        return self._several(name, _integer, "integers", default)

    def numbers(self, name: str, default: tuple[float, ...] | None = None) -> tuple[float, ...]:
        return self._several(name, _finite, "numbers", default)

    def _one(self, name: str, convert: Callable[[str], T], what: str, default: T | None) -> T:
        option = self.find(name)
        if option is None:
            if default is None:
                raise self.error(f"has no {name}: add {name}= and {what}")
            return default
        try:
            return convert(option.value)
        except ValueError:
            raise self.error(f"{name} is {option.value!r}: give {what}", name) from None

    def _several(
        self, name: str, convert: Callable[[str], T], what: str, default: tuple[T, ...] | None
    ) -> tuple[T, ...]:
        def split(value: str) -> tuple[T, ...]:
            return tuple(convert(part) for part in value.split(","))

        return self._one(name, split, f"{what} separated by commas", default)


def _integer(value: str) -> int:
    _check_characters(value)
    number = int(value)
    if abs(number) > _LARGEST:
        raise ValueError(value)
    return number


def _finite(value: str) -> float:
    _check_characters(value)
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _check_characters(value: str) -> None:
    """Raises ValueError for digits of other scripts and "1_000", which Python reads as numbers."""
    if "_" in value or not value.isascii():
        raise ValueError(value)


def parse_sections(text: str, source: str) -> tuple[Section, ...]:
    """Parses the sections of a description.

    A line is a [section], an option=value, a comment after # or ;, or blank.

    Raises:
      InputError: a line is none of these.
    """
    sections: list[tuple[str, int, list[Option]]] = []
    for line, raw in enumerate(text.splitlines(), start=1):
        content = re.split("[#;]", raw, maxsplit=1)[0].strip()
        if not content:
            continue
        header = re.fullmatch(r"\[(.*)\]", content)
        name, equals, value = content.partition("=")
        if header:
            sections.append((header[1].strip(), line, []))
        elif not equals or content.startswith("["):
            raise InputError(
                f"{source}, line {line}: {one_line(content)!r} is neither a [section] nor an "
                "option=value"
            )
        elif not sections:
            raise InputError(
                f"{source}, line {line}: an option precedes all sections: start with [net]"
            )
        else:
            sections[-1][2].append(Option(name.strip(), value.strip(), line))
    return tuple(Section(kind, line, tuple(options), source) for kind, line, options in sections)
