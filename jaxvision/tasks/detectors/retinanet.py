"""RetinaNet as a detector: its loss, and how its maps become detections."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxvision.core import DetectionBatch, Detections, OptionError, Terms, extent_of
from jaxvision.losses import retinanet_loss
from jaxvision.ops import clip_boxes_to_image, decode_boxes, map_strides, retinanet_anchors
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
    with_anchors,
)

RETINANET_DECODE = DetectOptions(
    score_threshold=0.05, iou_threshold=0.5, max_detections=300, max_candidates=1000
)
"""Torchvision's options of decoding; the paper has 100 detections."""


def retinanet(
    model: nn.Module,
    *,
    sizes: Sequence[float] = (32, 64, 128, 256, 512),
    scales_per_octave: int = 3,
    aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    rounded: bool = True,
    trainable_backbone_layers: int | None = None,
    loss: Loss | None = retinanet_loss,
    decode: DetectOptions = RETINANET_DECODE,
    **options: Any,
) -> Detector:
    """RetinaNet: anchors of several shapes in each cell of the maps of a pyramid.

    Anchors follow from the sizes of the maps and of the padded image; the strides are torchvision's
    (see `jaxvision.ops.map_strides`). The defaults are torchvision's.

    Args:
      model: a network like `jaxvision.models.create_model("retinanet_resnet50_fpn")`; its field
        `num_anchors` is set to the number of anchors in a cell.
      sizes: first scale of the anchors on each map, from fine to coarse, pixels.
      scales_per_octave: scales on each map, see `jaxvision.ops.retinanet_anchors`.
      aspect_ratios: ratios height / width.
      rounded: whether the anchors are rounded to whole pixels.
      trainable_backbone_layers: last stages of the backbone that are trained, 3 of the 5 of a
        ResNet where torchvision fine-tunes; None: all.
      loss: with the signature of `jaxvision.losses.retinanet_loss`; None: for evaluation only.
      decode: which candidates become detections; `max_candidates` are those of each map.
      **options: keyword arguments of the loss, such as box_loss="giou".
    Raises:
      OptionError: anchors that do not fit the maps, an option that the loss does not have, or a
        network of another form.
    Source: Lin et al. 2017 ("Focal loss for dense object detection"), section 4.
    """
    how = {
        "sizes": tuple(sizes),
        "scales_per_octave": scales_per_octave,
        "aspect_ratios": tuple(aspect_ratios),
        "rounded": rounded,
    }
    for option in ("sizes", "aspect_ratios"):
        if not how[option]:
            raise OptionError(option, f"{option} is empty: give at least one number")
    try:  # for what is wrong in itself
        retinanet_anchors([(1, 1)] * len(how["sizes"]), strides=[1] * len(how["sizes"]), **how)
    except ValueError as error:
        raise OptionError(str(error).partition(" ")[0], str(error)) from error
    model = with_anchors(model, scales_per_octave * len(how["aspect_ratios"]))
    maps = numbered_maps(model, ("cls_logits", "bbox_regression"), shape="HWAK")
    check_count("sizes", how["sizes"], len(maps))
    example_loss = checked_loss(loss, 6, {}, options)

    def anchors_of(logits: Sequence[Array], example: DetectionBatch) -> list[Array]:
        """f32[H W A, 4] of each map."""
        feature_sizes = [x.shape[:2] for x in logits]
        strides = map_strides(example.image.shape[:2], feature_sizes)
        return [
            retinanet_anchors([of_map], strides=[stride], **{**how, "sizes": [size]})
            for of_map, stride, size in zip(feature_sizes, strides, how["sizes"], strict=True)
        ]

    def both(outputs: Any) -> tuple[list[Array], list[Array]]:
        kinds = "cls_logits", "bbox_regression"
        return tuple(outputs_of_maps(outputs, kind, len(maps)) for kind in kinds)

    def total(outputs: Any, example: DetectionBatch, *, key: Array, step: Array) -> Terms:
        logits, deltas = both(outputs)
        anchors = jnp.concatenate(anchors_of(logits, example))
        truth = example.boxes, example.labels, example.box_mask
        return example_loss(rows(logits), rows(deltas), anchors, *truth, key=key, step=step)

    def find(outputs: Any, example: DetectionBatch) -> Detections:
        logits, deltas = both(outputs)
        found = []
        for x, of_map, anchors in zip(logits, deltas, anchors_of(logits, example), strict=True):
            # The order of logits is that of scores, which need not be computed for all.
            best, box, label = best_pairs(x.reshape(-1, x.shape[-1]), decode.max_candidates)
            boxes = decode_boxes(of_map.reshape(-1, 4)[box], anchors[box])
            found.append((boxes, jax.nn.sigmoid(best), label))
        boxes, scores, labels = map(jnp.concatenate, zip(*found, strict=True))
        boxes = clip_boxes_to_image(boxes, extent_of(example))
        return suppressed(boxes, scores, labels, options=decode)

    return described_detector(
        "retinanet",
        model,
        loss and total,
        find,
        {**how, "decode": decode},
        loss_function=loss,
        loss_options=options,
        multiple_of=32,
        num_classes=maps[0]["cls_logits"].shape[-1],
        trainable_backbone_layers=trainable_backbone_layers,
    )
