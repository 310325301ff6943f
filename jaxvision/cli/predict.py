"""Predicts for images, with the best checkpoint of a run or with Darknet's weights.

  jaxvision predict --workdir=runs/mine --out=found photo.jpg folder 'more/**/*.png'
  jaxvision predict --cfg=yolov3.cfg --weights=yolov3.weights --names=coco.names --out=found *.jpg

--out gets predictions.json and, for each image, of a run for

  detection     a picture with boxes; `label`, `bbox` ([x, y, width, height] in pixels of the image)
                and `score` of each object
  segmentation  a picture with coloured regions, and in labels/ a palette PNG of the classes; the
                share of the pixels of each class. Where the training resized nothing, images of any
                size are cut into overlapping tiles
  landmarks     a picture with points; `label`, `point` ([x, y]) and `score` of each
  restoration   the restored image, and in beside/ a picture of both

An image that cannot be read is reported, and the rest goes on; the exit code is then 1. The last
line on stdout is a summary, as JSON.
"""

import itertools
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
from absl import flags
from tqdm import tqdm

from jaxvision.cli import arguments, assemble
from jaxvision.cli.results import MAKERS, Maker, detections_maker, write
from jaxvision.core import InputError, check_range
from jaxvision.core.files import replace_text
from jaxvision.engine import say
from jaxvision.interop import read_cfg, read_weights
from jaxvision.predict import Failed, Predictor, find_images, output_names, predict_of_darknet

RESULT = "predictions.json"
_DARKNET = ("cfg", "weights", "names")


def main(argv: list[str]) -> int:
    """The command; returns its exit code."""
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
        "iou", 0.45, "of two boxes of a class that overlap more, one stays", flag_values=values
    )
    flags.DEFINE_integer("most", 100, "objects in an image at most", flag_values=values)
    flags.DEFINE_integer("batch_size", 8, "images at a time", flag_values=values)
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
    maker = _maker(values)
    out = pathlib.Path(values.out).expanduser()
    files = [
        [out / pattern.format(name) for pattern in maker.names] for name in output_names(paths)
    ]
    _check_apart(files, paths)
    out.mkdir(parents=True, exist_ok=True)

    images: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    results = maker.make(paths, min(values.batch_size, len(paths)))
    bar = tqdm(results, total=len(paths), unit="image", disable=not sys.stderr.isatty())
    try:
        for path, places, result in zip(paths, files, bar, strict=True):
            if isinstance(result, Failed):
                tqdm.write(f"failed: {result.reason}", file=sys.stderr)
                failed.append({"file": str(path), "reason": result.reason})
                continue
            for place, array in zip(places, result.files, strict=True):
                write(place, array)
            height, width = result.size
            about = {"file": str(path), "picture": str(places[0]), "width": width, "height": height}
            images.append({**about, **result.entry})
    finally:  # interrupted, it leaves what it has
        replace_text(out / RESULT, json.dumps({"images": images, "failed": failed}, indent=1))
    summary: dict[str, Any] = {"images": len(images), "failed": len(failed), "out": str(out)}
    if any("detections" in entry for entry in images):
        summary["objects"] = sum(len(entry["detections"]) for entry in images)
    print(json.dumps(summary), flush=True)
    return 1 if failed else 0


def _check_apart(files: Sequence[Sequence[pathlib.Path]], paths: Sequence[pathlib.Path]) -> None:
    """Raises InputError if a file would take the place of an image."""
    images = {path.resolve() for path in paths}
    for file in itertools.chain.from_iterable(files):
        if file.resolve() in images:
            raise InputError(f"{file} is one of the images: give another folder as --out")


def _maker(values: flags.FlagValues) -> Maker:
    given = [name for name in _DARKNET if values[name].value]
    if bool(values.workdir) == bool(given) or len(given) not in (0, len(_DARKNET)):
        raise InputError("give either --workdir, or all of --cfg, --weights and --names")
    return detections_maker(_of_darknet(values)) if given else _of_run(values)


def _of_run(values: flags.FlagValues) -> Maker:
    workdir = pathlib.Path(values.workdir).expanduser()
    config = assemble.saved_config(workdir)
    if config.task not in MAKERS:
        raise InputError(
            f"the run in {workdir} is for {config.task}: predict takes {', '.join(MAKERS)}"
        )
    if config.task == "detection":
        config.detect.score_threshold = values.score
        config.detect.iou_threshold = values.iou
        config.detect.max_detections = values.most
    task, best = assemble.open_run(workdir, config)
    say(f"the checkpoint of step {best.step} in {workdir}")
    return MAKERS[config.task](config, task, best.state.averaged)


def _of_darknet(values: flags.FlagValues) -> Predictor:
    description = read_cfg(pathlib.Path(values.cfg).expanduser())
    predict = predict_of_darknet(
        description,
        score_threshold=values.score,
        iou_threshold=values.iou,
        max_detections=values.most,
    )
    size = description.image[:2]
    heads = description.heads(*size)
    names = _names(pathlib.Path(values.names).expanduser(), heads[0].num_classes)
    return Predictor(
        predict=predict,
        variables=jax.device_put(
            read_weights(pathlib.Path(values.weights).expanduser(), description)
        ),
        image_size=size,
        # As in Darknet: YOLOv1's images were stretched, those of later versions are not.
        resize="stretch" if heads[0].kind == "detection" else "letterbox",
        class_names=names,
    )


def _names(path: pathlib.Path, count: int) -> tuple[str, ...]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--names={path} cannot be read: {error}") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if len(names) != count:
        raise InputError(f"{path} has {len(names)} names, but the network has {count} classes")
    return names
