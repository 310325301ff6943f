"""Published weights by their names: torchvision's, downloaded once and kept as safetensors."""

import dataclasses
import functools
import importlib.resources
import json
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import filelock
import flax.linen as nn
import numpy as np

from jaxvision.core import InputError, Inputs, close_names, lookup, one_line
from jaxvision.core.files import cache_base, parse_json, read_text, replace_text
from jaxvision.interop.download import digest_of, download
from jaxvision.interop.state_files import read_state_dict, write_state_dict
from jaxvision.interop.variables import load_weights
from jaxvision.models import (
    MODELS,
    create_model,
    input_figures,
    input_resizing,
    input_size,
)

_TABLE = "pretrained_weights.json"  # tests/interop/torchvision_weights.py makes it
_MARGIN = 0.002  # of the sizes in the table, MiB, which are rounded
_BACKGROUND = ("__background__", "no person")
_WITH_BACKGROUND = ("retinanet", "fcos", "deeplabv3", "fcn", "lraspp")
"""How names of networks begin whose weights have a class for the background."""
_LONGEST = 4  # times the shorter side: the longest images that segmenters take as a whole

_FIELDS: dict[str, dict[str, Any]] = {
    # Their weights are for images in another range than ImageNet's mean and std give.
    "googlenet": {"transform_input": True},
    "inception_v3": {"transform_input": True, "aux": True},
    "deeplabv3_resnet50": {"aux": True},
    "deeplabv3_resnet101": {"aux": True},
    "deeplabv3_mobilenet_v3_large": {"aux": True},
    "fcn_resnet50": {"aux": True},
    "fcn_resnet101": {"aux": True},
    # Unlike the newer weights of this network they are for norms with the usual epsilon.
    "keypointrcnn_resnet50_fpn:COCO_LEGACY": {"norm": "frozen_batch_norm"},
}
"""Network, or network:weights -> the fields that torchvision gives it with weights, where they are
not the defaults."""
_LEFT_OUT = {"googlenet": ("aux1.", "aux2.")}
"""Network -> how the keys in its file begin that torchvision leaves out too."""


@dataclasses.dataclass(frozen=True)
class PublishedWeights:
    """One file of weights that somebody has published.

    Attributes:
      model: the name of the network.
      name: of the weights, such as "IMAGENET1K_V2".
      enum: what torchvision calls the weights of this network, such as "ResNet50_Weights".
      default: whether these are the network's best weights, "DEFAULT".
      task: "classification", "detection" or "segmentation".
      file: name of the file; its last digits are the first ones of its SHA-256.
      mebibytes: size of the file, rounded.
      params: number of parameters; a second head counts, where it is part of the network.
      g_multiply_adds: billions of multiply-adds for an image, as published.
      metrics: data -> name of a metric -> percent, as published.
      class_names: of the network's classes; () if the weights are for features alone.
      keypoints: names of the points that are found of each object, or ().
      fields: of the network, where they are not the defaults.
      preprocessing: torchvision's options of its preset, but for detectors.
      recipe: address of how they were trained.
      license: address of the license, if these weights have one of their own; else None.
    """

    model: str
    name: str
    enum: str
    default: bool
    task: str
    file: str
    mebibytes: float
    params: int
    g_multiply_adds: float
    metrics: Mapping[str, Mapping[str, float]]
    class_names: tuple[str, ...]
    keypoints: tuple[str, ...]
    fields: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    recipe: str
    license: str | None

    @property
    def full_name(self) -> str:
        """Model and name, such as "resnet50:IMAGENET1K_V2"."""
        return f"{self.model}:{self.name}"

    @property
    def inputs(self) -> Inputs:
        """How images become the network's input, as where the metrics were measured."""
        return Inputs(**self.input_options)

    @property
    def input_options(self) -> dict[str, Any]:
        """The options of `inputs` that are not the defaults."""
        preset = self.preprocessing
        if self.task == "detection":
            mean, std = input_figures(self.model)
            resizing = input_resizing(self.model)
            size = {} if "shorter_side" in resizing else {"size": input_size(self.model)[:2]}
            return {**size, "mean": mean, "std": std, **resizing}
        options = {
            "mean": tuple(preset["mean"]),
            "std": tuple(preset["std"]),
            "method": preset["interpolation"],
            "shorter_side": preset["resize_size"],
        }
        if self.task == "classification":
            return {**options, "size": (preset["crop_size"],) * 2, "resize": "crop"}
        longest = _LONGEST * preset["resize_size"]
        whole = {"longer_side": longest, "multiple_of": 1, "shapes": "exact"}
        return {**options, "resize": "shorter_side", **whole}


class Pretrained(NamedTuple):
    """A network with pretrained weights.

    Attributes:
      model: the network.
      variables: of the network, numpy arrays.
      inputs: how images become the network's input, for tasks and `jaxvision.predict`.
      class_names: of the network's classes; () if the weights are for features alone.
    """

    model: nn.Module
    variables: dict[str, Any]
    inputs: Inputs
    class_names: tuple[str, ...]


@functools.cache
def published_weights() -> tuple[PublishedWeights, ...]:
    """All weights that can be had by name."""
    table = _table()
    return tuple(_entry(row, table) for row in table["weights"])


@functools.cache
def _table() -> dict[str, Any]:
    return json.loads(importlib.resources.files(__package__).joinpath(_TABLE).read_text("utf-8"))


def _entry(row: Mapping[str, Any], table: Mapping[str, Any]) -> PublishedWeights:
    row, model = dict(row), row["model"]
    fields = _FIELDS.get(f"{model}:{row['name']}", _FIELDS.get(model, {}))
    if model.startswith("vit"):  # which takes images of one size
        fields = {"image_size": row["preprocessing"]["crop_size"]}
    names = tuple(table["classes"].get(row.pop("classes"), ()))
    if names and names[0] in _BACKGROUND and not model.startswith(_WITH_BACKGROUND):
        names = names[1:]
    keypoints = tuple(table["keypoints"]) if model.startswith("keypointrcnn") else ()
    return PublishedWeights(**row, class_names=names, keypoints=keypoints, fields=fields)


def is_weights_name(text: str) -> bool:
    """Whether a text is meant as `MODEL:NAME`, the name of published weights."""
    return re.fullmatch(r"\w+:\w+", text) is not None and text.partition(":")[0] != "hub"


def find_published(model: str, name: str = "DEFAULT") -> PublishedWeights:
    """Finds the weights of a network by their name.

    Args:
      model: the name of the network.
      name: such as "IMAGENET1K_V2"; "DEFAULT" for the network's best; or with the name that
        torchvision gives to all weights of the network, "ResNet50_Weights.IMAGENET1K_V2".
    Raises:
      InputError: there is no such network, or it has no such weights.
    """
    lookup(MODELS, model, "model")
    known = {weights.name: weights for weights in published_weights() if weights.model == model}
    if not known:
        raise InputError(
            f"no weights of {model} are published by name: give a file, or a network that "
            "`jaxvision models --weights` lists"
        )
    enum, _, last = name.rpartition(".")
    if last == "DEFAULT":
        found = next(weights for weights in known.values() if weights.default)
    else:
        found = known.get(last)
    if found is None or enum not in ("", found.enum):
        raise InputError(
            f"{model} has no weights {one_line(name)!r}: {close_names(name, [*known, 'DEFAULT'])}"
        )
    return found


def load_pretrained(model: str, weights: str = "DEFAULT") -> Pretrained:
    """Loads a network with published weights, which are downloaded if they are not there.

    They are torchvision's, of classifiers, detectors and segmenters; `jaxvision models --weights`
    lists them. They are kept in the folder `$JAXVISION_CACHE`, or else in jaxvision/weights in
    `$XDG_CACHE_HOME` or ~/.cache, and `$JAXVISION_MIRROR` is the address of a folder that has the
    publisher's files, to be asked in place of the publisher.

    Args:
      model: the name of the network, such as "resnet50".
      weights: their name, such as "IMAGENET1K_V2"; "DEFAULT": the network's best.
    Returns:
      the network, its variables, how images become its input, and the names of its classes.
    Raises:
      InputError: there are no such weights; they cannot be downloaded, and the message says where
        to put the file; or the file is not what was published.
    """
    found = find_published(model, weights)
    count = {"num_classes": len(found.class_names)} if found.class_names else {}
    network = create_model(model, **found.fields, **count)
    variables = load_weights(network, published_state_dict(found), input_size=found.inputs.shape)
    return Pretrained(network, variables, found.inputs, found.class_names)


def published_state_dict(weights: PublishedWeights) -> dict[str, np.ndarray]:
    """The arrays of published weights: of the network with its `fields`.

    Raises:
      InputError, NoRoomError: as for `download_published`.
    """
    state_dict = read_state_dict(download_published(weights))
    left_out = _LEFT_OUT.get(weights.model, ())
    return {key: x for key, x in state_dict.items() if not key.startswith(left_out)}


def cache_folder() -> pathlib.Path:
    """Where downloaded weights are kept."""
    given = os.environ.get("JAXVISION_CACHE")
    if given:
        return pathlib.Path(given).expanduser().absolute()
    return cache_base() / "jaxvision" / "weights"


def download_published(weights: PublishedWeights) -> pathlib.Path:
    """Downloads published weights, unless they are there already.

    Their file is read by what can build arrays alone, and kept as safetensors. Its name has the
    first 8 or 10 digits of its SHA-256, by which damage is found. Beside it lies the whole SHA-256
    of the first download, with which every later one is compared.

    Returns:
      the path of a file for `read_state_dict`.
    Raises:
      InputError: they cannot be downloaded, are damaged, or differ from those of the first time.
      NoRoomError: the disk is full.
    """
    folder = cache_folder()
    stem = weights.file.removesuffix(".pth")
    arrays, record = folder / f"{stem}.safetensors", folder / f"{stem}.json"
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / f"{stem}.lock"):
        known = _read_record(record)
        if known and arrays.is_file() and digest_of(arrays) == known["safetensors"]:
            return arrays
        given = folder / weights.file
        part = folder / f"{stem}.part.pth"
        file = given if given.is_file() else part
        if file is part:
            _download(weights, part, given)
        digest = digest_of(file)
        try:
            _check_digest(weights, given, digest, known, record)
        except InputError:
            part.unlink(missing_ok=True)
            raise
        write_state_dict(arrays, read_state_dict(file))
        about = {"file": weights.file, "sha256": digest, "safetensors": digest_of(arrays)}
        replace_text(record, json.dumps(about, indent=1))
        part.unlink(missing_ok=True)
    return arrays


def _download(weights: PublishedWeights, part: pathlib.Path, place: pathlib.Path) -> None:
    """Downloads the file of weights; a resumed one that is damaged once more from its beginning."""
    base = os.environ.get("JAXVISION_MIRROR") or _table()["address"]
    address = f"{base.rstrip('/')}/{weights.file}"
    most = int((weights.mebibytes + _MARGIN) * 2**20)
    resumed = part.is_file()
    try:
        download(address, part, most=most)
        if resumed and not _is_whole(weights, digest_of(part)):
            part.unlink()
            download(address, part, most=most)
    except InputError as error:
        raise InputError(
            f"{error}. To use {weights.full_name} without a connection, put the file at {place}; "
            "JAXVISION_MIRROR is the address of another folder that has it"
        ) from error


def _is_whole(weights: PublishedWeights, digest: str) -> bool:
    """Whether a file's SHA-256 begins with the digits in the name of the file of weights."""
    return digest.startswith(re.search(r"-([0-9a-f]{8,})\.pth$", weights.file)[1])


def _check_digest(
    weights: PublishedWeights,
    file: pathlib.Path,
    digest: str,
    known: Mapping[str, str] | None,
    record: pathlib.Path,
) -> None:
    """Raises InputError if a file is not the one that was published, or not that of the first time.

    Args:
      weights: whose file it is.
      file: its place, for the message.
      digest: its SHA-256.
      known: what is known of the first download, or None.
      record: the file in which that is.
    """
    if not _is_whole(weights, digest):
        problem = (
            f"it is damaged, or another file: its SHA-256 is {digest}, which does not begin with "
            "the digits in its name"
        )
        fix = "download it again"
    elif known and digest != known["sha256"]:
        problem = (
            f"it is another file than the first time: its SHA-256 is {digest}, and was "
            f"{known['sha256']}"
        )
        fix = f"ask the publisher which one is right; if it is this one, remove {record}"
    else:
        return
    raise InputError(f"{file} is not used, because {problem}: {fix}")


def _read_record(path: pathlib.Path) -> dict[str, str] | None:
    """What is known of the first download; None if there was none.

    Raises:
      InputError: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        found = parse_json(read_text(path))
        return {key: str(found[key]) for key in ("sha256", "safetensors")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged: remove it") from error
