"""The loss of RetinaNet."""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxvision.core import Terms, at_least_float32, check_array, check_choice, check_range
from jaxvision.losses.classification import sigmoid_focal_loss
from jaxvision.losses.detection import (
    PER,
    check_boxes,
    check_labels,
    class_targets,
    generalized_iou_loss,
    normalized_terms,
    of_match,
)
from jaxvision.losses.reduction import sum_counted
from jaxvision.ops import IGNORE, decode_boxes, encode_boxes, match_boxes

BOX_LOSSES = ("l1", "giou")


def retinanet_loss(
    logits: Array,
    deltas: Array,
    anchors: Array,
    boxes: Array,
    labels: Array,
    box_mask: Array,
    *,
    high_threshold: float = 0.5,
    low_threshold: float = 0.4,
    forced: str = "all_ties",
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    box_loss: str = "l1",
    box_weight: float = 1.0,
    per: str = "image",
) -> Terms:
    """Computes the loss of RetinaNet: focal loss of all anchors, L1 or GIoU loss of the boxes.

    An anchor is positive if its IoU with an object is at least high_threshold, or by the rule
    `forced`, negative below low_threshold, and ignored in between (see `match_anchors`). Let N be
    the number of positives, at least 1. The terms are

    - "classification": 1 / N sum over positives and negatives of the focal loss of K sigmoids
    - "box": box_weight / N sum over positives, of |delta - t|, summed over four coordinates, with t
      the encoded object; or of 1 - GIoU of the decoded box and the object

    Args:
      logits: f32[N, K], one for each class, without background.
      deltas: f32[N, 4], (tx, ty, tw, th).
      anchors: f32[N, 4], xyxy, pixels.
      boxes: f32[G, 4], xyxy, pixels. Boxes without area are ignored.
      labels: i32[G], from 0 to K - 1. Any other label gives NaN if its object is matched.
      box_mask: bool[G], False for padding.
      high_threshold: the least IoU of a positive anchor.
      low_threshold: the IoU below which an anchor is negative.
      forced: which anchors below high_threshold are positive too, see `match_anchors`: "all_ties"
        in torchvision, "none" in the paper.
      alpha: see `sigmoid_focal_loss`.
      gamma: likewise.
      box_loss: "l1", as in torchvision's first RetinaNet, or "giou", as in its second.
      box_weight: weight of the boxes.
      per: "image" divides by the positives of each image and takes the mean over images, as
        torchvision does; "batch" divides by those of the batch.
    Returns:
      {"classification", "box"}: (total, 1) for each, or (total, positives) per batch, f32[].
    Raises:
      ValueError: an option is out of range or unknown, or G is 0.
    Source: Lin et al. 2017 ("Focal loss for dense object detection"), sections 3.2 and 4.
    """
    check_range("box_weight", box_weight, least=0)
    check_choice("box_loss", box_loss, BOX_LOSSES)
    check_choice("per", per, PER)
    logits = at_least_float32(check_array("logits", logits, ("N", "K")))
    deltas = at_least_float32(check_array("deltas", deltas, (len(logits), 4)))
    anchors = at_least_float32(check_array("anchors", anchors, deltas.shape))
    boxes, objects = check_boxes(boxes, box_mask)
    labels = check_labels(labels, objects.shape, logits.shape[1])

    totals, positives = _totals(
        logits,
        deltas,
        anchors,
        boxes,
        labels,
        objects,
        high_threshold=high_threshold,
        low_threshold=low_threshold,
        forced=forced,
        alpha=alpha,
        gamma=gamma,
        box_loss=box_loss,
    )
    return normalized_terms({**totals, "box": box_weight * totals["box"]}, positives, per)


# Compiled as one program, so that an eager call compiles once, not once for each operation.
@functools.partial(
    jax.jit,
    static_argnames=("high_threshold", "low_threshold", "forced", "alpha", "gamma", "box_loss"),
)
def _totals(
    logits: Array,
    deltas: Array,
    anchors: Array,
    boxes: Array,
    labels: Array,
    objects: Array,
    *,
    high_threshold: float,
    low_threshold: float,
    forced: str,
    alpha: float | None,
    gamma: float,
    box_loss: str,
) -> tuple[dict[str, Array], Array]:
    """The sums of an image, and how many of its anchors are positive."""
    matches = match_boxes(
        anchors,
        boxes,
        objects,
        high_threshold=high_threshold,
        low_threshold=low_threshold,
        forced=forced,
    )
    positive = matches >= 0
    targets = class_targets(labels, matches, logits.shape[1], logits.dtype)
    classification, _ = sigmoid_focal_loss(
        logits, targets, matches != IGNORE, alpha=alpha, gamma=gamma
    )
    matched = of_match(boxes, matches)
    if box_loss == "l1":
        targets = lax.stop_gradient(encode_boxes(matched, anchors))
        box, _ = sum_counted(lambda d, t: jnp.abs(d - t), positive, deltas, targets)
    else:
        box, _ = sum_counted(
            lambda d, anchor, target: generalized_iou_loss(decode_boxes(d, anchor), target),
            positive,
            *(deltas, lax.stop_gradient(anchors), matched),
        )
    return {"classification": classification, "box": box}, positive.sum()
