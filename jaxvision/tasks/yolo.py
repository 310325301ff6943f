"""From YOLO's maps to detections: every predictor's box and class scores, then suppression."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.core import Detections, at_least_float32, check_array
from jaxvision.ops import clip_boxes_to_image, decode_yolo, decode_yolov1, multiclass_nms

Candidates = tuple[Array, Array]
"""Boxes f32[N, 4], xyxy, pixels, and scores f32[N, C]: each predictor's, of all cells."""


def yolov1_candidates(
    coordinates: Array,
    confidence: Array,
    class_scores: Array,
    *,
    image_size: tuple[float, float],
    predicts_roots: bool = True,
    best_box_only: bool = False,
) -> Candidates:
    """What YOLOv1 finds: confidence times class score, both at least 0.

    Args:
      coordinates: f32[H, W, B, 4], as in `jaxvision.losses.yolov1_loss`.
      confidence: f32[H, W, B].
      class_scores: f32[H, W, C], or f32[H, W, B, C].
      image_size: (height, width), pixels.
      predicts_roots: False if width and height themselves are predicted.
      best_box_only: whether of each cell only the box of the highest confidence can be found.
    Returns:
      boxes f32[H W B, 4] and scores f32[H W B, C].
    Raises:
      AssertionError: an argument has another shape or dtype.
    Source: Redmon et al. 2016 ("You only look once"), equation 1.
    """
    x = at_least_float32(check_array("coordinates", coordinates, ("H", "W", "B", 4)))
    confidence = at_least_float32(check_array("confidence", confidence, x.shape[:3]))
    axes = x.shape[: 2 if jnp.ndim(class_scores) == 3 else 3]
    scores = at_least_float32(check_array("class_scores", class_scores, (*axes, "C")))
    size = jnp.maximum(x[..., 2:], 0)
    root = size if predicts_roots else jnp.sqrt(size)
    boxes = decode_yolov1(jnp.concatenate([x[..., :2], root], -1), image_size=image_size)
    if scores.ndim == 3:
        scores = scores[:, :, None]
    if best_box_only:
        best = jnp.argmax(confidence, axis=-1)
        confidence = confidence * jax.nn.one_hot(best, x.shape[2], dtype=confidence.dtype)
    scores = jnp.maximum(confidence, 0)[..., None] * jnp.maximum(scores, 0)
    return boxes.reshape(-1, 4), scores.reshape(-1, scores.shape[-1])


def yolo_candidates(
    logits: Array, anchors: Array, *, stride: float, softmax: bool, constrained: bool = True
) -> Candidates:
    """What one map with anchors says: sigmoid of the objectness times the classes' probabilities.

    Args:
      logits: f32[H, W, A, 5 + C]: (tx, ty, tw, th, to, classes).
      anchors: f32[A, 2], (width, height), pixels.
      stride: side of a cell, pixels.
      softmax: whether classes exclude each other; else each has a sigmoid of its own.
      constrained: see `jaxvision.ops.decode_yolo`.
    Returns:
      boxes f32[H W A, 4] and scores f32[H W A, C].
    Raises:
      AssertionError: an argument has another shape or dtype.
    """
    logits = at_least_float32(check_array("logits", logits, ("H", "W", "A", "5 + C")))
    boxes = decode_yolo(logits[..., :4], anchors, stride=stride, constrained=constrained)
    classes = (jax.nn.softmax if softmax else jax.nn.sigmoid)(logits[..., 5:])
    scores = jax.nn.sigmoid(logits[..., 4:5]) * classes
    return boxes.reshape(-1, 4), scores.reshape(-1, scores.shape[-1])


def yolov2_candidates(
    logits: Array, anchors: Array, *, stride: float, constrained: bool = True
) -> Candidates:
    """What YOLOv2 finds: sigmoid of the objectness times softmax over the classes.

    Args:
      logits: f32[H, W, A, 5 + C]: (tx, ty, tw, th, to, classes).
      anchors: f32[A, 2], (width, height), pixels.
      stride: side of a cell, pixels.
      constrained: as in `jaxvision.losses.yolov2_loss`.
    Returns:
      boxes f32[H W A, 4] and scores f32[H W A, C].
    Raises:
      AssertionError: an argument has another shape or dtype.
    Source: Redmon and Farhadi 2017 ("YOLO9000"), section 2; Darknet's region layer.
    """
    return yolo_candidates(logits, anchors, stride=stride, softmax=True, constrained=constrained)


def yolov3_candidates(
    logits: Sequence[Array], anchors: Sequence[Array], *, strides: Sequence[float]
) -> Candidates:
    """What YOLOv3 finds on its maps: sigmoid of the objectness times that of each class.

    Args:
      logits: f32[H_l, W_l, A_l, 5 + C] for each map.
      anchors: f32[A_l, 2] for each map, (width, height), pixels.
      strides: for each map, the side of a cell, pixels.
    Returns:
      boxes f32[N, 4] and scores f32[N, C], map after map.
    Raises:
      AssertionError: an argument has another shape or dtype.
    Source: Redmon and Farhadi 2018 ("YOLOv3"), sections 2.1 to 2.3.
    """
    maps = [
        yolo_candidates(*of_map, stride=stride, softmax=False)
        for *of_map, stride in zip(logits, anchors, strides, strict=True)
    ]
    boxes, scores = zip(*maps, strict=True)
    return jnp.concatenate(boxes), jnp.concatenate(scores)


def detect(
    boxes: Array,
    scores: Array,
    *,
    image_size: tuple[float, float],
    iou_threshold: float = 0.45,
    score_threshold: float = 0.005,
    max_detections: int = 100,
    max_candidates: int = 1000,
) -> Detections:
    """The best candidates, clipped to the image, each class suppressed on its own.

    Args:
      boxes: f32[N, 4], xyxy, pixels.
      scores: f32[N, C].
      image_size: (height, width), pixels.
      iou_threshold: a box falls when its IoU with a better one of its class is above this.
      score_threshold: pairs of a box and a class count if their score is above this.
      max_detections: size of the result.
      max_candidates: how many pairs enter the suppression; see `multiclass_nms`.
    Returns:
      max_detections of them, in falling order of score.
    Raises:
      AssertionError: an argument has another shape or dtype.
      ValueError: an option is out of range.
    """
    boxes = clip_boxes_to_image(boxes, image_size)
    indices, labels, valid = multiclass_nms(
        boxes,
        scores,
        iou_threshold=iou_threshold,
        max_detections=max_detections,
        score_threshold=score_threshold,
        max_candidates=min(max_candidates, scores.size),
    )
    return Detections(
        boxes=jnp.where(valid[:, None], boxes[indices], 0),
        scores=jnp.where(valid, scores[indices, labels], 0),
        labels=labels,
        valid=valid,
    )
