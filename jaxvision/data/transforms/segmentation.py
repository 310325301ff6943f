"""From records to examples for segmentation."""

from dataclasses import dataclass

import numpy as np

from jaxvision.core import IGNORED, InputError, Inputs, Record, SegmentationBatch, check_range
from jaxvision.data.sources.checks import check_class_count
from jaxvision.data.sources.source import Source, image_of
from jaxvision.data.transforms.placing import (
    checked_image,
    extent_in,
    place_image,
    with_channels,
)
from jaxvision.ops.placement import place_mask


@dataclass(frozen=True)
class ToSegmentation:
    """Checks a record and makes it an example for segmentation.

    An image becomes grey if the network takes grey ones.

    Resized labels are those of the nearest pixels, and `IGNORED` where the image does not cover the
    network's input.

    Attributes:
      inputs: of the network.
      num_classes: labels run from 0 to one below, or are `IGNORED`.

    Raises:
      OptionError: `num_classes` is not within 1..255.
    """

    inputs: Inputs
    num_classes: int

    def __post_init__(self) -> None:
        check_range("num_classes", self.num_classes, least=1, most=IGNORED)

    def check_source(self, source: Source) -> None:
        """Raises OptionError if a source has other classes, before any image is read."""
        check_class_count(source, self.num_classes)

    def __call__(
        self, record: Record, where: str, *, size: tuple[int, int] | None = None
    ) -> SegmentationBatch:
        """Returns one example: a `SegmentationBatch` without its batch axis.

        Args:
          record: "image" u8[H, W, C] and "labels" int[H, W].
          where: names the record in messages.
          size: (height, width) of the network's input; None: that of `inputs.size_of`.
        Raises:
          InputError: the image has another form, or the labels have another size or are out of
            range.
        """
        if self.inputs.channels == 1 and image_of(record, where).shape[2] == 3:
            record = {**record, "image": with_channels(record["image"], 1)}
        original = checked_image(record, where, self.inputs).shape[:2]
        labels = np.asarray(record["labels"])
        if labels.shape != original:
            (height, width), (rows, columns) = original, labels.shape[:2]
            raise InputError(
                f"{where}: the image has {width} x {height} pixels, but its mask {columns} x {rows}"
            )
        wrong = (labels < 0) | ((labels >= self.num_classes) & (labels != IGNORED))
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise InputError(
                f"{where}: label {labels[row, column]} of the pixel in row {row}, column {column} "
                f"is out of range 0..{self.num_classes - 1}: correct the mask (pixels that do not "
                f"count are {IGNORED}) or add to class_names"
            )
        image, placement = place_image(record, where, self.inputs, size)
        return SegmentationBatch(
            image=image,
            labels=place_mask(labels.astype(np.uint8), image.shape[:2], placement, fill=IGNORED),
            mask=np.True_,
            extent=extent_in(self.inputs, image, placement, original),
            placement=np.array(placement, np.float32),
            size=np.array(original, np.int32),
        )
