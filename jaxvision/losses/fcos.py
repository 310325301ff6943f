"""The loss of FCOS."""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxvision.core import Terms, at_least_float32, check_array, check_choice, check_range
from jaxvision.losses.classification import sigmoid_focal_loss
from jaxvision.losses.detection import (
    PER,
    check_boxes,
    check_labels,
    class_targets,
    generalized_iou_loss,
    normalized_terms,
    of_match,
)
from jaxvision.losses.elements import sigmoid_cross_entropy
from jaxvision.losses.reduction import sum_counted
from jaxvision.ops import decode_distances, encode_distances, match_points


def fcos_loss(
    logits: Array,
    distances: Array,
    centerness: Array,
    points: Array,
    sides: Array,
    boxes: Array,
    labels: Array,
    box_mask: Array,
    *,
    radius: float = 1.5,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    box_weight: float = 1.0,
    centerness_weight: float = 1.0,
    per: str = "batch",
) -> Terms:
    """Computes the loss of FCOS: focal loss of all points, GIoU loss and centre-ness of positives.

    A point is positive if it belongs to an object (see `match_points`). Let N be the number of
    positives, at least 1, and (l, t, r, b) the distances of a positive from the sides of its
    object. The terms are

    - "classification": 1 / N sum over all points of the focal loss of K sigmoids
    - "box": box_weight / N sum over positives of 1 - GIoU of the predicted box and the object
    - "centerness": centerness_weight / N sum over positives of BCE(x, c), with
      c = sqrt(min(l, r) / max(l, r) min(t, b) / max(t, b))

    Args:
      logits: f32[N, K], one for each class, without background.
      distances: f32[N, 4], (left, top, right, bottom), at least 0, in units of a point's side.
      centerness: f32[N], logits.
      points: f32[N, 2], (x, y), pixels.
      sides: f32[N]: the nominal stride of each point's map, pixels.
      boxes: f32[G, 4], xyxy, pixels. Boxes without area are ignored.
      labels: i32[G], from 0 to K - 1. Any other label gives NaN if its object is matched.
      box_mask: bool[G], False for padding.
      radius: of the sampling around the centres of objects, in sides.
      alpha: see `sigmoid_focal_loss`.
      gamma: likewise.
      box_weight: weight of the boxes.
      centerness_weight: weight of the centre-ness.
      per: "batch" divides by the positives of the batch, as torchvision does; "image" by those of
        each image, and takes the mean over images.
    Returns:
      {"classification", "box", "centerness"}: (total, positives) for each, or (total, 1) per image,
      f32[].
    Raises:
      ValueError: an option is out of range or unknown, or G is 0.
    Source: Tian et al. 2019 ("FCOS"), equations 2 and 3; GIoU and the sampling around centres are
      those of its later version.
    """
    check_range("box_weight", box_weight, least=0)
    check_range("centerness_weight", centerness_weight, least=0)
    check_choice("per", per, PER)
    logits = at_least_float32(check_array("logits", logits, ("N", "K")))
    count = len(logits)
    distances = at_least_float32(check_array("distances", distances, (count, 4)))
    centerness = at_least_float32(check_array("centerness", centerness, (count,)))
    points = at_least_float32(check_array("points", points, (count, 2)))
    sides = at_least_float32(check_array("sides", sides, (count,)))
    boxes, objects = check_boxes(boxes, box_mask)
    labels = check_labels(labels, objects.shape, logits.shape[1])

    arrays = logits, distances, centerness, points, sides, boxes, labels, objects
    totals, positives = _totals(*arrays, radius=radius, alpha=alpha, gamma=gamma)
    factors = {"classification": 1.0, "box": box_weight, "centerness": centerness_weight}
    totals = {name: factors[name] * total for name, total in totals.items()}
    return normalized_terms(totals, positives, per)


# Compiled as one program, so that an eager call compiles once, not once for each operation.
@functools.partial(jax.jit, static_argnames=("radius", "alpha", "gamma"))
def _totals(
    logits: Array,
    distances: Array,
    centerness: Array,
    points: Array,
    sides: Array,
    boxes: Array,
    labels: Array,
    objects: Array,
    *,
    radius: float,
    alpha: float | None,
    gamma: float,
) -> tuple[dict[str, Array], Array]:
    """The sums of an image, and how many of its points are positive."""
    points, sides = lax.stop_gradient((points, sides))
    matches = match_points(points, sides, boxes, objects, radius=radius)
    positive = matches >= 0
    targets = class_targets(labels, matches, logits.shape[1], logits.dtype)
    classification, _ = sigmoid_focal_loss(logits, targets, alpha=alpha, gamma=gamma)

    def box_loss(distances: Array, sides: Array, points: Array, target: Array) -> Array:
        predicted = decode_distances(distances * sides[:, None], points)
        return generalized_iou_loss(predicted, target)

    matched = of_match(boxes, matches)
    box, _ = sum_counted(box_loss, positive, distances, sides, points, matched)
    centers = jnp.where(positive, _centerness(encode_distances(matched, points)), 0)
    center, _ = sum_counted(sigmoid_cross_entropy, positive, centerness, centers)
    return {"classification": classification, "box": box, "centerness": center}, positive.sum()


def _centerness(distances: Array) -> Array:
    """f32[N, 4] -> f32[N]: how near a point is to the centre of its box; 1 in the centre.

    Of a point outside its box it is meaningless.
    """
    left, top, right, bottom = jnp.moveaxis(distances, -1, 0)

    def ratio(a: Array, b: Array) -> Array:
        most = jnp.maximum(a, b)
        return jnp.minimum(a, b) / jnp.where(most > 0, most, 1)

    return jnp.sqrt(jnp.maximum(ratio(left, right) * ratio(top, bottom), 0))
