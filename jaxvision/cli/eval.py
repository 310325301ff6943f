"""Evaluates the best checkpoint of a run, third-party weights, or what another program found.

  python eval.py --workdir=runs/digits_lenet5
  python eval.py --workdir=runs/digits_lenet5 --split=validation
  python eval.py --workdir=runs/mine --data=FOLDER          # also for a run made in Python
  python eval.py --model=resnet50 --weights=DEFAULT --data=imagenet --split=val  # published ones
  python eval.py --model=resnet50 --weights=FILE --data=photos --split=val
  python eval.py --config=imagenet_resnet50 --weights=FILE --config.data.dir=photos
  python eval.py --cfg=yolov4.cfg --weights=yolov4.weights --data=coco --split=val2017
  python eval.py --predictions=results.json --data=coco --split=val2017 --out=report

With --model or --config the weights are published ones by their name (MODEL:NAME, or NAME beside
--model; `jaxvision models --weights` lists them), a file in torch's layout, a folder of `jaxvision
convert` or of a run, or hub:OWNER/NAME; nothing is trained. --prefix and --key-map rename the keys
of third parties, and --config.model.KEY and --config.data.KEY say which fields the model has and
how images are prepared.

It prints the table of the classes, or what its task has instead, and writes into the folder of the
run, or that of --out, where SPLIT stands for the split, of a classifier

  classes_SPLIT.csv      images, precision, recall and F1 score of each class
  confusions_SPLIT.csv   how often each class was taken for each; drawn in confusions_SPLIT.png, of
                         more than 30 classes the pairs that are confused most often; of more than
                         2,000 classes there is no such table
  calibration_SPLIT.csv  the accuracy at each confidence; drawn in calibration_SPLIT.png
  mistakes_SPLIT.csv     all mistakes, the most confident one first, and mistakes_SPLIT.png, the
                         first of them

of a detector

  classes_SPLIT.csv      objects and average precision of each class
  precision_recall_SPLIT.csv  the precision at 101 recalls, at an IoU of 0.5 and of 0.75, of each
                         class and the mean; drawn in precision_recall_SPLIT.png. Those
                         of masks are in mask_precision_recall_SPLIT.csv and .png
  confusions_SPLIT.csv   how often each class was found for each, with the background: missed
                         objects and false detections; drawn in confusions_SPLIT.png. Detections
                         count whose score is at least config.data.confusion_score
  detections_SPLIT.json  all detections in COCO's form of results, for other tools, with masks and
                         keypoints if it finds them; boxes are in pixels of the original images

and, of a detector as of the other tasks, predictions_SPLIT.png, predictions beside the truth. The
numbers of a classifier are accuracy, top5_accuracy if there are more than 5 classes, and ece, the
expected calibration error: how far confidence and accuracy are apart, on average.

--predictions is a file in COCO's form of results, of any tool, whose detections are measured by the
objects of --data, a folder in the form of VOC, COCO or YOLO. An image_id is COCO's, or the name of
the image's file with or without the suffix, also as a number; the files of this command have the
name without the suffix, as a number if all are numbers. A category_id is that of COCO's annotation
file, such as 90 for a toothbrush, or 1 for the first class where there is none. Where the file
numbers the classes from 0 or 1 in place of the annotation file's ids, --category_ids=from0 or from1
says so. Keys of the data may be set: --config.data.masks=True and --config.data.keypoints=True
measure these too, of other keypoints than COCO's with --config.detector.keypoint_sigmas.

No code that a run names is imported. If its network, detector or decoding is your own code, give
its file by --trust-code. Its loss, augmentation and optimizer are not needed. The last line on
stdout is the result, as JSON; `steps` and `variables_digest` are those of the evaluated checkpoint.
"""

import json
import pathlib

import jax
from absl import flags

from jaxvision.cli import arguments, network, predicted, setup
from jaxvision.cli.processes import define_processes, join_processes
from jaxvision.cli.report import report
from jaxvision.core import InputError
from jaxvision.engine import Parallel, evaluate, state_digest


def main(argv: list[str]) -> None:
    """The command; its result goes to stdout."""
    if arguments.value_of(argv, "predictions") is not None:
        predicted.evaluate_predictions(argv, __doc__)
        return
    values = flags.FlagValues()
    predicted.define_flags(values)
    define_processes(values)
    arguments.define_trust(values)
    arguments.define_data(values)
    arguments.refuse_rest(network.parse(values, argv, __doc__))
    if values["category_ids"].present:
        raise InputError("--category_ids goes with --predictions: leave it out")
    join_processes(values)
    opened = network.open_network(values, split=values.split)
    config = opened.config
    parallel = Parallel(config.parallel)
    config.batch_size = parallel.fitting(config.batch_size)
    records = opened.records(values.split)
    if jax.process_index() == 0:
        network.log_network(values, opened)
    evaluation = evaluate(
        opened.task,
        opened.variables,
        setup.eval_data(config, opened.built, records),
        parallel=parallel,
    )
    if jax.process_index() == 0:
        of_run = {} if opened.step is None else {"steps": opened.step}
        result = {
            "split": values.split,
            **evaluation.metrics,
            **of_run,
            "variables_digest": state_digest(opened.variables),
        }
        print(json.dumps(result), flush=True)
        out = values.out or values.workdir
        folder = pathlib.Path(out).expanduser() if out else None
        how = {"folder": folder, "split": values.split}
        report(config, opened.built, opened.variables, evaluation, records, **how)
