"""FCOS as a detector: its loss, and how its maps become detections."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxvision.core import DetectionBatch, Detections, OptionError, Terms, check_range, extent_of
from jaxvision.losses import fcos_loss
from jaxvision.ops import clip_boxes_to_image, decode_distances, fcos_points, map_strides
from jaxvision.tasks.decoding import DetectOptions, suppressed
from jaxvision.tasks.detectors.detector import Detector
from jaxvision.tasks.detectors.parts import (
    Loss,
    best_pairs,
    check_count,
    checked_loss,
    described_detector,
    numbered_maps,
    outputs_of_maps,
    rows,
)

FCOS_DECODE = DetectOptions(
    score_threshold=0.2, iou_threshold=0.6, max_detections=100, max_candidates=1000
)
"""Torchvision's options of decoding."""

_KINDS = "cls_logits", "bbox_regression", "bbox_ctrness"


def fcos(
    model: nn.Module,
    *,
    sides: Sequence[float] = (8, 16, 32, 64, 128),
    offset: float = 0.0,
    trainable_backbone_layers: int | None = None,
    loss: Loss | None = fcos_loss,
    decode: DetectOptions = FCOS_DECODE,
    **options: Any,
) -> Detector:
    """FCOS: a box for each cell of the maps of a pyramid, without anchors.

    The points follow from the sizes of the maps and of the padded image; the strides are
    torchvision's (see `jaxvision.ops.map_strides`). The score of a box and a class is the root of
    the product of the class's sigmoid and that of the centre-ness. The defaults are torchvision's.

    Args:
      model: a network like `jaxvision.models.create_model("fcos_resnet50_fpn")`.
      sides: of each map, from fine to coarse, pixels: the unit of its distances, which is nominally
        its stride.
      offset: position of a point in its cell, see `jaxvision.ops.fcos_points`.
      trainable_backbone_layers: last stages of the backbone that are trained, 3 of the 5 of a
        ResNet where torchvision fine-tunes; None: all.
      loss: with the signature of `jaxvision.losses.fcos_loss`; None: for evaluation only.
      decode: which candidates become detections; `max_candidates` are those of each map.
      **options: keyword arguments of the loss, such as `radius`.
    Raises:
      OptionError: sides that do not fit the maps, an option that the loss does not have, or a
        network of another form.
    Source: Tian et al. 2019 ("FCOS"); the details are torchvision's.
    """
    check_range("offset", offset, least=0, most=1)
    sides = tuple(sides)
    if not all(side > 0 for side in sides):
        raise OptionError("sides", f"sides is {sides}: give positive numbers")
    maps = numbered_maps(model, _KINDS, shape="HWK")
    check_count("sides", sides, len(maps))
    example_loss = checked_loss(loss, 8, {}, options)

    def points_of(logits: Sequence[Array], example: DetectionBatch) -> list[Array]:
        """f32[H W, 2] of each map."""
        sizes = [x.shape[:2] for x in logits]
        strides = map_strides(example.image.shape[:2], sizes)
        return [
            fcos_points([size], strides=[stride], offset=offset)
            for size, stride in zip(sizes, strides, strict=True)
        ]

    def parts(outputs: Any) -> tuple[list[Array], ...]:
        return tuple(outputs_of_maps(outputs, kind, len(maps)) for kind in _KINDS)

    def total(outputs: Any, example: DetectionBatch, *, key: Array, step: Array) -> Terms:
        logits, distances, centerness = parts(outputs)
        points = points_of(logits, example)
        of_points = [jnp.full(len(x), side, x.dtype) for x, side in zip(points, sides, strict=True)]
        return example_loss(
            rows(logits),
            rows(distances),
            rows(centerness, axes=0),
            *(jnp.concatenate(points), jnp.concatenate(of_points)),
            *(example.boxes, example.labels, example.box_mask),
            key=key,
            step=step,
        )

    def find(outputs: Any, example: DetectionBatch) -> Detections:
        logits, distances, centerness = parts(outputs)
        found = []
        for x, of_map, center, points, side in zip(
            logits, distances, centerness, points_of(logits, example), sides, strict=True
        ):
            product = jax.nn.sigmoid(x) * jax.nn.sigmoid(center)[..., None]
            best, box, label = best_pairs(product.reshape(-1, x.shape[-1]), decode.max_candidates)
            boxes = decode_distances(of_map.reshape(-1, 4)[box] * side, points[box])
            found.append((boxes, jnp.sqrt(best), label))
        boxes, scores, labels = map(jnp.concatenate, zip(*found, strict=True))
        boxes = clip_boxes_to_image(boxes, extent_of(example))
        return suppressed(boxes, scores, labels, options=decode)

    return described_detector(
        "fcos",
        model,
        loss and total,
        find,
        {"sides": sides, "offset": offset, "decode": decode},
        loss_function=loss,
        loss_options=options,
        multiple_of=32,
        num_classes=maps[0]["cls_logits"].shape[-1],
        trainable_backbone_layers=trainable_backbone_layers,
    )
