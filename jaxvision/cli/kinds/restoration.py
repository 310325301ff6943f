"""Restoration on the command line."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxvision import augment as aug
from jaxvision import data, tasks
from jaxvision.cli.code import Code
from jaxvision.cli.kinds.kind import (
    PICTURES,
    Built,
    DataOptions,
    Kind,
    Result,
    Shown,
    build_model,
    check_options,
    find_loss,
    to_look_at,
)
from jaxvision.cli.options import option_paths, plain, read_group
from jaxvision.core import Inputs, check_range, lookup, option_errors, under
from jaxvision.predict import Prediction, draw_prediction
from jaxvision.tasks import DEGRADATIONS
from jaxvision.tasks.inference import predictions_of


@dataclass(frozen=True)
class RestorationData(DataOptions):
    """The data of restoration.

    Attributes:
      source: "photographs", two that are embedded, or "folder".
      train_split: of a folder: the folder in it.
      image_size: height and width of the patches to train on.
      patches: of each photograph, at random places.
      tile: height and width of the tiles that cover photographs in evaluation.
      margin: pixels around what is kept of a tile.
      color: "rgb", "grey" or "luminance": what is restored.
    """

    source: str = "photographs"
    image_size: int = 40
    patches: int = 512
    tile: int = 128
    margin: int = 16
    color: str = "rgb"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("patches", "tile"):
            check_range(name, getattr(self, name), least=1)


@dataclass(frozen=True)
class RestorationAugment:
    """Augmentation of restoration.

    Attributes:
      symmetry: turn and mirror patches: the eight symmetries of a square.
    """

    symmetry: bool = True


@dataclass(frozen=True)
class DegradationOptions:
    """What is to be undone; further keys are its options: sigma=(25, 25), or factor=3.

    Attributes:
      name: "gaussian_noise", "downscale" for networks that enlarge, or "downscale_upscale".
    """

    name: str = "gaussian_noise"


def build(config: Any, class_names: Sequence[str], code: Code, evaluation: bool) -> Built:
    """The task and the transform of a config."""
    del class_names
    options = read_group(RestorationData, config.data, "config.data")
    settings = plain(config.degradation)
    name = settings.pop("name")
    make = lookup(DEGRADATIONS, name, "degradation")
    check_options("config.degradation", make, settings)
    with under("config"), option_errors("degradation"):
        degradation = make(**settings)
    model = build_model(config, code)
    loss, steps = None, ()
    if not evaluation:
        augment = read_group(RestorationAugment, config.augment, "config.augment")
        steps = (aug.Symmetry(),) if augment.symmetry else ()
        loss = find_loss(config, code, "restoration")
    with under("config"):
        task = tasks.restoration(
            model,
            Inputs((options.image_size, options.image_size)),
            degradation=degradation,
            color=options.color,
            loss=loss,
            augment=steps,
            tile=options.tile,
            margin=options.margin,
        )
    return Built(task, data.ToRestoration(), data.ToRestoration())


def _folder(options: RestorationData, split: str) -> data.Source:
    return data.Photographs(options.folder, options.own_split(split))


def pictures(shown: Shown) -> list[dict[str, np.ndarray]]:
    """Tiles of photographs: degraded, restored and as they were."""
    task = shown.task
    examples = jax.tree.map(lambda x: x[: PICTURES // 2], shown.examples)
    prepared = jax.jit(jax.vmap(task.prepare))(examples)

    @jax.jit
    def restore(variables: Any, batch: Any) -> Any:
        return predictions_of(task, variables, batch)

    restored = restore(shown.variables, examples)
    before, target = 255 * np.asarray(prepared.image), 255 * np.asarray(prepared.target)
    rows = []
    for parts in zip(before, np.asarray(restored), target, strict=True):
        images = (to_look_at(_as_picture(part))[0] for part in parts)
        rows.append(dict(zip(("degraded", "restored", "original"), images, strict=True)))
    return rows


def _as_picture(values: np.ndarray) -> np.ndarray:
    """f32[H, W, C] in 0..255, grey or RGB -> u8[H, W, 3]."""
    rounded = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(rounded, (*rounded.shape[:2], 3)))


def results(prediction: Prediction, task: Any) -> Result:
    """The restored photograph, and beside it what it was made from."""
    del task
    restored = prediction.result
    entry = {"restored_width": restored.shape[1], "restored_height": restored.shape[0]}
    return Result(entry, (restored, draw_prediction(prediction, "restoration")))


def _patches(options: RestorationData, photographs: data.Source) -> data.Source:
    with option_paths("config.data", size="image_size", count="patches"):
        return data.RandomPatches(photographs, size=options.image_size, count=options.patches)


def _tiles(options: RestorationData, photographs: data.Source) -> data.Source:
    with option_paths("config.data", size="tile"):
        return data.Tiles(photographs, size=options.tile, margin=options.margin)


RESTORATION = Kind(
    name="restoration",
    groups={
        "data": RestorationData,
        "augment": RestorationAugment,
        "degradation": DegradationOptions,
    },
    defaults={"best.metric": "psnr", "model.name": "dncnn_s", "loss.name": "l2_loss"},
    sources={
        "photographs": lambda options, split: data.Photographs(split=split),
        "folder": _folder,
    },
    build=build,
    transform=lambda task: data.ToRestoration(),
    pictures=pictures,
    results=results,
    files=("{}.png", "beside/{}.png"),
    trained_on=_patches,
    measured_on=_tiles,
)
