"""Landmarks: named points of an image, from a heatmap each."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision import augment as aug
from jaxvision.core import (
    AXIS,
    InputError,
    LandmarkBatch,
    Task,
    Terms,
    at_least_float32,
    check_range,
    lookup,
)
from jaxvision.losses import heatmap_cross_entropy, heatmap_l2_loss
from jaxvision.metrics import normalized_landmark_error
from jaxvision.models import SEGMENTERS, create_model
from jaxvision.ops import gaussian_heatmaps, heatmap_argmax, soft_argmax
from jaxvision.ops.placement import to_original
from jaxvision.tasks.settings import (
    Step,
    changes_of_color,
    check_terms,
    figures_of_channels,
    find_loss,
    forward_of,
    in_turn,
    model_of,
    moves_of,
    naming,
)


def _to_gaussians(
    term: str,
    loss: Callable[[Array, Array, Array], tuple[Array, Array]],
    maps: Array,
    points: Array,
    visible: Array,
    *,
    sigma: float = 1.0,
) -> Terms:
    """A loss whose targets are Gaussians around the points.

    Args:
      term: its name in the progress and the curves.
      loss: (maps, targets f32[h, w, K], visible) -> (total, weight).
      maps: f32[h, w, K].
      points: f32[K, 2], pixels of the maps.
      visible: bool[K].
      sigma: of the Gaussians, pixels of the maps.
    Raises:
      ValueError: sigma is out of range.
    """
    targets = gaussian_heatmaps(points, size=maps.shape[:2], sigma=sigma)
    return {term: loss(maps, targets, visible)}


LOSSES: dict[str, Callable[..., Terms]] = {
    "heatmap_cross_entropy": partial(_to_gaussians, "cross_entropy", heatmap_cross_entropy),
    "heatmap_l2_loss": partial(_to_gaussians, "l2", heatmap_l2_loss),
}
"""What `config.loss.name` may be, besides a function of the user's: (logits f32[h, w, K], points
f32[K, 2] in pixels of the maps, visible bool[K], options) -> terms. The option of these is sigma=1,
of the Gaussians, in pixels of the maps."""


def _softly(logits: Array, heatmaps: Array, settings: Any) -> Array:
    del heatmaps
    return soft_argmax(logits, temperature=settings.temperature, radius=settings.radius or None)


def _at_the_highest(logits: Array, heatmaps: Array, settings: Any) -> Array:
    del logits, settings
    points, _ = heatmap_argmax(heatmaps)
    return points


METHODS: dict[str, Callable[[Array, Array, Any], Array]] = {
    "soft_argmax": _softly,
    "argmax": _at_the_highest,
}
"""What `config.decode.method` may be: (logits, heatmaps, both f32[h, w, K], config.decode) ->
f32[K, 2], pixels of the maps."""


def landmarks(config: Any) -> Task:
    """The task of a landmark config.

    The network has a map for each landmark, as large as its input or a whole part of that. With the
    loss "heatmap_l2_loss" these are the heatmaps; with any other they are logits, whose softmax
    over the pixels is the heatmap. `decode` gives "points" f32[K, 2] (xy, pixels of the network's
    input) and "scores" f32[K], the highest values of the heatmaps. The metric "pixel_error" is the
    distance in pixels of the original image, averaged over all visible landmarks.

    Args:
      config: with the fields `model` (name and fields), `data` (image_size, class_names, mean,
        std), `augment`, `loss` (name and options) and `decode`; see
        `jaxvision.cli.config.default_config`.
    Raises:
      InputError: a setting that does not fit the others.
    """
    data = config.data
    num_landmarks = len(data.class_names)
    check_range("the number of config.data.class_names", num_landmarks, least=1)
    check_range("config.data.image_size", data.image_size, least=1)
    mean, std = figures_of_channels(data, 3)
    name, fields = model_of(config)
    lookup(SEGMENTERS, name, "network that gives maps")
    model = create_model(name, num_classes=num_landmarks, axis_name=AXIS, **fields)
    if getattr(model, "padding", "same") == "valid":
        raise InputError(f"the maps of {name} lack the border of its images: give one that pads")
    shape = (data.image_size, data.image_size, 3)

    def init(key: Array) -> dict[str, Any]:
        return model.init(key, jnp.zeros((1, *shape)), train=False)

    with naming("config.model"):
        outputs = jax.eval_shape(
            lambda: model.init_with_output(jax.random.key(0), jnp.zeros((1, *shape)), train=False)
        )[0]
        maps = outputs["logits"].shape[1:]
        stride = _stride(shape, maps)
    targets = jnp.zeros((num_landmarks, 2)), jnp.zeros(num_landmarks, bool)
    example_loss = find_loss(LOSSES, config.loss, jnp.zeros(maps), *targets)
    with naming("config.loss"):
        check_terms(jax.eval_shape(example_loss, jnp.zeros(maps), *targets))
    augment = _augmentation(config.augment)
    with naming("config.augment"):
        example = LandmarkBatch(jnp.zeros(shape, jnp.uint8), *targets, mask=jnp.bool_(True))
        jax.eval_shape(augment, jax.random.key(0), example)
    find = lookup(METHODS, config.decode.method, "config.decode.method")

    def prepare(example: LandmarkBatch) -> LandmarkBatch:
        return example.replace(image=aug.normalize(example.image, mean=mean, std=std))

    def loss(outputs: Any, example: LandmarkBatch, *, key: Array, step: Array) -> Terms:
        del key, step
        return example_loss(outputs["logits"], example.points / stride, example.visible)

    def decode(outputs: Any) -> dict[str, Array]:
        logits = heatmaps = at_least_float32(outputs["logits"])
        if config.loss.name != "heatmap_l2_loss":
            heatmaps = jax.nn.softmax(logits, axis=(0, 1))
        points = find(logits, heatmaps, config.decode)
        return {"points": points * stride, "scores": heatmaps.max(axis=(0, 1))}

    with naming("config.decode"):
        jax.eval_shape(decode, {"logits": jnp.zeros(maps)})

    def metrics(outputs: Any, example: LandmarkBatch) -> Terms:
        found, points = (
            to_original(jnp.tile(x, 2), example.placement)[:, :2]
            for x in (decode(outputs)["points"], example.points)
        )
        error = normalized_landmark_error(found, points, example.visible, 1.0)
        return {"pixel_error": error}

    return Task(
        init=init,
        augment=augment,
        prepare=prepare,
        forward=forward_of(model),
        loss=loss,
        metrics=metrics,
        decode=decode,
    )


def _stride(image: tuple[int, ...], maps: tuple[int, ...]) -> Array:
    """Pixels of the image for one of the maps along x and y, f32[1, 2]."""
    (height, width), (rows, columns) = image[:2], maps[:2]
    if height % rows or width % columns:
        raise InputError(
            f"its maps are {columns} x {rows} of images of {width} x {height} pixels: give a "
            "network whose maps are as large as the images, or a whole part of that"
        )
    return jnp.array([[width // columns, height // rows]], jnp.float32)


def _augmentation(settings: Any) -> Step:
    """Moved and flipped; then the colours change."""
    steps: list[Step] = []
    if moves := moves_of(settings):
        steps.append(partial(aug.random_scale_and_translate_landmarks, **moves))
    if settings.flip:
        how = {"probability": settings.flip, "swap": settings.swap}
        steps.append(partial(aug.random_flip_landmarks, **how))
    return in_turn([*steps, *changes_of_color(settings)])
