"""Objects in files of images; and Darknet's detectors as one compiled function."""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxvision.core import Detections, InputError, check_array
from jaxvision.data import to_original
from jaxvision.interop import DarknetNetwork, Description
from jaxvision.predict.predictor import Failed, Predict, Predicted, Predictor, predict_in_files
from jaxvision.tasks.darknet import darknet_candidates
from jaxvision.tasks.yolo import detect


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


def detect_in_files(
    detector: Predictor, paths: Sequence[pathlib.Path], *, batch_size: int = 1
) -> Iterator[Found | Failed]:
    """What a detector finds in files, in their order.

    Args:
      detector: whose `predict` gives `Detections`.
      paths: of the images.
      batch_size: as for `predict_in_files`.
    """
    for result in predict_in_files(detector, paths, batch_size=batch_size):
        yield _found(result) if isinstance(result, Predicted) else result


def _found(result: Predicted) -> Found:
    height, width = result.image.shape[:2]
    detections = result.outputs
    valid = detections.valid
    boxes = to_original(detections.boxes[valid].astype(np.float64), result.placement)
    return Found(
        path=result.path,
        image=result.image,
        boxes=np.clip(boxes, 0, [width, height, width, height]),
        labels=detections.labels[valid].astype(np.int64),
        scores=detections.scores[valid].astype(np.float64),
    )
