"""COCO's json files of objects, with a folder of images."""

import json
import math
import pathlib
from collections.abc import Container, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxvision.core import InputError
from jaxvision.data.annotated import Annotation, Listing, Problem
from jaxvision.ops import Polygons, RunLengths, decompress_counts

COCO_CLASSES = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
    *("traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat"),
    *("dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack"),
    *("umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball"),
    *("kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket"),
    *("bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair"),
    *("couch", "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse"),
    *("remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator"),
    *("book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush"),
)
"""The 80 classes of COCO's detection task, by rising category id."""


class _Object(NamedTuple):
    box: list[float]
    label: int
    crowd: bool
    area: float | None
    mask: RunLengths | Polygons | None


def read_coco(file: pathlib.Path, images: pathlib.Path) -> Listing:
    """The images of a json file.

    Args:
      file: with "images", "annotations" and "categories", as instances_val2017.json.
      images: the folder of the images.
    Returns:
      annotations by rising image id, those of images without objects too; labels follow the rising
      category ids. `iscrowd` becomes `crowd`, `segmentation` the masks: polygons as they are, and
      run-lengths, compressed or not. Where an object of an image has no `segmentation` (none, null
      or an empty list), the image's masks are None; likewise `area`.
    Raises:
      InputError: the file cannot be read or has another form.
    """
    file, images = pathlib.Path(file), pathlib.Path(images)
    content = _load(file)
    categories = {entry["id"]: entry["name"] for entry in content["categories"]}
    labels = {category: label for label, category in enumerate(sorted(categories))}
    problems: list[Problem] = []
    objects: dict[Any, list[_Object]] = {entry["id"]: [] for entry in content["images"]}
    if len(objects) < len(content["images"]):
        raise InputError(f"{file}: two images have the same id")
    spoiled = set()
    for entry in content["annotations"]:
        try:
            found = _object(entry, objects, labels)
        except InputError as error:
            problems.append(Problem(f"{file}, annotation {entry.get('id')}", str(error)))
            spoiled.add(entry.get("image_id"))
        else:
            objects[entry["image_id"]].append(found)
    annotations = tuple(
        _annotation(file, images, entry, objects[entry["id"]])
        for entry in sorted(content["images"], key=lambda entry: entry["id"])
        if entry["id"] not in spoiled
    )
    class_names = tuple(categories[category] for category in sorted(categories))
    return Listing(annotations, class_names, tuple(problems))


def _load(file: pathlib.Path) -> dict[str, list[dict[str, Any]]]:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read ({error})") from error
    needed = {"images": ("id", "file_name"), "annotations": (), "categories": ("id", "name")}
    for part, keys in needed.items():
        entries = content.get(part) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise InputError(f"{file} has no list {part!r}: is it COCO's form of objects?")
        for key in keys:
            for number, entry in enumerate(entries, start=1):
                if key not in entry:
                    raise InputError(f"{file}: entry {number} of {part!r} has no {key!r}")
    return content


def _object(entry: dict[str, Any], image_ids: Container[Any], labels: Mapping[Any, int]) -> _Object:
    """An annotation's object; InputError if it cannot be used."""
    if entry.get("image_id") not in image_ids:
        raise InputError(f"there is no image with the id {entry.get('image_id')!r}")
    if entry.get("category_id") not in labels:
        raise InputError(f"there is no category with the id {entry.get('category_id')!r}")
    box, area = entry.get("bbox"), entry.get("area")
    if not _are_numbers(box) or len(box) != 4:
        raise InputError(f"bbox is {box!r}: give [x, y, width, height]")
    if area is not None and not (_are_numbers([area]) and 0 <= area < math.inf):
        raise InputError(f"area is {area!r}: give square pixels")
    x, y, width, height = box
    return _Object(
        box=[x, y, x + width, y + height],
        label=labels[entry["category_id"]],
        crowd=bool(entry.get("iscrowd", 0)),
        area=area,
        mask=_mask(entry.get("segmentation")),
    )


def _mask(segmentation: Any) -> RunLengths | Polygons | None:
    """What an annotation says of its object's pixels; None: nothing."""
    if segmentation is None or segmentation == []:
        return None
    if isinstance(segmentation, list):
        return _polygons(segmentation)
    if isinstance(segmentation, dict):
        return _run_lengths(segmentation.get("size"), segmentation.get("counts"))
    raise InputError("segmentation is neither a list of polygons nor an object of run-lengths")


def _polygons(segmentation: list[Any]) -> Polygons:
    for index, polygon in enumerate(segmentation):
        if not _are_numbers(polygon) or len(polygon) % 2:
            raise InputError(
                f"segmentation[{index}] is no list of x and y in turn: give "
                "[x1, y1, x2, y2, x3, y3, ...]"
            )
    try:
        return Polygons(tuple(np.array(x, np.float64).reshape(-1, 2) for x in segmentation))
    except (InputError, OverflowError) as error:
        raise InputError(f"segmentation: {error}") from error


def _run_lengths(size: Any, counts: Any) -> RunLengths:
    if not _are_numbers(size, int) or not (isinstance(counts, str) or _are_numbers(counts, int)):
        raise InputError(
            'segmentation has no size or no counts: give {"size": [height, width], "counts": text '
            "or whole numbers}"
        )
    try:
        is_text = isinstance(counts, str)
        counts = decompress_counts(counts) if is_text else np.array(counts, np.int64)
        return RunLengths(tuple(size), counts)
    except (InputError, OverflowError) as error:
        raise InputError(f"segmentation: {error}") from error


def _are_numbers(values: Any, kind: Any = int | float) -> bool:
    return isinstance(values, list) and all(isinstance(x, kind) for x in values)


def _annotation(
    file: pathlib.Path, images: pathlib.Path, entry: dict[str, Any], objects: list[_Object]
) -> Annotation:
    size = (entry.get("height"), entry.get("width"))
    areas, masks = [x.area for x in objects], tuple(x.mask for x in objects)
    return Annotation(
        image=images / entry["file_name"],
        where=f"{file}, image {entry['id']} ({entry['file_name']})",
        boxes=np.array([x.box for x in objects], np.float64).reshape(-1, 4),
        labels=np.array([x.label for x in objects], np.int64),
        crowd=np.array([x.crowd for x in objects], bool),
        difficult=np.zeros(len(objects), bool),
        area=None if None in areas else np.array(areas, np.float64),
        size=size if None not in size else None,
        masks=None if None in masks else masks,
    )
