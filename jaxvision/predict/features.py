"""Features of images: what a network's maps are for each, and the files that keep them."""

import itertools
import json
import os
import pathlib
import re
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.extend as jex
import numpy as np
from jax import Array

from jaxvision.core import InputError, Task, at_least_float32, check_range, close_names
from jaxvision.core.digest import json_digest
from jaxvision.core.files import replacing
from jaxvision.data import ImageError, Source
from jaxvision.predict.predictor import maps_of_task

ToInput = Callable[[Mapping[str, Any], str], np.ndarray]
"""(record, where it is) -> its image as the network takes it, u8[H, W, C]."""

_USUAL = re.compile(r"c\d+|pooled")  # maps that are taken if none are named
_SUFFIX = ".npz"
_FIELDS = ("indices", "labels", "failed", "files", "class_names", "origin", "about")


class MapInfo(NamedTuple):
    """What is known of a map before it is computed.

    Attributes:
      shape: with the axis of the batch.
      behind: names of the variables that it depends on, joined by "/".
    """

    shape: tuple[int, ...]
    behind: tuple[str, ...]


def describe_maps(task: Task, variables: Any, images: jax.ShapeDtypeStruct) -> dict[str, MapInfo]:
    """What the network of a task gives, found by tracing it once, without computing anything.

    Args:
      task: as for `maps_of_task`.
      variables: of the network, or their shapes.
      images: u8[B, H, W, C].
    """
    trace = jax.make_jaxpr(partial(maps_of_task, task), return_shape=True)
    closed, shapes = trace(variables, images)
    outputs = jax.tree.unflatten(jax.tree.structure(shapes), closed.jaxpr.outvars)
    places = {
        variable: jax.tree_util.keystr(path[1:], simple=True, separator="/")
        for (path, _), variable in zip(
            jax.tree.leaves_with_path(variables), closed.jaxpr.invars, strict=False
        )
    }

    def behind(output: Any) -> tuple[str, ...]:
        needed = _needed(closed.jaxpr, [output])
        return tuple(name for variable, name in places.items() if variable in needed)

    return {name: MapInfo(shapes[name].shape, behind(outputs[name])) for name in shapes}


def _needed(jaxpr: jex.core.Jaxpr, outputs: Iterable[Any]) -> set[Any]:
    """The variables of a program that some of its outputs depend on."""
    needed = {x for x in outputs if isinstance(x, jex.core.Var)}
    for equation in reversed(jaxpr.eqns):
        if not needed.isdisjoint(equation.outvars):
            inputs = _needed_inputs(equation, [x in needed for x in equation.outvars])
            needed.update(x for x in inputs if isinstance(x, jex.core.Var))
    return needed


def _needed_inputs(equation: Any, used: Sequence[bool]) -> list[Any]:
    """Of a call, as of a block that is computed again in the backward pass, those that matter."""
    inner = list(jex.core.jaxprs_in_params(equation.params))
    sizes = [(len(x.invars), len(x.outvars)) for x in inner]
    is_call = sizes == [(len(equation.invars), len(equation.outvars))]
    if not is_call or equation.primitive.name == "scan":
        return equation.invars
    needed = _needed(inner[0], itertools.compress(inner[0].outvars, used))
    own = zip(equation.invars, inner[0].invars, strict=True)
    return [outside for outside, inside in own if inside in needed]


def choose_maps(maps: Mapping[str, Any], names: Sequence[str] = ()) -> tuple[str, ...]:
    """Names of the maps to take.

    Args:
      maps: by name, what a network gives.
      names: of them; none: all of c0, c1, ..., and pooled, in the network's order.
    Raises:
      InputError: the network lacks one, or has none of the usual ones.
    """
    for name in names:
        if name not in maps:
            raise InputError(f"the network gives no map {name!r}: {close_names(name, maps)}")
    chosen = tuple(dict.fromkeys(names)) or tuple(filter(_USUAL.fullmatch, maps))
    if not chosen:
        raise InputError(f"name the maps to take: the network gives {', '.join(maps)}")
    return chosen


def features_of_maps(
    maps: Mapping[str, Array], names: Sequence[str], *, flatten: bool = False
) -> dict[str, Array]:
    """Some maps as a row of numbers for each image.

    Args:
      maps: name -> [B, ..., D], the axes between being places.
      names: of the maps to take.
      flatten: keep all places, rows and columns before channels, instead of their mean.
    Returns:
      name -> f32[B, D], or f32[B, places D] if flat.
    """

    def row(x: Array) -> Array:
        x = at_least_float32(x)
        return x.reshape(len(x), -1) if flatten else x.mean(axis=tuple(range(1, x.ndim - 1)))

    return {name: row(maps[name]) for name in names}


def features_of_task(
    task: Task, names: Sequence[str], *, flatten: bool = False
) -> Callable[[Any, Array], dict[str, Array]]:
    """The features of a task's network, compiled: (variables, images u8[B, H, W, C]) -> as
    `features_of_maps`.

    Args:
      task: as for `maps_of_task`.
      names: of the maps to take.
      flatten: as for `features_of_maps`.
    """
    return jax.jit(
        lambda variables, images: features_of_maps(
            maps_of_task(task, variables, images), names, flatten=flatten
        )
    )


class ImageBatch(NamedTuple):
    """Images of some records, as the network takes them.

    Attributes:
      images: u8[B, H, W, C], black where there are no more.
      indices: of the records of the first images.
      labels: of these, None for a record without one.
      failed: index -> why, of the records that could not be read.
    """

    images: np.ndarray
    indices: list[int]
    labels: list[int | None]
    failed: dict[int, str]


def image_batches(
    records: Source, to_input: ToInput, *, batch_size: int, threads: int | None = None
) -> Iterator[ImageBatch]:
    """All records in their order, read by several threads while others are looked at.

    Args:
      records: with "image", and perhaps "label".
      to_input: makes images of one size.
      batch_size: records in a batch.
      threads: that read; None: one for each core.
    """
    check_range("batch_size", batch_size, least=1)

    def read(index: int) -> tuple[np.ndarray, int | None] | str:
        try:
            record = records[index]
        except ImageError as error:
            return str(error)
        return to_input(record, records.where(index)), record.get("label")

    def gathered(start: int, futures: list[Future]) -> ImageBatch:
        found = {start + number: future.result() for number, future in enumerate(futures)}
        failed = {index: item for index, item in found.items() if isinstance(item, str)}
        sound = {index: item for index, item in found.items() if index not in failed}
        images = np.zeros((0,), np.uint8)
        if sound:
            rows = [image for image, _ in sound.values()]
            filler = [np.zeros_like(rows[0])] * (batch_size - len(rows))
            images = np.stack(rows + filler)
        return ImageBatch(images, list(sound), [label for _, label in sound.values()], failed)

    waiting: deque[tuple[int, list[Future]]] = deque()
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        for start in range(0, len(records), batch_size):
            stop = min(start + batch_size, len(records))
            waiting.append((start, [pool.submit(read, index) for index in range(start, stop)]))
            if len(waiting) > 1:
                yield gathered(*waiting.popleft())
        while waiting:
            yield gathered(*waiting.popleft())


class Computed(NamedTuple):
    """What came of N records.

    Attributes:
      maps: name -> f32[N, D].
      indices: i64[N], of the records.
      labels: i64[N], or None if one of them has none.
      failed: a reason for each record that could not be read, and is missing here.
    """

    maps: dict[str, np.ndarray]
    indices: np.ndarray
    labels: np.ndarray | None
    failed: tuple[str, ...]


def compute_features(
    features_of: Callable[[Any, Array], dict[str, Array]],
    variables: Any,
    batches: Iterable[ImageBatch],
) -> Computed:
    """Features of all batches.

    Args:
      features_of: from `features_of_task`.
      variables: of the network.
      batches: all of one size, so that nothing compiles twice.
    Raises:
      InputError: no record could be read.
    """
    parts: list[dict[str, np.ndarray]] = []
    indices: list[int] = []
    labels: list[int | None] = []
    failed: list[str] = []
    waiting: deque[tuple[int, dict[str, Array]]] = deque()

    def take() -> None:
        count, found = waiting.popleft()
        parts.append({name: x[:count] for name, x in jax.device_get(found).items()})

    for batch in batches:
        indices += batch.indices
        labels += batch.labels
        failed += batch.failed.values()
        if batch.indices:
            waiting.append((len(batch.indices), features_of(variables, batch.images)))
        if len(waiting) > 1:  # one is computed while the next is read
            take()
    while waiting:
        take()
    if not parts:
        raise InputError(f"no image could be read: {failed[0] if failed else 'there are none'}")
    return Computed(
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]},
        np.array(indices, np.int64),
        None if None in labels else np.array(labels, np.int64),
        tuple(failed),
    )


class Features(NamedTuple):
    """Features of N images, and what they are of.

    Attributes:
      maps, indices, labels, failed: as of `Computed`.
      files: for each image its file, or its place in one.
      class_names: of the labels; () without labels.
      origin: where the images can be read again, plain JSON; empty: in `files`.
      about: how they came about, plain JSON.
    """

    maps: dict[str, np.ndarray]
    indices: np.ndarray
    labels: np.ndarray | None
    failed: tuple[str, ...]
    files: tuple[str, ...]
    class_names: tuple[str, ...]
    origin: dict[str, Any]
    about: dict[str, Any]


def images_digest(records: Source, files: Iterable[str | os.PathLike] = ()) -> str:
    """Says whether records are the same as before: their names, and size and time of their files.

    Args:
      records: of which `where` names a file, or a place in one of `files`.
      files: others that they are read from.
    """
    names = [*(records.where(index) for index in range(len(records))), *map(os.fspath, files)]
    return json_digest([[name, _stamp(name)] for name in names])


def _stamp(name: str) -> list[int] | None:
    if not os.path.isfile(name):
        return None
    found = os.stat(name)
    return [found.st_size, found.st_mtime_ns]


def write_features(path: pathlib.Path, features: Features) -> None:
    """Writes an npz file, whole or not at all; makes its folder.

    Each map is an array under its name; so are the other fields, `origin` and `about` as JSON.

    Raises:
      InputError: another suffix, or a map with the name of a field.
    """
    check_features_file(path)
    clash = features.maps.keys() & set(_FIELDS)
    if clash:
        raise InputError(f"a map called {min(clash)!r} cannot be kept: leave it out")
    arrays = {
        **features.maps,
        "files": np.array(features.files, str),
        "indices": features.indices,
        "class_names": np.array(features.class_names, str),
        "failed": np.array(features.failed, str),
        "origin": np.array(json.dumps(features.origin)),
        "about": np.array(json.dumps(features.about)),
    }
    if features.labels is not None:
        arrays["labels"] = features.labels
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, "wb") as file:
        np.savez(file, **arrays)


def check_features_file(path: pathlib.Path) -> None:
    """Raises InputError if a file of features cannot be called so."""
    if path.suffix != _SUFFIX:
        raise InputError(f"{path} is no file of features: give a name that ends in {_SUFFIX}")


def read_features(path: pathlib.Path, *, maps: Sequence[str] = ()) -> Features:
    """What `write_features` wrote.

    Args:
      path: of the file.
      maps: names of those to read; none: all.
    Raises:
      InputError: there is no such file or map, or it is none of `write_features`.
    """
    check_features_file(path)
    advice = "write it with `jaxvision features`"
    if not path.is_file():
        raise InputError(f"there is no file {path}: {advice}")
    try:
        with np.load(path, allow_pickle=False) as file:
            known = [name for name in file if name not in _FIELDS]
            read = [name for name in file if name in _FIELDS or name in (maps or known)]
            arrays = {name: file[name] for name in read}
    except (zipfile.BadZipFile, ValueError, EOFError, OSError) as error:
        raise InputError(f"{path} cannot be read ({error}): {advice}") from error
    missing = set(_FIELDS) - arrays.keys() - {"labels"}
    if missing:
        raise InputError(f"{path} holds no features, it lacks {min(missing)!r}: {advice}")
    for name in maps:
        if name not in known:
            raise InputError(f"{path} has no map {name!r}: {close_names(name, known)}")
    return Features(
        maps={name: arrays[name] for name in maps or known},
        indices=arrays["indices"],
        labels=arrays.get("labels"),
        failed=tuple(arrays["failed"].tolist()),
        files=tuple(arrays["files"].tolist()),
        class_names=tuple(arrays["class_names"].tolist()),
        origin=json.loads(arrays["origin"].item()),
        about=json.loads(arrays["about"].item()),
    )


def check_comparable(one: Features, other: Features) -> None:
    """Raises InputError if features are not of the same network, classes and preparation."""
    for key in ("model", "variables", "preparation", "flatten"):
        if one.about[key] != other.about[key]:
            raise InputError(
                f"the two files of features are of another {key}: compute both in the same way"
            )
    if one.labels is not None and other.labels is not None and one.class_names != other.class_names:
        raise InputError(
            f"the two files of features have other classes, {_some(one.class_names)} and "
            f"{_some(other.class_names)}: give features of the same data"
        )
    if one.maps.keys() != other.maps.keys():
        lacking = ", ".join(sorted(one.maps.keys() ^ other.maps.keys()))
        raise InputError(f"only one of the two files of features has {lacking}: name others")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
