"""Weights in torch's layout.

The rule that makes one conversion serve every family: a parameter's Flax path, joined by "_",
equals its key in the torch state dict with "." turned into "_", but for the leaf's name.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.traverse_util
import numpy as np

from jaxvision.core import InputError

# Leaf of the Flax path -> leaf of torch's key.
_LEAVES = {
    "kernel": "weight",
    "transposed_kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
# Buffers that torch keeps and inference does not need.
_BUFFERS = ("num_batches_tracked",)
# Axes in torch's layout -> ours, by leaf and rank.
_AXES = {
    ("kernel", 2): (1, 0),  # dense: OI -> IO
    ("kernel", 4): (2, 3, 1, 0),  # convolution: OIHW -> HWIO
    ("transposed_kernel", 4): (2, 3, 0, 1),  # transposed convolution: IOHW -> HWIO
}


def _from_torch_layout(leaf: str, value: np.ndarray) -> np.ndarray:
    axes = _AXES.get((leaf, value.ndim))
    return value if axes is None else value.transpose(axes)


def from_state_dict(
    state_dict: Mapping[str, np.ndarray],
    variables: Mapping[str, Any],
    *,
    key_map: Callable[[str], str] | None = None,
) -> dict[str, Any]:
    """Variables with the values of a torch state dict.

    Args:
      state_dict: key -> array, such as the contents of an npz file.
      variables: the network's variables (or their shapes, from `jax.eval_shape`); gives the
        structure, the shapes and the dtypes.
      key_map: from the file's key to torchvision's, for weights with other names; for a prefix
        such as "module.", `lambda key: key.removeprefix("module.")`.
    Returns:
      A tree like `variables`, of numpy arrays.
    Raises:
      InputError: keys missing, left over, of another shape or given twice, all of them in one
        message.
    """
    key_map = key_map or (lambda key: key)
    given, twice = {}, []
    for key, value in state_dict.items():
        if key.endswith(_BUFFERS):
            continue
        wanted = key_map(key).replace(".", "_")
        if wanted in given:
            twice.append(f"{given[wanted][0]} and {key} for {wanted}")
        given[wanted] = (key, np.asarray(value))
    missing, misshapen, converted = [], [], {}
    for path, like in flax.traverse_util.flatten_dict(dict(variables)).items():
        _, *modules, leaf = path
        wanted = "_".join([*modules, _LEAVES.get(leaf, leaf)])
        if wanted not in given:
            missing.append(wanted)
            continue
        key, value = given.pop(wanted)
        value = _from_torch_layout(leaf, value)
        if value.shape != like.shape:
            misshapen.append(f"{key} {value.shape} for {'/'.join(path)} {like.shape}")
            continue
        converted[path] = value.astype(like.dtype)
    problems = {
        "missing": missing,
        "left over": [key for key, _ in given.values()],
        "of another shape": misshapen,
        "given twice": twice,
    }
    if any(problems.values()):
        listed = "; ".join(f"{what}: {', '.join(keys)}" for what, keys in problems.items() if keys)
        raise InputError(f"the weights do not fit the network: {listed}")
    return flax.traverse_util.unflatten_dict(converted)
