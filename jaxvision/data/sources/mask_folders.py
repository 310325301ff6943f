"""Folders of images and, in files of the same names, masks with the classes of their pixels."""

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from jaxvision.core import InputError
from jaxvision.data.sources.images import ImageError, image_size, images_below, read_image
from jaxvision.data.sources.source import Record, data_folder, own_split, refuse


@dataclass(frozen=True)
class MaskedImages:
    """A source over pairs of files.

    Attributes:
      pairs: of an image and its mask.
    """

    pairs: tuple[tuple[pathlib.Path, pathlib.Path], ...]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Record:
        """A record: "image" u8[H, W, 3] and "labels" u8[H, W]."""
        image, mask = self.pairs[index]
        return {"image": read_image(image), "labels": read_mask(mask)}

    def where(self, index: int) -> str:
        return str(self.pairs[index][1])


def read_mask(path: pathlib.Path) -> np.ndarray:
    """The labels that a palette or grey image holds.

    Args:
      path: of the file, of 8 bits a pixel (or 1): in a palette the colours' numbers, else the grey.
    Returns:
      u8[H, W].
    Raises:
      ImageError: it cannot be read, or is a picture of colours.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("1", "L", "P"):
                raise ValueError(
                    f"a mask of mode {image.mode}: store it as palette or grey, 8 bits"
                )
            return np.asarray(image).astype(np.uint8)
    except Exception as error:  # a decoder raises whatever the damage makes it stumble over
        raise ImageError(path, " ".join(str(error).split())) from error


def _problems(pairs: Sequence[tuple[pathlib.Path, pathlib.Path]]) -> list[str]:
    """What is wrong with the files, by their headers."""
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


def _checked(name: str, pairs: Sequence[tuple[pathlib.Path, pathlib.Path]]) -> MaskedImages:
    refuse(name, _problems(pairs))
    return MaskedImages(tuple(pairs))


def open_mask_folder(data: Any, split: str) -> MaskedImages:
    """The records of a split of a folder.

    Args:
      data: config with `dir`, a folder that has images/SPLIT and masks/SPLIT, and `train_split` and
        `test_split`. The mask of images/SPLIT/NAME.jpg is masks/SPLIT/NAME.png.
      split: "train" and "test" stand for the config's; any other name is the folder's own.
    Raises:
      InputError: there is no such folder, an image has no mask or one of another size, or a file
        cannot be read; lists the first problems.
    """
    folder, split = data_folder(data), own_split(data, split)
    images, masks = folder / "images" / split, folder / "masks" / split
    found = images_below(images)
    if not found:
        raise InputError(f"no split {split!r}: there are no images in {images}")
    pairs = [(p, (masks / p.relative_to(images)).with_suffix(".png")) for p in found]
    return _checked(f"{folder} {split}", pairs)


def open_voc_masks(data: Any, split: str) -> MaskedImages:
    """The records of a split of a folder in VOC's form, for segmentation.

    Args:
      data: config with `dir`, a folder that has JPEGImages, SegmentationClass and
        ImageSets/Segmentation, and `train_split` and `test_split`.
      split: "train" and "test" stand for the config's; any other names a file of ImageSets.
    Raises:
      InputError: as `open_mask_folder`.
    """
    folder, split = data_folder(data), own_split(data, split)
    file = folder / "ImageSets" / "Segmentation" / f"{split}.txt"
    try:
        names = file.read_text().split()
    except OSError as error:
        raise InputError(f"no split {split!r}: {file} cannot be read: {error.strerror}") from error
    pairs = [
        (folder / "JPEGImages" / f"{name}.jpg", folder / "SegmentationClass" / f"{name}.png")
        for name in names
    ]
    return _checked(f"{folder} {split}", pairs)
