"""Losses of boxes: 1 minus a member of the family of intersection over union.

Where a box has no area, nothing overlaps it: the loss is 1 and its gradient 0 (see
`jaxvision.ops.box_iou`). Predictions decoded as a centre and a positive size never come to that.
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
    """1 - IoU of each box with its counterpart. No gradient where they do not overlap.

    Args:
      boxes1: f32[..., 4], xyxy, the predictions.
      boxes2: f32[..., 4], xyxy, the targets.
      mask: bool, over leading axes, False for what does not count. None: all counts.
    Returns:
      (total, number of boxes that count), both f32[].
    Raises:
      AssertionError: an argument has another shape or dtype.
    Source: Yu et al. 2016 ("UnitBox"), section 2.2, without the logarithm.
    """
    return _one_minus(elementwise_box_iou, boxes1, boxes2, mask)


def generalized_box_iou_loss(
    boxes1: Array, boxes2: Array, mask: Array | None = None
) -> tuple[Array, Array]:
    """1 - GIoU of each box with its counterpart; see `jaxvision.ops.generalized_box_iou`.

    Args:
      boxes1: f32[..., 4], xyxy, the predictions.
      boxes2: f32[..., 4], xyxy, the targets.
      mask: bool, over leading axes, False for what does not count. None: all counts.
    Returns:
      (total, number of boxes that count), both f32[].
    Raises:
      AssertionError: an argument has another shape or dtype.
    Source: Rezatofighi et al. 2019 ("Generalized intersection over union"), algorithm 2.
    """
    return _one_minus(elementwise_generalized_box_iou, boxes1, boxes2, mask)


def distance_box_iou_loss(
    boxes1: Array, boxes2: Array, mask: Array | None = None
) -> tuple[Array, Array]:
    """1 - DIoU of each box with its counterpart; see `jaxvision.ops.distance_box_iou`.

    Args:
      boxes1: f32[..., 4], xyxy, the predictions.
      boxes2: f32[..., 4], xyxy, the targets.
      mask: bool, over leading axes, False for what does not count. None: all counts.
    Returns:
      (total, number of boxes that count), both f32[].
    Raises:
      AssertionError: an argument has another shape or dtype.
    Source: Zheng et al. 2020 ("Distance-IoU loss"), equation 7.
    """
    return _one_minus(elementwise_distance_box_iou, boxes1, boxes2, mask)


def complete_box_iou_loss(
    boxes1: Array, boxes2: Array, mask: Array | None = None
) -> tuple[Array, Array]:
    """1 - CIoU of each box with its counterpart; see `jaxvision.ops.complete_box_iou`.

    Args:
      boxes1: f32[..., 4], xyxy, the predictions.
      boxes2: f32[..., 4], xyxy, the targets.
      mask: bool, over leading axes, False for what does not count. None: all counts.
    Returns:
      (total, number of boxes that count), both f32[].
    Raises:
      AssertionError: an argument has another shape or dtype.
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
