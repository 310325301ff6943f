"""Finds files of images, names the files of results, and writes pictures."""

import glob
import itertools
import os
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image

from jaxvision.core import InputError
from jaxvision.core.files import replacing
from jaxvision.data import IMAGE_SUFFIXES
from jaxvision.data.sources.images import files_below, is_hidden
from jaxvision.predict.arrays import check_picture


def find_images(
    arguments: Sequence[str],
    *,
    recursive: bool = False,
    suffixes: Sequence[str] = IMAGE_SUFFIXES,
) -> list[Path]:
    """Finds the images that a user names.

    Args:
      arguments: each is a file with any suffix; a folder, for the images directly in it; or a
        pattern, for the images that match it (`*`, `?`, `[...]`; `**` for any folders:
        "a/**/*.png"). An image in a folder or pattern is a file with one of the suffixes that is
        not hidden.
      recursive: whether a folder is also for the images in the folders below it.
      suffixes: in small letters; those of videos can be among them.
    Returns:
      the files in the order of the arguments; those of one folder or pattern are sorted. Each file
      appears once.
    Raises:
      InputError: there is no image for an argument.
    """
    found: dict[Path, Path] = {}
    for argument in arguments:
        for path in _images(argument, recursive, suffixes):
            found.setdefault(path.resolve(), path)
    return list(found.values())


def output_names(paths: Sequence[Path | str]) -> list[str]:
    """Chooses a unique name for the results of each file, from the stem of the file's name.

    The first file with a stem gets the stem, the others get "stem_2", "stem_3" and so on, without
    names that are stems of other files. Names that differ only in upper and lower case count as
    equal, because some file systems treat them so.

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
    """Writes a picture as a PNG; an interrupted call leaves no partial file.

    Args:
      path: of the file; its suffix is .png.
      image: u8[H, W, 3], RGB.
    Raises:
      AssertionError: the image has another shape or dtype.
      InputError: the file's name has another suffix.
    """
    write_png(path, Image.fromarray(check_picture("image", image)))


def write_png(path: Path | str, image: Image.Image) -> None:
    """Writes an image of Pillow's, of any mode, as `write_picture` does."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"{path} is written as a PNG: give a name that ends in .png")
    with replacing(path, "wb") as stream:
        # Of Pillow's default, a quarter of the time or less, and files that are a sixth larger.
        image.save(stream, format="png", compress_level=1)


def _images(argument: str, recursive: bool, suffixes: Sequence[str]) -> list[Path]:
    """Finds the images of one argument of `find_images`."""
    if os.path.isfile(argument):
        return [Path(argument)]
    folder = os.path.isdir(argument)
    if folder and recursive:
        matches = sorted(x for x in chain(*files_below(Path(argument))) if not is_hidden(x))
    else:
        pattern = os.path.join(glob.escape(argument), "*") if folder else argument
        matches = sorted(map(Path, glob.glob(pattern, recursive=True)))
    images = [path for path in matches if path.suffix.lower() in suffixes and path.is_file()]
    if images:
        return images
    if folder:
        below = os.path.join(argument, "**", "*")
        hint = "" if recursive else f", or {below!r} for those in the folders below it"
        raise InputError(
            f"{argument}: there are no images ({', '.join(suffixes)}) "
            f"{'in' if recursive else 'directly in'} this folder: give another{hint}"
        )
    if os.path.exists(argument):
        raise InputError(f"{argument}: this is not a regular file: give an image")
    raise InputError(
        f"{argument!r}: there is no such file or folder, and no image matches it: give a file, a "
        "folder or a pattern"
    )
