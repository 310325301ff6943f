"""Detection on the command line."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from jaxvision import augment as aug
from jaxvision import data, tasks
from jaxvision.cli.code import Code, is_own
from jaxvision.cli.kinds.augmentation import GeometryAndColor, wanted_of
from jaxvision.cli.kinds.detection_report import (
    class_table,
    detection_figures,
    detection_files,
)
from jaxvision.cli.kinds.kind import (
    LEAST_SCORE,
    PICTURES,
    Built,
    DataOptions,
    Kind,
    Result,
    Shown,
    build_model,
    to_look_at,
)
from jaxvision.cli.options import option_paths, plain, read_group
from jaxvision.core import InputError, Inputs, OptionError, check_range, close_names, under
from jaxvision.models.detection.localizer import LOCALIZERS
from jaxvision.models.detection.yolov1 import YOLOS_V1
from jaxvision.models.detection.yolov2 import YOLOS_V2
from jaxvision.models.detection.yolov3 import YOLOS_V3
from jaxvision.predict import Prediction, draw_detections, draw_prediction
from jaxvision.tasks import DETECTORS, DetectOptions
from jaxvision.tasks.detection import CONFUSION_SCORE
from jaxvision.tasks.names import LOSSES

FAMILIES = {
    **dict.fromkeys(LOCALIZERS, "localizer"),
    **dict.fromkeys(YOLOS_V1, "yolov1"),
    **dict.fromkeys(YOLOS_V2, "yolov2"),
    **dict.fromkeys(YOLOS_V3, "yolov3"),
}
"""Network -> its detector."""


@dataclass(frozen=True)
class DetectionData(DataOptions):
    """The data of detection.

    Attributes:
      source: "scenes" or "single_scenes" (embedded; the latter have one object each), "voc", "coco"
        or "yolo" (folders in these forms), or "tfds".
      class_names: of the labels, in their order; (): those of the data.
      drop_bad: leave out records with bad boxes or images, and count them.
      difficult: train on objects that are flagged as difficult too.
      first_pixel: voc: what the files call an image's first pixel.
      masks: read the masks of the objects too.
      resize: "letterbox" keeps the aspect ratio; or "stretch".
      max_boxes: number to which the boxes of an image are padded.
      sizes: multi-scale training: sizes instead of image_size, drawn at random.
      size_every: batches between two draws of the size.
      mean: one number for each channel, of values in 0..1.
      std: likewise.
      voc_inclusive: mAP_VOC adds 1 to the widths and heights of detections, as VOC's kit does.
      confusion_score: least score of a detection in the confusion matrix.
    """

    source: str = "scenes"
    class_names: tuple[str, ...] = ()
    drop_bad: bool = False
    difficult: bool = False
    first_pixel: int = 1
    masks: bool = False
    resize: str = "letterbox"
    max_boxes: int = 100
    sizes: tuple[int, ...] = ()
    size_every: int = 10
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    voc_inclusive: bool = False
    confusion_score: float = CONFUSION_SCORE

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("max_boxes", self.max_boxes, least=1)
        check_range("size_every", self.size_every, least=1)
        check_range("confusion_score", self.confusion_score, least=0, most=1)
        for name in self.class_names:
            if "," in name:
                parts = tuple(part.strip() for part in name.split(","))
                raise OptionError(
                    "class_names", f"class_names has {name!r}: give {parts}, in quotes"
                )


@dataclass(frozen=True)
class DetectionAugment(GeometryAndColor):
    """Augmentation of detection.

    Attributes:
      mosaic: probability that four images are put together around a random centre.
      mixup: probability that two images are blended.
      mixup_alpha: of mixup's beta distribution.
      jitter: Darknet's crop: share of the side by which each border moves at most.
      least_visible: share of a box that must be left for it to stay.
      least_side: pixels of its shorter side that must be left.
    """

    mosaic: float = 0.0
    mixup: float = 0.0
    mixup_alpha: float = 1.5
    jitter: float = 0.0
    least_visible: float = 0.25
    least_side: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("mosaic", "mixup"):
            check_range(name, getattr(self, name), least=0, most=1)

    def steps(self) -> tuple[Any, ...]:
        """The augmentations, in their order."""
        rule = {"least_visible": self.least_visible, "least_side": self.least_side}
        return wanted_of(
            (self.mosaic, partial(aug.Mosaic, probability=self.mosaic, **rule)),
            (self.mixup, partial(aug.Mixup, probability=self.mixup, alpha=self.mixup_alpha)),
            (self.jitter, partial(aug.JitterCrop, jitter=self.jitter, **rule)),
            self.move(**rule),
            self.mirror(),
            self.color(),
        )


@dataclass(frozen=True)
class DetectorOptions:
    """The detector; further keys of this group are options of it, such as best_box_only.

    Attributes:
      name: "localizer", "yolov1", "yolov2", "yolov3" or "file.py:function" of your own; empty: the
        one that belongs to the model.
    """

    name: str = ""


def build(config: Any, class_names: Sequence[str], code: Code, evaluation: bool) -> Built:
    """The task and the transforms of a config."""
    options = read_group(DetectionData, config.data, "config.data")

    def inputs_of(size: int) -> Inputs:
        with option_paths("config.data", size="image_size"):
            normal = {"mean": options.mean, "std": options.std}
            return Inputs((size, size), **normal, resize=options.resize)

    detector = _detector(config, class_names, code, evaluation)
    for name, sizes in (("image_size", [options.image_size]), ("sizes", options.sizes)):
        for size in sizes:
            if size < 1 or size % detector.multiple_of:
                raise InputError(
                    f"config.data.{name} is {size}: give multiples of {detector.multiple_of}"
                )
    steps: tuple[Any, ...] = ()
    if not evaluation:
        augment = read_group(DetectionAugment, config.augment, "config.augment")
        with under("config.augment"):
            steps = augment.steps()

    def transform_of(size: int) -> data.ToDetection:
        with under("config.data"):
            return data.ToDetection(
                inputs_of(size),
                len(class_names),
                max_boxes=options.max_boxes,
                masks=options.masks,
            )

    transform = train_transform = transform_of(options.image_size)
    if options.sizes:
        transforms = tuple(map(transform_of, options.sizes))
        train_transform = data.MultiScale(transforms, every=options.size_every, seed=config.seed)
    with under("config"):
        task = tasks.detection(
            detector,
            inputs_of(options.image_size),
            class_names=class_names,
            augment=steps,
            train_difficult=options.difficult,
            voc_inclusive=options.voc_inclusive,
            confusion_score=options.confusion_score,
        )
    return Built(task, train_transform, transform)


def _detector(
    config: Any, class_names: Sequence[str], code: Code, evaluation: bool
) -> tasks.Detector:
    own, loss = plain(config.detector), plain(config.loss)
    name, loss_name = own.pop("name"), loss.pop("name")
    if not name:
        name = _family(config.model.name)
    constructor = code.find(DETECTORS, name, "detector")
    known = {
        key: parameter
        for key, parameter in inspect.signature(constructor).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    if not is_own(name):  # whose further keywords are options of the loss
        for key in own.keys() - known.keys():
            raise OptionError(
                f"config.detector.{key}",
                f"config.detector.{key} is no option of {name}: {close_names(key, known)}; options "
                "of its loss belong to config.loss",
            )
    decode = read_group(DetectOptions, config.detect, "config.detect")
    given: dict[str, Any] = {"num_classes": len(class_names), "decode": decode}
    if "model" in known:
        given["model"] = _model(config, class_names, code)
    if "anchors" in known:
        given["anchors"] = plain({"anchors": config.anchors})["anchors"]
    elif config.anchors:
        raise InputError(f"config.anchors: {name} has no anchors, leave them out")
    # A detector of the user's own takes what its signature names.
    passed = {key: value for key, value in given.items() if key in known}
    if evaluation:
        passed |= {"loss": None} if "loss" in known else {}
        # Further options may be those of another loss, which is not there.
        loss = {key: value for key, value in loss.items() if key in known}
    elif loss_name:
        with under("config.loss"):
            passed["loss"] = code.find(LOSSES["detection"], loss_name, "loss")
    with under("config"):
        try:
            return constructor(**passed, **own, **loss)
        except TypeError as error:
            raise InputError(f"config.detector: {name} cannot be built: {error}") from error
        except OptionError as error:
            group = "loss." if error.option in loss else "detector." if error.option in own else ""
            if group:
                raise OptionError(f"{group}{error.option}", f"{group}{error}") from error
            raise


def _family(model: str) -> str:
    """The detector that belongs to a network.

    Raises:
      OptionError: there is none.
    """
    if model not in FAMILIES:
        hint = "name the detector of it" if is_own(model) else close_names(model, FAMILIES)
        raise OptionError(
            "config.detector.name",
            f"config.detector.name is empty, and no detector belongs to the model {model!r}: "
            f"{hint}",
        )
    return FAMILIES[model]


def _model(config: Any, class_names: Sequence[str], code: Code) -> Any:
    if "num_anchors" in config.model:
        raise InputError("config.model.num_anchors follows from config.anchors: leave it out")
    return build_model(config, code, num_classes=len(class_names))


def _form(options: DetectionData, split: str) -> data.Source:
    names, own = options.class_names or None, options.own_split(split)
    how: dict[str, Any] = {"drop_bad": options.drop_bad}
    if options.masks and options.source != "coco":
        raise OptionError("masks", f"masks are not read of {options.source}: leave it out")
    if options.source == "voc":
        how |= {"class_names": names, "first_pixel": options.first_pixel}
        return data.VocFolder(options.folder, own, **how)
    if options.source == "coco":
        return data.CocoFolder(options.folder, own, masks=options.masks, **how)
    return data.YoloFolder(options.folder, own, class_names=names, **how)


def _tfds(options: DetectionData, split: str) -> data.Source:
    if not options.name:
        raise OptionError("name", "name is not set: give a TFDS data set, such as voc/2007")
    if options.drop_bad:
        raise OptionError(
            "drop_bad",
            "drop_bad has no effect on TFDS data sets, whose records are checked as they are read: "
            "leave it out",
        )
    return data.Tfds(options.name, options.own_split(split), dir=options.dir, kind="detection")


def pictures(shown: Shown) -> list[dict[str, np.ndarray]]:
    """Of the first images, what was found beside what is there."""
    found, rows = shown.evaluation.collected, []
    for index in range(min(PICTURES, len(shown.records))):
        record = shown.records[index]
        canvas, scale = to_look_at(record["image"])
        good = found.valid[index] & (found.scores[index] >= LEAST_SCORE)
        boxes = {
            "found": (
                found.boxes[index][good],
                found.labels[index][good],
                found.scores[index][good],
            ),
            "truth": (np.asarray(record["boxes"]), np.asarray(record["labels"]), None),
        }
        rows.append(
            {
                caption: draw_detections(
                    canvas, box * np.tile(scale, 2), labels, scores, shown.task.class_names
                )
                for caption, (box, labels, scores) in boxes.items()
            }
        )
    return rows


def results(prediction: Prediction, task: Any) -> Result:
    """A picture with boxes; label, box and score of each object."""
    found = prediction.result
    drawn = draw_prediction(prediction, "detection", task.class_names)
    corner, size = found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]
    boxes = np.concatenate([corner, size], axis=1)
    objects = [
        {
            "label": task.class_names[label],
            "bbox": [round(x, 3) for x in box],
            "score": round(score, 5),
        }
        for label, box, score in zip(
            found.labels.tolist(), boxes.tolist(), found.scores.tolist(), strict=True
        )
    ]
    return Result({"detections": objects}, (drawn,))


def _no_objects(image: np.ndarray, classes: int) -> dict[str, Any]:
    none = np.zeros(0, bool)
    boxes = {"boxes": np.zeros((0, 4)), "labels": none.astype(int)}
    return {**boxes, "crowd": none, "difficult": none, "masks": []}


DETECTION = Kind(
    name="detection",
    groups={
        "data": DetectionData,
        "augment": DetectionAugment,
        "detector": DetectorOptions,
        "detect": DetectOptions,
    },
    defaults={"best.metric": "AP", "model.name": "yolov2", "loss.name": "", "anchors": ()},
    sources={
        "scenes": lambda options, split: data.Scenes(split, dir=options.dir),
        "single_scenes": lambda options, split: data.Scenes(split, single=True, dir=options.dir),
        "voc": _form,
        "coco": _form,
        "yolo": _form,
        "tfds": _tfds,
    },
    build=build,
    transform=lambda task: data.ToDetection(task.inputs, len(task.class_names)),
    table=class_table,
    pictures=pictures,
    csv=detection_files,
    figures=detection_figures,
    results=results,
    decode={"score": "score_threshold", "iou": "iou_threshold", "most": "max_detections"},
    empty=_no_objects,
)
