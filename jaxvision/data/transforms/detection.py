"""From raw records to examples for detection."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxvision.core import DetectionBatch, InputError, check_range
from jaxvision.data.sources.annotated import to_run_lengths
from jaxvision.data.sources.source import Record, image_of
from jaxvision.data.transforms.placing import check_placing, place
from jaxvision.ops import RunLengths, decode_mask, mask_area
from jaxvision.ops.placement import Placement, place_mask, to_input


def check_box_count(count: int, max_boxes: int, where: str) -> None:
    """Raises InputError if a record has too many boxes; `where` names it."""
    if count > max_boxes:
        raise InputError(
            f"{where}: has {count} boxes, more than {max_boxes}: set config.data.max_boxes={count}"
        )


@dataclass(frozen=True)
class ToDetectionExample:
    """Checks a record and makes it an example of the network's size, its objects padded.

    Attributes:
      image_size: (height, width) of the result.
      num_classes: labels run from 0 to one below.
      max_boxes: N, to which the boxes are padded.
      resize: a key of `PLACEMENTS`: "letterbox" keeps the image's form, "stretch" does not.
      fill: what stands beside a letterboxed image.
      masks: whether examples have masks: N times the pixels of the network's input, in bytes.

    Raises:
      InputError: a number below 1, a fill that no pixel has, or an unknown way to resize.
    """

    image_size: tuple[int, int]
    num_classes: int
    max_boxes: int = 100
    resize: str = "letterbox"
    fill: int = 127
    masks: bool = False

    def __post_init__(self) -> None:
        check_placing(self.image_size, method=self.resize, fill=self.fill)
        check_range("the number of config.data.class_names", self.num_classes, least=1)
        check_range("config.data.max_boxes", self.max_boxes, least=1)

    def __call__(self, record: Record, where: str) -> DetectionBatch:
        """One example: a `DetectionBatch` without its batch axis.

        Args:
          record: "image" u8[H, W, 3], "boxes" f[G, 4] in its pixels, "labels" int[G], "crowd" and
            "difficult" bool[G], perhaps "area" f[G] and G "masks" of the image's size, as from
            `AnnotatedImages`.
          where: names the record in messages.
        Raises:
          InputError: an image of another form, a label out of range, too many boxes, or no masks
            where they are asked for.
        """
        image, labels = image_of(record, where), np.asarray(record["labels"])
        count = len(labels)
        check_box_count(count, self.max_boxes, where)
        wrong = np.flatnonzero((labels < 0) | (labels >= self.num_classes))
        if wrong.size:
            raise InputError(
                f"{where}: label {labels[wrong[0]]} of box {wrong[0] + 1} is out of range "
                f"0..{self.num_classes - 1}: mend the record or add to config.data.class_names"
            )
        placed, placement = place(image, self.image_size, method=self.resize, fill=self.fill)
        boxes, masks, areas = np.asarray(record["boxes"]), record.get("masks"), record.get("area")
        if self.masks and masks is None:
            raise InputError(
                f"{where}: does not give a mask for each object: add those that are missing, or "
                "set config.data.masks=False"
            )
        if masks is not None and (self.masks or areas is None):
            masks = [to_run_lengths(mask, image.shape[:2]) for mask in masks]
        if areas is None and masks is not None:
            areas = [mask_area(mask) for mask in masks]
        elif areas is None:
            areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)

        def padded(values: np.ndarray, kind: type) -> np.ndarray:
            result = np.zeros((self.max_boxes, *np.shape(values)[1:]), kind)
            result[:count] = values
            return result

        return DetectionBatch(
            image=placed,
            boxes=padded(to_input(boxes, placement), np.float32),
            labels=padded(labels, np.int32),
            box_mask=np.arange(self.max_boxes) < count,
            crowd=padded(record["crowd"], bool),
            difficult=padded(record["difficult"], bool),
            mask=np.True_,
            placement=np.array(placement, np.float32),
            size=np.array(image.shape[:2], np.int32),
            masks=self._placed(masks, placement) if self.masks else None,
            area=padded(areas, np.float32),
        )

    def _placed(self, masks: Sequence[RunLengths], placement: Placement) -> np.ndarray:
        """bool[N, height, width]."""
        result = np.zeros((self.max_boxes, *self.image_size), bool)
        for row, mask in enumerate(masks):
            result[row] = place_mask(decode_mask(mask), self.image_size, placement)
        return result
