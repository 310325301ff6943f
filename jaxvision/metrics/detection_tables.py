"""Tables of the detections and objects of a whole data set, on the host, in numpy and float64.

Average precision needs all detections at once, so batches are collected and concatenated.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxvision.core import DetectionBatch, Detections, InputError, one_line
from jaxvision.ops import MaskTable, RunLengths

_KINDS = {"float": np.floating, "int": np.integer, "bool": np.bool_}
_STORED = {"float": np.float64, "int": np.int64, "bool": np.bool_}


@dataclasses.dataclass(frozen=True, eq=False)
class DetectionTable:
    """The detections in a data set, one row for each detection.

    Attributes:
      image: i64[D], the id of the image.
      boxes: f64[D, 4], xyxy, pixels.
      scores: f64[D], the confidence: any finite number, higher is more certain.
      labels: i64[D], at least 0.
      masks: D masks, stored as a `MaskTable`, or None.
      keypoints: f64[D, K, 3], xy, pixels, and a third value that is not used; or None.
    Raises:
      AssertionError: a mask is not a `RunLengths`.
      InputError: a value is invalid; the message names its column and row.
    """

    image: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: Sequence[RunLengths] | None = None
    keypoints: np.ndarray | None = None

    def __post_init__(self):
        rows = np.size(self.image)
        _set_column(self, "image", (rows,), "int")
        _set_column(self, "boxes", (rows, 4), "float", _FINITE)
        _set_column(self, "scores", (rows,), "float", _FINITE)
        _set_column(self, "labels", (rows,), "int", _NOT_NEGATIVE)
        _set_masks(self, rows)
        _set_keypoints(self, rows)

    def __len__(self) -> int:
        return len(self.image)


@dataclasses.dataclass(frozen=True, eq=False)
class ObjectTable:
    """The objects in a data set, one row for each object.

    Attributes:
      image: i64[G], the id of the image.
      boxes: f64[G, 4], xyxy, pixels; x1 <= x2 and y1 <= y2.
      labels: i64[G], at least 0.
      crowd: bool[G], True for a region of many objects (COCO).
      difficult: bool[G], True for objects that evaluation ignores (VOC).
      area: f64[G], square pixels, the size by which COCO divides objects into small, medium and
        large. None: the area of the mask, or of the box if there are no masks.
      masks: G masks, stored as a `MaskTable`, or None.
      keypoints: f64[G, K, 3], xy, pixels, and visibility, more than 0 for labelled keypoints; or
        None.
    Raises:
      AssertionError: a mask is not a `RunLengths`.
      InputError: a value is invalid; the message names its column and row.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    difficult: np.ndarray
    area: np.ndarray | None = None
    masks: Sequence[RunLengths] | None = None
    keypoints: np.ndarray | None = None

    def __post_init__(self):
        rows = np.size(self.image)
        _set_column(self, "image", (rows,), "int")
        _set_column(self, "boxes", (rows, 4), "float", _FINITE, _ORDERED)
        _set_column(self, "labels", (rows,), "int", _NOT_NEGATIVE)
        _set_column(self, "crowd", (rows,), "bool")
        _set_column(self, "difficult", (rows,), "bool")
        if self.area is not None:
            _set_column(self, "area", (rows,), "float", _FINITE, _NOT_NEGATIVE)
        _set_masks(self, rows)
        _set_keypoints(self, rows)

    def __len__(self) -> int:
        return len(self.image)


class DetectionAccumulator:
    """Collects the detections and objects of batches, without padding, for average precision.

    COCO's metric depends on the size of objects, so give boxes in pixels of the original images.
    An accumulator holds the batches of its own process; average precision over several processes
    needs the tables of all.
    """

    def __init__(self):
        self._images: set[int] = set()
        self._detections: list[DetectionTable] = []
        self._objects: list[ObjectTable] = []

    def add(
        self,
        detections: Detections,
        batch: DetectionBatch,
        image_ids: Any,
        *,
        area: Any = None,
        detection_masks: Sequence[Sequence[RunLengths | None]] | None = None,
        object_masks: Sequence[Sequence[RunLengths | None]] | None = None,
    ) -> None:
        """Adds one batch, with the keypoints of `detections` and of `batch` if there are any.

        Args:
          detections: the detections in B images, padded to N for each image.
          batch: the same B images, with objects padded to M for each image.
          image_ids: int[B], a different id for each image of the data set; any id for filler.
          area: f32[B, M], square pixels, as in `ObjectTable`. None: the area of masks or boxes.
          detection_masks: B sequences of N masks; anything in place of padding.
          object_masks: B sequences of M masks; anything in place of padding.
        Raises:
          InputError: an image id was given before, or a value is invalid. Then nothing of the batch
            is added.
        """
        filled = _column("batch.mask", batch.mask, (np.size(batch.mask),), "bool")
        size = len(filled)
        image_ids = _column("image_ids", image_ids, (size,), "int")
        self._check_new(image_ids[filled])

        def kept(name, mask):
            return _column(name, mask, (size, *np.shape(mask)[-1:]), "bool") & filled[:, None]

        def flat(name, x, mask, kind, *last):
            return _column(name, x, (*mask.shape, *last), kind)[mask]

        valid = kept("detections.valid", detections.valid)
        real = kept("batch.box_mask", batch.box_mask)

        def keypoints(name, x, mask):
            return None if x is None else flat(name, x, mask, "float", *np.shape(x)[-2:])

        found = DetectionTable(
            image=image_ids[np.nonzero(valid)[0]],
            boxes=flat("detections.boxes", detections.boxes, valid, "float", 4),
            scores=flat("detections.scores", detections.scores, valid, "float"),
            labels=flat("detections.labels", detections.labels, valid, "int"),
            masks=_flat_masks("detection_masks", detection_masks, valid),
            keypoints=keypoints("detections.keypoints", detections.keypoints, valid),
        )
        objects = ObjectTable(
            image=image_ids[np.nonzero(real)[0]],
            boxes=flat("batch.boxes", batch.boxes, real, "float", 4),
            labels=flat("batch.labels", batch.labels, real, "int"),
            crowd=flat("batch.crowd", batch.crowd, real, "bool"),
            difficult=flat("batch.difficult", batch.difficult, real, "bool"),
            area=None if area is None else flat("area", area, real, "float"),
            masks=_flat_masks("object_masks", object_masks, real),
            keypoints=keypoints("batch.keypoints", batch.keypoints, real),
        )
        self._detections.append(found)
        self._objects.append(objects)
        self._images.update(image_ids[filled].tolist())

    def tables(self) -> tuple[DetectionTable, ObjectTable]:
        """Concatenates all batches that were added.

        Returns:
          the detections and the objects, image by image in the order in which they were added.
        Raises:
          InputError: masks, areas or keypoints were given with some batches only.
        """
        return _concatenate(_NO_DETECTIONS, self._detections), _concatenate(
            _NO_OBJECTS, self._objects
        )

    def _check_new(self, image_ids: np.ndarray) -> None:
        values, counts = np.unique(image_ids, return_counts=True)
        twice = [i for i, n in zip(values.tolist(), counts, strict=True) if n > 1]
        twice += [i for i in values.tolist() if i in self._images]
        if twice:
            raise InputError(
                f"image id {twice[0]} is given twice: add each image of the data set once, "
                "with an id of its own, and mark filler images in batch.mask"
            )


_FINITE = (np.isfinite, "a finite number")
_NOT_NEGATIVE = (lambda x: x >= 0, "at least 0")
_ORDERED = (lambda boxes: boxes[:, :2] <= boxes[:, 2:], "x1 <= x2 and y1 <= y2")


def _column(name: str, x: Any, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Returns x as a numpy array of 64 bits.

    Raises:
      AssertionError: the shape or dtype is wrong; the message has the name.
    """
    x = np.asarray(x)
    if x.shape != shape or not jax.dtypes.issubdtype(x.dtype, _KINDS[kind]):
        wanted = ", ".join(str(length) for length in shape)
        raise AssertionError(f"{name} is {x.dtype}{list(x.shape)}: give {kind}[{wanted}]")
    return x.astype(_STORED[kind])


def _set_column(
    table: Any,
    name: str,
    shape: tuple[int, ...],
    kind: str,
    *rules: tuple[Callable[[np.ndarray], np.ndarray], str],
) -> None:
    """Checks a column of a frozen table, and replaces it by its stored form."""
    column = _column(name, getattr(table, name), shape, kind)
    for holds, wanted in rules:
        wrong = ~holds(column)
        if wrong.any():
            row = int(np.nonzero(wrong)[0][0])
            raise InputError(
                f"{name} of row {row} (image {table.image[row]}) is "
                f"{one_line(str(column[row]))}: give {wanted}"
            )
    object.__setattr__(table, name, column)


def _set_masks(table: Any, rows: int) -> None:
    if table.masks is None:
        return
    if len(table.masks) != rows:
        raise AssertionError(f"masks has {len(table.masks)} elements: give {rows}")
    object.__setattr__(table, "masks", MaskTable.of(table.masks))


def _set_keypoints(table: Any, rows: int) -> None:
    if table.keypoints is None:
        return
    shape = np.shape(table.keypoints)
    count = shape[1] if len(shape) == 3 else 1
    _set_column(table, "keypoints", (rows, max(count, 1), 3), "float", _FINITE)


def _flat_masks(name, masks, mask: np.ndarray) -> list[RunLengths] | None:
    """Returns the masks that are not padding, or None if there are no masks."""
    if masks is None:
        return None
    if len(masks) != len(mask) or any(len(row) != mask.shape[1] for row in masks):
        raise AssertionError(f"{name}: give {len(mask)} sequences of {mask.shape[1]} masks")
    return [masks[i][j] for i, j in np.argwhere(mask)]


def _concatenate(empty: Any, tables: list) -> Any:
    """Concatenates tables of the same type as `empty`, which is returned if there are none."""
    columns = {}
    for field in dataclasses.fields(empty):
        parts = [getattr(table, field.name) for table in tables]
        given = [part for part in parts if part is not None]
        if len(given) not in (0, len(parts)):
            raise InputError(
                f"{field.name} was given with some batches only: give it with all or none"
            )
        if not parts:
            columns[field.name] = getattr(empty, field.name)
        elif not given:
            columns[field.name] = None
        elif field.name == "masks":
            columns["masks"] = MaskTable.concatenate(parts)
        else:
            columns[field.name] = np.concatenate(parts)
    return type(empty)(**columns)


_NO_DETECTIONS = DetectionTable(
    image=np.zeros(0, int), boxes=np.zeros((0, 4)), scores=np.zeros(0), labels=np.zeros(0, int)
)
_NO_OBJECTS = ObjectTable(
    image=np.zeros(0, int),
    boxes=np.zeros((0, 4)),
    labels=np.zeros(0, int),
    crowd=np.zeros(0, bool),
    difficult=np.zeros(0, bool),
)
