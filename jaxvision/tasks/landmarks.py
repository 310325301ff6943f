"""Landmarks: named points of an image, from a heatmap each."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxvision.core import (
    Inputs,
    LandmarkBatch,
    OptionError,
    Task,
    Terms,
    at_least_float32,
    describe,
    option_errors,
    restore,
)
from jaxvision.metrics import normalized_landmark_error
from jaxvision.ops import to_original
from jaxvision.tasks.building import (
    as_terms,
    augment_of,
    check_augment,
    check_loss,
    check_map,
    described,
    forward_of,
    init_of,
    maps_of_image,
    names_of,
    prepare_of,
    synchronised,
    with_key_and_step,
)
from jaxvision.tasks.composite_losses import gaussian_loss
from jaxvision.tasks.decoding import METHODS, HeatmapDecode
from jaxvision.tasks.names import NAMES


def landmarks(
    model: nn.Module,
    inputs: Inputs,
    *,
    landmark_names: Sequence[str],
    loss: Callable[..., Any] | None = gaussian_loss,
    decode: HeatmapDecode = HeatmapDecode(),
    augment: Sequence[Any] = (),
    sync_batch_norm: bool = True,
) -> Task:
    """Creates the task of finding named points, by a map for each.

    `decode` gives "points", f32[K, 2] (xy, pixels of the network's input), and "scores", f32[K],
    the highest values of the heatmaps. The metric "pixel_error" is the distance in pixels of the
    original image, averaged over all visible landmarks; in training, after geometric augmentation,
    in pixels of the network's input.

    Args:
      model: a network that gives "logits", f32[B, h, w, K], whose maps are as large as its input
        or a whole fraction of it.
      inputs: size, normalisation and resizing of the images.
      landmark_names: of the K landmarks.
      loss: (logits f32[h, w, K], points f32[K, 2] in pixels of the maps, visible bool[K]) ->
        (total, weight), or named pairs of that form. It gets `key` and `step` too, if its
        signature names them. None: a task for evaluation only.
      decode: how maps become points.
      augment: augmentations, see `jaxvision.augment`, one after the other.
      sync_batch_norm: whether batch norms use the statistics of the batches of all devices, so that
        losses do not depend on the number of devices. False: those of each device's part, which
        saves two all-reduces a norm; the running statistics are the means over the devices.
    Raises:
      OptionError: an option is out of range, or does not fit the others.
    """
    names = names_of(landmark_names, option="landmark_names")
    count = len(names)
    if getattr(model, "padding", "same") == "valid":
        raise OptionError(
            "model", "model gives maps that lack the border of its images: give one that pads"
        )
    maps = maps_of_image(model, inputs.shape)
    check_map(maps, "logits", count, "landmarks")
    shape = maps["logits"].shape
    stride = _stride(inputs.shape[:2], shape)
    network, augmentation = synchronised(model, sync_batch_norm), augment_of(augment)
    nothing = LandmarkBatch(
        image=jnp.zeros(inputs.shape, jnp.uint8),
        points=jnp.zeros((count, 2)),
        visible=jnp.zeros(count, bool),
        mask=jnp.bool_(True),
        extent=jnp.array(inputs.shape[:2], jnp.int32),
    )
    check_augment(augmentation, nothing)
    task_loss = None
    if loss is not None:
        targets = jnp.zeros((count, 2)), jnp.zeros(count, bool)
        check_loss("loss", loss, jnp.zeros(shape), *targets, term="landmark_loss")
        example_loss = with_key_and_step(loss)

        def task_loss(outputs: Any, example: LandmarkBatch, *, key: Array, step: Array) -> Terms:
            targets = example.points / stride, example.visible
            result = example_loss(outputs["logits"], *targets, key=key, step=step)
            return as_terms(result, "landmark_loss")

    find = METHODS[decode.method]

    def decode_maps(outputs: Any, example: Any) -> dict[str, Array]:
        del example
        logits = heatmaps = at_least_float32(outputs["logits"])
        if decode.softmax:
            heatmaps = jax.nn.softmax(logits, axis=(0, 1))
        points = find(logits, heatmaps, decode)
        return {"points": points * stride, "scores": heatmaps.max(axis=(0, 1))}

    with option_errors("decode"):
        jax.eval_shape(decode_maps, {"logits": jnp.zeros(shape)}, None)

    def metrics(outputs: Any, example: LandmarkBatch) -> Terms:
        found, points = (
            _original_points(x, example.placement)
            for x in (decode_maps(outputs, example)["points"], example.points)
        )
        error = normalized_landmark_error(found, points, example.visible, 1.0)
        return {"pixel_error": error}

    forward = forward_of(network)
    return Task(
        init=init_of(network, inputs.shape),
        augment=augmentation,
        prepare=prepare_of(inputs),
        forward=forward,
        loss=task_loss,
        metrics=metrics,
        decode=decode_maps,
        kind="landmarks",
        inputs=inputs,
        class_names=names,
        partners=augmentation.partners,
        sync_batch_norm=sync_batch_norm,
        origin={
            "inputs": (inputs, describe(inputs, NAMES)),
            "forward": (forward, described(model=model)),
            "loss": (task_loss, described(loss=loss)),
            "augment": (augmentation, described(augment=tuple(augment))),
            "metrics": (metrics, {}),
            "decode": (decode_maps, described(decode=decode)),
        },
    )


def restore_landmarks(parts: Mapping[str, Any]) -> Task:
    """The task for evaluation that a description tells of: without loss and augmentation.

    Args:
      parts: "inputs", "class_names", "forward" and "decode" of the description.
    Raises:
      InputError: the network has no name in the library.
    """
    return landmarks(
        restore(parts["forward"]["model"], NAMES),
        restore(parts["inputs"], NAMES),
        landmark_names=parts["class_names"],
        loss=None,
        decode=restore(parts["decode"]["decode"], NAMES),
    )


def _original_points(points: Array, placement: Array | None) -> Array:
    """Points f32[K, 2] in pixels of the original image; of an image that was moved, as they are."""
    if placement is None:
        return points
    return to_original(jnp.tile(points, 2), placement)[:, :2]


def _stride(image: tuple[int, int], maps: tuple[int, ...]) -> Array:
    """Pixels of the image for one pixel of the maps along x and y, f32[1, 2]."""
    (height, width), (rows, columns) = image, maps[:2]
    if height % rows or width % columns:
        raise OptionError(
            "model",
            f"model gives maps of {columns} x {rows} for images of {width} x {height} pixels: give "
            "a network whose maps are as large as the images, or a whole fraction of that",
        )
    return jnp.array([[width // columns, height // rows]], jnp.float32)
