"""Reads files that torch has saved, without torch: arrays alone, and nothing in them is run.

Such a file is a pickle, which could call any function, beside the memory of its tensors. Here the
pickle finds the few names of `_GLOBALS` and no others, all of which only build dicts and
descriptions of tensors. Both formats are read: a zip archive (since torch 1.6), and before that
several pickles one after the other, then the memory of each tensor.
"""

import collections
import pathlib
import pickle
import zipfile
from collections.abc import Callable, Mapping
from typing import IO, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxvision.core.files import check_regular

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of the older format
_DTYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
}
"""Class of a storage in torch -> dtype of its numbers."""


class Tensor(NamedTuple):
    """A tensor in a file.

    Attributes:
      storage: the memory that it is in.
      offset: of its first number, in numbers.
      shape: its sizes.
      strides: in numbers.
      flags: "conj" and "neg": whether what is stored is its conjugate, or its negative.
    """

    storage: "_Storage"
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    flags: Mapping[str, bool]

    def array(self) -> np.ndarray:
        """Its numbers; those of bfloat16 as float32, which numpy has.

        Raises:
          ValueError: it is not within its storage.
        """
        numbers = self.storage.numbers
        if numbers is None:
            raise ValueError("the numbers of a tensor are missing")
        counts = (self.offset, *self.shape, *self.strides)
        if len(self.shape) != len(self.strides) or any(
            type(count) is not int or count < 0 for count in counts
        ):
            raise ValueError("a tensor has no shape and strides")
        pairs = zip(self.shape, self.strides, strict=True)
        last = self.offset + sum((size - 1) * stride for size, stride in pairs)
        count = int(np.prod(self.shape, dtype=object))
        if count and (last >= len(numbers) or count > len(numbers)):
            raise ValueError("a tensor is larger than its memory in the file")
        x = np.lib.stride_tricks.as_strided(
            numbers[self.offset :] if count else numbers,
            self.shape,
            [stride * numbers.itemsize for stride in self.strides],
            writeable=False,
        )
        x = x.astype(np.float32 if x.dtype == jnp.bfloat16 else x.dtype)
        x = x.conj() if self.flags.get("conj") else x
        return -x if self.flags.get("neg") else x


class _Storage:
    """The memory of tensors.

    Args:
      kind: the name of its class in torch, a key of `_DTYPES`.
      count: of its numbers.
    """

    def __init__(self, kind: str, count: int):
        self.dtype, self.count = jnp.dtype(_DTYPES[kind]), count
        self.numbers: np.ndarray | None = None

    def fill(self, data: bytes) -> None:
        """Takes its numbers.

        Raises:
          ValueError: there are more or fewer of them.
        """
        if len(data) != self.count * self.dtype.itemsize:
            raise ValueError("the memory of a tensor has another size than it should")
        self.numbers = np.frombuffer(data, self.dtype)


class _Kind(NamedTuple):
    """Stands for a class of storages in torch; unlike that it cannot be called."""

    name: str


def _tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any, flags: Any = None
) -> Tensor:
    """Stands for torch._utils._rebuild_tensor and _rebuild_tensor_v2.

    After the strides, the latter has: requires_grad, hooks and perhaps flags.
    """
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor has no memory")
    flags = rest[2] if len(rest) > 2 else flags
    return Tensor(storage, offset, tuple(shape), tuple(strides), dict(flags or {}))


def _parameter(tensor: Any, *_: Any) -> Any:
    """Stands for torch._utils._rebuild_parameter."""
    return tensor


_GLOBALS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "Size"): tuple,
    **{("torch", name): _Kind(name) for name in _DTYPES},
}
"""(module, name) in a pickle -> what it gets."""


class _Unpickler(pickle.Unpickler):
    """Reads a pickle of torch.

    Args:
      file: where it begins.
      load: (key, storage) -> None, fills a storage where its numbers can be read already.
    """

    def __init__(self, file: IO[bytes], load: Callable[[str, _Storage], None] | None = None):
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}
        self._load = load

    def find_class(self, module: str, name: str) -> Any:
        found = _GLOBALS.get((module, name))
        if found is None:
            raise ValueError(f"it has a {module}.{name}, which is no part of a state dict")
        return found

    def persistent_load(self, given: Any) -> Any:
        if not (isinstance(given, tuple) and len(given) >= 5 and given[0] == "storage"):
            raise ValueError("it refers to something else than the memory of tensors")
        _, kind, key, _, count, *view = given
        if not isinstance(kind, _Kind) or any(x is not None for x in view):
            raise ValueError("the memory of a tensor is of an unknown kind")
        key = str(key)
        if key not in self.storages:
            self.storages[key] = _Storage(kind.name, int(count))
            if self._load is not None:
                self._load(key, self.storages[key])
        return self.storages[key]


def read_torch_file(path: pathlib.Path) -> Any:
    """Reads what torch has saved, with a `Tensor` in place of each of its tensors.

    Args:
      path: of the file.
    Returns:
      dicts, lists, numbers, strings and tensors, as they were saved.
    Raises:
      ValueError, OSError, or any other exception: the file is damaged, or has other objects.
    """
    check_regular(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return _read_archive(archive)
    with path.open("rb") as file:
        return _read_sequence(file)


def _read_archive(archive: zipfile.ZipFile) -> Any:
    names = archive.namelist()
    pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError("it is a zip archive of something else")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
        raise ValueError("it was compressed again")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
        raise ValueError("its numbers have the bytes of another machine's order")

    def load(key: str, storage: _Storage) -> None:
        storage.fill(archive.read(f"{folder}data/{key}"))

    with archive.open(pickles[0]) as file:
        return _Unpickler(file, load).load()


def _read_sequence(file: IO[bytes]) -> Any:
    if _Unpickler(file).load() != _MAGIC or _Unpickler(file).load() != _PROTOCOL:
        raise ValueError("torch did not save it")
    if not _Unpickler(file).load()["little_endian"]:
        raise ValueError("its numbers have the bytes of another machine's order")
    reader = _Unpickler(file)
    content = reader.load()
    for key in _Unpickler(file).load():
        storage = reader.storages[key]
        count = int.from_bytes(file.read(8), "little")
        if count != storage.count:
            raise ValueError("the memory of a tensor has another size than it should")
        storage.fill(file.read(count * storage.dtype.itemsize))
    return content
