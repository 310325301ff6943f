"""Files of images: finding them, reading any of them as RGB, and names for what comes of them."""

import glob
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from jaxvision.core import InputError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""By which images are known in folders and patterns, in small or capital letters."""


def find_images(arguments: Sequence[str]) -> list[Path]:
    """The images that a user names.

    Args:
      arguments: each a file, whatever its suffix; a folder, for the images directly in it; or a
        pattern, for the images that match (`*`, `?`, `[...]`; `**` for any folders: "a/**/*.png").
        An image in a folder or pattern is a file with one of `SUFFIXES` that is not hidden.
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


def read_image(path: Path | str) -> np.ndarray:
    """An image as 8-bit RGB, upright.

    The turn in its EXIF data is applied. Grey of 16 bits is scaled (65535 becomes 255); what is
    transparent is laid on white; of several frames or pages the first is taken.

    Args:
      path: of the file, in any format that Pillow reads.
    Returns:
      u8[H, W, 3].
    Raises:
      InputError: there is no such file, it is damaged or no image, or its numbers have no range of
        their own (float, or more than 16 bits).
    """
    try:
        with Image.open(path) as image:
            return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
    except Exception as error:  # a decoder raises whatever the damage makes it stumble over
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path} cannot be read as an image ({reason}): mend it or leave it out"
        ) from error


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


def _images(argument: str) -> list[Path]:
    if os.path.isfile(argument):
        return [Path(argument)]
    folder = os.path.isdir(argument)
    pattern = os.path.join(glob.escape(argument), "*") if folder else argument
    matches = sorted(map(Path, glob.glob(pattern, recursive=True)))
    images = [path for path in matches if path.suffix.lower() in SUFFIXES and path.is_file()]
    if images:
        return images
    if folder:
        below = os.path.join(argument, "**", "*")
        raise InputError(
            f"{argument}: there are no images ({', '.join(SUFFIXES)}) directly in this folder: "
            f"give another, or {below!r} for those in the folders below it"
        )
    raise InputError(
        f"{argument!r}: there is no such file or folder, and no image matches it: give a file, a "
        "folder or a pattern"
    )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # integers of 16 or 32 bits, and floats
        pixels = np.asarray(image)
        if image.mode == "F" or pixels.min() < 0 or pixels.max() > 65535:
            raise ValueError(f"numbers of type {pixels.dtype}: store it with 8 or 16 bits")
        image = Image.fromarray(np.rint(pixels / 257).astype(np.uint8))
    elif image.has_transparency_data:
        ground = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(ground, image.convert("RGBA"))
    return image.convert("RGB")
