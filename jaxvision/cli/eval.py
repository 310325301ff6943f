"""Evaluates the best checkpoint of a run.

  python eval.py --workdir=runs/digits_lenet5
  python eval.py --workdir=runs/digits_lenet5 --split=validation
  python eval.py --workdir=runs/mine --data=FOLDER          # also for a run made in Python

It prints the table of the classes, or what its task has instead, and writes into the run's folder
(for classifiers, SPLIT stands for the split):

  classes_SPLIT.csv      images, precision, recall and F1 score of each class
  confusions_SPLIT.csv   how often each class was taken for each; drawn in confusions_SPLIT.png, of
                         more than 30 classes the pairs that are confused most often
  calibration_SPLIT.csv  the accuracy at each confidence; drawn in calibration_SPLIT.png
  mistakes_SPLIT.csv     all mistakes, the most confident one first, and mistakes_SPLIT.png, the
                         first of them

Other tasks get predictions_SPLIT.png, predictions beside the truth. The numbers of a classifier are
accuracy, top5_accuracy if there are more than 5 classes, and ece, the expected calibration error:
how far confidence and accuracy are apart, on average.

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
    opened = _open(values, workdir)
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


def _open(values: flags.FlagValues, workdir: pathlib.Path) -> setup.Opened:
    """What the flags say is evaluated."""
    return setup.open_run(workdir, trust=values.trust_code)
