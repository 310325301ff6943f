"""Detectors: networks with their losses and their decoding, one file a family."""

from collections.abc import Callable

from jaxvision.tasks.detectors.detector import Candidates, Detector
from jaxvision.tasks.detectors.localizer import localizer, localizer_candidates
from jaxvision.tasks.detectors.yolo import (
    yolo_candidates,
    yolov1,
    yolov1_candidates,
    yolov2,
    yolov2_candidates,
    yolov3,
    yolov3_candidates,
)

DETECTORS: dict[str, Callable[..., Detector]] = {
    "localizer": localizer,
    "yolov1": yolov1,
    "yolov2": yolov2,
    "yolov3": yolov3,
}
"""Name -> constructor: (model, its own arguments, *, loss, decode, options of the loss)."""

__all__ = [
    "DETECTORS",
    "Candidates",
    "Detector",
    "localizer",
    "localizer_candidates",
    "yolo_candidates",
    "yolov1",
    "yolov1_candidates",
    "yolov2",
    "yolov2_candidates",
    "yolov3",
    "yolov3_candidates",
]
