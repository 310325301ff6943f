"""Features of images: what a network's maps are for each, as a row of numbers."""

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import compress
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxvision.core import InputError, Task, at_least_float32, check_range, close_names
from jaxvision.data import Source
from jaxvision.ops.primitives import dce_jaxpr
from jaxvision.predict.predictor import maps_of_task

ToInput = Callable[[dict[str, Any], str], np.ndarray]
"""(record, where it is) -> its image as the network takes it, u8[H, W, C]."""

_USUAL = re.compile(r"c\d+|pooled")  # maps that are taken if none are named


def variables_behind_maps(
    task: Task, variables: Any, images: jax.ShapeDtypeStruct
) -> dict[str, tuple[str, ...]]:
    """What the maps of a task's network depend on, found by tracing it once, without computing.

    Args:
      task: as for `maps_of_task`.
      variables: of the network, or their shapes.
      images: u8[B, H, W, C].
    Returns:
      Name of a map -> names of variables, joined by "/".
    """
    trace = jax.make_jaxpr(partial(maps_of_task, task), return_shape=True)
    program, maps = trace(variables, images)
    names = [
        jax.tree_util.keystr(path[1:], simple=True, separator="/")
        for path, _ in jax.tree.leaves_with_path(variables)
    ]
    outputs = jax.tree.leaves({name: name for name in maps})  # in the program's order

    def behind(name: str) -> tuple[str, ...]:
        _, needed = dce_jaxpr(program.jaxpr, [output == name for output in outputs])
        return tuple(compress(names, needed))  # the images come after the variables

    return {name: behind(name) for name in maps}


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


class ImageBatch(NamedTuple):
    """Images of some records, as the network takes them.

    Attributes:
      images: u8[B, H, W, C], black where there are no more.
      indices: of the records of the first images.
      labels: of these, None for a record without one.
      files: of these, each one's file, or its place in one.
      failed: why, of the records that could not be read.
    """

    images: np.ndarray
    indices: list[int]
    labels: list[int | None]
    files: list[str]
    failed: list[str]


def image_batches(
    records: Source, to_input: ToInput, *, batch_size: int, threads: int | None = None
) -> Iterator[ImageBatch]:
    """All records in their order, read by several threads while others are looked at.

    Args:
      records: with "image", and perhaps "label". One that cannot be read (`InputError`) is left
        out.
      to_input: makes images of one size.
      batch_size: records in a batch.
      threads: that read; None: one for each core.
    """
    check_range("batch_size", batch_size, least=1)

    def read(index: int) -> tuple[np.ndarray, int, int | None, str] | str:
        try:
            record = records[index]
        except InputError as error:
            return str(error)
        where = records.where(index)
        return to_input(record, where), index, record.get("label"), where

    def gathered(items: Iterable[Any]) -> ImageBatch:
        found = list(items)
        failed = [item for item in found if isinstance(item, str)]
        sound = [item for item in found if not isinstance(item, str)]
        if not sound:
            return ImageBatch(np.zeros(0, np.uint8), [], [], [], failed)
        images, *others = zip(*sound, strict=True)
        filler = [np.zeros_like(images[0])] * (batch_size - len(images))
        return ImageBatch(np.stack([*images, *filler]), *map(list, others), failed)

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        waiting: deque[Iterator[Any]] = deque()
        for start in range(0, len(records), batch_size):
            stop = min(start + batch_size, len(records))
            waiting.append(pool.map(read, range(start, stop)))  # begins at once
            if len(waiting) > 1:
                yield gathered(waiting.popleft())
        while waiting:
            yield gathered(waiting.popleft())


class Features(NamedTuple):
    """Features of N images, and what they are of.

    Attributes:
      maps: name -> f32[N, D].
      indices: i64[N], of the records.
      labels: i64[N], or None: not known of all.
      files: of each image its file, or its place in one.
      failed: a reason for each record that could not be read, and is missing here.
      class_names: of the labels; () without labels.
      origin: where the images can be read again, plain JSON; empty: in `files`.
      about: how they came about, plain JSON.
    """

    maps: dict[str, np.ndarray]
    indices: np.ndarray
    labels: np.ndarray | None
    files: tuple[str, ...]
    failed: tuple[str, ...]
    class_names: tuple[str, ...]
    origin: dict[str, Any]
    about: dict[str, Any]


def compute_features(
    task: Task,
    variables: Any,
    batches: Iterable[ImageBatch],
    names: Sequence[str],
    *,
    flatten: bool = False,
) -> Features:
    """Features of all batches; their classes' names, origin and how they came about are empty.

    Args:
      task: as for `maps_of_task`.
      variables: of the network.
      batches: all of one size, so that nothing compiles twice.
      names: of the maps to take.
      flatten: as for `features_of_maps`.
    Raises:
      InputError: no record could be read, or features are not finite.
    """

    @jax.jit
    def features_of(variables: Any, images: Array) -> dict[str, Array]:
        return features_of_maps(maps_of_task(task, variables, images), names, flatten=flatten)

    variables = jax.device_put(variables)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    indices: list[int] = []
    labels: list[int | None] = []
    files: list[str] = []
    failed: list[str] = []
    for batch in batches:
        failed += batch.failed
        if batch.files:
            found = jax.device_get(features_of(variables, batch.images))
            found = {name: found[name][: len(batch.files)] for name in names}
            check_finite(found, batch.files)
            for name, x in found.items():
                parts[name].append(x)
            indices += batch.indices
            labels += batch.labels
            files += batch.files
    if not files:
        raise InputError(f"no image could be read: {failed[0] if failed else 'there are none'}")
    return Features(
        {name: np.concatenate(rows) for name, rows in parts.items()},
        np.array(indices, np.int64),
        None if None in labels else np.array(labels, np.int64),
        tuple(files),
        tuple(failed),
        class_names=(),
        origin={},
        about={},
    )


def check_finite(maps: Mapping[str, np.ndarray], files: Sequence[str]) -> None:
    """Raises InputError, naming one of N files, if its features in f32[N, D] are not finite."""
    for name, x in maps.items():
        for number in np.flatnonzero(~np.isfinite(x).all(axis=1)):
            raise InputError(
                f"the map {name!r} is not finite for {files[number]}: look at the weights, and by "
                "which figures its images are normalized"
            )
