"""COCO's json files of objects, with a folder of images."""

import json
import pathlib
from typing import Any

import numpy as np

from jaxvision.core import InputError
from jaxvision.data.annotated import Annotation, Listing, Problem


def read_coco(file: pathlib.Path, images: pathlib.Path) -> Listing:
    """The images of a json file.

    Args:
      file: with "images", "annotations" and "categories", as instances_val2017.json.
      images: the folder of the images.
    Returns:
      annotations by rising image id, those of images without objects too; labels follow the rising
      category ids. `iscrowd` becomes `crowd`.
    Raises:
      InputError: the file cannot be read or has another form.
    """
    file, images = pathlib.Path(file), pathlib.Path(images)
    content = _load(file)
    categories = {entry["id"]: entry["name"] for entry in content["categories"]}
    labels = {category: label for label, category in enumerate(sorted(categories))}
    problems: list[Problem] = []
    objects: dict[Any, list[tuple[list[float], int, bool, float]]] = {
        entry["id"]: [] for entry in content["images"]
    }
    if len(objects) < len(content["images"]):
        raise InputError(f"{file}: two images have the same id")
    spoiled = set()
    for entry in content["annotations"]:
        where = f"{file}, annotation {entry.get('id')}"
        reason = _wrong_with(entry, objects, labels)
        if reason:
            problems.append(Problem(where, reason))
            spoiled.add(entry.get("image_id"))
            continue
        x, y, width, height = entry["bbox"]
        objects[entry["image_id"]].append(
            (
                [x, y, x + width, y + height],
                labels[entry["category_id"]],
                bool(entry.get("iscrowd", 0)),
                float(entry.get("area", width * height)),
            )
        )
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


def _wrong_with(entry: dict[str, Any], objects: Any, labels: Any) -> str | None:
    """Why an annotation cannot be used, or None."""
    if entry.get("image_id") not in objects:
        return f"there is no image with the id {entry.get('image_id')!r}"
    if entry.get("category_id") not in labels:
        return f"there is no category with the id {entry.get('category_id')!r}"
    box = entry.get("bbox")
    numbers = isinstance(box, list) and all(isinstance(x, int | float) for x in box)
    if not numbers or len(box) != 4:
        return f"bbox is {box!r}: give [x, y, width, height]"
    return None


def _annotation(
    file: pathlib.Path, images: pathlib.Path, entry: dict[str, Any], objects: list
) -> Annotation:
    boxes, labels, crowd, areas = zip(*objects, strict=True) if objects else ((), (), (), ())
    size = (entry.get("height"), entry.get("width"))
    return Annotation(
        image=images / entry["file_name"],
        where=f"{file}, image {entry['id']} ({entry['file_name']})",
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        labels=np.array(labels, np.int64),
        crowd=np.array(crowd, bool),
        difficult=np.zeros(len(labels), bool),
        area=np.array(areas, np.float64),
        size=size if None not in size else None,
    )
