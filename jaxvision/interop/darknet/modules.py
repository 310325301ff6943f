"""Converts weights of `DarknetNetwork` to the modules of `jaxvision.models`, and back."""

import re
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import numpy as np

from jaxvision.core import InputError

_Path = tuple[str, ...]


def to_module(
    variables: Mapping[str, Any], like: Mapping[str, Any], *, keep_shapes: bool = False
) -> dict[str, Any]:
    """Converts variables of a `DarknetNetwork` to variables of a module for the same network.

    Both have the same layers in the same order; only the names differ. For the same results, YOLOv2
    needs `reorg_order="darknet"`. (Darknet's Extraction has a leaky ReLU before its last pooling,
    which the network of the paper and this library lacks.)

    Args:
      variables: variables from `read_weights`. Those of the first layers of a network are enough.
      like: variables of the module, as from `init`: Extraction, Darknet-19, Darknet-53 or YOLOv1 to
        v4, with the norm that the description has. Layers that `variables` lacks keep these values.
      keep_shapes: leave out layers that `variables` lacks, and keep arrays of another shape as they
        are, such as those of heads for other classes: `jaxvision.interop.transfer` takes the rest.
    Returns:
      variables of the module, in the dtypes of `like`.
    Raises:
      InputError: a layer has another shape or other parts, or there are more layers than the module
        has.
    """
    given, result = _flat(variables), _flat(like)
    pairs = _pairs(given, result, any_shape=keep_shapes)
    if not keep_shapes:
        return _moved(given, result, pairs)
    moved = {}
    for source, target in pairs:
        value, shape = np.asarray(given[source]), result[target].shape
        alike = _squeezed(value.shape) == _squeezed(shape)
        moved[target] = value.reshape(shape) if alike else value
    return flax.traverse_util.unflatten_dict(moved)


def from_module(variables: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """Converts variables of a module to those of a `DarknetNetwork`, for `write_weights`.

    It is the inverse of `to_module`.

    Args:
      variables: variables of the module.
      like: variables of the `DarknetNetwork`, as from `init`.
    Returns:
      variables of the `DarknetNetwork`.
    Raises:
      InputError: as for `to_module`, or the module has more layers.
    """
    given, result = _flat(variables), _flat(like)
    if len(given) != len(result):
        raise InputError(
            f"the module has {len(given)} arrays, but the description needs {len(result)}"
        )
    pairs = [(source, target) for target, source in _pairs(result, given)]
    return _moved(given, result, pairs)


def _flat(variables: Mapping[str, Any]) -> dict[_Path, Any]:
    return flax.traverse_util.flatten_dict(dict(variables))


def _moved(
    given: Mapping[_Path, Any], like: Mapping[_Path, Any], pairs: list[tuple[_Path, _Path]]
) -> dict[str, Any]:
    """Returns the variables of `like`, with given values for the targets of (source, target)."""
    result = dict(like)
    for source, target in pairs:
        value = np.asarray(given[source])
        result[target] = value.reshape(result[target].shape).astype(result[target].dtype)
    return flax.traverse_util.unflatten_dict(result)


def _pairs(
    of_darknet: Mapping[_Path, Any], of_module: Mapping[_Path, Any], *, any_shape: bool = False
) -> list[tuple[_Path, _Path]]:
    """Returns the pairs of paths of arrays that correspond to each other."""
    layers, others = _layers(of_darknet, _darknet_place), _layers(of_module, _module_place)
    if len(layers) > len(others):
        raise InputError(
            f"there are {len(layers)} layers with weights, but the module has {len(others)}"
        )
    pairs = []
    for layer, other in zip(layers, others, strict=False):
        name = "/".join(layer["layer", "kernel"][1:-1])
        if layer.keys() != other.keys():
            raise InputError(
                f"{name} has {_names(layer)}, but this layer of the module has {_names(other)}"
            )
        for part, path in layer.items():
            shape, wanted = of_darknet[path].shape, of_module[other[part]].shape
            # A 1x1 convolution after an average pooling may be a fully connected layer.
            if not any_shape and _squeezed(shape) != _squeezed(wanted):
                raise InputError(
                    f"{name}: {part[1]} has the shape {shape}, but the module's "
                    f"{'/'.join(other[part][1:])} is {wanted}"
                )
            pairs.append((path, other[part]))
    return pairs


def _layers(variables: Mapping[_Path, Any], place: Any) -> list[dict[tuple[str, str], _Path]]:
    """Returns for each layer with its norm, in order: ("layer" or "norm", leaf) -> path."""
    layers: dict[Any, dict[tuple[str, str], _Path]] = {}
    for path in variables:
        kind = "norm" if path[-2].startswith("bn") else "layer"
        layers.setdefault(place(path), {})[kind, path[-1]] = path
    return [layers[key] for key in sorted(layers)]


def _darknet_place(path: _Path) -> int:
    return int(re.search(r"\d+$", path[-2])[0])


def _module_place(path: _Path) -> tuple[bool, bool, int]:
    """Returns a sort key: the backbone comes first, and fully connected layers come last."""
    number = re.search(r"\d+$", path[-2])
    return path[1] != "backbone", path[-2].startswith("fc"), int(number[0]) if number else 0


def _names(layer: Mapping[tuple[str, str], _Path]) -> str:
    return ", ".join(sorted(f"{kind} {leaf}" for kind, leaf in layer))


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(side for side in shape if side != 1)
