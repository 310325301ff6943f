"""Draws the predictions of each kind of task."""

from collections.abc import Callable, Sequence

import numpy as np

from jaxvision.core import lookup
from jaxvision.predict.draw import draw_detections, picture_grid
from jaxvision.predict.labels import draw_labels
from jaxvision.predict.landmarks import draw_landmarks
from jaxvision.predict.predictor import Prediction
from jaxvision.predict.restorer import enlarge, to_bytes

Draw = Callable[[Prediction, Sequence[str]], np.ndarray]
"""(prediction, class names) -> u8[H, W, 3]."""


def draw_prediction(
    prediction: Prediction, kind: str, class_names: Sequence[str] = ()
) -> np.ndarray:
    """Draws a prediction into its image.

    Args:
      prediction: from `jaxvision.predict.predict`.
      kind: of the task: a key of `DRAW`.
      class_names: of the labels, or of the landmarks; classification, landmarks and restoration
        need none.
    Returns:
      u8[H, W, 3], RGB: the image with its class and probability above it, with boxes, with points,
      or with regions and a legend; of restoration, the image beside what it became.
    Raises:
      InputError: predictions of that kind cannot be drawn, or a label has no name.
    """
    return lookup(DRAW, kind, "kind of prediction")(prediction, class_names)


def draw_classification(prediction: Prediction, class_names: Sequence[str]) -> np.ndarray:
    """Writes the class and its probability above the image."""
    result = prediction.result
    index = result["index"]
    name = class_names[index] if class_names else result["label"]
    caption = f"{f'class {index}' if name is None else name} {result['probabilities'][index]:.2f}"
    return picture_grid([prediction.image], columns=1, captions=[caption])


def draw_objects(prediction: Prediction, class_names: Sequence[str]) -> np.ndarray:
    """Draws the boxes and, where there are some, the masks of objects; see `draw_detections`."""
    found = prediction.result
    return draw_detections(
        prediction.image, found.boxes, found.labels, found.scores, class_names, masks=found.masks
    )


def draw_points(prediction: Prediction, class_names: Sequence[str]) -> np.ndarray:
    """Draws all landmarks, with their names if there are some; see `draw_landmarks`."""
    points = prediction.result["points"]
    visible = np.ones(len(points), bool)
    return draw_landmarks(prediction.image, points, visible, names=class_names or None)


def draw_regions(prediction: Prediction, class_names: Sequence[str]) -> np.ndarray:
    """Draws the classes of the pixels, with a legend; see `draw_labels`."""
    return draw_labels(prediction.image, prediction.result, class_names)


def draw_restored(prediction: Prediction, class_names: Sequence[str] = ()) -> np.ndarray:
    """Draws the restored image beside the given one, which is enlarged bicubically if needed."""
    del class_names
    factor = prediction.result.shape[0] // prediction.image.shape[0]
    given = prediction.image if factor == 1 else to_bytes(enlarge(prediction.image, factor))
    captions = ["given" if factor == 1 else "bicubic", "restored"]
    return picture_grid([given, prediction.result], columns=2, captions=captions)


DRAW: dict[str, Draw] = {
    "classification": draw_classification,
    "detection": draw_objects,
    "landmarks": draw_points,
    "restoration": draw_restored,
    "segmentation": draw_regions,
}
"""Kind of a task -> what draws its predictions."""
