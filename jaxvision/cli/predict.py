"""Finds objects in images, with the best checkpoint of a run or with Darknet's weights.

  jaxvision predict --workdir=runs/mine --out=found photo.jpg folder 'more/**/*.png'
  jaxvision predict --cfg=yolov3.cfg --weights=yolov3.weights --names=coco.names --out=found *.jpg

--out gets a picture of each image with its boxes, labels and scores, and predictions.json with
`label`, `bbox` ([x, y, width, height] in pixels of the image) and `score` of each object. An image
that cannot be read is reported, and the rest goes on; the exit code is then 1. The last line on
stdout is a summary, as JSON.
"""

import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import flags
from PIL import Image
from tqdm import tqdm

from jaxvision.cli import arguments, assemble
from jaxvision.core import InputError, check_range
from jaxvision.core.files import replace_text, replacing
from jaxvision.engine import Parallel, say
from jaxvision.interop import read_cfg, read_weights
from jaxvision.predict import (
    Detector,
    Failed,
    Found,
    detect_in_files,
    draw_detections,
    find_images,
    output_names,
    predict_of_darknet,
    predict_of_task,
)

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
    out = pathlib.Path(values.out).expanduser()
    pictures = [out / f"{name}.png" for name in output_names(paths)]
    _check_apart(pictures, paths)
    detector = _detector(values)
    out.mkdir(parents=True, exist_ok=True)

    images: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    results = detect_in_files(detector, paths, batch_size=min(values.batch_size, len(paths)))
    bar = tqdm(results, total=len(paths), unit="image", disable=not sys.stderr.isatty())
    try:
        for picture, result in zip(pictures, bar, strict=True):
            if isinstance(result, Failed):
                tqdm.write(f"failed: {result.reason}", file=sys.stderr)
                failed.append({"file": str(result.path), "reason": result.reason})
            else:
                _draw(result, detector, picture)
                images.append(_entry(result, detector, picture))
    finally:  # interrupted, it leaves what it has
        replace_text(out / RESULT, json.dumps({"images": images, "failed": failed}, indent=1))
    summary = {
        "images": len(images),
        "objects": sum(len(entry["detections"]) for entry in images),
        "failed": len(failed),
        "out": str(out),
    }
    print(json.dumps(summary), flush=True)
    return 1 if failed else 0


def _check_apart(pictures: Sequence[pathlib.Path], paths: Sequence[pathlib.Path]) -> None:
    """Raises InputError if a picture would take the place of an image."""
    images = {path.resolve() for path in paths}
    for picture in pictures:
        if picture.resolve() in images:
            raise InputError(f"{picture} is one of the images: give another folder as --out")


def _detector(values: flags.FlagValues) -> Detector:
    given = [name for name in _DARKNET if values[name].value]
    if bool(values.workdir) == bool(given) or len(given) not in (0, len(_DARKNET)):
        raise InputError("give either --workdir, or all of --cfg, --weights and --names")
    return _of_darknet(values) if given else _of_run(values)


def _of_run(values: flags.FlagValues) -> Detector:
    workdir = pathlib.Path(values.workdir).expanduser()
    config = assemble.saved_config(workdir)
    if config.task != "detection":
        raise InputError(f"the run in {workdir} is for {config.task}: it finds no objects")
    config.detect.score_threshold = values.score
    config.detect.iou_threshold = values.iou
    config.detect.max_detections = values.most
    task = assemble.make_task(config)
    parallel = Parallel(devices=jax.local_devices()[:1])
    best = assemble.restore_best(workdir, config, task, parallel)
    say(f"the checkpoint of step {best.step} in {workdir}")
    return Detector(
        predict=predict_of_task(task),
        variables=best.state.variables,
        image_size=(config.data.image_size, config.data.image_size),
        resize=config.data.resize,
        class_names=tuple(config.data.class_names),
    )


def _of_darknet(values: flags.FlagValues) -> Detector:
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
    return Detector(
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


def _draw(found: Found, detector: Detector, picture: pathlib.Path) -> None:
    drawn = draw_detections(
        found.image, found.boxes, found.labels, found.scores, detector.class_names
    )
    with replacing(picture, "wb") as stream:
        Image.fromarray(drawn).save(stream, format="png")


def _entry(found: Found, detector: Detector, picture: pathlib.Path) -> dict[str, Any]:
    height, width = found.image.shape[:2]
    corner, size = found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]
    boxes = np.concatenate([corner, size], axis=1)
    return {
        "file": str(found.path),
        "picture": str(picture),
        "width": width,
        "height": height,
        "detections": [
            {
                "label": detector.class_names[label],
                "bbox": [round(x, 3) for x in box],
                "score": round(score, 5),
            }
            for label, box, score in zip(
                found.labels.tolist(), boxes.tolist(), found.scores.tolist(), strict=True
            )
        ],
    }
