"""Evaluates the best checkpoint of a run, with the config saved there.

  python eval.py --workdir=runs/digits_lenet5
  python eval.py --workdir=runs/digits_lenet5 --split=validation

The last line on stdout is the result, as JSON; `steps` and `state_digest` are the evaluated
checkpoint's.
"""

import json
import pathlib

import jax
from absl import flags
from ml_collections import ConfigDict

from jaxvision.cli import arguments, assemble
from jaxvision.core import InputError
from jaxvision.engine import (
    CHECKPOINTS,
    Checkpoints,
    Parallel,
    evaluate,
    init_state,
    make_evaluate,
    make_optimizer,
    read_config,
    state_digest,
)


def main(argv: list[str]) -> None:
    values = arguments.common_flags()
    flags.DEFINE_string("split", "test", "test, validation or train", flag_values=values)
    arguments.parse(values, argv, __doc__)
    if not values.workdir:
        raise InputError("no --workdir: give the folder of the run to evaluate")
    workdir = pathlib.Path(values.workdir)
    config = ConfigDict(read_config(workdir))

    assemble.set_determinism(config)
    arguments.join_processes(values)
    task = assemble.make_task(config)
    parallel = Parallel(config.parallel)
    parallel.check_batch_size(config.batch_size)
    like = init_state(task, make_optimizer(config.optimizer, steps=config.steps), config.seed)
    with Checkpoints(
        workdir / CHECKPOINTS,
        criterion=assemble.make_criterion(config),
        parallel=parallel,
        read_only=True,
    ) as checkpoints:
        best = checkpoints.restore_best(like)
    if best is None:
        raise InputError(f"no checkpoint in {workdir / CHECKPOINTS}: train first")
    metrics = evaluate(
        make_evaluate(task, parallel=parallel),
        best.state,
        assemble.eval_data(config, values.split),
        parallel=parallel,
    )
    if jax.process_index() == 0:
        result = {
            "split": values.split,
            **metrics,
            "steps": best.step,
            "state_digest": state_digest(best.state),
        }
        print(json.dumps(result), flush=True)
