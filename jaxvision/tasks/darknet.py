"""Candidates from the heads of a network that Darknet describes."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvision.interop import Head
from jaxvision.tasks.detectors import Candidates, yolo_candidates, yolov1_candidates


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
    return yolo_candidates(
        *maps, np.array(head.anchors, np.float32), stride=head.stride, softmax=head.softmax
    )
