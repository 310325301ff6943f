"""From raw records to examples for classification."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from jaxvision.core import ClassificationBatch, InputError, check_range, lookup
from jaxvision.data.source import Record, image_of

RESIZE = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
"""Ways to bring an image to another size; all but nearest are antialiased when shrinking."""


def _resize(image: np.ndarray, size: int, method: str) -> np.ndarray:
    channels = [
        np.asarray(Image.fromarray(image[:, :, c]).resize((size, size), RESIZE[method]))
        for c in range(image.shape[2])
    ]
    return np.stack(channels, axis=-1)


def check_label(label: int, num_classes: int, where: str) -> None:
    """Raises InputError if a label is none of the classes; `where` names its record."""
    if not 0 <= label < num_classes:
        raise InputError(
            f"{where}: label {label} is out of range 0..{num_classes - 1}: mend the record or set "
            "config.data.num_classes"
        )


@dataclass(frozen=True)
class ToClassificationExample:
    """Checks a record and makes it an example of the network's size.

    Attributes:
      image_size: height and width of the result.
      channels: 1 (grey) or 3 (RGB).
      num_classes: labels run from 0 to one below.
      resize: a key of `RESIZE`; None refuses images of another size.

    Raises:
      InputError: a size or number below 1, or an unknown way to resize.
    """

    image_size: int
    channels: int
    num_classes: int
    resize: str | None = None

    def __post_init__(self) -> None:
        check_range("config.data.image_size", self.image_size, least=1)
        check_range("config.data.num_classes", self.num_classes, least=1)
        if self.resize is not None:
            lookup(RESIZE, self.resize, "config.data.resize")

    def __call__(self, record: Record, where: str) -> ClassificationBatch:
        """One example: a `ClassificationBatch` without its batch axis.

        Args:
          record: "image" u8[H, W, C] and "label" int.
          where: names the record in messages.
        Raises:
          InputError: wrong size, channels or label.
        """
        image, label = image_of(record, where, channels=None), record["label"]
        if image.shape[2] != self.channels:
            raise InputError(
                f"{where}: the image has {image.shape[2]} channels instead of {self.channels}: "
                f"set config.data.channels={image.shape[2]}"
            )
        if image.shape[:2] != (self.image_size, self.image_size):
            if self.resize is None:
                raise InputError(
                    f"{where}: the image is {image.shape[0]}x{image.shape[1]} instead of "
                    f"{self.image_size}x{self.image_size}: set config.data.image_size, or "
                    f"config.data.resize to one of {', '.join(RESIZE)}"
                )
            image = _resize(image, self.image_size, self.resize)
        check_label(label, self.num_classes, where)
        return ClassificationBatch(
            image=image,
            label=np.int32(label),
            weight=np.float32(record.get("weight", 1.0)),
            mask=np.True_,
        )
