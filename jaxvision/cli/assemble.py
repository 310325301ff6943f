"""From a config to the pieces that the engine takes."""

import os
import pathlib
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxvision.cli.config import default_config
from jaxvision.core import InputError, Task, lookup
from jaxvision.data import (
    EvalLoader,
    Reading,
    Share,
    ToClassificationExample,
    TrainLoader,
    open_split,
)
from jaxvision.engine import (
    CHECKPOINTS,
    Checkpoints,
    Criterion,
    Parallel,
    Restored,
    abstract_state,
    make_optimizer,
    read_config,
)
from jaxvision.tasks import TASKS


def saved_config(workdir: pathlib.Path) -> ConfigDict:
    """The config of the run in a folder.

    Raises:
      InputError: there is none.
    """
    config = default_config()  # an older run may lack keys that came later
    config.update(read_config(workdir))
    return config


def restore_best(workdir: pathlib.Path, config: Any, task: Task, parallel: Parallel) -> Restored:
    """The best checkpoint of the run in a folder.

    Raises:
      InputError: it has no checkpoint.
      DamagedError: none of its checkpoints is sound.
    """
    optimizer = make_optimizer(config.optimizer, steps=config.steps)
    with Checkpoints(
        workdir / CHECKPOINTS,
        criterion=make_criterion(config),
        parallel=parallel,
        read_only=True,
    ) as checkpoints:
        best = checkpoints.restore_best(abstract_state(task, optimizer))
    if best is None:
        raise InputError(f"no checkpoint in {workdir / CHECKPOINTS}: train first")
    return best


def set_determinism(config: Any) -> None:
    """Asks XLA for the same bits from run to run; before JAX's first use of a device."""
    if config.deterministic:
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()


def make_task(config: Any) -> Task:
    return lookup(TASKS, config.task, "task")(config)


def make_criterion(config: Any) -> Criterion:
    return Criterion(config.best.metric, config.best.mode, config.best.patience)


def _transform(data: Any) -> ToClassificationExample:
    return ToClassificationExample(
        data.image_size, data.channels, data.num_classes, resize=data.resize
    )


def _share() -> Share:
    return Share(jax.process_index(), jax.process_count())


def _reading(data: Any) -> Reading:
    return Reading(threads=data.threads, workers=data.workers)


def train_data(config: Any) -> TrainLoader:
    source = open_split(config.data, "train")
    if not len(source):
        raise InputError("no training records are left: lower config.data.validation_fraction")
    return TrainLoader(
        source,
        _transform(config.data),
        batch_size=config.batch_size,
        seed=config.seed,
        share=_share(),
        reading=_reading(config.data),
    )


def eval_data(config: Any, split: str) -> EvalLoader:
    source = open_split(config.data, split)
    if not len(source):
        raise InputError(f"split {split!r} is empty: set config.data.validation_fraction above 0")
    return EvalLoader(
        source,
        _transform(config.data),
        batch_size=config.batch_size,
        share=_share(),
        reading=_reading(config.data),
    )
