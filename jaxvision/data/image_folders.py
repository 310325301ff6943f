"""Folders of images with a folder for each class, as ImageNet's."""

import pathlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxvision.core import InputError
from jaxvision.data.images import images_below, read_image
from jaxvision.data.source import Record, data_folder, own_split


@dataclass(frozen=True)
class ImageFolder:
    """A source over image files, in folders that are named after their classes.

    Attributes:
      paths: of the files.
      labels: i32[N], the number of each one's class.
      class_names: of the classes.
      grey: whether images get one channel instead of three.
    """

    paths: tuple[pathlib.Path, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    grey: bool = False

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Record:
        """A record: "image" u8[H, W, 3], or u8[H, W, 1] with `grey`, and "label"."""
        image = read_image(self.paths[index])
        if self.grey:
            # ITU-R BT.601, as Pillow's mode L.
            image = np.rint(image @ np.float32([0.299, 0.587, 0.114])).astype(np.uint8)[..., None]
        return {"image": image, "label": int(self.labels[index])}

    def where(self, index: int) -> str:
        return str(self.paths[index])


def open_image_folder(data: Any, split: str) -> ImageFolder:
    """The images of a split: DIR/SPLIT/CLASS/IMAGE, perhaps in further folders.

    Classes are numbered in the order of the training split's folders, sorted by name.

    Args:
      data: config with `dir`, `train_split` and `test_split`, `num_classes` and `channels`.
      split: "train" and "test" stand for the config's; any other name is the folder's own.
    Raises:
      InputError: there is no such folder, or no image in it; a class that the training split lacks;
        another number of classes than `num_classes`.
    """
    folder = data_folder(data)
    classes = _classes(folder / own_split(data, "train"))
    if len(classes) != data.num_classes:
        raise InputError(
            f"{folder / own_split(data, 'train')} has {len(classes)} classes (folders): set "
            f"config.data.num_classes={len(classes)} instead of {data.num_classes}"
        )
    part = folder / own_split(data, split)
    unknown = [name for name in _classes(part) if name not in classes]
    if unknown:
        raise InputError(
            f"{part} has classes that the training split lacks: {', '.join(unknown)}: take them "
            "out, or give each a folder there"
        )
    paths, labels = [], []
    for label, name in enumerate(classes):
        found = images_below(part / name)
        paths += found
        labels += [label] * len(found)
    if not paths:
        raise InputError(f"there are no images in the folders in {part}")
    return ImageFolder(tuple(paths), np.int32(labels), tuple(classes), data.channels == 1)


def _classes(folder: pathlib.Path) -> list[str]:
    """The names of the folders in a split's folder, sorted."""
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: set config.data.dir and the splits' names")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if not names:
        raise InputError(f"there are no folders in {folder}: give each class one")
    return names
