"""From raw records to examples for segmentation."""

from dataclasses import dataclass

import numpy as np

from jaxvision.core import IGNORED, InputError, SegmentationBatch, check_range
from jaxvision.data.sources.source import Record, image_of
from jaxvision.data.transforms.placing import check_placing, place
from jaxvision.ops.placement import PLACEMENTS, place_mask


@dataclass(frozen=True)
class ToSegmentationExample:
    """Checks a record and makes it an example of the network's size.

    Attributes:
      image_size: (height, width) of the result.
      num_classes: labels run from 0 to one below, or are `IGNORED`.
      resize: a key of `PLACEMENTS`; None refuses images of another size. Labels are those of the
        nearest pixels, and `IGNORED` beside a letterboxed image.
      fill: what stands beside the image there.

    Raises:
      InputError: a number below 1, a fill that no pixel has, or an unknown way to resize.
    """

    image_size: tuple[int, int]
    num_classes: int
    resize: str | None = None
    fill: int = 127

    def __post_init__(self) -> None:
        check_placing(self.image_size, method=self.resize, fill=self.fill)
        check_range("config.data.num_classes", self.num_classes, least=1, most=IGNORED)

    def __call__(self, record: Record, where: str) -> SegmentationBatch:
        """One example: a `SegmentationBatch` without its batch axis.

        Args:
          record: "image" u8[H, W, 3] and "labels" int[H, W].
          where: names the record in messages.
        Raises:
          InputError: an image of another form, labels of another size or out of range.
        """
        image, labels = image_of(record, where), np.asarray(record["labels"])
        if labels.shape != image.shape[:2]:
            (height, width), (rows, columns) = image.shape[:2], labels.shape[:2]
            raise InputError(
                f"{where}: the image has {width} x {height} pixels, but its mask {columns} x {rows}"
            )
        wrong = (labels < 0) | ((labels >= self.num_classes) & (labels != IGNORED))
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise InputError(
                f"{where}: label {labels[row, column]} of the pixel in row {row}, column {column} "
                f"is out of range 0..{self.num_classes - 1}: mend the mask (pixels that are not to "
                f"count are {IGNORED}) or add to config.data.class_names"
            )
        labels = labels.astype(np.uint8)
        if image.shape[:2] != self.image_size:
            if self.resize is None:
                height, width = self.image_size
                raise InputError(
                    f"{where}: the image is {image.shape[1]} x {image.shape[0]} instead of "
                    f"{width} x {height}: set config.data.image_size, or config.data.resize to one "
                    f"of {', '.join(PLACEMENTS)}"
                )
            image, placement = place(image, self.image_size, method=self.resize, fill=self.fill)
            labels = place_mask(labels, self.image_size, placement, fill=IGNORED)
        return SegmentationBatch(image=image, labels=labels, mask=np.True_)
