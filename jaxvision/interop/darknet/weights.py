"""Darknet's weights files: a header, and the layers' arrays as float32, little-endian.

The header has the version (major, minor, revision), 32 bits each, and how many images the network
has seen in training: 64 bits from version 0.2 on, 32 bits before. Of a convolution follow the
biases, with batch norm its scales, means and variances (the biases are then the norm's), and the
kernel [out, in, height, width]; of a connected layer the biases, the matrix [out, in], and with
batch norm the rest of it; of a local layer the biases [out, row, column] and the kernels [row,
column, out, in, height, width]. With a major or minor version above 1000 matrices are [in, out].
"""

import os
import pathlib
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import flax.traverse_util
import numpy as np

from jaxvision.core import InputError
from jaxvision.core.files import replacing
from jaxvision.interop.darknet.description import Description
from jaxvision.interop.darknet.layers import Stored

_FLOAT = np.dtype("<f4")
_VERSION = struct.Struct("<iii")
_OLD = 1000  # versions above had other matrices


class WeightsHeader(NamedTuple):
    """The beginning of a weights file.

    Attributes:
      major, minor, revision: of the format; Darknet writes 0.2.0.
      seen: images that the network has seen in training.
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
    """The header of a weights file.

    Args:
      path: of the file.
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
    """The variables in a weights file.

    Args:
      path: of the file.
      description: of the network that the weights are of, or that begins with the same layers.
      until: the file holds the first `until` layers only, as `darknet partial` writes it: 75 for
        darknet53.conv.74. None: all layers.
      into: variables of the network, such as freshly initialised ones; what the file lacks is
        taken from there. Gives the dtypes too.
    Returns:
      {"params": ..., "batch_stats": ...} of `DarknetNetwork(description)`: numpy arrays of what the
      file holds, and the rest of `into` as it is. Without `into` they are float32.
    Raises:
      InputError: the file cannot be read, has more or less numbers than the layers need, or `into`
        is not of this network.
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
        merged = flax.traverse_util.flatten_dict(dict(into))
        values = merged | {
            key: value.astype(_variable(merged, key, value.shape).dtype)
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
    """Writes variables as a weights file, whole or not at all.

    Args:
      path: of the file; one that is there is replaced.
      description: of the network.
      variables: of `DarknetNetwork(description)`.
      seen: images that it has seen in training.
      until: write the first `until` layers only; None: all.
      version: (major, minor, revision) of the format; before 0.2 `seen` has 32 bits.
    Raises:
      InputError: the variables are not of this network, or `seen` does not fit.
    """
    header = WeightsHeader(*version, seen=seen)
    bits = 8 * header.seen_format.size
    if not 0 <= seen < 2**bits:
        raise InputError(f"seen is {seen}: give 0 to 2^{bits} - 1 in version {version}")
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
        raise InputError(f"the variables have {names}, which {description.source} has not")
    with replacing(pathlib.Path(path), "wb") as file:
        file.write(_VERSION.pack(*version) + header.seen_format.pack(seen))
        for array, value in values:
            file.write(value.transpose(np.argsort(array.axes)).tobytes())


def _opened(path: str | os.PathLike[str]) -> BinaryIO:
    try:
        return pathlib.Path(path).open("rb")
    except OSError as error:
        raise InputError(f"{path}: no weights can be read from it: {error}") from None


def _read_header(path: str | os.PathLike[str], file: BinaryIO) -> WeightsHeader:
    try:
        header = WeightsHeader(*_VERSION.unpack(file.read(_VERSION.size)))
        (seen,) = header.seen_format.unpack(file.read(header.seen_format.size))
    except struct.error:
        raise InputError(f"{path}: ends within its header: it is no weights file") from None
    return header._replace(seen=seen)


def _check_length(
    path: str | os.PathLike[str],
    file: BinaryIO,
    description: Description,
    arrays: list[tuple[Stored, ...]],
) -> None:
    """Raises InputError if the rest of the file is not just what the layers hold."""
    found, odd = divmod(os.fstat(file.fileno()).st_size - file.tell(), _FLOAT.itemsize)
    ends = np.cumsum([sum(array.count for array in layer) for layer in arrays])
    expected = int(ends[-1])
    if found == expected and not odd:
        return
    message = f"{path}: has {found} floats"
    if odd:
        message += f" and {odd} odd bytes"
    message += f", but the {len(arrays)} layers of {description.source} have {expected}: "
    if found >= expected:
        raise InputError(f"{message}{found - expected} floats and {odd} bytes are left over")
    layer = int(np.searchsorted(ends, found, side="right"))
    section = description.layers[layer].section
    message += (
        f"{expected - found} are missing, from layer {layer}, the [{section.kind}] of line "
        f"{section.line}, on"
    )
    if found in ends and not odd:
        message += f"; if it is a trunk of {layer} layers, say until={layer}"
    raise InputError(message)


def _checked_until(description: Description, until: int | None) -> int:
    count = len(description.layers)
    if until is None:
        return count
    if not 1 <= until <= count:
        raise InputError(
            f"until is {until}: {description.source} has {count} layers: give 1 to {count}"
        )
    return until


def _shape_of(array: Stored) -> tuple[int, ...]:
    """Of the variable."""
    return tuple(array.shape[axis] for axis in array.axes)


def _variable(
    given: Mapping[tuple[str, ...], Any], path: tuple[str, ...], shape: tuple[int, ...]
) -> Any:
    """Raises InputError if it is missing or has another shape."""
    if path not in given:
        raise InputError(f"the variables have no {'/'.join(path)}")
    if given[path].shape != shape:
        has = tuple(given[path].shape)
        raise InputError(f"{'/'.join(path)} has the shape {has}: the description needs {shape}")
    return given[path]
