"""What a person gets to see of an evaluation, besides its numbers: tables and pictures."""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from jaxvision.cli import assemble
from jaxvision.core import Task, TrainState
from jaxvision.data import Source
from jaxvision.engine import Evaluation, say
from jaxvision.predict import (
    draw_detections,
    draw_labels,
    draw_landmarks,
    picture_grid,
    predict_of_task,
    restore_of_task,
    write_picture,
)
from jaxvision.tasks.detection import average_precision
from jaxvision.tasks.settings import middle

_PICTURES = 8  # images in a page of predictions
_LEAST_SCORE = 0.3  # of what is drawn there
_SIDES = 320, 640  # pixels: images are brought to such a size, for the eye


class _Shown(NamedTuple):
    """What there is to see.

    Attributes:
      rows: a page of pictures, each with its caption; as many in each row.
      table: lines of text, or none.
    """

    rows: list[dict[str, np.ndarray]]
    table: str = ""


def report(
    config: Any,
    task: Task,
    state: TrainState,
    evaluation: Evaluation,
    records: Source,
    *,
    workdir: pathlib.Path,
    split: str,
) -> None:
    """Shows, and writes into the run's folder, what its task has to show of an evaluation.

    Args:
      config: of the run.
      task: of the run.
      state: that was evaluated.
      evaluation: of all records.
      records: what was evaluated.
      workdir: the run's folder.
      split: of the records.
    """
    if config.task not in _REPORTS:
        return
    shown = _REPORTS[config.task](config, task, state, evaluation, records)
    if shown.table:
        say(shown.table)
    file = workdir / f"predictions_{file_name(split)}.png"
    cells = [cell for row in shown.rows for cell in row.items()]
    captions, pictures = zip(*cells, strict=True)
    across = {2: 4, 3: 3}[len(shown.rows[0])]  # two pairs beside each other, or three of a kind
    write_picture(file, picture_grid(pictures, columns=across, captions=captions))
    say(f"pictures of predictions: {file}")


def file_name(split: str) -> str:
    """A split's name as a part of a file's: "a/train" is none."""
    return split.replace("/", "_")


def _detection(
    config: Any, task: Task, state: TrainState, evaluation: Evaluation, records: Source
) -> _Shown:
    names = config.data.class_names
    rows = list(_found_boxes(evaluation.collected, records, names))
    return _Shown(rows, class_table(evaluation.collected, names))


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


def _found_boxes(
    collected: Any, records: Source, class_names: tuple[str, ...]
) -> Iterator[dict[str, np.ndarray]]:
    """Of the first images, what was found and what is there."""
    found, objects = collected
    for index in range(min(_PICTURES, len(records))):
        canvas, scale = _for_the_eye(records[index]["image"])
        good = found.valid[index] & (found.scores[index] >= _LEAST_SCORE)
        real = objects.box_mask[index]
        parts = {
            "found": (
                found.boxes[index][good],
                found.labels[index][good],
                found.scores[index][good],
            ),
            "truth": (objects.boxes[index][real], objects.labels[index][real], None),
        }
        yield {
            caption: draw_detections(canvas, boxes * np.tile(scale, 2), labels, scores, class_names)
            for caption, (boxes, labels, scores) in parts.items()
        }


def _for_the_eye(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An image in a size to look at, and f32[2], by how much that is wider and higher."""
    height, width = image.shape[:2]
    least, most = (side / max(height, width) for side in _SIDES)
    size = [max(1, round(side * min(max(1, least), most))) for side in (width, height)]
    canvas = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    return canvas, np.array([size[0] / width, size[1] / height], np.float32)


def _segmentation(
    config: Any, task: Task, state: TrainState, evaluation: Evaluation, records: Source
) -> _Shown:
    names = config.data.class_names
    examples = assemble.spread_examples(config, records, _PICTURES)
    found = jax.device_get(predict_of_task(task)(state.averaged, examples.image))
    rows = []
    for image, labels, truth in zip(examples.image, found, examples.labels, strict=True):
        canvas, _ = _for_the_eye(middle(image, labels.shape))
        rows.append(
            {
                caption: draw_labels(canvas, _enlarged(of_pixels, canvas.shape), names)
                for caption, of_pixels in (
                    ("found", labels),
                    ("truth", middle(truth, labels.shape)),
                )
            }
        )
    return _Shown(rows, overlap_table(evaluation.collected, names))


def overlap_table(collected: Any, class_names: tuple[str, ...]) -> str:
    """Intersection over union of each class, as lines of text; a dash where there is none of it.

    Args:
      collected: what the segmentation task collected of all examples.
      class_names: of the labels.
    """
    sums = zip(*(np.sum(x, axis=0, dtype=np.float64) for x in collected), strict=True)
    width = max(len("class"), *map(len, class_names))
    figures = [f"{overlap / union:.3f}" if union else "-" for overlap, union in sums]
    lines = [f"{name:<{width}}  {x:>6}" for name, x in zip(class_names, figures, strict=True)]
    return "\n".join([f"{'class':<{width}}     IoU", *lines])


def _enlarged(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The nearest labels, in the size of a picture."""
    rows, columns = (
        np.arange(new) * old // new for new, old in zip(shape[:2], labels.shape, strict=True)
    )
    return labels[rows[:, None], columns[None]]


def _landmarks(
    config: Any, task: Task, state: TrainState, evaluation: Evaluation, records: Source
) -> _Shown:
    """Of the landmarks that are there."""
    names = config.data.class_names
    examples = assemble.spread_examples(config, records, _PICTURES)
    found = jax.device_get(predict_of_task(task)(state.averaged, examples.image))
    rows = []
    for image, points, truth, visible in zip(
        examples.image, found["points"], examples.points, examples.visible, strict=True
    ):
        canvas, scale = _for_the_eye(image)
        rows.append(
            {
                caption: draw_landmarks(canvas, places * scale, visible, names=names)
                for caption, places in (("found", points), ("truth", truth))
            }
        )
    return _Shown(rows)


def _restoration(
    config: Any, task: Task, state: TrainState, evaluation: Evaluation, records: Source
) -> _Shown:
    """Tiles of the photographs: spoilt, restored and as they were."""
    examples = assemble.spread_examples(config, records, _PICTURES // 2)
    prepared = jax.jit(jax.vmap(task.prepare))(examples)
    restored = restore_of_task(task, state.averaged)(prepared.image)
    before, target = 255 * np.asarray(prepared.image), 255 * np.asarray(prepared.target)
    rows = []
    for parts in zip(before, np.asarray(restored), target, strict=True):
        pictures = (_for_the_eye(_as_picture(part))[0] for part in parts)
        rows.append(dict(zip(("spoilt", "restored", "as it was"), pictures, strict=True)))
    return _Shown(rows)


def _as_picture(values: np.ndarray) -> np.ndarray:
    """f32[H, W, C] in 0..255, grey or RGB -> u8[H, W, 3]."""
    rounded = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(rounded, (*rounded.shape[:2], 3)))


_REPORTS: dict[str, Callable[..., _Shown]] = {
    "detection": _detection,
    "landmarks": _landmarks,
    "restoration": _restoration,
    "segmentation": _segmentation,
}
