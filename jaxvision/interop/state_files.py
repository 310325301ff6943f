"""Reads and writes files of torch state dicts: safetensors, npz and torch's own."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from jaxvision.core import InputError, one_line, reason_of
from jaxvision.core.files import parse_json, read_npz, replacing
from jaxvision.interop.torch_files import Tensor, read_torch_file

_TORCH = (".pth", ".pt", ".th", ".bin")
SUFFIXES = (".safetensors", ".npz", *_TORCH)
"""Suffixes of the files that `read_state_dict` and `write_state_dict` accept."""

# The dtypes of safetensors that numpy has.
_DTYPES = (
    *("BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"),
    *("F16", "BF16", "F32", "F64", "C64"),
)
# Keys under which training scripts store the state dict in a larger file.
_LEVELS = ("state_dict", "model", "model_state_dict")


def read_state_dict(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the arrays of a file.

    Args:
      path: path of a .safetensors or .npz file, or of a file that torch has saved (.pth, .pt, .th,
        .bin). If torch is installed, it reads the latter, with `weights_only=True`; else the file
        may have nothing but dicts, lists, numbers and dense tensors. It holds a state dict, or a
        dict with one under "state_dict", "model" or "model_state_dict".
    Returns:
      key -> array, as in the file; of torch's files, floats that numpy lacks become float32.
    Raises:
      InputError: the file does not exist, has another suffix, is damaged, or has no state dict.
    """
    path = pathlib.Path(path)
    _check_suffix(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    if path.suffix == ".npz":
        return read_npz(path, "save it again")
    if path.suffix in _TORCH:
        return _read_torch(path)
    try:
        _check_header(path)
        return safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({reason_of(error)}): save it again") from error


def _check_header(path: pathlib.Path) -> None:
    """Raises ValueError if a safetensors file has a key twice, or a dtype that numpy lacks.

    The header is JSON, after its length in 8 bytes; safetensors checks all else in it.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            raise ValueError(f"its header states a length of {length} bytes, more than the file's")
        header = parse_json(file.read(length).decode())
    for key, entry in header.items() if isinstance(header, dict) else ():
        dtype = entry.get("dtype") if isinstance(entry, dict) else None
        if key != "__metadata__" and dtype not in _DTYPES:
            raise ValueError(
                f"{one_line(key)} has the dtype {one_line(str(dtype))}, which numpy lacks"
            )


def write_state_dict(path: str | pathlib.Path, state_dict: Mapping[str, np.ndarray]) -> None:
    """Writes a file that `read_state_dict` reads.

    If writing fails, no incomplete file is left.

    Args:
      path: path of the file. Its suffix selects the format.
      state_dict: key -> array.
    Raises:
      InputError: the suffix is unknown, or torch is needed but not installed.
    """
    path = pathlib.Path(path)
    _check_suffix(path)
    if path.suffix in _TORCH:
        torch = _torch(path)
        tensors = {key: torch.from_numpy(np.array(value)) for key, value in state_dict.items()}
    with replacing(path, "wb") as file:
        if path.suffix == ".safetensors":
            # safetensors writes the memory of an array as it is, so it must be in C order.
            in_order = {key: np.asarray(value, order="C") for key, value in state_dict.items()}
            file.write(safetensors.numpy.save(in_order))
        elif path.suffix == ".npz":
            np.savez(file, **state_dict)
        else:
            torch.save(tensors, file)


def _check_suffix(path: pathlib.Path) -> None:
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path} is not a file of weights: they end in {', '.join(SUFFIXES)}")


def _torch(path: pathlib.Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"writing {path} needs torch, which is not installed: `pip install torch`, or write "
            "a .safetensors or .npz file"
        ) from error
    return torch


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        torch = None
    try:
        if torch is None:
            content = read_torch_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or unknown pickle may raise anything
        reason = one_line(str(error).strip().partition("\n")[0])
        raise InputError(
            f"{path} cannot be read ({reason}): save only the state dict, with "
            "`torch.save(model.state_dict(), path)`"
        ) from error
    for level in _LEVELS:
        if isinstance(content, dict) and isinstance(content.get(level), dict):
            content = content[level]
    kind = Tensor if torch is None else torch.Tensor
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(x, kind) for key, x in content.items()
    ):
        raise InputError(
            f"{path} contains no state dict: save one with `torch.save(model.state_dict(), path)`"
        )
    return {key: _array(torch, value, f"{path}, {key}") for key, value in content.items()}


def _array(torch: Any, value: Any, where: str) -> np.ndarray:
    """Returns the array of a tensor or parameter; floats that numpy lacks as float32."""
    try:
        if torch is None:
            return value.array()
        value = value.detach()
        if value.is_sparse or value.is_quantized or value.layout != torch.strided:
            raise TypeError("it is sparse or quantised")
        if value.is_floating_point() and value.dtype.itemsize < 4 and value.dtype != torch.float16:
            value = value.float()
        return value.resolve_conj().resolve_neg().numpy()
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise InputError(
            f"{one_line(where)} cannot be read ({reason_of(error)}): save it as a dense tensor"
        ) from error
