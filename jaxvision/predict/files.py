"""Files of images: finding them, names for what comes of them, and writing it."""

import glob
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from jaxvision.core import InputError
from jaxvision.core.files import replacing
from jaxvision.data import IMAGE_SUFFIXES
from jaxvision.predict.arrays import check_picture


def find_images(arguments: Sequence[str]) -> list[Path]:
    """The images that a user names.

    Args:
      arguments: each a file, whatever its suffix; a folder, for the images directly in it; or a
        pattern, for the images that match (`*`, `?`, `[...]`; `**` for any folders: "a/**/*.png").
        An image in a folder or pattern is a file with one of `jaxvision.data.IMAGE_SUFFIXES` that
        is not hidden.
    Returns:
      the files, no file twice: in the arguments' order, those of one folder or pattern sorted.
    Raises:
      InputError: nothing was found for an argument.
    """
    found: dict[Path, Path] = {}
    for argument in arguments:
        for path in _images(argument):
            found.setdefault(path.resolve(), path)
    return list(found.values())


def output_names(paths: Sequence[Path | str]) -> list[str]:
    """A name for what comes of each file: its stem, made unique.

    The first file with a stem has the stem, the others "stem_2", "stem_3", ..., leaving out what is
    the stem of another file. Names that differ in capitals only count as the same, as they do in
    some file systems.

    Args:
      paths: of the files.
    Returns:
      a name for each, without a suffix.
    """
    stems = [Path(path).stem for path in paths]
    reserved = {stem.casefold() for stem in stems}
    numbers: dict[str, Iterator[int]] = {}
    names = []
    for stem in stems:
        key = stem.casefold()
        if key in numbers:
            numbered = (f"{stem}_{number}" for number in numbers[key])
            names.append(next(name for name in numbered if name.casefold() not in reserved))
        else:
            numbers[key] = itertools.count(2)
            names.append(stem)
    return names


def write_picture(path: Path | str, image: np.ndarray) -> None:
    """Writes a picture as a PNG, whole or not at all.

    Args:
      path: of the file; its suffix is .png.
      image: u8[H, W, 3], RGB.
    Raises:
      AssertionError: the image has another shape or dtype.
      InputError: another suffix.
    """
    write_png(path, Image.fromarray(check_picture("image", image)))


def write_png(path: Path | str, image: Image.Image) -> None:
    """As `write_picture`, an image of Pillow's of any mode."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"{path} is to be a PNG: give a name that ends in .png")
    with replacing(path, "wb") as stream:
        image.save(stream, format="png")


def _images(argument: str) -> list[Path]:
    if os.path.isfile(argument):
        return [Path(argument)]
    folder = os.path.isdir(argument)
    pattern = os.path.join(glob.escape(argument), "*") if folder else argument
    matches = sorted(map(Path, glob.glob(pattern, recursive=True)))
    images = [path for path in matches if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    if images:
        return images
    if folder:
        below = os.path.join(argument, "**", "*")
        raise InputError(
            f"{argument}: there are no images ({', '.join(IMAGE_SUFFIXES)}) directly in this "
            f"folder: give another, or {below!r} for those in the folders below it"
        )
    raise InputError(
        f"{argument!r}: there is no such file or folder, and no image matches it: give a file, a "
        "folder or a pattern"
    )
