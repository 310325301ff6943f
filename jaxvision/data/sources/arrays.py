"""Images and labels in memory."""

from collections.abc import Sequence

import numpy as np

from jaxvision.core import InputError, Record
from jaxvision.data.sources.checks import check_labels


class Arrays:
    """A source over arrays of images and labels.

    Args:
      images: u8[N, H, W], [N, H, W, 1] or [N, H, W, 3].
      labels: int[N] or [N, 1]; None: the images have none.
      class_names: of the labels 0, 1, ...; () if they are not known.
      names: of the two arrays, for messages.

    Attributes:
      labels: i64[N]; missing where there are none.
      class_names: as given.
    Raises:
      InputError: an array has another dtype or shape, images have no pixels, the numbers of images
        and labels differ, or a label is out of range.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray | None = None,
        *,
        class_names: Sequence[str] = (),
        names: tuple[str, str] = ("images", "labels"),
    ):
        images, self._name = np.asarray(images), names[0]
        if (
            images.dtype != np.uint8
            or images.ndim not in (3, 4)
            or images.shape[3:] not in ((), (1,), (3,))
        ):
            raise InputError(
                f"{names[0]} is {images.dtype}{list(images.shape)}: give the images as uint8 "
                "[N, H, W], [N, H, W, 1] or [N, H, W, 3]"
            )
        if 0 in images.shape[1:3]:
            raise InputError(
                f"{names[0]} has images of {images.shape[2]} x {images.shape[1]} pixels: give at "
                "least 1 x 1"
            )
        self._images = images if images.ndim == 4 else images[..., None]
        self.class_names = tuple(class_names)
        if labels is not None:
            self.labels = self._checked(np.asarray(labels), names[1])

    def _checked(self, labels: np.ndarray, name: str) -> np.ndarray:
        if (
            not np.issubdtype(labels.dtype, np.integer)
            or labels.ndim not in (1, 2)
            or labels.shape[1:] not in ((), (1,))
        ):
            raise InputError(
                f"{name} is {labels.dtype}{list(labels.shape)}: give the number of each image's "
                "class, as integers [N] or [N, 1]"
            )
        if len(labels) != len(self):
            raise InputError(
                f"{self._name} has {len(self)} images, but {name} has {len(labels)} labels: they "
                "belong to different sets"
            )
        self.labels = labels.ravel().astype(np.int64)
        # They are all here: a bad one shows now, not in the middle of an epoch.
        largest = len(self.class_names) or int(self.labels.max(initial=0)) + 1
        check_labels(self, largest, option="class_names")
        return self.labels

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Record:
        """Returns a record: "image" u8[H, W, C], and "label" if there are labels."""
        return {"image": self._images[index], **self.target(index)}

    def where(self, index: int) -> str:
        return f"{self._name}, record {index}"

    def target(self, index: int) -> Record:
        return {"label": int(self.labels[index])} if hasattr(self, "labels") else {}
