"""Folders of images with a folder for each class, as ImageNet's."""

import logging
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxvision.core import InputError, listed
from jaxvision.data.sources.images import files_below, is_hidden, read_image
from jaxvision.data.sources.source import Record, data_folder, own_split

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageFolder:
    """A source over image files, in folders that are named after their classes.

    Attributes:
      paths: of the files.
      labels: i32[N], the number of each one's class.
      class_names: of the classes.
      grey: whether images get one channel instead of three.
      ignored: how many files and folders there are besides: hidden ones, files that are no images,
        links to folders of the class that it has anyway, and files beside the classes' folders.
    """

    paths: tuple[pathlib.Path, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    grey: bool = False
    ignored: int = 0

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

    Classes are numbered in the order of `data.class_names`, or else of the training split's
    folders, sorted by name. Other splits may lack the folder of a class; one that is there has
    images. What is ignored is counted in a warning.

    Args:
      data: config with `dir`, `train_split` and `test_split`, `num_classes`, `class_names` and
        `channels`.
      split: "train" and "test" stand for the config's; any other name is the folder's own.
    Raises:
      InputError: there is no such folder, no class in it or no image in a class; a class that is
        none of those, or that the training split lacks; another number of classes than
        `num_classes`.
    """
    folder = data_folder(data)
    part, training = (folder / own_split(data, name) for name in (split, "train"))
    own, ignored = _classes(part)
    classes = data.class_names or _classes(training)[0]
    if len(classes) != data.num_classes:
        origin = "config.data.class_names" if data.class_names else training
        raise InputError(
            f"{origin} has {len(classes)} classes: set config.data.num_classes={len(classes)} "
            f"instead of {data.num_classes}"
        )
    _check_classes(part, own, classes, whole=part == training)
    paths, labels = [], []
    for name in own:
        images, others = files_below(part / name)
        if not images:
            raise InputError(f"there are no images in {part / name}: add some, or take it out")
        paths += images
        labels += [classes.index(name)] * len(images)
        ignored += len(others)
    if ignored:
        log.warning(
            "%s: ignored %d files or folders that are hidden, no images, there twice or beside the "
            "classes' folders",
            part,
            ignored,
        )
    return ImageFolder(tuple(paths), np.int32(labels), tuple(classes), data.channels == 1, ignored)


def _check_classes(
    folder: pathlib.Path, own: Sequence[str], classes: Sequence[str], *, whole: bool
) -> None:
    """Raises InputError if a split has further classes, or, where `whole`, lacks one."""
    unknown = [name for name in own if name not in classes]
    if unknown:
        raise InputError(
            f"{folder} has classes that are none of the {len(classes)} to train on: "
            f"{listed(unknown)}: take their folders out, or train with them"
        )
    lacking = [name for name in classes if name not in own]
    if whole and lacking:
        raise InputError(
            f"{folder} lacks classes of config.data.class_names: {listed(lacking)}: give each a "
            "folder"
        )


def _classes(folder: pathlib.Path) -> tuple[list[str], int]:
    """The names of the classes' folders in a split's folder, sorted; how much else is in it."""
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: set config.data.dir and the splits' names")
    entries = list(folder.iterdir())
    names = sorted(path.name for path in entries if path.is_dir() and not is_hidden(path))
    if not names:
        raise InputError(f"there are no folders in {folder}: give each class one")
    return names, len(entries) - len(names)
