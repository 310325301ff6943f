"""The localiser as a detector that finds exactly one object in each image."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxvision.core import (
    DetectionBatch,
    Detections,
    Terms,
    at_least_float32,
    check_array,
    extent_of,
)
from jaxvision.losses import localization_loss
from jaxvision.ops import box_area, box_convert, clip_boxes_to_image, elementwise_box_iou
from jaxvision.tasks.building import as_terms
from jaxvision.tasks.decoding import DetectOptions, detect
from jaxvision.tasks.detectors.detector import Candidates, Detector
from jaxvision.tasks.detectors.parts import (
    Loss,
    checked_loss,
    described_detector,
    maps_named,
)

_HIT = 0.5  # IoU from which on a box counts as right
_PROBE = 224  # pixels: the only size that some classifiers take, such as ViT


def localizer(
    model: nn.Module,
    *,
    loss: Loss | None = localization_loss,
    decode: DetectOptions = DetectOptions(score_threshold=0.0),
    **options: Any,
) -> Detector:
    """Classification with localisation: one class and one box for each image.

    The object of an image is the largest one that counts: neither a region of many objects
    ("crowd") nor, unless those are trained on, a difficult one. Of equally large ones it is the
    first. The others are not looked for, so they lower the recall. An image without objects has no
    part in the loss and in the metrics below.

    One detection is decoded for each image, of the most probable class, whose probability is the
    score. It is left out if that is not above the `score_threshold`, or if its box has no area
    within the image.

    Its metrics beside the average precision compare the detection, whatever its score, with the
    object of the image. They are means over the images with an object:

    - "accuracy": the share whose class is right
    - "mean_iou": the IoU of the boxes, whatever the class
    - "localization_accuracy": the share whose class is right and whose boxes have an IoU of at
      least 0.5, one minus the error that ILSVRC defines for one guess

    Args:
      model: a network like `jaxvision.models.create_model("localizer")`.
      loss: with the signature of `jaxvision.losses.localization_loss`; None: for evaluation only.
        It gets both boxes as xyxy, in fractions of the width and height of the network's input.
      decode: of which the `score_threshold` counts.
      **options: keyword arguments of the loss, such as `box_loss` and `box_weight`.
    Raises:
      OptionError: an option that the loss does not have, or a network of another form.
    Source: Sermanet et al. 2014 ("OverFeat"), section 4; Russakovsky et al. 2015 ("ImageNet large
      scale visual recognition challenge"), section 4.2.
    """
    maps_of = maps_named(model, ("logits", "box"), side=_PROBE)
    example_loss = checked_loss(loss, 5, {}, options)
    one = dataclasses.replace(decode, max_detections=1)

    def total(outputs: Any, example: DetectionBatch, *, key: Array, step: Array) -> Terms:
        box, label, there = largest_object(example.boxes, example.labels, example.box_mask)
        arguments = outputs["logits"], corners(outputs["box"]), label, box / _sides(example), there
        terms = as_terms(example_loss(*arguments, key=key, step=step), "localization_loss")
        return {
            name: (jnp.where(there, total, 0), jnp.where(there, weight, 0))
            for name, (total, weight) in terms.items()
        }

    def found(outputs: Any, example: DetectionBatch) -> Detections:
        candidates = localizer_candidates(outputs["logits"], outputs["box"], _sides(example))
        return detect(*candidates, image_size=extent_of(example), options=one)

    def metrics(outputs: Any, example: DetectionBatch) -> Terms:
        box, label, there = largest_object(example.boxes, example.labels, example.box_mask)
        boxes, scores = localizer_candidates(outputs["logits"], outputs["box"], _sides(example))
        iou = elementwise_box_iou(clip_boxes_to_image(boxes[0], extent_of(example)), box)
        right = jnp.argmax(scores[0]) == label
        of_image = {
            "accuracy": right,
            "mean_iou": iou,
            "localization_accuracy": right & (iou >= _HIT),
        }
        count = there.astype(jnp.float32)
        return {name: (jnp.where(there, x, 0.0), count) for name, x in of_image.items()}

    detector = described_detector(
        "localizer",
        model,
        loss and total,
        found,
        {"decode": decode},
        loss_function=loss,
        loss_options=options,
        multiple_of=1,
        num_classes=maps_of["logits"].shape[-1],
    )
    return dataclasses.replace(detector, metrics=metrics)


def localizer_candidates(logits: Array, box: Array, sides: Array) -> Candidates:
    """Decodes the outputs of a localiser: one box, with the softmax over the classes.

    Args:
      logits: f32[K].
      box: f32[4], (centre x, centre y, width, height), fractions of the network's input.
      sides: f32[4], (width, height, width, height) of the network's input, pixels.
    Returns:
      the box f32[1, 4], xyxy, pixels, and scores f32[1, K], of which all but the best class's
      are 0.
    """
    logits = at_least_float32(check_array("logits", logits, ("K",)))
    probabilities = nn.softmax(logits)
    best = jnp.arange(len(logits)) == jnp.argmax(logits)
    return (corners(box) * sides)[None], jnp.where(best, probabilities, 0)[None]


def corners(box: Array) -> Array:
    """(centre x, centre y, width, height) as xyxy: f[4] -> f32[4]."""
    return box_convert(at_least_float32(check_array("box", box, (4,))), "cxcywh", "xyxy")


def largest_object(boxes: Array, labels: Array, box_mask: Array) -> tuple[Array, Array, Array]:
    """Takes the object of the largest area; of equal ones the first.

    Args:
      boxes: f32[N, 4], xyxy.
      labels: i32[N].
      box_mask: bool[N], True for the objects that count.
    Returns:
      its box f32[4] and label i32[], both of padding if there is none, and whether there is one,
      bool[].
    """
    index = jnp.argmax(jnp.where(box_mask, box_area(boxes), -1))
    return boxes[index], labels[index], box_mask.any()


def _sides(example: DetectionBatch) -> Array:
    height, width = example.image.shape[:2]
    return jnp.array([width, height, width, height], jnp.float32)
