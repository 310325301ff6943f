"""Losses of boxes: 1 minus IoU, or 1 minus one of its variants.

Nothing overlaps a box without area: its loss is 1 and its gradient is 0 (see
`jaxvision.ops.box_iou`). Boxes decoded from a centre and a positive size always have an area.
"""

from collections.abc import Callable

from jax import Array

from jaxvision.core import check_array
from jaxvision.losses.reduction import check_mask, sum_counted
from jaxvision.ops import (
    elementwise_box_iou,
    elementwise_complete_box_iou,
    elementwise_distance_box_iou,
    elementwise_generalized_box_iou,
)


def box_iou_loss(boxes1: Array, boxes2: Array, mask: Array | None = None) -> tuple[Array, Array]:
    """Computes 1 - IoU of each box with its target. There is no gradient if they do not overlap.

    Args:
      boxes1: f32[..., 4], xyxy, the predictions.
      boxes2: f32[..., 4], xyxy, the targets.
      mask: bool over leading axes, True for the elements that count. None: all count.
    Returns:
      (total, number of boxes that count), both f32[].
    Source: Yu et al. 2016 ("UnitBox"), section 2.2, without the logarithm.
    """
    return _one_minus(elementwise_box_iou, boxes1, boxes2, mask)


def generalized_box_iou_loss(
    boxes1: Array, boxes2: Array, mask: Array | None = None
) -> tuple[Array, Array]:
    """Computes 1 - GIoU of each box with its target; see `jaxvision.ops.generalized_box_iou`.

    Args:
      boxes1: f32[..., 4], xyxy, the predictions.
      boxes2: f32[..., 4], xyxy, the targets.
      mask: bool over leading axes, True for the elements that count. None: all count.
    Returns:
      (total, number of boxes that count), both f32[].
    Source: Rezatofighi et al. 2019 ("Generalized intersection over union"), algorithm 2.
    """
    return _one_minus(elementwise_generalized_box_iou, boxes1, boxes2, mask)


def distance_box_iou_loss(
    boxes1: Array, boxes2: Array, mask: Array | None = None
) -> tuple[Array, Array]:
    """Computes 1 - DIoU of each box with its target; see `jaxvision.ops.distance_box_iou`.

    Args:
      boxes1: f32[..., 4], xyxy, the predictions.
      boxes2: f32[..., 4], xyxy, the targets.
      mask: bool over leading axes, True for the elements that count. None: all count.
    Returns:
      (total, number of boxes that count), both f32[].
    Source: Zheng et al. 2020 ("Distance-IoU loss"), equation 7.
    """
    return _one_minus(elementwise_distance_box_iou, boxes1, boxes2, mask)


def complete_box_iou_loss(
    boxes1: Array, boxes2: Array, mask: Array | None = None
) -> tuple[Array, Array]:
    """Computes 1 - CIoU of each box with its target; see `jaxvision.ops.complete_box_iou`.

    Args:
      boxes1: f32[..., 4], xyxy, the predictions.
      boxes2: f32[..., 4], xyxy, the targets.
      mask: bool over leading axes, True for the elements that count. None: all count.
    Returns:
      (total, number of boxes that count), both f32[].
    Source: Zheng et al. 2020 ("Distance-IoU loss"), equation 10.
    """
    return _one_minus(elementwise_complete_box_iou, boxes1, boxes2, mask)


def _one_minus(
    overlap: Callable[[Array, Array], Array], boxes1: Array, boxes2: Array, mask: Array | None
) -> tuple[Array, Array]:
    boxes1 = check_array("boxes1", boxes1, ("...", 4))
    boxes2 = check_array("boxes2", boxes2, boxes1.shape)
    mask = check_mask(mask, boxes1.shape[:-1])
    return sum_counted(lambda a, b: 1 - overlap(a, b), mask, boxes1, boxes2)
