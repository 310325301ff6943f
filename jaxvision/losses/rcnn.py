"""Losses of Fast and Faster R-CNN: the region proposal network and the box head."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxvision.core import (
    Terms,
    at_least_float32,
    check_array,
    check_choice,
    check_range,
)
from jaxvision.losses.detection import (
    PER,
    check_boxes,
    check_labels,
    normalized_terms,
    of_match,
)
from jaxvision.losses.elements import sigmoid_cross_entropy, smooth_l1, softmax_cross_entropy
from jaxvision.losses.reduction import sum_counted
from jaxvision.ops import (
    FAST_RCNN_WEIGHTS,
    IGNORE,
    NEGATIVE,
    encode_boxes,
    match_boxes,
    sample_balanced,
)


def rpn_loss(
    objectness: Array,
    deltas: Array,
    anchors: Array,
    boxes: Array,
    box_mask: Array,
    anchor_mask: Array | None = None,
    *,
    key: Array,
    high_threshold: float = 0.7,
    low_threshold: float = 0.3,
    forced: str = "all_ties",
    size: int = 256,
    positive_fraction: float = 0.5,
    box_weight: float = 1.0,
    beta: float = 1 / 9,
    per: str = "batch",
) -> Terms:
    """Computes the loss of a region proposal network, over a random sample of the anchors.

    An anchor is positive if its IoU with an object is at least high_threshold, or the highest that
    any anchor has with this object (see `match_anchors`, "all_ties"). An anchor is negative if its
    IoU with every object is below low_threshold. Let n be the number of sampled anchors, x their
    logits, p* 1 for the positive ones and 0 for the others, and t* the encoded object. The terms
    are

    - "objectness": 1 / n sum BCE(x, p*)
    - "box": box_weight / n sum p* smooth_l1(delta - t*), summed over four coordinates

    Both are 0 where n is 0. The paper multiplies the second sum by lambda / N_reg, with lambda = 10
    and N_reg the number of positions, about 2400; that is nearly the 1 / 256 used here. With
    per="batch", the sums and n are those of the batch, as in torchvision; with "image", the mean
    over images is taken. Both are the same if all samples are full.

    Args:
      objectness: f32[N], logits.
      deltas: f32[N, 4], (tx, ty, tw, th).
      anchors: f32[N, 4], xyxy, pixels.
      boxes: f32[G, 4], xyxy, pixels. Boxes without area are ignored.
      box_mask: bool[G], False for padding.
      anchor_mask: bool[N], False for anchors that must not be sampled: padding and, in the paper,
        anchors that cross the border of the image. None: all may be sampled.
      key: a `jax.random` key for the sample.
      high_threshold: the least IoU of a positive anchor.
      low_threshold: the IoU below which an anchor is negative.
      forced: which anchors an object gets in any case, see `match_anchors`.
      size: size of the sample, see `sample_balanced`.
      positive_fraction: the largest fraction of positives in the sample.
      box_weight: weight of the boxes.
      beta: beta of `smooth_l1_loss`.
      per: "batch" or "image", whose sampled anchors the terms are divided by.
    Returns:
      {"objectness", "box"}: (total, n) for each, or (total, 1) per image, f32[].
    Raises:
      ValueError: an option is out of range, or G is 0.
    Source: Ren et al. 2015 ("Faster R-CNN"), equation 1 and section 3.1.3.
    """
    check_range("box_weight", box_weight, least=0)
    check_range("beta", beta, more_than=0, less_than=math.inf)
    check_choice("per", per, PER)
    objectness = at_least_float32(check_array("objectness", objectness, ("N",)))
    deltas = at_least_float32(check_array("deltas", deltas, (len(objectness), 4)))
    anchors = at_least_float32(check_array("anchors", anchors, deltas.shape))
    boxes, objects = check_boxes(boxes, box_mask)
    if anchor_mask is None:
        anchor_mask = jnp.ones(len(anchors), bool)
    anchor_mask = check_array("anchor_mask", anchor_mask, objectness.shape, "bool")

    totals, sampled = _rpn_totals(
        key,
        objectness,
        deltas,
        anchors,
        anchor_mask,
        boxes,
        objects,
        high_threshold=high_threshold,
        low_threshold=low_threshold,
        forced=forced,
        size=size,
        positive_fraction=positive_fraction,
        beta=beta,
    )
    return normalized_terms({**totals, "box": box_weight * totals["box"]}, sampled, per)


# Compiled as one program, so that an eager call compiles once, not once for each operation.
@functools.partial(
    jax.jit,
    static_argnames=(
        *("high_threshold", "low_threshold", "forced"),
        *("size", "positive_fraction", "beta"),
    ),
)
def _rpn_totals(
    key: Array,
    objectness: Array,
    deltas: Array,
    anchors: Array,
    anchor_mask: Array,
    boxes: Array,
    objects: Array,
    *,
    high_threshold: float,
    low_threshold: float,
    forced: str,
    size: int,
    positive_fraction: float,
    beta: float,
) -> tuple[dict[str, Array], Array]:
    """The sums of an image, and how many anchors are sampled."""
    # Boxes without area overlap nothing, so no object takes a masked anchor as its best one.
    anchors = jnp.where(anchor_mask[:, None], anchors, 0)
    matches = match_boxes(
        anchors,
        boxes,
        objects,
        high_threshold=high_threshold,
        low_threshold=low_threshold,
        forced=forced,
    )
    positive, negative = sample_balanced(
        key,
        anchor_mask & (matches >= 0),
        anchor_mask & (matches == NEGATIVE),
        size=size,
        positive_fraction=positive_fraction,
    )
    targets = lax.stop_gradient(encode_boxes(of_match(boxes, matches), anchors))
    is_object, sampled = sum_counted(
        sigmoid_cross_entropy,
        positive | negative,
        objectness,
        positive.astype(objectness.dtype),
    )
    box, _ = sum_counted(lambda d, t: smooth_l1(d - t, beta), positive, deltas, targets)
    return {"objectness": is_object, "box": box}, sampled


def fast_rcnn_loss(
    logits: Array,
    deltas: Array,
    proposals: Array,
    matches: Array,
    boxes: Array,
    labels: Array,
    *,
    beta: float = 1.0,
    box_weight: float = 1.0,
    per: str = "batch",
) -> Terms:
    """Computes the loss of the second stage of Fast and Faster R-CNN, over sampled proposals.

    Let n be the number of proposals that count, p the softmax of their logits, u their class (0
    for the background) and v the encoded object (`FAST_RCNN_WEIGHTS`). The terms are

    - "classification": -1 / n sum log p[u]
    - "box": box_weight / n sum over u > 0 of smooth_l1(delta[u] - v), summed over four coordinates

    Both are 0 where n is 0. With per="batch", the sums and n are those of the batch, as in the
    paper; with "image", the mean over images is taken. Both are the same if all samples are full.

    Args:
      logits: f32[R, K + 1]: class 0 is the background, label k is class k + 1.
      deltas: (tx, ty, tw, th) times `FAST_RCNN_WEIGHTS`: f32[R, K + 1, 4], separate for each class,
        or f32[R, 4], shared by all classes.
      proposals: f32[R, 4], xyxy, pixels.
      matches: i32[R]: the index of an object, `NEGATIVE` for the background, `IGNORE` for proposals
        that are not sampled and do not count. Any other value gives NaN.
      boxes: f32[G, 4], xyxy, pixels, of the objects.
      labels: i32[G], from 0 to K - 1. Any other label gives NaN if its object is matched.
      beta: beta of `smooth_l1_loss`: 1 in the paper, 1/9 in torchvision.
      box_weight: weight of the boxes; lambda in the paper.
      per: "batch" or "image", whose proposals the terms are divided by.
    Returns:
      {"classification", "box"}: (total, n) for each, or (total, 1) per image, f32[].
    Raises:
      ValueError: an option is out of range, or G is 0.
    Source: Girshick 2015 ("Fast R-CNN"), equations 1 to 3.
    """
    check_range("box_weight", box_weight, least=0)
    check_range("beta", beta, more_than=0, less_than=math.inf)
    check_choice("per", per, PER)
    logits = at_least_float32(check_array("logits", logits, ("R", "K + 1")))
    delta_axes = logits.shape if jnp.ndim(deltas) == 3 else logits.shape[:1]
    deltas = at_least_float32(check_array("deltas", deltas, (*delta_axes, 4)))
    proposals = check_array("proposals", proposals, (len(logits), 4))
    matches = check_array("matches", matches, logits.shape[:1], "int")
    boxes = check_array("boxes", boxes, ("G", 4))
    labels = check_labels(labels, boxes.shape[:1], logits.shape[1] - 1)

    foreground = matches >= 0
    # The class K + 1 does not exist: it gives NaN for a match with an object that does not exist.
    classes = jnp.where(
        foreground & (matches < len(labels)), of_match(labels, matches) + 1, logits.shape[1]
    )
    classes = jnp.where(matches == NEGATIVE, 0, classes)
    if deltas.ndim == 3:
        deltas = jnp.take_along_axis(deltas, classes[:, None, None], axis=1)[:, 0]
    targets = encode_boxes(of_match(boxes, matches), proposals, weights=FAST_RCNN_WEIGHTS)
    classification, counted = sum_counted(softmax_cross_entropy, matches != IGNORE, logits, classes)
    box, _ = sum_counted(
        lambda d, v: smooth_l1(d - v, beta), foreground, deltas, lax.stop_gradient(targets)
    )
    totals = {"classification": classification, "box": box_weight * box}
    return normalized_terms(totals, counted, per)


def faster_rcnn_loss(
    objectness: Array,
    rpn_deltas: Array,
    anchors: Array,
    class_logits: Array,
    box_regression: Array,
    proposals: Array,
    matches: Array,
    boxes: Array,
    labels: Array,
    box_mask: Array,
    *,
    key: Array,
    rpn_fg_iou_thresh: float = 0.7,
    rpn_bg_iou_thresh: float = 0.3,
    rpn_batch_size_per_image: int = 256,
    rpn_positive_fraction: float = 0.5,
    rpn_beta: float = 1 / 9,
    box_beta: float = 1 / 9,
    rpn_box_weight: float = 1.0,
    box_weight: float = 1.0,
    per: str = "batch",
) -> Terms:
    """Computes the four losses of Faster R-CNN, those of both stages, for joint training.

    The defaults are torchvision's.

    Args:
      objectness: f32[N], logits of the anchors.
      rpn_deltas: f32[N, 4].
      anchors: f32[N, 4], xyxy, pixels.
      class_logits: f32[R, K + 1], of the sampled proposals; class 0 is the background.
      box_regression: f32[R, K + 1, 4], or f32[R, 4].
      proposals: f32[R, 4], xyxy, pixels, see `jaxvision.ops.sample_proposals`.
      matches: i32[R], the objects of the proposals, see `fast_rcnn_loss`.
      boxes: f32[G, 4], xyxy, pixels.
      labels: i32[G], from 0 to K - 1.
      box_mask: bool[G], False for padding.
      key: a `jax.random` key for the sample of anchors.
      rpn_fg_iou_thresh: `high_threshold` of `rpn_loss`.
      rpn_bg_iou_thresh: its `low_threshold`.
      rpn_batch_size_per_image: its `size`.
      rpn_positive_fraction: its `positive_fraction`.
      rpn_beta: its `beta`.
      box_beta: `beta` of `fast_rcnn_loss`; the paper has 1.
      rpn_box_weight: weight of the boxes of the RPN.
      box_weight: weight of the boxes of the second stage.
      per: "batch" or "image", whose samples the terms are divided by.
    Returns:
      {"rpn_objectness", "rpn_box", "classification", "box"}: (total, n) for each, f32[].
    Raises:
      ValueError: an option is out of range, or G is 0.
    Source: Ren et al. 2015 ("Faster R-CNN"), section 3.2, "approximate joint training".
    """
    check_range("rpn_bg_iou_thresh", rpn_bg_iou_thresh, least=0, most=rpn_fg_iou_thresh)
    check_range("rpn_fg_iou_thresh", rpn_fg_iou_thresh, most=1)
    check_range("rpn_batch_size_per_image", rpn_batch_size_per_image, least=1)
    check_range("rpn_positive_fraction", rpn_positive_fraction, least=0, most=1)
    check_range("rpn_beta", rpn_beta, more_than=0, less_than=math.inf)
    check_range("box_beta", box_beta, more_than=0, less_than=math.inf)
    check_range("rpn_box_weight", rpn_box_weight, least=0)
    check_range("box_weight", box_weight, least=0)
    objectness = check_array("objectness", objectness, ("N",))
    rpn_deltas = check_array("rpn_deltas", rpn_deltas, (len(objectness), 4))
    class_logits = check_array("class_logits", class_logits, ("R", "K + 1"))
    axes = class_logits.shape if jnp.ndim(box_regression) == 3 else class_logits.shape[:1]
    box_regression = check_array("box_regression", box_regression, (*axes, 4))
    first = rpn_loss(
        objectness,
        rpn_deltas,
        anchors,
        boxes,
        box_mask,
        key=key,
        high_threshold=rpn_fg_iou_thresh,
        low_threshold=rpn_bg_iou_thresh,
        size=rpn_batch_size_per_image,
        positive_fraction=rpn_positive_fraction,
        box_weight=rpn_box_weight,
        beta=rpn_beta,
        per=per,
    )
    second = fast_rcnn_loss(
        class_logits,
        box_regression,
        proposals,
        matches,
        boxes,
        labels,
        beta=box_beta,
        box_weight=box_weight,
        per=per,
    )
    return {**{f"rpn_{name}": pair for name, pair in first.items()}, **second}
