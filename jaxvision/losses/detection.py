"""Functions that the losses of detectors share."""

from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from jaxvision.core import InputError, Terms, at_least_float32, check_array, divide
from jaxvision.ops import box_area
from jaxvision.ops.boxes import iou_and_union, split_sides

PER = ("batch", "image")
"""By what the loss of a detector is divided: the positives of the batch, or those of each image."""


def check_boxes(boxes: Any, box_mask: Any) -> tuple[Array, Array]:
    """Returns the ground truth, with zeros in place of padding and of boxes without area.

    A box of zeros overlaps nothing. No gradient flows to the boxes.

    Args:
      boxes: f32[G, 4], xyxy.
      box_mask: bool[G], False for padding.
    Returns:
      (boxes f32[G, 4], objects bool[G]), where objects is True for the boxes that are kept.
    """
    boxes = lax.stop_gradient(at_least_float32(check_array("boxes", boxes, ("G", 4))))
    box_mask = check_array("box_mask", box_mask, boxes.shape[:1], "bool")
    objects = box_mask & (box_area(boxes) > 0)
    return jnp.where(objects[:, None], boxes, 0), objects


def check_labels(labels: Any, shape: tuple[int, ...], num_classes: int) -> Array:
    """Returns the labels of the ground truth as i32, with K in place of those outside 0..K - 1.

    The losses give NaN for the label K.

    Raises:
      AssertionError: the labels have another shape or are not integers.
    """
    labels = check_array("labels", labels, shape, "int").astype(int)
    return jnp.where((labels >= 0) & (labels < num_classes), labels, num_classes)


def of_match(values: Array, matches: Array) -> Array:
    """Gathers the values of the matched objects; where there is no match, those of object 0.

    Args:
      values: [G, ...], one row for each object.
      matches: i32[...]: the index of an object, `NEGATIVE` or `IGNORE`.
    Returns:
      [..., ...], the axes of matches and then those of a row.
    Raises:
      ValueError: G is 0.
    """
    if not len(values):
        raise InputError("the ground truth has 0 rows: pad it to at least one, with a mask")
    return values[jnp.maximum(matches, 0)]


def image_terms(totals: dict[str, Array]) -> Terms:
    """Returns the terms of a loss that is averaged over images: each total has weight 1."""
    return {name: (total, jnp.ones((), total.dtype)) for name, total in totals.items()}


def normalized_terms(totals: dict[str, Array], positives: Array, per: str) -> Terms:
    """Returns the terms of a loss that is divided by the number of positives, but at least by 1.

    Args:
      totals: sums over one image, f32[].
      positives: how many there are, a number of any type.
      per: one of `PER`: "batch" divides the sum over the batch by the positives of the batch;
        "image" divides each image's sum by its own positives and takes the mean over images.
    """
    count = positives.astype(jnp.result_type(*totals.values()))
    if per == "batch":
        return {name: (total, count) for name, total in totals.items()}
    return image_terms({name: divide(total, count) for name, total in totals.items()})


def class_targets(labels: Array, matches: Array, num_classes: int, dtype: Any) -> Array:
    """Returns the targets of sigmoids: 1 for the class of the matched object, else 0.

    Args:
      labels: i32[G], from `check_labels`.
      matches: i32[N]: the index of an object, `NEGATIVE` or `IGNORE`.
      num_classes: K.
      dtype: of the result.
    Returns:
      dtype[N, K]; NaN for a match with a label that does not exist.
    """
    # A label of -1 is no class, and that of no class is all 0.
    classes = jnp.where(matches >= 0, of_match(labels, matches), -1)[:, None]
    targets = (classes == jnp.arange(num_classes)[None]).astype(dtype)
    return jnp.where(classes >= num_classes, jnp.nan, targets)


def generalized_iou_loss(predicted: Array, target: Array) -> Array:
    """f32[..., 4] twice -> f32[...]: 1 - GIoU; 0 where both are zeros.

    Unlike `jaxvision.losses.generalized_box_iou_loss`, a predicted box without area also has a
    gradient: it is a line or a point whose hull with the target shrinks as it comes closer.
    """
    a, b = split_sides(predicted), split_sides(target)
    iou, union = iou_and_union(a, b)
    hull = a.hull(b).area
    exists = hull > 0
    hull = jnp.where(exists, hull, 1)
    return jnp.where(exists, 1 - iou + (hull - union) / hull, 0)
