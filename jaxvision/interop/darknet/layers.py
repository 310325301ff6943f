"""The layers of a Darknet description: their options, sizes and weights, without running them.

The arithmetic is Darknet's: integers, and divisions rounded down.
"""

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple, Self

from jaxvision.core import close_names
from jaxvision.interop.darknet.activations import ACTIVATIONS, UNSUPPORTED_ACTIVATIONS
from jaxvision.interop.darknet.sections import Section


class Size(NamedTuple):
    """The size of a map or an image."""

    height: int
    width: int
    channels: int

    def __str__(self) -> str:
        return f"{self.height} x {self.width} x {self.channels}"


class Stored(NamedTuple):
    """An array of a weights file.

    Attributes:
      path: path of its variable.
      shape: shape in the file, with the last axis fastest.
      axes: order of these axes in the variable.
    """

    path: tuple[str, str, str]
    shape: tuple[int, ...]
    axes: tuple[int, ...]

    @property
    def count(self) -> int:
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer.

    Attributes:
      index: number of the layer, from 0, as Darknet prints it.
      section: the section that describes it.
      inputs: numbers of its input layers; -1 is the image.
    """

    index: int
    section: Section
    inputs: tuple[int, ...]

    # Options that are supported with one value only, or not at all (None).
    only: ClassVar[dict[str, float | None]] = {}

    @classmethod
    def read(cls, section: Section, index: int) -> Self:
        """Creates the layer of a section.

        Raises:
          InputError: an option is wrong or not supported.
        """
        for option in section.options:
            if option.name in cls.only:
                allowed = cls.only[option.name]
                if allowed is None or section.number(option.name) != allowed:
                    known = "" if allowed is None else f": only {allowed} is"
                    raise section.error(
                        f"the option {option.name}={option.value} is not supported{known}",
                        option.name,
                    )
        inputs = cls.read_inputs(section, index)
        return cls(index=index, section=section, inputs=inputs, **cls.read_options(section))

    @classmethod
    def read_inputs(cls, section: Section, index: int) -> tuple[int, ...]:
        return (index - 1,)

    @classmethod
    def read_options(cls, section: Section) -> dict[str, Any]:
        """Returns the fields of a subclass."""
        return {}

    def output(self, *sizes: Size) -> Size:
        """Computes the size of the map from those of the inputs.

        Raises:
          InputError: the inputs do not fit the layer.
        """
        return sizes[0]

    def stored(self, size: Size, output: Size, *, transposed: bool) -> tuple[Stored, ...]:
        """Returns the arrays of its weights, in the order of the file.

        Args:
          size: size of the input.
          output: size of the map.
          transposed: whether matrices are [in, out], as in old files.
        """
        return ()


def read_activation(section: Section, default: str) -> str:
    name = section.text("activation", default)
    if name in UNSUPPORTED_ACTIVATIONS:
        raise section.error(f"the activation {name} is not supported", "activation")
    if name not in ACTIVATIONS:
        hint = close_names(name, ACTIVATIONS)
        raise section.error(f"activation is {name!r}: {hint}", "activation")
    return name


def layer_index(section: Section, name: str, value: int, index: int) -> int:
    """Returns the layer of a number, which if negative is counted back from `index`."""
    found = value + index if value < 0 else value
    if not 0 <= found < index:
        known = f"give 0 to {index - 1}, or -{index} to -1" if index else "there is none"
        raise section.error(f"{name} has {value}, which is no layer before this one: {known}", name)
    return found


def slide(section: Section, size: Size, window: int, stride: int, padding: int) -> tuple[int, int]:
    """Returns the rows and columns of the output of a window.

    `padding` is the number of cells added to each axis, on both sides together.
    """
    if min(size.height, size.width) + padding < window:
        raise section.error(f"the window of {window} is larger than its padded input, {size}")
    rows, columns = ((n + padding - window) // stride + 1 for n in size[:2])
    return rows, columns


@dataclasses.dataclass(frozen=True)
class Maxpool(Layer):
    """A max pooling. `padding` is the sum of both sides; the smaller half comes first."""

    size: int
    stride: int
    padding: int

    only: ClassVar[dict[str, float | None]] = {
        "antialiasing": 0,
        "maxpool_depth": 0,
        "stride_x": None,
        "stride_y": None,
    }

    @classmethod
    def read_options(cls, section: Section) -> dict[str, Any]:
        stride = section.integer("stride", 1)
        size = section.integer("size", stride)
        padding = section.integer("padding", size - 1, least=0)
        if padding >= size:
            raise section.error(f"padding is {padding}: give less than size, {size}", "padding")
        return {"size": size, "stride": stride, "padding": padding}

    def output(self, *sizes: Size) -> Size:
        (size,) = sizes
        places = slide(self.section, size, self.size, self.stride, self.padding)
        return Size(*places, size.channels)


class LocalAvgpool(Maxpool):
    """The mean of the cells of each window that are within the map."""

    only: ClassVar[dict[str, float | None]] = {"stride_x": None, "stride_y": None}


class Avgpool(Layer):
    """The mean of each whole channel."""

    def output(self, *sizes: Size) -> Size:
        return Size(1, 1, sizes[0].channels)


@dataclasses.dataclass(frozen=True)
class Route(Layer):
    """Concatenates the channels of maps; with groups, only one group of the channels of each."""

    groups: int
    group_id: int

    @classmethod
    def read_inputs(cls, section: Section, index: int) -> tuple[int, ...]:
        values = section.integers("layers")
        return tuple(layer_index(section, "layers", value, index) for value in values)

    @classmethod
    def read_options(cls, section: Section) -> dict[str, Any]:
        groups, group_id = section.integer("groups", 1), section.integer("group_id", 0, least=0)
        if group_id >= groups:
            raise section.error(f"group_id is {group_id}: give less than groups, {groups}")
        return {"groups": groups, "group_id": group_id}

    def output(self, *sizes: Size) -> Size:
        first = sizes[0]
        for index, size in zip(self.inputs, sizes, strict=True):
            if size[:2] != first[:2]:
                raise self.section.error(
                    f"concatenates layer {self.inputs[0]}, {first}, and layer {index}, {size}: "
                    "they need the same height and width"
                )
            if size.channels % self.groups:
                raise self.section.error(
                    f"groups is {self.groups}: it does not divide the {size.channels} channels of "
                    f"layer {index}",
                    "groups",
                )
        return first._replace(channels=sum(size.channels // self.groups for size in sizes))


@dataclasses.dataclass(frozen=True)
class Shortcut(Layer):
    """Adds another map to the map before.

    If the numbers of channels differ, only the first channels are added. If the sizes differ, every
    n-th cell of the larger map is used, with n the ratio of the sizes, rounded down.
    """

    activation: str

    only: ClassVar[dict[str, float | None]] = {"alpha": 1, "beta": 1, "weights_type": None}

    @classmethod
    def read_inputs(cls, section: Section, index: int) -> tuple[int, ...]:
        other = section.integer("from", least=None)
        return (index - 1, layer_index(section, "from", other, index))

    @classmethod
    def read_options(cls, section: Section) -> dict[str, Any]:
        return {"activation": read_activation(section, "linear")}

    def steps(self, size: Size, other: Size) -> tuple[int, int]:
        """Returns the steps between the cells that are added, of this map and of the other."""
        own = {max(1, a // b) for a, b in zip(size[:2], other[:2], strict=True)}
        others = {max(1, b // a) for a, b in zip(size[:2], other[:2], strict=True)}
        if len(own) > 1 or len(others) > 1:
            raise self.section.error(
                f"adds layer {self.inputs[1]}, {other}, to {size}: heights and widths need the "
                "same ratio"
            )
        return own.pop(), others.pop()

    def output(self, *sizes: Size) -> Size:
        self.steps(*sizes)
        return sizes[0]


@dataclasses.dataclass(frozen=True)
class Product(Layer):
    """A product of the map before and another map, with an activation."""

    activation: str

    @classmethod
    def read_inputs(cls, section: Section, index: int) -> tuple[int, ...]:
        other = section.integer("from", least=None)
        return (index - 1, layer_index(section, "from", other, index))

    @classmethod
    def read_options(cls, section: Section) -> dict[str, Any]:
        return {"activation": read_activation(section, "linear")}

    def scales(self, other: Size) -> Size:
        """Returns the size that the map before must have, from that of the other map."""
        return other

    def output(self, *sizes: Size) -> Size:
        size, other = sizes
        if size != self.scales(other):
            raise self.section.error(
                f"multiplies layer {self.inputs[1]}, {other}, by {size}: it needs "
                f"{self.scales(other)}"
            )
        return other


class Sam(Product):
    """Multiplies each value by that of a map of the same size: spatial attention."""


@dataclasses.dataclass(frozen=True)
class ScaleChannels(Product):
    """Multiplies another map by a number for each channel or, with scale_wh=1, for each cell."""

    cells: bool

    @classmethod
    def read_options(cls, section: Section) -> dict[str, Any]:
        return {**super().read_options(section), "cells": section.flag("scale_wh")}

    def scales(self, other: Size) -> Size:
        return other._replace(channels=1) if self.cells else Size(1, 1, other.channels)


@dataclasses.dataclass(frozen=True)
class Upsample(Layer):
    """Repeats each cell stride x stride times and multiplies it by `scale`."""

    stride: int
    scale: float

    @classmethod
    def read_options(cls, section: Section) -> dict[str, Any]:
        return {"stride": section.integer("stride", 2), "scale": section.number("scale", 1.0)}

    def output(self, *sizes: Size) -> Size:
        (size,) = sizes
        return Size(size.height * self.stride, size.width * self.stride, size.channels)


@dataclasses.dataclass(frozen=True)
class Reorg(Layer):
    """Rearranges blocks of cells to channels as Darknet does (see `jaxvision.ops.space_to_depth`).

    With reverse=1 channels become blocks of cells, as for `depth_to_space` with "space_first".
    """

    stride: int
    reverse: bool

    only: ClassVar[dict[str, float | None]] = {"extra": 0, "flatten": 0}

    @classmethod
    def read_options(cls, section: Section) -> dict[str, Any]:
        return {"stride": section.integer("stride", 1), "reverse": section.flag("reverse")}

    def output(self, *sizes: Size) -> Size:
        (size,) = sizes
        s = self.stride
        if size.channels % s**2 or (not self.reverse and (size.height % s or size.width % s)):
            raise self.section.error(
                f"stride is {s}: it must divide its input, {size}, and its square the channels",
                "stride",
            )
        if self.reverse:
            return Size(size.height * s, size.width * s, size.channels // s**2)
        return Size(size.height // s, size.width // s, size.channels * s**2)


class Reorg3d(Reorg):
    """Rearranges blocks of cells to channels, place in the block before channel.

    It is what [reorg] was meant to be (see `jaxvision.ops.space_to_depth` with "space_first").
    """

    only: ClassVar[dict[str, float | None]] = {"reverse": 0}


@dataclasses.dataclass(frozen=True)
class Crop(Layer):
    """Crops the middle of an image and, unless noadjust=1, scales it from [0, 1] to [-1, 1].

    In training Darknet also crops at random, flips and shifts colours. Here augmentation does that.
    """

    height: int
    width: int
    adjust: bool

    @classmethod
    def read_options(cls, section: Section) -> dict[str, Any]:
        return {
            "height": section.integer("crop_height"),
            "width": section.integer("crop_width"),
            "adjust": not section.flag("noadjust"),
        }

    def output(self, *sizes: Size) -> Size:
        (size,) = sizes
        if self.height > size.height or self.width > size.width:
            raise self.section.error(
                f"{self.height} x {self.width} is larger than its input, {size}"
            )
        return Size(self.height, self.width, size.channels)


@dataclasses.dataclass(frozen=True)
class Dropout(Layer):
    """Dropout or, of the fork, DropBlock.

    Attributes:
      probability: of an element to be dropped. It does not grow in the course of a training, as
        that of DropBlock does in the fork.
      block: side of the blocks of DropBlock: pixels, or, if it is no integer, a share of the sides
        of the map; None: single elements are dropped.
    """

    probability: float
    block: int | float | None

    @classmethod
    def read_options(cls, section: Section) -> dict[str, Any]:
        probability = section.number("probability", 0.5)
        if not 0 <= probability < 1:
            raise section.error(
                f"probability is {probability}: give at least 0 and less than 1", "probability"
            )
        block = None
        if section.flag("dropblock"):
            share = section.number("dropblock_size_rel", 0.0)
            if not 0 <= share <= 1:
                raise section.error(
                    f"dropblock_size_rel is {share}: give at least 0 and at most 1",
                    "dropblock_size_rel",
                )
            block = share or section.integer("dropblock_size_abs", 7)
        return {"probability": probability, "block": block}


@dataclasses.dataclass(frozen=True)
class Softmax(Layer):
    """A softmax over the whole input, flattened channel by channel, or over each of its groups.

    Before it, the input is divided by the temperature.
    """

    groups: int
    temperature: float

    only: ClassVar[dict[str, float | None]] = {"spatial": 0, "tree": None}

    @classmethod
    def read_options(cls, section: Section) -> dict[str, Any]:
        temperature = section.number("temperature", 1.0)
        if temperature <= 0:
            raise section.error(f"temperature is {temperature}: give more than 0", "temperature")
        return {"groups": section.integer("groups", 1), "temperature": temperature}

    def output(self, *sizes: Size) -> Size:
        (size,) = sizes
        if math.prod(size) % self.groups:
            raise self.section.error(
                f"groups is {self.groups}: it does not divide its input, {size}", "groups"
            )
        return size


class Cost(Layer):
    """A layer where Darknet computes a loss. Here it does not change the map."""
