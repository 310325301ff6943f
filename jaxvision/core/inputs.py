"""The input of a network: its size, normalisation and resizing."""

import bisect
import functools
import itertools
import math
from dataclasses import dataclass

from jaxvision.core.errors import OptionError, check_range
from jaxvision.core.memory import check_memory
from jaxvision.core.registry import close_names

RESIZE = ("stretch", "letterbox", "crop", "shorter_side", "fit")
"""The ways to resize an image to a network's input, see `Inputs`."""
SHAPES = ("fixed", "buckets", "exact")
"""The choices of shapes of the padded inputs, see `Inputs`."""
RESAMPLING = ("uint8", "float32")
"""The arithmetic of resizing, see `Inputs`."""
METHODS = ("nearest", "bilinear", "bicubic")
"""The methods of interpolation; all but "nearest" use antialiasing to shrink an image."""

_MILD = {"shorter_side": 1.36, "fit": 1.3}
"""Longer over shorter side up to which an image is in a bucket of images that are nearly square.

4 : 3, the most frequent ratio of photographs, is just within it where the shorter side is given,
and just beyond it where a box is: both waste the least."""
_TINY = 1e-6  # of rounding errors, pixels

Size = tuple[int, int]
"""(height, width), pixels."""


@dataclass(frozen=True)
class Inputs:
    """The conversion of images to the input of a network; task, data and prediction share it.

    With "shorter_side" and "fit" an image keeps its aspect ratio, lies at the top left, and is
    padded at the right and at the bottom; `jaxvision.core.extent_of` tells how much of the input is
    the image. The padding is 0 after normalisation.

    Attributes:
      size: (height, width) of the network's input, pixels. For "fit" it is the box. None for
        "shorter_side": it follows from the sides, see `shape`.
      channels: 3 for RGB, 1 for grey.
      mean: mean of each channel, for values in 0..1; None: 0.
      std: standard deviation of each channel, for values in 0..1; None: 1.
      resize: None accepts only images of the input's size; "stretch" resizes the whole image;
        "letterbox" keeps its aspect ratio and fills the rest; "crop" resizes the shorter side to
        `shorter_side` and crops the centre; "shorter_side" resizes the shorter side to
        `shorter_side`, or the longer one to `longer_side` if it would be longer; "fit" resizes to
        the largest size within `size`.
      method: method of interpolation: "nearest", "bilinear" or "bicubic".
      shorter_side: pixels, for "shorter_side" and "crop"; for "crop" None: the larger side of
        `size`.
      fill: value in 0..255 of the pixels that a letterboxed image does not cover.
      longer_side: pixels, for "shorter_side".
      multiple_of: "shorter_side" and "fit": to which both sides are rounded up by padding; None:
        32, and for the others none.
      shapes: of the inputs with "shorter_side" and "fit". "fixed": one, that holds every image.
        "buckets": at most four, see `sizes`; the images of a batch have similar aspect ratios.
        "exact": each image its own, in batches of one image; for evaluation and prediction.
      resampling: "uint8" resizes on the host with antialiasing and rounds; uint8 goes to the
        device. "float32" resizes bilinearly without antialiasing and does not round, as
        torchvision's detectors do; float32 in 0..255 goes to the device.
    Raises:
      OptionError: an option is out of range or does not fit the other options.
    """

    size: Size | None = None
    channels: int = 3
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: str | None = None
    method: str = "bilinear"
    shorter_side: int | None = None
    fill: int = 127
    longer_side: int | None = None
    multiple_of: int | None = None
    shapes: str = "fixed"
    resampling: str = "uint8"

    def __post_init__(self) -> None:
        if self.resize is not None:
            _check_choice("resize", self.resize, RESIZE)
        _check_choice("method", self.method, METHODS)
        _check_choice("shapes", self.shapes, SHAPES)
        _check_choice("resampling", self.resampling, RESAMPLING)
        if self.resize != "shorter_side":
            if self.size is None or len(tuple(self.size)) != 2:
                raise OptionError("size", f"size is {self.size!r}: give (height, width)")
            for side in self.size:
                check_range("size", side, least=1)
            object.__setattr__(self, "size", tuple(self.size))
        self._check_sides()
        if self.channels not in (1, 3):
            raise OptionError("channels", f"channels is {self.channels}: give 1 or 3")
        if self.resize == "shorter_side" and self.size is not None:
            raise OptionError(
                "size",
                f"size is {self.size}, but {self.shape[:2]} follows from shorter_side and "
                "longer_side: leave it out",
            )
        shape = self.shape
        check_memory("size", shape[:2], 4 * math.prod(shape), "an image of it takes")
        defaults = {"mean": 0.0, "std": 1.0}
        for name, default in defaults.items():
            given = getattr(self, name)
            numbers = (default,) * self.channels if given is None else given
            object.__setattr__(self, name, _per_channel(name, numbers, self.channels))
        for x in self.mean:
            check_range("mean", x, more_than=-math.inf, less_than=math.inf)
        for x in self.std:
            check_range("std", x, more_than=0, less_than=math.inf)
        check_range("fill", self.fill, least=0, most=255)

    def _check_sides(self) -> None:
        """Checks the options of the ways to resize, and sets `multiple_of`."""
        if self.resize == "shorter_side":
            for name in ("shorter_side", "longer_side"):
                if getattr(self, name) is None:
                    raise OptionError(name, f"{name} is not set: give a number of pixels")
            check_range("shorter_side", self.shorter_side, least=1)
            check_range("longer_side", self.longer_side, least=self.shorter_side)
        elif self.longer_side is not None:
            _refuse("longer_side", "shorter_side")
        elif self.shorter_side is not None:
            if self.resize != "crop":
                _refuse("shorter_side", "shorter_side", "crop")
            check_range("shorter_side", self.shorter_side, least=max(self.size))
        if self.pads:
            if self.multiple_of is None:
                object.__setattr__(self, "multiple_of", 32)
            check_range("multiple_of", self.multiple_of, least=1)
        else:
            if self.multiple_of is not None:
                _refuse("multiple_of", "shorter_side", "fit")
            if self.shapes != "fixed":
                _refuse("shapes", "shorter_side", "fit")
        if self.resampling == "float32":
            if self.resize is None:
                _refuse("resampling", *RESIZE)
            if self.method != "bilinear":
                raise OptionError(
                    "method",
                    f"method is {self.method!r}, but resampling 'float32' is bilinear: leave "
                    "method out",
                )

    @property
    def pads(self) -> bool:
        """Whether images are padded at the right and at the bottom."""
        return self.resize in _MILD

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the network's input; of several shapes the largest."""
        return (*max(self.sizes, key=math.prod), self.channels)

    @functools.cached_property
    def sizes(self) -> tuple[Size, ...]:
        """The (height, width) of each shape that the network's input has.

        There are several only with `shapes="buckets"`. Each belongs to a range of aspect ratios,
        and holds all images in it: tall ones, wide ones, and in between those that are higher than
        wide and the others. With "exact" these are the limits.
        """
        if not self.pads:
            return (self.size,)
        if self.shapes == "fixed":
            return (tuple(map(max, zip(*self._buckets, strict=True))),)
        return tuple(dict.fromkeys(reversed(self._buckets)))

    def size_of(self, size: Size) -> Size:
        """Returns the (height, width) of the network's input for an image.

        Args:
          size: (height, width) of the image.
        """
        if self.shapes == "exact":
            return tuple(map(self._padded, self.resized(size)))
        if self.shapes == "buckets":
            return self._buckets[bisect.bisect_left(self._ratios, size[1] / size[0])]
        return self.sizes[0]

    def resized(self, size: Size, within: Size | None = None) -> Size:
        """Returns the (height, width) that an image gets before it is padded.

        Sides are rounded down for "shorter_side", as in torchvision, and to the nearest for "fit".

        Args:
          size: (height, width) of the image.
          within: (height, width) of a network's input that the image has to fit in, which may be
            smaller than its own; None: its own.
        """
        whole = round if self.resize == "fit" else math.floor
        scale = self._scale(*size)
        height, width = (max(1, whole(side * scale)) for side in size)
        if within is not None and (height > within[0] or width > within[1]):
            scale = min(within[0] / size[0], within[1] / size[1])
            height, width = (max(1, whole(side * scale)) for side in size)
        return height, width

    def _scale(self, height: float, width: float) -> float:
        if self.resize == "fit":
            return min(self.size[0] / height, self.size[1] / width)
        shorter, longer = sorted((height, width))
        return min(self.shorter_side / shorter, self.longer_side / longer)

    def _padded(self, side: float) -> int:
        return self.multiple_of * math.ceil((side - _TINY) / self.multiple_of)

    @property
    def _ratios(self) -> tuple[float, float, float]:
        """Width over height that separates the buckets."""
        mild = _MILD[self.resize]
        return 1 / mild, 1.0, mild

    @functools.cached_property
    def _buckets(self) -> tuple[Size, ...]:
        """The size of each bucket, the one for the tallest images first."""
        # The wider an image, the lower and wider it is once resized: the ends of a range decide.
        ends = (1e-9, *self._ratios, 1e9)
        return tuple(
            (self._padded(self._scale(1, low)), self._padded(self._scale(1, high) * high))
            for low, high in itertools.pairwise(ends)
        )


def _refuse(name: str, *ways: str) -> None:
    known = " or ".join(map(repr, ways))
    raise OptionError(name, f"{name} is set: set resize to {known}, or leave it out")


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
