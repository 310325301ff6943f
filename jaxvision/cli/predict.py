"""Predicts for images and videos, with the best checkpoint of a run or with published weights.

  jaxvision predict --workdir=runs/mine --out=found photo.jpg folder 'more/**/*.png'
  jaxvision predict --workdir=runs/mine --out=found -r folder film.mp4
  jaxvision predict --weights=fasterrcnn_resnet50_fpn_v2:DEFAULT --out=found photo.jpg
  jaxvision predict --model=resnet50 --weights=FILE --names=classes.txt --out=found photo.jpg
  jaxvision predict --cfg=yolov3.cfg --weights=yolov3.weights --names=coco.names --out=found *.jpg

A folder stands for the images and videos directly in it, with -r also for those in all folders
below it; a pattern in quotes for those that match it. Size, grey or RGB, mean and std of the
network's input are those of the run, of a --config, or of the published weights of a --model;
--config.data.KEY and --config.model.KEY change what the last two say. --out gets predictions.json,
and for each image:

  classification  a picture with its classes; `label`, and the --top-k most probable `classes` with
                  their `score`
  detection       a picture with boxes; `label`, `bbox` ([x, y, width, height] in pixels of the
                  image) and `score` of each object. Of detectors that find masks, the picture
                  has these too, and `segmentation` is the mask as in COCO's results: `size`
                  ([height, width]) and `counts`, its compressed run-lengths
  segmentation    a picture with coloured regions; a PNG of the classes in labels/; the share of
                  the pixels of each class. If training did not resize images, images of any size
                  are cut into overlapping tiles
  landmarks       a picture with points; `label`, `point` ([x, y]) and `score` of each
  restoration     the restored image, and a picture of both in beside/

predictions.csv has the same numbers: a row for each image and rank, object, landmark or class of
pixels. Restoration has none.

A video becomes an MP4 with the pictures of all frames, of the same frame rate and size (odd sides
grow by one pixel), without sound. predictions.json has the same entry for each frame, with its
number `frame` and its `time` in seconds. This needs PyAV: pip install 'jaxvision[video]'.

--weights=MODEL:NAME are published weights, which are downloaded and kept; `jaxvision models
--weights` lists them. Others are a file in torch's layout, a folder of `jaxvision convert` or of a
run, or hub:OWNER/NAME, for a --model or --config; --prefix and --key-map rename the keys of third
parties.

No code that the run names is imported. If its network, detector or decoding is your own code, give
its file by --trust-code. An image or video that cannot be read is reported, the others are
predicted, and the exit code is then 1. Of a video that is damaged, the frames before the damage are
kept. The last line on stdout is a summary, as JSON.
"""

import contextlib
import itertools
import json
import pathlib
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from tqdm import tqdm

from jaxvision.cli import arguments, network
from jaxvision.cli.kinds import KINDS, Kind, Result
from jaxvision.cli.predictions import Predictions
from jaxvision.core import InputError, Task, check_range, listed, lookup
from jaxvision.core.threads import in_order
from jaxvision.data import IMAGE_SUFFIXES, VIDEO_SUFFIXES, VideoFrames
from jaxvision.data.video import import_av
from jaxvision.predict import (
    Failed,
    Prediction,
    VideoWriter,
    find_images,
    output_names,
    predict,
    write_label_png,
    write_picture,
)


def main(argv: list[str]) -> int:
    """The command; returns its exit code."""
    values = _flags()
    given = network.parse(values, argv, __doc__)
    for name in ("score", "iou"):
        check_range(f"--{name}", values[name].value, least=0, most=1)
    for name in ("most", "batch_size", "top_k"):
        check_range(f"--{name}", values[name].value, least=1)
    if not values.out:
        raise InputError("no --out: give the folder for the pictures")
    if not given:
        raise InputError("no images: give files, folders or patterns")
    suffixes = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
    paths = find_images(given, recursive=values.recursive, suffixes=suffixes)
    if any(map(_is_video, paths)):
        import_av()  # before anything is predicted
    model = _model(values)
    out = pathlib.Path(values.out).expanduser()
    places = {
        path: [out / pattern.format(name) for pattern in _patterns(path, model.kind)]
        for path, name in zip(paths, output_names(paths), strict=True)
    }
    _check_apart(places.values(), paths)
    out.mkdir(parents=True, exist_ok=True)

    found = Predictions(model.kind.name, out)
    try:
        images = {path: files for path, files in places.items() if not _is_video(path)}
        _predict_images(model, images, found, values)
        for path in filter(_is_video, places):
            (place,) = places[path]
            _predict_video(model, path, place, found, values)
    finally:  # interrupted, it leaves what it has
        found.write()
    print(json.dumps(found.summary()), flush=True)
    return 1 if found.failed else 0


def _flags() -> flags.FlagValues:
    values = flags.FlagValues()
    for name, meaning in (
        ("out", "folder for the pictures, predictions.json and predictions.csv; made if needed"),
    ):
        flags.DEFINE_string(name, None, meaning, flag_values=values)
    flags.DEFINE_boolean(
        "recursive",
        False,
        "also take the images and videos in the folders below a folder; in short -r",
        short_name="r",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "top_k", 5, "classifiers: classes of an image, the most probable ones", flag_values=values
    )
    flags.DEFINE_float("score", 0.3, "detectors: least score of an object", flag_values=values)
    flags.DEFINE_float(
        "iou",
        0.45,
        "detectors: IoU with a better box of its class that suppresses a box",
        flag_values=values,
    )
    flags.DEFINE_integer("most", 100, "detectors: objects in an image at most", flag_values=values)
    flags.DEFINE_integer(
        "batch_size", 8, "images or frames that the network sees at a time", flag_values=values
    )
    arguments.define_trust(values)
    return values


class _Model(NamedTuple):
    """What predicts: a task with its variables, and what the command line knows of its kind."""

    kind: Kind
    task: Task
    variables: Any

    def result_of(self, prediction: Prediction, values: flags.FlagValues) -> Result:
        """What a prediction leaves."""
        options = {name: values[name].value for name in self.kind.options}
        return self.kind.results(prediction, self.task, **options)


def _is_video(path: pathlib.Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def _patterns(path: pathlib.Path, kind: Kind) -> tuple[str, ...]:
    """The patterns of the names of a file's results."""
    return ("{}.mp4",) if _is_video(path) else kind.files


def _predict_images(
    model: _Model,
    places: dict[pathlib.Path, list[pathlib.Path]],
    found: Predictions,
    values: flags.FlagValues,
) -> None:
    """Predicts for image files, and writes their files."""
    if not places:
        return

    entries: dict[pathlib.Path, dict[str, Any]] = {}

    def write(item: tuple[pathlib.Path, Prediction | Failed]) -> Failed | None:
        """Writes the files of an image, and adds its entry when they are there."""
        path, prediction = item
        if isinstance(prediction, Failed):
            return prediction
        files, result = places[path], model.result_of(prediction, values)
        for file, array in zip(files, result.files, strict=True):
            _write(file, array)
        height, width = prediction.image.shape[:2]
        about = {"file": str(path), "picture": str(files[0]), "width": width, "height": height}
        entries[path] = {**about, **result.entry}
        return None

    predictions = predict(model.task, model.variables, list(places), batch_size=values.batch_size)
    # Threads draw and write while the network computes; an interrupted one ends its file first.
    done = in_order(write, zip(places, predictions, strict=True), ahead=values.batch_size)
    shown = tqdm(done, total=len(places), unit="image", disable=not sys.stderr.isatty())
    try:
        with contextlib.closing(done):
            for path, failed in zip(places, shown, strict=True):
                if failed is not None:
                    _fail(found, path, failed.reason)
    finally:
        found.images += [entries[path] for path in places if path in entries]


def _predict_video(
    model: _Model,
    path: pathlib.Path,
    place: pathlib.Path,
    found: Predictions,
    values: flags.FlagValues,
) -> None:
    """Predicts for the frames of a video, a batch at a time, and writes the video of pictures."""
    try:
        video = VideoFrames(path)
    except InputError as error:
        _fail(found, path, str(error))
        return
    times: deque[float] = deque()  # of the frames that were read and not yet predicted

    def images() -> Iterator[np.ndarray]:
        for frame in video.frames():
            times.append(frame.time)
            yield frame.image

    predictions = predict(model.task, model.variables, images(), batch_size=values.batch_size)
    frames: list[dict[str, Any]] = []
    shown = tqdm(
        predictions,
        desc=path.name,
        total=video.count,
        unit="frame",
        disable=not sys.stderr.isatty(),
    )
    with VideoWriter(place, video.frame_rate) as writer:
        for index, prediction in enumerate(shown):
            if isinstance(prediction, Failed):
                reason = prediction.reason
                _fail(found, path, reason if str(path) in reason else f"{path}: {reason}")
                break
            if not frames:
                height, width = prediction.image.shape[:2]
                about = {"file": str(path), "video": str(place), "width": width, "height": height}
                rate = round(float(video.frame_rate), 6)
                found.videos.append({**about, "frame_rate": rate, "frames": frames})
            result = model.result_of(prediction, values)
            writer.write(model.kind.frame(prediction, result))
            frames.append({"frame": index, "time": round(times.popleft(), 6), **result.entry})


def _fail(found: Predictions, path: pathlib.Path, reason: str) -> None:
    tqdm.write(f"failed: {reason}", file=sys.stderr)
    found.failed.append({"file": str(path), "reason": reason})


def _write(path: pathlib.Path, array: np.ndarray) -> None:
    """Writes a picture, or labels of pixels, as a PNG; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (write_picture if array.ndim == 3 else write_label_png)(path, array)


def _check_apart(files: Iterable[Sequence[pathlib.Path]], paths: Iterable[pathlib.Path]) -> None:
    """Raises InputError if a file would take the place of an image."""
    images = {path.resolve() for path in paths}
    for file in itertools.chain.from_iterable(files):
        if file.resolve() in images:
            raise InputError(f"{file} is one of the images: give another folder as --out")


def _check_used(values: flags.FlagValues, kind: Kind) -> None:
    """Raises InputError if a flag was given that only other kinds of tasks use."""
    users: dict[str, list[str]] = {}
    for each in KINDS.values():
        for flag in (*each.options, *each.decode):
            users.setdefault(flag, []).append(each.name)
    for flag, names in users.items():
        if values[flag].present and kind.name not in names:
            raise InputError(
                f"--{flag} is for {listed(names)}, but the model is for {kind.name}: leave it out"
            )


def _decoding(values: flags.FlagValues, kind: Kind) -> dict[str, Any]:
    """The options of a kind's decoding that the flags set."""
    return {option: values[flag].value for flag, option in kind.decode.items()}


def _model(values: flags.FlagValues) -> _Model:
    """What the flags say predicts."""
    opened = network.open_network(values, decode=_decoding(values, KINDS["detection"]))
    kind = lookup(KINDS, opened.task.kind, "task")
    _check_used(values, kind)
    network.log_network(values, opened)
    return _Model(kind, opened.task, opened.variables)
