"""The loss of YOLO9000, which is trained with images with boxes and images with labels alone."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxvision.core import Terms, at_least_float32, check_array, check_choice, check_range
from jaxvision.losses.detection import check_boxes, check_labels, image_terms
from jaxvision.losses.reduction import sum_counted
from jaxvision.losses.yolo import yolov2_loss
from jaxvision.ops import (
    WordTree,
    assign_to_grid,
    best_anchor,
    box_convert,
    cell_index,
    word_tree_log_probability,
)

LABEL_OBJECTNESS = ("paper", "darknet", "none")
"""How an image with a label alone trains the objectness, see `yolo9000_loss`."""

_LEAST_OBJECTNESS = 0.3


def yolo9000_loss(
    logits: Array,
    boxes: Array,
    labels: Array,
    box_mask: Array,
    anchors: Array,
    step: Array,
    labels_only: Array,
    *,
    tree: WordTree,
    stride: float,
    label_objectness: str = "paper",
    label_start: int = 0,
    object_weight: float = 5.0,
    no_object_weight: float = 1.0,
    coordinate_weight: float = 1.0,
    class_weight: float = 1.0,
    ignore_threshold: float = 0.6,
    prior_weight: float = 0.01,
    prior_steps: int = 200,
    constrained: bool = True,
) -> Terms:
    """Computes the loss of YOLO9000, whose classes are the nodes of a tree.

    A batch may have images with boxes and images with labels alone, in any proportion.

    An image with boxes has the terms of `jaxvision.losses.yolov2_loss`, but the class loss is that
    of `jaxvision.losses.word_tree_cross_entropy`: the label may be any node, and the groups of
    siblings off its path and below it have no loss.

    In an image with a label alone, `labels_only`, the first object of `box_mask` counts; its box
    does not. The prediction with the highest objectness times probability of the label gets the
    class loss. There is no other loss of classes or boxes. With s(to) the objectness,
    `label_objectness` is one of

    - "paper": the prediction is trained for an objectness of at least 0.3, because its box is
      assumed to overlap the object by that. The term "objectness" gets
      object_weight / 2 max(0, 0.3 - s(to))^2
    - "darknet": all other predictions are trained for no objectness. The term "no_objectness" gets
      no_object_weight / 2 s(to)^2 of each
    - "none": the objectness is not trained, as in AlexeyAB's Darknet

    Args:
      logits: f32[H, W, A, 5 + N]: (tx, ty, tw, th, to, nodes).
      boxes: f32[G, 4], xyxy, pixels, within the image. Boxes without area are ignored, except in
        images with labels alone.
      labels: i32[G], nodes. One outside 0..N - 1 gives NaN where a predictor is assigned it.
      box_mask: bool[G], False for padding.
      anchors: f32[A, 2], (width, height), pixels.
      step: i32[], the number of updates of the network before this one.
      labels_only: bool[], True for an image whose objects have labels but no boxes.
      tree: of N nodes.
      stride: side of a cell, pixels.
      label_objectness: see above.
      label_start: for how many updates images with labels alone have no loss, so that the network
        can tell first where objects are.
      object_weight: as in `jaxvision.losses.yolov2_loss`, as all that follow.
      no_object_weight: weight of the objectness of negative predictors.
      coordinate_weight: weight of the boxes.
      class_weight: weight of the classes.
      ignore_threshold: a predictor whose IoU with an object is above this is not a negative.
      prior_weight: weight of the boxes of predictors that are not responsible.
      prior_steps: for how many updates those boxes are trained.
      constrained: whether a centre is predicted within its cell.
    Returns:
      {"xy", "wh", "objectness", "no_objectness", "class", "prior"}: (total, 1) each, f32[].
    Raises:
      ValueError: an option is out of range.
    Source: Redmon and Farhadi 2017 ("YOLO9000"), section 4, "Joint classification and detection";
      Darknet's region layer.
    """
    check_choice("label_objectness", label_objectness, LABEL_OBJECTNESS)
    check_range("label_start", label_start, least=0)
    check_range("class_weight", class_weight, least=0)
    shape = ("H", "W", "A", 5 + len(tree))
    logits = at_least_float32(check_array("logits", logits, shape))
    anchors = at_least_float32(check_array("anchors", anchors, (logits.shape[2], 2)))
    boxes = check_array("boxes", boxes, ("G", 4))
    box_mask = check_array("box_mask", box_mask, boxes.shape[:1], "bool")
    labels = check_labels(labels, box_mask.shape, len(tree))
    labels_only = check_array("labels_only", labels_only, (), "bool")
    # Of a single class, whose softmax cross entropy is 0.
    located = yolov2_loss(
        logits[..., :6],
        boxes,
        jnp.zeros_like(labels),
        box_mask & ~labels_only,
        anchors,
        step,
        stride=stride,
        object_weight=object_weight,
        no_object_weight=no_object_weight,
        coordinate_weight=coordinate_weight,
        ignore_threshold=ignore_threshold,
        prior_weight=prior_weight,
        prior_steps=prior_steps,
        constrained=constrained,
    )
    totals = {name: jnp.where(labels_only, 0, total) for name, (total, _) in located.items()}
    objects, picked = _responsible(logits, boxes, box_mask & ~labels_only, anchors, stride)
    begun = labels_only & (step >= label_start)
    best, counted = _best_of_label(logits, labels, box_mask & begun, tree)
    # The predictions that have a class loss, one for each object, and that of the only label.
    nodes = jnp.concatenate([picked, logits[best][None]])[:, 5:]
    targets = jnp.append(labels, labels[jnp.argmax(box_mask)])

    def loss(x: Array, label: Array) -> Array:
        return -word_tree_log_probability(x, label, tree=tree)

    of_classes, _ = sum_counted(loss, jnp.append(objects, counted), nodes, targets)
    totals["class"] = class_weight * of_classes

    objectness = jax.nn.sigmoid(logits[..., 4])
    if label_objectness == "paper":
        lacking = jnp.maximum(_LEAST_OBJECTNESS - objectness[best], 0)
        totals["objectness"] += jnp.where(counted, object_weight / 2 * lacking**2, 0)
    if label_objectness == "darknet":
        others = (objectness.at[best].set(0) ** 2).sum()
        totals["no_objectness"] += jnp.where(counted, no_object_weight / 2 * others, 0)
    return image_terms(totals)


def _responsible(
    logits: Array, boxes: Array, box_mask: Array, anchors: Array, stride: float
) -> tuple[Array, Array]:
    """Which objects have a prediction of their own, bool[G], and that prediction, f32[G, 5 + N]."""
    boxes, objects = check_boxes(boxes, box_mask)
    height, width, num_anchors = logits.shape[:3]
    rows, columns = cell_index(
        boxes, grid_size=(height, width), image_size=(height * stride, width * stride)
    )
    best, _ = best_anchor(box_convert(boxes, "xyxy", "xywh")[:, 2:], anchors)
    matches = assign_to_grid(
        rows, columns, best, objects, grid_size=(height, width), num_anchors=num_anchors
    )
    own = matches[rows, columns, best] == jnp.arange(len(boxes))
    return objects & own, logits[rows, columns, best]


def _best_of_label(
    logits: Array, labels: Array, unlocated: Array, tree: WordTree
) -> tuple[tuple[Any, ...], Array]:
    """Where the objectness times the probability of the first label is highest.

    Returns:
      ((row, column, anchor), whether there is a label bool[]).
    """
    logits, counted = lax.stop_gradient(logits), unlocated.any()
    label = jnp.where(counted, labels[jnp.argmax(unlocated)], 0)
    of_boxes = logits.reshape(-1, logits.shape[-1])
    of_label = jax.vmap(lambda x: word_tree_log_probability(x, label, tree=tree))(of_boxes[:, 5:])
    best = jnp.argmax(jax.nn.log_sigmoid(of_boxes[:, 4]) + of_label)
    return jnp.unravel_index(best, logits.shape[:3]), counted
