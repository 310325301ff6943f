"""How the maps of networks become predictions: boxes after suppression, and points."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxvision.core import Detections, check_range, lookup
from jaxvision.ops import (
    batched_nms,
    box_area,
    clip_boxes_to_image,
    heatmap_argmax,
    multiclass_nms,
    per_class_nms,
    soft_argmax,
)


@dataclass(frozen=True)
class DetectOptions:
    """Which candidates become detections.

    A box that has no area within the image, such as one in the padding, never does.

    Attributes:
      score_threshold: a pair of a box and a class counts if its score is above this.
      iou_threshold: a box is suppressed where its IoU with a better one of its class is above this.
      max_detections: most detections in an image.
      max_candidates: most pairs of a box and a class that enter the suppression, the best ones: of
        all, or, where the detector says so, of each map or of each class.
      distance_power: None: boxes are compared by their IoU; otherwise see `jaxvision.ops.nms`. It
        is for detectors of the YOLO family.
    Raises:
      OptionError: an option is out of range.
    """

    score_threshold: float = 0.005
    iou_threshold: float = 0.45
    max_detections: int = 100
    max_candidates: int = 1000
    distance_power: float | None = None

    def __post_init__(self) -> None:
        for name in ("score_threshold", "iou_threshold"):
            check_range(name, getattr(self, name), least=0, most=1)
        for name in ("max_detections", "max_candidates"):
            check_range(name, getattr(self, name), least=1)
        if self.distance_power is not None:
            check_range("distance_power", self.distance_power, more_than=0)


def detect(
    boxes: Array, scores: Array, *, image_size: Any, options: DetectOptions = DetectOptions()
) -> Detections:
    """Takes the best candidates, clipped to the image, each class suppressed by itself.

    Args:
      boxes: f32[N, 4], xyxy, pixels.
      scores: f32[N, C].
      image_size: (height, width), pixels: numbers, or an array i32[2].
      options: which of them count.
    Returns:
      `max_detections` of them, by falling score.
    """
    boxes = clip_boxes_to_image(boxes, image_size)
    indices, labels, valid = multiclass_nms(
        boxes,
        _seen(boxes, scores),
        iou_threshold=options.iou_threshold,
        max_detections=options.max_detections,
        score_threshold=options.score_threshold,
        max_candidates=min(options.max_candidates, scores.size),
        distance_power=options.distance_power,
    )
    return _kept(boxes[indices], scores[indices, labels], labels, valid)


def detect_per_class(boxes: Array, scores: Array, *, options: DetectOptions) -> Detections:
    """Takes the best candidates of each class, suppressed by itself, as SSD does.

    Args:
      boxes: f32[N, 4], xyxy, pixels, clipped to the image.
      scores: f32[N, C].
      options: which of them count; `max_candidates` are those of each class.
    Returns:
      `max_detections` of them, by falling score.
    """
    indices, labels, valid = per_class_nms(
        boxes,
        _seen(boxes, scores),
        iou_threshold=options.iou_threshold,
        max_detections=options.max_detections,
        max_per_class=options.max_candidates,
        score_threshold=options.score_threshold,
    )
    return _kept(boxes[indices], scores[indices, labels], labels, valid)


def suppressed(boxes: Array, scores: Array, labels: Array, *, options: DetectOptions) -> Detections:
    """Takes the best candidates of one class each, every class suppressed by itself.

    Args:
      boxes: f32[N, 4], xyxy, pixels, clipped to the image.
      scores: f32[N].
      labels: i32[N].
      options: which of them count; `max_candidates` is not used.
    Returns:
      `max_detections` of them, by falling score.
    """
    indices, valid = batched_nms(
        boxes,
        _seen(boxes, scores),
        labels,
        iou_threshold=options.iou_threshold,
        max_detections=options.max_detections,
        score_threshold=options.score_threshold,
    )
    return _kept(boxes[indices], scores[indices], labels[indices], valid)


def _seen(boxes: Array, scores: Array) -> Array:
    """The scores f32[N] or f32[N, C], -inf for boxes without an area within the image."""
    shown = (box_area(boxes) > 0).reshape(-1, *[1] * (scores.ndim - 1))
    return jnp.where(shown, scores, -jnp.inf)


def _kept(boxes: Array, scores: Array, labels: Array, valid: Array) -> Detections:
    """Detections [D, ...], with zeros in place of those that are not valid."""
    return Detections(
        boxes=jnp.where(valid[:, None], boxes, 0),
        scores=jnp.where(valid, scores, 0),
        labels=jnp.where(valid, labels, 0),
        valid=valid,
    )


def _by_soft_argmax(logits: Array, heatmaps: Array, how: "HeatmapDecode") -> Array:
    del heatmaps
    return soft_argmax(logits, temperature=how.temperature, radius=how.radius or None)


def _by_argmax(logits: Array, heatmaps: Array, how: "HeatmapDecode") -> Array:
    del logits, how
    points, _ = heatmap_argmax(heatmaps)
    return points


METHODS: dict[str, Callable[[Array, Array, Any], Array]] = {
    "soft_argmax": _by_soft_argmax,
    "argmax": _by_argmax,
}
"""Ways to find points: (logits, heatmaps, both f32[h, w, K], options) -> f32[K, 2], pixels of the
maps."""


@dataclass(frozen=True)
class HeatmapDecode:
    """How maps become points.

    Attributes:
      method: "soft_argmax", the mean place under a softmax; or "argmax", the highest place, refined
        by a parabola through its neighbours.
      radius: soft_argmax: pixels of the maps around the highest one that count; 0: all pixels.
      temperature: soft_argmax: what the maps are divided by before the softmax.
      softmax: whether the maps are logits, whose softmax over the pixels is the heatmap; False for
        a network that is trained to give the heatmaps themselves.
    Raises:
      OptionError: an option is out of range.
    """

    method: str = "soft_argmax"
    radius: int = 3
    temperature: float = 1.0
    softmax: bool = True

    def __post_init__(self) -> None:
        lookup(METHODS, self.method, "method")
        check_range("radius", self.radius, least=0)
        check_range("temperature", self.temperature, more_than=0)
