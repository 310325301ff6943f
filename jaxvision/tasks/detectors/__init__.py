"""Detectors: networks with their losses and their decoding, one file a family."""

from collections.abc import Callable

from jaxvision.tasks.detectors.darknet import (
    darknet,
    darknet_candidates,
    darknet_classes,
    darknet_loss,
)
from jaxvision.tasks.detectors.detector import Adversarial, Candidates, Detector
from jaxvision.tasks.detectors.fast_rcnn import fast_rcnn
from jaxvision.tasks.detectors.faster_rcnn import FASTER_RCNN_DECODE, faster_rcnn, rpn
from jaxvision.tasks.detectors.fcos import FCOS_DECODE, fcos
from jaxvision.tasks.detectors.localizer import localizer, localizer_candidates
from jaxvision.tasks.detectors.retinanet import RETINANET_DECODE, retinanet
from jaxvision.tasks.detectors.ssd import LAYOUTS, SSD_DECODE, SSDLITE_DECODE, ssd
from jaxvision.tasks.detectors.yolo import (
    yolo_candidates,
    yolov1,
    yolov1_candidates,
    yolov2,
    yolov2_candidates,
    yolov3,
    yolov3_candidates,
)
from jaxvision.tasks.detectors.yolo9000 import yolo9000, yolo9000_detections
from jaxvision.tasks.detectors.yolov4 import (
    YOLOV4_DECODE,
    yolov4,
    yolov4_candidates,
    yolov4_csp,
    yolov4_tiny,
)

DETECTORS: dict[str, Callable[..., Detector]] = {
    "darknet": darknet,
    "fast_rcnn": fast_rcnn,
    "faster_rcnn": faster_rcnn,
    "fcos": fcos,
    "localizer": localizer,
    "retinanet": retinanet,
    "rpn": rpn,
    "ssd": ssd,
    "yolo9000": yolo9000,
    "yolov1": yolov1,
    "yolov2": yolov2,
    "yolov3": yolov3,
    "yolov4": yolov4,
    "yolov4_csp": yolov4_csp,
    "yolov4_tiny": yolov4_tiny,
}
"""Name -> constructor: (model, its own arguments, *, loss, decode, options of the loss)."""

__all__ = [
    "DETECTORS",
    "FASTER_RCNN_DECODE",
    "FCOS_DECODE",
    "LAYOUTS",
    "RETINANET_DECODE",
    "SSDLITE_DECODE",
    "SSD_DECODE",
    "YOLOV4_DECODE",
    "Adversarial",
    "Candidates",
    "Detector",
    "darknet",
    "darknet_candidates",
    "darknet_classes",
    "darknet_loss",
    "fast_rcnn",
    "faster_rcnn",
    "fcos",
    "localizer",
    "localizer_candidates",
    "retinanet",
    "rpn",
    "ssd",
    "yolo9000",
    "yolo9000_detections",
    "yolo_candidates",
    "yolov1",
    "yolov1_candidates",
    "yolov2",
    "yolov2_candidates",
    "yolov3",
    "yolov3_candidates",
    "yolov4",
    "yolov4_candidates",
    "yolov4_csp",
    "yolov4_tiny",
]
