"""The layers of a Darknet description that have weights, and their arrays in a weights file."""

import dataclasses
import math
from typing import Any, ClassVar

from jaxvision.interop.darknet.layers import (
    Layer,
    Size,
    Stored,
    layer_index,
    read_activation,
    slide,
)
from jaxvision.interop.darknet.sections import Section


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
    """A convolution, with the norm and the activation after it.

    Attributes:
      padding: cells added on each side, before they are multiplied by the dilation.
      share_index: the layer whose weights and norm it has, counted back from this one if negative;
        None: it has its own.
    """

    filters: int
    size: int
    stride: int
    padding: int
    dilation: int
    groups: int
    activation: str
    batch_normalize: bool
    share_index: int | None

    only: ClassVar[dict[str, float | None]] = {
        "antialiasing": 0,
        "bin_output": 0,
        "binary": 0,
        "coordconv": 0,
        "dontload": 0,
        "dontloadscales": 0,
        "flipped": 0,
        "numload": 0,
        "rotate": 0,
        "stretch": 0,
        "stretch_sway": 0,
        "stride_x": None,
        "stride_y": None,
        "sway": 0,
        "xnor": 0,
    }

    @classmethod
    def read_options(cls, section: Section) -> dict[str, Any]:
        filters, size = section.integer("filters"), section.integer("size", 1)
        groups = section.integer("groups", 1)
        if filters % groups:
            raise section.error(f"filters is {filters}: give a multiple of groups, {groups}")
        shares = section.find("share_index") is not None
        padding = section.integer("padding", 0, least=0)
        padding = size // 2 if section.flag("pad") else padding
        dilation = 1 if size == 1 else section.integer("dilation", 1)
        # Darknet computes the size of the map as without dilation.
        if dilation > 1 and 2 * padding != size - 1:
            raise section.error(
                f"dilation is {dilation}: it needs pad=1 and an odd size, with which the map is as "
                "large as without dilation",
                "dilation",
            )
        return {
            "filters": filters,
            "size": size,
            "stride": section.integer("stride", 1),
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
            "activation": read_activation(section, "logistic"),
            "batch_normalize": section.flag("batch_normalize") or section.flag("cbn"),
            "share_index": section.integer("share_index", least=None) if shares else None,
        }

    @property
    def shared(self) -> int:
        """The number of the layer whose weights and norm it has, its own one if they are its own.

        Raises:
          InputError: it is no layer before this one.
        """
        if self.share_index is None:
            return self.index
        return layer_index(self.section, "share_index", self.share_index, self.index)

    def check_shared(self, other: Layer, size: Size, other_size: Size) -> None:
        """Raises InputError unless it can have the weights of another layer.

        Args:
          other: that layer.
          size: size of the input of this layer.
          other_size: size of the input of the other layer.
        """
        kernel = ("filters", "size", "groups", "batch_normalize")
        if not isinstance(other, Convolutional) or any(
            getattr(self, name) != getattr(other, name) for name in kernel
        ):
            raise self.section.error(
                f"shares the weights of layer {self.shared}: that must be a convolution with the "
                f"same {', '.join(kernel)}",
                "share_index",
            )
        if size.channels != other_size.channels:
            raise self.section.error(
                f"shares the weights of layer {self.shared}, whose input has "
                f"{other_size.channels} channels, but its own has {size.channels}",
                "share_index",
            )

    @property
    def name(self) -> str:
        return f"conv{self.shared}"

    @property
    def norm_name(self) -> str:
        return f"bn{self.shared}"

    def output(self, *sizes: Size) -> Size:
        (size,) = sizes
        if size.channels % self.groups:
            raise self.section.error(
                f"groups is {self.groups}: it does not divide the input's {size.channels} channels",
                "groups",
            )
        window = self.dilation * (self.size - 1) + 1
        padding = 2 * self.padding * self.dilation
        places = slide(self.section, size, window, self.stride, padding)
        return Size(*places, self.filters)

    def stored(self, size: Size, output: Size, *, transposed: bool) -> tuple[Stored, ...]:
        if self.shared != self.index:
            return ()
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
            "activation": read_activation(section, "logistic"),
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
            "activation": read_activation(section, "logistic"),
        }

    @property
    def name(self) -> str:
        return f"local{self.index}"

    def output(self, *sizes: Size) -> Size:
        (size,) = sizes
        places = slide(self.section, size, self.size, self.stride, 2 * self.padding)
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
class Batchnorm(Layer):
    """A norm alone."""

    @property
    def norm_name(self) -> str:
        return f"bn{self.index}"

    def stored(self, size: Size, output: Size, *, transposed: bool) -> tuple[Stored, ...]:
        bias = _vector(self.norm_name, "bias", size.channels)
        return (bias, *_norm_without_bias(self.norm_name, size.channels))
