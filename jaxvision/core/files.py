"""Functions that write files atomically, and the errors of reading damaged files."""

import contextlib
import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

NPZ_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError)
"""The errors that are raised by reading a damaged .npz file, or a file of another format."""


@contextlib.contextmanager
def replacing(path: pathlib.Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a temporary file that replaces a file atomically at the end of the context.

    The temporary file is in the same folder. It is written to disk before it replaces the file.

    Args:
      path: path of the file to replace.
      mode: "w" for text, "wb" for bytes.
    """
    new = path.with_name(f"{path.name}.tmp")
    with new.open(mode) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def replace_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file atomically, see `replacing`."""
    with replacing(path) as file:
        file.write(text)
