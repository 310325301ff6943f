"""The idx files of MNIST and Fashion-MNIST (format: http://yann.lecun.com/exdb/mnist)."""

import gzip
import math
import os
import pathlib
import zlib
from collections.abc import Sequence
from typing import IO

import numpy as np

from jaxvision.core import InputError, reason_of
from jaxvision.core.files import MOST_EXPANSION, check_regular
from jaxvision.core.memory import check_free
from jaxvision.data.sources.arrays import Arrays
from jaxvision.data.sources.source import as_path

_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
_UBYTE = 0x08
_MOST_DIMENSIONS = 4


def read_idx(path: pathlib.Path) -> np.ndarray:
    """Reads one gzipped idx file of unsigned bytes.

    Layout: two zero bytes, the type (0x08), the number of dimensions, each dimension as a
    big-endian 32-bit integer, then the values, last dimension fastest.

    Args:
      path: the file.
    Returns:
      u8[...] of the dimensions in the file's header.
    Raises:
      InputError: there is no such file, it is not gzip or not idx, or it holds more or fewer bytes
        than its header states, or does not fit into the memory.
    """
    try:
        check_regular(path)
        with gzip.open(path) as file:
            shape = _read_shape(path, file)
            size, most = math.prod(shape), MOST_EXPANSION * path.stat().st_size
            if size > most:
                raise ValueError(f"its header states {size} bytes, of which it cannot hold {most}")
            check_free(path, size)
            content = file.read(size + 1)  # one more shows a file that is too long
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(
            f"there is no file {path}: give the folder that has "
            f"{', '.join(name for pair in _FILES.values() for name in pair)}"
        ) from error
    except (EOFError, OSError, ValueError, zlib.error) as error:
        raise InputError(
            f"{path} is cut short or damaged ({reason_of(error)}): fetch it again"
        ) from error
    if len(content) != size:
        total = 4 + 4 * len(shape)
        holds = f"{total + len(content)} bytes" if len(content) < size else "more bytes"
        raise InputError(
            f"{path} holds {holds}, but its header states {total + size}: fetch it again"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _read_shape(path: pathlib.Path, file: IO[bytes]) -> list[int]:
    """Reads the header of an idx file."""
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] != _UBYTE:
        raise InputError(
            f"{path} is not an idx file of bytes (it starts with {start.hex()}): fetch it again"
        )
    if start[3] > _MOST_DIMENSIONS:
        raise InputError(
            f"{path} has {start[3]} dimensions, but images have 3 and labels 1: fetch it again"
        )
    sizes = file.read(4 * start[3])
    if len(sizes) < 4 * start[3]:
        raise EOFError("it ends within its header")
    return np.frombuffer(sizes, ">u4").tolist()


class Idx(Arrays):
    """A split of a folder of idx files, held in memory.

    Args:
      path: of the folder.
      split: "train" or "test".
      class_names: of the labels 0, 1, ...; () if they are not known.
    Raises:
      InputError: there is no such folder or split, or the files are swapped; or as for `read_idx`
        and `Arrays`.
    """

    def __init__(
        self, path: str | os.PathLike[str], split: str, *, class_names: Sequence[str] = ()
    ):
        folder = as_path(path, "folder of the idx .gz files")
        if not folder.is_dir():
            raise InputError(f"there is no folder {folder}: give the folder of the idx files")
        if split not in _FILES:
            raise InputError(f"idx files have no split {split!r}: choose {' or '.join(_FILES)}")
        paths = [folder / name for name in _FILES[split]]
        images, labels = map(read_idx, paths)
        names = f"{paths[0]}", f"{paths[1]}"
        if images.ndim != 3 or labels.ndim != 1:
            raise InputError(
                f"{' and '.join(names)} have {images.ndim} and {labels.ndim} dimensions instead of "
                "3 and 1: are they swapped?"
            )
        super().__init__(images, labels, class_names=class_names, names=names)
