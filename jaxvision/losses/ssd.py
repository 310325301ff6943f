"""The loss of SSD."""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxvision.core import Terms, at_least_float32, check_array, check_choice, check_range
from jaxvision.losses.detection import (
    PER,
    check_boxes,
    check_labels,
    normalized_terms,
    of_match,
)
from jaxvision.losses.elements import smooth_l1, softmax_cross_entropy
from jaxvision.losses.reduction import sum_counted
from jaxvision.ops import (
    NEGATIVE,
    SSD_WEIGHTS,
    box_iou,
    encode_boxes,
    match_anchors,
    mine_hard_negatives,
)


def ssd_multibox_loss(
    logits: Array,
    deltas: Array,
    default_boxes: Array,
    boxes: Array,
    labels: Array,
    box_mask: Array,
    *,
    iou_threshold: float = 0.5,
    negative_ratio: float = 3.0,
    box_weight: float = 1.0,
    forced: str = "bipartite",
    per: str = "batch",
) -> Terms:
    """Computes the loss of SSD: softmax over the classes with hard negatives, smooth L1 of boxes.

    A default box is matched with the object that it overlaps most, if their IoU is at least
    iou_threshold. Each object also gets a default box, whatever their IoU, by the rule `forced`.
    Let N be the number of matched default boxes, c the softmax of the logits and g the encoded
    object (`SSD_WEIGHTS`). The terms are

    - "classification": -1 / N (sum over matched log c[label + 1] + sum over kept log c[0]); of the
      negatives of an image, those with the highest loss are kept, negative_ratio times as many as
      the image has matches
    - "box": box_weight / N sum over matched smooth_l1(delta - g), summed over four coordinates

    Both are 0 where N is 0. With per="batch", the sums and N are those of the batch, as in the
    authors' program and in torchvision; with "image", the mean over images is taken.

    Args:
      logits: f32[N, K + 1]: class 0 is the background, label k is class k + 1.
      deltas: f32[N, 4], (tx, ty, tw, th) times `SSD_WEIGHTS`.
      default_boxes: f32[N, 4], xyxy, in the same unit as boxes.
      boxes: f32[G, 4], xyxy. Boxes without area are ignored.
      labels: i32[G], from 0 to K - 1. Any other label gives NaN if its object is matched.
      box_mask: bool[G], False for padding.
      iou_threshold: the least IoU at which a default box is matched.
      negative_ratio: number of negatives kept for each matched default box.
      box_weight: weight of the boxes; alpha in the paper.
      forced: which default box an object gets, see `match_anchors`: "bipartite", one of its own, as
        in the paper and the authors' program; "best", the one that it overlaps most, where the last
        object wins, as in torchvision; or another rule.
      per: "batch" or "image", whose matches the terms are divided by.
    Returns:
      {"classification", "box"}: (total, N) for each, or (total, 1) per image, f32[].
    Raises:
      ValueError: an option is out of range, or G is 0.
    Source: Liu et al. 2016 ("SSD"), equations 1 to 3.
    """
    check_range("iou_threshold", iou_threshold, least=0, most=1)
    check_range("negative_ratio", negative_ratio, least=0)
    check_range("box_weight", box_weight, least=0)
    check_choice("per", per, PER)
    logits = at_least_float32(check_array("logits", logits, ("N", "K + 1")))
    deltas = at_least_float32(check_array("deltas", deltas, (len(logits), 4)))
    default_boxes = check_array("default_boxes", default_boxes, deltas.shape)
    boxes, objects = check_boxes(boxes, box_mask)
    labels = check_labels(labels, objects.shape, logits.shape[1] - 1)

    totals, matched = _totals(
        logits,
        deltas,
        default_boxes,
        boxes,
        labels,
        objects,
        iou_threshold=iou_threshold,
        negative_ratio=negative_ratio,
        forced=forced,
    )
    return normalized_terms({**totals, "box": box_weight * totals["box"]}, matched, per)


# Compiled as one program, so that an eager call compiles once, not once for each operation.
@functools.partial(jax.jit, static_argnames=("iou_threshold", "negative_ratio", "forced"))
def _totals(
    logits: Array,
    deltas: Array,
    default_boxes: Array,
    boxes: Array,
    labels: Array,
    objects: Array,
    *,
    iou_threshold: float,
    negative_ratio: float,
    forced: str,
) -> tuple[dict[str, Array], Array]:
    """The sums of an image, and how many of its default boxes are matched."""
    matches = match_anchors(
        box_iou(default_boxes, boxes),
        objects,
        high_threshold=iou_threshold,
        low_threshold=iou_threshold,
        forced=forced,
    )
    positive = matches >= 0
    classes = jnp.where(positive, of_match(labels, matches) + 1, 0)
    as_background = softmax_cross_entropy(logits, jnp.zeros_like(classes))
    negative = mine_hard_negatives(
        as_background, positive, matches == NEGATIVE, ratio=negative_ratio
    )
    targets = encode_boxes(of_match(boxes, matches), default_boxes, weights=SSD_WEIGHTS)
    classification, _ = sum_counted(softmax_cross_entropy, positive | negative, logits, classes)
    box, _ = sum_counted(
        lambda d, g: smooth_l1(d - g, 1.0), positive, deltas, lax.stop_gradient(targets)
    )
    return {"classification": classification, "box": box}, positive.sum()
