"""YOLO9000 as a detector: its loss on both kinds of images, and decoding down its tree."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from jaxvision.core import (
    DetectionBatch,
    Detections,
    OptionError,
    Terms,
    at_least_float32,
    check_array,
    check_range,
    extent_of,
    option_errors,
)
from jaxvision.losses import yolo9000_loss
from jaxvision.ops import (
    WordTree,
    clip_boxes_to_image,
    decode_yolo,
    word_tree_log_probabilities,
    word_tree_top_node,
)
from jaxvision.tasks.decoding import DetectOptions, detect, suppressed
from jaxvision.tasks.detectors.detector import Detector
from jaxvision.tasks.detectors.parts import (
    Loss,
    checked_loss,
    described_detector,
    maps_named,
    with_anchors,
)
from jaxvision.tasks.detectors.yolo import Anchors, sizes_of

_PROBE = 256  # pixels: a multiple of every network's stride


def yolo9000(
    model: nn.Module,
    anchors: Anchors,
    tree: WordTree,
    *,
    nodes: Sequence[int] | None = None,
    tree_threshold: float = 0.5,
    constrained: bool = True,
    loss: Loss | None = yolo9000_loss,
    decode: DetectOptions = DetectOptions(),
    **options: Any,
) -> Detector:
    """YOLO9000: YOLOv2 whose classes are the nodes of a tree.

    It is trained with images with boxes and, where `labels_only` of the batch is True, with images
    whose objects have labels but no boxes, see `jaxvision.losses.yolo9000_loss`.

    Args:
      model: a network like `jaxvision.models.create_model("yolo9000")`, with a class for each node;
        its field `num_anchors` is set to the number of anchors.
      anchors: (width, height) of each, pixels; `jaxvision anchors` finds them.
      tree: of the classes, such as `jaxvision.interop.read_word_tree("9k.tree")`.
      nodes: None: the labels are nodes, and a detection has the most specific node that is probable
        enough. Otherwise the node of each of K classes, such as
        `jaxvision.interop.read_class_map("coco9k.map", tree)`: the labels are these classes.
      tree_threshold: without `nodes`, see `jaxvision.ops.word_tree_top_node`.
      constrained: whether a centre is predicted within its cell.
      loss: with the signature of `jaxvision.losses.yolo9000_loss`; None: for evaluation only. Its
        `step` counts updates.
      decode: which candidates become detections.
      **options: keyword arguments of the loss, such as `label_objectness`.
    Raises:
      OptionError: anchors that are no sizes, nodes that are not in the tree, an option that the
        loss does not have, or a network of another form.
    Source: Redmon and Farhadi 2017 ("YOLO9000"), section 4.
    """
    check_range("tree_threshold", tree_threshold, least=0, less_than=1)
    if nodes is not None:
        with option_errors("nodes"):
            nodes = tuple(tree.checked_nodes(nodes).tolist())
    sizes = sizes_of(anchors)
    model = with_anchors(model, len(sizes))
    logits = maps_named(model, ("logits",), side=_PROBE)["logits"]
    if logits.shape[-1] - 5 != len(tree):
        raise OptionError(
            "model",
            f"model has {logits.shape[-1] - 5} classes, and the tree {len(tree)} nodes: set its "
            f"num_classes to {len(tree)}",
        )
    where = {"stride": _PROBE // logits.shape[0], "constrained": constrained}
    given = {**where, "tree": tree, "labels_only": None}
    example_loss = checked_loss(loss, 5, given, options)

    def total(maps: Any, example: DetectionBatch, *, key: Array, step: Array) -> Terms:
        labels_only = example.labels_only
        if labels_only is None:
            labels_only = jnp.zeros((), bool)
        labels = example.labels if nodes is None else nodes_of_labels(example.labels, nodes)
        return example_loss(
            *(maps["logits"], example.boxes, labels, example.box_mask, sizes),
            **{**given, "labels_only": labels_only},
            key=key,
            step=step,
        )

    def decoded(maps: Any, example: DetectionBatch) -> Detections:
        return yolo9000_detections(
            maps["logits"],
            sizes,
            **where,
            tree=tree,
            nodes=nodes,
            tree_threshold=tree_threshold,
            image_size=extent_of(example),
            options=decode,
        )

    how = {
        "anchors": sizes.tolist(),
        "tree": tree,
        "nodes": nodes,
        "tree_threshold": tree_threshold,
        "constrained": constrained,
    }
    return described_detector(
        "yolo9000",
        model,
        loss and total,
        decoded,
        {**how, "decode": decode},
        loss_function=loss,
        loss_options=options,
        multiple_of=where["stride"],
        num_classes=len(tree) if nodes is None else len(nodes),
    )


def nodes_of_labels(labels: Array, nodes: tuple[int, ...]) -> Array:
    """Returns the node of each class; -1 for what is no class, of which the loss makes NaN."""
    exists = (labels >= 0) & (labels < len(nodes))
    return jnp.where(exists, jnp.array(nodes, jnp.int32)[jnp.where(exists, labels, 0)], -1)


def yolo9000_detections(
    logits: Array,
    anchors: np.ndarray,
    *,
    stride: float,
    tree: WordTree,
    nodes: tuple[int, ...] | None = None,
    tree_threshold: float = 0.5,
    constrained: bool = True,
    image_size: Any,
    options: DetectOptions = DetectOptions(),
) -> Detections:
    """Decodes the map of YOLO9000.

    With `nodes`, the score of a class is the sigmoid of the objectness times the probability of its
    node. Without them, the label of a box is the most specific node that is probable enough, see
    `jaxvision.ops.word_tree_top_node`, and its score is the objectness alone, as in Darknet.

    Args:
      logits: f32[H, W, A, 5 + N]: (tx, ty, tw, th, to, nodes).
      anchors: f32[A, 2], (width, height), pixels.
      stride: side of a cell, pixels.
      tree: of N nodes.
      nodes: those of the classes, or None.
      tree_threshold: without `nodes`, what a node's probability must be above.
      constrained: as in `jaxvision.losses.yolov2_loss`.
      image_size: (height, width), pixels: numbers, or an array i32[2].
      options: which candidates become detections.
    Returns:
      `max_detections` of them, by falling score; their labels are classes or nodes.
    Source: Redmon and Farhadi 2017 ("YOLO9000"), section 4; Darknet's region layer.
    """
    shape = ("H", "W", "A", 5 + len(tree))
    logits = at_least_float32(check_array("logits", logits, shape))
    boxes = decode_yolo(logits[..., :4], anchors, stride=stride, constrained=constrained)
    boxes, logits = boxes.reshape(-1, 4), logits.reshape(-1, logits.shape[-1])
    objectness = jax.nn.sigmoid(logits[:, 4])
    if nodes is not None:
        log_p = word_tree_log_probabilities(logits[:, 5:], tree=tree, nodes=nodes)
        scores = objectness[:, None] * jnp.exp(log_p)
        return detect(boxes, scores, image_size=image_size, options=options)
    labels, _ = word_tree_top_node(logits[:, 5:], tree=tree, threshold=tree_threshold)
    boxes = clip_boxes_to_image(boxes, image_size)
    return suppressed(boxes, objectness, labels, options=options)
