"""Draws the predictions of each kind of task."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from jaxvision.core import check_range, lookup
from jaxvision.predict.arrays import check_picture
from jaxvision.predict.canvas import (
    GROUND,
    Rectangle,
    draw_tag,
    draw_text,
    font_of,
    one_line,
    outline_width,
    tag_size,
    text_size,
)
from jaxvision.predict.colors import class_color
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


def draw_classification(
    prediction: Prediction, class_names: Sequence[str], *, top_k: int = 1
) -> np.ndarray:
    """Writes the most probable classes and their probabilities above the image.

    Args:
      prediction: of a classification task.
      class_names: of the labels; (): their numbers are written.
      top_k: how many classes, each in a line.
    Returns:
      u8[H + h, W + w, 3].
    """
    check_range("top_k", top_k, least=1)
    probabilities = prediction.result["probabilities"]
    ranked = np.argsort(-probabilities, kind="stable")[:top_k].tolist()
    names = [class_names[i] if class_names else f"class {i}" for i in ranked]
    if not class_names and prediction.result["label"] is not None:
        names[0] = prediction.result["label"]
    texts = [
        f"{one_line(name)} {probabilities[i]:.2f}" for name, i in zip(names, ranked, strict=True)
    ]
    image = Image.fromarray(prediction.image)
    font = font_of(image)
    gap, line = round(font.size / 2), sum(font.getmetrics())
    width = max(image.width, *(text_size(text, font)[0] for text in texts))
    top = gap + len(texts) * line
    canvas = Image.new("RGB", (width + 2 * gap, top + image.height + gap), GROUND)
    draw = ImageDraw.Draw(canvas)
    for number, text in enumerate(texts):
        draw_text(draw, (gap, gap + number * line), text, GROUND, font)
    canvas.paste(image, (gap, top))
    return np.array(canvas)


def draw_class_tags(image: np.ndarray, tags: Sequence[tuple[int, str]]) -> np.ndarray:
    """Draws tags over the top left corner of an image, one below the other.

    Args:
      image: u8[H, W, 3], RGB.
      tags: (class, whose colour is used; text) of each.
    Returns:
      u8[H, W, 3]; the image itself is not changed.
    """
    canvas = Image.fromarray(check_picture("image", image))
    draw, font, outline = ImageDraw.Draw(canvas), font_of(canvas), outline_width(canvas)
    top = 0
    for label, text in tags:
        width, height = tag_size(one_line(text), font)
        place = Rectangle(0, top, width, top + height)
        draw_tag(draw, place, one_line(text), class_color(label), font, outline)
        top += height
    return np.array(canvas)


def draw_objects(prediction: Prediction, class_names: Sequence[str]) -> np.ndarray:
    """Draws the boxes of objects, and their masks and keypoints if any; see `draw_detections`."""
    found = prediction.result
    return draw_detections(
        prediction.image,
        found.boxes,
        found.labels,
        found.scores,
        class_names,
        masks=found.masks,
        keypoints=found.keypoints,
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
