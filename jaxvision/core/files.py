"""Functions that write files atomically, and the errors of damaged files and of full disks."""

import contextlib
import errno
import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

NPZ_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError)
"""The errors that are raised by reading a damaged .npz file, or a file of another format."""


_NO_ROOM = {os.strerror(number): number for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)}
"""Text of the errors of a full disk, a quota and a limit on the size of files -> number."""


class NoRoomError(OSError):
    """Raised if a file or folder cannot be written, because the disk is full or a limit is reached.

    The message is one line that names the file or folder.
    """


def lacks_room(error: BaseException) -> str | None:
    """Returns the system's reason if an error says that there is no room to write; None otherwise.

    Libraries in C++ raise other types than OSError: their text has the reason.
    """
    number = getattr(error, "errno", None)
    found = (text for text, known in _NO_ROOM.items() if number == known or text in str(error))
    return next(found, None)


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[None]:
    """Converts an error of a full disk to one that names the file or folder.

    Args:
      path: path of what is written.
    Raises:
      NoRoomError: there is no room to write it.
    """
    try:
        yield
    except NoRoomError:
        raise
    except Exception as error:
        reason = lacks_room(error)
        if reason is None:
            raise
        limit = " or raise the limit of `ulimit -f`" * (_NO_ROOM[reason] == errno.EFBIG)
        raise NoRoomError(
            f"cannot write {path} ({reason}): make room{limit}, or use another folder"
        ) from error


@contextlib.contextmanager
def replacing(path: pathlib.Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a temporary file that replaces a file atomically at the end of the context.

    The temporary file is in the same folder. It is written to disk before it replaces the file.

    Args:
      path: path of the file to replace.
      mode: "w" for text, "wb" for bytes.
    Raises:
      NoRoomError: there is no room to write it; the file is as it was.
    """
    new = path.with_name(f"{path.name}.tmp")
    with writing(path), contextlib.ExitStack() as on_error:
        on_error.callback(new.unlink, missing_ok=True)
        with new.open(mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        on_error.pop_all()


def replace_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file atomically, see `replacing`."""
    with replacing(path) as file:
        file.write(text)
