"""What the losses of detectors share: ground truth in, terms of an image out."""

from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from jaxvision.core import InputError, Terms, at_least_float32, check_array
from jaxvision.ops import box_area


def check_boxes(boxes: Any, box_mask: Any) -> tuple[Array, Array]:
    """Ground truth, with zeros for what is no object: padding, and boxes without area.

    Such a box overlaps nothing. No gradient flows to the boxes.

    Args:
      boxes: f32[G, 4], xyxy.
      box_mask: bool[G], False for padding.
    Returns:
      (boxes f32[G, 4], objects bool[G]).
    Raises:
      AssertionError: an argument has another shape or dtype.
    """
    boxes = lax.stop_gradient(at_least_float32(check_array("boxes", boxes, ("G", 4))))
    box_mask = check_array("box_mask", box_mask, boxes.shape[:1], "bool")
    objects = box_mask & (box_area(boxes) > 0)
    return jnp.where(objects[:, None], boxes, 0), objects


def check_labels(labels: Any, shape: tuple[int, ...], num_classes: int) -> Array:
    """Labels of the ground truth as i32; K for what is no class, for the losses to make it NaN.

    Raises:
      AssertionError: they have another shape or are no integers.
    """
    labels = check_array("labels", labels, shape, "int").astype(int)
    return jnp.where((labels >= 0) & (labels < num_classes), labels, num_classes)


def of_match(values: Array, matches: Array) -> Array:
    """Values of the ground truth that is matched; where there is none, of the first.

    Args:
      values: [G, ...].
      matches: i32[...]: an index, `NEGATIVE` or `IGNORE`.
    Returns:
      [..., ...].
    Raises:
      ValueError: there is no first.
    """
    if not len(values):
        raise InputError("the ground truth has 0 rows: pad it to at least one, with a mask")
    return values[jnp.maximum(matches, 0)]


def image_terms(totals: dict[str, Array]) -> Terms:
    """The terms of a loss that is averaged over images: each has weight 1."""
    return {name: (total, jnp.ones((), total.dtype)) for name, total in totals.items()}
