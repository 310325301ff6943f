"""Detections from the heads of a network that Darknet describes."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvision.core import Detections, InputError
from jaxvision.interop import Head
from jaxvision.ops import WordTree
from jaxvision.tasks.decoding import DetectOptions, detect
from jaxvision.tasks.detectors import (
    Candidates,
    yolo9000_detections,
    yolo_candidates,
    yolov1_candidates,
)


def darknet_detections(
    heads: Sequence[Head],
    maps: Mapping[str, Array],
    *,
    image_size: tuple[float, float],
    extent: Any,
    tree: WordTree | None = None,
    nodes: tuple[int, ...] | None = None,
    tree_threshold: float = 0.5,
    options: DetectOptions = DetectOptions(),
) -> Detections:
    """Decodes the maps of the heads and takes the best boxes.

    Args:
      heads: from `Description.heads`, at least one; all of the same classes.
      maps: of one image, from `DarknetNetwork`.
      image_size: (height, width), pixels.
      extent: (height, width) to which boxes are clipped, pixels: numbers, or an array i32[2].
      tree: of a head whose classes are the nodes of a tree.
      nodes: likewise, of its classes; None: the labels are nodes. See
        `jaxvision.tasks.detectors.yolo9000_detections`.
      tree_threshold: likewise, without `nodes`.
      options: which candidates become detections.
    """
    if tree is None:
        found = darknet_candidates(heads, maps, image_size=image_size)
        return detect(*found, image_size=extent, options=options)
    (head,) = heads
    return yolo9000_detections(
        maps[head.maps[0]],
        np.array(head.anchors, np.float32),
        stride=head.stride,
        tree=tree,
        nodes=nodes,
        tree_threshold=tree_threshold,
        image_size=extent,
        options=options,
    )


def darknet_candidates(
    heads: Sequence[Head], maps: Mapping[str, Array], *, image_size: tuple[float, float]
) -> Candidates:
    """Decodes the maps of the heads: the box and the scores of each prediction.

    Args:
      heads: from `Description.heads`, at least one; all of the same classes, which are no tree.
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
            f"the classes of the [region] are nodes of the tree {head.tree}: give it to "
            "darknet_detections"
        )
    (x,) = maps
    decode = partial(
        yolo_candidates,
        anchors=np.array(head.anchors, np.float32),
        stride=head.stride,
        softmax=head.softmax,
        scale_x_y=head.scale_x_y,
        squared=head.new_coords,
        activated=head.new_coords,
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
