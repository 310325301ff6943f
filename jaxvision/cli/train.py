"""Trains the run of a config, or resumes it.

  python train.py                                        # LeNet-5 on the embedded digits
  python train.py --config=configs/digits_resnet20.py --workdir=runs/mine \\
      --config.batch_size=128 --config.optimizer.learning_rate=0.05
  python train.py --config=configs/bccd_yolov2.py --config.init_from=runs/other   # fine-tune
  python train.py --cfg=yolov4.cfg --weights=yolov4.weights --data=FOLDER --workdir=runs/mine

With --cfg the network, its loss and the size of images are those of a detector in Darknet's format,
for the classes of the data. Without --config the other settings are those of default_config and
2,000 steps of AdamW, a batch of 16, flips, shifts and changes of color, and a tenth of the training
images for validation. --weights, --data, --source, --names and --resize are short for the keys
init_from, data.dir, data.source, data.class_names and data.resize, with --config as well.

The workdir gets run.json, checkpoints, metrics.jsonl, TensorBoard events, curves.png, and the
tables and pictures of the evaluation on the test split, which `eval --help` lists. The same command
again resumes the run, or reports its result if it is finished. --profile=10:12 writes a trace of
steps 10 to 12 by JAX's profiler into the workdir. On SIGTERM, and with one process on Ctrl-C, the
run is saved after the step, and the exit code is 143 or 130. Several processes that Ctrl-C stops
resume from their last checkpoint. The last line on stdout is the result, as JSON: the metrics of
the best checkpoint, `steps` and `state_digest` of the last step, and `variables_digest` of the
evaluated variables, which eval prints too.
"""

import json
import pathlib
import re
import signal
from typing import Any

import jax
import optax
from absl import flags
from ml_collections import ConfigDict

from jaxvision.cli import arguments, setup
from jaxvision.cli.cfg import fine_tuning_config, set_cfg
from jaxvision.cli.config import check_complete, default_config, find_config, load_config
from jaxvision.cli.kinds.darknet import DARKNET, description_of
from jaxvision.cli.network import read_names
from jaxvision.cli.optimizers import phases_of_config
from jaxvision.cli.options import flag_errors, option_paths, read_group
from jaxvision.cli.pretrained import key_map_of, pretrained_variables, read_pretrained
from jaxvision.cli.processes import join_processes
from jaxvision.cli.report import report
from jaxvision.cli.run_options import BestOptions, RunOptions
from jaxvision.cli.unused import check_used
from jaxvision.core import InputError, Task, under
from jaxvision.engine import (
    CHECKPOINTS,
    Best,
    Parallel,
    check_profile,
    evaluate,
    fit,
    has_checkpoints,
    init_state,
    log,
    state_digest,
)
from jaxvision.tasks import with_frozen_statistics

DEFAULT_CONFIG = "digits_lenet5"
_PATHS = {
    "metric": "best.metric",
    "mode": "best.mode",
    "patience": "best.patience",
    "lr_multipliers": "optimizer.lr_multipliers",
    "only": "head_warmup.only",
}
"""Option of `fit`, of `Best` or of a phase -> its key in a config, where they differ."""
_NOT_COMPARED = ("log_every", "keep", "prefetch", "parallel", "shard_state")
_NOT_COMPARED_DATA = ("threads", "workers", "cache")


def main(argv: list[str]) -> int:
    """The command; its result goes to stdout, everything else to stderr.

    Returns:
      The exit code: 0, or 143 if SIGTERM stopped the training.
    """
    values, name, file = _parse(argv)
    config = values.config
    check_complete(config)
    check_used(config, file)
    if config.model.name == DARKNET and config.model.get("cfg"):
        # The run keeps the description itself, so that it does not need the file.
        config.model.cfg = description_of(config.model.cfg, config.model.get("dialect")).text
    workdir = pathlib.Path(values.workdir or f"runs/{name}").expanduser()

    options = read_group(RunOptions, config, "config")
    profile = _profile(values.profile, options.steps)
    setup.set_compiler_flags(config)
    join_processes(values)
    splits = setup.open_data(config)
    first_process = jax.process_index() == 0
    log_line = log if first_process else lambda line: None
    built = setup.build(config)
    with option_paths("config", kind="parallel"):
        task = with_frozen_statistics(built.task, options.freeze_statistics)
        parallel = Parallel(options.parallel)
        phases, ema_decay = phases_of_config(config)
    built = built._replace(task=task)
    parallel.check_batch_size(options.batch_size, options.accumulate)
    if options.shard_state:
        with option_paths("config"):
            parallel.check_pieces()
    train = setup.train_data(config, built, splits.open("train"))
    validation = None
    if config.data.validation_fraction:
        validation = setup.eval_data(config, built, splits.open("validation"))
    else:
        vain = config.best.to_dict() != default_config(config.task).best.to_dict()
        log_line(
            "config.data.validation_fraction is 0: nothing is evaluated in training, and the last "
            f"checkpoint is evaluated after it{'; config.best is not used' if vain else ''}"
        )
    # Before training, not after it: is there anything to test on?
    records = splits.open("test")
    test = setup.eval_data(config, built, records)
    best = read_group(BestOptions, config.best, "config.best")
    with option_paths("config", **_PATHS):
        fitted = fit(
            task,
            phases,
            train=train,
            validation=validation,
            steps=options.steps,
            seed=options.seed,
            workdir=workdir,
            variables=_pretrained(task, options, config, workdir, log_line),
            best=None if validation is None else Best(best.metric, best.mode, best.patience),
            ema_decay=ema_decay,
            accumulate=options.accumulate,
            shard_state=options.shard_state,
            eval_every=options.eval_every,
            checkpoint_every=options.checkpoint_every,
            keep=options.keep,
            log_every=options.log_every,
            prefetch=options.prefetch,
            profile=profile,
            parallel=parallel,
            log=log_line,
            options=_compared(config),
            command_line=config.to_dict(),
        )
    steps = int(fitted.state.step)
    if not fitted.finished:
        log_line(f"asked to stop: saved after step {steps} in {workdir}; the same command resumes")
        return 128 + signal.SIGTERM
    evaluation = evaluate(task, fitted.variables, test, parallel=parallel, label="testing")
    state = parallel.fetch(fitted.state)  # by all processes together
    if first_process:
        result = {
            "split": "test",
            **evaluation.metrics,
            "steps": steps,
            "state_digest": state_digest(state),
            "variables_digest": state_digest(fitted.variables),
        }
        print(json.dumps(result), flush=True)
        report(config, built, fitted.variables, evaluation, records, folder=workdir, split="test")
    return 0


def _parse(argv: list[str]) -> tuple[flags.FlagValues, str, ConfigDict]:
    """Parses the arguments: (the flags, the name of the run, the config as its file gives it)."""
    values = arguments.common_flags()
    for name, meaning in (
        ("cfg", "Darknet's description of a detector, which is trained"),
        ("weights", "as config.init_from: what to start from"),
        ("names", "file with the names of the classes, a line each, as config.data.class_names"),
    ):
        flags.DEFINE_string(name, None, meaning, flag_values=values)
    flags.DEFINE_string(
        "profile",
        None,
        "START:STOP, the first and the last step of which a trace by JAX's profiler is written to "
        "the folder profile of the workdir",
        flag_values=values,
    )
    arguments.define_data(values)
    arguments.define_resize(values)
    cfg = arguments.value_of(argv, "cfg")
    name, rest = arguments.take_config(argv, "" if cfg else DEFAULT_CONFIG)
    if cfg and not name:
        config = fine_tuning_config(cfg)
    else:
        config = load_config(find_config(name))
        if cfg:
            set_cfg(config, cfg)
    file = arguments.define_keys(values, config, rest)
    arguments.parse(values, rest, __doc__)
    config = values.config
    if values.weights:
        config.init_from = values.weights
    if values.names:
        if "class_names" not in config.data:
            raise InputError(f"--names: {config.task} has no classes, leave it out")
        config.data.class_names = read_names(values.names)
    if values.data or values.source or not config.data.source:
        unknown = "" if config.data.source else "--cfg says nothing of data"
        how = {"folder": values.data, "source": values.source, "unknown": unknown}
        setup.set_data(config, config.data.train_split, **how)
    arguments.set_resize(config, values.resize)
    run = find_config(name).stem if name else pathlib.Path(cfg).stem
    return values, run, file


def _profile(given: str | None, steps: int) -> tuple[int, int] | None:
    """The steps that --profile names."""
    if given is None:
        return None
    found = re.fullmatch(r"(\d{1,18}):(\d{1,18})", given)
    if found is None:
        raise InputError(f"--profile is {given!r}: give START:STOP, as 10:12")
    with flag_errors():
        return check_profile((int(found[1]), int(found[2])), steps)


def _pretrained(
    task: Task, options: RunOptions, config: ConfigDict, workdir: pathlib.Path, log_line: Any
) -> Any:
    """The variables to start from; None where training starts at random or resumes."""
    if not options.init_from:
        for key in ("freeze", "freeze_statistics"):
            if getattr(options, key):
                log_line(
                    f"config.{key} is set without config.init_from: the initial values are frozen"
                )
        if task.freeze:
            log_line(
                "config.detector.trainable_backbone_layers is set without config.init_from: the "
                "initial values of the other stages are frozen"
            )
        return None
    if has_checkpoints(workdir / CHECKPOINTS):
        return None
    of_darknet = config.model.name == DARKNET
    weights = read_pretrained(
        options.init_from,
        cfg=options.init_cfg or config.model.get("cfg"),
        like=None if of_darknet else lambda: jax.eval_shape(task.init, jax.random.key(0)),
    )
    with under("config"):
        key_map = key_map_of(options.init_key_map, weights, options.init_prefix)
    return pretrained_variables(
        task,
        weights,
        variables=init_state(task, optax.identity(), options.seed).variables,
        prefix=options.init_prefix,
        key_map=key_map,
        reinit=options.reinit,
        freeze=options.freeze,
        log=log_line,
    )


def _compared(config: Any) -> dict[str, Any]:
    """The keys of a config that a resumed run must have the same."""
    compared = {key: x for key, x in config.to_dict().items() if key not in _NOT_COMPARED}
    data = compared["data"].items()
    compared["data"] = {key: x for key, x in data if key not in _NOT_COMPARED_DATA}
    return {"config": compared}
