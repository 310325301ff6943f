"""Segmentation: a class for each pixel."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision import augment as aug
from jaxvision.core import AXIS, SegmentationBatch, Task, Terms, check_range
from jaxvision.losses import dice_loss, pixel_binary_cross_entropy, pixel_cross_entropy
from jaxvision.metrics import dice_score, mean_iou, pixel_accuracy
from jaxvision.models import create_model
from jaxvision.tasks.settings import (
    check_terms,
    figures_of_channels,
    find_loss,
    forward_of,
    model_of,
    naming,
)

IGNORED = 255
"""The label of pixels that do not count."""


def cross_entropy_and_dice(
    logits: Array,
    labels: Array,
    *,
    cross_entropy: float = 1.0,
    dice: float = 0.0,
    class_weights: tuple[float, ...] | None = None,
    smooth: float = 1.0,
) -> Terms:
    """Softmax cross entropy of each pixel and the classes' Dice loss, each with a factor.

    Args:
      logits: f32[H, W, K].
      labels: int[H, W], a class or 255.
      cross_entropy: factor of the cross entropy; 0 leaves it out.
      dice: factor of the Dice loss; 0 leaves it out.
      class_weights: see `pixel_cross_entropy`.
      smooth: see `dice_loss`.
    Returns:
      {"cross_entropy", "dice"}, as far as they have a factor: (total, weight), f32[].
    Raises:
      ValueError: a factor is negative, or both are 0.
    """
    terms = {}
    if cross_entropy:
        how = {"class_weights": class_weights, "ignore_label": IGNORED}
        terms["cross_entropy"] = cross_entropy, pixel_cross_entropy(logits, labels, **how)
    if dice:
        targets = jax.nn.one_hot(labels, logits.shape[-1])
        probabilities = jax.nn.softmax(logits)
        loss = dice_loss(probabilities, targets, labels != IGNORED, smooth=smooth)
        terms["dice"] = dice, loss
    return _weighted(terms, {"cross_entropy": cross_entropy, "dice": dice})


def binary_cross_entropy_and_dice(
    logits: Array,
    labels: Array,
    *,
    cross_entropy: float = 1.0,
    dice: float = 0.0,
    positive_weight: float = 1.0,
    smooth: float = 1.0,
) -> Terms:
    """As `cross_entropy_and_dice`, of one class without a channel for the background.

    Args:
      logits: f32[H, W, 1].
      labels: int[H, W], 0, 1 or 255.
      cross_entropy: factor of the sigmoid cross entropy; 0 leaves it out.
      dice: factor of the Dice loss; 0 leaves it out.
      positive_weight: see `pixel_binary_cross_entropy`.
      smooth: see `dice_loss`.
    Returns:
      {"cross_entropy", "dice"}, as far as they have a factor: (total, weight), f32[].
    Raises:
      ValueError: a factor is negative, or both are 0.
    """
    terms = {}
    if cross_entropy:
        how = {"positive_weight": positive_weight, "ignore_label": IGNORED}
        loss = pixel_binary_cross_entropy(logits[..., 0], labels, **how)
        terms["cross_entropy"] = cross_entropy, loss
    if dice:
        targets = (labels == 1)[..., None]
        loss = dice_loss(jax.nn.sigmoid(logits), targets, labels != IGNORED, smooth=smooth)
        terms["dice"] = dice, loss
    return _weighted(terms, {"cross_entropy": cross_entropy, "dice": dice})


def _weighted(terms: Any, factors: dict[str, float]) -> Terms:
    for name, factor in factors.items():
        check_range(name, factor, least=0)
    check_range("the sum of the factors", sum(factors.values()), more_than=0)
    return {name: (factor * total, weight) for name, (factor, (total, weight)) in terms.items()}


LOSSES: dict[str, Callable[..., Terms]] = {
    "cross_entropy": cross_entropy_and_dice,
    "binary_cross_entropy": binary_cross_entropy_and_dice,
}
"""What `config.loss.name` may be, besides a function of the user's: (logits f32[H, W, K], labels
int[H, W], options) -> terms."""


def segmentation(config: Any) -> Task:
    """The task of a segmentation config.

    With one channel of logits (the loss "binary_cross_entropy") there are two classes, the second
    where the sigmoid is above 1/2; else a pixel has the class of its highest logit.

    Args:
      config: with the fields `model` (name and fields), `data` (image_size, class_names, mean,
        std), `augment` and `loss` (name and options); see `jaxvision.cli.config.default_config`.
    Raises:
      InputError: a setting that does not fit the others.
    """
    data = config.data
    num_classes = len(data.class_names)
    check_range("the number of config.data.class_names", num_classes, least=2, most=IGNORED)
    check_range("config.data.image_size", data.image_size, least=1)
    mean, std = figures_of_channels(data, 3)
    channels = num_classes
    if config.loss.name == "binary_cross_entropy":
        check_range("the number of config.data.class_names with a binary loss", num_classes, most=2)
        channels = 1
    name, fields = model_of(config)
    model = create_model(name, num_classes=channels, axis_name=AXIS, **fields)
    size = (data.image_size, data.image_size)

    def init(key: Array) -> dict[str, Any]:
        return model.init(key, jnp.zeros((1, *size, 3)), train=False)

    with naming("config.model"):
        shape = jax.eval_shape(
            lambda: model.init_with_output(
                jax.random.key(0), jnp.zeros((1, *size, 3)), train=False
            )[0]
        )["logits"].shape[1:]
    labels = jax.ShapeDtypeStruct(shape[:2], jnp.uint8)
    example_loss = find_loss(LOSSES, config.loss, jnp.zeros(shape), labels)
    with naming("config.loss"):
        check_terms(jax.eval_shape(example_loss, jnp.zeros(shape), labels))

    def prepare(example: SegmentationBatch) -> SegmentationBatch:
        image = aug.normalize(example.image, mean=mean, std=std)
        return example.replace(image=image, labels=_cropped(example.labels, shape[:2]))

    def loss(outputs: Any, example: SegmentationBatch, *, key: Array, step: Array) -> Terms:
        del key, step
        return example_loss(outputs["logits"], example.labels)

    def decode(outputs: Any) -> Array:
        logits = outputs["logits"]
        if channels == 1:
            return (logits[..., 0] > 0).astype(jnp.int32)
        return jnp.argmax(logits, axis=-1)

    def metrics(outputs: Any, example: SegmentationBatch) -> Terms:
        found, labels = decode(outputs), example.labels.astype(jnp.int32)
        how = {"num_classes": num_classes, "ignore_label": IGNORED}
        return {
            "mean_iou": mean_iou(found, labels, **how),
            "dice": dice_score(found, labels, **how),
            "pixel_accuracy": pixel_accuracy(found, labels, ignore_label=IGNORED),
        }

    return Task(
        init=init,
        augment=_augmentation(config.augment),
        prepare=prepare,
        forward=forward_of(model),
        loss=loss,
        metrics=metrics,
        decode=decode,
    )


def _cropped(labels: Array, size: tuple[int, int]) -> Array:
    """The middle of the labels, as a network without padding has logits for no more."""
    top, left = ((have - want) // 2 for have, want in zip(labels.shape, size, strict=True))
    return labels[top : top + size[0], left : left + size[1]]


def _augmentation(settings: Any) -> Callable[[Array, SegmentationBatch], SegmentationBatch]:
    """Moved, bent and flipped; then the colours change."""
    moves = (tuple(settings.scale), tuple(settings.ratio), settings.translate)
    colours = (settings.hue, settings.saturation, settings.value)
    steps: list[Callable[[Array, SegmentationBatch], SegmentationBatch]] = []
    if moves != ((1, 1), (1, 1), 0):
        how = {"scale": settings.scale, "ratio": settings.ratio, "translate": settings.translate}
        steps.append(partial(aug.random_scale_and_translate_labelled, **how))
    if settings.elastic:
        steps.append(partial(aug.elastic_deformation, sigma=settings.elastic))
    if settings.flip:
        steps.append(partial(aug.random_flip_labelled, probability=settings.flip))
    if colours != (0, 1, 1):
        how = {"hue": settings.hue, "saturation": settings.saturation, "value": settings.value}
        steps.append(
            lambda key, example: example.replace(image=aug.random_hsv(key, example.image, **how))
        )

    def augment(key: Array, example: SegmentationBatch) -> SegmentationBatch:
        for number, step in enumerate(steps):
            example = step(jax.random.fold_in(key, number), example)
        return example

    return augment
