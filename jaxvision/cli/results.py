"""What prediction leaves of each image: files in a folder, and an entry of predictions.json."""

import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.core import Task
from jaxvision.data import to_original
from jaxvision.predict import (
    Failed,
    Predictor,
    Restorer,
    detect_in_files,
    draw_detections,
    draw_labels,
    draw_landmarks,
    label_tiles,
    labels_of_original,
    maps_of_task,
    picture_grid,
    predict_in_files,
    predict_of_task,
    read_images,
    restore_of_task,
    write_label_png,
    write_picture,
)


class Result(NamedTuple):
    """What comes of an image.

    Attributes:
      size: (height, width) of the image.
      entry: of predictions.json.
      files: an array for each of `Maker.names`: a picture u8[H, W, 3], or labels int[H, W].
    """

    size: tuple[int, int]
    entry: dict[str, Any]
    files: tuple[np.ndarray, ...]


class Maker(NamedTuple):
    """What makes results of images.

    Attributes:
      names: patterns of the files' names, the picture's first; "{}" stands for the image.
      make: (paths, images at a time) -> a result for each path.
    """

    names: tuple[str, ...]
    make: Callable[[Sequence[pathlib.Path], int], Iterator[Result | Failed]]


def write(path: pathlib.Path, array: np.ndarray) -> None:
    """Writes a picture, or labels of pixels, as a PNG; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (write_picture if array.ndim == 3 else write_label_png)(path, array)


def detections_maker(detector: Predictor) -> Maker:
    """Pictures with boxes; label, box and score of each object."""

    def make(paths: Sequence[pathlib.Path], batch_size: int) -> Iterator[Result | Failed]:
        for found in detect_in_files(detector, paths, batch_size=batch_size):
            if isinstance(found, Failed):
                yield found
                continue
            drawn = draw_detections(
                found.image, found.boxes, found.labels, found.scores, detector.class_names
            )
            corner, size = found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]
            boxes = np.concatenate([corner, size], axis=1)
            objects = [
                {
                    "label": detector.class_names[label],
                    "bbox": [round(x, 3) for x in box],
                    "score": round(score, 5),
                }
                for label, box, score in zip(
                    found.labels.tolist(), boxes.tolist(), found.scores.tolist(), strict=True
                )
            ]
            yield Result(found.image.shape[:2], {"detections": objects}, (drawn,))

    return Maker(("{}.png",), make)


def _detection(config: Any, task: Task, variables: Any) -> Maker:
    return detections_maker(_predictor(config, task, variables))


def _landmarks(config: Any, task: Task, variables: Any) -> Maker:
    """Pictures with points; place and score of each landmark."""
    predictor = _predictor(config, task, variables)
    names = predictor.class_names

    def make(paths: Sequence[pathlib.Path], batch_size: int) -> Iterator[Result | Failed]:
        for result in predict_in_files(predictor, paths, batch_size=batch_size):
            if isinstance(result, Failed):
                yield result
                continue
            points, scores = (np.asarray(result.outputs[name]) for name in ("points", "scores"))
            points = to_original(np.tile(points, 2), result.placement)[:, :2]
            found = np.ones(len(points), bool)
            drawn = draw_landmarks(result.image, points, found, names=names)
            entries = [
                {"label": name, "point": [round(x, 3) for x in point], "score": round(score, 5)}
                for name, point, score in zip(names, points.tolist(), scores.tolist(), strict=True)
            ]
            yield Result(result.image.shape[:2], {"landmarks": entries}, (drawn,))

    return Maker(("{}.png",), make)


def _segmentation(config: Any, task: Task, variables: Any) -> Maker:
    """Pictures with regions, and labels as palette PNGs; the share of pixels of each class.

    Images are resized as those of the training were; if none was (`config.data.resize` is None),
    they are cut into tiles.
    """
    predictor = _predictor(config, task, variables)
    names, tile = predictor.class_names, config.data.image_size

    def resized(paths: Sequence[pathlib.Path], batch_size: int) -> Iterator[Any]:
        for result in predict_in_files(predictor, paths, batch_size=batch_size):
            if isinstance(result, Failed):
                yield result
            else:
                size = result.image.shape[:2]
                yield result.image, labels_of_original(result.outputs, result.placement, size)

    def tiled(paths: Sequence[pathlib.Path], batch_size: int) -> Iterator[Any]:
        del batch_size
        predict = jax.jit(lambda images: predictor.predict(variables, images))
        maps, found = jax.eval_shape(
            lambda images: (maps_of_task(task, variables, images), predict(images)),
            jnp.zeros((1, tile, tile, 3), jnp.uint8),
        )
        levels = [int(name[1:]) for name in maps if re.fullmatch(r"c\d+", name)]
        how = {"tile": tile, "labelled": found.shape[1], "step": 2 ** max(levels, default=0)}
        for item in read_images(paths):
            if isinstance(item, Failed):
                yield item
            else:
                yield item[1], label_tiles(predict, item[1], **how)

    def make(paths: Sequence[pathlib.Path], batch_size: int) -> Iterator[Result | Failed]:
        for item in (resized if predictor.resize else tiled)(paths, batch_size):
            if isinstance(item, Failed):
                yield item
                continue
            image, labels = item
            counts = np.bincount(labels.ravel(), minlength=len(names))
            shares = {
                name: round(count / labels.size, 5)
                for name, count in zip(names, counts.tolist(), strict=True)
            }
            drawn = draw_labels(image, labels, names)
            yield Result(image.shape[:2], {"shares": shares}, (drawn, labels))

    return Maker(("{}.png", "labels/{}.png"), make)


def restorer_of(config: Any, task: Task, variables: Any) -> Restorer:
    """The network of a restoration run, for photographs."""
    data, factor = config.data, config.degradation.get("factor", 1)
    enlarged = config.degradation.name == "downscale_upscale"
    shrunk = 1 if enlarged else factor
    return Restorer(
        restore=restore_of_task(task, variables),
        color=data.color,
        factor=factor,
        enlarged=enlarged,
        tile=data.tile // shrunk,
        margin=data.margin // shrunk,
    )


def _restoration(config: Any, task: Task, variables: Any) -> Maker:
    """Restored photographs, and each beside what it was made of."""
    restorer = restorer_of(config, task, variables)

    def make(paths: Sequence[pathlib.Path], batch_size: int) -> Iterator[Result | Failed]:
        del batch_size
        for item in read_images(paths):
            if isinstance(item, Failed):
                yield item
                continue
            _, image = item
            restored = restorer(image)
            before = image
            if restorer.factor > 1:
                before = np.clip(np.rint(restorer.bicubic(image)), 0, 255).astype(np.uint8)
            captions = ["given" if restorer.factor == 1 else "bicubic", "restored"]
            beside = picture_grid([before, restored], columns=2, captions=captions)
            entry = {"restored_width": restored.shape[1], "restored_height": restored.shape[0]}
            yield Result(image.shape[:2], entry, (restored, beside))

    return Maker(("{}.png", "beside/{}.png"), make)


def _predictor(config: Any, task: Task, variables: Any) -> Predictor:
    return Predictor(
        predict=predict_of_task(task),
        variables=variables,
        image_size=(config.data.image_size, config.data.image_size),
        resize=config.data.resize,
        class_names=tuple(config.data.class_names),
    )


MAKERS: dict[str, Callable[[Any, Task, Any], Maker]] = {
    "detection": _detection,
    "landmarks": _landmarks,
    "restoration": _restoration,
    "segmentation": _segmentation,
}
"""Task -> (config of a run, its task, variables) -> Maker."""
