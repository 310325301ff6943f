"""Floor 2: metrics."""

from jaxvision.metrics.classification import top_k_accuracy
from jaxvision.metrics.landmarks import normalized_landmark_error
from jaxvision.metrics.restoration import psnr, ssim
from jaxvision.metrics.segmentation import confusion_matrix, dice_score, mean_iou, pixel_accuracy

__all__ = [
    "confusion_matrix",
    "dice_score",
    "mean_iou",
    "normalized_landmark_error",
    "pixel_accuracy",
    "psnr",
    "ssim",
    "top_k_accuracy",
]
