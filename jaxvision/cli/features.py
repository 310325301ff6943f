"""Extracts features: the maps of a network for images, as arrays in a file.

  jaxvision features --weights=resnet50:DEFAULT --out=features.npz photo.jpg folder '*.png'
  jaxvision features --model=resnet50 --weights=FILE --out=features.npz photo.jpg
  jaxvision features --workdir=runs/mine --split=test --out=test.npz
  jaxvision features --config=digits_resnet20 --weights=FILE --split=train --out=train.npz

The network is one of three: the best checkpoint of a run; a model by name with its weights; or the
network of a config with its weights. Weights are published ones by their name (`jaxvision models
--weights` lists them), a file in torch's layout, a folder of `jaxvision convert` or of a run, or
hub:OWNER/NAME. Those that no chosen map depends on, such as those of the
classifier, may be missing.

--maps chooses the maps. The default is c0, c1, ... and pooled, as far as the network has them. A
detector has other maps, such as logits or logits4, and needs --maps. A map with positions, such as
c2 to c5, is averaged over them; --flatten keeps them all.

Images are prepared as in the run or config. With --model they are resized and cropped to the
published size, and normalised with the mean and standard deviation of the published weights.
--config.data.image_size, mean, std and others change this. A classifier without published values
needs --config.data.mean and --config.data.std. A network of restoration takes images of
image_size, in the color that it restores, and needs --maps. The command prints what it chose.

Images are files, folders or patterns, or with --split the data of the run, of the config or of
--data, whose labels are kept. The split "train" is without the validation part
(config.data.validation_fraction).

--out gets an array f32[N, D] for each map, and `files`, `labels`, `class_names` and more. If the
file already has the features of the same settings, weights and images, nothing is computed again
(files are compared by size and time, records without a file by name). An image that cannot be read
is reported and left out, and the exit code is then 1. The last line on stdout is a summary, as
JSON. `jaxvision probe` and `jaxvision neighbors` read this file.
"""

import dataclasses
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from jaxvision import tasks
from jaxvision.cli import arguments, network, setup
from jaxvision.cli.config import default_config
from jaxvision.core import ImageBatch, InputError, Inputs, check_range
from jaxvision.core.digest import state_digest
from jaxvision.data import Images, Source
from jaxvision.engine import log
from jaxvision.features import (
    Features,
    RecordBatch,
    check_features_file,
    choose_maps,
    compute_features,
    image_batches,
    images_digest,
    read_features,
    variables_behind_maps,
    write_features,
)
from jaxvision.predict import find_images, read_image


def main(argv: list[str]) -> int:
    """The command; returns its exit code."""
    values = _flags()
    given = network.parse(values, argv, __doc__)
    _check(values, given)
    out = pathlib.Path(values.out).expanduser()
    check_features_file(out)
    opened = network.open_network(values, split=values.split, partial=True)
    network.log_network(values, opened)
    config, task, variables, inputs = (
        opened.config,
        opened.task,
        opened.variables,
        opened.task.inputs,
    )
    if task.kind == "restoration":
        task = tasks.undegraded(task)
    images = _files(given, inputs) if given else _split(opened, values.split)
    batch_size = min(values.batch_size, len(images.records))
    image = jax.ShapeDtypeStruct((batch_size, *inputs.shape), np.uint8)
    mask = jax.ShapeDtypeStruct((batch_size,), bool)
    behind = variables_behind_maps(task, variables, ImageBatch(image=image, mask=mask))
    names = choose_maps(behind, values.maps)
    check_features_file(out, names)
    _check_taken(variables, {name: behind[name] for name in names})
    about = {
        "model": task.origin["forward"][1] if opened.in_python else config.model.to_dict(),
        "preparation": dataclasses.asdict(inputs),
        "variables": state_digest(variables),
        "maps": names,
        "flatten": values.flatten,
        "images": images.digest,
    }
    about = json.loads(json.dumps(about))  # as it comes back from a file

    features = None if values.overwrite else _there(out, about)
    computed = features is None
    if computed:
        batches = image_batches(images.records, inputs, batch_size=batch_size)
        shown = _shown(batches, len(images.records))
        found = compute_features(task, variables, shown, names, flatten=values.flatten)
        features = found._replace(
            labels=found.labels if images.class_names else None,
            class_names=images.class_names,
            origin=images.origin,
            about=about,
        )
        write_features(out, features)
    else:
        log(f"{out} has these features already")
        for reason in features.failed:
            log(f"failed: {reason}")
    result = {
        "images": len(features.files),
        "failed": len(features.failed),
        "maps": {key: x.shape[1] for key, x in features.maps.items()},
        "computed": computed,
        "out": str(out),
    }
    print(json.dumps(result), flush=True)
    return 1 if features.failed else 0


def images_of(features: Features) -> Callable[[int], np.ndarray]:
    """What reads the images of features again: number -> u8[H, W, 3].

    Raises:
      InputError: the data of a config cannot be opened any more; when called: a file cannot be
        read, or the data has other records by now.
    """
    if not features.origin:
        return lambda number: read_image(features.files[number])
    config = default_config(features.origin["config"]["task"])
    config.update(features.origin["config"])
    records = setup.open_data(config).open(features.origin["split"])

    def read(number: int) -> np.ndarray:
        index, file = int(features.indices[number]), features.files[number]
        if index >= len(records) or records.where(index) != file:
            raise InputError(
                f"the data has changed since the features of {file} were computed: compute them "
                "again"
            )
        image = records[index]["image"]
        return np.broadcast_to(image, (*image.shape[:2], 3))

    return read


def _flags() -> flags.FlagValues:
    values = flags.FlagValues()
    for name, meaning in (
        ("split", "train, validation or test of the data of the run or config"),
        ("out", "file for the features, .npz"),
    ):
        flags.DEFINE_string(name, None, meaning, flag_values=values)
    flags.DEFINE_list(
        "maps",
        [],
        "names of the maps, such as c2,c3,pooled; all c* and pooled if left out",
        flag_values=values,
    )
    flags.DEFINE_boolean("flatten", False, "keep all places of a map", flag_values=values)
    flags.DEFINE_boolean("overwrite", False, "whatever --out has by now", flag_values=values)
    flags.DEFINE_integer("batch_size", 64, "images at a time", flag_values=values)
    arguments.define_data(values)
    arguments.define_trust(values)
    return values


def _check(values: flags.FlagValues, images: Sequence[str]) -> None:
    """Raises InputError if flags are missing or do not go together."""
    if bool(images) == bool(values.split):
        raise InputError("give images: either files, folders or patterns, or --split")
    stray = [flag for flag in ("data", "source") if values[flag].present and not values.split]
    if stray:
        raise InputError(f"--{stray[0]} goes with --split: leave it out")
    if not values.out:
        raise InputError("no --out: give a file for the features, such as features.npz")
    check_range("--batch_size", values.batch_size, least=1)


def _check_taken(variables: Any, behind: Mapping[str, Sequence[str]]) -> None:
    """Raises InputError if a map depends on variables that the weights lack."""
    lacking = {
        jax.tree_util.keystr(path[1:], simple=True, separator="/")
        for path, x in jax.tree.leaves_with_path(variables)
        if np.isnan(x).all()
    }
    for name, needed in behind.items():
        missing = [variable for variable in needed if variable in lacking]
        if missing:
            raise InputError(
                f"the map {name!r} depends on arrays that the weights lack, or have in another "
                f"shape: {', '.join(missing)}: give weights with them, or name other --maps"
            )


class _Images(NamedTuple):
    """Where the images come from.

    Attributes:
      records: with "image", and perhaps "label".
      digest: of what they are called.
      class_names: of the labels; (): labels mean nothing.
      origin: as of `Features`.
    """

    records: Source
    digest: str
    class_names: tuple[str, ...]
    origin: dict[str, Any]


def _files(given: Sequence[str], inputs: Inputs) -> _Images:
    paths = [os.path.abspath(path) for path in find_images(given)]
    records = Images(tuple(map(pathlib.Path, paths)), grey=inputs.channels == 1)
    return _Images(records, images_digest(paths), (), {})


def _split(opened: setup.Opened, split: str) -> _Images:
    config, data = opened.config, opened.config.data
    if data.dir:
        data.dir = os.path.abspath(os.path.expanduser(data.dir))
    records = opened.records(split)
    names = tuple(data.class_names) if config.task == "classification" else ()
    called = [*map(records.where, range(len(records))), data.dir or ""]  # which may be a file
    origin = {"config": config.to_dict(), "split": split}
    return _Images(records, images_digest(called), names, origin)


def _there(out: pathlib.Path, about: dict[str, Any]) -> Features | None:
    """The features that a file has already, if there is one.

    Raises:
      InputError: it has others.
    """
    if not out.exists():
        return None
    features = read_features(out)
    other = sorted(key for key in about if about[key] != features.about.get(key))
    if other:
        raise InputError(
            f"{out} is there already, with other features ({', '.join(other)} differ): give "
            "another --out, or --overwrite"
        )
    return features


def _shown(batches: Iterator[RecordBatch], total: int) -> Iterator[RecordBatch]:
    """The batches, with a bar, and a line for each image that could not be read."""
    with tqdm(total=total, unit="image", disable=not sys.stderr.isatty()) as bar:
        for batch in batches:
            for reason in batch.failed:
                tqdm.write(f"failed: {reason}", file=sys.stderr)
            yield batch
            bar.update(len(batch.indices) + len(batch.failed))
