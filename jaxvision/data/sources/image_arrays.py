"""Images and labels in memory, from whatever files have them as arrays."""

from dataclasses import dataclass

import numpy as np

from jaxvision.core import InputError
from jaxvision.data.sources.source import Record
from jaxvision.data.transforms.classification import check_labels


@dataclass(frozen=True, eq=False)
class ImageArrays:
    """A source over two arrays.

    Attributes:
      images: u8[N, H, W, C].
      labels: int[N].
      names: of the two arrays in messages: their files, and places there.
      num_classes: labels run from 0 to one below.
    Raises:
      InputError: the numbers of images and labels differ, or a label is out of range.
    """

    images: np.ndarray
    labels: np.ndarray
    names: tuple[str, str]
    num_classes: int

    def __post_init__(self) -> None:
        images, labels = self.names
        if len(self.images) != len(self.labels):
            raise InputError(
                f"{images} has {len(self.images)} images, but {labels} has {len(self.labels)} "
                "labels: they belong to different sets"
            )
        # They are all here: a bad one shows now, not in the middle of an epoch.
        check_labels(self.labels, self.num_classes, self.where)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Record:
        """A record: "image" u8[H, W, C] and "label"."""
        return {"image": self.images[index], "label": int(self.labels[index])}

    def where(self, index: int) -> str:
        return f"{self.names[0]}, record {index}"
