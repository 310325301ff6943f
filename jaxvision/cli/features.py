"""Extracts features: the maps of a network for images, as arrays in a file.

  jaxvision features --model=resnet50 --weights=FILE --out=features.npz photo.jpg folder '*.png'
  jaxvision features --workdir=runs/mine --split=test --out=test.npz
  jaxvision features --config=digits_resnet20 --config.init_from=FILE --split=train --out=train.npz

The network is one of three: a model by name, with a file of weights in torch's layout or a folder
of `jaxvision convert`; the best checkpoint of a run; or a config's network with its init_from.
Weights that no chosen map depends on, such as those of the classifier, may be missing.

--maps chooses the maps. The default is c0, c1, ... and pooled, as far as the network has them. A
detector has other maps, such as logits or logits4, and needs --maps. A map with positions, such as
c2 to c5, is averaged over them; --flatten keeps them all.

Images are prepared as in the run or config. With --model they are resized and cropped to the
published size, and normalized with the mean and standard deviation of the published weights. A
model without published values needs --mean and --std. The command prints what it chose.

Images are files, folders or patterns, or with --split the data of the run or config, whose labels
are kept. The split "train" is without the validation part (config.data.validation_fraction).

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

from jaxvision.cli import arguments, setup
from jaxvision.cli.config import default_config
from jaxvision.cli.pretrained import pretrained_variables
from jaxvision.core import ImageBatch, InputError, Inputs, Task, check_range, lookup, merge
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
from jaxvision.models import (
    CLASSIFIERS,
    DETECTORS,
    SEGMENTERS,
    create_model,
    input_figures,
    input_size,
)
from jaxvision.models.published import IMAGENET_MEAN, IMAGENET_STD
from jaxvision.predict import find_images, read_image

_NETWORKS = merge(CLASSIFIERS, DETECTORS, SEGMENTERS)
_OF_MODEL = ("weights", "prefix", "num_classes", "image_size", "shorter_side", "mean", "std")


def main(argv: list[str]) -> int:
    """The command; returns its exit code."""
    name, rest = arguments.take_config(argv, "")
    values = _flags()
    if name:
        arguments.define_config(values, name, rest)
    given = arguments.parse_with_rest(values, rest, __doc__)
    _check(values, name, given)
    out = pathlib.Path(values.out).expanduser()
    check_features_file(out)
    network = _network(values, name)
    task, variables, inputs = network.task, network.variables, network.task.inputs
    if inputs is None or task.kind == "restoration":
        raise InputError(
            f"the images of {task.kind} have no one size: give a run or config of another task"
        )
    images = _files(given, inputs) if given else _split(network.config, values.split)
    batch_size = min(values.batch_size, len(images.records))
    image = jax.ShapeDtypeStruct((batch_size, *inputs.shape), np.uint8)
    mask = jax.ShapeDtypeStruct((batch_size,), bool)
    behind = variables_behind_maps(task, variables, ImageBatch(image=image, mask=mask))
    names = choose_maps(behind, values.maps)
    check_features_file(out, names)
    _check_taken(variables, {name: behind[name] for name in names})
    about = {
        "model": network.model,
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
        ("model", "name of a network, which `jaxvision models` lists"),
        (
            "weights",
            "of --model: a file in torch's layout, or a folder of `jaxvision convert` or a run",
        ),
        ("workdir", "instead: folder of a run, whose best checkpoint it is"),
        ("split", "train, validation or test of the data of the run or config"),
        ("out", "file for the features, .npz"),
        ("prefix", "taken off the keys of --weights, such as module."),
    ):
        flags.DEFINE_string(name, None, meaning, flag_values=values)
    for name, meaning in (
        ("num_classes", "of the weights; the network's own if left out"),
        ("image_size", "of --model: height and width that it gets; the published ones if left out"),
        ("shorter_side", "of --model: to which an image's shorter side is resized, before the "
         "middle is taken; image_size if left out"),
    ):  # fmt: skip
        flags.DEFINE_integer(name, None, meaning, lower_bound=1, flag_values=values)
    for name, meaning in (
        ("mean", "of --model: a figure for each channel, of values in 0..1; those that its weights "
         "were trained with if left out, where they are known"),
        ("std", "likewise"),
        ("maps", "names of the maps, such as c2,c3,pooled; all c* and pooled if left out"),
    ):  # fmt: skip
        flags.DEFINE_list(name, [], meaning, flag_values=values)
    flags.DEFINE_boolean("flatten", False, "keep all places of a map", flag_values=values)
    flags.DEFINE_boolean("overwrite", False, "whatever --out has by now", flag_values=values)
    flags.DEFINE_integer("batch_size", 64, "images at a time", flag_values=values)
    arguments.define_data(values)
    arguments.define_trust(values)
    return values


def _check(values: flags.FlagValues, name: str, images: Sequence[str]) -> None:
    """Raises InputError if flags are missing or do not go together."""
    chosen = [flag for flag in ("model", "workdir") if values[flag].value] + ["config"] * bool(name)
    if len(chosen) != 1:
        raise InputError("give one network: --model with --weights, --workdir or --config")
    if bool(images) == bool(values.split):
        raise InputError("give images: either files, folders or patterns, or --split")
    if values.model and values.split:
        raise InputError("--split is of the data of a run or config: give --workdir or --config")
    if values.model and not values.weights:
        raise InputError("no --weights: give the file or folder with those of --model")
    belonging = {"model": _OF_MODEL, "workdir": ("data", "source", "trust_code")}
    for owner, others in belonging.items():
        stray = [flag for flag in others if values[flag].present and owner not in chosen]
        if stray:
            raise InputError(f"--{stray[0]} goes with --{owner}: leave it out")
    if not values.out:
        raise InputError("no --out: give a file for the features, such as features.npz")
    check_range("--batch_size", values.batch_size, least=1)


class _Network(NamedTuple):
    """A network whose features are computed.

    Attributes:
      config: whose data are read with --split; None: of a network by name.
      task: with the network; its inputs say how images are prepared.
      variables: of the network.
      model: its name and fields, plain JSON.
    """

    config: Any
    task: Task
    variables: Any
    model: Any


def _network(values: flags.FlagValues, name: str) -> _Network:
    if values.model:
        return _by_name(values)
    return _of_config(values.config) if name else _of_run(values)


def _of_run(values: flags.FlagValues) -> _Network:
    workdir = pathlib.Path(values.workdir).expanduser()
    opened = setup.open_run(workdir, trust=values.trust_code)
    config = opened.config
    if values.split:
        setup.set_data(opened, workdir, values.split, folder=values.data, source=values.source)
    setup.set_determinism(config)
    log(f"the checkpoint of step {opened.step} in {workdir}")
    model = opened.task.origin["forward"][1] if opened.in_python else config.model.to_dict()
    return _Network(config, opened.task, opened.variables, model)


def _of_config(config: Any) -> _Network:
    if not config.init_from:
        raise InputError("config.init_from is not set: give pretrained weights")
    setup.set_determinism(config)
    setup.open_data(config)  # for the names of the classes
    how = {"prefix": config.init_prefix, "reinit": config.reinit}
    return _pretrained(config, config.init_from, **how)


def _by_name(values: flags.FlagValues) -> _Network:
    """The network of --model with --weights, as a classification config's would be."""
    lookup(_NETWORKS, values.model, "network with features")
    fields = {} if values.num_classes is None else {"num_classes": values.num_classes}
    model = create_model(values.model, **fields)
    height, _, channels = input_size(values.model)
    config = default_config()
    config.model.name = values.model
    data = config.data
    data.class_names = tuple(str(number) for number in range(model.num_classes))
    data.channels = channels
    data.image_size = values.image_size or height
    data.shorter_side, data.resize = values.shorter_side or data.image_size, "crop"
    published = input_figures(values.model)
    if published is None and channels == 3:
        published = IMAGENET_MEAN, IMAGENET_STD
        if not (values.mean and values.std):
            log(
                f"how images for {values.model} are normalised depends on its weights: without "
                "--mean and --std by ImageNet's mean and standard deviation"
            )
    published = published or ((), ())
    for name, known in zip(("mean", "std"), published, strict=True):
        data[name] = _figures(name, values[name].value, known, channels)
    log(
        f"{values.model} takes {data.image_size} x {data.image_size} pixels: the shorter side is "
        f"resized to {data.shorter_side}, and the centre is cut out; mean {data.mean}, std "
        f"{data.std}"
    )
    return _pretrained(config, values.weights, prefix=values.prefix or "")


def _figures(
    name: str, texts: Sequence[str], known: tuple[float, ...], channels: int
) -> tuple[float, ...]:
    """--mean or --std, or else what is known."""
    try:
        figures = tuple(map(float, texts)) or known
    except ValueError:
        figures = ()
    if len(figures) != channels:
        given = f"--{name} is {','.join(texts)}" if texts else f"no --{name}, and it is not known"
        example = ",".join(["0.5"] * channels)
        raise InputError(
            f"{given}: give the {name} by which the images for these weights were normalized, a "
            f"number for each channel, as {example}"
        )
    return figures


def _pretrained(config: Any, origin: str, *, prefix: str, reinit: Sequence[str] = ()) -> _Network:
    """A network with pretrained weights; what they lack is NaN, so that it cannot pass for them."""
    task = setup.build(config, evaluation=True).task
    like = jax.eval_shape(task.init, jax.random.key(0))
    blank = jax.tree.map(lambda x: np.full(x.shape, np.nan, x.dtype), like)
    variables = pretrained_variables(
        task, origin, variables=blank, prefix=prefix, reinit=reinit, log=log
    )
    return _Network(config, task, variables, config.model.to_dict())


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


def _split(config: Any, split: str) -> _Images:
    data = config.data
    if data.dir:
        data.dir = os.path.abspath(os.path.expanduser(data.dir))
    records = setup.open_data(config).open(split)
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
