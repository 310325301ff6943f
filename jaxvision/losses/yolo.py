"""Losses of YOLOv2 and YOLOv3. One predictor is responsible for each object."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxvision.core import (
    InputError,
    OptionError,
    Terms,
    at_least_float32,
    check_array,
    check_range,
)
from jaxvision.losses.detection import check_boxes, check_labels, image_terms, of_match
from jaxvision.losses.elements import one_hot, sigmoid_cross_entropy, softmax_cross_entropy
from jaxvision.losses.reduction import sum_counted
from jaxvision.ops import (
    IGNORE,
    assign_to_grid,
    best_anchor,
    box_area,
    box_convert,
    box_iou,
    cell_index,
    decode_yolo,
    elementwise_box_iou,
    encode_yolo,
)

BoxLoss = Callable[[Array, Array, Array, Array], Array]
"""A loss of the boxes of one map: (t, target_t, decoded, target_box), all f32[H, W, A, 4] ->
f32[H, W, A], see `yolov3_loss`."""

Match = Callable[[Sequence[Array], Sequence[Array], Sequence[float], Array, Array], Sequence[Array]]
"""A rule that matches predictions with objects: (decoded, anchors, strides, boxes, box_mask) ->
i32[H, W, A] for each map, see `yolov3_loss`."""


def yolov2_loss(
    logits: Array,
    boxes: Array,
    labels: Array,
    box_mask: Array,
    anchors: Array,
    step: Array,
    *,
    stride: float,
    object_weight: float = 5.0,
    no_object_weight: float = 1.0,
    coordinate_weight: float = 1.0,
    class_weight: float = 1.0,
    ignore_threshold: float = 0.6,
    prior_weight: float = 0.01,
    prior_steps: int = 200,
    constrained: bool = True,
) -> Terms:
    """Computes the loss of YOLOv2, which is that of Darknet's region layer.

    The paper does not state this loss. The predictor that is responsible for an object is in the
    cell of the object's centre, and its anchor has the highest IoU with the shape of the object. If
    several objects share a predictor, it is responsible for the last one. The sums are over the
    predictors, with s the sigmoid, hats for the targets and
    b = 2 - (object's area) / (image's area):

    - "xy", responsible: coordinate_weight b / 2 ((s(tx) - x^)^2 + (s(ty) - y^)^2)
    - "wh", responsible: coordinate_weight b / 2 ((tw - tw^)^2 + (th - th^)^2)
    - "objectness", responsible: object_weight / 2 (s(to) - IoU)^2, with the IoU of the decoded box
      and the object's
    - "no_objectness", not responsible and with no IoU above ignore_threshold with any object:
      no_object_weight / 2 s(to)^2
    - "class", responsible: class_weight times the softmax cross entropy
    - "prior", not responsible, while step < prior_steps: prior_weight / 2 times
      (s(tx) - 1/2)^2 + (s(ty) - 1/2)^2 + tw^2 + th^2, which pulls the boxes towards their anchors

    If the centres are not constrained to their cells (see `jaxvision.ops.decode_yolo`), tx and ty
    replace s(tx) and s(ty), and 0 replaces the 1/2 in the prior.

    The sums are not divided by anything, and the mean is taken over images. Squares have a factor
    1/2, so that the gradients equal Darknet's.

    Args:
      logits: f32[H, W, A, 5 + C]: (tx, ty, tw, th, to, classes).
      boxes: f32[G, 4], xyxy, pixels, within the image. Boxes without area are ignored.
      labels: i32[G], from 0 to C - 1. Any other label gives NaN where a predictor is assigned it.
      box_mask: bool[G], False for padding.
      anchors: f32[A, 2], (width, height), pixels.
      step: i32[], the number of updates of the network before this one.
      stride: side of a cell, pixels. The image is H stride high and W stride wide.
      object_weight: weight of the objectness of responsible predictors.
      no_object_weight: weight of the objectness of negative predictors.
      coordinate_weight: weight of the boxes.
      class_weight: weight of the classes.
      ignore_threshold: a predictor whose IoU with an object is above this is not a negative.
      prior_weight: weight of the boxes of predictors that are not responsible.
      prior_steps: for how many updates those boxes are trained. Darknet trains them for the first
        12,800 images, which are 200 updates of 64 images.
      constrained: whether a centre is predicted within its cell. The paper calls this "direct
        location prediction".
    Returns:
      {"xy", "wh", "objectness", "no_objectness", "class", "prior"}: (total, 1) each, f32[].
    Raises:
      ValueError: an option is out of range, or there are no classes.
    Source: Redmon and Farhadi 2017 ("YOLO9000"), section 2; Darknet's region layer.
    """
    for name, weight in (
        ("object_weight", object_weight),
        ("no_object_weight", no_object_weight),
        ("coordinate_weight", coordinate_weight),
        ("class_weight", class_weight),
        ("prior_weight", prior_weight),
    ):
        check_range(name, weight, least=0)
    check_range("ignore_threshold", ignore_threshold, least=0, most=1)
    check_range("stride", stride, more_than=0)
    logits, anchors = _check_map(logits, anchors)
    boxes, objects = check_boxes(boxes, box_mask)
    labels = check_labels(labels, objects.shape, logits.shape[-1] - 5)
    step = check_array("step", step, (), "int")

    goal = _goal(
        logits,
        anchors,
        _best_anchor(boxes, anchors),
        boxes,
        labels,
        objects,
        stride=stride,
        ignore_threshold=ignore_threshold,
        constrained=constrained,
    )
    totals = _yolov2_totals(logits, goal, constrained=constrained)
    weights = {
        "xy": coordinate_weight,
        "wh": coordinate_weight,
        "objectness": object_weight,
        "no_objectness": no_object_weight,
        "class": class_weight,
        "prior": jnp.where(step < prior_steps, prior_weight, 0),
    }
    return image_terms({name: weights[name] * total for name, total in totals.items()})


def yolov3_loss(
    logits: Sequence[Array],
    boxes: Array,
    labels: Array,
    box_mask: Array,
    anchors: Sequence[Array],
    *,
    strides: Sequence[float],
    ignore_threshold: float = 0.5,
    box_loss: BoxLoss | None = None,
    match: Match | None = None,
) -> Terms:
    """Computes the loss of YOLOv3, over several maps.

    The predictor that is responsible for an object has, of the anchors of all maps, the one with
    the highest IoU with the shape of the object; it is in the cell of the object's centre on the
    map of that anchor. If several objects share a predictor, it is responsible for the last one.
    The sums are over the predictors of all maps, with BCE(t, y) the binary cross entropy
    -y log s(t) - (1 - y) log(1 - s(t)), s the sigmoid, hats for the targets and
    b = 2 - (object's area) / (image's area):

    - "xy", responsible: b (BCE(tx, x^) + BCE(ty, y^))
    - "wh", responsible: b / 2 ((tw - tw^)^2 + (th - th^)^2)
    - "objectness", responsible: BCE(to, 1)
    - "no_objectness", not responsible and with no IoU above ignore_threshold with any object:
      BCE(to, 0)
    - "class", responsible: sum_c BCE(tc, 1 for the object's class, else 0). If several objects
      share the predictor, the target is 1 for the class of each, as in Darknet

    This differs from YOLOv2 in the following. The anchors of all maps compete. The gradient with
    respect to tx and to is s(t) - target, without the slope of the sigmoid. The target of the
    objectness is 1, not the IoU. Classes do not exclude each other. No term has a weight of its
    own, and no prior pulls boxes towards their anchors.

    The sums are not divided by anything, and the mean is taken over images. The gradients equal
    Darknet's; the paper states the gradient of the coordinates, as target minus prediction. The
    minimum of "xy" is the entropy of its targets, not 0. As in Darknet, ignore_threshold is
    compared with the IoU of the decoded box; the paper compares the prior.

    `box_loss` is another loss of the boxes. It is called once for each map with four arrays
    f32[H, W, A, 4]: `t`, the raw (tx, ty, tw, th); `target_t`, what these should be,
    (x^, y^, tw^, th^), where x^ and y^ are in 0..1 and are compared with the sigmoid of tx and ty;
    `decoded`, the predicted boxes; and `target_box`, the boxes of the objects, both xyxy in pixels.
    It returns the loss of each prediction, f32[H, W, A]. No gradient flows to the targets. Where no
    object is matched, all four are 0, and what the function returns does not count. The sum over
    the responsible predictions is the term "box", which replaces "xy" and "wh"; it has no factor b.

    `match` is another rule that says which prediction is responsible for which object. It is called
    once with `decoded`, the predicted boxes f32[H, W, A, 4] of each map, without gradient;
    `anchors` and `strides` of each map; `boxes` f32[G, 4]; and `box_mask` bool[G], which is also
    False for boxes without area. It returns i32[H, W, A] for each map: the index of an object, -1
    for a negative (`jaxvision.ops.NEGATIVE`), or -2 (`jaxvision.ops.IGNORE`) for a prediction that
    is neither. A prediction that is matched with padding is a negative. Several predictions may
    have the same object, and a prediction need not be in the cell of its object's centre: then x^
    and y^ are the place in its own cell that is closest to the centre. A prediction has the class
    of its one object. `ignore_threshold` is without effect.

    Args:
      logits: f32[H_l, W_l, A_l, 5 + C] for each map: (tx, ty, tw, th, to, classes).
      boxes: f32[G, 4], xyxy, pixels, within the image. Boxes without area are ignored.
      labels: i32[G], from 0 to C - 1. Any other label gives NaN where a predictor is assigned it.
      box_mask: bool[G], False for padding.
      anchors: f32[A_l, 2] for each map, (width, height), pixels.
      strides: the side of a cell of each map, pixels. The image is H_l stride_l high.
      ignore_threshold: a predictor whose IoU with an object is above this is not a negative: 0.5 in
        the paper, 0.7 in Darknet's settings.
      box_loss: another loss of the boxes, see above; None: the terms "xy" and "wh".
      match: another rule of responsibility, see above; None: the paper's.
    Returns:
      {"xy", "wh", "objectness", "no_objectness", "class"}, or with a `box_loss` {"box",
      "objectness", "no_objectness", "class"}: (total, 1) each, f32[].
    Raises:
      AssertionError: `box_loss` or `match` returns another shape or dtype.
      ValueError: there is no map, or not one array of anchors and one stride for each map; an
        option is out of range; or there are no classes.
    Source: Redmon and Farhadi 2018 ("YOLOv3"), sections 2.1 to 2.3; Darknet's yolo layer.
    """
    check_range("ignore_threshold", ignore_threshold, least=0, most=1)
    if not logits or not len(logits) == len(anchors) == len(strides):
        raise InputError(
            f"there are {len(logits)} maps of logits, {len(anchors)} arrays of anchors and "
            f"{len(strides)} strides: give the same number of each, at least one"
        )
    for level, stride in enumerate(strides):
        check_range(f"strides[{level}]", stride, more_than=0)
    maps = [
        _check_map(*pair, f"[{level}]")
        for level, pair in enumerate(zip(logits, anchors, strict=True))
    ]
    boxes, objects = check_boxes(boxes, box_mask)
    classes = {logits.shape[-1] - 5 for logits, _ in maps}
    if len(classes) > 1:
        raise InputError(
            f"the maps have logits of {sorted(classes)} classes: give all maps the same number"
        )
    labels = check_labels(labels, objects.shape, *classes)

    if match is None:
        how = {"strides": strides, "ignore_threshold": ignore_threshold}
        goals = _goals_of_paper(maps, boxes, labels, objects, **how)
    else:
        goals = _goals_of_match(match, maps, boxes, labels, objects, strides=strides)
    totals = []
    for (logits_here, anchors_here), goal, stride in zip(maps, goals, strides, strict=True):
        of_map = _yolov3_totals(logits_here, goal)
        if box_loss is not None:
            del of_map["xy"], of_map["wh"]
            of_map["box"] = _box_total(box_loss, logits_here, anchors_here, goal, stride)
        totals.append(of_map)
    return image_terms(jax.tree.map(lambda *of_maps: sum(of_maps), *totals))


def _goals_of_paper(
    maps: Sequence[tuple[Array, Array]],
    boxes: Array,
    labels: Array,
    objects: Array,
    *,
    strides: Sequence[float],
    ignore_threshold: float,
) -> list["_Goal"]:
    """What the predictors of each map, of (logits, anchors), are trained for by YOLOv3's rule."""
    best = _best_anchor(boxes, jnp.concatenate([anchors for _, anchors in maps]))
    goals = []
    for (logits, anchors), stride in zip(maps, strides, strict=True):
        goal = _goal(
            logits,
            anchors,
            best,
            boxes,
            labels,
            objects,
            stride=stride,
            ignore_threshold=ignore_threshold,
            constrained=True,
        )
        goals.append(goal)
        best = best - len(anchors)
    return goals


def _goals_of_match(
    match: Match,
    maps: Sequence[tuple[Array, Array]],
    boxes: Array,
    labels: Array,
    objects: Array,
    *,
    strides: Sequence[float],
) -> list["_Goal"]:
    """What the predictors of each map, of (logits, anchors), are trained for by another rule."""
    decoded = [
        lax.stop_gradient(decode_yolo(logits[..., :4], anchors, stride=stride))
        for (logits, anchors), stride in zip(maps, strides, strict=True)
    ]
    anchors = [lax.stop_gradient(anchors) for _, anchors in maps]
    matches = match(decoded, anchors, tuple(strides), boxes, objects)
    if not isinstance(matches, tuple | list) or len(matches) != len(maps):
        raise OptionError(
            "match", f"match returns {matches!r}: return a list of arrays, one for each map"
        )
    goals = []
    for level, of_map in enumerate(matches):
        predicted, (logits, _) = decoded[level], maps[level]
        of_map = check_array(
            f"the result of match for map {level}", of_map, predicted.shape[:3], "int"
        )
        responsible = objects.at[of_map].get(mode="fill", fill_value=False) & (of_map >= 0)
        box = of_match(boxes, of_map)
        target = _code_in_place(box, anchors[level], strides[level])
        label = of_match(labels, of_map)
        height, width = (side * strides[level] for side in of_map.shape[:2])
        goals.append(
            _Goal(
                responsible=responsible,
                negative=~responsible & (of_map != IGNORE),
                position=target[..., :2],
                size=target[..., 2:],
                box=box,
                balance=2 - box_area(box) / (height * width),
                overlap=elementwise_box_iou(predicted, box),
                label=label,
                classes=one_hot(label, logits.shape[-1] - 5, logits.dtype),
            )
        )
    return goals


def _box_total(
    box_loss: BoxLoss, logits: Array, anchors: Array, goal: "_Goal", stride: float
) -> Array:
    """The sum of another loss of the boxes over the responsible predictors of one map."""
    t = logits[..., :4]

    def loss(*arrays: Array) -> Array:
        return check_array("the result of box_loss", box_loss(*arrays), t.shape[:3])

    total, _ = sum_counted(
        loss,
        goal.responsible,
        t,
        _code_in_place(goal.box, anchors, stride),
        decode_yolo(t, lax.stop_gradient(anchors), stride=stride),
        goal.box,
    )
    return total


def _code_in_place(boxes: Array, anchors: Array, stride: float) -> Array:
    """f32[H, W, A, 4]: what each predictor of a map has to predict for a box of its own.

    Args:
      boxes: f32[H, W, A, 4], xyxy, pixels.
      anchors: f32[A, 2].
      stride: side of a cell, pixels.
    """
    shape = boxes.shape[:3]
    rows, columns, _ = jnp.indices(shape, dtype=jnp.int32)
    sizes = jnp.broadcast_to(anchors, (*shape, 2))
    return lax.stop_gradient(encode_yolo(boxes, sizes, rows, columns, stride=stride))


# The functions below are compiled as one program each, so that an eager call compiles once, not
# once for each operation.


class _Goal(NamedTuple):
    """The targets of the predictors of one map: arrays [H, W, A, ...].

    All but the two masks are valid only where a predictor is responsible.
    """

    responsible: Array  # bool
    negative: Array  # bool
    position: Array  # f32[..., 2], of sigmoid(tx) and sigmoid(ty); of tx and ty if not constrained
    size: Array  # f32[..., 2], of tw and th
    box: Array  # f32[..., 4], xyxy, of the last object
    balance: Array  # f32, more for smaller objects
    overlap: Array  # f32, IoU of the decoded box with the object's
    label: Array  # i32, of the last object
    classes: Array  # f32[..., C], 1 for the class of each object


@functools.partial(jax.jit, static_argnames=("stride", "ignore_threshold", "constrained"))
def _goal(
    logits: Array,
    anchors: Array,
    best: Array,
    boxes: Array,
    labels: Array,
    objects: Array,
    *,
    stride: float,
    ignore_threshold: float,
    constrained: bool,
) -> _Goal:
    """Returns the targets of one map.

    `best`, i32[G], is the anchor of each object. It is out of range if it is on another map.
    """
    height, width, num_anchors = logits.shape[:3]
    image_size = height * stride, width * stride
    rows, columns = cell_index(boxes, grid_size=(height, width), image_size=image_size)
    matches = assign_to_grid(
        rows, columns, best, objects, grid_size=(height, width), num_anchors=num_anchors
    )
    responsible = matches >= 0
    how = {"stride": stride, "constrained": constrained}
    predicted = lax.stop_gradient(decode_yolo(logits[..., :4], anchors, **how))
    iou = box_iou(predicted.reshape(-1, 4), boxes).reshape(*matches.shape, -1)
    code = lax.stop_gradient(encode_yolo(boxes, anchors[best], rows, columns, **how))
    target = of_match(code, matches)
    of_object = one_hot(labels, logits.shape[-1] - 5, logits.dtype)
    anchor = jnp.where(objects & (best >= 0), best, num_anchors)
    classes = jnp.zeros_like(logits[..., 5:])
    classes = classes.at[rows, columns, anchor].add(of_object, mode="drop")
    return _Goal(
        responsible=responsible,
        negative=~responsible & (iou.max(axis=-1) <= ignore_threshold),
        position=target[..., :2],
        size=target[..., 2:],
        box=of_match(boxes, matches),
        balance=of_match(2 - box_area(boxes) / (image_size[0] * image_size[1]), matches),
        overlap=elementwise_box_iou(predicted, of_match(boxes, matches)),
        label=of_match(labels, matches),
        classes=jnp.minimum(classes, 1),
    )


@functools.partial(jax.jit, static_argnames="constrained")
def _yolov2_totals(logits: Array, goal: _Goal, *, constrained: bool) -> dict[str, Array]:
    position, size, objectness, classes = _split(logits)
    probability = jax.nn.sigmoid(objectness)

    def placed(t: Array) -> Array:
        return jax.nn.sigmoid(t) if constrained else t

    centre = placed(position) - (0.5 if constrained else 0)
    from_prior = jnp.concatenate([centre, size], axis=-1)
    sums = {
        "xy": sum_counted(
            _balanced(lambda t, target: _half_square(placed(t), target)),
            goal.responsible,
            position,
            goal.position,
            goal.balance,
        ),
        "wh": sum_counted(_balanced(_half_square), goal.responsible, size, goal.size, goal.balance),
        "objectness": sum_counted(_half_square, goal.responsible, probability, goal.overlap),
        "no_objectness": sum_counted(lambda p: p**2 / 2, goal.negative, probability),
        "class": sum_counted(softmax_cross_entropy, goal.responsible, classes, goal.label),
        "prior": sum_counted(lambda d: d**2 / 2, ~goal.responsible, from_prior),
    }
    return {name: total for name, (total, _) in sums.items()}


@jax.jit
def _yolov3_totals(logits: Array, goal: _Goal) -> dict[str, Array]:
    """Returns the unweighted terms of one map."""
    position, size, objectness, classes = _split(logits)
    sums = {
        "xy": sum_counted(
            _balanced(sigmoid_cross_entropy),
            goal.responsible,
            position,
            goal.position,
            goal.balance,
        ),
        "wh": sum_counted(_balanced(_half_square), goal.responsible, size, goal.size, goal.balance),
        "objectness": sum_counted(
            lambda t: sigmoid_cross_entropy(t, 1), goal.responsible, objectness
        ),
        "no_objectness": sum_counted(
            lambda t: sigmoid_cross_entropy(t, 0), goal.negative, objectness
        ),
        "class": sum_counted(sigmoid_cross_entropy, goal.responsible, classes, goal.classes),
    }
    return {name: total for name, (total, _) in sums.items()}


def _check_map(logits: Any, anchors: Any, which: str = "") -> tuple[Array, Array]:
    logits = at_least_float32(check_array(f"logits{which}", logits, ("H", "W", "A", "5 + C")))
    check_range("the number of classes", logits.shape[-1] - 5, least=1)
    anchors = check_array(f"anchors{which}", anchors, (logits.shape[2], 2))
    return logits, at_least_float32(anchors)


def _best_anchor(boxes: Array, anchors: Array) -> Array:
    return best_anchor(box_convert(boxes, "xyxy", "xywh")[:, 2:], anchors)[0]


def _split(logits: Array) -> tuple[Array, Array, Array, Array]:
    """Splits logits into (tx, ty), (tw, th), to and the classes."""
    return logits[..., :2], logits[..., 2:4], logits[..., 4], logits[..., 5:]


def _balanced(loss: Callable[[Array, Array], Array]) -> Callable[[Array, Array, Array], Array]:
    """Multiplies a loss of coordinates by the balance of their predictor."""
    return lambda x, target, balance: balance[..., None] * loss(x, target)


def _half_square(x: Array, target: Array) -> Array:
    return (x - target) ** 2 / 2
