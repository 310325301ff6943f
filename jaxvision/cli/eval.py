"""Evaluates the best checkpoint of a run.

  python eval.py --workdir=runs/digits_lenet5
  python eval.py --workdir=runs/digits_lenet5 --split=validation
  python eval.py --workdir=runs/mine --data=FOLDER          # a run that was made in Python, too

Nothing that the run names is imported. Where its network, detector or decoding is code of your
own, give its file by --trust-code; its loss, augmentation and optimizer are not needed. The last
line on stdout is the result, as JSON; `steps` and `variables_digest` are those of the evaluated
checkpoint.
"""

import json
import pathlib

import jax
from absl import flags

from jaxvision.cli import arguments, setup
from jaxvision.cli.report import report
from jaxvision.core import InputError
from jaxvision.data import FORMS, find_form
from jaxvision.engine import Parallel, evaluate, read_run, state_digest


def main(argv: list[str]) -> None:
    """The command; its result goes to stdout."""
    values = arguments.common_flags()
    arguments.define_trust(values)
    flags.DEFINE_string("split", "test", "test, validation or train", flag_values=values)
    flags.DEFINE_string(
        "data", None, "folder of the data, if it is another by now", flag_values=values
    )
    flags.DEFINE_string("source", None, "form of --data; found out if left out", flag_values=values)
    arguments.parse(values, argv, __doc__)
    if not values.workdir:
        raise InputError("no --workdir: give the folder of the run to evaluate")
    workdir = pathlib.Path(values.workdir).expanduser()
    opened = setup.open_run(workdir, trust=values.trust_code)
    config = opened.config
    _set_data(config, values, workdir)
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


def _set_data(config: object, values: flags.FlagValues, workdir: pathlib.Path) -> None:
    """Makes the data of a config those of --data."""
    in_python = read_run(workdir).get("config") is None
    if in_python and not values.data:
        raise InputError(
            f"the run in {workdir} was made in Python and does not say what to evaluate it on: "
            "give --data=FOLDER"
        )
    if values.data:
        config.data.dir = values.data
    sources = setup.kind_of(config).sources
    if values.source:
        config.data.source = values.source
    elif in_python:
        if "folder" in sources:
            config.data.source = "folder"
        elif set(FORMS) <= sources.keys():
            folder = pathlib.Path(values.data).expanduser()
            config.data.source = find_form(folder, values.split)
