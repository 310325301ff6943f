"""`jaxvision eval --predictions`: measures what another program found."""

import json
import pathlib

from absl import flags

from jaxvision.cli import arguments, setup
from jaxvision.cli.config import default_config, find_config, load_config
from jaxvision.cli.kinds.kind import Shown
from jaxvision.cli.network import read_names
from jaxvision.cli.options import option_paths
from jaxvision.cli.report import report_of
from jaxvision.core import InputError
from jaxvision.data import read_coco_results
from jaxvision.engine import Evaluation, log
from jaxvision.metrics import COCO_KEYPOINT_SIGMAS
from jaxvision.tasks import measure_detections

CATEGORY_IDS = {"data": None, "from0": 0, "from1": 1}
"""Choice of --category_ids -> the id of the first class; None: those of the data."""
_SIGMAS = "detector.keypoint_sigmas"
_PATHS = {"confusion_score": "data.confusion_score", "keypoint_sigmas": _SIGMAS}
"""Option of `measure_detections` -> key of the config."""


def define_flags(values: flags.FlagValues) -> None:
    """Defines --predictions with its options, and the flags of an evaluation's data and files."""
    flags.DEFINE_string(
        "predictions",
        None,
        "file in COCO's form of results, which is measured in place of a network",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "category_ids",
        "data",
        list(CATEGORY_IDS),
        "how --predictions numbers the classes: by the ids of COCO's form (from 1 where the data "
        "have none), from 0, or from 1",
        flag_values=values,
    )
    flags.DEFINE_string("split", "test", "test, validation or train", flag_values=values)
    flags.DEFINE_string(
        "out", None, "folder for the files; that of the run if left out", flag_values=values
    )


def evaluate_predictions(argv: list[str], usage: str) -> None:
    """The command with --predictions; its result goes to stdout.

    Args:
      argv: the arguments, the name of the command first.
      usage: text of --help.
    Raises:
      InputError: the data or the file cannot be read, or do not fit each other.
    """
    values = flags.FlagValues()
    define_flags(values)
    arguments.define_data(values)
    flags.DEFINE_string(
        "names", None, "file with the names of the classes, a line each", flag_values=values
    )
    name, rest = arguments.take_config(argv, "")
    config = load_config(find_config(name)) if name else default_config("detection")
    if config.task != "detection":
        raise InputError(f"--predictions is for detection, but the config is for {config.task}")
    if not name:
        config.data.update(source="", validation_fraction=0.0)
        config.detector.keypoint_sigmas = COCO_KEYPOINT_SIGMAS
    arguments.define_keys(values, config, rest)
    for key, _ in arguments.given_keys(rest):
        if key != _SIGMAS and key.partition(".")[0] != "data":
            raise InputError(
                f"config.{key} has no effect on --predictions: give keys of config.data, or "
                f"config.{_SIGMAS}"
            )
    arguments.parse(values, rest, usage)
    config, path = values.config, pathlib.Path(values.predictions).expanduser()
    if values.names:
        config.data.class_names = read_names(values.names)
    unknown = "" if config.data.source else "--predictions says nothing of data"
    how = {"folder": values.data, "source": values.source, "unknown": unknown}
    setup.set_data(config, values.split, **how)
    splits = setup.Splits(config)
    setup.name_classes(splits, config, split=values.split)
    records = splits.open(values.split)
    class_names = tuple(config.data.class_names)
    first = CATEGORY_IDS[values.category_ids]
    ids = None if first is None else range(first, first + len(class_names))
    parts = {"masks": config.data.masks, "keypoints": config.data.keypoints}
    found = read_coco_results(path, records, category_ids=ids, **parts)
    log(f"{path}: {int(found.valid.sum())} detections in {len(records)} images")
    with option_paths("config", **_PATHS):
        summary = measure_detections(
            found,
            records,
            class_names=class_names,
            voc_inclusive=config.data.voc_inclusive,
            confusion_score=config.data.confusion_score,
            keypoint_sigmas=config.detector.get("keypoint_sigmas", COCO_KEYPOINT_SIGMAS),
        )
    print(json.dumps({"split": values.split, **summary.numbers}), flush=True)
    evaluation = Evaluation(summary.numbers, summary.tables, found)
    shown = Shown(class_names, evaluation, records)
    folder = pathlib.Path(values.out).expanduser() if values.out else None
    kind = setup.kind_of(config)
    report_of(kind, class_names, evaluation, lambda: shown, folder=folder, split=values.split)
