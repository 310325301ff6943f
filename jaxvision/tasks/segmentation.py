"""Segmentation: a class for each pixel."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision import augment as aug
from jaxvision.core import AXIS, IGNORED, InputError, SegmentationBatch, Task, Terms, check_range
from jaxvision.losses import (
    dice_loss,
    pixel_binary_cross_entropy,
    pixel_cross_entropy,
    sigmoid_focal_loss,
    softmax_focal_loss,
)
from jaxvision.metrics import dice_score, mean_iou, pixel_accuracy
from jaxvision.models import create_model
from jaxvision.tasks.settings import (
    Step,
    changes_of_color,
    check_terms,
    figures_of_channels,
    find_loss,
    forward_of,
    in_turn,
    middle,
    model_of,
    moves_of,
    naming,
)


def losses_of_classes(
    logits: Array,
    labels: Array,
    *,
    cross_entropy: float = 1.0,
    focal: float = 0.0,
    dice: float = 0.0,
    class_weights: tuple[float, ...] | None = None,
    gamma: float = 2.0,
    smooth: float = 1.0,
) -> Terms:
    """Softmax cross entropy and focal loss of each pixel and the classes' Dice loss, with factors.

    Args:
      logits: f32[H, W, K].
      labels: int[H, W], a class or 255.
      cross_entropy: factor of the cross entropy; 0 leaves it out.
      focal: likewise of the focal loss.
      dice: likewise of the Dice loss.
      class_weights: of the cross entropy, see `pixel_cross_entropy`; and of the focal loss.
      gamma: see `softmax_focal_loss`.
      smooth: see `dice_loss`.
    Returns:
      {"cross_entropy", "focal_loss", "dice_loss"}, as far as they have a factor: (total, weight),
      f32[].
    Raises:
      ValueError: an option is out of range, or all factors are 0.
    """
    counted = labels != IGNORED
    classes = jnp.where(counted, labels, 0)
    targets = jax.nn.one_hot(classes, logits.shape[-1])
    weighted = {"class_weights": class_weights, "ignore_label": IGNORED}
    return _with_factors(
        cross_entropy=(cross_entropy, lambda: pixel_cross_entropy(logits, labels, **weighted)),
        focal_loss=(
            focal,
            lambda: softmax_focal_loss(logits, classes, counted, alpha=class_weights, gamma=gamma),
        ),
        dice_loss=(
            dice,
            lambda: dice_loss(jax.nn.softmax(logits), targets, counted, smooth=smooth),
        ),
    )


def losses_of_one_class(
    logits: Array,
    labels: Array,
    *,
    cross_entropy: float = 1.0,
    focal: float = 0.0,
    dice: float = 0.0,
    positive_weight: float = 1.0,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    smooth: float = 1.0,
) -> Terms:
    """As `losses_of_classes`, of one class without a channel for the background.

    Args:
      logits: f32[H, W, 1].
      labels: int[H, W], 0, 1 or 255.
      cross_entropy: factor of the sigmoid cross entropy; 0 leaves it out.
      focal: likewise of the focal loss.
      dice: likewise of the Dice loss.
      positive_weight: see `pixel_binary_cross_entropy`.
      alpha: see `sigmoid_focal_loss`.
      gamma: likewise.
      smooth: see `dice_loss`.
    Returns:
      {"cross_entropy", "focal_loss", "dice_loss"}, as far as they have a factor: (total, weight),
      f32[].
    Raises:
      ValueError: an option is out of range, or all factors are 0.
    """
    counted, targets = labels != IGNORED, labels == 1
    weighted = {"positive_weight": positive_weight, "ignore_label": IGNORED}
    pixels = logits[..., 0]
    probabilities = jax.nn.sigmoid(logits)
    return _with_factors(
        cross_entropy=(
            cross_entropy,
            lambda: pixel_binary_cross_entropy(pixels, labels, **weighted),
        ),
        focal_loss=(
            focal,
            lambda: sigmoid_focal_loss(pixels, targets, counted, alpha=alpha, gamma=gamma),
        ),
        dice_loss=(
            dice,
            lambda: dice_loss(probabilities, targets[..., None], counted, smooth=smooth),
        ),
    )


def _with_factors(**parts: tuple[float, Callable[[], tuple[Array, Array]]]) -> Terms:
    """The terms that have a factor, times it."""
    for name, (factor, _) in parts.items():
        check_range(f"the factor of {name}", factor, least=0)
    factors = [factor for factor, _ in parts.values()]
    check_range("the sum of the factors", sum(factors), more_than=0)
    terms = {}
    for name, (factor, loss) in parts.items():
        if factor:
            total, weight = loss()
            terms[name] = factor * total, weight
    return terms


LOSSES: dict[str, Callable[..., Terms]] = {
    "cross_entropy": losses_of_classes,
    "binary_cross_entropy": losses_of_one_class,
}
"""What `config.loss.name` may be, besides a function of the user's: (logits f32[H, W, K], labels
int[H, W], options) -> terms."""


def segmentation(config: Any) -> Task:
    """The task of a segmentation config.

    With one channel of logits (the loss "binary_cross_entropy") there are two classes, the second
    where the sigmoid is above 1/2; else a pixel has the class of its highest logit. `collect` keeps
    the intersection and the union of each class. A network's map "aux" has the same loss, but for
    the options in `config.auxiliary`, times the factor there; its terms are named aux_...

    Args:
      config: with the fields `model` (name and fields), `data` (image_size, class_names, mean,
        std), `augment`, `loss` (name and options) and `auxiliary` (factor and options); see
        `jaxvision.cli.config.default_config`.
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
        maps = jax.eval_shape(
            lambda: model.init_with_output(
                jax.random.key(0), jnp.zeros((1, *size, 3)), train=False
            )[0]
        )
    shape = maps["logits"].shape[1:]
    options = dict(config.auxiliary)
    factor = options.pop("factor")
    check_range("config.auxiliary.factor", factor, least=0)
    if options and "aux" not in maps:
        raise InputError(
            f'config.auxiliary.{min(options)} is of the loss of a map "aux", but '
            f"config.model.name={name!r} gives none: leave it out"
        )

    def checked_loss(group: str, settings: dict[str, Any]) -> Callable[..., Terms]:
        logits, labels = jnp.zeros(shape), jnp.zeros(shape[:2], jnp.uint8)
        loss = find_loss(LOSSES, settings, logits, labels)
        with naming(group):
            check_terms(jax.eval_shape(loss, logits, labels))
        return loss

    example_loss = checked_loss("config.loss", dict(config.loss))
    if "aux" in maps:
        auxiliary_loss = checked_loss("config.auxiliary", {**config.loss, **options})

    def prepare(example: SegmentationBatch) -> SegmentationBatch:
        return example.replace(image=aug.normalize(example.image, mean=mean, std=std))

    def loss(outputs: Any, example: SegmentationBatch, *, key: Array, step: Array) -> Terms:
        del key, step
        labels = middle(example.labels, shape[:2])
        terms = example_loss(outputs["logits"], labels)
        if "aux" in maps:
            for name, (total, weight) in auxiliary_loss(outputs["aux"], labels).items():
                terms[f"aux_{name}"] = factor * total, weight
        return terms

    def decode(outputs: Any) -> Array:
        logits = outputs["logits"]
        if channels == 1:
            return (logits[..., 0] > 0).astype(jnp.int32)
        return jnp.argmax(logits, axis=-1)

    def metrics(outputs: Any, example: SegmentationBatch) -> Terms:
        found, labels = decode(outputs), middle(example.labels, shape[:2]).astype(jnp.int32)
        how = {"num_classes": num_classes, "ignore_label": IGNORED}
        return {
            "mean_iou": mean_iou(found, labels, **how),
            "dice": dice_score(found, labels, **how),
            "pixel_accuracy": pixel_accuracy(found, labels, ignore_label=IGNORED),
        }

    def collect(outputs: Any, example: SegmentationBatch) -> tuple[Array, Array]:
        return metrics(outputs, example)["mean_iou"]

    return Task(
        init=init,
        augment=_augmentation(config.augment),
        prepare=prepare,
        forward=forward_of(model),
        loss=loss,
        metrics=metrics,
        decode=decode,
        collect=collect,
    )


def _augmentation(settings: Any) -> Step:
    """Moved, bent and flipped; then the colours change."""
    steps: list[Step] = []
    if moves := moves_of(settings):
        steps.append(partial(aug.random_scale_and_translate_labelled, **moves))
    if settings.elastic:
        steps.append(partial(aug.elastic_deformation, sigma=settings.elastic))
    if settings.flip:
        steps.append(partial(aug.random_flip_labelled, probability=settings.flip))
    return in_turn([*steps, *changes_of_color(settings)])
