"""Reads and writes Darknet's weights files.

A file has a header and then the arrays of the layers as float32, little-endian. The header has the
version (major, minor, revision), 32 bits each, and the number of images that the network has seen
in training: 64 bits from version 0.2 on, 32 bits before. The arrays are

- of a convolution: the biases, with batch norm the scales, means and variances (the biases are then
  those of the norm), and the kernel [out, in, height, width];
- of a connected layer: the biases, the matrix [out, in], and with batch norm the scales, means and
  variances;
- of a local layer: the biases [out, row, column] and the kernels [row, column, out, in, height,
  width].

With a major or minor version above 1000 matrices are [in, out].
"""

import os
import pathlib
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import flax.traverse_util
import numpy as np

from jaxvision.core import InputError, reason_of
from jaxvision.core.files import check_regular, replacing
from jaxvision.interop.darknet.description import Description
from jaxvision.interop.darknet.layers import Stored

_FLOAT = np.dtype("<f4")
_VERSION = struct.Struct("<iii")
_OLD = 1000  # versions above this store matrices as [in, out]


class WeightsHeader(NamedTuple):
    """The header of a weights file.

    Attributes:
      major, minor, revision: version of the format; Darknet writes 0.2.0.
      seen: number of images that the network has seen in training.
    """

    major: int = 0
    minor: int = 2
    revision: int = 0
    seen: int = 0

    @property
    def transposed(self) -> bool:
        """Whether matrices are [in, out]."""
        return max(self.major, self.minor) > _OLD

    @property
    def seen_format(self) -> struct.Struct:
        newer = self.major * 10 + self.minor >= 2 and max(self.major, self.minor) < _OLD
        return struct.Struct("<Q" if newer else "<I")


def read_header(path: str | os.PathLike[str]) -> WeightsHeader:
    """Reads the header of a weights file.

    Args:
      path: path of the file.
    Raises:
      InputError: the file cannot be read, or is shorter than a header.
    """
    with _opened(path) as file:
        return _read_header(path, file)


def read_weights(
    path: str | os.PathLike[str],
    description: Description,
    *,
    until: int | None = None,
    into: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Reads the variables in a weights file.

    Args:
      path: path of the file.
      description: description of the network of these weights, or of a network that starts with the
        same layers.
      until: number of layers in the file, if it only has the first ones, as `darknet partial`
        writes it: 75 for darknet53.conv.74. None: all layers.
      into: variables of the network, such as freshly initialised ones. They provide the arrays that
        the file lacks, and the dtypes.
    Returns:
      {"params": ..., "batch_stats": ...} of `DarknetNetwork(description)`: numpy arrays from the
      file, and the other arrays of `into` unchanged. Without `into` they are float32.
    Raises:
      InputError: the file cannot be read, has more or fewer numbers than the layers need, or `into`
        does not belong to this network.
    """
    layers = range(_checked_until(description, until))
    with _opened(path) as file:
        header = _read_header(path, file)
        arrays = description.stored(transposed=header.transposed)
        _check_length(path, file, description, [arrays[layer] for layer in layers])
        values = {
            array.path: np.fromfile(file, _FLOAT, array.count)
            .reshape(array.shape)
            .transpose(array.axes)
            for layer in layers
            for array in arrays[layer]
        }
    if into is not None:
        others = flax.traverse_util.flatten_dict(dict(into))
        values = others | {
            key: value.astype(_variable(others, key, value.shape).dtype)
            for key, value in values.items()
        }
    return flax.traverse_util.unflatten_dict(values)


def write_weights(
    path: str | os.PathLike[str],
    description: Description,
    variables: Mapping[str, Any],
    *,
    seen: int = 0,
    until: int | None = None,
    version: tuple[int, int, int] = (0, 2, 0),
) -> None:
    """Writes variables to a weights file.

    If writing fails, no incomplete file is left.

    Args:
      path: path of the file; an existing file is replaced.
      description: description of the network.
      variables: variables of `DarknetNetwork(description)`.
      seen: number of images that it has seen in training.
      until: how many of the first layers to write; None: all.
      version: (major, minor, revision) of the format; before 0.2 `seen` has 32 bits.
    Raises:
      InputError: the variables do not belong to this network, or `seen` does not fit.
    """
    header = WeightsHeader(*version, seen=seen)
    bits = 8 * header.seen_format.size
    if not 0 <= seen < 2**bits:
        raise InputError(f"seen is {seen}: version {version} allows 0 to 2^{bits} - 1")
    given = flax.traverse_util.flatten_dict(dict(variables))
    arrays = description.stored(transposed=header.transposed)
    values = [
        (array, np.asarray(_variable(given, array.path, _shape_of(array)), _FLOAT))
        for layer in arrays[: _checked_until(description, until)]
        for array in layer
    ]
    extra = given.keys() - {array.path for layer in arrays for array in layer}
    if extra:
        names = ", ".join(sorted("/".join(key) for key in extra))
        raise InputError(f"the variables have {names}, which {description.source} does not have")
    with replacing(pathlib.Path(path), "wb") as file:
        file.write(_VERSION.pack(*version) + header.seen_format.pack(seen))
        for array, value in values:
            file.write(value.transpose(np.argsort(array.axes)).tobytes())


def _opened(path: str | os.PathLike[str]) -> BinaryIO:
    try:
        check_regular(path)
        return pathlib.Path(path).open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {reason_of(error)}") from None


def _read_header(path: str | os.PathLike[str], file: BinaryIO) -> WeightsHeader:
    try:
        header = WeightsHeader(*_VERSION.unpack(file.read(_VERSION.size)))
        (seen,) = header.seen_format.unpack(file.read(header.seen_format.size))
    except struct.error:
        raise InputError(f"{path} ends within its header: it is not a weights file") from None
    return header._replace(seen=seen)


def _check_length(
    path: str | os.PathLike[str],
    file: BinaryIO,
    description: Description,
    arrays: list[tuple[Stored, ...]],
) -> None:
    """Raises InputError if the length of the rest of the file is not what the layers need."""
    found, odd = divmod(os.fstat(file.fileno()).st_size - file.tell(), _FLOAT.itemsize)
    ends = np.cumsum([sum(array.count for array in layer) for layer in arrays])
    expected = int(ends[-1])
    if found == expected and not odd:
        return
    message = f"{path} has {found} floats"
    if odd:
        message += f" and {odd} more bytes"
    message += f", but the {len(arrays)} layers of {description.source} have {expected}: "
    if found >= expected:
        raise InputError(f"{message}{found - expected} floats and {odd} bytes are left over")
    layer = int(np.searchsorted(ends, found, side="right"))
    section = description.layers[layer].section
    message += (
        f"{expected - found} are missing, from layer {layer} on, the [{section.kind}] of line "
        f"{section.line}"
    )
    if found in ends and not odd:
        message += f"; if the file only has the first {layer} layers, give until={layer}"
    raise InputError(message)


def _checked_until(description: Description, until: int | None) -> int:
    count = len(description.layers)
    if until is None:
        return count
    if not 1 <= until <= count:
        raise InputError(
            f"until is {until}, but {description.source} has {count} layers: give 1 to {count}"
        )
    return until


def _shape_of(array: Stored) -> tuple[int, ...]:
    """Returns the shape of the variable."""
    return tuple(array.shape[axis] for axis in array.axes)


def _variable(
    given: Mapping[tuple[str, ...], Any], path: tuple[str, ...], shape: tuple[int, ...]
) -> Any:
    """Returns a variable, or raises InputError if it is missing or has another shape."""
    if path not in given:
        raise InputError(f"the variables have no {'/'.join(path)}")
    if given[path].shape != shape:
        has = tuple(given[path].shape)
        raise InputError(f"{'/'.join(path)} has the shape {has}, but the description needs {shape}")
    return given[path]
