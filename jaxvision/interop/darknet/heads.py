"""The layers of a Darknet description that end a branch: the heads of detectors."""

import abc
import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

from jaxvision.interop.darknet.layers import Layer, Size
from jaxvision.interop.darknet.sections import Section


class Head(NamedTuple):
    """The parameters for decoding the maps of a detector.

    Attributes:
      kind: "detection" (YOLOv1), "region" (v2) or "yolo" (v3).
      maps: names of its maps in the result of the network.
      num_classes: C classes.
      grid_size: (rows, columns).
      softmax: whether scores are a softmax over classes. Otherwise each class has a sigmoid of its
        own or, in YOLOv1, its score is used as it is.
      stride: side of a cell, pixels; None in YOLOv1.
      anchors: (width, height) of each anchor, pixels; empty in YOLOv1.
      predicts_roots: in YOLOv1, whether sizes are predicted as square roots.
    """

    kind: str
    maps: tuple[str, ...]
    num_classes: int
    grid_size: tuple[int, int]
    softmax: bool
    stride: float | None = None
    anchors: tuple[tuple[float, float], ...] = ()
    predicts_roots: bool = False


class End(Layer, abc.ABC):
    """A layer that ends its branch: it is not the input of another layer."""

    @abc.abstractmethod
    def head(self, size: Size, image: Size) -> Head:
        """Returns the parameters for decoding its maps.

        Args:
          size: size of the input of this layer.
          image: size of the images.
        """


@dataclasses.dataclass(frozen=True)
class Detection(End):
    """The head of YOLOv1: all class scores, then all confidences, then all boxes of the cells."""

    side: int
    boxes: int
    classes: int
    softmax: bool
    roots: bool

    maps: ClassVar[tuple[str, ...]] = ("coordinates", "confidence", "class_scores")

    @classmethod
    def read_options(cls, section: Section) -> dict[str, Any]:
        _check_coordinates(section, 1)
        return {
            "side": section.integer("side", 7),
            "boxes": section.integer("num", 1),
            "classes": section.integer("classes"),
            "softmax": section.flag("softmax"),
            "roots": section.flag("sqrt"),
        }

    def output(self, *sizes: Size) -> Size:
        (size,) = sizes
        needed = self.side**2 * (self.classes + 5 * self.boxes)
        if math.prod(size) != needed:
            raise self.section.error(
                f"needs side^2 (classes + 5 num) = {needed} numbers, but its input is {size}"
            )
        return size

    def head(self, size: Size, image: Size) -> Head:
        return Head(
            self.section.kind,
            self.maps,
            self.classes,
            (self.side, self.side),
            self.softmax,
            predicts_roots=self.roots,
        )


@dataclasses.dataclass(frozen=True)
class Anchored(End):
    """A head with a predictor for each anchor in each cell.

    Attributes:
      classes: C classes.
      softmax: whether scores are a softmax over classes.
      anchors: (width, height) of each anchor, in pixels or in cells.
    """

    classes: int
    softmax: bool
    anchors: tuple[tuple[float, float], ...]

    anchors_in_cells: ClassVar[bool]

    @property
    def name(self) -> str:
        return f"{self.section.kind}{self.index}"

    def output(self, *sizes: Size) -> Size:
        (size,) = sizes
        needed = len(self.anchors) * (5 + self.classes)
        if size.channels != needed:
            raise self.section.error(
                f"needs {len(self.anchors)} (5 + classes) = {needed} channels, but its input has "
                f"{size.channels}: change the filters of the layer before"
            )
        return size

    def head(self, size: Size, image: Size) -> Head:
        stride, across = image.height / size.height, image.width / size.width
        if stride != across:
            raise self.section.error(
                f"images of {image} give cells of {stride:g} x {across:g}: give images of a size "
                "for which cells are square"
            )
        unit = stride if self.anchors_in_cells else 1
        anchors = tuple((width * unit, height * unit) for width, height in self.anchors)
        return Head(
            self.section.kind,
            (self.name,),
            self.classes,
            size[:2],
            self.softmax,
            stride=stride,
            anchors=anchors,
        )


class Region(Anchored):
    anchors_in_cells = True
    only: ClassVar[dict[str, float | None]] = {"background": 0, "map": None, "tree": None}

    @classmethod
    def read_options(cls, section: Section) -> dict[str, Any]:
        _check_coordinates(section, 4)
        return {
            "classes": section.integer("classes"),
            "softmax": section.flag("softmax"),
            "anchors": _anchors(section),
        }


class Yolo(Anchored):
    anchors_in_cells = False
    only: ClassVar[dict[str, float | None]] = {"map": None, "new_coords": 0, "scale_x_y": 1}

    @classmethod
    def read_options(cls, section: Section) -> dict[str, Any]:
        anchors = _anchors(section)
        mask = section.integers("mask", tuple(range(len(anchors))))
        if not all(0 <= number < len(anchors) for number in mask):
            raise section.error(f"mask is {mask}: the anchors are 0 to {len(anchors) - 1}", "mask")
        return {
            "classes": section.integer("classes"),
            "softmax": False,
            "anchors": tuple(anchors[number] for number in mask),
        }


def _check_coordinates(section: Section, default: int) -> None:
    if section.integer("coords", default) != 4:
        raise section.error("coords must be 4: x, y, width and height", "coords")


def _anchors(section: Section) -> tuple[tuple[float, float], ...]:
    """Returns `num` pairs (width, height)."""
    count, numbers = section.integer("num", 1), section.numbers("anchors")
    if len(numbers) != 2 * count:
        raise section.error(
            f"anchors has {len(numbers)} numbers: num={count} needs {2 * count}", "anchors"
        )
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))
