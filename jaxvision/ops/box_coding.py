"""Box coding: functions that convert boxes to the numbers that a network predicts, and back.

R-CNN and SSD code a box relative to an anchor, YOLO relative to a cell of a grid, FCOS relative to
a point. If a box or its anchor has no area, as in padding, the code of the first two and its
gradient are 0. Half precision is computed in float32.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.core import at_least_float32, check_array, check_range
from jaxvision.ops.boxes import box_convert
from jaxvision.ops.static import check_positive

FAST_RCNN_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Weights of the deltas in the second stage of Fast and Faster R-CNN."""

SSD_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Weights of the deltas in SSD: 1 over its variances (0.1, 0.1, 0.2, 0.2)."""

MAX_LOG_SCALE = math.log(1000 / 16)
"""Limits decoded boxes to 62.5 times the size of their anchor, as in Detectron and torchvision."""

MAX_YOLO_LOG_SCALE = 10.0
"""Limits decoded boxes to 22,026 times the size of their anchor, more than any image needs."""

# A side below this counts as 0: a division by it would leave the range of float32.
_LEAST_SIDE = 1e-8


def encode_boxes(
    boxes: Array, anchors: Array, *, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)
) -> Array:
    """Encodes boxes relative to anchors, as the deltas that a network has to predict.

    For a box with centre (x, y), width w and height h, and an anchor (xa, ya, wa, ha):
    tx = (x - xa) / wa, ty = (y - ya) / ha, tw = log(w / wa), th = log(h / ha), times the weights.

    Args:
      boxes: f32[..., 4], xyxy.
      anchors: f32[..., 4], xyxy, as many as boxes.
      weights: weights of (tx, ty, tw, th): 1 in an RPN, `FAST_RCNN_WEIGHTS` or `SSD_WEIGHTS`.
    Returns:
      f32[..., 4], (tx, ty, tw, th); 0 if the box or the anchor has no area.
    Raises:
      ValueError: weights is not four positive numbers.
    Source: Girshick et al. 2014 ("Rich feature hierarchies"), equations 6 to 9.
    """
    centre, size = _centre_and_size("boxes", boxes)
    anchor_centre, anchor_size = _centre_and_size("anchors", anchors, centre.shape[:-1])
    valid = _has_area(size) & _has_area(anchor_size)
    shift, size, anchor_size = (
        jnp.where(valid, x, instead)
        for x, instead in ((centre - anchor_centre, 0), (size, 1), (anchor_size, 1))
    )
    deltas = jnp.concatenate([shift / anchor_size, jnp.log(size / anchor_size)], axis=-1)
    return deltas * _weights_like(deltas, weights)


def decode_boxes(
    deltas: Array,
    anchors: Array,
    *,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    max_log_scale: float = MAX_LOG_SCALE,
) -> Array:
    """Decodes deltas to boxes, as the inverse of `encode_boxes`.

    The deltas are first divided by the weights. Then
    x = tx wa + xa, y = ty ha + ya, w = wa exp(tw), h = ha exp(th).

    Args:
      deltas: f32[..., 4], (tx, ty, tw, th) times the weights.
      anchors: f32[..., 4], xyxy, as many as deltas.
      weights: the weights with which the deltas were encoded.
      max_log_scale: upper limit of tw and th. Above it the gradient is 0.
    Returns:
      f32[..., 4], xyxy; a box has no area if its anchor has none.
    Raises:
      ValueError: weights is not four positive numbers.
    Source: Girshick et al. 2014 ("Rich feature hierarchies"), equations 1 to 4.
    """
    deltas = at_least_float32(check_array("deltas", deltas, ("...", 4)))
    anchor_centre, anchor_size = _centre_and_size("anchors", anchors, deltas.shape[:-1])
    deltas = deltas / _weights_like(deltas, weights)
    centre = deltas[..., :2] * anchor_size + anchor_centre
    size = jnp.exp(jnp.minimum(deltas[..., 2:], max_log_scale)) * anchor_size
    return _corners(centre, size)


def encode_distances(boxes: Array, points: Array) -> Array:
    """Encodes boxes as the distances of a point from their sides, as FCOS does.

    Args:
      boxes: f32[..., 4], xyxy.
      points: f32[..., 2], (x, y), as many as boxes.
    Returns:
      f32[..., 4], the distances (left, top, right, bottom), in the unit of the boxes: all positive
      for a point in the box.
    Source: Tian et al. 2019 ("FCOS"), equation 1.
    """
    boxes = at_least_float32(check_array("boxes", boxes, ("...", 4)))
    points = at_least_float32(check_array("points", points, (*boxes.shape[:-1], 2)))
    return jnp.concatenate([points - boxes[..., :2], boxes[..., 2:] - points], axis=-1)


def decode_distances(distances: Array, points: Array) -> Array:
    """Decodes distances to boxes, as the inverse of `encode_distances`.

    Args:
      distances: f32[..., 4], (left, top, right, bottom).
      points: f32[..., 2], (x, y), as many as distances.
    Returns:
      f32[..., 4], xyxy, in the unit of the distances.
    """
    distances = at_least_float32(check_array("distances", distances, ("...", 4)))
    points = at_least_float32(check_array("points", points, (*distances.shape[:-1], 2)))
    return jnp.concatenate([points - distances[..., :2], points + distances[..., 2:]], axis=-1)


def cell_index(
    boxes: Array, *, grid_size: tuple[int, int], image_size: tuple[float, float]
) -> tuple[Array, Array]:
    """Returns the cell of a grid over the image that contains the centre of each box.

    Args:
      boxes: f32[..., 4], xyxy, pixels.
      grid_size: (rows, columns).
      image_size: (height, width), pixels.
    Returns:
      (rows i32[...], columns i32[...]). A centre on the border of two cells belongs to the later
      one. A centre on the right or bottom border of the image, or outside it, belongs to the
      nearest cell.
    Raises:
      ValueError: a size is not positive.
    """
    centre, _ = _centre_and_size("boxes", boxes)
    position = centre / _like(centre, _cell_size(grid_size, image_size))
    cell = _cell(position, grid_size).astype(jnp.int32)
    return cell[..., 1], cell[..., 0]


def encode_yolov1(
    boxes: Array, *, grid_size: tuple[int, int], image_size: tuple[float, float]
) -> Array:
    """Encodes boxes relative to their cells (see `cell_index`), as YOLOv1 has to predict them.

    Args:
      boxes: f32[..., 4], xyxy, pixels.
      grid_size: (rows, columns), (7, 7) in the paper.
      image_size: (height, width), pixels.
    Returns:
      f32[..., 4]: the centre's x and y relative to the cell, in [0, 1] for a centre in the image,
      and the square roots of width and height relative to the image; 0 for a box without area.
    Raises:
      ValueError: a size is not positive.
    Source: Redmon et al. 2016 ("You only look once"), section 2 and equation 3.
    """
    centre, size = _centre_and_size("boxes", boxes)
    position = centre / _like(centre, _cell_size(grid_size, image_size))
    valid = _has_area(size)
    offset = jnp.where(valid, position - _cell(position, grid_size), 0)
    part = jnp.where(valid, size / _like(size, image_size[::-1]), 1)
    return jnp.concatenate([offset, jnp.where(valid, jnp.sqrt(part), 0)], axis=-1)


def decode_yolov1(coordinates: Array, *, image_size: tuple[float, float]) -> Array:
    """Decodes the boxes that YOLOv1 predicts on a grid, as the inverse of `encode_yolov1`.

    Args:
      coordinates: f32[H, W, B, 4]: for each of B boxes of each cell, the centre's x and y relative
        to the cell, and the square roots of width and height relative to the image.
      image_size: (height, width), pixels.
    Returns:
      f32[H, W, B, 4], xyxy, pixels.
    Raises:
      ValueError: a size is not positive.
    Source: Redmon et al. 2016 ("You only look once"), section 2 and equation 3.
    """
    x = at_least_float32(check_array("coordinates", coordinates, ("H", "W", "B", 4)))
    position = x[..., :2] + _cells(x)
    centre = position * _like(position, _cell_size(x.shape[:2], image_size))
    return _corners(centre, x[..., 2:] ** 2 * _like(position, image_size[::-1]))


def encode_yolo(
    boxes: Array,
    anchors: Array,
    rows: Array,
    columns: Array,
    *,
    stride: float,
    constrained: bool = True,
) -> Array:
    """Encodes boxes for given cells and anchors, as YOLOv2 and YOLOv3 have to predict them.

    For a box with centre (bx, by) and size (bw, bh) in the cell (cx, cy), and an anchor of size
    (pw, ph): sigmoid(tx) = bx / stride - cx, sigmoid(ty) = by / stride - cy, tw = log(bw / pw),
    th = log(bh / ph). The position is the target for the sigmoid, not for its argument, which would
    be infinite on the border of a cell. If it is not constrained to the cell, as before YOLOv2's
    "location prediction", tx = (bx - (cx + 1/2) stride) / pw and
    ty = (by - (cy + 1/2) stride) / ph.

    Args:
      boxes: f32[..., 4], xyxy, pixels.
      anchors: f32[..., 2], (width, height), pixels, as many as boxes.
      rows: i32[...], cy of the cells, as from `cell_index`.
      columns: i32[...], cx of the cells.
      stride: side of a cell, pixels.
      constrained: whether a centre is constrained to its cell.
    Returns:
      f32[..., 4], (sigmoid(tx), sigmoid(ty), tw, th) with the first two clipped to [0, 1], or
      (tx, ty, tw, th) if not constrained; 0 if the box or the anchor has no area.
    Raises:
      ValueError: stride is not positive.
    Source: Redmon and Farhadi 2017 ("YOLO9000"), figure 3, and section 2 for both forms; 2018
      ("YOLOv3"), section 2.1. (The paper's unconstrained formula has the wrong sign; this is the
      formula of the region proposal networks that it cites.)
    """
    check_range("stride", stride, more_than=0)
    centre, size = _centre_and_size("boxes", boxes)
    leading = centre.shape[:-1]
    anchors = at_least_float32(check_array("anchors", anchors, (*leading, 2)))
    rows = check_array("rows", rows, leading, "int")
    columns = check_array("columns", columns, leading, "int")
    valid = _has_area(size) & _has_area(anchors)
    cell, divisor = jnp.stack([columns, rows], axis=-1), jnp.where(valid, anchors, 1)
    if constrained:
        offset = jnp.clip(centre / stride - cell, 0, 1)
    else:
        offset = (centre - (cell + 0.5) * stride) / divisor
    scale = jnp.where(valid, size, 1) / divisor
    return jnp.concatenate([jnp.where(valid, offset, 0), jnp.log(scale)], axis=-1)


def decode_yolo(
    logits: Array,
    anchors: Array,
    *,
    stride: float,
    constrained: bool = True,
    scale_x_y: float = 1.0,
    squared: bool = False,
    activated: bool = False,
    max_log_scale: float = MAX_YOLO_LOG_SCALE,
) -> Array:
    """Decodes the boxes that YOLOv2 to YOLOv4 predict on a grid.

    For the cell (cx, cy) and an anchor of size (pw, ph): bx = (sigmoid(tx) + cx) stride,
    by = (sigmoid(ty) + cy) stride, bw = pw exp(tw), bh = ph exp(th). If the centre is not
    constrained to the cell, bx = (cx + 1/2) stride + pw tx and by = (cy + 1/2) stride + ph ty.
    YOLOv4 stretches the cell around its middle, so that its borders are within reach:
    s sigmoid(t) - (s - 1) / 2 in place of sigmoid(t). Scaled-YOLOv4 limits the size:
    bw = pw (2 sigmoid(tw))^2 and bh likewise.

    Args:
      logits: f32[H, W, A, 4], (tx, ty, tw, th) for each cell and anchor.
      anchors: f32[A, 2], (width, height), pixels.
      stride: side of a cell, pixels.
      constrained: whether a centre is constrained to its cell.
      scale_x_y: s, for centres that are constrained.
      squared: whether sizes are those of Scaled-YOLOv4.
      activated: whether `logits` are the sigmoids already, for sizes only if `squared`.
      max_log_scale: upper limit of tw and th, unless `squared`. Above it the gradient is 0.
    Returns:
      f32[H, W, A, 4], xyxy, pixels.
    Raises:
      ValueError: stride or scale_x_y is not positive.
    Source: as for `encode_yolo`; Bochkovskiy et al. 2020 ("YOLOv4"), section 3.4, "eliminate grid
      sensitivity"; Wang et al. 2021 ("Scaled-YOLOv4").
    """
    check_range("stride", stride, more_than=0)
    check_range("scale_x_y", scale_x_y, more_than=0)
    x = at_least_float32(check_array("logits", logits, ("H", "W", "A", 4)))
    anchors = at_least_float32(check_array("anchors", anchors, (x.shape[2], 2)))
    sigmoid = (lambda x: x) if activated else jax.nn.sigmoid
    if constrained:
        place = scale_x_y * sigmoid(x[..., :2]) - (scale_x_y - 1) / 2
        centre = (place + _cells(x)) * stride
    else:
        centre = (_cells(x) + 0.5) * stride + x[..., :2] * anchors[None, None]
    if squared:
        factor = jnp.square(2 * sigmoid(x[..., 2:]))
    else:
        factor = jnp.exp(jnp.minimum(x[..., 2:], max_log_scale))
    return _corners(centre, factor * anchors[None, None])


def _centre_and_size(
    name: str, boxes: Array, leading: tuple[int, ...] | None = None
) -> tuple[Array, Array]:
    """Returns the centre and the size of boxes, both [..., 2] with x before y."""
    shape = ("...", 4) if leading is None else (*leading, 4)
    boxes = at_least_float32(check_array(name, boxes, shape))
    both = box_convert(boxes, "xyxy", "cxcywh")
    return both[..., :2], both[..., 2:]


def _corners(centre: Array, size: Array) -> Array:
    return box_convert(jnp.concatenate([centre, size], axis=-1), "cxcywh", "xyxy")


def _has_area(size: Array) -> Array:
    """Returns whether boxes of a size have an area: [..., 2] -> [..., 1]."""
    return (size > _LEAST_SIDE).all(axis=-1, keepdims=True)


def _like(x: Array, values: Sequence[float]) -> Array:
    """Repeats the values of the last axis along the leading axes of x."""
    return jnp.broadcast_to(jnp.asarray(values, x.dtype), x.shape)


def _weights_like(deltas: Array, weights: Sequence[float]) -> Array:
    check_positive("weights", weights, 4)
    return _like(deltas, weights)


def _cell_size(grid_size: Sequence[int], image_size: Sequence[float]) -> tuple[float, float]:
    """Returns the (width, height) of a cell."""
    check_positive("grid_size", grid_size, 2)
    check_positive("image_size", image_size, 2)
    return image_size[1] / grid_size[1], image_size[0] / grid_size[0]


def _cell(position: Array, grid_size: Sequence[int]) -> Array:
    """Returns (column, row), as floats, of positions (x, y) in units of a cell."""
    last = _like(position, grid_size[::-1]) - 1
    return jnp.clip(jnp.floor(position), 0, last)


def _cells(x: Array) -> Array:
    """Returns (column, row) of each cell of a grid [H, W, ...], as [H, W, 1, 2]."""
    rows, columns = (jnp.arange(n, dtype=x.dtype) for n in x.shape[:2])
    return jnp.stack(jnp.meshgrid(columns, rows), axis=-1)[:, :, None]
