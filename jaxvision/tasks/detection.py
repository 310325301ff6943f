"""Detection: boxes with a class each."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvision import augment as aug
from jaxvision.core import DetectionBatch, Detections, Task, Terms, check_range
from jaxvision.metrics import (
    CocoResult,
    DetectionAccumulator,
    coco_average_precision,
    voc_average_precision,
)
from jaxvision.tasks.settings import figures_of_channels, forward_of
from jaxvision.tasks.yolo import detect
from jaxvision.tasks.yolo_heads import make_detector

_ALWAYS = ("AP", "AP50", "AP75")  # the other numbers only where there are objects of their size


def detection(config: Any) -> Task:
    """The task of a detection config.

    `collect` keeps detections and objects in pixels of the original images, and `summarize` gives
    COCO's numbers and "mAP_VOC", VOC's average precision at an IoU of 0.5 (area under the curve).
    "AP", "AP50" and "AP75" are always there, and 0 if the data has no objects at all.

    Args:
      config: with the fields `model` (name and fields), `anchors`, `data` (image_size, sizes,
        class_names, difficult, mean, std), `augment`, `loss` (name and options) and `detect`; see
        `jaxvision.cli.config.default_config`.
    Raises:
      InputError: a setting that does not fit the others.
    """
    data = config.data
    num_classes = len(data.class_names)
    check_range("the number of config.data.class_names", num_classes, least=1)
    mean, std = figures_of_channels(data, 3)
    detector = make_detector(config)
    settings = config.detect
    for name in ("score_threshold", "iou_threshold"):
        check_range(f"config.detect.{name}", settings[name], least=0, most=1)
    for name in ("max_detections", "max_candidates"):
        check_range(f"config.detect.{name}", settings[name], least=1)
    size = (data.image_size, data.image_size)

    def init(key: Array) -> dict[str, Any]:
        return detector.model.init(key, jnp.zeros((1, *size, 3)), train=False)

    def prepare(example: DetectionBatch) -> DetectionBatch:
        return example.replace(image=aug.normalize(example.image, mean=mean, std=std))

    def loss(outputs: Any, example: DetectionBatch, *, key: Array, step: Array) -> Terms:
        del key
        objects = example.box_mask & ~example.crowd
        if not data.difficult:
            objects &= ~example.difficult
        return detector.loss(outputs, example, objects, step)

    def decode(outputs: Any) -> Detections:
        return detect(
            *detector.candidates(outputs),
            image_size=size,
            iou_threshold=settings.iou_threshold,
            score_threshold=settings.score_threshold,
            max_detections=settings.max_detections,
            max_candidates=settings.max_candidates,
        )

    def collect(outputs: Any, example: DetectionBatch) -> tuple[Detections, DetectionBatch]:
        found = decode(outputs)
        original = partial(_to_original, example.placement)
        return found.replace(boxes=original(found.boxes)), example.replace(
            image=None, partners=None, boxes=original(example.boxes)
        )

    return Task(
        init=init,
        augment=_augmentation(config.augment),
        prepare=prepare,
        forward=forward_of(detector.model),
        loss=loss,
        metrics=lambda outputs, example: {},
        decode=decode,
        collect=collect,
        summarize=partial(_summarize, num_classes=num_classes),
        partners=partners_of(config.augment),
    )


def average_precision(
    collected: tuple[Detections, DetectionBatch], *, num_classes: int
) -> tuple[CocoResult, float]:
    """COCO's result and VOC's mean average precision.

    Args:
      collected: of all examples, on the host.
      num_classes: K.
    """
    detections, batch = collected
    accumulator = DetectionAccumulator()
    accumulator.add(detections, batch, np.arange(len(batch.mask)), area=batch.area)
    tables = accumulator.tables()
    coco = coco_average_precision(*tables, num_classes=num_classes)
    voc = voc_average_precision(*tables, num_classes=num_classes)
    return coco, voc.mean_ap


def _summarize(
    collected: tuple[Detections, DetectionBatch], *, num_classes: int
) -> dict[str, float]:
    coco, voc = average_precision(collected, num_classes=num_classes)
    numbers = {**coco.stats, "mAP_VOC": voc}
    existing = {name: x for name, x in numbers.items() if not np.isnan(x)}
    return {**dict.fromkeys(_ALWAYS, 0.0), **existing}


def _to_original(placement: Array, boxes: Array) -> Array:
    """Boxes in pixels of the original image; see `jaxvision.data.to_original`."""
    scale, offset = jnp.tile(placement[:2], 2), jnp.tile(placement[2:], 2)
    return (boxes - offset[None]) / scale[None]


def partners_of(settings: Any) -> int:
    """How many other examples the augmentation takes: three for mosaic, one for mixup."""
    return 3 * (settings.mosaic > 0) + (settings.mixup > 0)


def _augmentation(settings: Any) -> Callable[[Array, DetectionBatch], DetectionBatch]:
    """Several images become one, that is moved and flipped, and then its colours change."""
    for name in ("mosaic", "mixup", "flip"):
        check_range(f"config.augment.{name}", settings[name], least=0, most=1)
    rule = {"least_visible": settings.least_visible, "least_side": settings.least_side}
    moves = (tuple(settings.scale), tuple(settings.ratio), settings.translate) != (
        (1, 1),
        (1, 1),
        0,
    )
    colours = (settings.hue, settings.saturation, settings.value) != (0, 1, 1)
    steps: list[Callable[[Array, DetectionBatch], DetectionBatch]] = []

    def sometimes(
        function: Callable[[Array, DetectionBatch], DetectionBatch], probability: float
    ) -> Callable[[Array, DetectionBatch], DetectionBatch]:
        return lambda key, example: aug.with_probability(
            key, example, function, probability=probability
        )

    if settings.mosaic:
        steps.append(sometimes(partial(aug.mosaic, **rule), settings.mosaic))
    if settings.mixup:
        last = partners_of(settings) - 1
        mixup = partial(aug.mixup, alpha=settings.mixup_alpha, partner=last)
        steps.append(sometimes(mixup, settings.mixup))
    if settings.jitter:
        steps.append(partial(aug.random_jitter_crop, jitter=settings.jitter, **rule))
    if moves:
        how = {"scale": settings.scale, "ratio": settings.ratio, "translate": settings.translate}
        steps.append(partial(aug.random_scale_and_translate, **how, **rule))
    if settings.flip:
        steps.append(partial(aug.random_horizontal_flip, probability=settings.flip))
    if colours:
        how = {"hue": settings.hue, "saturation": settings.saturation, "value": settings.value}
        steps.append(
            lambda key, example: example.replace(image=aug.random_hsv(key, example.image, **how))
        )

    def augment(key: Array, example: DetectionBatch) -> DetectionBatch:
        # Placement and area tell of an image that is about to change.
        forgotten = {"placement": None, "area": None}
        others = example.partners and example.partners.replace(**forgotten)
        example = example.replace(partners=others, **forgotten)
        for number, step in enumerate(steps):
            example = step(jax.random.fold_in(key, number), example)
        return example.replace(partners=None)

    return augment
