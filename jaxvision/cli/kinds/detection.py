"""Detection on the command line."""

import dataclasses
import inspect
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from jaxvision import data, tasks
from jaxvision.cli.code import Code, is_own
from jaxvision.cli.kinds.darknet import DARKNET
from jaxvision.cli.kinds.detection_augment import DetectionAugment
from jaxvision.cli.kinds.detection_data import SOURCES, DetectionData
from jaxvision.cli.kinds.detection_report import (
    class_table,
    detection_figures,
    detection_files,
    detections_json,
)
from jaxvision.cli.kinds.kind import (
    LEAST_SCORE,
    PICTURES,
    Built,
    Kind,
    Result,
    Shown,
    build_model,
    to_look_at,
)
from jaxvision.cli.kinds.trees import read_tree
from jaxvision.cli.options import option_paths, plain, read_group
from jaxvision.core import (
    InputError,
    Inputs,
    OptionError,
    close_names,
    under,
)
from jaxvision.interop import read_class_map
from jaxvision.models.detection.faster_rcnn import (
    FAST_RCNNS,
    FASTER_RCNNS,
    KEYPOINT_RCNNS,
    MASK_RCNNS,
    RPNS,
)
from jaxvision.models.detection.fcos import FCOSES
from jaxvision.models.detection.localizer import LOCALIZERS
from jaxvision.models.detection.retinanet import RETINANETS
from jaxvision.models.detection.ssd import SSDS
from jaxvision.models.detection.yolov1 import YOLOS_V1
from jaxvision.models.detection.yolov2 import YOLO9000S, YOLOS_V2
from jaxvision.models.detection.yolov3 import YOLOS_V3
from jaxvision.models.detection.yolov4 import YOLOS_V4
from jaxvision.ops import RunLengths, compress_counts, decode_mask
from jaxvision.predict import Prediction, draw_detections, draw_prediction
from jaxvision.tasks import DETECTORS, DetectOptions
from jaxvision.tasks.detection_metrics import MASK_NUMBERS
from jaxvision.tasks.names import LOSSES

FAMILIES = {
    DARKNET: "darknet",
    **dict.fromkeys((*FASTER_RCNNS, *MASK_RCNNS, *KEYPOINT_RCNNS), "faster_rcnn"),
    **dict.fromkeys(FAST_RCNNS, "fast_rcnn"),
    **dict.fromkeys(FCOSES, "fcos"),
    **dict.fromkeys(LOCALIZERS, "localizer"),
    **dict.fromkeys(RETINANETS, "retinanet"),
    **dict.fromkeys(RPNS, "rpn"),
    **dict.fromkeys(SSDS, "ssd"),
    **dict.fromkeys(YOLOS_V1, "yolov1"),
    **dict.fromkeys(YOLOS_V2, "yolov2"),
    **dict.fromkeys(YOLOS_V3, "yolov3"),
    **dict.fromkeys(YOLO9000S, "yolo9000"),
    **dict.fromkeys(YOLOS_V4, "yolov4"),
    **dict.fromkeys(("yolov4_tiny", "yolov4_tiny_3l"), "yolov4_tiny"),
    "yolov4_csp": "yolov4_csp",
}
"""Network -> its detector."""


@dataclass(frozen=True)
class DetectorOptions:
    """The detector; further keys of this group are options of it, such as best_box_only.

    Attributes:
      name: "darknet", "fast_rcnn", "faster_rcnn", "fcos", "localizer", "retinanet", "rpn", "ssd",
        "yolo9000", "yolov1", "yolov2", "yolov3", "yolov4", "yolov4_csp", "yolov4_tiny" or
        "file.py:function" of your own; empty: the one that belongs to the model.
    """

    name: str = ""


@dataclass(frozen=True)
class DetectGroup:
    """Which candidates become detections; what is not set is as the detector's own default.

    Attributes:
      score_threshold: a pair of a box and a class counts if its score is above this.
      iou_threshold: a box is suppressed where its IoU with a better one of its class is above this.
      max_detections: most detections in an image.
      max_candidates: most pairs of a box and a class that enter the suppression, the best ones: of
        all, or, for retinanet and fcos, of each map, or, for ssd, of each class.
      distance_power: for YOLOs: by which power of the distance between their centres boxes suppress
        each other less; see `jaxvision.ops.nms`.
    """

    score_threshold: float | None = None
    iou_threshold: float | None = None
    max_detections: int | None = None
    max_candidates: int | None = None
    distance_power: float | None = None


def decode_options(config: Any, constructor: Any) -> DetectOptions:
    """The options of decoding: those of the detector, with those that the config sets."""
    parameter = inspect.signature(constructor).parameters.get("decode")
    default = getattr(parameter, "default", None)
    if not isinstance(default, DetectOptions):  # a detector of the user's own
        default = DetectOptions()
    given = dataclasses.asdict(read_group(DetectGroup, config.detect, "config.detect"))
    with under("config.detect"):
        return dataclasses.replace(default, **{k: x for k, x in given.items() if x is not None})


def build(config: Any, class_names: Sequence[str], code: Code, evaluation: bool) -> Built:
    """The task and the transforms of a config."""
    options = read_group(DetectionData, config.data, "config.data")

    def inputs_of(size: int | None = None) -> Inputs:
        with option_paths("config.data", size="image_size"):
            return options.inputs(size, mean=options.mean, std=options.std)

    detector = _detector(config, class_names, code, evaluation)
    _check_proposals(options, detector)
    for name, sizes in (("image_size", [options.image_size]), ("sizes", options.sizes)):
        for size in () if inputs_of().pads else sizes:
            if size < 1 or size % detector.multiple_of:
                raise InputError(
                    f"config.data.{name} is {size}: give multiples of {detector.multiple_of}"
                )
    steps: tuple[Any, ...] = ()
    if not evaluation:
        augment = read_group(DetectionAugment, config.augment, "config.augment")
        with under("config.augment"):
            steps = augment.steps()
        if augment.copy_paste and not options.masks:
            raise OptionError(
                "config.augment.copy_paste",
                "config.augment.copy_paste pastes objects along their masks, but config.data.masks "
                "is False: set it to True, or leave copy_paste out",
            )
        _check_keypoints(options, augment, detector)

    def transform_of(size: int | None = None, *, train: bool = True) -> data.ToDetection:
        inputs = inputs_of(size)
        with under("config.data"):
            return data.ToDetection(
                inputs,
                len(class_names),
                max_boxes=options.max_boxes,
                drop_extra=options.drop_extra or evaluation,
                # An evaluation takes those of the objects from the records.
                masks=options.masks and train,
                mask_size=options.mask_size,
                num_keypoints=detector.num_keypoints if options.keypoints and train else None,
                max_proposals=options.max_proposals if options.proposals else None,
                labels_only=bool(options.labels_only) and train,
            )

    train_transform, transform = transform_of(), transform_of(train=False)
    if options.sizes:
        transforms = tuple(map(transform_of, options.sizes))
        train_transform = data.MultiScale(transforms, every=options.size_every, seed=config.seed)
    with option_paths("config", multiple_of="data.multiple_of"):
        task = tasks.detection(
            detector,
            inputs_of(),
            class_names=class_names,
            augment=steps,
            train_difficult=options.difficult,
            voc_inclusive=options.voc_inclusive,
            confusion_score=options.confusion_score,
            sync_batch_norm=config.sync_batch_norm,
        )
    if not evaluation and not options.masks and MASK_NUMBERS[0] in task.dataset_metric.names:
        raise InputError(
            "config.data.masks is False, but the detector finds masks, which are compared with "
            "those of the objects: set it to True"
        )
    return Built(task, train_transform, transform)


def _check_proposals(options: DetectionData, detector: tasks.Detector) -> None:
    """Raises OptionError unless the data and the detector agree on proposals."""
    if detector.proposals and not options.proposals:
        raise OptionError(
            "config.data.proposals",
            "config.data.proposals is not set, but the detector classifies proposals: give a file "
            "of jaxvision.data.write_proposals, such as 'proposals_{split}.npz'",
        )
    if options.proposals and not detector.proposals:
        raise OptionError(
            "config.data.proposals",
            "config.data.proposals has no effect, as the detector proposes regions itself or needs "
            "none: leave it out",
        )


def _check_keypoints(
    options: DetectionData, augment: DetectionAugment, detector: tasks.Detector
) -> None:
    """Raises OptionError unless the data, the flips and the detector agree on keypoints."""
    count = detector.num_keypoints
    if count is None and (options.keypoints or augment.swap):
        name = "data.keypoints" if options.keypoints else "augment.swap"
        raise OptionError(
            f"config.{name}",
            f"config.{name} has no effect, as the detector finds no keypoints: leave it out",
        )
    if count is None:
        return
    if not options.keypoints:
        raise OptionError(
            "config.data.keypoints",
            "config.data.keypoints is False, but the detector finds keypoints: set it to True",
        )
    if (augment.preset or augment.flip) and len(augment.swap) != count:
        raise OptionError(
            "config.augment.swap",
            f"config.augment.swap has {len(augment.swap)} numbers, but images are mirrored and "
            f"objects have {count} keypoints: give for each the index of its counterpart on the "
            "other side, or its own",
        )


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
    decode = decode_options(config, constructor)
    # A description names the file of its tree itself.
    if "tree" in known and not is_own(name) and (own.get("tree") or name != DARKNET):
        own |= _tree_options(own, class_names)
    given: dict[str, Any] = {"num_classes": len(class_names), "decode": decode}
    if "model" in known:
        given["model"] = _model(config, len(own.get("tree") or class_names), code)
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


def _tree_options(own: dict[str, Any], class_names: Sequence[str]) -> dict[str, Any]:
    """The tree of the classes, and the nodes of those that the labels are, for a detector.

    Args:
      own: options of the detector: "tree", a file in Darknet's form or the name of each node's
        parent, "" for roots; and perhaps "nodes", a file in Darknet's form or numbers.
      class_names: of the labels. Without "nodes" they are nodes of their names, where the tree has
        all of them; otherwise the labels are nodes.
    """
    tree, nodes = own.get("tree"), own.get("nodes")
    with under("config.detector"):
        if not tree:
            raise OptionError(
                "tree",
                "tree is not set: give a file in the form of Darknet's 9k.tree, or the name of "
                "each node's parent",
            )
        tree = read_tree(tree)
        if isinstance(nodes, str):
            nodes = read_class_map(pathlib.Path(nodes).expanduser(), tree)
        others = [name for name in class_names if name not in tree.index]
        if nodes is None and others and len(class_names) != len(tree):
            raise OptionError(
                "tree",
                f"tree has no node {others[0]!r}: give a tree that has all data.class_names, or "
                "set nodes",
            )
    if nodes is None and not others and tuple(class_names) != tree.names:
        nodes = tuple(tree.index[name] for name in class_names)
    return {"tree": tree, "nodes": nodes}


def _model(config: Any, num_classes: int, code: Code) -> Any:
    if "num_anchors" in config.model:
        raise InputError(
            "config.model.num_anchors follows from the anchors, config.anchors or those of "
            "config.detector: leave it out"
        )
    return build_model(config, code, num_classes=num_classes)


def pictures(shown: Shown) -> list[dict[str, np.ndarray]]:
    """Of the first images, what was found beside what is there."""
    found, rows = shown.evaluation.collected, []
    for index in range(min(PICTURES, len(shown.records))):
        record = shown.records[index]
        canvas, scale = to_look_at(record["image"])
        good = found.valid[index] & (found.scores[index] >= LEAST_SCORE)
        masks = {"found": None, "truth": None}
        if found.masks is not None:
            valid = np.flatnonzero(good[found.valid[index]])
            true = (data.to_run_lengths(x, record["size"]) for x in record["masks"] or ())
            masks = {"found": [found.masks[index][row] for row in valid], "truth": [*true]}
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
                    canvas,
                    box * np.tile(scale, 2),
                    labels,
                    scores,
                    shown.class_names,
                    masks=_resized(masks[caption], canvas.shape[:2]),
                )
                for caption, (box, labels, scores) in boxes.items()
            }
        )
    return rows


def _resized(masks: Sequence[RunLengths] | None, size: tuple[int, int]) -> np.ndarray | None:
    """The masks of an image as bool[K, height, width] of another size."""
    if masks is None:
        return None
    resized = np.zeros((len(masks), *size), bool)
    for mask, given in zip(resized, masks, strict=True):
        mask[:] = Image.fromarray(decode_mask(given)).resize(size[::-1])
    return resized


def results(prediction: Prediction, task: Any) -> Result:
    """A picture with boxes and masks; label, box, score and perhaps the mask of each object."""
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
    if found.masks is not None:
        for entry, mask in zip(objects, found.masks, strict=True):
            # As in COCO's results.
            counts = compress_counts(mask.counts).decode()
            entry["segmentation"] = {"size": list(mask.size), "counts": counts}
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
        "detect": DetectGroup,
    },
    defaults={"best.metric": "AP", "model.name": "yolov2", "loss.name": "", "anchors": ()},
    sources=SOURCES,
    build=build,
    transform=lambda task: data.ToDetection(task.inputs, len(task.class_names), drop_extra=True),
    table=class_table,
    pictures=pictures,
    csv=detection_files,
    write=detections_json,
    written="detections",
    figures=detection_figures,
    results=results,
    decode={"score": "score_threshold", "iou": "iou_threshold", "most": "max_detections"},
    empty=_no_objects,
)
