"""The loss of YOLOv1. One predictor is responsible for each object."""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxvision.core import (
    Terms,
    at_least_float32,
    check_array,
    check_range,
)
from jaxvision.losses.detection import check_boxes, check_labels, image_terms, of_match
from jaxvision.losses.elements import one_hot
from jaxvision.losses.reduction import sum_counted
from jaxvision.ops import (
    assign_to_grid,
    cell_index,
    decode_yolov1,
    elementwise_box_iou,
    encode_yolov1,
    yolov1_responsible,
)

_LINEAR_BELOW = 1e-6
"""Below this size, relative to the image, a line replaces the root, whose slope is unbounded."""


def yolov1_loss(
    coordinates: Array,
    confidence: Array,
    class_scores: Array,
    boxes: Array,
    labels: Array,
    box_mask: Array,
    *,
    image_size: tuple[float, float],
    lambda_coord: float = 5.0,
    lambda_noobj: float = 0.5,
    predicts_roots: bool = True,
) -> Terms:
    """Computes the loss of YOLOv1, a sum of squares.

    The sums are over cells i and their predictors j. 1_ij is 1 for the predictor that is
    responsible for an object in its cell, 1_i is 1 for a cell with an object, and hats mark the
    targets:

    - "xy": lambda_coord sum 1_ij ((x - x^)^2 + (y - y^)^2)
    - "wh": lambda_coord sum 1_ij ((sqrt w - sqrt w^)^2 + (sqrt h - sqrt h^)^2)
    - "objectness": sum 1_ij (C - C^)^2, C^ the IoU of the decoded box with the object's
    - "no_objectness": lambda_noobj sum (1 - 1_ij) C^2
    - "class": sum 1_i sum_c (p(c) - p^(c))^2, with 1_ij instead of 1_i if there are scores for each
      box

    The sums are not divided by anything, and the mean is taken over images. A cell has one object:
    if the centres of several lie in it, the last of them. Squares have no factor 1/2, as in the
    paper; Darknet's gradients are half of these.

    Args:
      coordinates: f32[H, W, B, 4]: x and y relative to the cell, then width and height relative to
        the image or their square roots (see predicts_roots).
      confidence: f32[H, W, B], C.
      class_scores: p, f32[H, W, C] for each cell or f32[H, W, B, C] for each box.
      boxes: f32[G, 4], xyxy, pixels. Boxes without area are ignored.
      labels: i32[G], from 0 to C - 1. Any other label gives NaN where a predictor is assigned it.
      box_mask: bool[G], False for padding.
      image_size: (height, width), pixels.
      lambda_coord: weight of the coordinates.
      lambda_noobj: weight of the confidence where there is no object.
      predicts_roots: whether the network predicts the square roots of width and height. If not,
        the loss uses sign(w) sqrt(|w|) as the root, and w / 1e-3 where |w| < 1e-6. So the gradient
        is finite at 0, and training increases a negative width. It is decoded as 0.
    Returns:
      {"xy", "wh", "objectness", "no_objectness", "class"}: (total, 1) each, f32[].
    Raises:
      ValueError: a size is not positive, or a weight is negative.
    Source: Redmon et al. 2016 ("You only look once"), equation 3.
    """
    check_range("lambda_coord", lambda_coord, least=0)
    check_range("lambda_noobj", lambda_noobj, least=0)
    x = at_least_float32(check_array("coordinates", coordinates, ("H", "W", "B", 4)))
    confidence = at_least_float32(check_array("confidence", confidence, x.shape[:3]))
    score_axes = x.shape[: 2 if jnp.ndim(class_scores) == 3 else 3]
    scores = at_least_float32(check_array("class_scores", class_scores, (*score_axes, "C")))
    check_range("the number of boxes of a cell", x.shape[2], least=1)
    check_range("the number of classes", scores.shape[-1], least=1)
    boxes, objects = check_boxes(boxes, box_mask)
    labels = check_labels(labels, objects.shape, scores.shape[-1])

    totals = _yolov1_totals(
        x,
        confidence,
        scores,
        boxes,
        labels,
        objects,
        image_size=tuple(image_size),
        predicts_roots=predicts_roots,
    )
    weights = {"xy": lambda_coord, "wh": lambda_coord, "no_objectness": lambda_noobj}
    return image_terms({name: weights.get(name, 1) * total for name, total in totals.items()})


# Compiled as a whole, so that an eager call compiles once.
@functools.partial(jax.jit, static_argnames=("image_size", "predicts_roots"))
def _yolov1_totals(
    x: Array,
    confidence: Array,
    scores: Array,
    boxes: Array,
    labels: Array,
    objects: Array,
    *,
    image_size: tuple[float, float],
    predicts_roots: bool,
) -> dict[str, Array]:
    position, size = x[..., :2], x[..., 2:]
    root = size if predicts_roots else _root(size)
    decodable = root if predicts_roots else jnp.maximum(root, 0)
    predicted = decode_yolov1(jnp.concatenate([position, decodable], -1), image_size=image_size)
    predicted = lax.stop_gradient(predicted)

    *grid_size, num_boxes = x.shape[:3]
    grid = {"grid_size": grid_size, "image_size": image_size}
    rows, columns = cell_index(boxes, **grid)
    matches = assign_to_grid(
        rows, columns, jnp.zeros_like(rows), objects, grid_size=grid_size, num_anchors=1
    )[..., 0]
    occupied = matches >= 0
    truth = of_match(boxes, matches)
    chosen = jax.nn.one_hot(yolov1_responsible(predicted, truth), num_boxes, dtype=bool)
    responsible = occupied[..., None] & chosen

    def of_each_box(y: Array) -> Array:
        return jnp.broadcast_to(y[:, :, None], (*x.shape[:3], *y.shape[2:]))

    target = of_each_box(of_match(encode_yolov1(boxes, **grid), matches))
    overlap = elementwise_box_iou(predicted, of_each_box(truth))
    label = one_hot(of_match(labels, matches), scores.shape[-1], scores.dtype)
    xy, _ = sum_counted(_square, responsible, position, target[..., :2])
    wh, _ = sum_counted(_square, responsible, root, target[..., 2:])
    objectness, _ = sum_counted(_square, responsible, confidence, overlap)
    no_objectness, _ = sum_counted(jnp.square, ~responsible, confidence)
    if scores.ndim == 3:
        classes, _ = sum_counted(_square, occupied, scores, label)
    else:
        classes, _ = sum_counted(_square, responsible, scores, of_each_box(label))
    return {
        "xy": xy,
        "wh": wh,
        "objectness": objectness,
        "no_objectness": no_objectness,
        "class": classes,
    }


def _square(x: Array, target: Array) -> Array:
    return (x - target) ** 2


def _root(x: Array) -> Array:
    """Returns sign(x) sqrt(|x|), made linear near 0."""
    near = jnp.abs(x) < _LINEAR_BELOW
    root = jnp.sign(x) * jnp.sqrt(jnp.where(near, 1, jnp.abs(x)))
    return jnp.where(near, x / _LINEAR_BELOW**0.5, root)
