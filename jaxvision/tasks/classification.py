"""Classification: one class an image."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision import augment as aug
from jaxvision.core import AXIS, ClassificationBatch, InputError, Task, Terms, check_range
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


def _loss(settings: Any, num_classes: int) -> Callable[..., tuple[Array, Array]]:
    """The loss with its options, if they are sound."""
    logits, label = jnp.zeros(num_classes), jnp.int32(0)
    loss = find_loss(LOSSES, settings, logits, label)
    try:
        result = jax.eval_shape(loss, logits, label)
    except InputError as error:
        raise InputError(f"config.loss.{error}") from error
    with naming("config.loss"):
        check_pair(result)
    return loss


def classification(config: Any) -> Task:
    """The task of a classification config.

    Args:
      config: with the fields `model` (name and fields), `data` (image_size, channels, num_classes,
        mean, std), `augment` (flip, padding, degrees) and `loss` (name and options); see
        `jaxvision.cli.config.default_config`.
    Raises:
      InputError: a setting that does not fit the others.
    """
    data, changes = config.data, config.augment
    check_range("config.data.num_classes", data.num_classes, least=1)
    check_range("config.data.image_size", data.image_size, least=1)
    check_range("config.augment.padding", changes.padding, least=0)
    check_range("config.augment.degrees", changes.degrees, least=0)
    mean, std = figures_of_channels(data, data.channels)
    example_loss = _loss(config.loss, data.num_classes)
    name, fields = model_of(config)
    model = create_model(name, num_classes=data.num_classes, axis_name=AXIS, **fields)

    def init(key: Array) -> dict[str, Any]:
        images = jnp.zeros((1, data.image_size, data.image_size, data.channels))
        return model.init(key, images, train=False)

    def augment(key: Array, example: ClassificationBatch) -> ClassificationBatch:
        flip, crop, turn = jax.random.split(key, 3)
        image = example.image
        if changes.flip:
            image = aug.horizontal_flip(flip, image)
        if changes.padding:
            image = aug.pad_and_crop(crop, image, padding=changes.padding)
        if changes.degrees:
            image = aug.random_rotation(turn, image, degrees=changes.degrees)
        return example.replace(image=image)

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

    return Task(init, augment, prepare, forward_of(model), loss, metrics, decode)
