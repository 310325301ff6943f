"""Folders of images and, in files of the same names, masks with the classes of their pixels."""

import functools
import logging
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image

from jaxvision.core import IGNORED, InputError, OptionError, Record, listed
from jaxvision.data.sources.images import (
    ImageError,
    image_size,
    images_below,
    is_hidden,
    opened,
    read_image,
)
from jaxvision.data.sources.source import as_path, refuse
from jaxvision.data.sources.voc import VOC_CLASSES, read_names

log = logging.getLogger(__name__)

_LOOKED_AT = 64  # masks of a folder
_THREADS = 4
_FIX = "set binary to False if 255 is for pixels that do not count"

Pair = tuple[pathlib.Path, pathlib.Path]
"""The files of an image and its mask."""


class _MaskedImages:
    """A source over pairs of files.

    Args:
      name: of the data, for messages.
      pairs: of an image and its mask.
      class_names: of the labels 0, 1, ...
      groups: name -> the masks of a part of the data, the split's first, from which `find_binary`
        finds what 255 means.
      binary: what 255 means; None: find it.
    Raises:
      InputError: a file cannot be read, or a mask has another size than its image; lists the first
        problems.
      OptionError: as for `find_binary`.
    """

    def __init__(
        self,
        name: str,
        pairs: Sequence[Pair],
        class_names: Sequence[str],
        groups: Mapping[str, Sequence[pathlib.Path]],
        binary: bool | None,
    ):
        refuse(name, _problems(pairs))
        self._pairs, self.class_names = tuple(pairs), tuple(class_names)
        self.binary = find_binary(binary, groups, len(self.class_names))

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Record:
        """Returns a record: "image" u8[H, W, 3] and "labels" u8[H, W]."""
        return {"image": read_image(self._pairs[index][0]), **self.target(index)}

    def where(self, index: int) -> str:
        return str(self._pairs[index][1])

    def target(self, index: int) -> Record:
        return {"labels": read_mask(self._pairs[index][1], binary=self.binary)}

    def size(self, index: int) -> tuple[int, int]:
        """Returns the (height, width) of an image, from its header."""
        return image_size(self._pairs[index][0])


class MaskFolder(_MaskedImages):
    """A source over a folder of images and masks.

    The mask of images/SPLIT/NAME.jpg is masks/SPLIT/NAME.png, with the number of each pixel's class
    as grey or palette of 8 bits, or 255 where the pixel does not count; or it is a binary mask.

    Args:
      path: of a folder that has images/SPLIT and masks/SPLIT.
      split: "train", "val", ...
      class_names: of the labels 0, 1, ...; the first is often the background.
      binary: True: masks have 0 for the first class and 255 for the second. False: 255 is for
        pixels that do not count. None: True if masks have only 0 and 255, see `find_binary`.

    Attributes:
      class_names: as given.
      binary: what 255 means.
    Raises:
      InputError: there is no such folder, an image has no mask or one of another size, or a file
        cannot be read; lists the first problems.
      OptionError: masks are binary, and there are not two classes; or `binary` is None, and 255 is
        more than half of the pixels of masks that are not binary.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        split: str,
        *,
        class_names: Sequence[str],
        binary: bool | None = None,
    ):
        folder = as_path(path)
        images, masks = folder / "images" / split, folder / "masks" / split
        pairs = _pairs_of(images, masks)
        if not pairs:
            raise InputError(f"no split {split!r}: there are no images in {images}")
        others = _other_splits(images, masks) if binary is None else {}
        groups = {str(masks): [mask for _, mask in pairs], **others}
        super().__init__(f"{folder} {split}", pairs, class_names, groups, binary)


class VocMasks(_MaskedImages):
    """A source over a folder in Pascal VOC's form, for segmentation.

    Args:
      path: of a folder that has JPEGImages, SegmentationClass and ImageSets/Segmentation.
      split: names ImageSets/Segmentation/SPLIT.txt, with an image's name in each line.
      class_names: of the labels 0, 1, ...; None: "background" and VOC's twenty.
      binary: as for `MaskFolder`.

    Attributes:
      class_names: of the labels.
      binary: what 255 means.
    Raises:
      InputError, OptionError: as for `MaskFolder`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        split: str,
        *,
        class_names: Sequence[str] | None = None,
        binary: bool | None = None,
    ):
        folder = as_path(path)
        masks = folder / "SegmentationClass"
        names = read_names(folder, "Segmentation", split, annotation=f"{masks.name}/{{}}.png")
        pairs = [(folder / "JPEGImages" / f"{name}.jpg", masks / f"{name}.png") for name in names]
        groups = {str(masks): sorted(filter(os.path.isfile, masks.glob("*.png")))}  # of all splits
        classes = class_names or ("background", *VOC_CLASSES)
        super().__init__(f"{folder} {split}", pairs, classes, groups, binary)


def read_mask(path: pathlib.Path | str, *, binary: bool = False) -> np.ndarray:
    """Reads the labels that a palette or grey image holds.

    Args:
      path: of the file, of 8 bits a pixel (or 1): the numbers of the palette's colours, or the
        grey values.
      binary: whether 255 is label 1, and no other number but 0 may occur.
    Returns:
      u8[H, W]; those of an image of 1 bit a pixel are 0 and 1.
    Raises:
      ImageError: it cannot be read, or has colours of its own.
      InputError: it has other labels than a binary mask.
    """
    with opened(path) as image:
        labels, plain = _labels_of(image)
    return from_binary(labels, str(path)) if binary and plain else labels


def from_binary(labels: np.ndarray, where: str) -> np.ndarray:
    """Returns the labels of a binary mask.

    Args:
      labels: u8[H, W] of 0 and 255.
      where: names the mask in messages.
    Returns:
      u8[H, W] of 0 and 1.
    Raises:
      InputError: it has other labels.
    """
    other = labels[(labels != 0) & (labels != IGNORED)]
    if other.size:
        raise InputError(
            f"{where} has the label {other[0]}, but the masks are read as binary ones, which have "
            "only 0 and 255: give binary=False if 255 is for pixels that do not count"
        )
    return (labels == IGNORED).astype(np.uint8)


def find_binary(
    binary: bool | None,
    groups: Mapping[str, Sequence[Any]],
    num_classes: int | None,
    *,
    count: Callable[[Any], np.ndarray] | None = None,
) -> bool:
    """Finds whether masks are binary: 255 is the second class, or is for pixels that do not count.

    They are binary if they have 0 and 255, and no mask of any group has another label: all groups
    are read alike. Of each group `_LOOKED_AT` masks are read, spread evenly, and then as many more
    until one has another label.

    Args:
      binary: what is known; None: nothing.
      groups: name -> masks of a part of the data, the part that is opened first.
      num_classes: labels run from 0 to one below; None: not known.
      count: (mask) -> how many pixels have each label, i64[256]; None: masks are files.
    Raises:
      OptionError: binary masks are not of two classes; or `binary` is None, the masks are not
        binary, and more than half of the pixels of the first group, as far as read, are 255.
    """
    if binary is not None:
        if binary and num_classes not in (2, None):
            raise OptionError(
                "binary", f"binary is True, but there are {num_classes} class_names: give two"
            )
        return binary
    counts: dict[str, np.ndarray] = {}
    for name, masks in groups.items():
        counts[name] = _count(masks, count) if count else _count_files(_states(masks))
        if _has_others(counts[name]):
            break
    found = [name for name, x in counts.items() if x[0] and x[IGNORED] and not _has_others(x)]
    others = [name for name, x in counts.items() if _has_others(x)]
    if found and not others:
        _check_binary(listed(sorted(found)), num_classes)
        return True
    if found:
        _warn_once(
            f"the masks of {found[0]} have only 0 and 255, and those of {others[0]} other labels: "
            "255 is taken for pixels that do not count, in all"
        )
    _check_ignored(*next(iter(counts.items())), num_classes)
    return False


def _check_binary(names: str, num_classes: int | None) -> None:
    """Raises OptionError unless there are two classes, and says what was found."""
    if num_classes not in (2, None):
        raise OptionError(
            "binary",
            f"binary is not set, and the masks of {names} have only 0 and 255, but there are "
            f"{num_classes} class_names: give two names; or {_FIX}",
        )
    _warn_once(f"the masks of {names} have only 0 and 255: 255 is taken for the second class")


def _check_ignored(name: str, counts: np.ndarray, num_classes: int | None) -> None:
    """Raises OptionError if more than half of the pixels do not count."""
    share = counts[IGNORED] / max(1, counts.sum())
    if share > 0.5:
        last = "the last" if num_classes is None else num_classes - 1
        raise OptionError(
            "binary",
            f"binary is not set, and {share:.0%} of the pixels of the masks of {name} are 255, "
            f"which would not count: give each class its number from 0 to {last}; or {_FIX}",
        )


@functools.cache  # once, not for each split
def _warn_once(message: str) -> None:
    log.warning("%s", message)


def _has_others(counts: np.ndarray) -> bool:
    """Whether masks with so many pixels of each label have other labels than 0 and 255."""
    return bool(counts[1:IGNORED].any())


def _count(masks: Sequence[Any], count: Callable[[Any], np.ndarray]) -> np.ndarray:
    """Counts the pixels of each label, i64[256], until one but 0 and 255 is found."""
    counts = np.zeros(256, np.int64)
    rounds = -(-len(masks) // _LOOKED_AT)
    with ThreadPoolExecutor(_THREADS) as threads:
        for start in range(rounds):
            counts += sum(threads.map(count, masks[start::rounds]))
            if _has_others(counts):
                break
    return counts


@functools.lru_cache(maxsize=16)  # of folders: each split asks for those of all
def _count_files(states: Sequence[tuple[pathlib.Path, int, int]]) -> np.ndarray:
    """Counts the pixels of files, given as by `_states`, as `_count` does."""
    return _count([path for path, *_ in states], _count_file)


def _states(masks: Sequence[pathlib.Path]) -> Sequence[tuple[pathlib.Path, int, int]]:
    """Returns files with what changes when they are written: time in ns, and size in bytes."""
    found = [(path, path.stat()) for path in masks]
    return tuple((path, stat.st_mtime_ns, stat.st_size) for path, stat in found)


def _count_file(path: pathlib.Path) -> np.ndarray:
    """Counts the pixels of each label in a mask, i64[256]; none if it has 1 bit a pixel."""
    try:
        with opened(path) as image:
            labels, plain = _labels_of(image)
    except ImageError:  # shows when it is read
        plain = False
    return np.bincount(labels.ravel(), minlength=256) if plain else np.zeros(256, np.int64)


def _labels_of(image: Image.Image) -> tuple[np.ndarray, bool]:
    """Returns the labels of a mask, u8[H, W], and whether they have 8 bits."""
    if image.mode not in ("1", "L", "P"):
        raise ValueError(f"a mask of mode {image.mode}: store it as palette or grey, 8 bits")
    return np.asarray(image).astype(np.uint8), image.mode != "1"


def _pairs_of(images: pathlib.Path, masks: pathlib.Path) -> list[Pair]:
    """Returns the images below a folder, with the masks that they should have."""
    found = images_below(images)
    return [(path, (masks / path.relative_to(images)).with_suffix(".png")) for path in found]


def _other_splits(images: pathlib.Path, masks: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """Returns the masks of the other splits that have images, by their folders."""
    others = [path for path in images.parent.glob("*") if path.is_dir() and not is_hidden(path)]
    splits = [(path, masks.with_name(path.name)) for path in sorted(others) if path != images]
    return {
        str(other): [mask for _, mask in _pairs_of(path, other) if mask.is_file()]
        for path, other in splits
    }


def _problems(pairs: Sequence[Pair]) -> list[str]:
    """Lists what is wrong with the files, by their headers."""
    problems = []
    for image, mask in pairs:
        sizes = []
        for path in (image, mask):
            try:
                sizes.append(image_size(path))
            except ImageError as error:
                problems.append(str(error))
        if len(sizes) == 2 and sizes[0] != sizes[1]:
            (height, width), (rows, columns) = sizes
            problems.append(
                f"{image} has {width} x {height} pixels, but its mask {mask} {columns} x {rows}"
            )
    return problems
