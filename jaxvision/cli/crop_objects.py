"""Cuts the objects out of images with boxes, into class folders for training a classifier.

  jaxvision crop-objects --data=DIR --out=crops
  jaxvision crop-objects --data=BCCD --splits=train,val,test --square --margin=0.1 --out=crops
  jaxvision crop-objects --data=VOC2007 --splits=trainval,test --out=crops
  jaxvision crop-objects --config=bccd_yolov2 --config.data.dir=BCCD --out=crops

The command writes OUT/SPLIT/CLASS/NAME_NUMBER.png: NAME is the image, NUMBER counts its objects.
It writes all files or none; OUT must not exist, or be empty. Train on it with
--config.data.source=folder --config.data.dir=OUT.

The splits are "train" and "test"; --splits gives others, which a folder in VOC's layout with a
split "trainval" needs. With --config=NAME the boxes are those of the config's data, and the
config's keys are flags. Its source must be voc, coco or yolo; the embedded scenes and TFDS cannot
be cut. The splits are then the config's own, and "train" has its validation part too.

Crowds, objects that are marked as difficult, and small objects are left out and counted. An image
with a problem, as `jaxvision check-data` lists them, is left out as a whole. The last line on
stdout is the result, as JSON. The exit code is 1 if there are problems.
"""

import contextlib
import itertools
import json
import pathlib
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from absl import flags
from PIL import Image

from jaxvision.cli import arguments
from jaxvision.cli.folder import (
    ANNOTATION_FLAGS,
    annotation_flags,
    check_config,
    checked,
    read_listing,
)
from jaxvision.cli.kinds.detection_data import DetectionData
from jaxvision.cli.options import read_group
from jaxvision.cli.report import file_name
from jaxvision.core import InputError, under
from jaxvision.data import (
    FORMS,
    Annotation,
    ImageError,
    Listing,
    Problem,
    check_class_names,
    find_problems,
    list_folder,
    read_image,
)
from jaxvision.data.sources.boxes import box_windows
from jaxvision.engine import log, progress_bar
from jaxvision.predict import output_names
from jaxvision.predict.files import write_png

_DATA_FLAGS = (*ANNOTATION_FLAGS, "difficult")
_REASONS = ("crowd", "difficult", "small")


def main(argv: list[str]) -> int:
    """The command; its result goes to stdout, everything else to stderr."""
    name, rest = arguments.take_config(argv, "")
    values = _flags()
    if name:
        arguments.define_config(values, name, rest)
    arguments.parse(values, rest, __doc__)
    if name:
        check_config(values, name, _DATA_FLAGS)
    if not values.out:
        raise InputError("no --out: give the folder for the crops")
    out = pathlib.Path(values.out).expanduser().resolve()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"--out={out} is not empty: give a folder that is, or a new one")
    listings = {split: _listing(values, split) for split in values.splits}
    for listing in listings.values():
        _check_folder_names(listing.class_names)

    folders = Counter(map(file_name, listings))
    shared = [split for split in listings if folders[file_name(split)] > 1]
    if shared:
        raise InputError(
            f"the splits {', '.join(shared)} would share a folder: cut them out one by one, each "
            "with an --out of its own"
        )

    counts, left_out, problems = {}, Counter(), 0
    with _filling(out) as folder:
        for split, listing in listings.items():
            written = _write(listing, folder / file_name(split), values)
            for problem in written.problems:
                log(problem)
            log(f"{split}: {_listed(written.counts)}")
            counts[split] = written.counts
            left_out.update(written.left_out)
            problems += len(written.problems)
        if not any(sum(of_class.values()) for of_class in counts.values()):
            raise InputError("there are no objects to write: check the data and its splits")
    log(f"left out: {_listed(left_out)}; problems: {problems}")
    result = {"out": str(out), "splits": counts, "left_out": left_out, "problems": problems}
    print(json.dumps(result), flush=True)
    return 1 if problems else 0


def _flags() -> flags.FlagValues:
    values = annotation_flags()
    flags.DEFINE_list("splits", ["train", "test"], "parts of the data", flag_values=values)
    flags.DEFINE_string("out", None, "folder for the crops", flag_values=values)
    flags.DEFINE_float(
        "margin",
        0.0,
        "share of a box's longer side that is shown around it, as far as the image goes",
        lower_bound=0,
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "square",
        False,
        "make the shorter side as long as the longer one; at its edge moved into the image",
        flag_values=values,
    )
    flags.DEFINE_float(
        "least_side",
        8,
        "pixels: objects whose shorter side has fewer are left out",
        lower_bound=0,
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "difficult", False, "write objects that are flagged as difficult too", flag_values=values
    )
    return values


def _listing(values: flags.FlagValues, split: str) -> Listing:
    """What a split of the config's data, or else of the folder has."""
    if "config" not in values:
        return read_listing(values, split)
    data = values.config.data
    if data.source not in FORMS:
        raise InputError(
            f"config.data.source is {data.source!r}, but objects are cut out of folders only: "
            f"give the form of one, {', '.join(FORMS)}"
        )
    options = read_group(DetectionData, data, "config.data")
    with under("config.data"):
        listing = list_folder(
            options.folder,
            data.source,
            options.own_split(split),
            class_names=options.class_names or None,
            first_pixel=options.first_pixel,
        )
        check_class_names(listing.class_names, options.class_names)
    return listing


def _check_folder_names(class_names: Sequence[str]) -> None:
    for name in class_names:
        # Hidden folders are no classes of a folder of images.
        if not re.fullmatch(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]*", name):
            raise InputError(
                f"the class {name!r} cannot be the name of a folder: rename it, without / and "
                "\\ and a dot at its beginning"
            )


@contextlib.contextmanager
def _filling(out: pathlib.Path) -> Iterator[pathlib.Path]:
    """A hidden folder in `out`, whose content moves there at the end; nothing if something fails.

    `out` itself stays the folder that it is: the one that a disk is mounted on, or a shell is in.
    """
    missing = [folder for folder in (out, *out.parents) if not folder.exists()]
    with contextlib.ExitStack() as undo:
        for folder in reversed(missing):
            folder.mkdir()
            undo.callback(folder.rmdir)
        with tempfile.TemporaryDirectory(prefix=".", dir=out) as hidden:
            yield pathlib.Path(hidden)
            for part in pathlib.Path(hidden).iterdir():
                moved = part.rename(out / part.name)
                undo.callback(shutil.rmtree, moved)
        undo.pop_all()


class _Written(NamedTuple):
    """What became of a split.

    Attributes:
      counts: class name -> objects that were written.
      left_out: reason -> objects that were not.
      problems: of the images that were left out whole.
    """

    counts: dict[str, int]
    left_out: dict[str, int]
    problems: list[Problem]


def _write(listing: Listing, folder: pathlib.Path, values: flags.FlagValues) -> _Written:
    """Writes the objects of a split."""
    sound, problems = checked(listing, decode=False)
    counts, left_out = dict.fromkeys(listing.class_names, 0), dict.fromkeys(_REASONS, 0)
    named = list(zip(output_names([x.image for x in sound]), sound, strict=True))
    for stem, annotation in progress_bar(named, "cutting objects", visible=True):
        try:
            image = read_image(annotation.image)
        except ImageError:  # by its header it was sound
            problems += find_problems(annotation, decode=True)
            continue
        windows = box_windows(
            annotation.boxes, image.shape[:2], margin=values.margin, square=values.square
        )
        for number, reason in enumerate(_reasons(annotation, values)):
            if reason:
                left_out[reason] += 1
                continue
            class_name = listing.class_names[annotation.labels[number]]
            x1, y1, x2, y2 = windows[number]
            file = folder / class_name / f"{stem}_{number + 1}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            write_png(file, Image.fromarray(image[y1:y2, x1:x2]))
            counts[class_name] += 1
    return _Written(counts, left_out, problems)


def _reasons(annotation: Annotation, values: flags.FlagValues) -> Iterator[str | None]:
    """Of each object, which of `_REASONS` leaves it out, if one does."""
    difficult_too = values.config.data.difficult if "config" in values else values.difficult
    shorter = (annotation.boxes[:, 2:] - annotation.boxes[:, :2]).min(axis=1)
    difficult = annotation.difficult & (not difficult_too)
    for holds in zip(annotation.crowd, difficult, shorter < values.least_side, strict=True):
        yield next(itertools.compress(_REASONS, holds), None)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
