"""Photographs without any labels: the two embedded ones, and folders of them."""

import os
import pathlib

import numpy as np
from PIL import Image

from jaxvision.core import InputError, Record, lookup
from jaxvision.data.sources.image_folders import Images
from jaxvision.data.sources.images import images_below, opened
from jaxvision.data.sources.source import as_path

EMBEDDED = {"train": "china.jpg", "test": "flower.jpg"}
"""Split -> the photograph in scikit-learn, of 427 x 640 pixels."""


class Photographs:
    """A source of photographs without labels.

    Args:
      path: of a folder that has a folder of images for each split; None: the photographs that
        scikit-learn carries, one for each split.
      split: the folder's name, or "" for the images in `path` itself; "train" or "test" of the
        embedded ones.

    Attributes:
      class_names: ().
    Raises:
      InputError: there is no such split, or no image in it.
    """

    class_names: tuple[str, ...] = ()

    def __init__(self, path: str | os.PathLike[str] | None = None, split: str = "train"):
        if path is None:
            self._source = _Embedded(lookup(EMBEDDED, split, "split of the embedded photographs"))
            return
        folder = as_path(path) / split
        found = images_below(folder)
        if not found:
            raise InputError(f"no split {split!r}: there are no images in {folder}")
        self._source = _Files(found)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        """Returns a record: "image" u8[H, W, 3], or u8[H, W, 1] of a grey file, and its "size"."""
        return self._source[index]

    def where(self, index: int) -> str:
        return self._source.where(index)

    def target(self, index: int) -> Record:
        return self._source.target(index)


def is_grey(path: str | os.PathLike[str]) -> bool:
    """Returns whether an image file stores grey values instead of colours, by its header.

    Args:
      path: of the file.
    Raises:
      InputError: it cannot be read.
    """
    with opened(pathlib.Path(path)) as image:
        return Image.getmodebase(image.mode) == "L"


class _Files(Images):
    """A source of image files, of which the grey ones keep their one channel."""

    def __getitem__(self, index: int) -> Record:
        record = super().__getitem__(index)
        if not is_grey(self.paths[index]):
            return record
        return {**record, "image": record["image"][..., :1]}


class _Embedded:
    """A source of one of the `EMBEDDED` photographs."""

    def __init__(self, name: str):
        self._name = name

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Record:
        # Late, because it takes a second.
        import sklearn.datasets

        image = np.asarray(sklearn.datasets.load_sample_image(self._name))
        return {"image": image, "size": image.shape[:2]}

    def where(self, index: int) -> str:
        return f"scikit-learn's {self._name}"

    def target(self, index: int) -> Record:
        return {"size": self[index]["size"]}
