"""Floor 1: pure array functions of fixed size, for use under jit, vmap, pmap and grad."""

from jaxvision.ops.boxes import (
    FORMATS,
    box_area,
    box_convert,
    box_iou,
    clip_boxes_to_image,
    complete_box_iou,
    distance_box_iou,
    elementwise_box_iou,
    elementwise_complete_box_iou,
    elementwise_distance_box_iou,
    elementwise_generalized_box_iou,
    generalized_box_iou,
)
from jaxvision.ops.suppression import batched_nms, multiclass_nms, nms, soft_nms

__all__ = [
    "FORMATS",
    "batched_nms",
    "box_area",
    "box_convert",
    "box_iou",
    "clip_boxes_to_image",
    "complete_box_iou",
    "distance_box_iou",
    "elementwise_box_iou",
    "elementwise_complete_box_iou",
    "elementwise_distance_box_iou",
    "elementwise_generalized_box_iou",
    "generalized_box_iou",
    "multiclass_nms",
    "nms",
    "soft_nms",
]
