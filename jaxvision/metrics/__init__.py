"""Metrics (layer 2).

Metrics of one example return (total, weight), as losses do: the caller sums both over a data set
and divides once. Average precision, the scores of classes and the calibration error need a whole
data set at once, and are computed on the host with numpy. Every metric raises AssertionError,
naming the argument, if an array has another shape or dtype; "Raises:" in a docstring lists what
else a metric raises.
"""

from jaxvision.metrics.classification import (
    Calibration,
    ClassScores,
    calibration,
    class_scores,
    confused_pairs,
    count_confusions,
    top_k_accuracy,
)
from jaxvision.metrics.coco import CocoResult, coco_average_precision
from jaxvision.metrics.detection_confusions import matched_classes
from jaxvision.metrics.detection_tables import DetectionAccumulator, DetectionTable, ObjectTable
from jaxvision.metrics.keypoints import COCO_KEYPOINT_SIGMAS, paired_keypoint_similarity
from jaxvision.metrics.landmarks import normalized_landmark_error
from jaxvision.metrics.restoration import psnr, ssim
from jaxvision.metrics.segmentation import (
    confusion_matrix,
    dice_score,
    mean_iou,
    pixel_accuracy,
    roc_auc,
    score_histogram,
)
from jaxvision.metrics.voc import VocResult, voc_average_precision

__all__ = [
    "COCO_KEYPOINT_SIGMAS",
    "Calibration",
    "ClassScores",
    "CocoResult",
    "DetectionAccumulator",
    "DetectionTable",
    "ObjectTable",
    "VocResult",
    "calibration",
    "class_scores",
    "coco_average_precision",
    "confused_pairs",
    "confusion_matrix",
    "count_confusions",
    "dice_score",
    "matched_classes",
    "mean_iou",
    "normalized_landmark_error",
    "paired_keypoint_similarity",
    "pixel_accuracy",
    "psnr",
    "roc_auc",
    "score_histogram",
    "ssim",
    "top_k_accuracy",
    "voc_average_precision",
]
