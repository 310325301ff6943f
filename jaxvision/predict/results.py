"""Converts what a task decodes to results in pixels of the original image."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxvision.core import Detections, Task
from jaxvision.ops import MaskTable, paste_run_lengths
from jaxvision.ops.placement import Placement, to_original
from jaxvision.predict.segmenter import labels_of_original


class DetectedObjects(NamedTuple):
    """The K objects that a detector found in an image, in falling order of their scores.

    Attributes:
      boxes: f64[K, 4], xyxy, pixels of the image, clipped to it.
      labels: i64[K].
      scores: f64[K].
      masks: the pixels of each object in the image, as K run-lengths, or None;
        `jaxvision.ops.decode_mask` makes bool[H, W] of one.
      keypoints: f64[K, P, 3], (x, y, score), with x and y in pixels of the image, or None.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    masks: MaskTable | None = None
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
      task: not used.
      decoded: of one example, in pixels of the network's input.
      placement: of the image.
      size: of the image.
    """
    del task
    height, width = size
    frames = to_original(np.asarray(decoded.boxes, np.float64), placement)
    clipped = np.clip(frames, 0, [width, height, width, height])
    # There is nothing to be found beside a letterboxed image.
    valid = np.asarray(decoded.valid) & (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    frames, clipped = frames[valid], clipped[valid]
    masks = keypoints = None
    if decoded.masks is not None:
        masks = paste_run_lengths(np.asarray(decoded.masks)[valid], frames, size)
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
