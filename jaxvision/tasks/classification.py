"""Classification: one class an image."""

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision import augment as aug
from jaxvision.core import (
    AXIS,
    ClassificationBatch,
    InputError,
    Keys,
    Task,
    Terms,
    check_range,
    find_function,
)
from jaxvision.losses import cross_entropy, softmax_focal_loss
from jaxvision.metrics import top_k_accuracy
from jaxvision.models import create_model

LOSSES = {"cross_entropy": cross_entropy, "softmax_focal_loss": softmax_focal_loss}
"""What `config.loss.name` may be, besides a function of the user's: (logits f32[K], label, options)
-> (total, weight), where the label is i32[] or, for soft targets, f32[K]."""


def _loss(settings: Any, num_classes: int) -> Callable[..., tuple[Array, Array]]:
    """The loss with its options, if they are sound."""
    options = dict(settings)
    name = options.pop("name", None)
    function = find_function(LOSSES, name, "loss")
    loss = partial(function, **options)
    logits, label = jnp.zeros(num_classes), jnp.int32(0)
    try:
        inspect.signature(function).bind(logits, label, **options)
    except TypeError as error:
        raise InputError(f"config.loss: {name} got other options than it has: {error}") from error
    try:
        result = jax.eval_shape(loss, logits, label)
    except InputError as error:
        raise InputError(f"config.loss.{error}") from error
    numbers = isinstance(result, tuple | list) and all(hasattr(x, "shape") for x in result)
    if not numbers or [x.shape for x in result] != [(), ()]:
        raise InputError(f"config.loss: {name} returns {result}: give (total, weight), two numbers")
    return loss


def _check(config: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std as figures for each channel, if all settings are sound."""
    data, changes = config.data, config.augment
    check_range("config.data.num_classes", data.num_classes, least=1)
    figures = []
    for name in ("mean", "std"):
        given = getattr(data, name)
        try:
            figures.append(tuple(float(x) for x in given))
        except (TypeError, ValueError) as error:
            raise InputError(
                f"config.data.{name} is {given!r}: give a figure for each channel, as (0.5,)"
            ) from error
    mean, std = figures
    check_range("config.data.image_size", data.image_size, least=1)
    if not len(mean) == len(std) == data.channels:
        raise InputError(
            f"config.data has {data.channels} channels, but {len(mean)} figures in mean and "
            f"{len(std)} in std: give one for each channel"
        )
    for x in mean:
        check_range("config.data.mean", x, more_than=-math.inf, less_than=math.inf)
    for x in std:
        check_range("config.data.std", x, more_than=0, less_than=math.inf)
    check_range("config.augment.padding", changes.padding, least=0)
    check_range("config.augment.degrees", changes.degrees, least=0)
    return mean, std


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
    mean, std = _check(config)
    example_loss = _loss(config.loss, data.num_classes)
    fields = dict(config.model)
    model = create_model(fields.pop("name"), num_classes=data.num_classes, axis_name=AXIS, **fields)

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

    def forward(
        variables: dict[str, Any],
        batch: ClassificationBatch,
        *,
        keys: Keys | None,
        step: Array,
        train: bool,
    ) -> tuple[Any, dict[str, Any]]:
        del step
        if not train:
            return model.apply(variables, batch.image, train=False), {}
        statistics = [name for name in variables if name != "params"]
        return model.apply(
            variables,
            batch.image,
            train=True,
            mutable=statistics,
            rngs={"dropout": keys.device},
        )

    def loss(outputs: Any, example: ClassificationBatch, *, key: Array, step: Array) -> Terms:
        del key, step
        total, weight = example_loss(outputs["logits"], example.label)
        return {"classification_loss": (example.weight * total, example.weight * weight)}

    def metrics(outputs: Any, example: ClassificationBatch) -> Terms:
        return {"accuracy": top_k_accuracy(outputs["logits"], example.label)}

    def decode(outputs: Any) -> dict[str, Array]:
        probabilities = jax.nn.softmax(outputs["logits"])
        return {"label": jnp.argmax(probabilities), "probabilities": probabilities}

    return Task(init, augment, prepare, forward, loss, metrics, decode)
