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

Pair = tuple[pathlib.Path, pathlib.Path]
"""The files of an image and its mask."""


class _MaskedImages:
    """A source over pairs of files.

    Args:
      name: of the data, for messages.
      pairs: of an image and its mask.
      class_names: of the labels 0, 1, ...
      groups: name -> the masks of a part of the data, of all splits, from which `find_binary` finds
        what 255 means.
      binary: what 255 means; None: find it.
    Raises:
      InputError: a file cannot be read, or a mask has another size than its image; lists the first
        problems. Or as for `find_binary`.
      OptionError: `binary` is set, and there are not two classes.
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
        if binary and len(self.class_names) != 2:
            raise OptionError(
                "binary",
                f"binary is True, but there are {len(self.class_names)} class_names: give two",
            )
        if binary is None:
            binary = find_binary(groups, len(self.class_names))
        self.binary = binary

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Record:
        """Returns a record: "image" u8[H, W, 3] and "labels" u8[H, W]."""
        return {"image": read_image(self._pairs[index][0]), **self.target(index)}

    def where(self, index: int) -> str:
        return str(self._pairs[index][1])

    def target(self, index: int) -> Record:
        return {"labels": read_mask(self._pairs[index][1], binary=self.binary)}


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
        cannot be read; lists the first problems. What 255 means cannot be found.
      OptionError: `binary` is set, and there are not two classes.
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
        found = images_below(images)
        if not found:
            raise InputError(f"no split {split!r}: there are no images in {images}")
        pairs = [(p, (masks / p.relative_to(images)).with_suffix(".png")) for p in found]
        groups = {}
        if binary is None:
            groups = {str(masks): [mask for _, mask in pairs], **_other_splits(masks)}
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
        groups = {str(masks): sorted(masks.glob("*.png"))}  # of all splits
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
      ImageError: it cannot be read, has colours of its own, or is not binary.
    """
    with opened(path) as image:
        labels, _ = _labels_of(image)
        if binary and image.mode != "1":
            labels = from_binary(labels)
        return labels


def from_binary(labels: np.ndarray) -> np.ndarray:
    """Returns labels, u8[H, W] of 0 and 1, of a mask of 0 and 255; raises ValueError for others."""
    other = labels[(labels != 0) & (labels != IGNORED)]
    if other.size:
        raise ValueError(
            f"it has the label {other[0]}, and others have only 0 and 255: correct it, or give "
            "binary=False if 255 is for pixels that do not count"
        )
    return (labels == IGNORED).astype(np.uint8)


def find_binary(
    groups: Mapping[str, Sequence[Any]],
    num_classes: int,
    *,
    count: Callable[[Any], np.ndarray] | None = None,
) -> bool:
    """Finds whether masks are binary: 255 is the second class, or is for pixels that do not count.

    They are binary if they have only 0 and 255. Of each group `_LOOKED_AT` masks are read, spread
    evenly, and more if these have only 0. Of binary ones, `read_mask` refuses other labels later.

    Args:
      groups: name -> masks of a part of the data. All parts must mean the same.
      num_classes: labels run from 0 to one below.
      count: (mask) -> how many pixels have each label, i64[256]; None: masks are files.
    Raises:
      InputError: the groups mean different things; binary masks are not of two classes; or of other
        masks, more than half of the pixels are 255.
    """
    counts = {name: _count(masks, count or _count_file) for name, masks in groups.items()}
    found = {name: _is_binary(of_labels) for name, of_labels in counts.items()}
    binary, others = ([name for name, x in found.items() if x is kind] for kind in (True, False))
    fix = "if 255 is for pixels that do not count, give binary=False"
    if binary and others:
        raise InputError(
            f"the masks of {binary[0]} have only 0 and 255, and those of {others[0]} other labels: "
            f"write all in one way; or {fix}"
        )
    if binary and num_classes != 2:
        raise InputError(
            f"the masks of {binary[0]} have only 0 and 255, but there are {num_classes} "
            f"class_names: give two names; or {fix}"
        )
    for name in others:
        ignored = counts[name][IGNORED] / counts[name].sum()
        if ignored > 0.5:
            raise InputError(
                f"{ignored:.0%} of the pixels of the masks of {name} are 255, which are pixels "
                f"that do not count: give each class its number from 0 to {num_classes - 1}; or "
                "give binary=False if it is so"
            )
    if binary:
        _say_binary(listed(sorted(binary)))
    return bool(binary)


@functools.cache  # once, not for each split
def _say_binary(names: str) -> None:
    log.warning("the masks of %s have only 0 and 255: 255 is taken for the second class", names)


def _is_binary(counts: np.ndarray) -> bool | None:
    """Returns whether masks with so many pixels of each label are binary; None: they may be."""
    if counts[1:IGNORED].any():
        return False
    return True if counts[IGNORED] else None


def _count(masks: Sequence[Any], count: Callable[[Any], np.ndarray]) -> np.ndarray:
    """Counts the pixels of each label, i64[256], until one but 0 is found."""
    counts = np.zeros(256, np.int64)
    rounds = -(-len(masks) // _LOOKED_AT)
    with ThreadPoolExecutor(_THREADS) as threads:
        for start in range(rounds):
            counts += sum(threads.map(count, masks[start::rounds]))
            if counts[1:].any():
                break
    return counts


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


def _other_splits(masks: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """Returns the masks of the other splits, by their folders."""
    folders = [path for path in masks.parent.glob("*") if path.is_dir() and path != masks]
    return {
        str(path): [file for file in images_below(path) if file.suffix == ".png"]
        for path in sorted(folders)
        if not is_hidden(path)
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
