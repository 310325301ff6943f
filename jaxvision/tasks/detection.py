"""Detection: boxes with a class each."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvision import augment as aug
from jaxvision.core import DetectionBatch, Detections, InputError, Task, Terms, check_range
from jaxvision.metrics import (
    CocoResult,
    DetectionAccumulator,
    coco_average_precision,
    voc_average_precision,
)
from jaxvision.ops import clip_boxes_to_image
from jaxvision.ops.placement import to_original
from jaxvision.tasks.settings import (
    Step,
    changes_of_color,
    check_terms,
    figures_of_channels,
    forward_of,
    in_turn,
    moves_of,
    naming,
)
from jaxvision.tasks.yolo import detect
from jaxvision.tasks.yolo_heads import make_yolo

# The other numbers are there only if there are objects of their size.
_ALWAYS = ("AP", "AP50", "AP75", "mAP_VOC")


def detection(config: Any) -> Task:
    """The task of a detection config.

    `collect` keeps detections and objects in pixels of the original images, and `summarize` gives
    COCO's numbers and "mAP_VOC", VOC's average precision at an IoU of 0.5 (area under the curve).
    "AP", "AP50", "AP75" and "mAP_VOC" are always there, and 0 if the data has no objects at all.

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
    for name in data.class_names:
        if "," in name:
            parts = tuple(part.strip() for part in name.split(","))
            raise InputError(f"config.data.class_names has {name!r}: give {parts}, in quotes")
    mean, std = figures_of_channels(data, 3)
    yolo = make_yolo(config)
    settings = config.detect
    for name in ("score_threshold", "iou_threshold"):
        check_range(f"config.detect.{name}", settings[name], least=0, most=1)
    for name in ("max_detections", "max_candidates"):
        check_range(f"config.detect.{name}", settings[name], least=1)
    size = (data.image_size, data.image_size)

    def init(key: Array) -> dict[str, Any]:
        return yolo.model.init(key, jnp.zeros((1, *size, 3)), train=False)

    def prepare(example: DetectionBatch) -> DetectionBatch:
        return example.replace(image=aug.normalize(example.image, mean=mean, std=std))

    def loss(outputs: Any, example: DetectionBatch, *, key: Array, step: Array) -> Terms:
        del key
        trained = trained_on(example.crowd, example.difficult, difficult_too=data.difficult)
        return yolo.loss(outputs, example, example.box_mask & trained, step)

    def decode(outputs: Any) -> Detections:
        return detect(
            *yolo.candidates(outputs),
            image_size=size,
            iou_threshold=settings.iou_threshold,
            score_threshold=settings.score_threshold,
            max_detections=settings.max_detections,
            max_candidates=settings.max_candidates,
        )

    def collect(outputs: Any, example: DetectionBatch) -> tuple[Detections, DetectionBatch]:
        found = decode(outputs)
        # Beside a letterboxed image there is nothing to be found.
        boxes = to_original(found.boxes, example.placement)
        boxes = clip_boxes_to_image(boxes, example.size)
        objects = to_original(example.boxes, example.placement)
        return found.replace(boxes=boxes), example.replace(
            image=None, masks=None, partners=None, boxes=objects
        )

    augment = _augmentation(config.augment)
    task = Task(
        init=init,
        augment=augment,
        prepare=prepare,
        forward=forward_of(yolo.model),
        loss=loss,
        metrics=lambda outputs, example: {},
        decode=decode,
        collect=collect,
        summarize=partial(_summarize, num_classes=num_classes),
        partners=partners_of(config.augment),
    )
    _try(task, size)
    return task


def trained_on(crowd: Any, difficult: Any, *, difficult_too: bool) -> Any:
    """Which objects a detector is trained on: no crowds, and the difficult ones only if asked for.

    Args:
      crowd: bool[...], of numpy or JAX.
      difficult: bool[...].
      difficult_too: whether difficult objects count.
    Returns:
      bool[...].
    """
    return ~crowd if difficult_too else ~(crowd | difficult)


def _try(task: Task, size: tuple[int, int]) -> None:
    """Goes through the task on an empty example, without computing it, for what its options raise.

    Raises:
      InputError: an option is out of range, or of another kind.
    """
    none = jnp.zeros(1, bool)
    example = DetectionBatch(
        image=jnp.zeros((*size, 3), jnp.uint8),
        boxes=jnp.zeros((1, 4)),
        labels=jnp.zeros(1, jnp.int32),
        box_mask=none,
        crowd=none,
        difficult=none,
        mask=jnp.bool_(True),
    )
    others = jax.tree.map(lambda x: jnp.broadcast_to(x[None], (task.partners, *x.shape)), example)
    key = jax.random.key(0)

    def outputs_of(key: Array) -> Any:
        batch = jax.tree.map(lambda x: x[None], example)
        batch = jax.vmap(task.prepare)(batch)
        outputs, _ = task.forward(task.init(key), batch, keys=None, step=jnp.int32(0), train=False)
        return jax.tree.map(lambda x: x[0], outputs)

    def terms_of(outputs: Any) -> Terms:
        return task.loss(outputs, example, key=key, step=jnp.int32(0))

    augmented = example.replace(partners=others if task.partners else None)
    with naming("config.augment"):
        jax.eval_shape(task.augment, key, augmented)
    with naming("config.model"):
        outputs = jax.eval_shape(outputs_of, key)
    with naming("config.loss"):
        terms = jax.eval_shape(terms_of, outputs)
        check_terms(terms)
    with naming("config.detect"):
        jax.eval_shape(task.decode, outputs)


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


def partners_of(settings: Any) -> int:
    """How many other examples the augmentation takes: three for mosaic, one for mixup."""
    return 3 * (settings.mosaic > 0) + (settings.mixup > 0)


def _augmentation(settings: Any) -> Step:
    """Several images become one, that is moved and flipped, and then its colours change."""
    for name in ("mosaic", "mixup", "flip"):
        check_range(f"config.augment.{name}", settings[name], least=0, most=1)
    rule = {"least_visible": settings.least_visible, "least_side": settings.least_side}
    steps: list[Step] = []

    def sometimes(function: Step, probability: float) -> Step:
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
    if moves := moves_of(settings):
        steps.append(partial(aug.random_scale_and_translate, **moves, **rule))
    if settings.flip:
        steps.append(partial(aug.random_horizontal_flip, probability=settings.flip))
    changed = in_turn([*steps, *changes_of_color(settings)])

    def augment(key: Array, example: DetectionBatch) -> DetectionBatch:
        # These tell of an image that is about to change.
        forgotten = {"placement": None, "size": None, "area": None}
        others = example.partners and example.partners.replace(**forgotten)
        example = example.replace(partners=others, **forgotten)
        return changed(key, example).replace(partners=None)

    return augment
