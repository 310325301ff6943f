"""From images to detections: one compiled function, and files one after the other."""

import itertools
import pathlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvision.core import Detections, InputError, Task, check_array, check_range
from jaxvision.data import place, read_image, to_original
from jaxvision.interop import DarknetNetwork, Description
from jaxvision.tasks.darknet import darknet_candidates
from jaxvision.tasks.yolo import detect

Predict = Callable[[Any, Array], Detections]
"""(variables, images u8[B, H, W, 3]) -> detections, in pixels of these images."""


@dataclass(frozen=True)
class Detector:
    """A network that is ready to find objects.

    Attributes:
      predict: all of it as one compiled function, suppression within.
      variables: of the network.
      image_size: (height, width) that it takes.
      resize: how images are brought to that size, a key of `jaxvision.data.PLACEMENTS`.
      class_names: of the labels.
    """

    predict: Predict
    variables: Any
    image_size: tuple[int, int]
    resize: str
    class_names: tuple[str, ...]


@flax.struct.dataclass
class _Images:
    """What `Task.prepare` and `Task.forward` need of a batch when nothing but images is known."""

    image: Array


def predict_of_task(task: Task) -> Predict:
    """The prediction of a task, compiled.

    Args:
      task: whose `prepare` and `forward` look at images only, and whose `decode` gives
        `Detections`.
    """

    def predict(variables: Any, images: Array) -> Detections:
        images = check_array("images", images, ("B", "H", "W", "C"), "number")
        batch = jax.vmap(task.prepare)(_Images(images))
        outputs, _ = task.forward(variables, batch, keys=None, step=jnp.int32(0), train=False)
        return jax.vmap(task.decode)(outputs)

    return jax.jit(predict)


def predict_of_darknet(
    description: Description,
    *,
    score_threshold: float = 0.005,
    iou_threshold: float = 0.45,
    max_detections: int = 100,
) -> Predict:
    """The prediction of a network that Darknet describes, compiled.

    Args:
      description: of a detector.
      score_threshold: see `jaxvision.tasks.yolo.detect`.
      iou_threshold: likewise.
      max_detections: likewise.
    Raises:
      InputError: it describes no detector.
    """
    network = DarknetNetwork(description)
    size = description.image[:2]
    heads = description.heads(*size)
    if not heads:
        raise InputError(
            f"{description.source} is no detector: it has no [detection], [region] or [yolo]"
        )

    def decode(maps: dict[str, Array]) -> Detections:
        return detect(
            *darknet_candidates(heads, maps, image_size=size),
            image_size=size,
            score_threshold=score_threshold,
            iou_threshold=iou_threshold,
            max_detections=max_detections,
        )

    def predict(variables: Any, images: Array) -> Detections:
        images = check_array("images", images, ("B", *size, 3), "number")
        return jax.vmap(decode)(network.apply(variables, images / 255, train=False))

    return jax.jit(predict)


class Found(NamedTuple):
    """What was found in a file: K objects, by falling score.

    Attributes:
      path: of the file.
      image: u8[H, W, 3].
      boxes: f64[K, 4], xyxy, pixels of the image, within it.
      labels: i64[K].
      scores: f64[K].
    """

    path: pathlib.Path
    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


class Failed(NamedTuple):
    """A file that could not be read, and why."""

    path: pathlib.Path
    reason: str


def detect_in_files(
    detector: Detector, paths: Sequence[pathlib.Path], *, batch_size: int = 1
) -> Iterator[Found | Failed]:
    """What a detector finds in files, in their order.

    Args:
      detector: the detector.
      paths: of the images.
      batch_size: images that are looked at together; filled up with black, so that nothing compiles
        twice.
    """
    check_range("batch_size", batch_size, least=1)
    paths = iter(paths)
    while batch := list(map(_read, itertools.islice(paths, batch_size))):
        yield from _detect(detector, batch, batch_size)


def _read(path: pathlib.Path) -> tuple[pathlib.Path, np.ndarray] | Failed:
    try:
        return path, read_image(path)
    except InputError as error:
        return Failed(path, str(error))


def _detect(detector: Detector, batch: list[Any], batch_size: int) -> Iterator[Found | Failed]:
    inputs = np.zeros((batch_size, *detector.image_size, 3), np.uint8)
    placements = {}
    for number, item in enumerate(batch):
        if not isinstance(item, Failed):
            inputs[number], placements[number] = place(
                item[1], detector.image_size, method=detector.resize
            )
    found = jax.device_get(detector.predict(detector.variables, inputs)) if placements else None
    for number, item in enumerate(batch):
        if isinstance(item, Failed):
            yield item
            continue
        path, image = item
        height, width = image.shape[:2]
        of_image = jax.tree.map(lambda x, i=number: x[i], found)
        valid = of_image.valid
        boxes = to_original(of_image.boxes[valid].astype(np.float64), placements[number])
        yield Found(
            path=path,
            image=image,
            boxes=np.clip(boxes, 0, [width, height, width, height]),
            labels=of_image.labels[valid].astype(np.int64),
            scores=of_image.scores[valid].astype(np.float64),
        )
