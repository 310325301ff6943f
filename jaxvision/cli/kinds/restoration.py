"""Restoration on the command line."""

from collections.abc import Mapping, Sequence
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
from jaxvision.core import Inputs, OptionError, check_range, lookup, option_errors, under
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
      margin: pixels around what is kept of a tile; None: as many as a restored pixel depends on.
      color: "rgb", "grey" or "luminance" (Y of RGB in 16..235; grey files as they are) is restored.
      crop_border: pixels along the border of photographs that PSNR and SSIM leave out.
      modcrop: photographs are cropped to sides that are multiples of this number, to be measured.
      border: "reflect", "symmetric" or "zeros": what tiles have beyond a photograph.
    """

    source: str = "photographs"
    image_size: int = 40
    patches: int = 512
    tile: int = 128
    margin: int | None = None
    color: str = "rgb"
    crop_border: int = 0
    modcrop: int = 1
    border: str = "reflect"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("patches", "tile", "modcrop"):
            check_range(name, getattr(self, name), least=1)
        check_range("crop_border", self.crop_border, least=0)


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
      protocol: "dncnn" or "srcnn": measure as that paper, which sets color, crop_border, modcrop
        and border of the data; empty: leave them as they are.
    """

    name: str = "gaussian_noise"
    protocol: str = ""


def build(config: Any, class_names: Sequence[str], code: Code, evaluation: bool) -> Built:
    """The task and the transform of a config, whose data get the options of tiles that follow."""
    del class_names
    options = read_group(RestorationData, config.data, "config.data")
    settings = plain(config.degradation)
    name, protocol = settings.pop("name"), settings.pop("protocol")
    make = lookup(DEGRADATIONS, name, "degradation")
    check_options("config.degradation", make, settings)
    with under("config"), option_errors("degradation"):
        degradation = make(**settings)
    how = {name: getattr(options, name) for name in _MEASURED}
    if protocol:
        with under("config.degradation"):
            how = _of_protocol(protocol, degradation, how)
    model = build_model(config, code)
    loss, steps = None, ()
    if not evaluation:
        augment = read_group(RestorationAugment, config.augment, "config.augment")
        steps = (aug.Symmetry(),) if augment.symmetry else ()
        loss = find_loss(config, code, "restoration")
    of_data = {name: f"data.{name}" for name in ("tile", "margin", *_MEASURED)}
    with option_paths("config", **of_data, size="data.image_size"):
        task = tasks.restoration(
            model,
            Inputs((options.image_size, options.image_size)),
            degradation=degradation,
            loss=loss,
            augment=steps,
            tile=options.tile,
            margin=options.margin,
            sync_batch_norm=config.sync_batch_norm,
            **how,
        )
    config.data.update({"margin": task.margin, **how})
    return Built(task, data.ToRestoration(), data.ToRestoration())


_MEASURED = ("color", "crop_border", "modcrop", "border")
"""Options of the data that a protocol sets."""


def _of_protocol(name: str, degradation: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the data that a protocol sets.

    Args:
      name: of the protocol.
      degradation: of the task.
      given: the options as they are.
    Raises:
      OptionError: the protocol does not fit the degradation, or an option is neither its default
        nor what the protocol sets.
    """
    wanted = tasks.protocol(name, degradation)
    for option, value in given.items():
        if value not in (wanted[option], getattr(RestorationData, option)):
            raise OptionError(
                "protocol",
                f"protocol is {name!r}, which sets config.data.{option}={wanted[option]}, but "
                f"that is {value}: leave out one of them",
            )
    return {option: wanted[option] for option in given}


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
        return data.Tiles(
            photographs,
            size=options.tile,
            margin=options.margin,
            modcrop=options.modcrop,
            border=options.border,
        )


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
