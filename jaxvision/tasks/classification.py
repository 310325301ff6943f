"""Classification: one class an image."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision import augment as aug
from jaxvision.core import AXIS, ClassificationBatch, InputError, Task, Terms, check_range
from jaxvision.data.transforms.classification import check_crop_scale
from jaxvision.losses import cross_entropy, softmax_focal_loss
from jaxvision.metrics import top_k_accuracy
from jaxvision.models import create_model
from jaxvision.tasks.settings import (
    check_pair,
    figures_of_channels,
    find_loss,
    forward_of,
    model_of,
    naming,
)

LOSSES = {"cross_entropy": cross_entropy, "softmax_focal_loss": softmax_focal_loss}
"""What `config.loss.name` may be, besides a function of the user's: (logits f32[K], label, options)
-> (total, weight), where the label is i32[] or, for soft targets, f32[K]."""


def _loss(settings: Any, num_classes: int, *, soft: bool) -> Callable[..., tuple[Array, Array]]:
    """The loss with its options, if they are sound; `soft`: for distributions too."""
    logits, label = jnp.zeros(num_classes), jnp.int32(0)
    loss = find_loss(LOSSES, settings, logits, label)
    try:
        result = jax.eval_shape(loss, logits, label)
    except InputError as error:
        raise InputError(f"config.loss.{error}") from error
    with naming("config.loss"):
        check_pair(result)
    if soft:
        # Whatever a loss of the user's own raises where it does not know such targets.
        try:
            check_pair(jax.eval_shape(loss, logits, logits))
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]
            raise InputError(
                f"config.augment.mixup and cutmix give targets f32[{num_classes}], which the loss "
                f"{settings['name']!r} does not take: use 'cross_entropy' ({reason})"
            ) from error
    return loss


def _check_augment(changes: Any) -> None:
    """Raises InputError, naming the key, if an option is out of range."""

    def check(name: str, **bounds: float) -> None:
        check_range(f"config.augment.{name}", changes[name], **bounds)

    for name in ("padding", "degrees", "rand_augment"):
        check(name, least=0)
    for name in ("brightness", "contrast", "saturation"):
        check(name, least=0, less_than=math.inf)
    check("hue", least=0, most=0.5)
    check("rand_augment_magnitude", least=0, most=30)
    for name in ("mixup", "cutmix"):
        check(name, least=0, most=1)
        check(f"{name}_alpha", more_than=0, less_than=math.inf)
    both = changes.mixup + changes.cutmix
    check_range("config.augment.mixup plus config.augment.cutmix", both, most=1)
    if changes.crop_scale is not None:
        check_crop_scale(changes.crop_scale)


def _image_change(changes: Any) -> Callable[[Array, Array], Array]:
    """(key, image) -> image: what `config.augment` does with one image."""
    jitter = {name: changes[name] for name in ("brightness", "contrast", "saturation", "hue")}

    def change(key: Array, image: Array) -> Array:
        flip, padding, turn = jax.random.split(key, 3)
        # What came later draws from keys of its own, so that older runs go on as they were.
        crop, color, rand = (jax.random.fold_in(key, number) for number in (3, 4, 5))
        if changes.crop_scale is not None and changes.crop_on_device:
            image = aug.random_resized_crop(crop, image, scale=tuple(changes.crop_scale))
        if changes.flip:
            image = aug.horizontal_flip(flip, image)
        if changes.padding:
            image = aug.pad_and_crop(padding, image, padding=changes.padding)
        if changes.degrees:
            image = aug.random_rotation(turn, image, degrees=changes.degrees)
        if any(jitter.values()):
            image = aug.color_jitter(color, image, **jitter)
        if changes.rand_augment:
            strength = changes.rand_augment_magnitude
            image = aug.rand_augment(rand, image, num_ops=changes.rand_augment, magnitude=strength)
        return image

    return change


def classification(config: Any) -> Task:
    """The task of a classification config.

    Args:
      config: with the fields `model` (name and fields), `data` (image_size, channels, num_classes,
        mean, std), `augment` and `loss` (name and options); see
        `jaxvision.cli.config.default_config`.
    Raises:
      InputError: a setting that does not fit the others.
    """
    data, changes = config.data, config.augment
    check_range("config.data.num_classes", data.num_classes, least=1)
    check_range("config.data.image_size", data.image_size, least=1)
    _check_augment(changes)
    mixes = changes.mixup > 0 or changes.cutmix > 0
    mean, std = figures_of_channels(data, data.channels)
    example_loss = _loss(config.loss, data.num_classes, soft=mixes)
    name, fields = model_of(config)
    model = create_model(name, num_classes=data.num_classes, axis_name=AXIS, **fields)

    def init(key: Array) -> dict[str, Any]:
        images = jnp.zeros((1, data.image_size, data.image_size, data.channels))
        return model.init(key, images, train=False)

    change = _image_change(changes)

    def augment(key: Array, example: ClassificationBatch) -> ClassificationBatch:
        example = example.replace(image=change(key, example.image))
        if not mixes:
            return example
        partner_key, mix_key = (jax.random.fold_in(key, number) for number in (6, 7))
        others = jax.vmap(change)(partner_key[None], example.partners.image)
        return aug.mixup_or_cutmix_classification(
            mix_key,
            example.replace(partners=example.partners.replace(image=others)),
            num_classes=data.num_classes,
            mixup=changes.mixup,
            cutmix=changes.cutmix,
            mixup_alpha=changes.mixup_alpha,
            cutmix_alpha=changes.cutmix_alpha,
        )

    def prepare(example: ClassificationBatch) -> ClassificationBatch:
        return example.replace(image=aug.normalize(example.image, mean=mean, std=std))

    def loss(outputs: Any, example: ClassificationBatch, *, key: Array, step: Array) -> Terms:
        del key, step
        total, weight = example_loss(outputs["logits"], example.label)
        return {"classification_loss": (example.weight * total, example.weight * weight)}

    def metrics(outputs: Any, example: ClassificationBatch) -> Terms:
        return {"accuracy": top_k_accuracy(outputs["logits"], example.label)}

    def decode(outputs: Any) -> dict[str, Array]:
        probabilities = jax.nn.softmax(outputs["logits"])
        return {"label": jnp.argmax(probabilities), "probabilities": probabilities}

    return Task(
        init, augment, prepare, forward_of(model), loss, metrics, decode, partners=int(mixes)
    )
