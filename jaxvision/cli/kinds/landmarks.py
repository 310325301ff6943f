"""Landmarks on the command line."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxvision import data, tasks
from jaxvision.cli.code import Code
from jaxvision.cli.kinds.augmentation import GeometryAndColor, wanted_of
from jaxvision.cli.kinds.kind import (
    Built,
    DataOptions,
    Kind,
    Result,
    Shown,
    build_model,
    find_loss,
    to_look_at,
)
from jaxvision.cli.options import option_paths, read_group
from jaxvision.core import Inputs, under
from jaxvision.predict import Prediction, draw_landmarks, predict
from jaxvision.tasks import HeatmapDecode


@dataclass(frozen=True)
class LandmarkData(DataOptions):
    """The data of landmarks.

    Attributes:
      source: "scenes" (embedded) or "folder" (of images and a table).
      class_names: of the landmarks, in their order; (): those of the data.
      resize: "letterbox" keeps the aspect ratio; or "stretch".
      mean: one number for each channel, of values in 0..1.
      std: likewise.
    """

    source: str = "scenes"
    class_names: tuple[str, ...] = ()
    resize: str = "letterbox"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class LandmarkAugment(GeometryAndColor):
    """Augmentation of landmarks.

    Attributes:
      swap: what each landmark becomes in a mirrored image, such as (1, 0, 2) for two eyes and a
        nose.
    """

    swap: tuple[int, ...] = ()

    def steps(self) -> tuple[Any, ...]:
        """The augmentations, in their order."""
        return wanted_of(self.move(), self.mirror(swap=self.swap), self.color())


@dataclass(frozen=True)
class DecodeOptions:
    """How maps become points.

    Attributes:
      method: "soft_argmax", or "argmax" with a parabola through its neighbours.
      radius: soft_argmax: pixels of the maps around the highest one that count; 0: all pixels.
      temperature: soft_argmax: what the maps are divided by before the softmax.
    """

    method: str = "soft_argmax"
    radius: int = 3
    temperature: float = 1.0

    def to_heatmap_decode(self, *, softmax: bool) -> HeatmapDecode:
        """The options of the task."""
        return HeatmapDecode(**dataclasses.asdict(self), softmax=softmax)


def build(config: Any, class_names: Sequence[str], code: Code, evaluation: bool) -> Built:
    """The task and the transform of a config."""
    options = read_group(LandmarkData, config.data, "config.data")
    with option_paths("config.data", size="image_size"):
        normal = {"mean": options.mean, "std": options.std}
        size = (options.image_size, options.image_size)
        inputs = Inputs(size, **normal, resize=options.resize)
    decode = read_group(DecodeOptions, config.decode, "config.decode")
    with under("config.decode"):
        decode = decode.to_heatmap_decode(softmax=config.loss.name != "heatmap_l2_loss")
    model = build_model(config, code, num_classes=len(class_names))
    loss, steps = None, ()
    if not evaluation:
        augment = read_group(LandmarkAugment, config.augment, "config.augment")
        with under("config.augment"):
            steps = augment.steps()
        loss = find_loss(config, code, "landmarks")
    with under("config"):
        how = {"landmark_names": class_names, "decode": decode}
        task = tasks.landmarks(
            model,
            inputs,
            **how,
            loss=loss,
            augment=steps,
            sync_batch_norm=config.sync_batch_norm,
        )
        transform = data.ToLandmarks(inputs, len(class_names))
    return Built(task, transform, transform)


def _folder(options: LandmarkData, split: str) -> data.Source:
    names = options.class_names or None
    return data.LandmarkFolder(options.folder, options.own_split(split), class_names=names)


def pictures(shown: Shown) -> list[dict[str, np.ndarray]]:
    """Of the landmarks that are there: points that were found beside the true ones."""
    names, rows, batch = shown.class_names, [], jax.device_get(shown.examples)
    found = predict(shown.task, shown.variables, list(batch.image))
    for prediction, truth, visible in zip(found, batch.points, batch.visible, strict=True):
        canvas, scale = to_look_at(prediction.image)
        points = {"found": prediction.result["points"], "truth": truth}
        rows.append(
            {
                caption: draw_landmarks(canvas, places * scale, visible, names=names)
                for caption, places in points.items()
            }
        )
    return rows


def results(prediction: Prediction, task: Any) -> Result:
    """A picture with points; place and score of each landmark."""
    names = task.class_names
    points, scores = (np.asarray(prediction.result[name]) for name in ("points", "scores"))
    drawn = draw_landmarks(prediction.image, points, np.ones(len(points), bool), names=names)
    entries = [
        {"label": name, "point": [round(x, 3) for x in point], "score": round(score, 5)}
        for name, point, score in zip(names, points.tolist(), scores.tolist(), strict=True)
    ]
    return Result({"landmarks": entries}, (drawn,))


def _none_visible(image: np.ndarray, classes: int) -> dict[str, Any]:
    return {"points": np.zeros((classes, 2)), "visible": np.zeros(classes, bool)}


LANDMARKS = Kind(
    name="landmarks",
    groups={"data": LandmarkData, "augment": LandmarkAugment, "decode": DecodeOptions},
    defaults={
        "best.metric": "pixel_error",
        "best.mode": "min",
        "model.name": "unet",
        "loss.name": "heatmap_cross_entropy",
    },
    sources={
        "scenes": lambda options, split: data.Scenes(split, kind="landmarks", dir=options.dir),
        "folder": _folder,
    },
    build=build,
    transform=lambda task: data.ToLandmarks(task.inputs, len(task.class_names)),
    pictures=pictures,
    results=results,
    empty=_none_visible,
)
