"""Writing a file so that it is there whole or not at all."""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import IO, Any


@contextlib.contextmanager
def replacing(path: pathlib.Path, mode: str = "w") -> Iterator[IO[Any]]:
    """A file beside the old one, which at the end goes to the disk and into its place in one go.

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
