"""Folders of images and, in files of the same names, masks with the classes of their pixels."""

import os
import pathlib
from collections.abc import Sequence

import numpy as np

from jaxvision.core import InputError, Record
from jaxvision.data.sources.images import (
    ImageError,
    image_size,
    images_below,
    opened,
    read_image,
)
from jaxvision.data.sources.source import as_path, refuse
from jaxvision.data.sources.voc import VOC_CLASSES

Pair = tuple[pathlib.Path, pathlib.Path]
"""The files of an image and its mask."""


class _MaskedImages:
    """A source over pairs of files.

    Args:
      name: of the data, for messages.
      pairs: of an image and its mask.
      class_names: of the labels 0, 1, ...
    Raises:
      InputError: a file cannot be read, or a mask has another size than its image; lists the first
        problems.
    """

    def __init__(self, name: str, pairs: Sequence[Pair], class_names: Sequence[str]):
        refuse(name, _problems(pairs))
        self._pairs, self.class_names = tuple(pairs), tuple(class_names)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Record:
        """Returns a record: "image" u8[H, W, 3] and "labels" u8[H, W]."""
        return {"image": read_image(self._pairs[index][0]), **self.target(index)}

    def where(self, index: int) -> str:
        return str(self._pairs[index][1])

    def target(self, index: int) -> Record:
        return {"labels": read_mask(self._pairs[index][1])}


class MaskFolder(_MaskedImages):
    """A source over a folder of images and masks.

    The mask of images/SPLIT/NAME.jpg is masks/SPLIT/NAME.png, with the number of each pixel's class
    as grey or palette of 8 bits, or 255 where the pixel does not count.

    Args:
      path: of a folder that has images/SPLIT and masks/SPLIT.
      split: "train", "val", ...
      class_names: of the labels 0, 1, ...; the first is often the background.

    Attributes:
      class_names: as given.
    Raises:
      InputError: there is no such folder, an image has no mask or one of another size, or a file
        cannot be read; lists the first problems.
    """

    def __init__(self, path: str | os.PathLike[str], split: str, *, class_names: Sequence[str]):
        folder = as_path(path)
        images, masks = folder / "images" / split, folder / "masks" / split
        found = images_below(images)
        if not found:
            raise InputError(f"no split {split!r}: there are no images in {images}")
        pairs = [(p, (masks / p.relative_to(images)).with_suffix(".png")) for p in found]
        super().__init__(f"{folder} {split}", pairs, class_names)


class VocMasks(_MaskedImages):
    """A source over a folder in Pascal VOC's form, for segmentation.

    Args:
      path: of a folder that has JPEGImages, SegmentationClass and ImageSets/Segmentation.
      split: names ImageSets/Segmentation/SPLIT.txt, with an image's name in each line.
      class_names: of the labels 0, 1, ...; None: "background" and VOC's twenty.

    Attributes:
      class_names: of the labels.
    Raises:
      InputError: as for `MaskFolder`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        split: str,
        *,
        class_names: Sequence[str] | None = None,
    ):
        folder = as_path(path)
        file = folder / "ImageSets" / "Segmentation" / f"{split}.txt"
        try:
            names = file.read_text().split()
        except OSError as error:
            raise InputError(
                f"no split {split!r}: {file} cannot be read: {error.strerror}"
            ) from error
        pairs = [
            (folder / "JPEGImages" / f"{name}.jpg", folder / "SegmentationClass" / f"{name}.png")
            for name in names
        ]
        super().__init__(f"{folder} {split}", pairs, class_names or ("background", *VOC_CLASSES))


def read_mask(path: pathlib.Path | str) -> np.ndarray:
    """Reads the labels that a palette or grey image holds.

    Args:
      path: of the file, of 8 bits a pixel (or 1): the numbers of the palette's colours, or the
        grey values.
    Returns:
      u8[H, W].
    Raises:
      ImageError: it cannot be read, or has colours of its own.
    """
    with opened(path) as image:
        if image.mode not in ("1", "L", "P"):
            raise ValueError(f"a mask of mode {image.mode}: store it as palette or grey, 8 bits")
        return np.asarray(image).astype(np.uint8)


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
