"""The metrics of detection: numbers and tables of what was found, over all images."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxvision.core import Detections, InputError, OptionError, Record, Summary, check_range
from jaxvision.data import Source, to_run_lengths
from jaxvision.metrics import (
    COCO_KEYPOINT_SIGMAS,
    DetectionTable,
    ObjectTable,
    coco_average_precision,
    matched_classes,
    voc_average_precision,
)
from jaxvision.ops import mask_area
from jaxvision.tasks.building import confusion_tables
from jaxvision.tasks.object_parts import check_objects, found_masks, masks_of_records

CURVES = 50, 75
"""IoU thresholds of the precision-recall curves, percent."""
CONFUSION_SCORE = 0.3
"""Least score of a detection in the confusion matrix, unless another one is given."""

# The other numbers are there only if there are objects of their size.
NUMBERS = ("AP", "AP50", "AP75", "mAP_VOC")
MASK_NUMBERS = ("mask_AP", "mask_AP50", "mask_AP75")
KEYPOINT_NUMBERS = ("keypoint_AP", "keypoint_AP50", "keypoint_AP75")


def summarize_detections(
    found: Detections,
    records: Sequence[Record],
    *,
    names: Sequence[str] = NUMBERS,
    num_classes: int,
    voc_inclusive: bool,
    confusion_score: float,
    class_agnostic: bool = False,
    recall_detections: int | None = None,
    keypoint_sigmas: Sequence[float] = COCO_KEYPOINT_SIGMAS,
) -> Summary:
    """COCO's and VOC's average precision of all examples, and what class was found for which.

    The numbers have all names, with 0 for those that no object defines.
    """
    masks, keypoints = found.masks is not None, found.keypoints is not None
    tables = detection_table(found), object_table(records, masks=masks, keypoints=keypoints)
    if class_agnostic:
        one_class = (dataclasses.replace(x, labels=np.zeros_like(x.labels)) for x in tables)
        tables, num_classes = tuple(one_class), 1
    more = {"max_detections": recall_detections}
    results = {"": coco_average_precision(*tables, num_classes=num_classes, **more)}
    if masks:
        results["mask_"] = coco_average_precision(*tables, num_classes=num_classes, iou_type="segm")
    if keypoints:
        how = {"iou_type": "keypoints", "sigmas": keypoint_sigmas}
        results["keypoint_"] = coco_average_precision(*tables, num_classes=num_classes, **how)
    matches = matched_classes(*tables, num_classes=num_classes, score_threshold=confusion_score)
    detections, objects = tables
    if voc_inclusive:
        # Those of the objects, [x1, y1, x2 + 1, y2 + 1], end after their last pixel.
        boxes = detections.boxes + np.array([0, 0, 1, 1])
        detections = dataclasses.replace(detections, boxes=boxes)
    voc = voc_average_precision(detections, objects, num_classes=num_classes)
    numbers, of_classes = {"mAP_VOC": voc.mean_ap}, {}
    for prefix, coco in results.items():
        numbers |= {prefix + name: x for name, x in coco.stats.items()}
        of_classes[f"class_{prefix}ap"] = coco.class_ap
        for percent in CURVES:
            curves = coco.curves(percent / 100)
            of_classes[f"class_{prefix}ap{percent}"] = curves.mean(axis=1)
            of_classes[f"{prefix}precision{percent}"] = curves
    existing = {name: x for name, x in numbers.items() if not np.isnan(x)}
    return Summary(
        {**dict.fromkeys(names, 0.0), **existing},
        {
            **of_classes,
            "class_objects": np.bincount(tables[1].labels, minlength=num_classes),
            **confusion_tables(*matches, num_classes + 1),
            "confusion_objects": np.bincount(matches[0], minlength=num_classes + 1),
        },
    )


def measure_detections(
    found: Detections,
    source: Source,
    *,
    class_names: Sequence[str] | None = None,
    voc_inclusive: bool = False,
    confusion_score: float = CONFUSION_SCORE,
    keypoint_sigmas: Sequence[float] = COCO_KEYPOINT_SIGMAS,
) -> Summary:
    """Measures detections, of any tool, as an evaluation of a detector measures its own.

    Args:
      found: of all images of the source, as `jaxvision.data.read_coco_results` gives them.
      source: the images and their objects, with masks or keypoints if the detections have them.
      class_names: of the labels; None: those of the source.
      voc_inclusive: as in `detection`.
      confusion_score: as in `detection`.
      keypoint_sigmas: of the keypoints, one for each; see
        `jaxvision.metrics.coco_average_precision`.
    Returns:
      the numbers and tables of `detection`.
    Raises:
      InputError: there are not as many images, or their objects lack masks or keypoints.
      OptionError: an option is out of range.
    """
    check_range("confusion_score", confusion_score, least=0, most=1)
    if len(found.valid) != len(source):
        raise InputError(
            f"the detections are of {len(found.valid)} images, but the source has {len(source)}"
        )
    records = [source.target(index) for index in range(len(source))]
    masks, keypoints = found.masks is not None, found.keypoints is not None
    check_objects(records, masks=masks, keypoints=keypoints)
    if keypoints and found.keypoints.shape[2] != len(keypoint_sigmas):
        raise OptionError(
            "keypoint_sigmas",
            f"keypoint_sigmas has {len(keypoint_sigmas)} numbers, but the detections have "
            f"{found.keypoints.shape[2]} keypoints: give one for each",
        )
    return summarize_detections(
        found,
        records,
        names=NUMBERS + masks * MASK_NUMBERS + keypoints * KEYPOINT_NUMBERS,
        num_classes=len(source.class_names if class_names is None else class_names),
        voc_inclusive=voc_inclusive,
        confusion_score=confusion_score,
        keypoint_sigmas=keypoint_sigmas,
    )


def detection_table(found: Detections) -> DetectionTable:
    """Detections of all images, [N, D, ...], as one table; images are numbered from 0.

    Masks are those of `jaxvision.tasks.object_parts.paste_found`, or None.
    """
    image, place = np.nonzero(found.valid)
    return DetectionTable(
        image=image,
        boxes=np.asarray(found.boxes, np.float64)[image, place],
        scores=np.asarray(found.scores, np.float64)[image, place],
        labels=np.asarray(found.labels)[image, place],
        masks=None if found.masks is None else found_masks(found.masks),
        keypoints=None if found.keypoints is None else np.asarray(found.keypoints)[image, place],
    )


def object_table(
    records: Sequence[Record], *, masks: bool = False, keypoints: bool = False
) -> ObjectTable:
    """The objects of all records as one table; images are numbered from 0.

    Args:
      records: "boxes" f[G, 4] (xyxy, pixels of the original image), "labels" int[G], "crowd" and
        "difficult" bool[G], and perhaps "area" f[G], or "masks" and the image's "size". An object
        without an area has that of its mask, or of its box where there are no masks.
      masks: whether the table gets the masks, which all records with objects must have then.
      keypoints: whether it gets the "keypoints" f[G, K, 3], which all must have then.
    """

    def column(name: str, empty: np.ndarray) -> np.ndarray:
        return np.concatenate([empty, *(np.asarray(record[name]) for record in records)])

    boxes = column("boxes", np.zeros((0, 4)))
    areas = [np.zeros(0), *map(_areas, records)]
    return ObjectTable(
        image=np.repeat(np.arange(len(records)), [len(record["labels"]) for record in records]),
        boxes=boxes,
        labels=column("labels", np.zeros(0, int)).astype(int),
        crowd=column("crowd", np.zeros(0, bool)).astype(bool),
        difficult=column("difficult", np.zeros(0, bool)).astype(bool),
        area=np.concatenate(areas),
        masks=masks_of_records(records) if masks else None,
        keypoints=_keypoints_of(records) if keypoints else None,
    )


def _keypoints_of(records: Sequence[Record]) -> np.ndarray:
    """f64[G, K, 3], those of the objects of all records; a record without objects may have none."""
    given = [x["keypoints"] for x in records if x.get("keypoints") is not None]
    return np.concatenate([np.asarray(x, np.float64) for x in given] or [np.zeros((0, 1, 3))])


def _areas(record: Record) -> np.ndarray:
    """f64[G], the areas of the objects, by which COCO sorts them."""
    if record.get("area") is not None:
        return np.asarray(record["area"], np.float64)
    if record.get("masks") is not None:
        masks = (to_run_lengths(mask, record["size"]) for mask in record["masks"])
        return np.array([mask_area(mask) for mask in masks], np.float64)
    boxes = np.asarray(record["boxes"], np.float64).reshape(-1, 4)
    return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
