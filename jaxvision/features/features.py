"""Computes features of images: the maps of a network, as a row of numbers for each image."""

import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import compress
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxvision.core import (
    ImageBatch,
    InputError,
    Inputs,
    Task,
    at_least_float32,
    check_range,
    close_names,
)
from jaxvision.data import Source
from jaxvision.data.transforms.placing import with_channels
from jaxvision.ops.primitives import dce_jaxpr
from jaxvision.tasks.inference import FittedImage, by_shape, fit, image_batch, outputs_of

_USUAL = re.compile(r"c\d+|pooled")  # maps that are taken if none are named


def variables_behind_maps(task: Task, variables: Any, batch: Any) -> dict[str, tuple[str, ...]]:
    """Finds the variables that each map of a network depends on, by tracing it without computing.

    Args:
      task: its `prepare` and `forward` are used.
      variables: of the network, or their shapes.
      batch: an `ImageBatch` or another batch struct, or its shapes.
    Returns:
      name of a map -> names of variables, joined by "/".
    """
    trace = jax.make_jaxpr(partial(outputs_of, task), return_shape=True)
    program, maps = trace(variables, batch)
    names = [
        jax.tree_util.keystr(path[1:], simple=True, separator="/")
        for path, _ in jax.tree.leaves_with_path(variables)
    ]
    outputs = jax.tree.leaves({name: name for name in maps})  # in the program's order
    behind = {}
    for name in maps:
        needed = _needed_inputs(program.jaxpr, [output == name for output in outputs])
        behind[name] = tuple(compress(names, needed))  # the batch comes after the variables
    return behind


def _needed_inputs(program: Any, wanted: Sequence[bool]) -> Sequence[bool]:
    """Finds which inputs of a traced program its wanted outputs depend on."""
    _, needed = dce_jaxpr(program, list(wanted))
    return needed


def choose_maps(maps: Iterable[str], names: Sequence[str] = ()) -> tuple[str, ...]:
    """Chooses the names of the maps to take.

    Args:
      maps: names of the maps that a network gives, in its order.
      names: of the maps to take; (): c0, c1, ..., and pooled, as far as the network has them.
    Returns:
      the names, each once.
    Raises:
      InputError: the network lacks one of them, or has none of the usual ones.
    """
    known = tuple(maps)
    for name in names:
        if name not in known:
            raise InputError(f"the network gives no map {name!r}: {close_names(name, known)}")
    chosen = tuple(dict.fromkeys(names)) or tuple(filter(_USUAL.fullmatch, known))
    if not chosen:
        raise InputError(f"name the maps to take: the network gives {', '.join(known)}")
    return chosen


def features_of_maps(
    maps: Mapping[str, Array], names: Sequence[str], *, flatten: bool = False
) -> dict[str, Array]:
    """Turns maps into a row of numbers for each image.

    Args:
      maps: name -> [B, ..., D]; the axes in between are places.
      names: of the maps to take.
      flatten: keep all places, rows and columns before channels, instead of their mean.
    Returns:
      name -> f32[B, D], or f32[B, places D] if flat.
    """

    def row(x: Array) -> Array:
        x = at_least_float32(x)
        return x.reshape(len(x), -1) if flatten else x.mean(axis=tuple(range(1, x.ndim - 1)))

    return {name: row(maps[name]) for name in names}


class RecordBatch(NamedTuple):
    """Some records whose images have the size of the network's input.

    Attributes:
      batch: B images, of which the first M <= B are those of records; None if no record could be
        read.
      indices: M numbers of the records.
      labels: M labels; None for a record without one.
      files: for each of the M records its file, or its place in a file.
      failed: for each record that could not be read, a line that says why.
    """

    batch: ImageBatch | None
    indices: list[int]
    labels: list[int | None]
    files: list[str]
    failed: list[str]


def image_batches(
    source: Source, inputs: Inputs, *, batch_size: int, threads: int | None = None
) -> Iterator[RecordBatch]:
    """Reads all records, with several threads that read ahead.

    They come in their order, but those that follow one another are sorted into batches of one shape
    if `inputs` have several. If each image has its own shape, a batch has one image.

    Args:
      source: of records with "image" u8[H, W, C], and perhaps "label". A record that cannot be
        read, or whose image does not fit the network (`InputError`), is left out.
      inputs: how images become the network's input.
      batch_size: records in a batch; the last batch is filled up.
      threads: that read; None: one for each core.
    Raises:
      InputError: `batch_size` is below 1.
    """
    check_range("batch_size", batch_size, least=1)
    return _image_batches(source, inputs, batch_size, threads or os.cpu_count())


def _image_batches(
    source: Source, inputs: Inputs, batch_size: int, threads: int | None
) -> Iterator[RecordBatch]:
    def read(index: int) -> tuple[FittedImage, int, int | None, str] | str:
        try:
            record = source[index]
        except InputError as error:
            return str(error)
        where = source.where(index)
        try:
            image = with_channels(record["image"], inputs.channels)
            fitted = fit(image, inputs)
        except InputError as error:
            return f"{where}: {error}"
        return fitted, index, record.get("label"), where

    exact = inputs.shapes == "exact"
    batch_size, shapes = (1, 1) if exact else (batch_size, len(inputs.sizes))

    def gathered(items: Iterable[Any]) -> Iterator[RecordBatch]:
        found = list(items)
        failed = [item for item in found if isinstance(item, str)]
        read = {item[1]: item for item in found if not isinstance(item, str)}
        if not read:
            yield RecordBatch(None, [], [], [], failed)
        fitted = {index: item[0] for index, item in read.items()}
        for indices in by_shape(fitted, batch_size):
            images, *others = zip(*(read[index] for index in indices), strict=True)
            yield RecordBatch(image_batch(images, batch_size), *map(list, others), failed)
            failed = []

    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Iterator[Any]] = deque()
        window = batch_size * shapes
        for start in range(0, len(source), window):
            stop = min(start + window, len(source))
            waiting.append(pool.map(read, range(start, stop)))  # begins at once
            if len(waiting) > 1:
                yield from gathered(waiting.popleft())
        while waiting:
            yield from gathered(waiting.popleft())


class Features(NamedTuple):
    """Features of N images, and where they come from.

    Attributes:
      maps: name -> f32[N, D].
      indices: i64[N], of the records.
      labels: i64[N], or None if some labels are unknown.
      files: for each image its file, or its place in a file.
      failed: a line for each record that could not be read and is missing here.
      class_names: of the labels; () without labels.
      origin: where the images can be read again, plain JSON; empty: in `files`.
      about: how the features were computed, plain JSON.
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
    batches: Iterable[RecordBatch],
    names: Sequence[str],
    *,
    flatten: bool = False,
) -> Features:
    """Computes the features of all batches.

    Args:
      task: its `prepare` and `forward` are used.
      variables: of the network.
      batches: from `image_batches`; the network is compiled once for each of their shapes. To show
        a progress bar, give an iterator that updates one.
      names: of the maps to take.
      flatten: as for `features_of_maps`.
    Returns:
      the features in the order of the records; `class_names`, `origin` and `about` are empty.
    Raises:
      InputError: no record could be read, features are not finite, or maps of several shapes are to
        be flattened.
    """

    @jax.jit
    def features_of(variables: Any, batch: ImageBatch) -> dict[str, Array]:
        return features_of_maps(outputs_of(task, variables, batch), names, flatten=flatten)

    variables = jax.device_put(variables)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    indices: list[int] = []
    labels: list[int | None] = []
    files: list[str] = []
    failed: list[str] = []
    for records in batches:
        failed += records.failed
        if records.files:
            found = jax.device_get(features_of(variables, records.batch))
            found = {name: found[name][: len(records.files)] for name in names}
            check_finite(found, records.files)
            for name, x in found.items():
                parts[name].append(x)
            indices += records.indices
            labels += records.labels
            files += records.files
    if not files:
        raise InputError(
            f"no image could be read: {failed[0] if failed else 'there are no images'}"
        )
    if any(len({x.shape[1] for x in rows}) > 1 for rows in parts.values()):
        raise InputError(
            "images of several shapes have maps of several sizes, which cannot be flattened: set "
            "flatten=False, or shapes='fixed'"
        )
    order = np.argsort(indices)
    return Features(
        {name: np.concatenate(rows)[order] for name, rows in parts.items()},
        np.array(indices, np.int64)[order],
        None if None in labels else np.array(labels, np.int64)[order],
        tuple(files[number] for number in order),
        tuple(failed),
        class_names=(),
        origin={},
        about={},
    )


def check_finite(maps: Mapping[str, np.ndarray], files: Sequence[str]) -> None:
    """Raises InputError, which names one of N files, if its features f32[N, D] are not finite."""
    for name, x in maps.items():
        for number in np.flatnonzero(~np.isfinite(x).all(axis=1)):
            raise InputError(
                f"the map {name!r} is not finite for {files[number]}: check the weights, and the "
                "mean and standard deviation that normalise the images"
            )
