"""Functions that the losses of detectors share."""

from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from jaxvision.core import InputError, Terms, at_least_float32, check_array
from jaxvision.ops import box_area


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
