"""SSD and SSDlite as detectors: their loss, and how their maps become detections."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxvision.core import DetectionBatch, Detections, OptionError, Terms, extent_of, lookup
from jaxvision.losses import ssd_multibox_loss
from jaxvision.ops import (
    SSD300,
    SSD300_TORCHVISION,
    SSD512,
    SSD_WEIGHTS,
    SSDLITE320,
    clip_boxes_to_image,
    decode_boxes,
    ssd_default_boxes,
    ssd_scales,
)
from jaxvision.tasks.decoding import DetectOptions, detect_per_class
from jaxvision.tasks.detectors.detector import Detector
from jaxvision.tasks.detectors.parts import (
    Loss,
    check_count,
    checked_loss,
    described_detector,
    numbered_maps,
    outputs_of_maps,
    rows,
    with_anchors,
)

SSD_DECODE = DetectOptions(
    score_threshold=0.01, iou_threshold=0.45, max_detections=200, max_candidates=400
)
"""Torchvision's options of decoding of SSD300."""

SSDLITE_DECODE = DetectOptions(
    score_threshold=0.001, iou_threshold=0.55, max_detections=300, max_candidates=300
)
"""Torchvision's options of decoding of SSDlite."""


@dataclass(frozen=True)
class Layout:
    """Default boxes of a network.

    Attributes:
      scales: of each map and one more, relative to the image.
      aspect_ratios: for each map, the ratios besides 1.
      strides: of each map, pixels, used only where image and maps have the two sizes below; None: a
        map covers the image evenly.
      image_size: (height, width) of the image, pixels.
      feature_sizes: (rows, columns) of each map.
      limit_sides: see `jaxvision.ops.ssd_default_boxes`.
    """

    scales: tuple[float, ...]
    aspect_ratios: tuple[tuple[float, ...], ...]
    strides: tuple[float, ...] | None = None
    image_size: tuple[int, int] = (0, 0)
    feature_sizes: tuple[tuple[int, int], ...] = ()
    limit_sides: bool = True

    @property
    def num_anchors(self) -> tuple[int, ...]:
        """Default boxes in each cell of each map."""
        return tuple(2 + 2 * len(ratios) for ratios in self.aspect_ratios)


def _layout(options: dict[str, Any]) -> Layout:
    side = options["image_size"][0]
    return Layout(
        scales=tuple(size / side for size in options["sizes"]),
        aspect_ratios=options["aspect_ratios"],
        strides=options.get("strides"),
        image_size=options["image_size"],
        feature_sizes=options["feature_sizes"],
        limit_sides=options.get("limit_sides", False),
    )


LAYOUTS = {
    "ssd300": _layout(SSD300_TORCHVISION),
    "ssd300_paper": _layout(SSD300),
    "ssd512": _layout(SSD512),
    "ssdlite320": _layout(SSDLITE320),
}
"""Name -> default boxes of a published network."""


def ssd(
    model: nn.Module,
    *,
    layout: str = "",
    scales: Sequence[float] | None = None,
    aspect_ratios: Sequence[Sequence[float]] | None = None,
    limit_sides: bool | None = None,
    trainable_backbone_layers: int | None = None,
    loss: Loss | None = ssd_multibox_loss,
    decode: DetectOptions = SSD_DECODE,
    **options: Any,
) -> Detector:
    """SSD and SSDlite: default boxes of several shapes in each cell of several maps.

    Default boxes follow from the sizes of the maps and of the image.

    Args:
      model: a network like `jaxvision.models.create_model("ssd300_vgg16")`; its field `num_anchors`
        is set to the numbers of default boxes in a cell of each map.
      layout: name of the default boxes in `LAYOUTS`: "ssd300" are torchvision's, "ssd300_paper" and
        "ssd512" the authors', "ssdlite320" torchvision's. Empty: the first of those that has as
        many in each cell as the network; else scales from 0.2 to 0.9 in equal steps, and the ratio
        2 for 4 default boxes in a cell, 2 and 3 for 6. The strides of a layout are used where the
        image and all maps have its own sizes; otherwise each map covers the image evenly.
      scales: other scales, relative to the image: one for each map and one more.
      aspect_ratios: other ratios besides 1, for each map.
      limit_sides: see `jaxvision.ops.ssd_default_boxes`; None: as the layout, which limits them in
        torchvision's networks, not in the authors'.
      trainable_backbone_layers: last stages of the backbone that are trained, 4 of the 5 of a
        VGG-16 where torchvision fine-tunes; None: all.
      loss: with the signature of `jaxvision.losses.ssd_multibox_loss`; None: for evaluation only.
      decode: which candidates become detections; `max_candidates` are those of each class. The
        default is torchvision's for SSD300; `SSDLITE_DECODE` is that for SSDlite.
      **options: keyword arguments of the loss: forced="best" matches as torchvision does.
    Raises:
      OptionError: default boxes that do not fit the maps, an option that the loss does not have, or
        a network of another form.
    Source: Liu et al. 2016 ("SSD"); the details of decoding are torchvision's.
    """
    if not all(isinstance(ratios, Sequence) for ratios in aspect_ratios or ()):
        raise OptionError(
            "aspect_ratios",
            f"aspect_ratios is {aspect_ratios}: give the ratios of each map, such as "
            "((2,), (2, 3))",
        )
    chosen = _chosen(model, layout, scales, aspect_ratios, limit_sides)
    model = with_anchors(model, chosen.num_anchors)
    maps = numbered_maps(model, ("cls_logits", "bbox_regression"), shape=("H", "W", "A", "K + 1"))
    check_count("aspect_ratios", chosen.aspect_ratios, len(maps))
    example_loss = checked_loss(loss, 6, {}, options)

    def default_boxes(logits: Sequence[Array], example: DetectionBatch) -> Array:
        """f32[N, 4]: relative to the image, and then in its pixels."""
        height, width = example.image.shape[:2]
        feature_sizes = tuple(x.shape[:2] for x in logits)
        own = (height, width) == chosen.image_size and feature_sizes == chosen.feature_sizes
        strides = None
        if own and chosen.strides is not None:
            strides = [(stride / height, stride / width) for stride in chosen.strides]
        boxes = ssd_default_boxes(
            feature_sizes,
            image_size=(1, 1),
            sizes=chosen.scales,
            aspect_ratios=chosen.aspect_ratios,
            strides=strides,
            limit_sides=chosen.limit_sides,
        )
        return boxes * jnp.array([[width, height] * 2], boxes.dtype)

    def parts(outputs: Any, example: DetectionBatch) -> tuple[Array, Array, Array]:
        """Logits, deltas and default boxes of all maps."""
        logits = outputs_of_maps(outputs, "cls_logits", len(maps))
        deltas = outputs_of_maps(outputs, "bbox_regression", len(maps))
        return rows(logits), rows(deltas), default_boxes(logits, example)

    def total(outputs: Any, example: DetectionBatch, *, key: Array, step: Array) -> Terms:
        truth = example.boxes, example.labels, example.box_mask
        return example_loss(*parts(outputs, example), *truth, key=key, step=step)

    def find(outputs: Any, example: DetectionBatch) -> Detections:
        logits, deltas, anchors = parts(outputs, example)
        boxes = decode_boxes(deltas, anchors, weights=SSD_WEIGHTS)
        boxes = clip_boxes_to_image(boxes, extent_of(example))
        scores = jax.nn.softmax(logits)[:, 1:]
        return detect_per_class(boxes, scores, options=decode)

    how = {
        "layout": layout,
        "scales": None if scales is None else tuple(scales),
        "aspect_ratios": None if aspect_ratios is None else tuple(map(tuple, aspect_ratios)),
        "limit_sides": limit_sides,
    }
    return described_detector(
        "ssd",
        model,
        loss and total,
        find,
        {**how, "decode": decode},
        loss_function=loss,
        loss_options=options,
        multiple_of=1,
        num_classes=maps[0]["cls_logits"].shape[-1] - 1,
        trainable_backbone_layers=trainable_backbone_layers,
    )


def _chosen(
    model: nn.Module,
    name: str,
    scales: Sequence[float] | None,
    aspect_ratios: Sequence[Sequence[float]] | None,
    limit_sides: bool | None,
) -> Layout:
    """The default boxes that the arguments of `ssd` choose.

    Raises:
      OptionError: they do not fit each other, or nothing says what they are.
    """
    counts = getattr(model, "num_anchors", ())
    counts = () if isinstance(counts, int) else tuple(counts)  # `with_anchors` refuses the former
    if name:
        known = lookup(LAYOUTS, name, "layout")
    else:
        same = (layout for layout in LAYOUTS.values() if layout.num_anchors == counts)
        known = next(same, None) or _by_formula(counts)
    ratios = known.aspect_ratios if aspect_ratios is None else tuple(map(tuple, aspect_ratios))
    given = known.scales if scales is None else tuple(scales)
    if scales is None and len(given) != len(ratios) + 1:
        given = ssd_scales(max(len(ratios), 2))[: len(ratios) + 1]
    if len(given) != len(ratios) + 1:
        raise OptionError(
            "scales",
            f"scales has {len(given)} entries for {len(ratios)} maps: give one for each, and one "
            "more",
        )
    for option, values in (("scales", given), ("aspect_ratios", sum(ratios, ()))):
        if not all(value > 0 for value in values):
            raise OptionError(option, f"{option} is {values}: give positive numbers")
    limit_sides = known.limit_sides if limit_sides is None else limit_sides
    return dataclasses.replace(known, scales=given, aspect_ratios=ratios, limit_sides=limit_sides)


def _by_formula(counts: Sequence[int]) -> Layout:
    """Default boxes for a network with so many in each cell of each map."""
    ratios = {4: (2,), 6: (2, 3)}
    shapes = tuple(ratios.get(count, ()) for count in counts)
    scales = ssd_scales(max(len(counts), 2))[: len(counts) + 1]
    return Layout(scales, shapes)
