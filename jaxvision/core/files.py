"""Writes files whole or not at all; and the errors that reading an .npz file raises."""

import contextlib
import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

NPZ_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError)
"""What reading raises of a file that is damaged, or no .npz file."""


@contextlib.contextmanager
def replacing(path: pathlib.Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a new file, which at the end is on disk and takes the place of the old one at once.

    Args:
      path: of the file.
      mode: "w" for text, "wb" for bytes.
    """
    new = path.with_name(f"{path.name}.tmp")
    with new.open(mode) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def replace_text(path: pathlib.Path, text: str) -> None:
    """Writes a text whole or not at all; see `replacing`."""
    with replacing(path) as file:
        file.write(text)
