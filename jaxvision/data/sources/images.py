"""Files of images: reads any of them as upright RGB, and their sizes."""

import collections
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image

from jaxvision.core import InputError, reason_of
from jaxvision.core.files import check_regular

try:
    import simplejpeg
except ImportError:  # Pillow decodes all JPEGs then
    simplejpeg = None

IMAGE_SUFFIXES = (
    ".bmp",
    ".gif",
    ".jpeg",
    ".jpg",
    ".pgm",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)
"""The suffixes of images in folders, in small or capital letters."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientation -> what makes the image upright."""
_SIDEWAYS = {_TURNS[orientation] for orientation in (5, 6, 7, 8)}


class ImageError(InputError):
    """A file that cannot be read as an image.

    Attributes:
      path: of the file.
      reason: why, in a few words.
    """

    def __init__(self, path: Path | str, reason: str):
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path} cannot be read as an image ({self.reason}): correct it or leave it out"


def is_hidden(path: Path) -> bool:
    """Whether a file or folder is hidden: its name starts with a dot."""
    return path.name.startswith(".")


def files_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """Lists what is in a folder and in the folders in it, links too.

    A folder that several paths lead to is searched once, by the one without links if there is one.

    Args:
      folder: may be hidden itself, or not be there.
    Returns:
      (images, others), each sorted: images have one of `IMAGE_SUFFIXES` and are not hidden; others
      are all other files, and the folders that are not searched: hidden ones and further paths.
    """
    images: list[Path] = []
    others: list[Path] = []
    searched: set[str] = set()
    starts = collections.deque([folder])  # links wait behind what is truly there
    while starts:
        for parent, folders, files in os.walk(starts.popleft()):
            real = os.path.realpath(parent)
            if real in searched:
                others.append(Path(parent))
                folders.clear()
                continue
            searched.add(real)
            inner = [Path(parent, name) for name in sorted(folders)]
            others += filter(is_hidden, inner)
            shown = [path for path in inner if not is_hidden(path)]
            folders[:] = [path.name for path in shown]
            starts += filter(Path.is_symlink, shown)  # which os.walk does not follow
            for path in (Path(parent, name) for name in files):
                is_image = path.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(path)
                (images if is_image else others).append(path)
    return sorted(images), sorted(others)


def images_below(folder: Path) -> list[Path]:
    """Lists the images of `files_below`."""
    return files_below(folder)[0]


def read_image(path: Path | str) -> np.ndarray:
    """Reads an image as 8-bit RGB, upright.

    The rotation in its EXIF data is applied, if that stands before the pixels and can be read. Grey
    of 16 bits is scaled (65535 becomes 255); transparent images get a white background; of several
    frames or pages the first is taken.

    Args:
      path: of the file, in any format that Pillow reads but PostScript, which is a program.
    Returns:
      u8[H, W, 3].
    Raises:
      ImageError: there is no such file, it is damaged or not an image, or its numbers have no known
        range (float, or more than 16 bits).
    """
    with opened(path) as image:
        turn = _turn(image)
        pixels = decode_jpeg(image) if turn is None else None
        if pixels is not None:
            return pixels
        image.load()
        rgb = _to_rgb(image)
        return np.asarray(rgb if turn is None else rgb.transpose(turn))


def image_size(path: Path | str) -> tuple[int, int]:
    """Returns the size that `read_image` gives, from the file's header alone.

    Args:
      path: of the file.
    Returns:
      (height, width).
    Raises:
      ImageError: there is no such file, or it is not an image.
    """
    with opened(path) as image:
        width, height = image.size
        return (width, height) if _turn(image) in _SIDEWAYS else (height, width)


@contextlib.contextmanager
def opened(file: Path | str | IO[bytes], name: str | None = None) -> Iterator[Image.Image]:
    """Opens an image, of which only the header is read; what it raises becomes an `ImageError`.

    Args:
      file: its path, or a stream of its bytes.
      name: of the stream, for messages.
    """
    try:
        if isinstance(file, str | os.PathLike):
            check_regular(file)
        with Image.open(file) as image:
            if image.format == "EPS":  # Pillow would run it in Ghostscript
                raise ValueError("PostScript is a program: store the image as PNG")
            yield image
    except Exception as error:  # a decoder raises whatever the damage leads it to
        raise ImageError(name or str(file), _reason(error)) from error


def decode_jpeg(image: Image.Image) -> np.ndarray | None:
    """Decodes an RGB JPEG with simplejpeg, in less time than Pillow and to the same pixels.

    Both decode with libjpeg-turbo.

    Args:
      image: of which only the header was read.
    Returns:
      u8[H, W, 3]; None: it is no RGB JPEG, it is damaged (then Pillow says how, or reads what can
      be read), or simplejpeg is not installed.
    """
    if simplejpeg is None or image.format != "JPEG" or image.mode != "RGB":
        return None
    image.fp.seek(0)
    try:
        return simplejpeg.decode_jpeg(image.fp.read(), strict=True)
    except ValueError:
        return None


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        most = 2 * Image.MAX_IMAGE_PIXELS
        return f"its header states more than {most} pixels: store it with fewer"
    return reason_of(error)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Returns what makes an image upright, of which only the header was read."""
    if image.format == "TIFF":  # Pillow turns these itself, their size too
        return None
    try:
        # Not image.getexif(): that of a PNG looks behind the pixels, and so decodes them.
        exif = Image.Image.getexif(image)
    except Exception:  # damaged; the pixels need not be
        return None
    return _TURNS.get(exif.get(ExifTags.Base.Orientation))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # integers of 16 or 32 bits, and floats
        pixels = np.asarray(image)
        if image.mode == "F" or pixels.min() < 0 or pixels.max() > 65535:
            raise ValueError(f"numbers of type {pixels.dtype}: store it with 8 or 16 bits")
        image = Image.fromarray(np.rint(pixels / 257).astype(np.uint8))
    elif image.has_transparency_data:
        ground = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(ground, image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")
