"""Writing a file so that it is there whole or not at all."""

import os
import pathlib


def replace_text(path: pathlib.Path, text: str) -> None:
    """Writes a file beside the old one, to the disk, and puts it in its place in one go."""
    new = path.with_name(f"{path.name}.tmp")
    with new.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
