"""Converts what a task decodes to results in pixels of the original image."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxvision.core import Detections, Task
from jaxvision.ops.placement import Placement, to_original
from jaxvision.predict.segmenter import labels_of_original


class DetectedObjects(NamedTuple):
    """The K objects that a detector found in an image, in falling order of their scores.

    Attributes:
      boxes: f64[K, 4], xyxy, pixels of the image, clipped to it.
      labels: i64[K].
      scores: f64[K].
      masks: bool[K, H, W], the pixels of each object in the image, or None.
      keypoints: f64[K, P, 3], (x, y, score), with x and y in pixels of the image, or None.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    masks: np.ndarray | None = None
    keypoints: np.ndarray | None = None


Convert = Callable[[Task, Any, Placement, tuple[int, int]], Any]
"""(task, what `task.decode` gives for one example, on the host, the placement of the image, its
(height, width)) -> the result."""


def classes_of(
    task: Task, decoded: Mapping[str, Any], placement: Placement, size: tuple[int, int]
) -> dict[str, Any]:
    """Converts what a classification task decodes.

    Args:
      task: with `class_names`, or () where they are unknown.
      decoded: "probabilities", f[num_classes].
      placement: not used.
      size: not used.
    Returns:
      "index", the class of the highest probability; "label", its name, or None if it is unknown;
      "probabilities", f[num_classes], in the order of the classes.
    """
    del placement, size
    probabilities = np.asarray(decoded["probabilities"])
    index = int(probabilities.argmax())
    label = task.class_names[index] if task.class_names else None
    return {"label": label, "index": index, "probabilities": probabilities}


def objects_of(
    task: Task, decoded: Detections, placement: Placement, size: tuple[int, int]
) -> DetectedObjects:
    """Converts what a detection task decodes.

    Args:
      task: with `inputs`.
      decoded: of one example, in pixels of the network's input. Its masks are numbers in 0..1 (or
        bools): [N, height, width] of the whole input, or [N, m, n] that cover the box of each
        object. They are True from 0.5.
      placement: of the image.
      size: of the image.
    """
    height, width = size
    frames = to_original(np.asarray(decoded.boxes, np.float64), placement)
    clipped = np.clip(frames, 0, [width, height, width, height])
    # There is nothing to be found beside a letterboxed image.
    valid = np.asarray(decoded.valid) & (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    frames, clipped = frames[valid], clipped[valid]
    masks = keypoints = None
    if decoded.masks is not None:
        given = np.asarray(decoded.masks)[valid]
        whole = given.shape[1:] == task.inputs.size_of(size)
        masks = (_whole_masks if whole else _masks_of_boxes)(given, frames, placement, size)
    if decoded.keypoints is not None:
        keypoints = np.asarray(decoded.keypoints, np.float64)[valid]
        points = to_original(np.tile(keypoints[..., :2].reshape(-1, 2), 2), placement)[:, :2]
        keypoints[..., :2] = points.reshape(keypoints[..., :2].shape)
    return DetectedObjects(
        boxes=clipped,
        labels=np.asarray(decoded.labels)[valid].astype(np.int64),
        scores=np.asarray(decoded.scores)[valid].astype(np.float64),
        masks=masks,
        keypoints=keypoints,
    )


def points_of(
    task: Task, decoded: Mapping[str, Any], placement: Placement, size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """Converts what a landmark task decodes.

    Args:
      task: not used.
      decoded: "points" f[K, 2], xy, pixels of the network's input, and "scores" f[K].
      placement: of the image.
      size: not used.
    Returns:
      "points", f64[K, 2], xy, pixels of the image (perhaps outside of it), and "scores", f64[K].
    """
    del task, size
    points = np.tile(np.asarray(decoded["points"], np.float64), 2)
    return {
        "points": to_original(points, placement)[:, :2],
        "scores": np.asarray(decoded["scores"], np.float64),
    }


def labels_of(
    task: Task, decoded: np.ndarray, placement: Placement, size: tuple[int, int]
) -> np.ndarray:
    """Converts what a segmentation task decodes; see `labels_of_original`.

    Args:
      task: with `inputs`.
      decoded: int[h, w], the labels of the network's input, or of its centre.
      placement: of the image.
      size: of the image.
    Returns:
      int[height, width].
    """
    labels = np.asarray(decoded)
    return labels_of_original(labels, placement, size, input_size=task.inputs.size_of(size))


CONVERT: dict[str, Convert] = {
    "classification": classes_of,
    "detection": objects_of,
    "landmarks": points_of,
    "segmentation": labels_of,
}
"""Kind of a task -> what converts its decoded predictions. The result of any other kind is what
`decode` gives."""


def _whole_masks(
    masks: np.ndarray, frames: np.ndarray, placement: Placement, size: tuple[int, int]
) -> np.ndarray:
    """Masks of the whole network's input, [N, h, w] -> bool[N, height, width] of the image."""
    del frames
    found = [labels_of_original(np.uint8(mask >= 0.5), placement, size) == 1 for mask in masks]
    return np.stack(found) if found else np.zeros((0, *size), bool)


def _masks_of_boxes(
    masks: np.ndarray, frames: np.ndarray, placement: Placement, size: tuple[int, int]
) -> np.ndarray:
    """Masks that cover a box each, [N, m, n] -> bool[N, height, width] of the image.

    They are interpolated bilinearly at the centres of the image's pixels.
    """
    del placement
    height, width = size
    result = np.zeros((len(masks), height, width), bool)
    for mask, (x1, y1, x2, y2), found in zip(masks.astype(float), frames, result, strict=True):
        rows = np.arange(max(0, int(np.floor(y1))), min(height, int(np.ceil(y2))))
        columns = np.arange(max(0, int(np.floor(x1))), min(width, int(np.ceil(x2))))
        if x2 <= x1 or y2 <= y1 or not len(rows) or not len(columns):
            continue
        up = _interpolation(mask.shape[0], (rows + 0.5 - y1) / (y2 - y1))
        across = _interpolation(mask.shape[1], (columns + 0.5 - x1) / (x2 - x1))
        found[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = up @ mask @ across.T >= 0.5
    return result


def _interpolation(count: int, places: np.ndarray) -> np.ndarray:
    """Weights f64[N, count] of linear interpolation between centres; 0 outside of 0..1.

    Args:
      count: bins that divide 0..1.
      places: f[N].
    """
    distance = np.clip(places * count - 0.5, 0, count - 1)[:, None] - np.arange(count)[None]
    inside = (places >= 0) & (places <= 1)
    return np.maximum(1 - np.abs(distance), 0) * inside[:, None]
