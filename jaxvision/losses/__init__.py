"""Losses of one example, which return (total, weight) or named terms of that form (layer 2).

The caller maps a loss over the batch with `jax.vmap`, sums totals and weights over the batch and
the devices, and divides once. Every loss raises AssertionError, naming the argument, if an array
has another shape or dtype; "Raises:" in a docstring lists what else a loss raises.
"""

from jaxvision.losses.boxes import (
    box_iou_loss,
    complete_box_iou_loss,
    distance_box_iou_loss,
    generalized_box_iou_loss,
)
from jaxvision.losses.classification import (
    binary_cross_entropy,
    cross_entropy,
    sigmoid_focal_loss,
    softmax_focal_loss,
)
from jaxvision.losses.fcos import fcos_loss
from jaxvision.losses.keypoint_rcnn import keypoint_rcnn_loss
from jaxvision.losses.landmarks import heatmap_cross_entropy, heatmap_l2_loss
from jaxvision.losses.localization import localization_loss
from jaxvision.losses.mask_rcnn import mask_rcnn_loss
from jaxvision.losses.rcnn import fast_rcnn_loss, faster_rcnn_loss, rpn_loss
from jaxvision.losses.regression import huber_loss, l1_loss, l2_loss, smooth_l1_loss
from jaxvision.losses.retinanet import retinanet_loss
from jaxvision.losses.segmentation import (
    dice_loss,
    pixel_binary_cross_entropy,
    pixel_cross_entropy,
    tversky_loss,
)
from jaxvision.losses.ssd import ssd_multibox_loss
from jaxvision.losses.word_tree import word_tree_cross_entropy
from jaxvision.losses.yolo import yolov2_loss, yolov3_loss
from jaxvision.losses.yolo9000 import yolo9000_loss
from jaxvision.losses.yolov1 import yolov1_loss
from jaxvision.losses.yolov4 import yolov4_loss

__all__ = [
    "binary_cross_entropy",
    "box_iou_loss",
    "complete_box_iou_loss",
    "cross_entropy",
    "dice_loss",
    "distance_box_iou_loss",
    "fast_rcnn_loss",
    "faster_rcnn_loss",
    "fcos_loss",
    "generalized_box_iou_loss",
    "heatmap_cross_entropy",
    "heatmap_l2_loss",
    "huber_loss",
    "keypoint_rcnn_loss",
    "l1_loss",
    "l2_loss",
    "localization_loss",
    "mask_rcnn_loss",
    "pixel_binary_cross_entropy",
    "pixel_cross_entropy",
    "retinanet_loss",
    "rpn_loss",
    "sigmoid_focal_loss",
    "smooth_l1_loss",
    "softmax_focal_loss",
    "ssd_multibox_loss",
    "tversky_loss",
    "word_tree_cross_entropy",
    "yolo9000_loss",
    "yolov1_loss",
    "yolov2_loss",
    "yolov3_loss",
    "yolov4_loss",
]
