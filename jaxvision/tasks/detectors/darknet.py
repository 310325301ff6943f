"""A detector that a Darknet description describes: its candidates, its losses and its record."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvision.core import (
    DetectionBatch,
    Detections,
    InputError,
    OptionError,
    Terms,
    check_range,
    close_names,
    extent_of,
    option_errors,
)
from jaxvision.interop import (
    DarknetNetwork,
    Description,
    Head,
    find_beside,
    read_class_map,
    read_word_tree,
)
from jaxvision.losses import (
    yolo9000_loss,
    yolov1_loss,
    yolov2_loss,
    yolov3_loss,
    yolov4_loss,
)
from jaxvision.ops import WordTree
from jaxvision.tasks.decoding import DetectOptions, detect
from jaxvision.tasks.detectors.detector import Candidates, Detector
from jaxvision.tasks.detectors.parts import Loss, checked_loss, described_detector
from jaxvision.tasks.detectors.yolo import yolo_candidates, yolov1_candidates
from jaxvision.tasks.detectors.yolo9000 import nodes_of_labels, yolo9000_detections

_LOSSES = {"detection": yolov1_loss, "region": yolov2_loss, "yolo": yolov3_loss}
"""Kind of a head -> its loss; that of a region in a tree is `yolo9000_loss`, and that of a yolo
with iou_loss=ciou `yolov4_loss`."""
_YOLOV4 = "ciou"


def darknet_loss(
    maps: Mapping[str, Array],
    boxes: Array,
    labels: Array,
    box_mask: Array,
    heads: Sequence[Head],
    *,
    image_size: tuple[int, int],
    step: Array | int = 0,
    tree: WordTree | None = None,
    labels_only: Array | bool = False,
    **options: Any,
) -> Terms:
    """The loss of the heads of a description: that of YOLOv1, v2, YOLO9000, v3 or v4.

    That of YOLOv4 is for a [yolo] with iou_loss=ciou. Its weights and thresholds are those of the
    description; with new_coords, the target of the objectness is 1 as without. The other losses
    have their own defaults.

    Args:
      maps: of one image, from `DarknetNetwork`.
      boxes: f32[N, 4], xyxy, pixels.
      labels: i32[N].
      box_mask: bool[N], False for padding.
      heads: from `Description.heads`, all of one kind.
      image_size: (height, width), pixels.
      step: number of updates so far.
      tree: of a head whose classes are nodes, which the labels are; None: it has none.
      labels_only: in a tree: whether the objects have labels but no boxes.
      **options: of `jaxvision.losses.yolov1_loss`, `yolov2_loss`, `yolo9000_loss`, `yolov3_loss` or
        `yolov4_loss`.
    Returns:
      the terms of that loss.
    """
    truth = boxes, labels, box_mask
    head = heads[0]
    if head.kind == "detection":
        how = {"image_size": image_size, "predicts_roots": head.predicts_roots}
        return yolov1_loss(*(maps[name] for name in head.maps), *truth, **how, **options)
    logits = [maps[name] for each in heads for name in each.maps]
    anchors = [np.array(each.anchors, np.float32) for each in heads]
    if tree is not None:
        given = *truth, anchors[0], step, labels_only
        return yolo9000_loss(logits[0], *given, tree=tree, stride=head.stride, **options)
    if head.kind == "region":
        how = {"stride": head.stride, "step": step}
        return yolov2_loss(logits[0], *truth, anchors[0], **how, **options)
    strides = tuple(each.stride for each in heads)
    if head.loss is not None and head.loss.kind == _YOLOV4:
        given = {**_yolov4_options(heads), "strides": strides, **options}
        return yolov4_loss(logits, *truth, np.array(head.loss.anchors, np.float32), **given)
    return yolov3_loss(logits, *truth, anchors, strides=strides, **options)


def darknet(
    model: DarknetNetwork,
    *,
    tree: WordTree | None = None,
    nodes: Sequence[int] | None = None,
    tree_threshold: float = 0.5,
    loss: Loss | None = darknet_loss,
    decode: DetectOptions = DetectOptions(),
    **options: Any,
) -> Detector:
    """A detector in Darknet's format, with all that its description says of boxes and scores.

    Args:
      model: `jaxvision.interop.DarknetNetwork` of a description with heads.
      tree: of a detector whose classes are the nodes of a tree; None: it is read from the file
        that the description names, see `jaxvision.interop.find_beside`.
      nodes: likewise, the node of each class, whose score is the objectness times the probability
        of the node; (): the labels are nodes, the most specific one that is probable enough is
        found, and its score is the objectness. None: the map that the description names, or ().
      tree_threshold: likewise, without `nodes`, see `jaxvision.ops.word_tree_top_node`.
      loss: with the signature of `darknet_loss`; None: for evaluation only. The heads of Gaussian
        YOLOv3, and those of YOLOv3 with an iou_loss other than ciou, have no loss here.
      decode: which candidates become detections. Where its `distance_power` is None, boxes are
        suppressed as the description says.
      **options: keyword arguments of the loss, such as `prior_steps` of YOLOv2's.
    Raises:
      OptionError: an option that the loss does not have, or the network is not of a detector.
      InputError: there is no loss for the heads, or the file of a tree or of a map is not there or
        does not fit.
    """
    if not isinstance(model, DarknetNetwork):
        raise OptionError(
            "model", f"model is {type(model).__name__}: give a jaxvision.interop.DarknetNetwork"
        )
    description = model.description
    height, width, _ = description.image
    heads = description.heads()
    if not heads:
        raise InputError(
            f"{description.source} does not describe a detector: it has no [detection], [region], "
            "[yolo] or [Gaussian_yolo] section"
        )
    check_range("tree_threshold", tree_threshold, least=0, less_than=1)
    tree, nodes = darknet_tree(description, tree, nodes)
    if loss is darknet_loss:
        _check_loss(description.source, heads, options)
    given: dict[str, Any] = {"image_size": (height, width)}
    given |= {} if tree is None else {"tree": tree, "labels_only": False}
    example_loss = checked_loss(loss, 5, given, options)
    power = decode.distance_power or description.nms.distance_power
    suppress = dataclasses.replace(decode, distance_power=power)

    def total(maps: Any, example: DetectionBatch, *, key: Array, step: Array) -> Terms:
        size = example.image.shape[:2]
        labels = nodes_of_labels(example.labels, nodes) if nodes else example.labels
        truth = example.boxes, labels, example.box_mask
        of_size = description.heads(*size)
        of_image = {**given, "image_size": size}
        if example.labels_only is not None and tree is not None:
            of_image["labels_only"] = example.labels_only
        return example_loss(maps, *truth, of_size, **of_image, key=key, step=step)

    def found(maps: Any, example: DetectionBatch) -> Detections:
        size = example.image.shape[:2]
        of_size, how = description.heads(*size), {"image_size": extent_of(example)}
        if tree is None:
            candidates = darknet_candidates(of_size, maps, image_size=size)
            return detect(*candidates, **how, options=suppress)
        (head,) = of_size
        return yolo9000_detections(
            maps[head.maps[0]],
            np.array(head.anchors, np.float32),
            stride=head.stride,
            tree=tree,
            nodes=nodes or None,
            tree_threshold=tree_threshold,
            options=suppress,
            **how,
        )

    how_in_tree: dict[str, Any] = {}
    if tree is not None:
        how_in_tree = {"tree": tree, "nodes": nodes, "tree_threshold": tree_threshold}
    strides = [head.stride for head in heads if head.stride]
    return described_detector(
        "darknet",
        model,
        loss and total,
        found,
        {**how_in_tree, "decode": decode},
        loss_function=loss,
        loss_options=options,
        # With connected layers only images of the described size fit.
        multiple_of=int(max(strides)) if strides else height,
        num_classes=len(nodes) or heads[0].num_classes,
    )


def darknet_tree(
    description: Description, tree: WordTree | None = None, nodes: Sequence[int] | None = None
) -> tuple[WordTree | None, tuple[int, ...]]:
    """The tree of the classes of a description, and the nodes of the classes that are mapped.

    Args:
      description: of a detector.
      tree: as for `darknet`.
      nodes: as for `darknet`.
    Returns:
      (tree, nodes); None if the classes are no tree, and () if all nodes are classes.
    Raises:
      OptionError: the tree or the nodes do not fit the description.
      InputError: a file is not there, or does not fit.
    """
    source, heads = description.source, description.heads()
    head = heads[0]
    if not head.tree:
        for name, given in (("tree", tree), ("nodes", nodes)):
            if given is not None:
                raise OptionError(
                    name,
                    f"{name} is given, but the classes of {source} are no tree: leave it out",
                )
        return None, ()
    if len(heads) > 1:
        raise InputError(f"{source} has {len(heads)} heads: a detector in a tree has one [region]")
    if tree is None:
        tree = read_word_tree(find_beside(head.tree, source))
    if len(tree) != head.num_classes:
        raise OptionError(
            "tree",
            f"tree has {len(tree)} nodes, but the [region] of {source} has {head.num_classes} "
            "classes: give a tree with a node for each",
        )
    if nodes is None and head.map:
        return tree, read_class_map(find_beside(head.map, source), tree)
    with option_errors("nodes"):
        return tree, tuple(tree.checked_nodes(nodes).tolist()) if nodes else ()


def darknet_classes(description: Description) -> int | None:
    """How many classes a description has, those of its map included; None if it is no detector."""
    heads = description.heads()
    if not heads:
        return None
    return len(darknet_tree(description)[1]) or heads[0].num_classes


def _check_loss(source: str, heads: Sequence[Head], options: Mapping[str, Any]) -> None:
    """Raises an error unless there is a loss for the heads, and it has the options."""
    function = yolo9000_loss if heads[0].tree else _LOSSES.get(heads[0].kind)
    unknown = f"[{heads[0].kind}]" if function is None else ""
    for head in heads:
        kind = "mse" if head.loss is None else head.loss.kind
        if head.kind != "yolo" or kind == _YOLOV4:
            continue
        if kind != "mse":
            unknown = f"[yolo] with iou_loss={kind}"
        elif head.scale_x_y != 1 or head.squared:
            unknown = "[yolo] with scale_x_y or new_coords and iou_loss=mse"
    if any(head.activated for head in heads):
        unknown = "[yolo] with new_coords whose input is no sigmoid of its own"
    if unknown:
        raise InputError(f"{source}: there is no loss for a {unknown}, so it cannot be trained")
    kinds = {head.loss and head.loss.kind for head in heads}
    if _YOLOV4 in kinds:
        function = yolov4_loss
        for name in ("kind", "anchors", *_ONE_FOR_ALL):
            if len({getattr(head.loss, name) for head in heads}) > 1:
                raise InputError(
                    f"{source}: the sections [yolo] have different {_OF_YOLO.get(name, name)}, so "
                    "it cannot be trained: give all of them the same"
                )
    known = inspect.signature(function).parameters
    for name in options:
        if name not in known:
            raise OptionError(name, f"{name} is no option of the loss: {close_names(name, known)}")


_OF_YOLO = {
    "kind": "iou_loss",
    "iou_threshold": "iou_thresh",
    "ignore_threshold": "ignore_thresh",
    "box_weight": "iou_normalizer",
    "class_weight": "cls_normalizer",
    "label_smoothing": "label_smooth_eps",
}
"""Name in `YoloLoss` -> option of a [yolo], where they differ."""
_ONE_FOR_ALL = (
    *("iou_threshold", "ignore_threshold", "box_weight", "class_weight", "label_smoothing"),
    "max_delta",
)
"""Options of `yolov4_loss` that all maps have in common."""


def _yolov4_options(heads: Sequence[Head]) -> dict[str, Any]:
    """The options of `yolov4_loss` that descriptions have, but for the strides."""
    settings = [head.loss for head in heads]
    return {
        "masks": tuple(each.mask for each in settings),
        "scale_x_y": tuple(head.scale_x_y for head in heads),
        "squared": heads[0].squared,
        "objectness_weight": tuple(each.objectness_weight for each in settings),
        **{name: getattr(settings[0], name) for name in _ONE_FOR_ALL},
    }


def darknet_candidates(
    heads: Sequence[Head], maps: Mapping[str, Array], *, image_size: tuple[float, float]
) -> Candidates:
    """Decodes the maps of the heads: the box and the scores of each prediction.

    Args:
      heads: from `Description.heads`, at least one; all of the same classes.
      maps: of one image, from `DarknetNetwork`.
      image_size: (height, width), pixels.
    Returns:
      boxes f32[N, 4] and scores f32[N, C], head after head.
    """
    parts = [_of_head(head, [maps[name] for name in head.maps], image_size) for head in heads]
    boxes, scores = zip(*parts, strict=True)
    return jnp.concatenate(boxes), jnp.concatenate(scores)


def _of_head(head: Head, maps: Sequence[Array], image_size: tuple[float, float]) -> Candidates:
    if head.kind == "detection":
        coordinates, confidence, classes = maps
        return yolov1_candidates(
            coordinates,
            confidence,
            jax.nn.softmax(classes) if head.softmax else classes,
            image_size=image_size,
            predicts_roots=head.predicts_roots,
        )
    if head.tree:
        raise InputError(
            f"the classes of the [region] are nodes of the tree {head.tree}: yolo9000_detections "
            "decodes them"
        )
    (x,) = maps
    decode = partial(
        yolo_candidates,
        anchors=np.array(head.anchors, np.float32),
        stride=head.stride,
        softmax=head.softmax,
        scale_x_y=head.scale_x_y,
        squared=head.squared,
        activated=head.activated,
    )
    return _gaussian(decode, x, head.point) if head.kind == "Gaussian_yolo" else decode(x)


def _gaussian(decode: Callable[[Array], Candidates], x: Array, point: str) -> Candidates:
    """Decodes a map of Gaussian YOLOv3, whose coordinates are each followed by their uncertainty.

    The scores are multiplied by 1 - u, with u the mean of the four uncertainties. The place is that
    of the box's centre, or of its left upper or right lower corner.

    Args:
      decode: takes f32[H, W, A, 5 + C].
      x: f32[H, W, A, 9 + C].
      point: "center", "left_top" or "right_bottom".
    Source: Choi et al. 2019 ("Gaussian YOLOv3"), section 3.2.
    """
    uncertainty = jax.nn.sigmoid(x[..., 1:8:2]).mean(axis=-1).reshape(-1, 1)
    boxes, scores = decode(jnp.concatenate([x[..., 0:8:2], x[..., 8:]], axis=-1))
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    shift = {"center": 0.0, "left_top": 1.0, "right_bottom": -1.0}[point] * half
    return boxes + jnp.tile(shift, 2), scores * (1 - uncertainty)
