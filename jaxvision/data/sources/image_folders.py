"""Files of images without labels, and folders with a folder of images for each class."""

import logging
import os
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from jaxvision.core import InputError, OptionError, Record, listed
from jaxvision.data.sources.images import files_below, image_size, is_hidden, read_image
from jaxvision.data.sources.source import as_path

log = logging.getLogger(__name__)


class Images:
    """A source over image files, without labels.

    Args:
      paths: of the files.
      grey: give images one channel instead of three.

    Attributes:
      paths: of the files.
      class_names: ().
    """

    class_names: tuple[str, ...] = ()

    def __init__(self, paths: Iterable[str | os.PathLike[str]], *, grey: bool = False):
        self.paths = tuple(pathlib.Path(path).expanduser() for path in paths)
        self._grey = grey

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Record:
        """Returns a record: "image" u8[H, W, 3] (u8[H, W, 1] if grey) and its "size" (H, W)."""
        image = _read(self.paths[index], grey=self._grey)
        return {"image": image, "size": image.shape[:2]}

    def where(self, index: int) -> str:
        return str(self.paths[index])

    def target(self, index: int) -> Record:
        return {"size": image_size(self.paths[index])}


class ImageFolder:
    """A source over a folder that has a folder of images for each class, as ImageNet's.

    Images are PATH/CLASS/IMAGE, perhaps in further folders. Other files and hidden ones are left
    out, and a warning counts them.

    Args:
      path: of the folder, such as "photos/train".
      class_names: of the classes, in the order of their labels; the folder may lack some of them.
        None: the names of its folders, sorted. For validation give those of the training data.
      grey: give images one channel instead of three.
      complete: refuse a folder that lacks one of `class_names`, as training data should not.

    Attributes:
      paths: of the images, class by class.
      labels: i32[N], the number of each image's class.
      class_names: of the classes.
      ignored: how many files and folders are left out: hidden ones, files that are not images,
        links to folders of a class that are there anyway, and files beside the classes' folders.
    Raises:
      InputError: there is no such folder, no class in it or no image in a class, or it has a class
        that is not in `class_names`.
      OptionError: `complete` is set, and the folder lacks a class.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        class_names: Sequence[str] | None = None,
        grey: bool = False,
        complete: bool = False,
    ):
        folder = as_path(path, "folder with a folder of images for each class")
        own, ignored = _classes(folder)
        self.class_names = tuple(class_names or own)
        _check_classes(folder, own, self.class_names, complete=complete)
        paths: list[pathlib.Path] = []
        labels: list[int] = []
        for name in own:
            images, others = files_below(folder / name)
            if not images:
                raise InputError(f"there are no images in {folder / name}: add some, or remove it")
            paths += images
            labels += [self.class_names.index(name)] * len(images)
            ignored += len(others)
        if ignored:
            log.warning(
                "%s: ignored %d files or folders that are hidden, are not images, are there twice "
                "or lie beside the classes' folders",
                folder,
                ignored,
            )
        self.paths, self.labels, self.ignored = tuple(paths), np.int32(labels), ignored
        self._grey = grey

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Record:
        """Returns a record: "image" u8[H, W, 3] (u8[H, W, 1] if grey) and "label"."""
        return {"image": _read(self.paths[index], grey=self._grey), **self.target(index)}

    def where(self, index: int) -> str:
        return str(self.paths[index])

    def target(self, index: int) -> Record:
        return {"label": int(self.labels[index])}

    def size(self, index: int) -> tuple[int, int]:
        """Returns the (height, width) of an image, from its header."""
        return image_size(self.paths[index])


def to_grey(image: np.ndarray) -> np.ndarray:
    """Makes u8[H, W, 1] of u8[H, W, 3], by ITU-R BT.601, as Pillow's mode L."""
    return np.rint(image @ np.float32([0.299, 0.587, 0.114])).astype(np.uint8)[..., None]


def _read(path: pathlib.Path, *, grey: bool) -> np.ndarray:
    image = read_image(path)
    return to_grey(image) if grey else image


def _check_classes(
    folder: pathlib.Path, own: Sequence[str], classes: Sequence[str], *, complete: bool
) -> None:
    unknown = [name for name in own if name not in classes]
    if unknown:
        raise InputError(
            f"{folder} has classes that are not among the {len(classes)} of class_names: "
            f"{listed(unknown)}: remove their folders, or add them to class_names"
        )
    lacking = [name for name in classes if name not in own]
    if complete and lacking:
        raise OptionError(
            "class_names",
            f"class_names has names without a folder in {folder}: {listed(lacking)}: give each a "
            "folder, or leave it out",
        )


def _classes(folder: pathlib.Path) -> tuple[list[str], int]:
    """Returns the sorted names of the classes' folders, and how much else is beside them."""
    if not folder.is_dir():
        raise InputError(
            f"there is no folder {folder}: give one that has a folder of images for each class"
        )
    entries = list(folder.iterdir())
    names = sorted(path.name for path in entries if path.is_dir() and not is_hidden(path))
    if not names:
        raise InputError(f"there are no folders in {folder}: give each class one")
    return names, len(entries) - len(names)
