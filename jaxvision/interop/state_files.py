"""Reads and writes files of torch state dicts: safetensors, npz and, with torch, torch's own."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from jaxvision.core import InputError
from jaxvision.core.files import NPZ_ERRORS, replacing

_TORCH = (".pth", ".pt", ".th", ".bin")
SUFFIXES = (".safetensors", ".npz", *_TORCH)
"""Suffixes of the files that `read_state_dict` and `write_state_dict` accept."""

# Keys under which training scripts store the state dict in a larger file.
_LEVELS = ("state_dict", "model", "model_state_dict")


def read_state_dict(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the arrays of a file.

    Args:
      path: path of a .safetensors or .npz file, or of a file that torch has saved (.pth, .pt, .th,
        .bin). The latter needs torch, which reads it with `weights_only=True`. It holds a state
        dict, or a dict with one under "state_dict", "model" or "model_state_dict".
    Returns:
      key -> array, as in the file; bfloat16 of torch's files becomes float32.
    Raises:
      InputError: the file does not exist, has another suffix or is damaged, or torch is needed but
        not installed.
    """
    path = pathlib.Path(path)
    _check_suffix(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    try:
        if path.suffix == ".safetensors":
            return safetensors.numpy.load_file(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return dict(file)
    except (safetensors.SafetensorError, *NPZ_ERRORS) as error:
        raise InputError(f"{path} cannot be read ({error}): save it again") from error
    return _read_torch(path)


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
            f"{path} needs torch, which is not installed: `pip install torch`, or save the weights "
            "as .safetensors or .npz on a machine that has it"
        ) from error
    return torch


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    torch = _torch(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or unknown pickle may raise anything
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"{path} cannot be read ({reason}): save only the state dict, with "
            "`torch.save(model.state_dict(), path)`"
        ) from error
    for level in _LEVELS:
        if isinstance(content, dict) and isinstance(content.get(level), dict):
            content = content[level]
    if not isinstance(content, dict) or not all(
        isinstance(x, torch.Tensor) for x in content.values()
    ):
        raise InputError(
            f"{path} contains no state dict: save one with `torch.save(model.state_dict(), path)`"
        )
    return {
        key: (value.float() if value.dtype == torch.bfloat16 else value).numpy()
        for key, value in content.items()
    }
