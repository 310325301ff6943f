"""Segmentation on the command line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from jaxvision import augment as aug
from jaxvision import data, tasks
from jaxvision.cli.code import Code
from jaxvision.cli.kinds.augmentation import GeometryAndColor, wanted_of
from jaxvision.cli.kinds.kind import (
    Built,
    Kind,
    ResizedData,
    Result,
    Shown,
    build_model,
    check_options,
    find_loss,
    to_look_at,
)
from jaxvision.cli.options import option_paths, plain, read_group
from jaxvision.core import IGNORED, InputError, OptionError, check_range
from jaxvision.data.transforms.placing import with_channels
from jaxvision.predict import Prediction, draw_labels, predict
from jaxvision.tasks.building import crop_centre


@dataclass(frozen=True)
class SegmentationData(ResizedData):
    """The data of segmentation.

    Attributes:
      source: "scenes" (embedded), "folder" (of images and masks), "voc" or "tfds".
      mask: tfds: key of the masks.
      class_names: of the labels 0, 1, ...; the first one is the background.
      binary: all but scenes: True: masks have 0 and 255 for two classes; False: 255 is for pixels
        that do not count; None: the former if masks have only 0 and 255.
      channels: 1: grey, 3: RGB.
      mean: one number for each channel, of values in 0..1; None: 0.
      std: likewise; None: 1.
      positive_class: class whose F1 score and ROC AUC are measured; None: of none.
      tile_overlap: share of a tile by which tiles overlap, where predict cuts large images.
      tile_average: average the probabilities of overlapping tiles.
    """

    source: str = "scenes"
    mask: str = "segmentation_mask"
    class_names: tuple[str, ...] = ()
    binary: bool | None = None
    channels: int = 3
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    positive_class: str | None = None
    tile_overlap: float = 0.25
    tile_average: bool = False


@dataclass(frozen=True)
class SegmentationAugment(GeometryAndColor):
    """Augmentation of segmentation.

    Attributes:
      elastic: pixels by which the points of a coarse grid move, their standard deviation; 0: none.
    """

    elastic: float = 0.0

    def steps(self) -> tuple[Any, ...]:
        """The augmentations, in their order."""
        elastic = (self.elastic, partial(aug.Elastic, sigma=self.elastic))
        return wanted_of(self.move(), elastic, self.mirror(), self.color())


@dataclass(frozen=True)
class AuxiliaryOptions:
    """The loss of a network's map "aux"; further keys are options of the loss that differ there.

    Attributes:
      factor: by which it is multiplied.
    """

    factor: float = 0.5

    def __post_init__(self) -> None:
        check_range("factor", self.factor, least=0)


def build(config: Any, class_names: Sequence[str], code: Code, evaluation: bool) -> Built:
    """The task and the transform of a config."""
    options = read_group(SegmentationData, config.data, "config.data")
    binary = config.loss.name == "binary_cross_entropy"
    if binary and len(class_names) != 2:
        raise InputError(
            f"config.data.class_names has {len(class_names)} names, but binary_cross_entropy tells "
            "two classes apart: give two"
        )
    with option_paths("config.data", size="image_size"):
        normal = {"mean": options.mean, "std": options.std}
        inputs = options.inputs(channels=options.channels, **normal)
    model = build_model(config, code, num_classes=1 if binary else len(class_names))
    loss, auxiliary, steps = None, None, ()
    if not evaluation:
        augment = read_group(SegmentationAugment, config.augment, "config.augment")
        with option_paths("config.augment", sigma="elastic"):
            steps = augment.steps()
        loss = find_loss(config, code, "segmentation")
        others = plain(config.auxiliary)
        factor = read_group(AuxiliaryOptions, config.auxiliary, "config.auxiliary").factor
        others.pop("factor")
        if others or getattr(model, "aux", False):
            check_options("config.auxiliary", loss, others)
            auxiliary = (partial(loss, **others), factor)
        elif factor != AuxiliaryOptions.factor:
            raise OptionError(
                "config.auxiliary.factor",
                f"config.auxiliary.factor is set, but {config.model.name} has no map 'aux': leave "
                "it out, or set config.model.aux",
            )
    measured = {"positive_class": "data.positive_class"}
    tiles = {name: f"data.{name}" for name in ("tile_overlap", "tile_average")}
    with option_paths("config", **measured, **tiles):
        task = tasks.segmentation(
            model,
            inputs,
            class_names=class_names,
            loss=loss,
            auxiliary=auxiliary,
            augment=steps,
            positive_class=options.positive_class,
            tile_overlap=options.tile_overlap,
            tile_average=options.tile_average,
            sync_batch_norm=config.sync_batch_norm,
        )
        transform = data.ToSegmentation(inputs, len(class_names))
    return Built(task, transform, transform)


def _folder(options: SegmentationData, split: str) -> data.Source:
    names = options.class_names
    how = {"class_names": names, "binary": options.binary}
    return data.MaskFolder(options.folder, options.own_split(split), **how)


def _voc(options: SegmentationData, split: str) -> data.Source:
    names = options.class_names or None
    how = {"class_names": names, "binary": options.binary}
    return data.VocMasks(options.folder, options.own_split(split), **how)


def _tfds(options: SegmentationData, split: str) -> data.Source:
    if not options.name:
        raise OptionError("name", "name is not set: give a TFDS data set, such as oxford_iiit_pet")
    masks = {"mask": options.mask, "binary": options.binary, "class_names": options.class_names}
    how = {"dir": options.dir, "kind": "segmentation", **masks}
    return data.Tfds(options.name, options.own_split(split), **how)


def overlap_table(tables: Mapping[str, np.ndarray], class_names: Sequence[str]) -> str:
    """Intersection over union of each class, as lines of text; a dash where there is none of it."""
    width = max(len("class"), *map(len, class_names))
    numbers = ["-" if np.isnan(x) else f"{x:.3f}" for x in tables["class_iou"]]
    lines = [f"{name:<{width}}  {x:>6}" for name, x in zip(class_names, numbers, strict=True)]
    return "\n".join([f"{'class':<{width}}     IoU", *lines])


def pictures(shown: Shown) -> list[dict[str, np.ndarray]]:
    """Regions that were found beside those that are there."""
    names, rows, inputs = shown.class_names, [], shown.task.inputs
    images, truths = list(np.asarray(shown.examples.image)), np.asarray(shown.examples.labels)
    if inputs.pads or inputs.resampling == "float32":
        # Such examples are no images to predict for: the records are.
        chosen = np.linspace(0, len(shown.records) - 1, len(images)).astype(int)
        records = [shown.records[index] for index in chosen.tolist()]
        images, truths = ([record[key] for record in records] for key in ("image", "labels"))
    found = [p.result for p in predict(shown.task, shown.variables, images)]
    for image, labels, truth in zip(images, found, truths, strict=True):
        canvas, _ = to_look_at(with_channels(crop_centre(image, labels.shape), 3))
        parts = {"found": labels, "truth": crop_centre(truth, labels.shape)}
        rows.append(
            {
                caption: draw_labels(canvas, _enlarged(of_pixels, canvas.shape), names)
                for caption, of_pixels in parts.items()
            }
        )
    return rows


def _enlarged(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The nearest labels, in the size of a picture."""
    rows, columns = (
        np.arange(new) * old // new for new, old in zip(shape[:2], labels.shape, strict=True)
    )
    return labels[rows[:, None], columns[None]]


def results(prediction: Prediction, task: Any) -> Result:
    """A picture with regions and a palette PNG of the labels; the share of pixels of each class."""
    labels, names = prediction.result, task.class_names
    counts = np.bincount(labels.ravel(), minlength=len(names))[: len(names)]
    shares = {
        name: round(count / labels.size, 5)
        for name, count in zip(names, counts.tolist(), strict=True)
    }
    return Result({"shares": shares}, (draw_labels(prediction.image, labels, names), labels))


def _without_legend(prediction: Prediction, result: Result) -> np.ndarray:
    height, width = prediction.image.shape[:2]
    return result.files[0][:height, :width]


SEGMENTATION = Kind(
    name="segmentation",
    groups={
        "data": SegmentationData,
        "augment": SegmentationAugment,
        "auxiliary": AuxiliaryOptions,
    },
    defaults={"best.metric": "mean_iou", "model.name": "unet", "loss.name": "cross_entropy"},
    sources={
        "scenes": lambda options, split: data.Scenes(split, kind="segmentation", dir=options.dir),
        "folder": _folder,
        "voc": _voc,
        "tfds": _tfds,
    },
    build=build,
    transform=lambda task: data.ToSegmentation(task.inputs, len(task.class_names)),
    table=overlap_table,
    pictures=pictures,
    results=results,
    frame=_without_legend,
    files=("{}.png", "labels/{}.png"),
    empty=lambda image, classes: {"labels": np.full(image.shape[:2], IGNORED, np.uint8)},
)
