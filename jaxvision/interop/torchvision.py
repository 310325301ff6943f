"""Converts weights from and to torch's layout.

One converter serves all families, because parameters are named by one rule: the Flax path of a
parameter, joined by "_", equals its key in the torch state dict with "." turned into "_", except
for the name of the leaf.
"""

import collections
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax.numpy as jnp
import numpy as np

from jaxvision.core import InputError, listed, one_line
from jaxvision.layers import relative_position_index
from jaxvision.models.backbones.maxvit import MaxViT
from jaxvision.models.backbones.swin import SwinTransformer, log_offsets

KeyMap = Callable[[str], str | None]
Path = tuple[str, ...]

# Leaf of the Flax path -> last part of torch's key.
_LEAVES = {
    "kernel": "weight",
    "transposed_kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
# Buffers that torch stores and this library computes.
_BUFFERS = ("num_batches_tracked", "relative_position_index", "relative_coords_table")
# In older files of DenseNets there is a "." in "norm1" and "conv1".
_OLD_DENSE = re.compile(r"(.*_denselayer\d+_(?:norm|conv))_(\d)_([a-z_]+)")
# What older files of torchvision's detectors have in place of ".{i}.0.": in pyramids there is no
# ".0", the heads of RetinaNet count ReLUs as well, and those of R-CNNs have names of their own.
_OLD_PYRAMID = re.compile(r"(.*_(?:inner|layer)_blocks_\d+)_([a-z]+)")
_OLD_RPN = re.compile(r"(rpn_head_conv)_([a-z]+)")
_OLD_MASKS = re.compile(r"(roi_heads_mask_head)_mask_fcn(\d)_([a-z]+)")
_OLD_HEAD = re.compile(r"(.*head_(?:classification|regression)_head_conv)_([0246])_([a-z]+)")
# Axes from torch's layout to this library's, by leaf and rank.
_AXES = {
    ("kernel", 2): (1, 0),  # dense: OI -> IO
    ("kernel", 4): (2, 3, 1, 0),  # convolution: OIHW -> HWIO
    ("transposed_kernel", 4): (2, 3, 0, 1),  # transposed convolution: IOHW -> HWIO
}


def _key(path: tuple[str, ...]) -> str:
    """Returns the joined key of a variable: torch's key with "_" in place of every dot."""
    _, *modules, leaf = path
    return "_".join([*modules, _LEAVES.get(leaf, leaf)])


def _from_torch_layout(leaf: str, value: np.ndarray) -> np.ndarray:
    axes = _AXES.get((leaf, value.ndim))
    return value if axes is None else value.transpose(axes)


def _to_torch_layout(leaf: str, value: np.ndarray) -> np.ndarray:
    axes = _AXES.get((leaf, value.ndim))
    return value if axes is None else value.transpose(np.argsort(axes))


def _torch_shape(leaf: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    axes = _AXES.get((leaf, len(shape)), range(len(shape)))
    return tuple(shape[axis] for axis in np.argsort(axes))


def from_state_dict(
    state_dict: Mapping[str, np.ndarray],
    variables: Mapping[str, Any],
    *,
    prefix: str = "",
    key_map: KeyMap | None = None,
    keep: Collection[Path] = (),
) -> dict[str, Any]:
    """Converts a torch state dict to variables of a network.

    Args:
      state_dict: key -> array, such as the contents of an npz file.
      variables: the variables of the network, or their shapes from `jax.eval_shape`. They set the
        structure, the shapes and the dtypes.
      prefix: prefix to remove from the keys that have it, such as "module.".
      key_map: function from a key of the file, without the prefix, to the key of torchvision, for
        weights with other names. If it returns None, the key is ignored.
      keep: paths in `variables` that keep their values, even if the file has values for them.
    Returns:
      a tree like `variables`, of numpy arrays.
    Raises:
      InputError: keys are missing, left over, of another shape, of another kind of numbers or given
        twice. The message lists the first of each, in the spelling of the file, and a prefix that
        would explain them.
    """
    given, twice = _by_joined_key(state_dict, variables, prefix, key_map)
    kept = {_key(path) for path in keep}
    missing, misshapen, wrong, converted = [], [], [], {}
    for path, like in flax.traverse_util.flatten_dict(dict(variables)).items():
        wanted = _key(path)
        if wanted in kept:
            converted[path] = like
            continue
        if wanted not in given:
            missing.append(_dotted(wanted))
            continue
        key, value = given.pop(wanted)
        value = _from_torch_layout(path[-1], value)
        if value.shape != like.shape:
            own, others = _torch_shape(path[-1], like.shape), _torch_shape(path[-1], value.shape)
            misshapen.append(f"{key} {others} instead of {own}")
            continue
        try:
            converted[path] = _cast(value, like.dtype)
        except (TypeError, FloatingPointError) as error:
            wrong.append(f"{key} ({error})")
    left = [key for joined, (key, _) in given.items() if joined not in kept]
    problems = {
        "missing": missing,
        "left over": left,
        "of another shape": misshapen,
        "of another kind of numbers": wrong,
        "given twice": twice,
    }
    if any(problems.values()):
        lines = [
            f"  {what}: {one_line(listed(keys), 600)}" for what, keys in problems.items() if keys
        ]
        explains = None if key_map else _prefix(left, missing)
        if explains:
            lines.append(f"the keys differ by a prefix: give prefix={explains!r}")
        raise InputError("\n".join(["the weights do not fit the network:", *lines]))
    return flax.traverse_util.unflatten_dict(converted)


def _cast(value: np.ndarray, dtype: Any) -> np.ndarray:
    """Returns an array in another dtype; raises if its numbers do not keep their meaning."""
    is_complex = jnp.issubdtype(value.dtype, jnp.complexfloating)
    if not (jnp.issubdtype(value.dtype, jnp.number) or value.dtype == bool) or (
        is_complex and not jnp.issubdtype(dtype, jnp.complexfloating)
    ):
        raise TypeError(f"{value.dtype} for {jnp.dtype(dtype).name}")
    with np.errstate(over="raise"):
        return value.astype(dtype)


def _prefix(left: Sequence[str], missing: Sequence[str]) -> str | None:
    """Finds the prefix without which keys that are left over are most of those that are missing."""
    wanted = {key.replace(".", "_") for key in missing}
    counts = collections.Counter(
        key[: dot.end()]
        for key in left
        for dot in re.finditer(r"\.", key)
        if key[dot.end() :].replace(".", "_") in wanted
    )
    for prefix, count in counts.most_common(1):
        if count > len(missing) / 2:
            return prefix
    return None


def named_alike(
    state_dict: Mapping[str, np.ndarray],
    variables: Mapping[str, Any],
    *,
    prefix: str = "",
    key_map: KeyMap | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Finds the arrays of a state dict that have the names of a network's variables.

    Args:
      state_dict: key -> array.
      variables: the variables of the network, or their shapes.
      prefix: prefix to remove from the keys that have it.
      key_map: as for `from_state_dict`.
    Returns:
      a tree like `variables` with the arrays that were found, in this library's layout and with
      the shapes of the file; and the other keys.
    """
    given, _ = _by_joined_key(state_dict, variables, prefix, key_map)
    found = {}
    for path in flax.traverse_util.flatten_dict(dict(variables)):
        if _key(path) in given:
            _, value = given.pop(_key(path))
            found[path] = _from_torch_layout(path[-1], value)
    return flax.traverse_util.unflatten_dict(found), [key for key, _ in given.values()]


def _by_joined_key(
    state_dict: Mapping[str, np.ndarray],
    variables: Mapping[str, Any],
    prefix: str,
    key_map: KeyMap | None,
) -> tuple[dict[str, tuple[str, np.ndarray]], list[str]]:
    """Returns joined key -> (key of the file, array), without buffers, and keys given twice.

    Keys in an older spelling of torchvision get the present one, if `variables` have that.
    """
    own = {_key(path) for path in flax.traverse_util.flatten_dict(dict(variables))}
    given, twice = {}, []
    for key, value in state_dict.items():
        name = key.removeprefix(prefix)
        if key_map is not None:
            name = key_map(name)
        if name is None or key.endswith(_BUFFERS):
            continue
        joined = name.replace(".", "_")
        if joined not in own and _renewed(joined) in own:
            joined = _renewed(joined)
        if joined in given:
            twice.append(f"{given[joined][0]} and {key} for {joined}")
        given[joined] = (key, np.asarray(value))
    return given, twice


def _renewed(joined: str) -> str:
    """Returns the present spelling of a joined key of an older file of torchvision."""
    joined = _OLD_DENSE.sub(r"\1\2_\3", joined)
    joined = _OLD_PYRAMID.sub(r"\1_0_\2", joined)
    joined = _OLD_RPN.sub(r"\1_0_0_\2", joined)
    joined = _OLD_MASKS.sub(lambda old: f"{old[1]}_{int(old[2]) - 1}_0_{old[3]}", joined)
    return _OLD_HEAD.sub(lambda old: f"{old[1]}_{int(old[2]) // 2}_0_{old[3]}", joined)


def to_state_dict(
    variables: Mapping[str, Any], *, model: nn.Module | None = None
) -> dict[str, np.ndarray]:
    """Converts the variables of a network to a torch state dict.

    It is the inverse of `from_state_dict`.

    Args:
      variables: the variables of the network.
      model: the network. It is needed for the index tables of Swin and MaxViT, which torchvision
        stores as buffers.
    Returns:
      key -> array, with the keys of torchvision's module if it has the network. The batch counters
      of batch norms are 0; frozen ones have none.
    """
    state_dict = {}
    flat = flax.traverse_util.flatten_dict(dict(variables))
    for path, value in flat.items():
        key = _dotted(_key(path))
        state_dict[key] = _to_torch_layout(path[-1], np.asarray(value))
        if path[-1] == "var" and ("batch_stats", *path[1:-1], "scale") not in flat:
            counter = key.removesuffix("running_var") + "num_batches_tracked"
            state_dict[counter] = np.zeros((), np.int64)
    if isinstance(model, SwinTransformer | MaxViT):
        state_dict |= _index_tables(model, state_dict)
    return state_dict


def _index_tables(
    model: SwinTransformer | MaxViT, state_dict: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Computes the buffers of window attention that torchvision stores in each layer."""
    window, side = model.window, 2 * model.window - 1
    second = isinstance(model, SwinTransformer) and model.version == 2
    index = relative_position_index(window)
    tables = {"relative_position_index": index if isinstance(model, MaxViT) else index.ravel()}
    if second:
        tables["relative_coords_table"] = log_offsets(window).reshape(1, side, side, 2)
    parameter = "logit_scale" if second else "relative_position_bias_table"
    attentions = [
        key.removesuffix(parameter) for key in state_dict if key.endswith(f".{parameter}")
    ]
    return {base + name: table for base in attentions for name, table in tables.items()}


# Parts of torchvision's keys that contain a "_"; every other "_" stands for a dot.
_COMPOUNDS = (
    r"Conv2d_\d\w_\dx\d|Mixed_\d\w|branch\dx\d(?:x\d|dbl)?_\d[ab]?|branch_pool",  # Inception v3
    r"trunk_output",  # RegNet
    r"layer_scale",  # ConvNeXt
    r"class_token|conv_proj|encoder_layer_\d+|in_proj_(?:weight|bias)|ln_\d",  # ViT
    r"out_proj|pos_embedding|self_attention",
    r"cpb_mlp|logit_scale|relative_position_bias_table",  # Swin
    r"attn_layer|conv_[abc]|grid_attention|mlp_layer|pre_norm",  # MaxViT
    r"squeeze_excitation|to_qkv|window_attention",
    r"aux_classifier|(?:low|high)_classifier",  # FCN, DeepLabv3, Lite R-ASPP
    r"inner_blocks|layer_blocks|extra_blocks",  # feature pyramid
    r"classification_head|regression_head|cls_logits|bbox_reg|bbox_ctrness",  # detectors
    r"module_list|scale_weight",  # SSD
    r"roi_heads|bbox_pred|(?:box|mask|keypoint)_(?:head|predictor)|cls_score",  # R-CNNs
    r"conv5_mask|mask_fcn_logits|kps_score_lowres",
    r"running_(?:mean|var)",
)
_PART = re.compile(f"(?:{'|'.join(_COMPOUNDS)})(?=_|$)|[^_]+")


def _dotted(joined: str) -> str:
    return ".".join(_PART.findall(joined))
