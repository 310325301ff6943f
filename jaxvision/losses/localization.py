"""The loss of classification with localisation: one class and one box for each image."""

import math
from collections.abc import Callable
from functools import partial

from jax import Array

from jaxvision.core import Terms, check_array, check_range, lookup
from jaxvision.losses.boxes import (
    box_iou_loss,
    complete_box_iou_loss,
    distance_box_iou_loss,
    generalized_box_iou_loss,
)
from jaxvision.losses.classification import cross_entropy
from jaxvision.losses.regression import l1_loss, l2_loss, smooth_l1_loss

BOX_LOSSES: dict[str, Callable[..., tuple[Array, Array]]] = {
    "l1": l1_loss,
    "l2": l2_loss,
    "smooth_l1": smooth_l1_loss,
    "iou": box_iou_loss,
    "giou": generalized_box_iou_loss,
    "diou": distance_box_iou_loss,
    "ciou": complete_box_iou_loss,
}
"""Name -> loss of a box, (predicted, target, mask) -> (total, count)."""


def localization_loss(
    logits: Array,
    box: Array,
    target: Array,
    target_box: Array,
    has_box: Array,
    *,
    box_loss: str = "l2",
    box_weight: float = 1.0,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> Terms:
    """Computes the multitask loss of an image with one object: of its class and of its box.

    - "classification": the cross entropy
    - "box": box_weight times the loss of the box; 0 for an image without a box

    The loss of the box is, by `box_loss`,

    - "l1", "l2" or "smooth_l1": the sum over the four coordinates of |b_i - t_i|, (b_i - t_i)^2, or
      `smooth_l1_loss`
    - "iou", "giou", "diou" or "ciou": 1 minus IoU or the variant of this name, see
      `generalized_box_iou_loss` and the others; the boxes must be xyxy

    Both terms have weight 1 for every image, with or without a box.

    Args:
      logits: f32[K].
      box: f32[4], predicted coordinates, usually fractions of the image.
      target: a class, i32[], or a distribution, f32[K].
      target_box: f32[4], in the same format and unit as `box`.
      has_box: bool[], False where there is no object to localise.
      box_loss: one of `BOX_LOSSES`.
      box_weight: weight of the box against the class, the lambda of such losses.
      beta: of "smooth_l1": the difference, in the unit of `box`, at which the squared error changes
        to the absolute error.
      label_smoothing: see `cross_entropy`.
    Returns:
      {"classification": (total, 1), "box": (total, 1)}, f32[] each.
    Raises:
      InputError: box_loss is unknown.
      ValueError: an option is out of range.
    Source: Sermanet et al. 2014 ("OverFeat"), section 4, which regresses the corners of the box
      with "l2"; Girshick 2015 ("Fast R-CNN"), section 2.3, with "smooth_l1".
    """
    of_box = lookup(BOX_LOSSES, box_loss, "box_loss")
    check_range("box_weight", box_weight, least=0)
    check_range("beta", beta, more_than=0, less_than=math.inf)
    if box_loss == "smooth_l1":
        of_box = partial(of_box, beta=beta)
    box = check_array("box", box, (4,))
    target_box = check_array("target_box", target_box, (4,))
    has_box = check_array("has_box", has_box, (), "bool")
    classification = cross_entropy(logits, target, label_smoothing=label_smoothing)
    total, _ = of_box(box, target_box, has_box)
    return {"classification": classification, "box": (box_weight * total, classification[1])}
