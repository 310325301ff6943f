"""Builds what training and evaluation take from a config."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxvision.cli.code import Code
from jaxvision.cli.config import default_config
from jaxvision.cli.kinds import KINDS, Built, Kind
from jaxvision.cli.options import flag_errors, option_paths, read_group
from jaxvision.cli.unused import check_folder_of_embedded
from jaxvision.core import InputError, Task, listed, lookup, under
from jaxvision.data import (
    Cached,
    EvalLoader,
    ReadOptions,
    Source,
    TrainLoader,
    check_class_names,
    few_of_each,
    find_form,
    hold_out,
)
from jaxvision.engine import RUN, read_run, restore_weights
from jaxvision.runs import load_run

_FLAGS = {
    "deterministic": "--xla_gpu_deterministic_ops=true",
    # Beside asynchronous all-reduces XLA for several GPUs computes all blocks the second time
    # before the backward pass, and then remat saves no memory.
    "remat": "--xla_gpu_disable_async_collectives=allreduce",
}
"""Key of a config -> the flag of XLA that it needs."""


def set_compiler_flags(config: Any) -> None:
    """Gives XLA the flags that a config needs; before JAX's first use of a device."""
    flags = [os.environ.get("XLA_FLAGS", "")]
    flags += [flag for key, flag in _FLAGS.items() if getattr(config, key) and flag not in flags[0]]
    if len(flags) > 1:
        os.environ["XLA_FLAGS"] = " ".join(flags).strip()


def kind_of(config: Any) -> Kind:
    """What the task of a config brings to the command line."""
    return lookup(KINDS, config.task, "task")


class Splits:
    """The splits of the data of a config; each split of the data's own is opened once.

    Args:
      config: of the run.
    """

    def __init__(self, config: Any):
        self._kind = kind_of(config)
        self._data = config.data
        self._opened: dict[str, Source] = {}

    def whole(self, split: str) -> Source:
        """A split of the data's own, with all its records.

        Raises:
          InputError: the data cannot be opened, or have other classes than the config names.
        """
        if split not in self._opened:
            options = read_group(self._kind.groups["data"], self._data, "config.data")
            with option_paths("config.data", path="dir"):
                check_folder_of_embedded(options.source, options.dir)
                source = lookup(self._kind.sources, options.source, "data source")(options, split)
                check_class_names(source.class_names, self._data.get("class_names", ()))
            self._opened[split] = source
        return self._opened[split]

    def open(self, split: str) -> Source:
        """The records of a split.

        Args:
          split: "train" and "validation" share the training split of the data, of which a fixed
            random `data.validation_fraction` is for validation, and of each class of the rest the
            random `data.per_class` for training, if that is not 0; any other is a split of the
            data's own.
        Raises:
          InputError: as `whole`; the split has no records; a class has fewer images than
            `data.per_class`.
        """
        if split in ("train", "validation"):
            names = {"fraction": "validation_fraction", "count": "per_class"}
            whole = self.whole("train")
            with option_paths("config.data", **names):
                rest, held = hold_out(whole, self._data.validation_fraction)
                count = self._data.get("per_class", 0)
                few = few_of_each(rest, count) if count and split == "train" else rest
            source = held if split == "validation" else few
        else:
            source = self.whole(split)
        if not len(source):
            lower = {"train": "lower", "validation": "raise"}.get(split)
            advice = f"{lower} config.data.validation_fraction" if lower else "choose another"
            raise InputError(f"split {split!r} has no records: {advice}")
        return Cached(source) if self._data.cache else source


def open_data(config: Any) -> Splits:
    """The data of a config, which gets the names of the classes from them if it has none.

    Args:
      config: of the run.

    Raises:
      InputError: the data cannot be opened, or the config has another number of classes.
    """
    splits = Splits(config)
    if "class_names" in config.data:
        name_classes(splits, config)
    return splits


def name_classes(
    splits: Splits, config: Any, *, split: str = "train", count: int | None = None
) -> None:
    """Gives a config that has no names of the classes those of its data.

    Args:
      splits: of the data of the config.
      config: gets the names.
      split: whose records say them.
      count: of classes whose labels are numbers without names, if the config does not say it.
    Raises:
      InputError: the data cannot be opened, or the config has another number of classes.
    """
    data = config.data
    if not data.class_names:
        source = splits.whole("train" if split == "validation" else split)
        names, count = tuple(source.class_names), data.get("num_classes") or count
        if not names and count:
            names = numbered(count)
        if not names:
            if not hasattr(source, "labels"):
                raise InputError("config.data.class_names is empty: name the classes of the labels")
            names = numbered(int(np.max(source.labels)) + 1)
        data.class_names = names
    count = data.get("num_classes")
    if count and count != len(data.class_names):
        raise InputError(
            f"config.data.num_classes is {count}, but there are {len(data.class_names)} classes "
            f"({listed(data.class_names)}): set config.data.num_classes={len(data.class_names)}, "
            "or leave it out"
        )


def numbered(count: int) -> tuple[str, ...]:
    """Names of classes that have none: "0", "1", ..."""
    return tuple(map(str, range(count)))


def build(config: Any, *, code: Code | None = None, evaluation: bool = False) -> Built:
    """The task and the transforms of a config.

    Args:
      config: of the run; it names the classes (see `open_data`).
      code: finds what it names; None: everything that is named may run.
      evaluation: build no loss and no augmentation.
    """
    names = tuple(config.data.get("class_names", ()))
    return kind_of(config).build(config, names, code or Code(), evaluation)


def _read_options(config: Any) -> ReadOptions:
    with under("config.data"):
        return ReadOptions(threads=config.data.threads, workers=config.data.workers)


_OF_DATA = {name: f"data.{name}" for name in ("class_names", "max_boxes", "num_classes", "shapes")}
"""Option of a transform that a loader checks -> its key in a config."""


def train_data(config: Any, built: Built, records: Source) -> TrainLoader:
    """The training batches of this process."""
    options = read_group(kind_of(config).groups["data"], config.data, "config.data")
    with option_paths("config", **_OF_DATA):
        return TrainLoader(
            kind_of(config).trained_on(options, records),
            built.train_transform,
            batch_size=config.batch_size,
            seed=config.seed,
            partners=built.task.partners,
            read=_read_options(config),
        )


def eval_data(config: Any, built: Built, records: Source) -> EvalLoader:
    """The batches of an evaluation, of this process."""
    with option_paths("config", **_OF_DATA):
        return EvalLoader(
            measured_on(config, records),
            built.eval_transform,
            batch_size=config.batch_size,
            read=_read_options(config),
        )


def measured_on(config: Any, records: Source) -> Source:
    """The parts of records that an evaluation measures, such as tiles of photographs."""
    kind = kind_of(config)
    return kind.measured_on(read_group(kind.groups["data"], config.data, "config.data"), records)


def spread_examples(records: Source, transform: Any, count: int) -> Any:
    """Examples from all over the records, before `Task.prepare`.

    Args:
      records: what an evaluation measures.
      transform: makes an example of a record.
      count: how many, or all if there are fewer.
    Returns:
      A batch, on the host.
    """
    chosen = np.linspace(0, len(records) - 1, min(count, len(records))).astype(int)
    inputs = getattr(transform, "inputs", None)
    # Of several shapes all examples get the largest.
    placed = {} if inputs is None or inputs.shapes == "fixed" else {"size": inputs.shape[:2]}
    examples = [transform(records[i], records.where(i), **placed) for i in chosen.tolist()]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *examples)


class Opened(NamedTuple):
    """A run, opened for evaluation and prediction.

    Attributes:
      config: of the run; of a run that was made in Python, that of its kind with the run's sizes.
      built: its task, without loss and augmentation, and its transforms.
      variables: of the network, of the best checkpoint.
      step: of that checkpoint; None: of weights that are no run's.
      in_python: whether the run was made in Python.
      splits: of the data of the config, if they are open already.
    """

    config: ConfigDict
    built: Built
    variables: Any
    step: int | None
    in_python: bool = False
    splits: Splits | None = None

    def records(self, split: str) -> Source:
        """The records of a split of the data of the config.

        Raises:
          InputError: they cannot be opened.
        """
        return (self.splits or open_data(self.config)).open(split)

    @property
    def task(self) -> Task:
        """The task of the run."""
        return self.built.task


def open_run(
    workdir: pathlib.Path,
    *,
    trust: Sequence[str] = (),
    decode: Mapping[str, Any] | None = None,
) -> Opened:
    """The run in a folder, with its best weights.

    Nothing that the run names is imported, except from files that are trusted. Its loss,
    augmentation and optimizer are not built.

    Args:
      workdir: the folder.
      trust: files whose code may run.
      decode: options of a detector's decoding that are changed; other runs have none.
    Raises:
      InputError: there is no run, it has no checkpoint, or its network or decoding is code that is
        not trusted.
    """
    saved = read_run(workdir)
    if saved.get("config") is None:
        return _open_python_run(workdir, decode or {})
    config = config_of_run(workdir)
    set_compiler_flags(config)
    if "detect" in config:
        config.detect.update(decode or {})
    code = Code(trust, origin=f"the run in {workdir}")
    built = build(config, code=code, evaluation=True)
    _check_described(built.task, saved["task"], workdir)
    weights = restore_weights(workdir, same_task=True)
    return Opened(config, built, weights.variables, weights.step)


def _check_described(task: Task, described: Mapping[str, Any], workdir: pathlib.Path) -> None:
    """Raises InputError if the config of a run makes another task than its run.json describes."""
    for part in ("inputs", "forward"):
        made = json.loads(json.dumps(task.origin[part][1]))
        if part in described and made != described[part]:
            raise InputError(
                f"{workdir / RUN} is damaged (its config makes another task than it describes, in "
                f"{part!r}): restore it"
            )


def set_data(
    config: Any, split: str, *, folder: str | None, source: str | None, unknown: str = ""
) -> None:
    """Makes the data of a config others.

    Args:
      config: is changed.
      split: that will be read.
      folder: of the data; None: that of the config.
      source: form of the data; None: that of the config, or found out if that is unknown.
      unknown: why the config does not say what its data are; "": it does.
    Raises:
      InputError: the data are unknown and not given, or their form is unclear.
    """
    data, sources = config.data, kind_of(config).sources
    if unknown and not folder:
        raise InputError(f"{unknown}: give --data=FOLDER")
    if folder:
        data.dir = folder
    if source:
        data.source = source
    elif unknown and "folder" in sources:
        data.source = "folder"
    elif unknown:
        with flag_errors(form="source"):
            data.source = find_form(pathlib.Path(folder).expanduser(), split)


def config_of_run(workdir: pathlib.Path) -> ConfigDict:
    """The config of a run that the command line made.

    Raises:
      InputError: there is no such run, or its config has values that cannot be.
    """
    saved = read_run(workdir).get("config")
    if saved is None:
        raise InputError(f"the run in {workdir} was made in Python: it has no config")
    config = default_config(saved.get("task", "classification"))
    try:
        config.update(saved)
    except (TypeError, ValueError) as error:
        raise InputError(f"{workdir / RUN} is damaged (config: {error}): restore it") from error
    return config


_OF_TASK = (
    *("color", "tile", "margin", "crop_border", "modcrop", "border"),
    *("positive_class", "tile_overlap", "tile_average"),
)
"""Fields of a task that are also options of its data."""


def _open_python_run(workdir: pathlib.Path, decode: Mapping[str, Any]) -> Opened:
    is_detector = read_run(workdir)["kind"] == "detection"
    run = load_run(workdir, decode=decode if is_detector else None)
    if run.task.kind not in KINDS:
        raise InputError(
            f"the run in {workdir} is for {run.task.kind}: this command takes {', '.join(KINDS)}"
        )
    kind = KINDS[run.task.kind]
    config = default_config(run.task.kind)
    inputs = run.task.inputs
    facts = {
        "image_size": inputs.shape[0],
        "channels": inputs.channels,
        "class_names": run.class_names,
        **{name: getattr(run.task, name) for name in _OF_TASK if hasattr(run.task, name)},
    }
    config.data.update({name: x for name, x in facts.items() if name in config.data})
    transform = kind.transform(run.task)
    built = Built(run.task, transform, transform)
    return Opened(config, built, run.variables, run.step, in_python=True)
