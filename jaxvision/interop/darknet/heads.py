"""The layers of a Darknet description that end a branch: the heads of detectors."""

import abc
import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

from jaxvision.interop.darknet.layers import Layer, Size
from jaxvision.interop.darknet.sections import Section

GREEDY_BETA = 0.6


class NMS(NamedTuple):
    """How boxes of a class are suppressed.

    Attributes:
      kind: "default", by IoU; "greedynms" or "diounms", by IoU less a measure of the distance.
      beta: the exponent of this measure for "diounms".
    """

    kind: str = "default"
    beta: float = GREEDY_BETA

    @property
    def distance_power(self) -> float | None:
        """The option of `jaxvision.ops.nms`. AlexeyAB's "greedynms" has a fixed exponent."""
        return {"default": None, "greedynms": GREEDY_BETA, "diounms": self.beta}[self.kind]


class YoloLoss(NamedTuple):
    """The settings of the loss of a [yolo] of AlexeyAB's fork.

    Attributes:
      kind: what the description calls the loss of boxes, such as "ciou" or "mse".
      anchors: (width, height) of each anchor that competes, those of other heads included.
      mask: which of them the head has.
      iou_threshold, ignore_threshold, box_weight, objectness_weight, class_weight, label_smoothing,
        max_delta: see `jaxvision.losses.yolov4_loss`.
    """

    kind: str
    anchors: tuple[tuple[float, float], ...]
    mask: tuple[int, ...]
    iou_threshold: float
    ignore_threshold: float
    box_weight: float
    objectness_weight: float
    class_weight: float
    label_smoothing: float
    max_delta: float


class Head(NamedTuple):
    """The parameters of the maps of a detector, for decoding and for losses.

    Attributes:
      kind: "detection" (YOLOv1), "region" (v2), "yolo" (v3 and later) or "Gaussian_yolo".
      maps: names of its maps in the result of the network.
      num_classes: C classes.
      grid_size: (rows, columns).
      softmax: whether scores are a softmax over classes. Otherwise each class has a sigmoid of its
        own or, in YOLOv1, its score is used as it is.
      stride: side of a cell, pixels; None in YOLOv1.
      anchors: (width, height) of each anchor, pixels; empty in YOLOv1.
      predicts_roots: in YOLOv1, whether sizes are predicted as square roots.
      scale_x_y: factor of the place in a cell, see `jaxvision.ops.decode_yolo`.
      squared: whether sizes are those of Scaled-YOLOv4, see `jaxvision.ops.decode_yolo`.
      activated: whether the maps are probabilities already, see `jaxvision.ops.decode_yolo`.
      loss: of "yolo": settings of its loss.
      point: of "Gaussian_yolo": what the place in a cell is of the box: "center", "left_top" or
        "right_bottom".
      tree: of a hierarchical "region": path of the file of its word tree, as the description has
        it.
      map: likewise, of the file with the nodes of the classes; None: all nodes are classes.
    """

    kind: str
    maps: tuple[str, ...]
    num_classes: int
    grid_size: tuple[int, int]
    softmax: bool
    stride: float | None = None
    anchors: tuple[tuple[float, float], ...] = ()
    predicts_roots: bool = False
    scale_x_y: float = 1.0
    squared: bool = False
    activated: bool = False
    loss: YoloLoss | None = None
    point: str = "center"
    tree: str | None = None
    map: str | None = None


class End(Layer, abc.ABC):
    """A layer that ends its branch: it is not the input of another layer."""

    @property
    def nms(self) -> NMS:
        return NMS()

    @property
    @abc.abstractmethod
    def per_class(self) -> int:
        """How many numbers of its input there are for each class: channels, or of the vector."""

    def sized(self, num_classes: int, before: Layer) -> dict[str, int]:
        """The options of the layer before it for another number of classes.

        Raises:
          InputError: that layer is no convolution and not connected.
        """
        names = {"convolutional": "filters", "connected": "output"}
        name = names.get(before.section.kind)
        if name is None:
            raise self.section.error(
                f"cannot have {num_classes} classes: the [{before.section.kind}] before it has no "
                "number of outputs"
            )
        now = before.section.integer(name)
        return {name: now + (num_classes - self.classes) * self.per_class}

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

    @property
    def per_class(self) -> int:
        return self.side**2

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
    coordinates: ClassVar[int] = 4

    @property
    def name(self) -> str:
        return f"{self.section.kind}{self.index}"

    @property
    def per_class(self) -> int:
        return len(self.anchors)

    def output(self, *sizes: Size) -> Size:
        (size,) = sizes
        others = self.coordinates + 1
        needed = len(self.anchors) * (others + self.classes)
        if size.channels != needed:
            raise self.section.error(
                f"needs {len(self.anchors)} ({others} + classes) = {needed} channels, but its "
                f"input has {size.channels}: change the filters of the layer before"
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


@dataclasses.dataclass(frozen=True)
class Region(Anchored):
    """The head of YOLOv2, and of YOLO9000, whose classes are nodes of a tree."""

    tree: str | None
    map: str | None

    anchors_in_cells = True
    only: ClassVar[dict[str, float | None]] = {"background": 0}

    @classmethod
    def read_options(cls, section: Section) -> dict[str, Any]:
        _check_coordinates(section, 4)
        files = {name: section.find(name) for name in ("tree", "map")}
        return {
            "classes": section.integer("classes"),
            "softmax": section.flag("softmax"),
            "anchors": _anchors(section),
            **{name: option and option.value for name, option in files.items()},
        }

    def head(self, size: Size, image: Size) -> Head:
        return super().head(size, image)._replace(tree=self.tree, map=self.map)


@dataclasses.dataclass(frozen=True)
class Yolo(Anchored):
    """The head of YOLOv3 and of later detectors.

    Attributes:
      scale_x_y: see `Head`.
      new_coords: whether its input are probabilities, and sizes are squared.
      logistic_before: whether the sigmoid of the layer before is left out of it, so that its input
        are logits all the same.
      nms_kind, beta_nms: see `NMS`.
      loss: see `Head`.
    """

    scale_x_y: float
    new_coords: bool
    logistic_before: bool
    loss: YoloLoss
    nms_kind: str
    beta_nms: float

    anchors_in_cells = False
    only: ClassVar[dict[str, float | None]] = {"map": None}
    nms_kinds: ClassVar[tuple[str, ...]] = ("default", "greedynms", "diounms")

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
            "scale_x_y": section.number("scale_x_y", 1.0),
            "new_coords": section.flag("new_coords"),
            "logistic_before": False,
            "loss": _yolo_loss(section, anchors, mask),
            "nms_kind": _one_of(section, "nms_kind", cls.nms_kinds),
            "beta_nms": section.number("beta_nms", NMS().beta),
        }

    @property
    def nms(self) -> NMS:
        return NMS(self.nms_kind, self.beta_nms)

    def head(self, size: Size, image: Size) -> Head:
        head = super().head(size, image)
        return head._replace(
            scale_x_y=self.scale_x_y,
            squared=self.new_coords,
            activated=self.new_coords and not self.logistic_before,
            loss=self.loss,
        )


@dataclasses.dataclass(frozen=True)
class GaussianYolo(Yolo):
    """The head of Gaussian YOLOv3, which predicts an uncertainty of each coordinate as well."""

    point: str

    coordinates = 8
    only: ClassVar[dict[str, float | None]] = {"map": None, "new_coords": 0}

    @classmethod
    def read_options(cls, section: Section) -> dict[str, Any]:
        point = _one_of(section, "yolo_point", ("center", "left_top", "right_bottom"))
        return {**super().read_options(section), "point": point}

    def head(self, size: Size, image: Size) -> Head:
        return super().head(size, image)._replace(point=self.point)


def _yolo_loss(
    section: Section, anchors: tuple[tuple[float, float], ...], mask: tuple[int, ...]
) -> YoloLoss:
    return YoloLoss(
        kind=section.text("iou_loss", "mse"),
        anchors=anchors,
        mask=mask,
        iou_threshold=section.number("iou_thresh", 1.0),
        ignore_threshold=section.number("ignore_thresh", 0.5),
        box_weight=section.number("iou_normalizer", 0.75),
        objectness_weight=section.number("obj_normalizer", 1.0),
        class_weight=section.number("cls_normalizer", 1.0),
        label_smoothing=section.number("label_smooth_eps", 0.0),
        max_delta=section.number("max_delta", math.inf),
    )


def _one_of(section: Section, name: str, choices: tuple[str, ...]) -> str:
    """A word, the first of the choices by default."""
    value = section.text(name, choices[0])
    if value not in choices:
        raise section.error(f"{name} is {value!r}: only {', '.join(choices)} are supported", name)
    return value


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
