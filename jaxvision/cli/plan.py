"""Compiles a training for GPUs or TPUs that need not be there, and shows what it needs.

  jaxvision plan --config=imagenet_resnet50 --target=gpu-h200:8
  jaxvision plan --config=coco_mask_rcnn --config.batch_size=64 --target=tpu-v5e:4x4 --json

A target is KIND:SIZE: gpu-h200:8 (one host of eight), gpu-h200:4x8 (hosts x devices), tpu-v5e:4x4,
tpu-v6e:2x2, tpu-v5p:2x2x1 (the form of a slice) or cpu:4. Compiling for GPUs needs `pip install
'jaxvision[plan-cuda]'`, for TPUs `pip install 'jaxvision[plan-tpu]'`; no device is needed or used.

The steps are those of the run: the network, its loss, augmentation and optimizer in the last phase,
mapped by shard_map. No data are read, if the config names the classes or says how many there are.
The table has, for each device: memory; FLOPs of convolutions and matrix products, two for a
multiply-add; bytes moved between the device and its memory, and by what; collectives; the dtypes of
convolutions and products. From these follow lower bounds of the time of a step: FLOPs at the
device's peak, bytes at its bandwidth, and collectives at that of its links. The images/s are an
upper bound, which no program reaches. The largest batch is extrapolated from two sizes and
confirmed by compiling it. Compiling takes seconds for a small network and minutes for a large one,
for a TPU up to ten. The table goes to stdout; with --json an object instead.
"""

import contextlib
import dataclasses
import json
from typing import Any

import jax
import numpy as np
from absl import flags

from jaxvision.cli import arguments, setup
from jaxvision.cli.config import check_complete
from jaxvision.cli.kinds import Built
from jaxvision.cli.optimizers import phases_of_config
from jaxvision.cli.options import option_paths, read_group
from jaxvision.cli.run_options import RunOptions
from jaxvision.core import InputError, Record
from jaxvision.data import MultiScale, RandomTransform
from jaxvision.engine import log
from jaxvision.planning import Plan, describe, parse_target, plan
from jaxvision.tasks import with_frozen_statistics


def main(argv: list[str]) -> None:
    """The command; the table goes to stdout, everything else to stderr."""
    values = _parse(argv)
    target = parse_target(values.target)
    # This machine's own accelerator is not needed, and is left alone.
    jax.config.update("jax_platforms", "cpu")
    if target.hardware.platform == "cpu":
        with contextlib.suppress(RuntimeError):  # JAX is in use, with the devices that it has
            jax.config.update("jax_num_cpu_devices", target.devices)
    config = values.config
    check_complete(config)
    options = read_group(RunOptions, config, "config")
    setup.set_compiler_flags(config)
    if not config.data.get("class_names", ()) and "class_names" in config.data:
        _name_classes(config)
    built = setup.build(config)
    with option_paths("config"):
        task = with_frozen_statistics(built.task, options.freeze_statistics)
        phases, ema_decay = phases_of_config(config)
    built = built._replace(task=task)
    log("compiling; this takes a few minutes for large networks")
    found = plan(
        task,
        phases[-1],
        batch_of(config, built, training=True),
        eval_batch=batch_of(config, built, training=False) if values.evaluation else None,
        target=target,
        ema_decay=ema_decay,
        accumulate=options.accumulate,
        shard_state=options.shard_state,
        largest_batch=values.largest_batch,
        log=log,
    )
    print(json.dumps(_plain(found), indent=1) if values.json else describe(found))


def _parse(argv: list[str]) -> flags.FlagValues:
    values = flags.FlagValues()
    for name, default, meaning in (
        ("json", False, "an object instead of the table, for programs"),
        ("evaluation", True, "plan the evaluation step too"),
        ("largest_batch", True, "look for the largest batch that fits"),
    ):
        flags.DEFINE_boolean(name, default, meaning, flag_values=values)
    flags.DEFINE_string("target", None, "devices to compile for, KIND:SIZE", flag_values=values)
    name, rest = arguments.take_config(argv, "")
    asked = {"--help", "-h", "-help", "--helpfull"} & set(rest)
    if name or not asked:
        if not name:
            raise InputError("no --config: give the file or name of a config")
        arguments.define_config(values, name, rest)
    arguments.parse(values, rest, __doc__)
    if not values.target:
        raise InputError("no --target: give the devices, such as --target=gpu-h200:8")
    return values


def _name_classes(config: Any) -> None:
    """Gives a config names of the classes: by their number, or those of its data."""
    if config.data.get("num_classes"):
        config.data.class_names = setup.numbered(config.data.num_classes)
    else:
        setup.open_data(config)


def batch_of(config: Any, built: Built, *, training: bool) -> Any:
    """Shapes and dtypes of a global batch of a run, without its data.

    Of several sizes of images it is the largest.

    Args:
      config: of the run.
      built: its task and transforms.
      training: whether it is a batch of the training, or one of the evaluation.
    """
    kind, task = setup.kind_of(config), built.task
    transform = built.train_transform if training else built.eval_transform
    if isinstance(transform, MultiScale):
        transform = max(transform.transforms, key=lambda x: np.prod(_size(config, x)))
    image = np.zeros((*_size(config, transform), config.data.get("channels", 3)), np.uint8)
    options = read_group(kind.groups["data"], config.data, "config.data")
    records = _Blank(image, kind.empty(image, len(task.class_names)) if kind.empty else {})
    records = (kind.trained_on if training else kind.measured_on)(options, records)
    batch = setup.spread_examples(records, _without_drawing(transform), 1)
    if training and task.partners:
        # Each example has others beside it, on an axis of their own.
        batch = batch.replace(
            partners=jax.tree.map(lambda x: np.stack([x] * task.partners, axis=1), batch)
        )
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((config.batch_size, *x.shape[1:]), x.dtype), batch
    )


def _without_drawing(transform: Any) -> Any:
    """A transform without what it draws at random, which changes no shapes."""
    if not isinstance(transform, RandomTransform):
        return transform
    return lambda record, where: transform.transform(record, where, np.random.RandomState(0))


def _size(config: Any, transform: Any) -> tuple[int, int]:
    """(height, width) of the network's input that a transform makes; of several, the largest."""
    inputs = getattr(getattr(transform, "transform", transform), "inputs", None)
    return (config.data.image_size,) * 2 if inputs is None else inputs.shape[:2]


class _Blank:
    """A source of one record: an image without anything in it.

    Args:
      image: u8[H, W, C].
      annotations: of the record.
    """

    class_names = ()

    def __init__(self, image: np.ndarray, annotations: Record):
        # A detector with proposals of its own takes those of the record.
        self._record = {"image": image, "proposals": np.zeros((0, 4)), **annotations}

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Record:
        return self._record

    def where(self, index: int) -> str:
        """Names the record in messages."""
        return "a blank image"

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of the image."""
        return self._record["image"].shape[:2]

    def target(self, index: int) -> Record:
        """The record without its image."""
        return {key: x for key, x in self._record.items() if key != "image"}


def _plain(found: Plan) -> dict[str, Any]:
    """A plan as JSON has it."""
    steps = {"train": found.train, "evaluation": found.evaluation}
    return {
        "target": str(found.target),
        "devices": found.target.devices,
        "largest_batch": found.largest_batch,
        **{name: None if step is None else _plain_step(step) for name, step in steps.items()},
    }


def _plain_step(step: Any) -> dict[str, Any]:
    plain = dataclasses.asdict(step)
    plain["memory"]["total"] = step.memory.total
    plain["cost"]["collectives"] = [x._asdict() for x in step.cost.collectives]
    derived = ("least_seconds", "most_images_per_second")
    return plain | {name: getattr(step, name) for name in derived}
