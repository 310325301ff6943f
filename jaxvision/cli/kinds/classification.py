"""Classification on the command line."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxvision import augment as aug
from jaxvision import data, tasks
from jaxvision.cli.code import Code
from jaxvision.cli.kinds.augmentation import wanted_of
from jaxvision.cli.kinds.class_report import (
    class_figures,
    class_files,
    class_table,
    worst_mistakes,
)
from jaxvision.cli.kinds.kind import Built, Kind, ResizedData, Result, build_model, find_loss
from jaxvision.cli.kinds.trees import TreeOptions, tree_of_classes
from jaxvision.cli.options import option_paths, read_group
from jaxvision.core import OptionError, check_range, under
from jaxvision.predict import Prediction, draw_class_tags, draw_classification


@dataclass(frozen=True)
class ClassificationData(ResizedData):
    """The data of classification.

    Attributes:
      source: "digits" (embedded), "folder" (DIR/SPLIT/CLASS/), "cache" (that `jaxvision cache`
        wrote), "idx" (MNIST's files), "npz" (of arrays) or "tfds".
      per_class: images of each class to train on, after the validation part is taken off; 0: all.
      method: "nearest", "bilinear" or "bicubic".
      channels: 1: grey, 3: RGB.
      num_classes: None: as many as the data have.
      class_names: in the order of the labels; (): those of the data, or numbers.
      mean: one number for each channel, of values in 0..1.
      std: likewise.
    """

    source: str = "digits"
    per_class: int = 0
    method: str = "bilinear"
    channels: int = 1
    num_classes: int | None = None
    class_names: tuple[str, ...] = ()
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("per_class", self.per_class, least=0)
        if self.num_classes is not None:
            check_range("num_classes", self.num_classes, least=1)


@dataclass(frozen=True)
class ClassificationAugment:
    """Augmentation of classification.

    Attributes:
      crop_scale: least and largest share of the image that a random crop shows; None: no such crop.
      crop_on_device: take that crop of the image in the network's size: cheaper, but less sharp.
      flip: whether images are mirrored left and right, with a probability of one half.
      padding: pixels on each side before a random crop of the image's size.
      degrees: largest angle of a random rotation, either way.
      brightness: largest change of the factor 1, either way.
      contrast: largest change of the factor 1, either way.
      saturation: largest change of the factor 1, either way.
      hue: largest shift, in turns.
      rand_augment: RandAugment: operations in a row.
      rand_augment_magnitude: of all of them, in 0..30.
      cutout: side of a square that is hidden in each image, in pixels.
      mixup: probability that two images are blended, and their labels too.
      mixup_alpha: of mixup's beta distribution.
      cutmix: probability, beside mixup's, that a box of another image is pasted.
      cutmix_alpha: of cutmix's beta distribution.
    """

    crop_scale: tuple[float, float] | None = None
    crop_on_device: bool = False
    flip: bool = False
    padding: int = 0
    degrees: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    rand_augment: int = 0
    rand_augment_magnitude: int = 9
    cutout: int = 0
    mixup: float = 0.0
    mixup_alpha: float = 0.2
    cutmix: float = 0.0
    cutmix_alpha: float = 1.0

    def __post_init__(self) -> None:
        for name in ("padding", "degrees", "rand_augment", "cutout"):
            check_range(name, getattr(self, name), least=0)
        for name in ("brightness", "contrast", "saturation"):
            check_range(name, getattr(self, name), least=0, less_than=math.inf)
        check_range("hue", self.hue, least=0, most=0.5)
        check_range("rand_augment_magnitude", self.rand_augment_magnitude, least=0, most=30)
        for name in ("mixup", "cutmix"):
            check_range(name, getattr(self, name), least=0, most=1)
            check_range(f"{name}_alpha", getattr(self, f"{name}_alpha"), more_than=0)
        check_range("mixup plus cutmix", self.mixup + self.cutmix, most=1)

    def steps(self, num_classes: int) -> tuple[Any, ...]:
        """The augmentations, in their order."""
        jitter = {x: getattr(self, x) for x in ("brightness", "contrast", "saturation", "hue")}
        mixing = {x: getattr(self, x) for x in ("mixup", "cutmix", "mixup_alpha", "cutmix_alpha")}
        magnitude = self.rand_augment_magnitude
        return wanted_of(
            (
                self.crop_scale and self.crop_on_device,
                lambda: aug.RandomResizedCrop(scale=tuple(self.crop_scale)),
            ),
            (self.flip, lambda: aug.RandomFlip()),
            (self.padding, lambda: aug.RandomCrop(padding=self.padding)),
            (self.degrees, lambda: aug.Rotate(degrees=self.degrees)),
            (any(jitter.values()), lambda: aug.ColorJitter(**jitter)),
            (
                self.rand_augment,
                lambda: aug.RandAugment(num_ops=self.rand_augment, magnitude=magnitude),
            ),
            (self.cutout, lambda: aug.Cutout(self.cutout)),
            (
                self.mixup or self.cutmix,
                lambda: aug.ClassMixup(num_classes=num_classes, **mixing),
            ),
        )


def build(config: Any, class_names: Sequence[str], code: Code, evaluation: bool) -> Built:
    """The task and the transforms of a config."""
    options = read_group(ClassificationData, config.data, "config.data")
    with option_paths("config.data", size="image_size"):
        normal = {"mean": options.mean, "std": options.std}
        inputs = options.inputs(channels=options.channels, method=options.method, **normal)
    num_classes = len(class_names)
    tree_options = read_group(TreeOptions, config.tree, "config.tree")
    with under("config.tree"):
        tree = tree_of_classes(tree_options, class_names)
    num_logits = num_classes if tree is None else len(tree)
    model = build_model(config, code, num_classes=num_logits)
    transform = train_transform = data.ToClassification(inputs, num_classes)
    loss, steps = None, ()
    if not evaluation:
        changes = read_group(ClassificationAugment, config.augment, "config.augment")
        with under("config.augment"):
            steps = changes.steps(num_classes)
            if changes.crop_scale and not changes.crop_on_device:
                scale = tuple(changes.crop_scale)
                cropping = data.ToClassification(inputs, num_classes, crop_scale=scale)
                train_transform = data.RandomTransform(cropping)
        loss = find_loss(config, code, "classification")
    with under("config"):
        task = tasks.classification(
            model,
            inputs,
            class_names=class_names,
            loss=loss,
            augment=steps,
            tree=tree,
            sync_batch_norm=config.sync_batch_norm,
        )
    return Built(task, train_transform, transform)


def _npz(options: ClassificationData, split: str) -> data.Source:
    return data.Npz(options.folder, options.own_split(split), class_names=options.class_names)


def _idx(options: ClassificationData, split: str) -> data.Source:
    return data.Idx(options.folder, split, class_names=options.class_names)


def _folder(options: ClassificationData, split: str) -> data.Source:
    names, parts = options.class_names, options.train_split.split("+")
    if not names and split != "train" and any((options.folder / x).exists() for x in parts):
        names = data.ImageFolder(options.folder / options.train_split).class_names
    path = options.folder / options.own_split(split)
    how = {"grey": options.channels == 1, "complete": split == "train"}
    return data.ImageFolder(path, class_names=names or None, **how)


def _cache(options: ClassificationData, split: str) -> data.Source:
    path, grey = options.folder / options.own_split(split), options.channels == 1
    return data.ImageCache(path, class_names=options.class_names, grey=grey)


def _tfds(options: ClassificationData, split: str) -> data.Source:
    if not options.name:
        raise OptionError("name", "name is not set: give a TFDS data set, such as mnist")
    return data.Tfds(options.name, options.own_split(split), dir=options.dir)


def results(prediction: Prediction, task: Any, *, top_k: int = 5) -> Result:
    """A picture with the classes above it; the classes of an image, the most probable first.

    Args:
      prediction: of the image.
      task: that predicted.
      top_k: classes to name.
    """
    probabilities = prediction.result["probabilities"]
    ranked = np.argsort(-probabilities, kind="stable")[:top_k].tolist()
    names = task.class_names or [str(number) for number in range(len(probabilities))]
    classes = [
        {"label": names[i], "index": i, "score": round(float(probabilities[i]), 5)} for i in ranked
    ]
    probable: dict[str, float] = {}
    for found in classes:  # of equal names, the most probable class counts
        probable.setdefault(found["label"], found["score"])
    entry = {"label": classes[0]["label"], "probabilities": probable, "classes": classes}
    return Result(entry, (draw_classification(prediction, task.class_names, top_k=top_k),))


def frame(prediction: Prediction, result: Result) -> np.ndarray:
    """A frame of a video, with the classes over its top left corner."""
    tags = [(x["index"], f"{x['label']} {x['score']:.2f}") for x in result.entry["classes"]]
    return draw_class_tags(prediction.image, tags)


CLASSIFICATION = Kind(
    name="classification",
    groups={"data": ClassificationData, "augment": ClassificationAugment, "tree": TreeOptions},
    defaults={"best.metric": "accuracy", "model.name": "lenet5", "loss.name": "cross_entropy"},
    sources={
        "digits": lambda options, split: data.Digits(split, dir=options.dir),
        "cache": _cache,
        "folder": _folder,
        "idx": _idx,
        "npz": _npz,
        "tfds": _tfds,
    },
    build=build,
    transform=lambda task: data.ToClassification(task.inputs, len(task.class_names)),
    table=class_table,
    pictures=worst_mistakes,
    page="mistakes",
    csv=class_files,
    figures=class_figures,
    results=results,
    options=("top_k",),
    frame=frame,
    empty=lambda image, classes: {"label": 0},
)
