"""Photographs without any labels: the two embedded ones, and folders of them."""

import pathlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import sklearn.datasets

from jaxvision.core import InputError, lookup
from jaxvision.data.sources.images import images_below, read_image
from jaxvision.data.sources.source import Record, data_folder, own_split

EMBEDDED = {"train": "china.jpg", "test": "flower.jpg"}
"""Split -> the photograph that scikit-learn carries, of 640x427 pixels."""


@dataclass(frozen=True)
class EmbeddedPhotographs:
    """A source of one photograph.

    Attributes:
      name: one of `EMBEDDED`.
    """

    name: str

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Record:
        """A record: "image" u8[427, 640, 3]."""
        return {"image": np.asarray(sklearn.datasets.load_sample_image(self.name))}

    def where(self, index: int) -> str:
        return f"scikit-learn's {self.name}"


@dataclass(frozen=True)
class Photographs:
    """A source over image files.

    Attributes:
      paths: of the files.
    """

    paths: tuple[pathlib.Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Record:
        """A record: "image" u8[H, W, 3]."""
        return {"image": read_image(self.paths[index])}

    def where(self, index: int) -> str:
        return str(self.paths[index])


def open_embedded_photographs(data: Any, split: str) -> EmbeddedPhotographs:
    """The embedded photograph of a split.

    Args:
      data: config; nothing in it is used.
      split: "train" or "test".
    Raises:
      InputError: there is no such split.
    """
    return EmbeddedPhotographs(lookup(EMBEDDED, split, "split of the embedded photographs"))


def open_photograph_folder(data: Any, split: str) -> Photographs:
    """The photographs in a folder, and in the folders in it.

    Args:
      data: config with `dir`, which has a folder for each split, and `train_split` and
        `test_split`.
      split: "train" and "test" stand for the config's; any other name is the folder's own.
    Raises:
      InputError: there is no such folder, or no image in it.
    """
    split = own_split(data, split)
    folder = data_folder(data) / split
    found = images_below(folder)
    if not found:
        raise InputError(f"no split {split!r}: there are no images in {folder}")
    return Photographs(tuple(found))
