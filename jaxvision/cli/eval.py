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

from jaxvision.cli import arguments, assemble
from jaxvision.cli.report import report
from jaxvision.core import InputError
from jaxvision.engine import Parallel, make_evaluate, state_digest


def main(argv: list[str]) -> None:
    """The command; its result goes to stdout."""
    values = arguments.common_flags()
    flags.DEFINE_string("split", "test", "test, validation or train", flag_values=values)
    flags.DEFINE_string(
        "data_dir", None, "folder of the data, if it is another by now", flag_values=values
    )
    arguments.parse(values, argv, __doc__)
    if not values.workdir:
        raise InputError("no --workdir: give the folder of the run to evaluate")
    workdir = pathlib.Path(values.workdir).expanduser()
    config = assemble.saved_config(workdir, data_dir=values.data_dir)
    assemble.set_determinism(config)
    arguments.join_processes(values)
    task = assemble.make_task(config)
    parallel = Parallel(config.parallel)
    config.batch_size = parallel.fitting(config.batch_size)
    best = assemble.restore_best(workdir, config, task, parallel)
    records = assemble.open_records(assemble.open_data(config), values.split)
    evaluation = make_evaluate(task, parallel=parallel)(
        best.state, assemble.eval_data(config, records)
    )
    if jax.process_index() == 0:
        result = {
            "split": values.split,
            **evaluation.metrics,
            "steps": best.step,
            "state_digest": state_digest(best.state),
        }
        print(json.dumps(result), flush=True)
        report(config, task, best.state, evaluation, records, workdir=workdir, split=values.split)
