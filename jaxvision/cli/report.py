"""What a person gets to see of an evaluation, besides its numbers: tables and pictures."""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from jaxvision.core.files import replacing
from jaxvision.data import Source
from jaxvision.engine import Evaluation, say
from jaxvision.predict import draw_detections, picture_grid
from jaxvision.tasks.detection import average_precision

_PICTURES = 8  # images in a page of predictions
_LEAST_SCORE = 0.3  # of what is drawn there
_SIDES = 320, 640  # pixels: images are brought to such a size, for the eye


def report(
    config: Any, evaluation: Evaluation, records: Source, *, workdir: pathlib.Path, split: str
) -> None:
    """Shows, and writes into the run's folder, what its task has to show of an evaluation.

    Args:
      config: of the run.
      evaluation: of all records.
      records: what was evaluated.
      workdir: the run's folder.
      split: of the records.
    """
    shown = _REPORTS.get(config.task)
    if shown is not None:
        shown(config, evaluation, records, workdir, split)


def _detection(
    config: Any, evaluation: Evaluation, records: Source, workdir: pathlib.Path, split: str
) -> None:
    """A table of the classes' average precision, and the first images with what was found."""
    say(class_table(evaluation.collected, config.data.class_names))
    file = workdir / f"predictions_{file_name(split)}.png"
    pictures = picture_grid(
        _predictions(evaluation.collected, records, config.data.class_names),
        columns=4,
        captions=["found", "truth"] * min(_PICTURES, len(records)),
    )
    with replacing(file, "wb") as stream:
        Image.fromarray(pictures).save(stream, format="png")
    say(f"pictures of predictions: {file}")


def file_name(split: str) -> str:
    """A split's name as a part of a file's: "a/train" is none."""
    return split.replace("/", "_")


def class_table(collected: Any, class_names: tuple[str, ...]) -> str:
    """Average precision of each class, as lines of text; a dash where there are no objects.

    Args:
      collected: what the detection task collected of all examples.
      class_names: of the labels.
    """
    result, _ = average_precision(collected, num_classes=len(class_names))
    _, objects = collected
    counts = np.bincount(objects.labels[objects.box_mask], minlength=len(class_names))
    width = max(len("class"), *map(len, class_names))
    lines = [f"{'class':<{width}}  objects      AP    AP50"]
    for name, count, *figures in zip(
        class_names, counts, result.class_ap, result.class_ap50, strict=True
    ):
        shown = "  ".join(f"{'-' if np.isnan(x) else f'{x:.3f}':>6}" for x in figures)
        lines.append(f"{name:<{width}}  {count:>7}  {shown}")
    return "\n".join(lines)


def _predictions(collected: Any, records: Source, class_names: tuple[str, ...]) -> list[np.ndarray]:
    """Of the first images, what was found and what is there."""
    found, objects = collected
    pictures = []
    for index in range(min(_PICTURES, len(records))):
        image = records[index]["image"]
        height, width = image.shape[:2]
        least, most = (side / max(height, width) for side in _SIDES)
        size = [max(1, round(side * min(max(1, least), most))) for side in (width, height)]
        scale = np.array([size[0] / width, size[1] / height] * 2, np.float32)
        canvas = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
        good = found.valid[index] & (found.scores[index] >= _LEAST_SCORE)
        real = objects.box_mask[index]
        for boxes, labels, scores in (
            (found.boxes[index][good], found.labels[index][good], found.scores[index][good]),
            (objects.boxes[index][real], objects.labels[index][real], None),
        ):
            pictures.append(draw_detections(canvas, boxes * scale, labels, scores, class_names))
    return pictures


_REPORTS: dict[str, Callable[..., None]] = {"detection": _detection}
