"""What the constructors of detectors share: descriptions, losses with options, maps of networks."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from jaxvision.core import (
    DetectionBatch,
    Detections,
    OptionError,
    Terms,
    at_least_float32,
    describe,
)
from jaxvision.tasks.building import check_signature, maps_of_image, with_key_and_step
from jaxvision.tasks.detectors.detector import Detector
from jaxvision.tasks.freezing import frozen_parameters
from jaxvision.tasks.names import NAMES

Loss = Callable[..., Terms]

PROBE = 512
"""Side of the image by which the maps of a network are found, pixels: no map vanishes."""


def described_detector(
    name: str,
    model: nn.Module,
    loss: Loss | None,
    decode: Callable[[Any, DetectionBatch], Detections],
    how: dict[str, Any],
    *,
    loss_function: Loss | None,
    loss_options: dict[str, Any],
    multiple_of: int,
    num_classes: int | None,
    trainable_backbone_layers: int | None = None,
    given: Callable[..., dict[str, Any]] | None = None,
    **fields: Any,
) -> Detector:
    """The record of a detector, with its description.

    Args:
      name: of the constructor.
      model: the network.
      loss: of the record.
      decode: of the record.
      how: further arguments of the constructor that the decoding depends on, and its `decode`.
      loss_function: that the constructor was given.
      loss_options: likewise.
      multiple_of: of the record.
      num_classes: of the record.
      trainable_backbone_layers: stages of the backbone that are trained; None: all. The others are
        frozen only where there is a loss.
      given: of the record.
      **fields: further fields of the record.
    Raises:
      OptionError: the network has no stages, or fewer.
    """
    of_decode = {"detector": name, **{key: describe(x, NAMES) for key, x in how.items()}}
    of_loss = {"loss": describe(loss_function, NAMES)}
    of_loss |= {key: describe(value, NAMES) for key, value in loss_options.items()}
    freeze: tuple[str, ...] = ()
    if trainable_backbone_layers is not None and loss is not None:
        freeze = frozen_parameters(model, (PROBE, PROBE, 3), trainable_backbone_layers)
        of_loss["trainable_backbone_layers"] = trainable_backbone_layers
    return Detector(
        model=model,
        loss=loss,
        decode=decode,
        given=given,
        multiple_of=multiple_of,
        num_classes=num_classes,
        freeze=freeze,
        **fields,
        origin={
            "model": (model, describe(model, NAMES)),
            "given": (given, {}),
            "loss": (loss, of_loss if loss is not None else {}),
            "decode": (decode, of_decode),
        },
    )


def checked_loss(
    loss: Loss | None, arrays: int, given: dict[str, Any], options: dict[str, Any]
) -> Loss:
    """A loss with its options, once its signature is checked.

    Args:
      loss: what the user gave; None: no loss.
      arrays: how many positional arguments it is called with.
      given: keyword arguments that the detector sets.
      options: those of the user.
    """
    if loss is None:
        if options:
            raise OptionError(min(options), f"{min(options)} is an option of the loss: give a loss")
        return lambda *arguments, **keywords: {}
    twice = sorted(options.keys() & given.keys())
    if twice:
        raise OptionError(twice[0], f"{twice[0]} follows from the network: leave it out")
    # A loss of the user's own need not take everything that the library's own loss takes.
    known = inspect.signature(loss).parameters
    fitting = [name for name in given if name in known]
    passed = {name: None for name in (*fitting, "key", "step") if name in known}
    check_signature("loss", loss, *[None] * arrays, **passed, **options)
    call = with_key_and_step(loss)

    def run(*arguments: Any, key: Array, step: Array, **keywords: Any) -> Terms:
        keywords = {name: keywords[name] for name in fitting}
        return call(*arguments, key=key, step=step, **keywords, **options)

    return run


def with_anchors(model: nn.Module, num_anchors: int | tuple[int, ...]) -> nn.Module:
    """The network with a number of anchors on each map.

    Raises:
      OptionError: it has no field for it, or the field is of another kind: one number for all maps,
        or one for each.
    """
    if not hasattr(model, "num_anchors"):
        raise OptionError(
            "model",
            f"model is {type(model).__name__}, which has no field num_anchors: give a network "
            "that predicts a box for each anchor, like yolov2, retinanet or ssd",
        )
    given, each = model.num_anchors, not isinstance(num_anchors, int)
    if isinstance(given, int) if each else isinstance(given, Sequence):
        wanted = "a number of anchors for each map, like ssd" if each else "one number for all maps"
        raise OptionError(
            "model",
            f"model is {type(model).__name__}, whose num_anchors is {given}: give a network with "
            f"{wanted}",
        )
    return model.clone(num_anchors=num_anchors)


def maps_named(model: nn.Module, names: Sequence[str], *, side: int = PROBE) -> dict[str, Any]:
    """The shapes of a network's maps of these names, for one image of some pixels a side.

    Raises:
      OptionError: the network fails, or lacks one of the maps.
    """
    maps = maps_of_image(model, (side, side, 3))
    for name in names:
        if name not in maps:
            raise OptionError("model", f"model gives no map {name!r}, but {', '.join(maps)}")
    return {name: maps[name] for name in names}


def numbered_maps(
    model: nn.Module, kinds: Sequence[str], *, shape: Sequence[str]
) -> list[dict[str, Any]]:
    """The shapes of a network's maps {kind}0, {kind}1, ..., from fine to coarse.

    Args:
      model: the network.
      kinds: names of its outputs, of which each map has all.
      shape: a letter for each axis of the first kind, for one image.
    Returns:
      kind -> shape, for each map, for one image of `PROBE` pixels a side.
    Raises:
      OptionError: the network fails, lacks an output, or the first has another number of axes.
    """
    maps = maps_of_image(model, (PROBE, PROBE, 3))
    count = sum(name.removeprefix(kinds[0]).isdigit() for name in maps)
    for name in (f"{kind}{number}" for number in range(max(count, 1)) for kind in kinds):
        if name not in maps:
            raise OptionError("model", f"model gives no map {name!r}, but {', '.join(maps)}")
    first = maps[f"{kinds[0]}0"]
    if len(first.shape) != len(shape):
        raise OptionError(
            "model",
            f"model gives a map {kinds[0]}0 of the shape {list(first.shape)} for an image: give a "
            f"network of this family, with [{', '.join(shape)}]",
        )
    return [{kind: maps[f"{kind}{number}"] for kind in kinds} for number in range(count)]


def check_count(option: str, values: Sequence[Any], count: int) -> None:
    """Raises OptionError unless an option has an entry for each map of the network."""
    if len(values) != count:
        raise OptionError(
            option,
            f"{option} has {len(values)} entries, and the network predicts on {count} maps: give "
            "one for each",
        )


def outputs_of_maps(outputs: Any, kind: str, count: int) -> list[Array]:
    """The outputs {kind}0, {kind}1, ... of one image, at least float32."""
    return [at_least_float32(outputs[f"{kind}{number}"]) for number in range(count)]


def rows(maps: Sequence[Array], axes: int = 1) -> Array:
    """Puts the predictions of all maps one after another: [..., *last axes] each -> [N, ...]."""
    return jnp.concatenate([x.reshape(-1, *x.shape[x.ndim - axes :]) for x in maps])


def best_pairs(scores: Array, most: int) -> tuple[Array, Array, Array]:
    """Finds the best pairs of a box and a class on one map.

    Args:
      scores: f[N, K], of any scale.
      most: how many pairs to take, or all if there are fewer.
    Returns:
      (scores f[k], index of the box i32[k], class i32[k]), by falling score; of equal scores the
      first ones.
    """
    best, places = lax.top_k(scores.reshape(-1), min(most, scores.size))
    return best, places // scores.shape[1], places % scores.shape[1]
