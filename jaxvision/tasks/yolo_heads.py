"""What the versions of YOLO are trained with, and how their maps are read, by a config."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from jaxvision.core import AXIS, DetectionBatch, InputError, Terms
from jaxvision.losses import yolov1_loss, yolov2_loss, yolov3_loss
from jaxvision.models import create_model
from jaxvision.models.detection.yolov1 import YOLOS_V1
from jaxvision.models.detection.yolov2 import YOLOS_V2
from jaxvision.models.detection.yolov3 import YOLOS_V3
from jaxvision.tasks.settings import find_loss, model_of, naming
from jaxvision.tasks.yolo import (
    Candidates,
    yolov1_candidates,
    yolov2_candidates,
    yolov3_candidates,
)

Maps = dict[str, Array]
"""What a network gives of one image: f32[H, W, ...] each."""


class Yolo(NamedTuple):
    """A network with what belongs to its maps.

    Attributes:
      model: the network.
      loss: (maps, example, objects bool[N], step) -> terms; only objects are looked for.
      candidates: (maps) -> each predictor's box and scores.
    """

    model: nn.Module
    loss: Callable[[Maps, DetectionBatch, Array, Array], Terms]
    candidates: Callable[[Maps], Candidates]


def make_yolo(config: Any) -> Yolo:
    """The network of a config, with its loss and its reading.

    Args:
      config: with `model`, `anchors`, `loss`, `detect.best_box_only`, `data.image_size` and
        `data.class_names`.
    Raises:
      InputError: a setting that does not fit the others.
    """
    makers = {**dict.fromkeys(YOLOS_V1, _yolov1), **dict.fromkeys(YOLOS_V2, _yolov2)}
    makers |= dict.fromkeys(YOLOS_V3, _yolov3)
    name, fields = model_of(config)
    if name not in makers:
        raise InputError(f"{name!r} is no detector: known: {', '.join(sorted(makers))}")
    fields |= {"num_classes": len(config.data.class_names), "axis_name": AXIS}
    return makers[name](name, fields, config)


def _yolov1(name: str, fields: Mapping[str, Any], config: Any) -> Yolo:
    if config.anchors:
        raise InputError(f"config.anchors: {name} has none, leave them out")
    model = create_model(name, **fields)
    if config.data.sizes and model.hidden:
        raise InputError(
            f"config.data.sizes: the fully connected layers of {name} fix the size of its images: "
            "leave it out"
        )
    maps, strides = _probe(model, config.data)
    names = ("coordinates", "confidence", "class_scores")
    arguments = (*(maps[name] for name in names), *_OBJECTS)
    loss = find_loss({"yolov1_loss": yolov1_loss}, config.loss, *arguments, image_size=(1, 1))
    how = {key: config.loss[key] for key in ("predicts_roots",) if key in config.loss}

    def total(maps: Maps, example: DetectionBatch, objects: Array, step: Array) -> Terms:
        del step
        predicted = (maps[name] for name in names)
        size = example.image.shape[:2]
        return loss(*predicted, example.boxes, example.labels, objects, image_size=size)

    def candidates(maps: Maps) -> Candidates:
        grid, stride = maps["coordinates"].shape[:2], strides["coordinates"]
        return yolov1_candidates(
            *(maps[name] for name in names),
            image_size=(grid[0] * stride, grid[1] * stride),
            best_box_only=config.detect.best_box_only,
            **how,
        )

    return Yolo(model, total, candidates)


def _yolov2(name: str, fields: Mapping[str, Any], config: Any) -> Yolo:
    anchors = _anchors(config, fields)
    model = create_model(name, num_anchors=len(anchors), **fields)
    maps, strides = _probe(model, config.data)
    stride = strides["logits"]
    arguments = (maps["logits"], *_OBJECTS, anchors, 0)
    loss = find_loss({"yolov2_loss": yolov2_loss}, config.loss, *arguments, stride=stride)
    how = {key: config.loss[key] for key in ("constrained",) if key in config.loss}

    def total(maps: Maps, example: DetectionBatch, objects: Array, step: Array) -> Terms:
        truth = example.boxes, example.labels, objects
        return loss(maps["logits"], *truth, anchors, step, stride=stride)

    def candidates(maps: Maps) -> Candidates:
        return yolov2_candidates(maps["logits"], anchors, stride=stride, **how)

    return Yolo(model, total, candidates)


def _yolov3(name: str, fields: Mapping[str, Any], config: Any) -> Yolo:
    scales = create_model(name, **fields).scales
    by_size = sorted(_anchors(config, fields), key=np.prod)
    if len(by_size) % len(scales):
        raise InputError(
            f"config.anchors has {len(by_size)}: {name} predicts at {len(scales)} scales, so give "
            "as many for each"
        )
    # The coarsest map, which is the first, gets the largest; on each they rise, as Darknet's do.
    anchors = np.array(by_size, np.float32).reshape(len(scales), -1, 2)[::-1]
    model = create_model(name, num_anchors=anchors.shape[1], **fields)
    maps, of_map = _probe(model, config.data)
    names = [f"logits{level}" for level, *_ in model.scales]
    strides = tuple(of_map[name] for name in names)
    arguments = ([maps[name] for name in names], *_OBJECTS, anchors)
    loss = find_loss({"yolov3_loss": yolov3_loss}, config.loss, *arguments, strides=strides)

    def total(maps: Maps, example: DetectionBatch, objects: Array, step: Array) -> Terms:
        del step
        logits = [maps[name] for name in names]
        truth = example.boxes, example.labels, objects
        return loss(logits, *truth, list(anchors), strides=strides)

    def candidates(maps: Maps) -> Candidates:
        return yolov3_candidates([maps[name] for name in names], list(anchors), strides=strides)

    return Yolo(model, total, candidates)


_OBJECTS = ("boxes", "labels", "box_mask")  # in a call that is only tried for its options


def _anchors(config: Any, fields: Mapping[str, Any]) -> np.ndarray:
    """f32[A, 2]."""
    if "num_anchors" in fields:
        raise InputError("config.model.num_anchors follows from config.anchors: leave it out")
    try:
        anchors = np.array(config.anchors, np.float32)
    except (TypeError, ValueError):
        anchors = np.zeros(0)
    if anchors.ndim != 2 or anchors.shape[1] != 2 or not _are_sizes(anchors):
        raise InputError(
            f"config.anchors is {config.anchors!r}: give (width, height) in pixels for each, as "
            "((10, 13), (16, 30)); `jaxvision anchors` finds them"
        )
    return anchors


def _are_sizes(anchors: np.ndarray) -> bool:
    return bool((anchors > 0).all() and np.isfinite(anchors).all())


_PROBE = 256  # pixels: a multiple of every network's stride


def _probe(model: nn.Module, data: Any) -> tuple[Maps, dict[str, int]]:
    """Shapes of a network's maps of one image, of some size, and the sides of their cells, pixels.

    Raises:
      InputError: the network cannot take images of the config's sizes.
    """

    def run(key: Array) -> Maps:
        maps, _ = model.init_with_output(key, jnp.zeros((1, _PROBE, _PROBE, 3)), train=False)
        return {name: x[0] for name, x in maps.items()}

    with naming("config.model"):
        maps = jax.eval_shape(run, jax.random.key(0))
    strides = {name: _PROBE // x.shape[0] for name, x in maps.items()}
    most = max(strides.values())
    for name, sizes in (("image_size", [data.image_size]), ("sizes", data.sizes)):
        for size in sizes:
            if size < 1 or size % most:
                raise InputError(f"config.data.{name} is {size}: give multiples of {most}")
    return maps, strides
