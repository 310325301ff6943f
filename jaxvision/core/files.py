"""Functions that write files atomically, that name full disks, and that read damaged files safely.

What is read is a regular file: opening a named pipe would wait for ever. The size that a header
states is compared with the file and with the memory before the content is read.
"""

import collections
import contextlib
import errno
import json
import math
import os
import pathlib
import stat
import zipfile
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import IO, Any

import numpy as np

from jaxvision.core.errors import InputError, one_line, reason_of
from jaxvision.core.memory import check_free

_FORMAT = np.lib.format
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Those that numpy writes."""
MOST_EXPANSION = 1032
"""DEFLATE makes a byte of at most so many, in zip and in gzip."""


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


def cache_base() -> pathlib.Path:
    """The user's folder for what programs keep: `$XDG_CACHE_HOME`, or ~/.cache.

    Raises:
      RuntimeError: there is no home.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    return pathlib.Path(given) if os.path.isabs(given) else pathlib.Path.home() / ".cache"


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raises OSError unless a path is that of a regular file, or of a link to one."""
    try:
        mode = os.stat(path).st_mode
    except ValueError as error:  # a name that no file can have
        raise FileNotFoundError(2, f"no file can have this name ({error})") from error
    if not stat.S_ISREG(mode):
        raise OSError(22, "a directory" if stat.S_ISDIR(mode) else "not a regular file")


def check_plain(folder: pathlib.Path) -> None:
    """Raises OSError if there is anything below a folder but folders and regular files."""
    for path in folder.rglob("*"):
        if not path.is_dir():
            check_regular(path)


def read_text(path: pathlib.Path) -> str:
    """Reads a text file in UTF-8, with or without a byte order mark.

    Raises:
      OSError: there is no such regular file, or it cannot be read.
      ValueError: it is not UTF-8.
    """
    check_regular(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason} at byte {error.start}") from error


def first_twice(values: Iterable[Hashable]) -> Any:
    """Returns the first value that is given twice; None if each is given once."""
    counts = collections.Counter(values)
    return next((value for value, count in counts.items() if count > 1), None)


def parse_json(text: str) -> Any:
    """Parses JSON in which no object has a key twice.

    Raises:
      ValueError: it is not JSON, repeats a key or is nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = first_twice(key for key, _ in pairs)
        raise ValueError(f"an object has the key {one_line(repr(twice), 50)} twice")
    return found


def read_npz(
    path: pathlib.Path, advice: str, choose: Callable[[list[str]], list[str]] = list
) -> dict[str, np.ndarray]:
    """Reads arrays of an .npz file; pickled objects are never read.

    Args:
      path: of the file.
      advice: the fix, for messages.
      choose: the names of the arrays in the file -> those to read; it may raise InputError.
    Returns:
      name -> array.
    Raises:
      InputError: there is no such regular file, it is damaged or not an .npz file, or the arrays
        do not fit into the memory.
    """
    try:
        check_regular(path)
        with zipfile.ZipFile(path) as file:
            entries = {info.filename.removesuffix(".npy"): info for info in file.infolist()}
            if len(entries) < len(file.infolist()):
                raise ValueError("it has two arrays of one name")
            chosen = choose(list(entries))
            infos = {name: entries[name] for name in chosen}
            for info in infos.values():
                _check_entry(info)
            check_free(path, sum(info.file_size for info in infos.values()))
            return {name: _read_array(file, info) for name, info in infos.items()}
    except InputError:
        raise
    except Exception as error:  # a damaged header may lead to any error
        raise InputError(f"{path} cannot be read ({reason_of(error)}): {advice}") from error


def _check_entry(info: zipfile.ZipInfo) -> None:
    """Raises ValueError if an array's entry cannot be read, or states more than it can hold."""
    if info.compress_type not in _COMPRESSIONS:
        raise ValueError(f"{info.filename} has an unsupported compression")
    if info.file_size > MOST_EXPANSION * info.compress_size:
        raise ValueError(f"{info.filename} is cut short: it cannot hold {info.file_size} bytes")


def _read_array(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """Reads an array; its header is compared with the size of the entry before that is read."""
    with file.open(info) as stream:
        version = _FORMAT.read_magic(stream)
        read = {
            (1, 0): _FORMAT.read_array_header_1_0,
            (2, 0): _FORMAT.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise ValueError(f"{info.filename} has the unsupported version {version}")
        shape, _, dtype = read(stream)
        if dtype.hasobject:
            raise ValueError(f"Object arrays cannot be read safely: {info.filename} is one")
        stated = math.prod(shape) * dtype.itemsize
        held = info.file_size - stream.tell()
        if min(shape, default=0) < 0 or not dtype.itemsize or stated != held:
            raise ValueError(f"{info.filename} has another size than its header states")
    with file.open(info) as stream:
        array = _FORMAT.read_array(stream, allow_pickle=False)
        if stream.read(1):  # which also verifies the checksum
            raise ValueError(f"{info.filename} has more bytes than its header states")
    return array
