"""The layers of a Darknet description: their options, sizes and weights, without running them.

The arithmetic is Darknet's: integers, and divisions rounded down.
"""

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple, Self

from jaxvision.core import close_names
from jaxvision.interop.darknet.activations import ACTIVATIONS
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
                    fix = "remove it" if allowed is None else f"give {allowed} or remove it"
                    raise section.error(
                        f"the option {option.name}={option.value} is not supported: {fix}",
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


def _activation(section: Section, default: str) -> str:
    name = section.text("activation", default)
    if name not in ACTIVATIONS:
        hint = close_names(name, ACTIVATIONS)
        raise section.error(f"activation is {name!r}: {hint}", "activation")
    return name


def _layer_index(section: Section, name: str, value: int, index: int) -> int:
    """Returns the layer of a number, which if negative is counted back from `index`."""
    found = value + index if value < 0 else value
    if not 0 <= found < index:
        known = f"give 0 to {index - 1}, or -{index} to -1" if index else "there is none"
        raise section.error(f"{name} has {value}, which is no layer before this one: {known}", name)
    return found


def _slide(section: Section, size: Size, window: int, stride: int, padding: int) -> tuple[int, int]:
    """Returns the rows and columns of the output of a window.

    `padding` is the number of cells added to each axis, on both sides together.
    """
    if min(size.height, size.width) + padding < window:
        raise section.error(f"the window of {window} is larger than its padded input, {size}")
    rows, columns = ((n + padding - window) // stride + 1 for n in size[:2])
    return rows, columns


def _vector(name: str, leaf: str, count: int, collection: str = "params") -> Stored:
    return Stored((collection, name, leaf), (count,), (0,))


def _norm_without_bias(name: str, count: int) -> tuple[Stored, ...]:
    """Returns the arrays of a norm without its bias, which comes first in the file."""
    return (
        _vector(name, "scale", count),
        _vector(name, "mean", count, "batch_stats"),
        _vector(name, "var", count, "batch_stats"),
    )


@dataclasses.dataclass(frozen=True)
class Convolutional(Layer):
    filters: int
    size: int
    stride: int
    padding: int
    groups: int
    activation: str
    batch_normalize: bool

    only: ClassVar[dict[str, float | None]] = {
        "antialiasing": 0,
        "binary": 0,
        "dilation": 1,
        "dontload": 0,
        "dontloadscales": 0,
        "flipped": 0,
        "numload": 0,
        "share_index": None,
        "stride_x": None,
        "stride_y": None,
        "xnor": 0,
    }

    @classmethod
    def read_options(cls, section: Section) -> dict[str, Any]:
        filters, size = section.integer("filters"), section.integer("size", 1)
        groups = section.integer("groups", 1)
        if filters % groups:
            raise section.error(f"filters is {filters}: give a multiple of groups, {groups}")
        padding = section.integer("padding", 0, least=0)
        return {
            "filters": filters,
            "size": size,
            "stride": section.integer("stride", 1),
            "padding": size // 2 if section.flag("pad") else padding,
            "groups": groups,
            "activation": _activation(section, "logistic"),
            "batch_normalize": section.flag("batch_normalize"),
        }

    @property
    def name(self) -> str:
        return f"conv{self.index}"

    @property
    def norm_name(self) -> str:
        return f"bn{self.index}"

    def output(self, *sizes: Size) -> Size:
        (size,) = sizes
        if size.channels % self.groups:
            raise self.section.error(
                f"groups is {self.groups}: it does not divide the input's {size.channels} channels",
                "groups",
            )
        places = _slide(self.section, size, self.size, self.stride, 2 * self.padding)
        return Size(*places, self.filters)

    def stored(self, size: Size, output: Size, *, transposed: bool) -> tuple[Stored, ...]:
        shape = (self.filters, size.channels // self.groups, self.size, self.size)
        kernel = Stored(("params", self.name, "kernel"), shape, (2, 3, 1, 0))
        if not self.batch_normalize:
            return (_vector(self.name, "bias", self.filters), kernel)
        bias = _vector(self.norm_name, "bias", self.filters)
        return (bias, *_norm_without_bias(self.norm_name, self.filters), kernel)


@dataclasses.dataclass(frozen=True)
class Connected(Layer):
    """A fully connected layer of the input flattened channel by channel."""

    outputs: int
    activation: str
    batch_normalize: bool

    only: ClassVar[dict[str, float | None]] = {"dontload": 0, "dontloadscales": 0}

    @classmethod
    def read_options(cls, section: Section) -> dict[str, Any]:
        return {
            "outputs": section.integer("output"),
            "activation": _activation(section, "logistic"),
            "batch_normalize": section.flag("batch_normalize"),
        }

    @property
    def name(self) -> str:
        return f"connected{self.index}"

    @property
    def norm_name(self) -> str:
        return f"bn{self.index}"

    def output(self, *sizes: Size) -> Size:
        return Size(1, 1, self.outputs)

    def stored(self, size: Size, output: Size, *, transposed: bool) -> tuple[Stored, ...]:
        path, inputs = ("params", self.name, "kernel"), math.prod(size)
        if transposed:
            kernel = Stored(path, (inputs, self.outputs), (0, 1))
        else:
            kernel = Stored(path, (self.outputs, inputs), (1, 0))
        if not self.batch_normalize:
            return (_vector(self.name, "bias", self.outputs), kernel)
        bias = _vector(self.norm_name, "bias", self.outputs)
        return (bias, kernel, *_norm_without_bias(self.norm_name, self.outputs))


@dataclasses.dataclass(frozen=True)
class Local(Layer):
    """A convolution with a different kernel at each position."""

    filters: int
    size: int
    stride: int
    padding: int
    activation: str

    only: ClassVar[dict[str, float | None]] = {"dontload": 0}

    @classmethod
    def read_options(cls, section: Section) -> dict[str, Any]:
        size, pad = section.integer("size"), section.flag("pad")
        # Darknet pads by one cell on each side, and assumes that this keeps the size.
        if pad and size != 3:
            raise section.error(f"size is {size}: pad=1 needs 3", "size")
        return {
            "filters": section.integer("filters"),
            "size": size,
            "stride": section.integer("stride", 1),
            "padding": int(pad),
            "activation": _activation(section, "logistic"),
        }

    @property
    def name(self) -> str:
        return f"local{self.index}"

    def output(self, *sizes: Size) -> Size:
        (size,) = sizes
        places = _slide(self.section, size, self.size, self.stride, 2 * self.padding)
        return Size(*places, self.filters)

    def stored(self, size: Size, output: Size, *, transposed: bool) -> tuple[Stored, ...]:
        rows, columns, _ = output
        bias = (self.filters, rows, columns)
        kernel = (rows, columns, self.filters, size.channels * self.size**2)
        return (
            Stored(("params", self.name, "bias"), bias, (1, 2, 0)),
            Stored(("params", self.name, "kernel"), kernel, (0, 1, 3, 2)),
        )


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
        places = _slide(self.section, size, self.size, self.stride, self.padding)
        return Size(*places, size.channels)


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
        return tuple(_layer_index(section, "layers", value, index) for value in values)

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
        return (index - 1, _layer_index(section, "from", other, index))

    @classmethod
    def read_options(cls, section: Section) -> dict[str, Any]:
        return {"activation": _activation(section, "linear")}

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
    probability: float

    only: ClassVar[dict[str, float | None]] = {"dropblock": 0}

    @classmethod
    def read_options(cls, section: Section) -> dict[str, Any]:
        probability = section.number("probability", 0.5)
        if not 0 <= probability < 1:
            raise section.error(
                f"probability is {probability}: give at least 0 and less than 1", "probability"
            )
        return {"probability": probability}


@dataclasses.dataclass(frozen=True)
class Softmax(Layer):
    """A softmax over the whole input, flattened channel by channel, or over each of its groups."""

    groups: int

    only: ClassVar[dict[str, float | None]] = {"spatial": 0, "temperature": 1, "tree": None}

    @classmethod
    def read_options(cls, section: Section) -> dict[str, Any]:
        return {"groups": section.integer("groups", 1)}

    def output(self, *sizes: Size) -> Size:
        (size,) = sizes
        if math.prod(size) % self.groups:
            raise self.section.error(
                f"groups is {self.groups}: it does not divide its input, {size}", "groups"
            )
        return size


class Cost(Layer):
    """The layer where Darknet computes a loss. Here it does not change the map."""
