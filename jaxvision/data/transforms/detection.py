"""From records to examples for detection."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np

from jaxvision.core import (
    DetectionBatch,
    InputError,
    Inputs,
    OptionError,
    Record,
    check_range,
    listed,
)
from jaxvision.data.sources.annotated import to_run_lengths
from jaxvision.data.sources.checks import (
    check_box_count,
    check_box_counts,
    check_class_count,
    extra_boxes,
)
from jaxvision.data.sources.source import Source
from jaxvision.data.transforms.placing import extent_in, place_image, points_inside
from jaxvision.ops import RunLengths, crop_mask, decode_mask, mask_area
from jaxvision.ops.placement import Placement, to_input, to_original

LEAST_VISIBLE = 0.25
"""Objects of which a smaller part of the area is left by resize "crop" are left out."""


@dataclass(frozen=True)
class ToDetection:
    """Checks a record and makes it an example for detection, with its objects padded.

    With `inputs.resize` "crop" boxes are clipped to the network's input, and an example lacks
    objects of which less than `LEAST_VISIBLE` is left. Keypoints outside the image or the network's
    input become absent.

    Attributes:
      inputs: of the network.
      num_classes: labels run from 0 to one below.
      max_boxes: N, to which the boxes are padded.
      drop_extra: take max_boxes of a record's objects where it has more, instead of refusing it:
        the largest boxes, in the record's order; objects that are flagged as difficult only if
        there is room after the others, and regions of many objects ("crowd") after these. Loaders
        warn how many objects examples lack.
      masks: give examples masks, cropped to frames of their own, which take N M^2 bytes.
      mask_size: M, the number of cells along each side of a mask.
      num_keypoints: K, that every object of the records has, labelled or not; None: examples have
        no keypoints.
      max_proposals: P, to which the proposals of the records are padded, see `WithProposals`; of
        more than P the first ones are taken. None: examples have no proposals.
      labels_only: give examples `labels_only`, True for those of records from `LabelsOnly`; without
        it such records are refused.

    Raises:
      OptionError: a number is below 1.
    """

    inputs: Inputs
    num_classes: int
    _: KW_ONLY
    max_boxes: int = 100
    drop_extra: bool = False
    masks: bool = False
    mask_size: int = 112
    num_keypoints: int | None = None
    max_proposals: int | None = None
    labels_only: bool = False

    def __post_init__(self) -> None:
        check_range("mask_size", self.mask_size, least=1)
        check_range("num_classes", self.num_classes, least=1)
        check_range("max_boxes", self.max_boxes, least=1)
        if self.num_keypoints is not None:
            check_range("num_keypoints", self.num_keypoints, least=1)
        if self.max_proposals is not None:
            check_range("max_proposals", self.max_proposals, least=1)

    def check_source(self, source: Source) -> str | None:
        """Raises OptionError if a source has other classes, too many boxes or another number of
        keypoints, before any image is read.

        Returns:
          with `drop_extra`, how many objects the examples lack; None: they lack none.
        """
        check_class_count(source, self.num_classes)
        if not self.drop_extra:
            check_box_counts(source, self.max_boxes)
        skeleton = getattr(source, "skeleton", None)
        if None not in (skeleton, self.num_keypoints) and len(skeleton) != self.num_keypoints:
            raise OptionError(
                "num_keypoints",
                f"num_keypoints is {self.num_keypoints}, but the objects of the data have "
                f"{len(skeleton)} keypoints: {listed(skeleton.names)}",
            )
        return extra_boxes(source, self.max_boxes) if self.drop_extra else None

    def __call__(
        self, record: Record, where: str, *, size: tuple[int, int] | None = None
    ) -> DetectionBatch:
        """Returns one example: a `DetectionBatch` without its batch axis.

        Args:
          record: "image" u8[H, W, C], "boxes" f[G, 4] in its pixels, "labels" int[G], "crowd" and
            "difficult" bool[G], perhaps "area" f[G], G "masks" of the image's size and "keypoints"
            f[G, K, 3], as from `AnnotatedImages`, and perhaps "proposals" f[P, 4] in pixels of the
            image.
          where: names the record in messages.
          size: (height, width) of the network's input; None: that of `inputs.size_of`.
        Raises:
          InputError: the image has another form, a label is out of range, there are too many boxes
            without `drop_extra`, no masks or proposals where they are asked for, no keypoints or
            another number of them, or objects without boxes where they are not expected.
        """
        labels_only = bool(record.get("labels_only", False))
        if labels_only and not self.labels_only:
            raise InputError(
                f"{where}: its objects have labels but no boxes: set labels_only=True, for a "
                "detector that is trained on such images"
            )
        labels = np.asarray(record["labels"])
        if not self.drop_extra:
            check_box_count(len(labels), self.max_boxes, where)
        wrong = np.flatnonzero((labels < 0) | (labels >= self.num_classes))
        if wrong.size:
            raise InputError(
                f"{where}: label {labels[wrong[0]]} of box {wrong[0] + 1} is out of range "
                f"0..{self.num_classes - 1}: correct the record or add to class_names"
            )
        record = _largest(record, self.max_boxes)
        image, placement = place_image(record, where, self.inputs, size)
        original = np.asarray(record["image"]).shape[:2]
        masks = self._masks(record, original, where)
        keypoints = self._keypoints(record, placement, image.shape[:2], where)
        proposals, proposal_mask = self._proposals(record, placement, where)
        boxes, area = np.asarray(record["boxes"]), record.get("area")
        if area is None and masks is not None:
            area = np.array([mask_area(mask) for mask in masks])
        elif area is None:
            area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        boxes, kept = _clip(to_input(boxes, placement), self.inputs)
        count = len(kept)

        def padded(values: np.ndarray, kind: type) -> np.ndarray:
            result = np.zeros((self.max_boxes, *np.shape(values)[1:]), kind)
            result[:count] = np.asarray(values)[kept]
            return result

        cells = frames = None
        if self.masks:
            cells, frames = self._cropped(masks, placement, image.shape[:2])
            cells, frames = padded(cells, np.uint8), padded(frames, np.float32)
        return DetectionBatch(
            image=image,
            boxes=padded(boxes, np.float32),
            labels=padded(record["labels"], np.int32),
            box_mask=np.arange(self.max_boxes) < count,
            crowd=padded(record["crowd"], bool),
            difficult=padded(record["difficult"], bool),
            mask=np.True_,
            extent=extent_in(self.inputs, image, placement, original),
            placement=np.array(placement, np.float32),
            size=np.array(original, np.int32),
            masks=cells,
            mask_frames=frames,
            area=padded(area, np.float32),
            keypoints=None if keypoints is None else padded(keypoints, np.float32),
            proposals=proposals,
            proposal_mask=proposal_mask,
            labels_only=np.bool_(labels_only) if self.labels_only else None,
        )

    def _proposals(
        self, record: Record, placement: Placement, where: str
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Returns the proposals in a network's input, f32[P, 4], and their mask, bool[P]."""
        if self.max_proposals is None:
            return None, None
        if "proposals" not in record:
            raise InputError(
                f"{where}: has no proposals: give a source WithProposals, or set max_proposals=None"
            )
        boxes = np.asarray(record["proposals"], np.float64).reshape(-1, 4)
        boxes, kept = _clip(to_input(boxes, placement), self.inputs)
        boxes = boxes[kept][: self.max_proposals]
        padded = np.zeros((self.max_proposals, 4), np.float32)
        padded[: len(boxes)] = boxes
        return padded, np.arange(self.max_proposals) < len(boxes)

    def _keypoints(
        self, record: Record, placement: Placement, size: tuple[int, int], where: str
    ) -> np.ndarray | None:
        """Returns the keypoints in a network's input of a (height, width), f64[G, K, 3]."""
        if self.num_keypoints is None:
            return None
        keypoints = record.get("keypoints")
        if keypoints is None and not len(record["labels"]):
            return np.zeros((0, self.num_keypoints, 3))
        if keypoints is None:
            raise InputError(
                f"{where}: has no keypoints: choose data that has them, or set num_keypoints=None"
            )
        keypoints = np.asarray(keypoints, np.float64)
        wanted = (len(record["labels"]), self.num_keypoints, 3)
        if keypoints.shape != wanted:
            raise InputError(
                f"{where}: keypoints are {list(keypoints.shape)}, not {list(wanted)}: correct the "
                "record or num_keypoints"
            )
        points = keypoints[..., :2].reshape(-1, 2)
        placed = to_input(np.tile(points, 2), placement)[:, :2]
        original = np.asarray(record["image"]).shape[:2]
        inside = points_inside(points, original) & points_inside(placed, size)
        there = inside.reshape(keypoints.shape[:2]) & (keypoints[..., 2] > 0)
        moved = np.concatenate([placed.reshape(*there.shape, 2), keypoints[..., 2:]], axis=-1)
        return np.where(there[..., None], moved, 0)

    def _masks(self, record: Record, size: tuple[int, int], where: str) -> list[RunLengths] | None:
        """Returns the masks of a record, where they are of use; None: there are none."""
        masks = record.get("masks")
        if self.masks and masks is None:
            raise InputError(
                f"{where}: does not give a mask for each object: add those that are missing, or "
                "set masks=False"
            )
        if masks is None or not (self.masks or record.get("area") is None):
            return None
        return [to_run_lengths(mask, size) for mask in masks]

    def _cropped(
        self, masks: Sequence[RunLengths], placement: Placement, size: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns masks u8[G, M, M], and their frames f64[G, 4] in an input of a (height, width).

        What the input does not show is left out.
        """
        cells = np.zeros((len(masks), self.mask_size, self.mask_size), np.uint8)
        frames = np.zeros((len(masks), 4))
        (seen,) = to_original(np.array([[0, 0, size[1], size[0]]], float), placement)
        left, top = np.maximum(np.floor(seen[:2]), 0).astype(int)
        right, bottom = np.ceil(seen[2:]).astype(int)
        for row, mask in enumerate(masks):
            pixels = decode_mask(mask)[top:bottom, left:right]
            cells[row], frames[row] = crop_mask(pixels, self.mask_size)
        some = (frames > 0).any(axis=1)
        frames[some] = to_input(frames[some] + [left, top, left, top], placement)
        return cells, frames


_OF_OBJECTS = ("boxes", "labels", "crowd", "difficult", "area", "masks", "keypoints")
"""Entries of a record with an element for each object."""


def _largest(record: Record, most: int) -> Record:
    """Returns a record with at most so many of its objects, see `ToDetection.drop_extra`."""
    boxes = np.asarray(record["boxes"], np.float64).reshape(-1, 4)
    if len(boxes) <= most:
        return record
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    # The last key is the first one to sort by.
    order = np.lexsort((-area, np.asarray(record["difficult"]), np.asarray(record["crowd"])))
    kept = np.sort(order[:most]).tolist()
    given = {name: record[name] for name in _OF_OBJECTS if record.get(name) is not None}
    parts = {
        name: x[kept] if isinstance(x, np.ndarray) else tuple(x[row] for row in kept)
        for name, x in given.items()
    }
    return {**record, **parts}


def _clip(boxes: np.ndarray, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
    """Returns the boxes in the network's input, and the numbers of those to keep."""
    if inputs.resize != "crop":
        return boxes, np.arange(len(boxes))
    height, width = inputs.size
    clipped = np.clip(boxes, 0, np.array([[width, height, width, height]]))
    before, after = (np.prod(x[:, 2:] - x[:, :2], axis=1) for x in (boxes, clipped))
    return clipped, np.flatnonzero((after > 0) & (after >= LEAST_VISIBLE * before))
