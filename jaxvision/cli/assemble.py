"""From a config to the pieces that the engine takes."""

import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxvision.cli.config import default_config
from jaxvision.core import IGNORED, InputError, Task, lookup
from jaxvision.data import (
    CLASSIFICATION_SOURCES,
    DETECTION_SOURCES,
    LANDMARK_SOURCES,
    RESTORATION_SOURCES,
    SEGMENTATION_SOURCES,
    Alternating,
    EvalLoader,
    Random,
    RandomPatches,
    Reading,
    Share,
    Source,
    Sources,
    Splits,
    Tiles,
    ToClassificationExample,
    ToDetectionExample,
    ToLandmarkExample,
    ToSegmentationExample,
    TrainLoader,
    Transform,
    to_restoration_example,
)
from jaxvision.data.sources.source import Record
from jaxvision.engine import (
    CHECKPOINTS,
    Checkpoints,
    Criterion,
    Parallel,
    Restored,
    abstract_state,
    make_optimizers,
    optimizer_after,
    read_config,
)
from jaxvision.tasks import TASKS


def saved_config(workdir: pathlib.Path, *, data_dir: str | None = None) -> ConfigDict:
    """The config of the run in a folder.

    Args:
      workdir: the folder.
      data_dir: of the data, if it is another by now.
    Raises:
      InputError: there is none.
    """
    saved = read_config(workdir)  # an older run may lack keys that came later
    config = default_config(saved.get("task", "classification"))
    config.update(saved)
    if data_dir is not None:
        config.data.dir = data_dir
    return config


def restore_best(workdir: pathlib.Path, config: Any, task: Task, parallel: Parallel) -> Restored:
    """The best checkpoint of the run in a folder.

    Raises:
      InputError: it has no checkpoint.
      DamagedError: none of its checkpoints is sound.
    """
    optimizers = make_optimizers(config)
    with Checkpoints(
        workdir / CHECKPOINTS,
        criterion=make_criterion(config),
        parallel=parallel,
        read_only=True,
    ) as checkpoints:
        best = checkpoints.restore_best(
            lambda step: abstract_state(task, optimizer_after(optimizers, step))
        )
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


def open_run(workdir: pathlib.Path, config: Any | None = None) -> tuple[Task, Restored]:
    """The task of the run in a folder, and its best checkpoint, on one device.

    Args:
      workdir: the folder.
      config: from `saved_config`, perhaps changed; None: as saved.
    Raises:
      InputError: there is no run, or it has no checkpoint.
      DamagedError: none of its checkpoints is sound.
    """
    config = saved_config(workdir) if config is None else config
    task = make_task(config)
    parallel = Parallel(devices=jax.local_devices()[:1])
    return task, restore_best(workdir, config, task, parallel)


def make_criterion(config: Any) -> Criterion:
    return Criterion(config.best.metric, config.best.mode, config.best.patience)


def _classification(data: Any, size: int, **how: Any) -> ToClassificationExample:
    return ToClassificationExample(
        size,
        data.channels,
        data.num_classes,
        resize=data.resize,
        shorter_side=data.shorter_side,
        **how,
    )


def _random_windows(config: Any, size: int) -> Transform | Random:
    if config.augment.crop_scale is None or config.augment.crop_on_device:
        return _classification(config.data, size)
    return Random(_classification(config.data, size, crop_scale=config.augment.crop_scale))


def _no_objects(data: Any, image: np.ndarray) -> Record:
    none = np.zeros(0, bool)
    boxes = {"boxes": np.zeros((0, 4)), "labels": none.astype(int)}
    return {**boxes, "crowd": none, "difficult": none, "masks": []}


def _detection(data: Any, size: int) -> ToDetectionExample:
    return ToDetectionExample(
        (size, size),
        len(data.class_names),
        max_boxes=data.max_boxes,
        resize=data.resize,
        masks=data.masks,
    )


def _none_visible(data: Any, image: np.ndarray) -> Record:
    count = len(data.class_names)
    return {"points": np.zeros((count, 2)), "visible": np.zeros(count, bool)}


def _landmarks(data: Any, size: int) -> ToLandmarkExample:
    return ToLandmarkExample((size, size), len(data.class_names), resize=data.resize)


def _all_ignored(data: Any, image: np.ndarray) -> Record:
    return {"labels": np.full(image.shape[:2], IGNORED, np.uint8)}


def _segmentation(data: Any, size: int) -> ToSegmentationExample:
    return ToSegmentationExample((size, size), len(data.class_names), resize=data.resize)


def _restoration(data: Any, size: int) -> Transform:
    return to_restoration_example


def _patches(data: Any, photographs: Source) -> RandomPatches:
    return RandomPatches(photographs, size=data.image_size, count=data.patches)


def _tiles(data: Any, photographs: Source) -> Tiles:
    return Tiles(photographs, size=data.tile, margin=data.margin)


def _as_they_are(data: Any, records: Source) -> Source:
    return records


class _Kind(NamedTuple):
    """What is a task's own in the way of its data.

    Attributes:
      sources: where records come from.
      transform: (config.data, size) -> what makes an example of each.
      trained_on: (config.data, records) -> the parts of the records to train on.
      measured_on: likewise, to evaluate on.
      nameless: sources that do not tell how classes are called.
      drawing: (config, size) -> what makes an example to train on, where it is not `transform`.
      untold: (config.data, image) -> what a record has besides its image when nothing is told of
        it; None where images have no one size.
    """

    sources: Sources
    transform: Callable[[Any, int], Transform]
    trained_on: Callable[[Any, Source], Source] = _as_they_are
    measured_on: Callable[[Any, Source], Source] = _as_they_are
    nameless: Sequence[str] = ()
    drawing: Callable[[Any, int], Transform | Random] | None = None
    untold: Callable[[Any, np.ndarray], Record] | None = None


_KINDS = {
    "classification": _Kind(
        CLASSIFICATION_SOURCES,
        _classification,
        nameless=("digits", "idx", "npz", "tfds"),
        drawing=_random_windows,
        untold=lambda data, image: {},
    ),
    "detection": _Kind(DETECTION_SOURCES, _detection, untold=_no_objects),
    "landmarks": _Kind(LANDMARK_SOURCES, _landmarks, untold=_none_visible),
    "restoration": _Kind(RESTORATION_SOURCES, _restoration, _patches, _tiles),
    "segmentation": _Kind(SEGMENTATION_SOURCES, _segmentation, untold=_all_ignored),
}


def open_data(config: Any) -> Splits:
    """The data of a config; the config gets the names of the classes, if it has none.

    Raises:
      InputError: the training data cannot be opened, for its class names.
    """
    data, kind = config.data, lookup(_KINDS, config.task, "task")
    splits = Splits(data, kind.sources)
    if "class_names" in data and not data.class_names and data.source not in kind.nameless:
        data.class_names = tuple(splits.whole("train").class_names)
    return splits


def open_records(splits: Splits, split: str) -> Source:
    """The records of a split.

    Raises:
      InputError: they cannot be opened, or there are none.
    """
    records = splits.open(split)
    if not len(records):
        lower = {"train": "lower", "validation": "raise"}.get(split)
        advice = f"{lower} config.data.validation_fraction" if lower else "choose another"
        raise InputError(f"split {split!r} has no records: {advice}")
    return records


def image_transform(config: Any) -> Callable[[Record, str], np.ndarray]:
    """What makes a record's image u8[image_size, image_size, C], as an evaluation sees it.

    Raises:
      InputError: the images of the config's task have no one size; when called: as the transform.
    """
    data, kind = config.data, _KINDS[config.task]
    if kind.untold is None:
        raise InputError(
            f"the images of {config.task} have no one size: give a run or config of another task"
        )
    transform = kind.transform(data, data.image_size)

    def image_of(record: Record, where: str) -> np.ndarray:
        return transform({**record, **kind.untold(data, record["image"])}, where).image

    return image_of


def _share() -> Share:
    return Share(jax.process_index(), jax.process_count())


def _reading(data: Any) -> Reading:
    return Reading(threads=data.threads, workers=data.workers)


def train_data(config: Any, records: Source, *, partners: int) -> TrainLoader:
    """The training batches.

    Args:
      config: of the run.
      records: from `open_records`.
      partners: other examples that arrive with each one.
    """
    data, kind = config.data, _KINDS[config.task]
    transform = kind.transform
    if data.get("sizes"):
        transforms = tuple(transform(data, size) for size in data.sizes)
        chosen = Alternating(transforms, every=data.size_every, seed=config.seed)
    elif kind.drawing is not None:
        chosen = kind.drawing(config, data.image_size)
    else:
        chosen = transform(data, data.image_size)
    return TrainLoader(
        kind.trained_on(data, records),
        chosen,
        batch_size=config.batch_size,
        seed=config.seed,
        share=_share(),
        partners=partners,
        reading=_reading(data),
    )


def spread_examples(config: Any, records: Source, count: int) -> Any:
    """Examples from all over the records, as an evaluation sees them, before `Task.prepare`.

    Args:
      config: of the run.
      records: from `open_records`.
      count: how many, or all if there are fewer.
    Returns:
      A batch, on the host.
    """
    kind = _KINDS[config.task]
    records = kind.measured_on(config.data, records)
    transform = kind.transform(config.data, config.data.image_size)
    chosen = np.linspace(0, len(records) - 1, min(count, len(records))).astype(int)
    examples = [transform(records[i], records.where(i)) for i in chosen.tolist()]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *examples)


def eval_data(config: Any, records: Source) -> EvalLoader:
    """The batches of an evaluation.

    Args:
      config: of the run.
      records: from `open_records`.
    """
    data, kind = config.data, _KINDS[config.task]
    return EvalLoader(
        kind.measured_on(data, records),
        kind.transform(data, data.image_size),
        batch_size=config.batch_size,
        share=_share(),
        reading=_reading(data),
    )
