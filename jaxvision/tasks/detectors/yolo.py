"""YOLOv1 to v3 as detectors: their losses, and how their maps become candidates."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from jaxvision.core import (
    DetectionBatch,
    Detections,
    OptionError,
    Terms,
    at_least_float32,
    check_array,
    extent_of,
)
from jaxvision.losses import yolov1_loss, yolov2_loss, yolov3_loss
from jaxvision.ops import decode_yolo, decode_yolov1
from jaxvision.tasks.decoding import DetectOptions, detect
from jaxvision.tasks.detectors.detector import Candidates, Detector
from jaxvision.tasks.detectors.parts import (
    Loss,
    checked_loss,
    described_detector,
    maps_named,
    with_anchors,
)

Anchors = Sequence[Sequence[float]]
"""(width, height) of each anchor, pixels."""


def yolov1(
    model: nn.Module,
    *,
    predicts_roots: bool = True,
    best_box_only: bool = False,
    loss: Loss | None = yolov1_loss,
    decode: DetectOptions = DetectOptions(),
    **options: Any,
) -> Detector:
    """YOLOv1: a grid of cells, each with boxes and one class.

    Args:
      model: a network like `jaxvision.models.create_model("yolov1")`.
      predicts_roots: whether the network predicts the square roots of width and height.
      best_box_only: whether only the box of the highest confidence can be found in each cell.
      loss: with the signature of `jaxvision.losses.yolov1_loss`; None: for evaluation only.
      decode: which candidates become detections.
      **options: keyword arguments of the loss, such as `lambda_coord`.
    Raises:
      OptionError: an option that the loss does not have, or a network of another form.
    Source: Redmon et al. 2016 ("You only look once").
    """
    maps_of = probed_maps(model, ("coordinates", "confidence", "class_scores"))
    strides = strides_of(maps_of)
    stride = strides["coordinates"]
    given = {"image_size": (1, 1), "predicts_roots": predicts_roots}
    example_loss = checked_loss(loss, 6, given, options)

    def total(maps: Any, example: DetectionBatch, *, key: Array, step: Array) -> Terms:
        return example_loss(
            *(maps[name] for name in strides),
            *(example.boxes, example.labels, example.box_mask),
            **{**given, "image_size": example.image.shape[:2]},
            key=key,
            step=step,
        )

    def candidates(maps: Any) -> Candidates:
        rows, columns = maps["coordinates"].shape[:2]
        return yolov1_candidates(
            *(maps[name] for name in strides),
            image_size=(rows * stride, columns * stride),
            predicts_roots=predicts_roots,
            best_box_only=best_box_only,
        )

    how = {"predicts_roots": predicts_roots, "best_box_only": best_box_only}
    return described_detector(
        "yolov1",
        model,
        loss and total,
        decode_of(candidates, decode),
        {**how, "decode": decode},
        loss_function=loss,
        loss_options=options,
        multiple_of=max(strides.values()),
        num_classes=maps_of["class_scores"].shape[-1],
    )


def yolov2(
    model: nn.Module,
    anchors: Anchors,
    *,
    constrained: bool = True,
    loss: Loss | None = yolov2_loss,
    decode: DetectOptions = DetectOptions(),
    **options: Any,
) -> Detector:
    """YOLOv2: a box for each anchor in each cell of one map.

    Args:
      model: a network like `jaxvision.models.create_model("yolov2")`; its field `num_anchors` is
        set to the number of anchors.
      anchors: (width, height) of each, pixels; `jaxvision anchors` finds them.
      constrained: whether a centre is predicted within its cell.
      loss: with the signature of `jaxvision.losses.yolov2_loss`; None: for evaluation only. Its
        `step` counts updates.
      decode: which candidates become detections.
      **options: keyword arguments of the loss, such as `prior_steps`.
    Raises:
      OptionError: anchors that are no sizes, an option that the loss does not have, or a network of
        another form.
    Source: Redmon and Farhadi 2017 ("YOLO9000"), section 2.
    """
    sizes = sizes_of(anchors)
    model = with_anchors(model, len(sizes))
    maps_of = probed_maps(model, ("logits",))
    strides = strides_of(maps_of)
    given = {"stride": strides["logits"], "constrained": constrained}
    example_loss = checked_loss(loss, 5, given, options)

    def total(maps: Any, example: DetectionBatch, *, key: Array, step: Array) -> Terms:
        truth = example.boxes, example.labels, example.box_mask
        return example_loss(maps["logits"], *truth, sizes, **given, key=key, step=step)

    def candidates(maps: Any) -> Candidates:
        return yolov2_candidates(maps["logits"], sizes, **given)

    how = {"anchors": sizes.tolist(), "constrained": constrained}
    return described_detector(
        "yolov2",
        model,
        loss and total,
        decode_of(candidates, decode),
        {**how, "decode": decode},
        loss_function=loss,
        loss_options=options,
        multiple_of=max(strides.values()),
        num_classes=maps_of["logits"].shape[-1] - 5,
    )


def yolov3(
    model: nn.Module,
    anchors: Anchors,
    *,
    loss: Loss | None = yolov3_loss,
    decode: DetectOptions = DetectOptions(),
    **options: Any,
) -> Detector:
    """YOLOv3: a box for each anchor in each cell of several maps.

    Args:
      model: a network like `jaxvision.models.create_model("yolov3")`; its field `num_anchors` is
        set to the number of anchors of a map.
      anchors: (width, height) of each, pixels, as many for each map: the largest ones belong to the
        coarsest map.
      loss: with the signature of `jaxvision.losses.yolov3_loss`; None: for evaluation only.
      decode: which candidates become detections.
      **options: keyword arguments of the loss: `ignore_threshold`; `box_loss`, another loss of the
        boxes; `match`, another rule that matches predictions and objects.
    Raises:
      OptionError: anchors that are no sizes or do not fit the maps, an option that the loss does
        not have, or a network of another form.
    Source: Redmon and Farhadi 2018 ("YOLOv3").
    """
    by_size = sorted(sizes_of(anchors), key=np.prod)
    scales = len(getattr(model, "scales", ()))
    if not scales:
        raise OptionError("model", "model has no scales: give a network like yolov3")
    if len(by_size) % scales:
        raise OptionError(
            "anchors",
            f"anchors has {len(by_size)}: the network predicts at {scales} scales, so give as many "
            "for each",
        )
    # The coarsest map, which is the first, gets the largest; on each they rise, as Darknet's do.
    sizes = list(np.array(by_size, np.float32).reshape(scales, -1, 2)[::-1])
    model = with_anchors(model, len(sizes[0]))
    names = tuple(f"logits{level}" for level, *_ in model.scales)
    maps_of = probed_maps(model, names)
    strides = strides_of(maps_of)
    given = {"strides": tuple(strides.values())}
    example_loss = checked_loss(loss, 5, given, options)

    def total(maps: Any, example: DetectionBatch, *, key: Array, step: Array) -> Terms:
        logits = [maps[name] for name in names]
        truth = example.boxes, example.labels, example.box_mask
        return example_loss(logits, *truth, sizes, **given, key=key, step=step)

    def candidates(maps: Any) -> Candidates:
        return yolov3_candidates([maps[name] for name in names], sizes, **given)

    how = {"anchors": sizes_of(anchors).tolist()}
    return described_detector(
        "yolov3",
        model,
        loss and total,
        decode_of(candidates, decode),
        {**how, "decode": decode},
        loss_function=loss,
        loss_options=options,
        multiple_of=max(strides.values()),
        num_classes=maps_of[names[0]].shape[-1] - 5,
    )


def decode_of(
    candidates: Callable[[Any], Candidates], options: DetectOptions
) -> Callable[[Any, DetectionBatch], Detections]:
    """The decoding of a record: of candidates, those that the options choose."""

    def decode(outputs: Any, example: DetectionBatch) -> Detections:
        return detect(*candidates(outputs), image_size=extent_of(example), options=options)

    return decode


def sizes_of(anchors: Anchors) -> np.ndarray:
    """Returns (width, height) of each anchor, f32[A, 2].

    Raises:
      OptionError: they are no sizes.
    """
    try:
        sizes = np.array(anchors, np.float32)
    except (TypeError, ValueError):
        sizes = np.zeros(0)
    right = sizes.ndim == 2 and sizes.shape[1] == 2
    if not (right and (sizes > 0).all() and np.isfinite(sizes).all()):
        raise OptionError(
            "anchors",
            f"anchors is {anchors!r}: give (width, height) in pixels for each, as "
            "((10, 13), (16, 30)); `jaxvision anchors` finds them",
        )
    return sizes


_PROBE = 256  # pixels: a multiple of every network's stride


def probed_maps(model: nn.Module, names: Sequence[str]) -> dict[str, Any]:
    """The shapes of a network's maps of these names, for one image of `_PROBE` pixels a side."""
    return maps_named(model, names, side=_PROBE)


def strides_of(maps: dict[str, Any]) -> dict[str, int]:
    """Sides of the cells of the maps that `probed_maps` gives, pixels."""
    return {name: _PROBE // x.shape[0] for name, x in maps.items()}


def yolov1_candidates(
    coordinates: Array,
    confidence: Array,
    class_scores: Array,
    *,
    image_size: tuple[float, float],
    predicts_roots: bool = True,
    best_box_only: bool = False,
) -> Candidates:
    """Decodes the maps of YOLOv1: confidence times class score, both at least 0.

    Args:
      coordinates: f32[H, W, B, 4], as in `jaxvision.losses.yolov1_loss`.
      confidence: f32[H, W, B].
      class_scores: f32[H, W, C], or f32[H, W, B, C].
      image_size: (height, width), pixels.
      predicts_roots: False if width and height themselves are predicted.
      best_box_only: whether only the box of the highest confidence counts in each cell.
    Returns:
      boxes f32[H W B, 4] and scores f32[H W B, C].
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
    logits: Array, anchors: Array, *, stride: float, softmax: bool, **how: Any
) -> Candidates:
    """Decodes a map with anchors: sigmoid of the objectness times the classes' probabilities.

    Args:
      logits: f32[H, W, A, 5 + C]: (tx, ty, tw, th, to, classes).
      anchors: f32[A, 2], (width, height), pixels.
      stride: side of a cell, pixels.
      softmax: whether classes exclude each other; else each has a sigmoid of its own.
      **how: see `jaxvision.ops.decode_yolo`. With activated=True, the objectness and the scores
        are probabilities as well.
    Returns:
      boxes f32[H W A, 4] and scores f32[H W A, C].
    """
    logits = at_least_float32(check_array("logits", logits, ("H", "W", "A", "5 + C")))
    boxes = decode_yolo(logits[..., :4], anchors, stride=stride, **how)
    objectness, classes = logits[..., 4:5], logits[..., 5:]
    if not how.get("activated"):
        objectness = jax.nn.sigmoid(objectness)
        classes = (jax.nn.softmax if softmax else jax.nn.sigmoid)(classes)
    scores = objectness * classes
    return boxes.reshape(-1, 4), scores.reshape(-1, scores.shape[-1])


def yolov2_candidates(
    logits: Array, anchors: Array, *, stride: float, constrained: bool = True
) -> Candidates:
    """Decodes the map of YOLOv2: sigmoid of the objectness times softmax over the classes.

    Args:
      logits: f32[H, W, A, 5 + C]: (tx, ty, tw, th, to, classes).
      anchors: f32[A, 2], (width, height), pixels.
      stride: side of a cell, pixels.
      constrained: as in `jaxvision.losses.yolov2_loss`.
    Returns:
      boxes f32[H W A, 4] and scores f32[H W A, C].
    Source: Redmon and Farhadi 2017 ("YOLO9000"), section 2; Darknet's region layer.
    """
    return yolo_candidates(logits, anchors, stride=stride, softmax=True, constrained=constrained)


def yolov3_candidates(
    logits: Sequence[Array], anchors: Sequence[Array], *, strides: Sequence[float]
) -> Candidates:
    """Decodes the maps of YOLOv3: sigmoid of the objectness times that of each class.

    Args:
      logits: f32[H_l, W_l, A_l, 5 + C] for each map.
      anchors: f32[A_l, 2] for each map, (width, height), pixels.
      strides: for each map, the side of a cell, pixels.
    Returns:
      boxes f32[N, 4] and scores f32[N, C], map after map.
    Source: Redmon and Farhadi 2018 ("YOLOv3"), sections 2.1 to 2.3.
    """
    maps = [
        yolo_candidates(*of_map, stride=stride, softmax=False)
        for *of_map, stride in zip(logits, anchors, strides, strict=True)
    ]
    boxes, scores = zip(*maps, strict=True)
    return jnp.concatenate(boxes), jnp.concatenate(scores)
