"""Keeps compiled programs for the next command, in a folder that belongs to the user alone.

A program in that folder is code, which a command runs. So no other user may be able to write there,
nor to put another folder in its place.
"""

import contextlib
import logging
import os
import pathlib
import stat

import jax

from jaxvision.core import InputError, reason_of
from jaxvision.core.files import cache_base

log = logging.getLogger(__name__)

MOST_BYTES = 5e9
"""Of the kept programs together: beyond it the oldest are removed."""

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def keep_compilations() -> None:
    """Lets JAX keep the programs that it compiles, and read those that it kept before.

    They are in jaxvision/xla in `$XDG_CACHE_HOME`, or in ~/.cache. JAX's own settings go before:
    nothing is changed if `$JAX_COMPILATION_CACHE_DIR` is set (a folder; empty for none) or
    `$JAX_ENABLE_COMPILATION_CACHE` is false. Where there can be no such folder, a warning says why.
    """
    if (
        "JAX_COMPILATION_CACHE_DIR" in os.environ
        or jax.config.jax_compilation_cache_dir
        or not jax.config.jax_enable_compilation_cache
    ):
        return
    try:
        folder = private_folder()
        trim(folder, MOST_BYTES)
    except (InputError, OSError, RuntimeError) as error:  # the last one: there is no home
        log.warning(
            "compiled programs are not kept for the next command (%s); JAX_COMPILATION_CACHE_DIR="
            "FOLDER keeps them elsewhere, and JAX_ENABLE_COMPILATION_CACHE=false ends this warning",
            str(error) if isinstance(error, InputError) else reason_of(error),
        )
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))


def private_folder() -> pathlib.Path:
    """The folder of the compiled programs, which is made if it is not there.

    Raises:
      InputError: others than this user can write there, or change what the folder is.
      OSError: it cannot be made or written.
    """
    base = cache_base()
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = base.resolve() / "jaxvision" / "xla"
    for part in (folder.parent, folder):
        with contextlib.suppress(FileExistsError):
            part.mkdir(mode=0o700)
    _check_private(folder)
    if not os.access(folder, os.W_OK):
        raise PermissionError(13, f"{folder} cannot be written")
    return folder


def _check_private(folder: pathlib.Path) -> None:
    """Raises InputError unless only this user can change a folder's contents and its place."""
    own = os.geteuid()
    for part in (folder, *folder.parents):
        found = part.lstat()
        inner = part in (folder, folder.parent)
        if not stat.S_ISDIR(found.st_mode):
            raise InputError(f"{part} is no folder: remove it")
        if found.st_uid not in ((own,) if inner else (own, 0)):
            raise InputError(f"{part} belongs to another user: use a folder of your own")
        # In a folder with the sticky bit, as /tmp, nobody can move what others have there.
        forbidden = _OTHERS if part == folder else _OTHERS_WRITE
        sticky = found.st_mode & stat.S_ISVTX and not inner
        if found.st_mode & forbidden and not sticky:
            fix = f"chmod {'go=' if part == folder else 'go-w'} {part}"
            raise InputError(f"others have access to {part}: {fix}")


def trim(folder: pathlib.Path, most: float) -> None:
    """Removes the oldest files of a folder until the others have at most so many bytes together."""
    files = [(path.stat(), path) for path in folder.iterdir() if path.is_file()]
    total = sum(found.st_size for found, _ in files)
    for found, path in sorted(files, key=lambda file: file[0].st_mtime):
        if total <= most:
            return
        path.unlink(missing_ok=True)
        total -= found.st_size
