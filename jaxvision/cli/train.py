"""Trains the run of a config, or resumes it.

  python train.py                                        # LeNet-5 on the embedded digits
  python train.py --config=configs/digits_resnet20.py --workdir=runs/mine \\
      --config.batch_size=128 --config.optimizer.learning_rate=0.05
  python train.py --config=configs/bccd_yolov2.py --config.init_from=runs/other   # fine-tune

The workdir gets run.json, checkpoints, metrics.jsonl, TensorBoard events, curves.png, and the
tables and pictures of the evaluation on the test split, which `eval --help` lists. The same command
again resumes the run, or reports its result if it is finished. On SIGTERM, and with one process
on Ctrl-C, the run is saved after the step, and the exit code is 143 or 130. Several processes that
Ctrl-C stops resume from their last checkpoint. The last line on stdout is the result, as JSON: the
metrics of the best checkpoint, `steps` and `state_digest` of the last step, and `variables_digest`
of the evaluated variables, which eval prints too.
"""

import json
import pathlib
import signal
from typing import Any

import jax
import optax

from jaxvision.cli import arguments, setup
from jaxvision.cli.config import check_complete, default_config, find_config
from jaxvision.cli.kinds.darknet import DARKNET, description_of
from jaxvision.cli.optimizers import phases_of_config
from jaxvision.cli.options import option_paths, read_group
from jaxvision.cli.pretrained import key_map_of, pretrained_variables, read_pretrained
from jaxvision.cli.report import report
from jaxvision.cli.run_options import BestOptions, RunOptions
from jaxvision.cli.unused import check_used
from jaxvision.core import Task, under
from jaxvision.engine import (
    CHECKPOINTS,
    Best,
    Parallel,
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
_NOT_COMPARED = ("log_every", "keep")
_NOT_COMPARED_DATA = ("threads", "workers", "cache")


def main(argv: list[str]) -> int:
    """The command; its result goes to stdout, everything else to stderr.

    Returns:
      The exit code: 0, or 143 if SIGTERM stopped the training.
    """
    name, rest = arguments.take_config(argv, DEFAULT_CONFIG)
    flags = arguments.common_flags()
    file = arguments.define_config(flags, name, rest)
    arguments.parse(flags, rest, __doc__)
    config = flags.config
    check_complete(config)
    check_used(config, file)
    if config.model.name == DARKNET and config.model.get("cfg"):
        # The run keeps the description itself, so that it does not need the file.
        config.model.cfg = description_of(config.model.cfg, config.model.get("dialect")).text
    workdir = pathlib.Path(flags.workdir or f"runs/{find_config(name).stem}").expanduser()

    options = read_group(RunOptions, config, "config")
    setup.set_determinism(config)
    arguments.join_processes(flags)
    splits = setup.open_data(config)
    first_process = jax.process_index() == 0
    log_line = log if first_process else lambda line: None
    built = setup.build(config)
    with option_paths("config", kind="parallel"):
        task = with_frozen_statistics(built.task, options.freeze_statistics)
        parallel = Parallel(options.parallel)
        phases, ema_decay = phases_of_config(config)
    built = built._replace(task=task)
    parallel.check_batch_size(options.batch_size)
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
            variables=_pretrained(task, options, config.model.get("cfg"), workdir, log_line),
            best=None if validation is None else Best(best.metric, best.mode, best.patience),
            ema_decay=ema_decay,
            eval_every=options.eval_every,
            checkpoint_every=options.checkpoint_every,
            keep=options.keep,
            log_every=options.log_every,
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
    if first_process:
        result = {
            "split": "test",
            **evaluation.metrics,
            "steps": steps,
            "state_digest": state_digest(fitted.state),
            "variables_digest": state_digest(fitted.variables),
        }
        print(json.dumps(result), flush=True)
        report(config, built, fitted.variables, evaluation, records, folder=workdir, split="test")
    return 0


def _pretrained(
    task: Task, options: RunOptions, cfg: str | None, workdir: pathlib.Path, log_line: Any
) -> Any:
    """The variables to start from; None where training starts at random or resumes.

    `cfg` is the path of the description of a network in Darknet's format, if it is one.
    """
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
    weights = read_pretrained(options.init_from, cfg=cfg)
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
