"""Predicts for images, with the best checkpoint of a run or with Darknet's weights.

  jaxvision predict --workdir=runs/mine --out=found photo.jpg folder 'more/**/*.png'
  jaxvision predict --cfg=yolov3.cfg --weights=yolov3.weights --names=coco.names --out=found *.jpg

--out gets predictions.json, and for each image:

  classification  a picture with its class; `label` and the five highest `probabilities`
  detection       a picture with boxes; `label`, `bbox` ([x, y, width, height] in pixels of the
                  image) and `score` of each object
  segmentation    a picture with coloured regions; a PNG of the classes in labels/; the share of
                  the pixels of each class. If training did not resize images, images of any size
                  are cut into overlapping tiles
  landmarks       a picture with points; `label`, `point` ([x, y]) and `score` of each
  restoration     the restored image, and a picture of both in beside/

No code that the run names is imported. If its network, detector or decoding is your own code, give
its file by --trust-code. An image that cannot be read is reported, the others are predicted, and
the exit code is then 1. The last line on stdout is a summary, as JSON.
"""

import itertools
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from tqdm import tqdm

from jaxvision.cli import arguments, setup
from jaxvision.cli.kinds import KINDS, Kind
from jaxvision.cli.options import flag_errors
from jaxvision.core import InputError, Task, check_range, lookup
from jaxvision.core.files import replace_text
from jaxvision.engine import log
from jaxvision.interop import read_cfg, read_weights
from jaxvision.predict import (
    Failed,
    darknet_task,
    find_images,
    output_names,
    predict,
    write_label_png,
    write_picture,
)

RESULT = "predictions.json"
_DARKNET = ("cfg", "weights", "names")


def main(argv: list[str]) -> int:
    """The command; returns its exit code."""
    values = _flags()
    given = arguments.parse_with_rest(values, argv, __doc__)
    for name in ("score", "iou"):
        check_range(f"--{name}", values[name].value, least=0, most=1)
    for name in ("most", "batch_size"):
        check_range(f"--{name}", values[name].value, least=1)
    if not values.out:
        raise InputError("no --out: give the folder for the pictures")
    if not given:
        raise InputError("no images: give files, folders or patterns")
    paths = find_images(given)
    model = _model(values)
    out = pathlib.Path(values.out).expanduser()
    files = [
        [out / pattern.format(name) for pattern in model.kind.files] for name in output_names(paths)
    ]
    _check_apart(files, paths)
    out.mkdir(parents=True, exist_ok=True)

    images: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    found = predict(model.task, model.variables, paths, batch_size=values.batch_size)
    bar = tqdm(found, total=len(paths), unit="image", disable=not sys.stderr.isatty())
    try:
        for path, places, prediction in zip(paths, files, bar, strict=True):
            if isinstance(prediction, Failed):
                tqdm.write(f"failed: {prediction.reason}", file=sys.stderr)
                failed.append({"file": str(path), "reason": prediction.reason})
                continue
            result = model.kind.results(prediction, model.task)
            for place, array in zip(places, result.files, strict=True):
                _write(place, array)
            height, width = prediction.image.shape[:2]
            about = {"file": str(path), "picture": str(places[0]), "width": width, "height": height}
            images.append({**about, **result.entry})
    finally:  # interrupted, it leaves what it has
        replace_text(out / RESULT, json.dumps({"images": images, "failed": failed}, indent=1))
    summary: dict[str, Any] = {"images": len(images), "failed": len(failed), "out": str(out)}
    if any("detections" in entry for entry in images):
        summary["objects"] = sum(len(entry["detections"]) for entry in images)
    print(json.dumps(summary), flush=True)
    return 1 if failed else 0


def _flags() -> flags.FlagValues:
    values = flags.FlagValues()
    for name, meaning in (
        ("workdir", "folder of a run: its best checkpoint predicts"),
        ("cfg", "instead of a run: Darknet's description of a detector"),
        ("weights", "with it: the weights"),
        ("names", "with it: the names of the classes, a line each"),
        ("out", "folder for the pictures and predictions.json; made if it is not there"),
    ):
        flags.DEFINE_string(name, None, meaning, flag_values=values)
    flags.DEFINE_float("score", 0.3, "least score of what is found", flag_values=values)
    flags.DEFINE_float(
        "iou", 0.45, "IoU with a better box of its class that suppresses a box", flag_values=values
    )
    flags.DEFINE_integer("most", 100, "objects in an image at most", flag_values=values)
    flags.DEFINE_integer("batch_size", 8, "images at a time", flag_values=values)
    arguments.define_trust(values)
    return values


class _Model(NamedTuple):
    """What predicts: a task with its variables, and what the command line knows of its kind."""

    kind: Kind
    task: Task
    variables: Any


def _write(path: pathlib.Path, array: np.ndarray) -> None:
    """Writes a picture, or labels of pixels, as a PNG; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (write_picture if array.ndim == 3 else write_label_png)(path, array)


def _check_apart(files: Sequence[Sequence[pathlib.Path]], paths: Sequence[pathlib.Path]) -> None:
    """Raises InputError if a file would take the place of an image."""
    images = {path.resolve() for path in paths}
    for file in itertools.chain.from_iterable(files):
        if file.resolve() in images:
            raise InputError(f"{file} is one of the images: give another folder as --out")


def _model(values: flags.FlagValues) -> _Model:
    given = [name for name in _DARKNET if values[name].value]
    if bool(values.workdir) == bool(given) or len(given) not in (0, len(_DARKNET)):
        raise InputError("give either --workdir, or all of --cfg, --weights and --names")
    return _of_darknet(values) if given else _of_run(values)


def _of_run(values: flags.FlagValues) -> _Model:
    workdir = pathlib.Path(values.workdir).expanduser()
    decode = {
        "score_threshold": values.score,
        "iou_threshold": values.iou,
        "max_detections": values.most,
    }
    opened = setup.open_run(workdir, trust=values.trust_code, decode=decode)
    log(f"the checkpoint of step {opened.step} in {workdir}")
    return _Model(lookup(KINDS, opened.task.kind, "task"), opened.task, opened.variables)


def _of_darknet(values: flags.FlagValues) -> _Model:
    description = read_cfg(pathlib.Path(values.cfg).expanduser())
    with flag_errors(class_names="names"):
        task = darknet_task(
            description,
            class_names=_names(pathlib.Path(values.names).expanduser()),
            score_threshold=values.score,
            iou_threshold=values.iou,
            max_detections=values.most,
        )
    variables = read_weights(pathlib.Path(values.weights).expanduser(), description)
    return _Model(KINDS["detection"], task, variables)


def _names(path: pathlib.Path) -> tuple[str, ...]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--names={path} cannot be read: {error}") from error
    return tuple(line.strip() for line in lines if line.strip())
