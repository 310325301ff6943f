"""One .npz file with the images and labels of each split, as arrays."""

import pathlib
import zipfile
from typing import Any

import numpy as np

from jaxvision.core import InputError
from jaxvision.core.files import NPZ_ERRORS
from jaxvision.data.sources.image_arrays import ImageArrays
from jaxvision.data.sources.source import own_split

ARRAY_NAMES = (
    ("{split}_x", "{split}_y"),
    ("x_{split}", "y_{split}"),
    ("{split}_images", "{split}_labels"),
)
"""What the images and the labels of a split may be called; the last two in Keras and MedMNIST."""


def open_npz(data: Any, split: str) -> ImageArrays:
    """A split of an .npz file, held in memory.

    The file has images, u8[N, H, W], [N, H, W, 1] or [N, H, W, 3], and labels, int[N] or [N, 1],
    under one of the pairs of `ARRAY_NAMES`.

    Args:
      data: config with `dir`, the file, and `train_split`, `test_split` and `num_classes`.
      split: "train" and "test" stand for the config's; any other name, such as "val", is the
        file's own.
    Raises:
      InputError: there is no such file, it is damaged or no .npz, it lacks the arrays, or they have
        another dtype or shape or are pickled objects; or as `ImageArrays`.
    """
    if not data.dir:
        raise InputError("config.data.dir is not set: give the .npz file")
    path = pathlib.Path(data.dir).expanduser()
    (images_name, images), (labels_name, labels) = _read(path, own_split(data, split))
    if (
        images.dtype != np.uint8
        or images.ndim not in (3, 4)
        or images.shape[3:] not in ((), (1,), (3,))
    ):
        raise InputError(
            f"{images_name} is {images.dtype}{list(images.shape)}: store the images as uint8 "
            "[N, H, W], [N, H, W, 1] or [N, H, W, 3]"
        )
    if (
        not np.issubdtype(labels.dtype, np.integer)
        or labels.ndim not in (1, 2)
        or labels.shape[1:] not in ((), (1,))
    ):
        raise InputError(
            f"{labels_name} is {labels.dtype}{list(labels.shape)}: store the number of each "
            "image's class, as integers [N] or [N, 1]"
        )
    return ImageArrays(
        images if images.ndim == 4 else images[..., None],
        labels.ravel(),
        (images_name, labels_name),
        data.num_classes,
    )


def _read(path: pathlib.Path, split: str) -> list[tuple[str, np.ndarray]]:
    """The images and the labels of a split, each with a name for messages."""
    if not path.is_file():
        raise InputError(f"there is no file {path}: --config.data.dir must name the .npz file")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} is no .npz file, or cut short: write it with numpy.savez")
    pairs = [tuple(name.format(split=split) for name in pair) for pair in ARRAY_NAMES]
    try:
        with np.load(path, allow_pickle=False) as file:
            names = list(file)
            found = [pair for pair in pairs if {*pair} <= {*names}]
            arrays = [(f"{path}, {name}", file[name]) for pair in found for name in pair]
    except NPZ_ERRORS as error:
        raise InputError(f"{path} cannot be read ({error}): write it again") from error
    if len(found) != 1:
        raise InputError(
            f"no split {split!r}: {path} has the arrays {', '.join(names)}: it needs "
            f"{', or '.join(map(' and '.join, pairs))}, and just one of these pairs"
        )
    return arrays
