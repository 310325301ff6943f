"""Detections in COCO's form of results: a json list with an entry for each of them."""

import functools
import json
import os
import pathlib
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import numpy as np

from jaxvision.core import Detections, InputError, OptionError, one_line, reason_of
from jaxvision.core.files import parse_json, read_text, replace_text
from jaxvision.data.sources.source import (
    Source,
    category_ids_of,
    image_file_of,
    image_id_of,
    number_of,
    size_of,
)
from jaxvision.ops import MaskTable, RunLengths, compress_counts, decompress_counts, mask_to_box

_IDS = (int, str)  # no bool
_LARGEST = 1e150  # its square is finite


def write_coco_results(
    path: str | os.PathLike[str],
    found: Detections,
    source: Source,
    *,
    category_ids: Sequence[int | str] | None = None,
) -> None:
    """Writes detections in COCO's form of results.

    An entry has "image_id", "category_id", "bbox" (x, y, width, height), "score", and
    "segmentation" (compressed run-lengths) and "keypoints" where the detections have them. If
    writing fails, no incomplete file is left.

    Args:
      path: of the file.
      found: of all images of the source, in pixels of the original images, as
        `jaxvision.evaluate(...).collected` has them; masks as `jaxvision.ops.MaskTable` of each
        image.
      source: the images. Those of COCO's form have ids; the others are called by the names of
        their files without the suffix, as a number if all are numbers ("000000000139.jpg" is 139),
        or by their index where there are no files.
      category_ids: of each label; None: those of COCO's form, otherwise 1, 2, ...
    Raises:
      InputError: there are not as many images.
    """
    ids = _checked_ids(source, category_ids)
    if len(found.valid) != len(source):
        raise InputError(
            f"the detections are of {len(found.valid)} images, but the source has {len(source)}"
        )
    entries = []
    for index in range(len(source)):
        image, rows = image_id_of(source, index), np.flatnonzero(found.valid[index])
        corners = np.asarray(found.boxes[index], np.float64)[rows]
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        labels, scores = (np.asarray(x[index])[rows] for x in (found.labels, found.scores))
        of_image = [
            {"image_id": image, "category_id": ids[label], "bbox": box, "score": score}
            for label, box, score in zip(
                labels.tolist(), boxes.tolist(), scores.tolist(), strict=True
            )
        ]
        if found.masks is not None:
            for entry, mask in zip(of_image, found.masks[index], strict=True):
                entry["segmentation"] = {
                    "size": [int(side) for side in mask.size],
                    "counts": compress_counts(mask.counts).decode(),
                }
        if found.keypoints is not None:
            points = np.asarray(found.keypoints[index], np.float64)[rows]
            for entry, own in zip(of_image, points, strict=True):
                entry["keypoints"] = own.ravel().tolist()
        entries += of_image
    replace_text(pathlib.Path(path), json.dumps(entries))


def read_coco_results(
    path: str | os.PathLike[str],
    source: Source,
    *,
    category_ids: Sequence[int | str] | None = None,
    masks: bool = False,
    keypoints: bool = False,
) -> Detections:
    """Reads detections in COCO's form of results, of any tool.

    Args:
      path: of the file.
      source: the images. An "image_id" is the id of COCO's form, or the name of the image's file
        with or without the suffix, also as a number. Images without an entry have no detections.
      category_ids: of each label; None: those of COCO's form, otherwise 1, 2, ...
      masks: read the "segmentation" of each entry, compressed run-lengths or not. An entry without
        "bbox" has the box around it.
      keypoints: read the "keypoints", likewise.
    Returns:
      the detections of all images of the source, by falling score, numpy arrays [N, D, ...] padded
      to the largest number of an image: boxes f64, xyxy, pixels of the original image; masks
      object[N], a `jaxvision.ops.MaskTable` of each image; keypoints f64[N, D, K, 3].
    Raises:
      InputError: the file cannot be read or has another form, or an entry has an unknown image or
        category, lacks something, or has numbers that cannot be. The message names the entry.
    """
    path = pathlib.Path(path)
    try:
        entries = parse_json(read_text(path))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({reason_of(error)})") from error
    if not isinstance(entries, list):
        raise InputError(f"{path} is no list of detections: is it COCO's form of results?")
    ids = _checked_ids(source, category_ids)
    labels = {identity: label for label, identity in enumerate(ids)}
    images = _names_of_images(source)
    of_images: list[list[dict[str, Any]]] = [[] for _ in range(len(source))]
    readers: dict[str, Callable[[Any, int], Any]] = {}
    count = _keypoints_of(source) if keypoints else None
    if masks:
        sizes = functools.cache(lambda index: size_of(source, index))
        readers["segmentation"] = lambda value, index: _mask(value, sizes(index))
    if keypoints:
        readers["keypoints"] = lambda value, _: _points(value, count)
    for number, entry in enumerate(entries, start=1):
        try:
            image, found = _entry(entry, images, labels, readers)
        except InputError as error:
            raise InputError(f"{path}, entry {number}: {error}") from error
        of_images[image].append(found)
    return _padded(path, of_images, readers, count)


def _checked_ids(source: Source, category_ids: Sequence[int | str] | None) -> tuple[int | str, ...]:
    ids = tuple(category_ids_of(source) if category_ids is None else category_ids)
    if category_ids is not None and len(ids) != len(source.class_names):
        raise OptionError(
            "category_ids",
            f"category_ids has {len(ids)}, but there are {len(source.class_names)} classes",
        )
    return ids


def _keypoints_of(source: Source) -> int | None:
    """Returns how many keypoints an object of the source has; None: it has none."""
    given = (source.target(index).get("keypoints") for index in range(len(source)))
    return next((points.shape[1] for points in given if points is not None), None)


def _names_of_images(source: Source) -> dict[int | str, int | None]:
    """Everything that an image may be called by -> its index; None: several images are."""
    images: dict[int | str, int | None] = {}
    ids = [image_id_of(source, index) for index in range(len(source))]
    for index, identity in enumerate(ids):
        images[identity] = index
    others: dict[int | str, int | None] = {}
    for index, identity in enumerate(ids):
        names: set[int | str] = {str(identity)}
        file = image_file_of(source, index)
        if file is not None:
            names |= {file.name, file.stem}
        names |= {number for number in map(number_of, names) if number is not None}
        for name in names:
            others[name] = None if name in others and others[name] != index else index
    return {**others, **images}


def _entry(
    entry: Any,
    images: Mapping[int | str, int | None],
    labels: Mapping[int | str, int],
    readers: Mapping[str, Callable[[Any, int], Any]],
) -> tuple[int, dict[str, Any]]:
    """Returns the image and the detection of an entry.

    Args:
      entry: of the file.
      images: what an image may be called -> its index; None: several are.
      labels: id of a category -> label.
      readers: "segmentation" and "keypoints", where they are read -> (value, index of the image)
        -> what is read.
    Raises:
      InputError: it cannot be used.
    """
    if not isinstance(entry, dict):
        raise InputError(f"it is {_shown(entry)}: give an object with image_id, category_id, ...")
    needed = ["image_id", "category_id", "score", *(readers or ("bbox",))]
    lacking = [key for key in needed if key not in entry]
    if lacking:
        raise InputError(f"it has no {lacking[0]!r}: add it")
    identity, category = entry["image_id"], entry["category_id"]
    known = type(identity) in _IDS and identity in images
    if not known or images[identity] is None:
        several = " is the name of several images" if known else " is no image of the data"
        raise InputError(f"image_id {_shown(identity)}{several}")
    if type(category) not in _IDS or category not in labels:
        shown = ", ".join(map(str, list(labels)[:8])) + (", ..." if len(labels) > 8 else "")
        raise InputError(
            f"category_id is {_shown(category)}, but those of the classes are {shown}: if the file "
            "numbers the classes from 0 or from 1, say so by category_ids"
        )
    if not _are_finite([entry["score"]]):
        raise InputError(f"score is {_shown(entry['score'])}: give a number")
    image, around = images[identity], None
    found: dict[str, Any] = {"score": float(entry["score"]), "label": labels[category]}
    found |= {part: read(entry[part], image) for part, read in readers.items()}
    if "keypoints" in found:
        points = found["keypoints"][:, :2]
        around = [*points.min(axis=0), *points.max(axis=0)]
    if "segmentation" in found:
        around = mask_to_box(found["segmentation"])
    found["box"] = _box(entry["bbox"]) if "bbox" in entry else around
    return image, found


def _box(box: Any) -> list[float]:
    """Returns the corners of a box."""
    if not _are_finite(box) or len(box) != 4 or box[2] < 0 or box[3] < 0:
        raise InputError(f"bbox is {_shown(box)}: give [x, y, width, height]")
    x, y, width, height = map(float, box)
    return [x, y, x + width, y + height]


def _points(points: Any, count: int | None) -> np.ndarray:
    """Returns f64[K, 3]; there have to be as many as the objects have, if that is known."""
    if not _are_finite(points) or not points or len(points) % 3:
        raise InputError(f"keypoints is {_shown(points)}: give x, y and score of each in turn")
    if count is not None and len(points) != 3 * count:
        raise InputError(
            f"keypoints has {len(points)} numbers, but the objects have {count} keypoints: give "
            f"{3 * count}, x, y and score of each in turn"
        )
    return np.array(points, np.float64).reshape(-1, 3)


def _mask(segmentation: Any, image_size: tuple[int, int]) -> RunLengths:
    size = segmentation.get("size") if isinstance(segmentation, dict) else None
    counts = segmentation.get("counts") if isinstance(segmentation, dict) else None
    whole = isinstance(size, list) and all(type(side) is int for side in size)
    listed = isinstance(counts, list) and all(type(count) is int for count in counts)
    if not whole or not (listed or isinstance(counts, str)):
        raise InputError('segmentation is no run-lengths: give {"size": [height, width], "counts"}')
    if tuple(size) != tuple(image_size):
        raise InputError(
            f"the size of segmentation is {_shown(size)}, but [height, width] of the image is "
            f"{list(image_size)}"
        )
    try:
        counts = np.array(counts, np.int64) if listed else decompress_counts(counts)
        return RunLengths(tuple(size), counts)
    except (InputError, OverflowError) as error:
        raise InputError(f"segmentation: {error}") from error


def _padded(
    path: pathlib.Path,
    of_images: Sequence[Sequence[dict[str, Any]]],
    parts: Container[str],
    num_keypoints: int | None,
) -> Detections:
    count, most = len(of_images), max(map(len, of_images), default=0)
    kinds = {len(x["keypoints"]) for found in of_images for x in found if "keypoints" in x}
    kinds |= set() if num_keypoints is None else {num_keypoints}
    if len(kinds) > 1:
        raise InputError(f"{path} has detections with {sorted(kinds)} keypoints: give all the same")
    boxes, scores = np.zeros((count, most, 4)), np.zeros((count, most))
    labels, valid = np.zeros((count, most), np.int32), np.zeros((count, most), bool)
    masks = np.empty(count, object) if "segmentation" in parts else None
    keypoints = np.zeros((count, most, *kinds, 3)) if kinds else None
    for index, found in enumerate(of_images):
        found = sorted(found, key=lambda entry: -entry["score"])
        valid[index, : len(found)] = True
        for row, entry in enumerate(found):
            boxes[index, row], scores[index, row] = entry["box"], entry["score"]
            labels[index, row] = entry["label"]
            if keypoints is not None:
                keypoints[index, row] = entry["keypoints"]
        if masks is not None:
            masks[index] = MaskTable.of([entry["segmentation"] for entry in found])
    return Detections(boxes, scores, labels, valid, masks=masks, keypoints=keypoints)


def _are_finite(values: Any) -> bool:
    return isinstance(values, list) and all(
        type(x) in (int, float) and abs(x) <= _LARGEST for x in values
    )


def _shown(value: Any) -> str:
    return one_line(repr(value), 100)
