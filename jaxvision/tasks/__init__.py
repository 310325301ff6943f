"""Tasks: each binds a network to its augmentation, loss, decoding and metrics."""

from collections.abc import Callable

from jaxvision.core import Task
from jaxvision.tasks import detectors
from jaxvision.tasks.classification import classification, restore_classification
from jaxvision.tasks.composite_losses import (
    binary_segmentation_loss,
    gaussian_loss,
    segmentation_loss,
)
from jaxvision.tasks.decoding import DetectOptions, HeatmapDecode, detect
from jaxvision.tasks.degradations import (
    DEGRADATIONS,
    PROTOCOLS,
    Degradation,
    Downscale,
    DownscaleUpscale,
    GaussianNoise,
    protocol,
)
from jaxvision.tasks.detection import detection, restore_detection
from jaxvision.tasks.detection_metrics import measure_detections
from jaxvision.tasks.detectors import DETECTORS, Detector
from jaxvision.tasks.freezing import with_frozen_statistics
from jaxvision.tasks.landmarks import landmarks, restore_landmarks
from jaxvision.tasks.restoration import (
    Restoration,
    restoration,
    restore_restoration,
    undegraded,
)
from jaxvision.tasks.segmentation import Segmentation, restore_segmentation, segmentation

RESTORE: dict[str, Callable[..., Task]] = {
    "classification": restore_classification,
    "detection": restore_detection,
    "landmarks": restore_landmarks,
    "restoration": restore_restoration,
    "segmentation": restore_segmentation,
}
"""Kind -> (parts of a description, options of the decoding) -> the task for evaluation."""

__all__ = [
    "DEGRADATIONS",
    "DETECTORS",
    "PROTOCOLS",
    "RESTORE",
    "Degradation",
    "DetectOptions",
    "Detector",
    "Downscale",
    "DownscaleUpscale",
    "GaussianNoise",
    "HeatmapDecode",
    "Restoration",
    "Segmentation",
    "binary_segmentation_loss",
    "classification",
    "detect",
    "detection",
    "detectors",
    "gaussian_loss",
    "landmarks",
    "measure_detections",
    "protocol",
    "restoration",
    "segmentation",
    "segmentation_loss",
    "undegraded",
    "with_frozen_statistics",
]
