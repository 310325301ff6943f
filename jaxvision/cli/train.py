"""Trains the run of a config, or resumes it.

  python train.py                                        # LeNet-5 on the embedded digits
  python train.py --config=configs/digits_resnet20.py --workdir=runs/mine \\
      --config.batch_size=128 --config.optimizer.learning_rate=0.05

The workdir gets the config, checkpoints, metrics.jsonl, TensorBoard events and curves.png, of a
detector also pictures of what it finds in the test images, predictions_test.png. The same command
again resumes the run where it was, or reports it if it is finished. The last line on stdout
is the result, as JSON.
"""

import json
import pathlib
import signal
import sys
import threading
from types import FrameType

import jax

from jaxvision.cli import arguments, assemble
from jaxvision.cli.beginning import starting_from
from jaxvision.cli.config import default_config, find_config
from jaxvision.cli.report import report
from jaxvision.engine import (
    CHECKPOINTS,
    Parallel,
    Run,
    fit,
    has_checkpoints,
    make_evaluate,
    make_optimizers,
    say,
    state_digest,
)
from jaxvision.tasks import with_frozen_statistics

DEFAULT_CONFIG = "digits_lenet5"


def _stop(signum: int, frame: FrameType | None) -> None:
    """The answer to SIGTERM before and after `fit`, which has its own."""
    say("asked to stop: nothing is lost, the same command goes on")
    sys.exit(0)


def main(argv: list[str]) -> None:
    """The command; its result goes to stdout, everything else to stderr."""
    name, rest = arguments.take_config(argv, DEFAULT_CONFIG)
    flags = arguments.common_flags()
    arguments.define_config(flags, name, rest)
    arguments.parse(flags, rest, __doc__)
    config = flags.config
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _stop)
    workdir = pathlib.Path(flags.workdir or f"runs/{find_config(name).stem}").expanduser()

    assemble.set_determinism(config)
    arguments.join_processes(flags)
    splits = assemble.open_data(config)
    first_process = jax.process_index() == 0
    tell = say if first_process else lambda line: None
    task = assemble.make_task(config)
    if config.init_from and not has_checkpoints(workdir / CHECKPOINTS):
        task = starting_from(
            task,
            config.init_from,
            prefix=config.init_prefix,
            leave_out=config.init_except,
            freeze=config.freeze,
            say=tell,
        )
    elif not config.init_from:
        for key in ("freeze", "freeze_statistics"):
            if config[key]:
                tell(f"config.{key} without config.init_from: what it names stays as it begins")
    task = with_frozen_statistics(task, config.freeze_statistics)
    parallel = Parallel(config.parallel)
    parallel.check_batch_size(config.batch_size)
    defaults = default_config(config.task)
    if "class_names" in config.data:  # which runs of folders of images did not always keep
        defaults.data.class_names = config.data.class_names
    run = Run(
        workdir=workdir,
        config=config.to_dict(),
        steps=config.steps,
        batch_size=config.batch_size,
        seed=config.seed,
        criterion=assemble.make_criterion(config),
        eval_every=config.eval_every,
        checkpoint_every=config.checkpoint_every,
        keep=config.keep,
        log_every=config.log_every,
        defaults=defaults.to_dict(),
    )
    records = assemble.open_records(splits, "train")
    train = assemble.train_data(config, records, partners=task.partners)
    validation = None
    if config.data.validation_fraction:
        validation = assemble.eval_data(config, assemble.open_records(splits, "validation"))
    # Before training, not after it: is there anything to test on?
    records = assemble.open_records(splits, "test")
    test = assemble.eval_data(config, records)
    fitted = fit(
        task,
        make_optimizers(config),
        run,
        train=train,
        validation=validation,
        parallel=parallel,
        say=tell,
    )
    steps = int(fitted.state.step)
    if not fitted.finished:
        tell(f"asked to stop: saved after step {steps} in {workdir}; the same command resumes")
        return
    evaluation = make_evaluate(task, parallel=parallel)(fitted.best, test, label="testing")
    if first_process:
        result = {
            "split": "test",
            **evaluation.metrics,
            "steps": steps,
            "state_digest": state_digest(fitted.state),
        }
        print(json.dumps(result), flush=True)
        report(config, task, fitted.best, evaluation, records, workdir=workdir, split="test")
