"""The input of a network: its size, normalisation and resizing."""

import math
from dataclasses import dataclass

from jaxvision.core.errors import OptionError, check_range
from jaxvision.core.memory import check_memory
from jaxvision.core.registry import close_names

RESIZE = ("stretch", "letterbox", "crop")
"""The ways to resize an image to a network's input, see `Inputs`."""
METHODS = ("nearest", "bilinear", "bicubic")
"""The methods of interpolation; all but "nearest" use antialiasing to shrink an image."""


@dataclass(frozen=True)
class Inputs:
    """The conversion of images to the input of a network; task, data and prediction share it.

    Attributes:
      size: (height, width) of the network's input, pixels.
      channels: 3 for RGB, 1 for grey.
      mean: mean of each channel, for values in 0..1; None: 0.
      std: standard deviation of each channel, for values in 0..1; None: 1.
      resize: None accepts only images of the input's size; "stretch" resizes the whole image;
        "letterbox" keeps its aspect ratio and fills the rest; "crop" resizes the shorter side to
        `shorter_side` and crops the centre.
      method: method of interpolation: "nearest", "bilinear" or "bicubic".
      shorter_side: pixels, for "crop"; None: the larger side of `size`.
      fill: value in 0..255 of the pixels that a letterboxed image does not cover.
    Raises:
      OptionError: an option is out of range or does not fit the other options.
    """

    size: tuple[int, int]
    channels: int = 3
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: str | None = None
    method: str = "bilinear"
    shorter_side: int | None = None
    fill: int = 127

    def __post_init__(self) -> None:
        if len(tuple(self.size)) != 2:
            raise OptionError("size", f"size is {self.size!r}: give (height, width)")
        for side in self.size:
            check_range("size", side, least=1)
        pixels = math.prod(self.size)
        check_memory("size", self.size, 4 * pixels * self.channels, "an image of it takes")
        if self.channels not in (1, 3):
            raise OptionError("channels", f"channels is {self.channels}: give 1 or 3")
        defaults = {"mean": 0.0, "std": 1.0}
        for name, default in defaults.items():
            given = getattr(self, name)
            numbers = (default,) * self.channels if given is None else given
            object.__setattr__(self, name, _per_channel(name, numbers, self.channels))
        for x in self.mean:
            check_range("mean", x, more_than=-math.inf, less_than=math.inf)
        for x in self.std:
            check_range("std", x, more_than=0, less_than=math.inf)
        object.__setattr__(self, "size", tuple(self.size))
        if self.resize is not None:
            _check_choice("resize", self.resize, RESIZE)
        _check_choice("method", self.method, METHODS)
        if self.shorter_side is not None:
            if self.resize != "crop":
                raise OptionError(
                    "shorter_side", "shorter_side is set: set resize to 'crop', or leave it out"
                )
            check_range("shorter_side", self.shorter_side, least=max(self.size))
        check_range("fill", self.fill, least=0, most=255)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return (*self.size, self.channels)


def _check_choice(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise OptionError(name, f"{name} is {value!r}: {close_names(str(value), known)}")


def _per_channel(name: str, given: object, channels: int) -> tuple[float, ...]:
    try:
        numbers = tuple(float(x) for x in given)  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise OptionError(
            name, f"{name} is {given!r}: give a number for each channel, such as (0.5,)"
        ) from error
    if len(numbers) != channels:
        raise OptionError(
            name,
            f"{name} has {len(numbers)} numbers for {channels} channels: give one for each channel",
        )
    return numbers
