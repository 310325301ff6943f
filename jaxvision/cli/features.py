"""Features of images: what a network's maps are for each, as numbers in a file.

  jaxvision features --model=resnet50 --weights=FILE --out=features.npz photo.jpg folder '*.png'
  jaxvision features --workdir=runs/mine --split=test --out=test.npz
  jaxvision features --config=digits_resnet20 --config.init_from=FILE --split=train --out=train.npz

The network is one by name with its weights (a file in torch's layout, or a folder of `jaxvision
convert`), the best of a run, or that of a config with its init_from. Weights may lack what no map
depends on, such as the classifier. Images are prepared as the run or config says, or as the flags
do. They are files, folders or patterns, or --split of the data of the run or config, whose labels
are kept. Of a map with places, such as c2 to c5, the mean over all places is taken, or all of them
with --flatten.

--out gets for each map an array f32[N, D], and beside them `files`, `labels`, `class_names` and
more. What is there already and came about in the same way is not computed again. An image that
cannot be read is reported and left out, and the exit code is then 1. The last line on stdout is a
summary, as JSON. `jaxvision probe` and `jaxvision neighbors` take such files.
"""

import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from jaxvision.cli import arguments, assemble
from jaxvision.cli.config import default_config
from jaxvision.core import InputError, Task, check_range, lookup, merge
from jaxvision.core.digest import state_digest
from jaxvision.data import Source, ToClassificationExample, place
from jaxvision.data.image_folders import ImageFolder
from jaxvision.engine import Parallel, say
from jaxvision.models import CLASSIFIERS, DETECTORS, SEGMENTERS, create_model, input_size
from jaxvision.predict import (
    Features,
    ImageBatch,
    MapInfo,
    ToInput,
    check_features_file,
    choose_maps,
    compute_features,
    describe_maps,
    features_of_task,
    find_images,
    image_batches,
    images_digest,
    read_features,
    read_image,
    write_features,
)

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's training images, with which most published weights were trained."""

_NETWORKS = merge(CLASSIFIERS, DETECTORS, SEGMENTERS)
_OF_MODEL = ("weights", "prefix", "num_classes", "image_size", "shorter_side", "mean", "std")
# Of config.data, what becomes of an image.
_PREPARATION = ("image_size", "channels", "resize", "shorter_side", "mean", "std")


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
    images = _files(given, network.config) if given else _split(network.config, values.split)
    to_input, shape = _to_input(network.config)
    batch_size = min(values.batch_size, len(images.records))
    like = jax.ShapeDtypeStruct((batch_size, *shape), np.uint8)
    maps = describe_maps(network.task, network.variables, like)
    names = choose_maps(maps, values.maps)
    _check_taken(network.variables, {name: maps[name] for name in names})
    data = network.config.data
    about = {
        "model": network.config.model.to_dict(),
        "preparation": {key: data[key] for key in _PREPARATION if key in data},
        "variables": state_digest(network.variables),
        "maps": names,
        "flatten": values.flatten,
        "images": images_digest(images.records, images.read_from),
    }
    about = json.loads(json.dumps(about))  # as it comes back from a file

    features = None if values.overwrite else _there(out, about)
    computed = features is None
    if computed:
        found = compute_features(
            features_of_task(network.task, names, flatten=values.flatten),
            jax.device_put(network.variables),
            _shown(
                image_batches(images.records, to_input, batch_size=batch_size),
                len(images.records),
            ),
        )
        labelled = images.class_names is not None and found.labels is not None
        features = Features(
            **found._replace(labels=found.labels if labelled else None)._asdict(),
            files=tuple(images.records.where(index) for index in found.indices.tolist()),
            class_names=images.class_names if labelled else (),
            origin=images.origin,
            about=about,
        )
        write_features(out, features)
    else:
        say(f"{out} has these features already")
        for reason in features.failed:
            say(f"failed: {reason}")
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
        read.
    """
    if not features.origin:
        return lambda number: read_image(features.files[number])
    config = default_config(features.origin["config"]["task"])
    config.update(features.origin["config"])
    records = assemble.open_records(assemble.open_data(config), features.origin["split"])

    def read(number: int) -> np.ndarray:
        image = records[int(features.indices[number])]["image"]
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
        ("data_dir", "of --workdir: folder of the data, if it is another by now"),
        ("out", "file for the features, .npz"),
    ):
        flags.DEFINE_string(name, None, meaning, flag_values=values)
    flags.DEFINE_string(
        "prefix", "", "taken off the keys of --weights, such as module.", flag_values=values
    )
    for name, meaning in (
        ("num_classes", "of the weights; the network's own if left out"),
        ("image_size", "of --model: height and width that it gets; the published ones if left out"),
        ("shorter_side", "of --model: to which an image's shorter side is resized, before the "
         "middle is taken; image_size if left out"),
    ):  # fmt: skip
        flags.DEFINE_integer(name, None, meaning, lower_bound=1, flag_values=values)
    for name, meaning in (
        ("mean", "of --model: a figure for each channel, of values in 0..1"),
        ("std", "likewise"),
        ("maps", "names of the maps, such as c2,c3,pooled; all c* and pooled if left out"),
    ):
        flags.DEFINE_list(name, [], meaning, flag_values=values)
    flags.DEFINE_boolean("flatten", False, "keep all places of a map", flag_values=values)
    flags.DEFINE_boolean("overwrite", False, "whatever --out has by now", flag_values=values)
    flags.DEFINE_integer("batch_size", 64, "images at a time", flag_values=values)
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
    belonging = {"model": _OF_MODEL, "workdir": ("data_dir",)}
    for owner, others in belonging.items():
        stray = [flag for flag in others if values[flag].present and owner not in chosen]
        if stray:
            raise InputError(f"--{stray[0]} goes with --{owner}: leave it out")
    if not values.out:
        raise InputError("no --out: give a file for the features, such as features.npz")
    check_range("--batch_size", values.batch_size, least=1)


class _Network(NamedTuple):
    """A network, and the config that says how its images are prepared."""

    config: Any
    task: Task
    variables: Any


def _network(values: flags.FlagValues, name: str) -> _Network:
    if values.model:
        return _by_name(values)
    return _of_config(values.config) if name else _of_run(values)


def _of_run(values: flags.FlagValues) -> _Network:
    workdir = pathlib.Path(values.workdir).expanduser()
    config = assemble.saved_config(workdir)
    if values.data_dir is not None:
        config.data.dir = values.data_dir
    assemble.set_determinism(config)
    task = assemble.make_task(config)
    parallel = Parallel(devices=jax.local_devices()[:1])
    best = assemble.restore_best(workdir, config, task, parallel)
    say(f"the checkpoint of step {best.step} in {workdir}")
    return _Network(config, task, best.state.averaged)


def _of_config(config: Any) -> _Network:
    if not config.init_from:
        raise InputError("config.init_from is not set: give the weights to begin with")
    assemble.set_determinism(config)
    if "class_names" in config.data:
        assemble.open_data(config)  # for the names
    task = assemble.make_task(config)
    return _Network(config, task, _begun(task, config.init_from, config.init_prefix))


def _begun(task: Task, origin: str, prefix: str) -> Any:
    """Variables as an `init_from` gives them; what it lacks is NaN, lest it pass for weights."""
    like = jax.eval_shape(task.init, jax.random.key(0))
    nothing = jax.tree.map(lambda x: np.full(x.shape, np.nan, x.dtype), like)
    blank = dataclasses.replace(task, init=lambda key: nothing)
    begun = assemble.starting_from(blank, origin, prefix=prefix, say=say)
    return begun.init(jax.random.key(0))


def _check_taken(variables: Any, maps: Mapping[str, MapInfo]) -> None:
    """Raises InputError if a map depends on variables that the weights lack."""
    lacking = {
        jax.tree_util.keystr(path[1:], simple=True, separator="/")
        for path, x in jax.tree.leaves_with_path(variables)
        if np.isnan(x).all()
    }
    for name, info in maps.items():
        missing = [variable for variable in info.behind if variable in lacking]
        if missing:
            raise InputError(
                f"the map {name!r} depends on arrays that the weights lack, or have in another "
                f"shape: {', '.join(missing)}: give weights with them, or name other --maps"
            )


def _by_name(values: flags.FlagValues) -> _Network:
    """The network of --model with --weights, as a classification config's would be."""
    lookup(_NETWORKS, values.model, "network with features")
    fields = {} if values.num_classes is None else {"num_classes": values.num_classes}
    model = create_model(values.model, **fields)
    height, _, channels = input_size(values.model)
    config = default_config()
    config.model.name = values.model
    data = config.data
    data.num_classes, data.channels = model.num_classes, channels
    data.image_size = values.image_size or height
    data.shorter_side, data.resize = values.shorter_side or data.image_size, "bilinear"
    if channels == 3:
        classifier = values.model in CLASSIFIERS
        data.mean, data.std = (
            (IMAGENET_MEAN, IMAGENET_STD) if classifier else ((0.0,) * 3, (1.0,) * 3)
        )
    for name in ("mean", "std"):
        if values[name].value:
            data[name] = _figures(name, values[name].value)
    say(
        f"{values.model} takes {data.image_size} x {data.image_size} pixels: the shorter side is "
        f"resized to {data.shorter_side}, and the middle taken; mean {data.mean}, std {data.std}"
    )
    task = assemble.make_task(config)
    return _Network(config, task, _begun(task, values.weights, values.prefix))


def _figures(name: str, texts: Sequence[str]) -> tuple[float, ...]:
    try:
        return tuple(map(float, texts))
    except ValueError as error:
        raise InputError(f"--{name} is {','.join(texts)}: give numbers, as 0.5,0.5,0.5") from error


class _Images(NamedTuple):
    """Where the images come from.

    Attributes:
      records: with "image", and perhaps "label".
      read_from: files that have several records.
      class_names: of the labels, None: labels mean nothing.
      origin: as of `Features`.
    """

    records: Source
    read_from: list[pathlib.Path]
    class_names: tuple[str, ...] | None
    origin: dict[str, Any]


def _files(given: Sequence[str], config: Any) -> _Images:
    paths = tuple(path.absolute() for path in find_images(given))
    grey = config.data.get("channels", 3) == 1
    return _Images(ImageFolder(paths, np.zeros(len(paths), np.int32), (), grey), [], None, {})


def _split(config: Any, split: str) -> _Images:
    splits = assemble.open_data(config)
    records = assemble.open_records(splits, split)
    read_from = []
    if config.data.dir is not None:
        where = pathlib.Path(config.data.dir).expanduser().absolute()
        config.data.dir = str(where)
        inside = where.iterdir() if where.is_dir() else [where]
        read_from = sorted(path for path in inside if path.is_file())
    names = None
    if config.task == "classification":
        source = splits.whole("train" if split == "validation" else split)
        names = getattr(source, "class_names", None) or range(config.data.num_classes)
        names = tuple(map(str, names))
    origin = {"config": config.to_dict(), "split": split}
    return _Images(records, read_from, names, origin)


def _to_input(config: Any) -> tuple[ToInput, tuple[int, int, int]]:
    """What brings images to the network's size, as in evaluation, and that size."""
    data = config.data
    size = (data.image_size, data.image_size)
    if config.task == "classification":
        transform = ToClassificationExample(
            data.image_size,
            data.channels,
            data.num_classes,
            resize=data.resize,
            shorter_side=data.shorter_side,
        )
        return lambda record, where: transform(record, where).image, (*size, data.channels)
    if "resize" not in data:
        raise InputError(f"features are not for {config.task}: its images have no one size")

    def placed(record: Any, where: str) -> np.ndarray:
        image = record["image"]
        if data.resize is None and image.shape[:2] != size:
            raise InputError(
                f"{where}: the image is {image.shape[0]}x{image.shape[1]} instead of "
                f"{size[0]}x{size[1]}: set config.data.resize"
            )
        return place(image, size, method=data.resize)[0] if data.resize else image

    return placed, (*size, 3)


def _there(out: pathlib.Path, about: dict[str, Any]) -> Features | None:
    """The features that a file has already, if there is one.

    Raises:
      InputError: it has others.
    """
    if not out.exists():
        return None
    features = read_features(out)
    old = features.about
    other = sorted(key for key in about | old if about.get(key) != old.get(key))
    if other:
        raise InputError(
            f"{out} is there already, with other features ({', '.join(other)} differ): give "
            "another --out, or --overwrite"
        )
    return features


def _shown(batches: Iterator[ImageBatch], total: int) -> Iterator[ImageBatch]:
    """The batches, with a bar, and a line for each image that could not be read."""
    with tqdm(total=total, unit="image", disable=not sys.stderr.isatty()) as bar:
        for batch in batches:
            for reason in batch.failed.values():
                tqdm.write(f"failed: {reason}", file=sys.stderr)
            yield batch
            bar.update(len(batch.indices) + len(batch.failed))
