"""One .npz file with the images and labels of each split, as arrays."""

import os
import pathlib
import zipfile
from collections.abc import Sequence

import numpy as np

from jaxvision.core import InputError, listed
from jaxvision.core.files import read_npz
from jaxvision.data.sources.arrays import Arrays
from jaxvision.data.sources.source import as_path

ARRAY_NAMES = (
    ("{split}_x", "{split}_y"),
    ("x_{split}", "y_{split}"),
    ("{split}_images", "{split}_labels"),
)
"""What the images and the labels of a split may be called; the last two in Keras and MedMNIST."""


class Npz(Arrays):
    """A split of an .npz file, held in memory.

    The file has images, u8[N, H, W], [N, H, W, 1] or [N, H, W, 3], and labels, int[N] or [N, 1],
    under one of the pairs of `ARRAY_NAMES`. Pickled objects are never read.

    Args:
      path: of the file.
      split: as it is in the arrays' names, such as "train", "val" or "test".
      class_names: of the labels 0, 1, ...; () if they are not known.
    Raises:
      InputError: there is no such file, it is damaged or not an .npz file, it lacks the arrays, or
        they are pickled objects; or as for `Arrays`.
    """

    def __init__(
        self, path: str | os.PathLike[str], split: str, *, class_names: Sequence[str] = ()
    ):
        (images_name, images), (labels_name, labels) = _read(as_path(path, ".npz file"), split)
        super().__init__(images, labels, class_names=class_names, names=(images_name, labels_name))


def _read(path: pathlib.Path, split: str) -> list[tuple[str, np.ndarray]]:
    """Returns the images and the labels of a split, each with a name for messages."""
    if not path.is_file():
        raise InputError(f"there is no file {path}: give the path of the .npz file")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} is not an .npz file, or cut short: write it with numpy.savez")
    pairs = [tuple(name.format(split=split) for name in pair) for pair in ARRAY_NAMES]

    def choose(names: list[str]) -> list[str]:
        found = [pair for pair in pairs if {*pair} <= {*names}]
        if len(found) != 1:
            raise InputError(
                f"no split {split!r}: {path} has the arrays {listed(names)}: it needs "
                f"{', or '.join(map(' and '.join, pairs))}, and just one of these pairs"
            )
        return [*found[0]]

    arrays = read_npz(path, "write it again", choose)
    return [(f"{path}, {name}", array) for name, array in arrays.items()]
