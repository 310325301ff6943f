"""The loss of YOLOv4. Several predictors may be responsible for an object, and one for several."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxvision.core import (
    InputError,
    OptionError,
    Terms,
    at_least_float32,
    check_array,
    check_choice,
    check_range,
)
from jaxvision.losses.detection import check_boxes, check_labels, image_terms
from jaxvision.losses.elements import one_hot, sigmoid_cross_entropy
from jaxvision.losses.reduction import sum_counted
from jaxvision.ops import (
    MAX_YOLO_LOG_SCALE,
    box_convert,
    box_iou,
    cell_index,
    decode_yolo,
    elementwise_box_iou,
    elementwise_complete_box_iou,
    shape_iou,
)
from jaxvision.ops.boxes import centre_distance, split_sides

BOX_GRADIENTS = ("exact", "darknet")


def yolov4_loss(
    logits: Sequence[Array],
    boxes: Array,
    labels: Array,
    box_mask: Array,
    anchors: Array,
    *,
    strides: Sequence[float],
    masks: Sequence[Sequence[int]],
    scale_x_y: Sequence[float] | None = None,
    squared: bool = False,
    iou_threshold: float = 0.213,
    ignore_threshold: float = 0.7,
    ignore_score: float = 0.25,
    box_weight: float = 0.07,
    objectness_weight: float | Sequence[float] = 1.0,
    class_weight: float = 1.0,
    label_smoothing: float = 0.0,
    box_gradient: str = "exact",
    max_delta: float = 5.0,
) -> Terms:
    """Computes the loss of YOLOv4, over several maps.

    The predictors in the cell of an object's centre compete by the IoU of their anchor with the
    shape of the object. Responsible are, on each map, the predictor with the best of all anchors,
    where the map has it, and those of every other anchor whose IoU is above iou_threshold. A
    predictor may be responsible for several objects. With BCE(t, y) the binary cross entropy
    -y log s(t) - (1 - y) log(1 - s(t)) and s the sigmoid, the sums are over the predictors of all
    maps, and in "box" also over the objects of each:

    - "box", responsible: box_weight / n (1 - CIoU), with the complete IoU of the decoded box and
      the object's, and n the number of classes of the objects of the predictor
    - "objectness", responsible: objectness_weight BCE(to, 1)
    - "no_objectness", not responsible, and not ignored: objectness_weight BCE(to, 0). Ignored are
      predictors whose box has an IoU above ignore_threshold with any object and of which any class
      has a probability s(tc) above ignore_score
    - "class", responsible: class_weight sum_c BCE(tc, y), where y is 1 - label_smoothing / 2 for
      the classes of its objects and label_smoothing / 2 for the others

    The sums are not divided by anything, and the mean is taken over images.

    `box_gradient` chooses the gradient of "box", whose value stays the same. "exact" is that of the
    formula. "darknet" is that of Darknet's code, in which boxes are relative to the image: the
    gradient by the centre is taken as that by tx and ty, without the slope of the sigmoid and
    scale_x_y; that by width and height is multiplied by exp(tw) and exp(th) alone, is twice too
    large in its part from the IoU, and lacks 1 / (w^2 + h^2) in its part from the aspect ratio.
    For each object it is limited to max_delta, after box_weight and before 1 / n.

    Args:
      logits: f32[H_l, W_l, A_l, 5 + C] for each map: (tx, ty, tw, th, to, classes).
      boxes: f32[G, 4], xyxy, pixels, within the image. Boxes without area are ignored.
      labels: i32[G], from 0 to C - 1. Any other label gives NaN where a predictor is assigned it.
      box_mask: bool[G], False for padding.
      anchors: f32[T, 2], (width, height), pixels: all that compete, even those of no map.
      strides: the side of a cell of each map, pixels. The image is H_l stride_l high.
      masks: for each map the indices of its A_l anchors; maps may share anchors.
      scale_x_y: for each map, see `jaxvision.ops.decode_yolo`; None: 1 for all.
      squared: see `jaxvision.ops.decode_yolo`.
      iou_threshold: an anchor that is not the best is responsible above it; 1: none is.
      ignore_threshold: IoU above which a predictor may be no negative.
      ignore_score: probability of a class that it needs for that.
      box_weight: weight of the boxes.
      objectness_weight: weight of the objectness, of all maps or of each.
      class_weight: weight of the classes.
      label_smoothing: in [0, 1).
      box_gradient: "exact" or "darknet".
      max_delta: limit of the gradient of "darknet".
    Returns:
      {"box", "objectness", "no_objectness", "class"}: (total, 1) each, f32[].
    Raises:
      ValueError: there is no map, or not one stride and one mask for each; a mask has another
        number of anchors than its map, or one that does not exist; an option is out of range; or
        there are no classes.
    Source: Bochkovskiy et al. 2020 ("YOLOv4"), section 3.4; Darknet's yolo layer. Zheng et al. 2020
      ("Distance-IoU loss"), equation 10.
    """
    for name, weight in (
        ("box_weight", box_weight),
        ("class_weight", class_weight),
    ):
        check_range(name, weight, least=0)
    for name, threshold in (
        ("iou_threshold", iou_threshold),
        ("ignore_threshold", ignore_threshold),
        ("ignore_score", ignore_score),
    ):
        check_range(name, threshold, least=0, most=1)
    check_range("label_smoothing", label_smoothing, least=0, less_than=1)
    check_range("max_delta", max_delta, more_than=0)
    check_choice("box_gradient", box_gradient, BOX_GRADIENTS)
    if squared and box_gradient == "darknet":
        raise OptionError(
            "box_gradient",
            "box_gradient is 'darknet', which is known for sizes that are not squared: give "
            "'exact'",
        )
    scales = (1.0,) * len(logits) if scale_x_y is None else tuple(scale_x_y)
    if isinstance(objectness_weight, Sequence):
        of_maps = tuple(objectness_weight)
        for level, weight in enumerate(of_maps):
            check_range(f"objectness_weight[{level}]", weight, least=0)
    else:
        check_range("objectness_weight", objectness_weight, least=0)
        of_maps = (objectness_weight,) * len(logits)
    counts = {len(x) for x in (logits, masks, strides, scales, of_maps)}
    if not logits or len(counts) > 1:
        raise InputError(
            f"there are {len(logits)} maps of logits, {len(masks)} masks, {len(strides)} strides, "
            f"{len(scales)} of scale_x_y and {len(of_maps)} of objectness_weight: give the same "
            "number of each, at least one"
        )
    for name, numbers in (("strides", strides), ("scale_x_y", scales)):
        for level, number in enumerate(numbers):
            check_range(f"{name}[{level}]", number, more_than=0)
    anchors = at_least_float32(check_array("anchors", anchors, ("T", 2)))
    anchors = lax.stop_gradient(anchors)
    maps = [
        _check_map(*pair, len(anchors), level)
        for level, pair in enumerate(zip(logits, masks, strict=True))
    ]
    classes = {x.shape[-1] - 5 for x in maps}
    if len(classes) > 1:
        raise InputError(
            f"the maps have logits of {sorted(classes)} classes: give all maps the same number"
        )
    boxes, objects = check_boxes(boxes, box_mask)
    labels = check_labels(labels, objects.shape, *classes)

    shapes = box_convert(boxes, "xyxy", "xywh")[:, 2:]
    iou = lax.stop_gradient(shape_iou(shapes, anchors))
    best = jax.nn.one_hot(iou.argmax(axis=1), len(anchors), dtype=bool)
    positive = objects[:, None] & (best | (iou > iou_threshold))
    totals = [
        _totals(
            x,
            anchors[jnp.array(mask)],
            positive[:, jnp.array(mask)],
            boxes,
            labels,
            decoding=(("stride", stride), ("scale_x_y", scale), ("squared", squared)),
            ignore=(ignore_threshold, ignore_score),
            label_smoothing=label_smoothing,
            # The limit of each gradient before the weight of the boxes.
            limit=max_delta / box_weight if box_gradient == "darknet" and box_weight else None,
        )
        for x, mask, stride, scale in zip(maps, masks, strides, scales, strict=True)
    ]
    weights = {"box": box_weight, "class": class_weight}
    return image_terms(
        {
            name: sum(
                weights.get(name, weight) * of_map[name]
                for of_map, weight in zip(totals, of_maps, strict=True)
            )
            for name in totals[0]
        }
    )


def _check_map(logits: Any, mask: Sequence[int], num_anchors: int, level: int) -> Array:
    if not all(0 <= index < num_anchors for index in mask):
        raise OptionError(
            "masks", f"masks[{level}] is {tuple(mask)}: the anchors are 0 to {num_anchors - 1}"
        )
    name = f"logits[{level}]"
    x = at_least_float32(check_array(name, logits, ("H", "W", len(mask), "5 + C")))
    check_range("the number of classes", x.shape[-1] - 5, least=1)
    return x


# Compiled as a whole, so that an eager call compiles once.
@functools.partial(jax.jit, static_argnames=("decoding", "ignore", "label_smoothing", "limit"))
def _totals(
    logits: Array,
    anchors: Array,
    positive: Array,
    boxes: Array,
    labels: Array,
    *,
    decoding: tuple[tuple[str, Any], ...],
    ignore: tuple[float, float],
    label_smoothing: float,
    limit: float | None,
) -> dict[str, Array]:
    """Returns the unweighted terms of one map.

    `positive`, bool[G, A], says which anchors are responsible for which objects. `limit` is that of
    Darknet's gradient; None for the exact one.
    """
    height, width, num_anchors, depth = logits.shape
    how = dict(decoding)
    size = height * how["stride"], width * how["stride"]
    rows, columns = cell_index(boxes, grid_size=(height, width), image_size=size)
    place = rows[:, None], columns[:, None], jnp.arange(num_anchors)[None]

    responsible = jnp.zeros(logits.shape[:3], bool).at[place].max(positive)
    of_object = one_hot(labels, depth - 5, logits.dtype)[:, None]
    of_object = jnp.where(positive[..., None], of_object, 0)
    classes = jnp.minimum(jnp.zeros_like(logits[..., 5:]).at[place].add(of_object), 1)

    decoded = decode_yolo(logits[..., :4], anchors, **how)
    fixed = lax.stop_gradient(decoded).reshape(-1, 4)
    overlaps = box_iou(fixed, boxes).reshape(*responsible.shape, -1).max(axis=-1) > ignore[0]
    likely = (jax.nn.sigmoid(lax.stop_gradient(logits[..., 5:])) > ignore[1]).any(axis=-1)
    negative = ~responsible & ~(overlaps & likely)

    share = 1 / jnp.maximum(classes.sum(axis=-1)[place], 1)
    target = jnp.broadcast_to(boxes[:, None], (*positive.shape, 4))

    def box_loss(t: Array, predicted: Array, target: Array, share: Array) -> Array:
        loss = share * (1 - elementwise_complete_box_iou(predicted, target))
        if limit is None:
            return loss
        slope = jnp.clip(_darknet_slope(t, predicted, target, size), -limit, limit)
        slope = lax.stop_gradient(share[..., None] * slope)
        return lax.stop_gradient(loss) + (slope * (t - lax.stop_gradient(t))).sum(axis=-1)

    smooth = classes * (1 - label_smoothing) + label_smoothing / 2
    sums = {
        "box": sum_counted(
            box_loss, positive, logits[..., :4][place], decoded[place], target, share
        ),
        "objectness": sum_counted(
            lambda t: sigmoid_cross_entropy(t, 1), responsible, logits[..., 4]
        ),
        "no_objectness": sum_counted(
            lambda t: sigmoid_cross_entropy(t, 0), negative, logits[..., 4]
        ),
        "class": sum_counted(sigmoid_cross_entropy, responsible, logits[..., 5:], smooth),
    }
    return {name: total for name, (total, _) in sums.items()}


def _darknet_slope(
    t: Array, predicted: Array, target: Array, image_size: tuple[float, float]
) -> Array:
    """The gradient of 1 - CIoU by t as in Darknet's code, see `yolov4_loss`.

    Args:
      t: f32[..., 4], (tx, ty, tw, th).
      predicted: f32[..., 4], xyxy, pixels.
      target: f32[..., 4], xyxy, pixels.
      image_size: (height, width), pixels.
    Returns:
      f32[..., 4].
    """
    sides = jnp.asarray([*image_size[::-1], *image_size[::-1]], predicted.dtype)
    sides = jnp.broadcast_to(sides, predicted.shape)
    t, predicted, target = lax.stop_gradient((t, predicted / sides, target / sides))
    iou, back = jax.vjp(lambda x: elementwise_box_iou(x, target), predicted)
    left, top, right, bottom = split_sides(*back(jnp.ones_like(iou)))
    by_iou = jnp.stack([left + right, top + bottom, right - left, bottom - top], axis=-1)

    place = box_convert(predicted, "xyxy", "cxcywh")

    def distance(place: Array) -> Array:
        corners = box_convert(place, "cxcywh", "xyxy")
        return centre_distance(split_sides(corners), split_sides(target)).sum()

    by_distance = jax.grad(distance)(place)
    goal = box_convert(target, "xyxy", "cxcywh")
    width, height = place[..., 2], place[..., 3]
    angle = jnp.arctan2(goal[..., 2], goal[..., 3]) - jnp.arctan2(width, height)
    v = 4 / math.pi**2 * angle**2
    alpha = v / (1 - iou + v + 1e-6)
    by_aspect = (8 / math.pi**2 * alpha * angle)[..., None] * jnp.stack([height, -width], axis=-1)
    slope = by_distance - by_iou
    scale = jnp.exp(jnp.minimum(t[..., 2:], MAX_YOLO_LOG_SCALE))
    return jnp.concatenate([slope[..., :2], (slope[..., 2:] - by_aspect) * scale], axis=-1)
