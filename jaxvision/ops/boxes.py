"""Boxes: areas, formats, and intersection over union (IoU) with its variants.

A box is xyxy: the corners (x1, y1), (x2, y2) with x1 < x2, y1 < y2, in pixels or any other unit.
A box without area (x2 <= x1 or y2 <= y1, as in padding) overlaps nothing: IoU and its variants are
0 for it, and so are their gradients. Half precision is computed in float32.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.core import at_least_float32, check_array, check_choice

FORMATS = ("xyxy", "xywh", "cxcywh")
"""Formats of boxes: corners; top left corner and size; centre and size."""

# Boxes with a smaller area count as boxes without area: the square of a smaller union would leave
# the range of float32 in the gradient. This is far below any box in pixels or fractions of an
# image.
_LEAST_AREA = 1e-16


class Sides(NamedTuple):
    """Boxes as four arrays of one shape, which broadcast against the arrays of other boxes."""

    x1: Array
    y1: Array
    x2: Array
    y2: Array

    @property
    def width(self) -> Array:
        return self.x2 - self.x1

    @property
    def height(self) -> Array:
        return self.y2 - self.y1

    @property
    def area(self) -> Array:
        """The area; 0 where a side is not positive."""
        return jnp.maximum(self.width, 0) * jnp.maximum(self.height, 0)

    def intersection(self, other: "Sides") -> "Sides":
        """Returns the overlap; its sides are negative where there is none."""
        return Sides(
            jnp.maximum(self.x1, other.x1),
            jnp.maximum(self.y1, other.y1),
            jnp.minimum(self.x2, other.x2),
            jnp.minimum(self.y2, other.y2),
        )

    def hull(self, other: "Sides") -> "Sides":
        """Returns the smallest box around both boxes."""
        return Sides(
            jnp.minimum(self.x1, other.x1),
            jnp.minimum(self.y1, other.y1),
            jnp.maximum(self.x2, other.x2),
            jnp.maximum(self.y2, other.y2),
        )


def iou_and_union(a: Sides, b: Sides) -> tuple[Array, Array]:
    """Computes the intersection over union and the area of the union, with broadcasting."""
    intersection = a.intersection(b).area
    union = a.area + b.area - intersection
    iou = jnp.where(intersection > 0, intersection / jnp.where(union > 0, union, 1), 0)
    return iou, union


def box_area(boxes: Array) -> Array:
    """Computes the area of each box.

    Args:
      boxes: f32[..., 4], xyxy.
    Returns:
      f32[...], square units; 0 for a box without area.
    """
    return _sides("boxes", boxes).area


def box_convert(boxes: Array, in_fmt: str, out_fmt: str) -> Array:
    """Converts boxes to another format.

    Args:
      boxes: f32[..., 4], in `in_fmt`.
      in_fmt: one of `FORMATS`: "xyxy" (corners), "xywh" (top left corner, width, height) or
        "cxcywh" (centre, width, height).
      out_fmt: one of `FORMATS`.
    Returns:
      f32[..., 4], in `out_fmt`. Inverted boxes stay inverted: their sizes are negative.
    Raises:
      ValueError: a format is unknown.
    """
    for name, fmt in (("in_fmt", in_fmt), ("out_fmt", out_fmt)):
        check_choice(name, fmt, FORMATS)
    boxes = check_array("boxes", boxes, ("...", 4))
    if in_fmt == out_fmt:
        return boxes
    first, second = boxes[..., :2], boxes[..., 2:]
    if in_fmt == "xywh":
        first, second = first, first + second
    elif in_fmt == "cxcywh":
        first, second = first - second / 2, first + second / 2
    if out_fmt == "xywh":
        first, second = first, second - first
    elif out_fmt == "cxcywh":
        # The sum of both corners may leave the range of half precision; the sum of halves does not.
        first, second = first / 2 + second / 2, second - first
    return jnp.concatenate([first, second], axis=-1)


def clip_boxes_to_image(boxes: Array, size: tuple[int, int] | Array) -> Array:
    """Clips boxes to the borders of an image.

    Args:
      boxes: f32[..., 4], xyxy, pixels.
      size: (height, width) of the image.
    Returns:
      f32[..., 4], with 0 <= x <= width, 0 <= y <= height; a box outside the image has no area left.
    """
    boxes = check_array("boxes", boxes, ("...", 4))
    size = check_array("size", size, (2,), "number")
    height, width = size.astype(boxes.dtype)
    limit = jnp.stack([width, height, width, height])
    return jnp.clip(boxes, 0, jnp.broadcast_to(limit, boxes.shape))


def box_iou(boxes1: Array, boxes2: Array) -> Array:
    """Computes the intersection over union of each pair of boxes.

    IoU = |A and B| / |A or B|.

    Args:
      boxes1: f32[N, 4], xyxy.
      boxes2: f32[M, 4], xyxy.
    Returns:
      f32[N, M], in [0, 1]; 0 if a box has no area.
    """
    return _pairwise(_iou, boxes1, boxes2)


def generalized_box_iou(boxes1: Array, boxes2: Array) -> Array:
    """Computes the generalised IoU of each pair of boxes.

    GIoU = IoU - (|C| - |A or B|) / |C|, with C the smallest box around A and B.

    Args:
      boxes1: f32[N, 4], xyxy.
      boxes2: f32[M, 4], xyxy.
    Returns:
      f32[N, M], in [-1, 1]; 0 if a box has no area.
    Source: Rezatofighi et al. 2019 ("Generalized intersection over union"), algorithm 1.
    """
    return _pairwise(_generalized_iou, boxes1, boxes2)


def distance_box_iou(boxes1: Array, boxes2: Array) -> Array:
    """Computes the distance IoU of each pair of boxes.

    DIoU = IoU - d^2 / c^2, with d the distance of the centres and c the diagonal of the smallest
    box around both.

    Args:
      boxes1: f32[N, 4], xyxy.
      boxes2: f32[M, 4], xyxy.
    Returns:
      f32[N, M], in [-1, 1]; 0 if a box has no area.
    Source: Zheng et al. 2020 ("Distance-IoU loss"), equations 6 and 7.
    """
    return _pairwise(_distance_iou, boxes1, boxes2)


def complete_box_iou(boxes1: Array, boxes2: Array) -> Array:
    """Computes the complete IoU of each pair of boxes.

    CIoU = DIoU - alpha v, with v = 4 / pi^2 (arctan(w2 / h2) - arctan(w1 / h1))^2 for the aspect
    ratios and alpha = v / (1 - IoU + v), through which no gradient flows.

    Args:
      boxes1: f32[N, 4], xyxy.
      boxes2: f32[M, 4], xyxy.
    Returns:
      f32[N, M], in [-2, 1]; 0 if a box has no area.
    Source: Zheng et al. 2020 ("Distance-IoU loss"), equations 8 to 11.
    """
    return _pairwise(_complete_iou, boxes1, boxes2)


def elementwise_box_iou(boxes1: Array, boxes2: Array) -> Array:
    """Computes `box_iou` of boxes at the same index: f32[..., 4] twice -> f32[...]."""
    return _elementwise(_iou, boxes1, boxes2)


def elementwise_generalized_box_iou(boxes1: Array, boxes2: Array) -> Array:
    """Computes `generalized_box_iou` of boxes at the same index: f32[..., 4] twice -> f32[...]."""
    return _elementwise(_generalized_iou, boxes1, boxes2)


def elementwise_distance_box_iou(boxes1: Array, boxes2: Array) -> Array:
    """Computes `distance_box_iou` of boxes at the same index: f32[..., 4] twice -> f32[...]."""
    return _elementwise(_distance_iou, boxes1, boxes2)


def elementwise_complete_box_iou(boxes1: Array, boxes2: Array) -> Array:
    """Computes `complete_box_iou` of boxes at the same index: f32[..., 4] twice -> f32[...]."""
    return _elementwise(_complete_iou, boxes1, boxes2)


def split_sides(boxes: Array) -> Sides:
    """Splits boxes [..., 4] into four arrays [...]."""
    return Sides(*jnp.moveaxis(boxes, -1, 0))


def _sides(name: str, boxes: Array, leading: tuple[int | str, ...] = ("...",)) -> Sides:
    boxes = check_array(name, boxes, (*leading, 4))
    return split_sides(at_least_float32(boxes))


_Measure = Callable[[Sides, Sides], Array]


def _pairwise(measure: _Measure, boxes1: Array, boxes2: Array) -> Array:
    a = _sides("boxes1", boxes1, ("N",))
    b = _sides("boxes2", boxes2, ("M",))
    return _of_boxes_with_area(
        measure, Sides(*(x[:, None] for x in a)), Sides(*(x[None] for x in b))
    )


def _elementwise(measure: _Measure, boxes1: Array, boxes2: Array) -> Array:
    a = _sides("boxes1", boxes1)
    return _of_boxes_with_area(measure, a, _sides("boxes2", boxes2, a.x1.shape))


# Compiled as a whole, so that an eager call compiles once.
@functools.partial(jax.jit, static_argnums=0)
def _of_boxes_with_area(measure: _Measure, a: Sides, b: Sides) -> Array:
    """Computes the measure where both boxes have an area; elsewhere value and gradient are 0."""
    valid_a, valid_b = ((x.area > _LEAST_AREA) for x in (a, b))
    unit = Sides(*(jnp.asarray(x, a.x1.dtype) for x in (0, 0, 1, 1)))

    def replaced(sides: Sides, valid: Array) -> Sides:
        return Sides(*(jnp.where(valid, x, y) for x, y in zip(sides, unit, strict=True)))

    value = measure(replaced(a, valid_a), replaced(b, valid_b))
    return jnp.where(valid_a & valid_b, value, 0)


def _iou(a: Sides, b: Sides) -> Array:
    return iou_and_union(a, b)[0]


def _generalized_iou(a: Sides, b: Sides) -> Array:
    iou, union = iou_and_union(a, b)
    hull = a.hull(b).area
    return iou - (hull - union) / hull


def _distance_iou(a: Sides, b: Sides) -> Array:
    return _iou(a, b) - centre_distance(a, b)


def _complete_iou(a: Sides, b: Sides) -> Array:
    iou = _iou(a, b)
    # arctan2(w, h) and not arctan(w / h), because the quotient may leave the range of float32.
    angle = jnp.arctan2(b.width, b.height) - jnp.arctan2(a.width, a.height)
    v = 4 / math.pi**2 * angle**2
    rest = 1 - iou + v
    alpha = jax.lax.stop_gradient(v / jnp.where(rest > 0, rest, 1))
    return iou - centre_distance(a, b) - alpha * v


def centre_distance(a: Sides, b: Sides) -> Array:
    """Computes the squared distance of the centres over the squared diagonal of their hull; 0 for
    two equal points."""
    dx = (a.x1 + a.x2 - b.x1 - b.x2) / 2
    dy = (a.y1 + a.y2 - b.y1 - b.y2) / 2
    hull = a.hull(b)
    diagonal = hull.width**2 + hull.height**2
    return (dx**2 + dy**2) / jnp.where(diagonal > 0, diagonal, 1)
