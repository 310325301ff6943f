"""Evaluates the best checkpoint of a run.

  python eval.py --workdir=runs/digits_lenet5
  python eval.py --workdir=runs/digits_lenet5 --split=validation
  python eval.py --workdir=runs/mine --data=FOLDER          # also for a run made in Python

No code that the run names is imported. If its network, detector or decoding is your own code, give
its file by --trust-code. Its loss, augmentation and optimizer are not needed. The last line on
stdout is the result, as JSON; `steps` and `variables_digest` are those of the evaluated checkpoint.
"""

import json
import pathlib

import jax
from absl import flags

from jaxvision.cli import arguments, setup
from jaxvision.cli.report import report
from jaxvision.core import InputError
from jaxvision.engine import Parallel, evaluate, state_digest


def main(argv: list[str]) -> None:
    """The command; its result goes to stdout."""
    values = arguments.common_flags()
    arguments.define_trust(values)
    flags.DEFINE_string("split", "test", "test, validation or train", flag_values=values)
    arguments.define_data(values)
    arguments.parse(values, argv, __doc__)
    if not values.workdir:
        raise InputError("no --workdir: give the folder of the run to evaluate")
    workdir = pathlib.Path(values.workdir).expanduser()
    opened = setup.open_run(workdir, trust=values.trust_code)
    config = opened.config
    setup.set_data(opened, workdir, values.split, folder=values.data, source=values.source)
    setup.set_determinism(config)
    arguments.join_processes(values)
    parallel = Parallel(config.parallel)
    config.batch_size = parallel.fitting(config.batch_size)
    records = setup.open_data(config).open(values.split)
    evaluation = evaluate(
        opened.task,
        opened.variables,
        setup.eval_data(config, opened.built, records),
        parallel=parallel,
    )
    if jax.process_index() == 0:
        result = {
            "split": values.split,
            **evaluation.metrics,
            "steps": opened.step,
            "variables_digest": state_digest(opened.variables),
        }
        print(json.dumps(result), flush=True)
        how = {"workdir": workdir, "split": values.split}
        report(config, opened.built, opened.variables, evaluation, records, **how)
