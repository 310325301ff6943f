"""The steps between the parts of a two-stage detector: region proposals, the sample of them that
the second stage is trained on, and its detections.

Each function takes one image. No gradient flows through the results.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxvision.core import InputError, at_least_float32, check_array, check_range
from jaxvision.ops.box_coding import FAST_RCNN_WEIGHTS, decode_boxes
from jaxvision.ops.boxes import box_iou, clip_boxes_to_image
from jaxvision.ops.matching import IGNORE, NEGATIVE, match_anchors, sample_balanced
from jaxvision.ops.suppression import batched_nms, multiclass_nms


def generate_proposals(
    objectness: Sequence[Array],
    deltas: Sequence[Array],
    anchors: Sequence[Array],
    image_size: tuple[int, int] | Array,
    *,
    pre_nms_top_n: int = 1000,
    post_nms_top_n: int = 1000,
    nms_thresh: float = 0.7,
    score_thresh: float = 0.0,
    min_size: float = 1e-3,
) -> tuple[Array, Array, Array]:
    """Computes the proposals of a region proposal network.

    Of each map the anchors with the highest logits are decoded and clipped to the image. Boxes with
    a side below `min_size` or a score below `score_thresh` are left out. The proposals of each map
    are suppressed by themselves, and the best of all maps are kept.

    Args:
      objectness: for each map f32[N], logits.
      deltas: for each map f32[N, 4], see `decode_boxes`.
      anchors: for each map f32[N, 4], xyxy, pixels.
      image_size: (height, width) of the image without its padding, pixels, numbers or an array.
      pre_nms_top_n: most boxes of each map that enter the suppression.
      post_nms_top_n: most proposals.
      nms_thresh: a box is suppressed if its IoU with a better one of its map is above this.
      score_thresh: the least score of a proposal, the sigmoid of its logit.
      min_size: the least width and height of a proposal, pixels.
    Returns:
      (boxes f32[P, 4], xyxy, pixels, by falling score; scores f32[P]; valid bool[P], False for
      padding, which is zeros). P is `post_nms_top_n`, or the number of boxes that enter the
      suppression, if that is smaller.
    Raises:
      InputError: there are no maps, or another number of deltas or anchors.
      ValueError: a number of boxes is below 1, or a threshold is out of range.
    Source: Ren et al. 2015 ("Faster R-CNN"), section 3.1; the order of the steps is torchvision's.
    """
    if not len(objectness) == len(deltas) == len(anchors) > 0:
        raise InputError(
            f"there are {len(objectness)} maps of objectness, {len(deltas)} of deltas and "
            f"{len(anchors)} of anchors: give one of each kind for each map"
        )
    check_range("pre_nms_top_n", pre_nms_top_n, least=1)
    check_range("post_nms_top_n", post_nms_top_n, least=1)
    check_range("nms_thresh", nms_thresh, least=0, most=1)
    check_range("score_thresh", score_thresh, least=0, most=1)
    check_range("min_size", min_size, least=0)
    image_size = check_array("image_size", image_size, (2,), "number")
    boxes, scores, levels = [], [], []
    for level, maps in enumerate(zip(objectness, deltas, anchors, strict=True)):
        logits = at_least_float32(check_array(f"objectness[{level}]", maps[0], ("N",)))
        of_map = at_least_float32(check_array(f"deltas[{level}]", maps[1], (*logits.shape, 4)))
        around = check_array(f"anchors[{level}]", maps[2], of_map.shape)
        best, places = lax.top_k(lax.stop_gradient(logits), min(pre_nms_top_n, len(logits)))
        boxes.append(decode_boxes(lax.stop_gradient(of_map)[places], around[places]))
        scores.append(jax.nn.sigmoid(best))
        levels.append(jnp.full(len(best), level, jnp.int32))
    found = clip_boxes_to_image(jnp.concatenate(boxes), image_size)
    best, levels = jnp.concatenate(scores), jnp.concatenate(levels)
    large = ((found[:, 2:] - found[:, :2]) >= min_size).all(axis=1)
    indices, valid = batched_nms(
        found,
        jnp.where(large & (best >= score_thresh), best, -jnp.inf),
        levels,
        iou_threshold=nms_thresh,
        max_detections=min(post_nms_top_n, len(best)),
    )
    return jnp.where(valid[:, None], found[indices], 0), jnp.where(valid, best[indices], 0), valid


def sample_proposals(
    key: Array,
    proposals: Array,
    proposal_mask: Array,
    boxes: Array,
    box_mask: Array,
    *,
    size: int = 512,
    positive_fraction: float = 0.25,
    iou_threshold: float = 0.5,
) -> tuple[Array, Array]:
    """Draws the proposals that the box head of an R-CNN is trained on.

    The boxes of the objects are proposals as well. A proposal is matched with the object that it
    overlaps most, if their IoU is at least `iou_threshold`; otherwise it is background. See
    `sample_balanced` for the sample.

    Args:
      key: key[].
      proposals: f32[P, 4], xyxy, pixels.
      proposal_mask: bool[P], False for padding.
      boxes: f32[G, 4], xyxy, pixels, of the objects.
      box_mask: bool[G], False for padding.
      size: S, size of the sample.
      positive_fraction: the largest fraction of proposals that are matched.
      iou_threshold: the least IoU of a match.
    Returns:
      (proposals f32[S, 4], matches i32[S]): the matched ones first, so that all of them are among
      the first floor(S positive_fraction), then those of the background. `matches` has the index of
      an object, `NEGATIVE` for background or `IGNORE` for padding, whose box is zeros.
    Raises:
      ValueError: an option is out of range.
    Source: Girshick 2015 ("Fast R-CNN"), section 2.3; torchvision adds the objects and takes all
      other proposals as background.
    """
    check_range("size", size, least=1)
    check_range("iou_threshold", iou_threshold, least=0, most=1)
    proposals = at_least_float32(check_array("proposals", proposals, ("P", 4)))
    proposal_mask = check_array("proposal_mask", proposal_mask, proposals.shape[:1], "bool")
    boxes = check_array("boxes", boxes, ("G", 4)).astype(proposals.dtype)
    box_mask = check_array("box_mask", box_mask, boxes.shape[:1], "bool")
    proposals, boxes = lax.stop_gradient((proposals, boxes))
    how = {"size": size, "positive_fraction": positive_fraction, "iou_threshold": iou_threshold}
    return _sample(key, proposals, proposal_mask, boxes, box_mask, **how)


# Compiled as a whole, so that an eager call compiles once.
@partial(jax.jit, static_argnames=("size", "positive_fraction", "iou_threshold"))
def _sample(
    key: Array,
    proposals: Array,
    proposal_mask: Array,
    boxes: Array,
    box_mask: Array,
    *,
    size: int,
    positive_fraction: float,
    iou_threshold: float,
) -> tuple[Array, Array]:
    candidates = jnp.concatenate([proposals, boxes])
    real = jnp.concatenate([proposal_mask, box_mask])
    matches = match_anchors(
        box_iou(candidates, boxes),
        box_mask,
        high_threshold=iou_threshold,
        low_threshold=iou_threshold,
        forced="none",
    )
    positive, negative = sample_balanced(
        key,
        real & (matches >= 0),
        real & (matches == NEGATIVE),
        size=size,
        positive_fraction=positive_fraction,
    )
    kinds = jnp.where(positive, 0, jnp.where(negative, 1, 2))
    kinds = jnp.pad(kinds, (0, max(0, size - len(kinds))), constant_values=2)
    order = jnp.argsort(kinds, stable=True)[:size]
    drawn = kinds[order] < 2
    order = jnp.where(drawn, order, 0)
    return (
        jnp.where(drawn[:, None], candidates[order], 0),
        jnp.where(drawn, matches[order], IGNORE),
    )


def postprocess_detections(
    class_logits: Array,
    box_regression: Array,
    proposals: Array,
    proposal_mask: Array,
    image_size: tuple[int, int] | Array,
    *,
    score_thresh: float = 0.05,
    nms_thresh: float = 0.5,
    detections_per_img: int = 100,
    max_candidates: int | None = None,
    min_size: float = 1e-2,
) -> tuple[Array, Array, Array, Array]:
    """Computes the detections of the box head of an R-CNN.

    Each proposal has a box for each class, or one for all. The scores are the softmax of the
    logits, without the background. Boxes are clipped to the image, and those with a side below
    `min_size` are left out. Each class is suppressed by itself.

    Args:
      class_logits: f32[R, K + 1]: class 0 is the background.
      box_regression: f32[R, K + 1, 4], or f32[R, 4] for all classes, see `decode_boxes`; times
        `FAST_RCNN_WEIGHTS`.
      proposals: f32[R, 4], xyxy, pixels.
      proposal_mask: bool[R], False for padding.
      image_size: (height, width) of the image without its padding, pixels, numbers or an array.
      score_thresh: a pair of a box and a class counts if its score is above this.
      nms_thresh: a box is suppressed if its IoU with a better one of its class is above this.
      detections_per_img: D, most detections.
      max_candidates: most pairs that enter the suppression, the best ones; None: all.
      min_size: the least width and height of a detection, pixels.
    Returns:
      (boxes f32[D, 4], scores f32[D], labels i32[D] from 0 to K - 1, valid bool[D]), by falling
      score; zeros where not valid.
    Raises:
      ValueError: a number is below 1.
    Source: Girshick 2015 ("Fast R-CNN"), section 3; the order of the steps is torchvision's.
    """
    logits = at_least_float32(check_array("class_logits", class_logits, ("R", "K + 1")))
    axes = logits.shape if jnp.ndim(box_regression) == 3 else logits.shape[:1]
    deltas = at_least_float32(check_array("box_regression", box_regression, (*axes, 4)))
    proposals = check_array("proposals", proposals, (len(logits), 4))
    proposal_mask = check_array("proposal_mask", proposal_mask, logits.shape[:1], "bool")
    image_size = check_array("image_size", image_size, (2,), "number")
    logits, deltas = lax.stop_gradient((logits, deltas))
    if deltas.ndim == 3:
        deltas = deltas[:, 1:]
        proposals = jnp.broadcast_to(proposals[:, None], deltas.shape)
    boxes = decode_boxes(deltas, proposals, weights=FAST_RCNN_WEIGHTS)
    boxes = clip_boxes_to_image(boxes, image_size)
    large = ((boxes[..., 2:] - boxes[..., :2]) >= min_size).all(axis=-1)
    scores = jax.nn.softmax(logits, axis=-1)[:, 1:]
    seen = proposal_mask[:, None] & large.reshape(len(large), -1)
    indices, labels, valid = multiclass_nms(
        boxes,
        jnp.where(seen, scores, -jnp.inf),
        iou_threshold=nms_thresh,
        max_detections=detections_per_img,
        score_threshold=score_thresh,
        max_candidates=max_candidates and min(max_candidates, scores.size),
    )
    found = boxes[indices, labels] if boxes.ndim == 3 else boxes[indices]
    return (
        jnp.where(valid[:, None], found, 0),
        jnp.where(valid, scores[indices, labels], 0),
        labels,
        valid,
    )
