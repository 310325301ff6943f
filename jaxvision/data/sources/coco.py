"""COCO's json files of objects, with a folder of images."""

import pathlib
import sys
from collections.abc import Container, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxvision.core import InputError, one_line, reason_of
from jaxvision.core.files import parse_json, read_text
from jaxvision.data.sources.annotated import Annotation, Listing, Problem
from jaxvision.data.sources.skeletons import Skeleton
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


_IDS = (int, str)  # no bool
_LARGEST = sys.float_info.max


class _Object(NamedTuple):
    box: list[float]
    label: int
    crowd: bool
    area: float | None
    mask: RunLengths | Polygons | None
    keypoints: np.ndarray | None


def read_coco(
    file: pathlib.Path, images: pathlib.Path, *, masks: bool = False, keypoints: bool = False
) -> Listing:
    """Reads the annotations of a json file.

    Args:
      file: with "images", "annotations" and "categories", as instances_val2017.json.
      images: the folder of the images.
      masks: read the objects' masks too, which need far more memory than all else.
      keypoints: read the objects' keypoints too, as in person_keypoints_val2017.json.
    Returns:
      annotations by rising image id, those of images without objects too; labels follow the rising
      category ids. Of two categories of one name, that without annotations is left out. `iscrowd`
      becomes `crowd`, `segmentation` the masks: polygons as they are, and run-lengths, compressed
      or not. Where an object of an image has no `segmentation` (none, null or an empty list), the
      image's masks are None; likewise `area`. An object without `keypoints` has none that is
      labelled. Their names and limbs are those of the categories.
    Raises:
      InputError: the file cannot be read or has another form, has annotations of two categories
        of one name, or has no keypoints or different ones for two categories where they are asked
        for.
    """
    file, images = pathlib.Path(file), pathlib.Path(images)
    content = _load(file)
    categories = _categories(file, content)
    labels = {category: label for label, category in enumerate(categories)}
    skeleton, count = _keypoints_of(file, content) if keypoints else (None, None)
    problems: list[Problem] = []
    objects: dict[int | str, list[_Object]] = {entry["id"]: [] for entry in content["images"]}
    bad, seen = set(), set()
    for entry in content["annotations"]:
        identity, image = entry.get("id"), entry.get("image_id")
        where = f"{file}, annotation {_shown(identity)}"
        if not _is_one_of(image, objects):
            problems.append(Problem(where, f"there is no image with the id {_shown(image)}"))
            continue
        if _is_one_of(identity, seen):
            problems.append(Problem(where, "there are two annotations with this id"))
            bad.add(image)
        elif type(identity) in _IDS:
            seen.add(identity)
        try:
            objects[image].append(_object(entry, labels, masks=masks, keypoints=count))
        except InputError as error:
            problems.append(Problem(where, str(error)))
            bad.add(image)
    annotations = tuple(
        _annotation(file, images, entry, objects[entry["id"]], keypoints=count)
        for entry in sorted(content["images"], key=lambda entry: entry["id"])
        if entry["id"] not in bad
    )
    names, ids = tuple(categories.values()), tuple(categories)
    return Listing(annotations, names, tuple(problems), skeleton, ids)


def _categories(file: pathlib.Path, content: dict[str, Any]) -> dict[int | str, str]:
    """Returns the names of the categories by rising id.

    Exports may have a category twice, once without annotations, such as one above all others:
    that one is left out. If no annotation has either, the first is left out.
    """
    ids: dict[str, list[int | str]] = {}
    for entry in sorted(content["categories"], key=lambda entry: entry["id"]):
        ids.setdefault(entry["name"], []).append(entry["id"])
    given = [entry.get("category_id") for entry in content["annotations"]]
    used = {category for category in given if type(category) in _IDS}
    kept = {}
    for name, same in ids.items():
        annotated = [category for category in same if category in used]
        if len(annotated) > 1:
            raise InputError(
                f"{file} has annotations of two categories {one_line(name)!r}, with the ids "
                f"{_shown(annotated[0])} and {_shown(annotated[1])}: give each its own name"
            )
        kept[(annotated or same)[-1]] = name
    return dict(sorted(kept.items()))


def _load(file: pathlib.Path) -> dict[str, list[dict[str, Any]]]:
    try:
        content = parse_json(read_text(file))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read ({reason_of(error)})") from error
    for part in ("images", "annotations", "categories"):
        entries = content.get(part) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise InputError(f"{file} has no list {part!r}: is it COCO's form of objects?")
    for part, text in (("images", "file_name"), ("categories", "name")):
        try:
            _check_entries(content[part], text)
        except InputError as error:
            raise InputError(f"{file}, {part!r}, {error}") from error
    return content


def _check_entries(entries: Sequence[dict[str, Any]], text: str) -> None:
    """Raises InputError unless each has a text, and an id of its own.

    The ids have to be whole numbers, or texts, all of them.
    """
    numbers: dict[int | str, int] = {}
    for number, entry in enumerate(entries, start=1):
        where = f"entry {number}"
        for key in ("id", text):
            if key not in entry:
                raise InputError(f"{where} has no {key!r}: add it")
        identity = entry["id"]
        if type(identity) not in _IDS:
            raise InputError(f"{where}: id is {_shown(identity)}: give a whole number or a text")
        if type(identity) is not type(entries[0]["id"]):
            raise InputError(
                f"{where}: id is {_shown(identity)}, but that of entry 1 is "
                f"{_shown(entries[0]['id'])}: give "
                "whole numbers or texts to all"
            )
        first = numbers.setdefault(identity, number)
        if first != number:
            raise InputError(
                f"{where}: id is {_shown(identity)}, as that of entry {first}: give another"
            )
        if type(entry[text]) is not str or not entry[text]:
            raise InputError(f"{where}: {text} is {_shown(entry[text])}: give a text")


def _shown(value: Any) -> str:
    return one_line(repr(value), 100)


def _is_one_of(identity: Any, known: Container[int | str]) -> bool:
    return type(identity) in _IDS and identity in known  # others may equal one, or not be hashable


def _object(
    entry: dict[str, Any],
    labels: Mapping[int | str, int],
    *,
    masks: bool,
    keypoints: int | None,
) -> _Object:
    """Returns an annotation's object; raises InputError if it cannot be used."""
    category = entry.get("category_id")
    if not _is_one_of(category, labels):
        raise InputError(f"there is no category with the id {_shown(category)}")
    box, area, crowd = entry.get("bbox"), entry.get("area"), entry.get("iscrowd")
    if not _are_numbers(box) or len(box) != 4 or not all(abs(x) <= _LARGEST for x in box):
        raise InputError(f"bbox is {_shown(box)}: give [x, y, width, height]")
    if area is not None and not (_are_numbers([area]) and 0 <= area <= _LARGEST):
        raise InputError(f"area is {_shown(area)}: give square pixels")
    if crowd not in (None, 0, 1):
        raise InputError(f"iscrowd is {_shown(crowd)}: give 0 or 1")
    x, y, width, height = map(float, box)
    return _Object(
        box=[x, y, x + width, y + height],
        label=labels[category],
        crowd=bool(crowd),
        area=area,
        mask=_mask(entry.get("segmentation")) if masks else None,
        keypoints=None if keypoints is None else _points(entry.get("keypoints"), keypoints),
    )


def _points(values: Any, count: int) -> np.ndarray:
    """Returns the keypoints of an annotation's object, f64[K, 3]."""
    if values is None or values == []:
        return np.zeros((count, 3))
    if not _are_numbers(values) or not all(abs(x) <= _LARGEST for x in values):
        raise InputError(f"keypoints is {_shown(values)}: give x, y and visibility of each in turn")
    if len(values) != 3 * count:
        raise InputError(
            f"keypoints has {len(values)} numbers: give {3 * count}, x, y and visibility of each "
            f"of {count} keypoints"
        )
    points = np.array(values, np.float64).reshape(-1, 3)
    wrong = np.flatnonzero(~np.isin(points[:, 2], (0, 1, 2)))
    if wrong.size:
        number = int(wrong[0])
        raise InputError(
            f"the visibility of keypoint {number + 1} is {points[number, 2]:g}: give 0 (absent), 1 "
            "(hidden) or 2 (visible)"
        )
    return np.where(points[:, 2:] > 0, points, 0)


def _keypoints_of(
    file: pathlib.Path, content: dict[str, list[dict[str, Any]]]
) -> tuple[Skeleton | None, int]:
    """Returns the skeleton of the categories, if they name keypoints, and the number of keypoints.

    Raises:
      InputError: there are no keypoints, or different ones for two categories.
    """
    known = [entry for entry in content["categories"] if entry.get("keypoints")]
    for entry in known:
        for key in ("keypoints", "skeleton"):
            if entry.get(key, []) != known[0].get(key, []):
                raise InputError(
                    f"{file}: the categories {one_line(known[0]['name'])!r} and "
                    f"{one_line(entry['name'])!r} have different {key}: give them the same"
                )
    if known:
        skeleton = _skeleton(f"{file}, category {one_line(known[0]['name'])!r}", known[0])
        return skeleton, len(skeleton)
    given = (entry.get("keypoints") for entry in content["annotations"])
    for values in given:
        if isinstance(values, list) and len(values) >= 3:
            return None, len(values) // 3
    raise InputError(
        f"{file} has no keypoints: give a file that has them, such as "
        "person_keypoints_val2017.json, or set keypoints=False"
    )


def _skeleton(where: str, category: dict[str, Any]) -> Skeleton:
    names, limbs = category["keypoints"], category.get("skeleton", [])
    if not isinstance(names, list) or not all(type(name) is str and name for name in names):
        raise InputError(f"{where}: keypoints is {_shown(names)}: give a list of names")
    if not isinstance(limbs, list) or not all(_are_numbers(limb, (int,)) for limb in limbs):
        raise InputError(f"{where}: skeleton is {_shown(limbs)}: give a list of pairs of numbers")
    try:
        # COCO counts from 1.
        return Skeleton(tuple(names), tuple(tuple(x - 1 for x in limb) for limb in limbs))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _mask(segmentation: Any) -> RunLengths | Polygons | None:
    """Returns the mask of an annotation's object; None: it gives none."""
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
    known = isinstance(counts, str) or _are_numbers(counts, (int,))
    if not _are_numbers(size, (int,)) or not known:
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


def _are_numbers(values: Any, kinds: Container[type] = (int, float)) -> bool:
    return isinstance(values, list) and all(type(x) in kinds for x in values)  # no bool


def _annotation(
    file: pathlib.Path,
    images: pathlib.Path,
    entry: dict[str, Any],
    objects: list[_Object],
    *,
    keypoints: int | None,
) -> Annotation:
    size = (entry.get("height"), entry.get("width"))
    areas, masks = [x.area for x in objects], tuple(x.mask for x in objects)
    return Annotation(
        image=images / entry["file_name"],
        where=f"{file}, image {_shown(entry['id'])} ({one_line(entry['file_name'])})",
        boxes=np.array([x.box for x in objects], np.float64).reshape(-1, 4),
        labels=np.array([x.label for x in objects], np.int64),
        crowd=np.array([x.crowd for x in objects], bool),
        difficult=np.zeros(len(objects), bool),
        area=None if None in areas else np.array(areas, np.float64),
        size=size if None not in size else None,
        masks=None if None in masks else masks,
        keypoints=None
        if keypoints is None
        else np.array([x.keypoints for x in objects], np.float64).reshape(-1, keypoints, 3),
        identity=entry["id"],
    )
