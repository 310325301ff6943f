"""Saves and restores the variables of a network with Orbax, and loads files of weights."""

import dataclasses
import pathlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax import Array

from jaxvision.core import InputError, OptionError, describe, reason_of
from jaxvision.core.digest import array_digests, json_digest
from jaxvision.core.files import check_plain, writing
from jaxvision.interop.state_files import read_state_dict
from jaxvision.interop.torchvision import (
    KeyMap,
    Path,
    from_state_dict,
    named_alike,
    to_state_dict,
)
from jaxvision.models import MODELS
from jaxvision.models import input_size as published_input_size

_VARIABLES, _META = "variables", "meta"


def _checkpointer() -> ocp.Checkpointer:
    handlers = {_VARIABLES: ocp.StandardCheckpointHandler(), _META: ocp.JsonCheckpointHandler()}
    return ocp.Checkpointer(ocp.CompositeCheckpointHandler(**handlers))


def is_variables(folder: str | pathlib.Path) -> bool:
    """Returns whether `save_variables` wrote this folder."""
    folder = pathlib.Path(folder)
    return (folder / _VARIABLES).is_dir() and (folder / _META).is_dir()


def save_variables(folder: str | pathlib.Path, variables: Mapping[str, Any]) -> None:
    """Writes the variables of a network to a folder.

    If writing fails, no incomplete folder is left.

    Args:
      folder: a folder that does not exist yet.
      variables: collection -> nested names -> arrays.
    Raises:
      InputError: the folder already exists.
      NoRoomError: there is no room for it.
    """
    folder = pathlib.Path(folder)
    if folder.exists():
        raise InputError(f"{folder} already exists: give another name, or remove it first")
    host = jax.device_get(dict(variables))
    flat = flax.traverse_util.flatten_dict(host, sep="/")
    meta = {
        "arrays": array_digests(host),
        "shapes": {path: [list(x.shape), jnp.dtype(x.dtype).name] for path, x in flat.items()},
    }
    meta["digest"] = json_digest(meta)
    parts = {_VARIABLES: ocp.args.StandardSave(host), _META: ocp.args.JsonSave(meta)}
    with writing(folder), _checkpointer() as checkpointer:
        checkpointer.save(folder.absolute(), ocp.args.Composite(**parts))


def restore_variables(folder: str | pathlib.Path) -> dict[str, Any]:
    """Reads the variables that `save_variables` wrote, as numpy arrays.

    Raises:
      InputError: the folder contains no variables, or it is damaged.
    """
    folder = pathlib.Path(folder)
    if not is_variables(folder):
        raise InputError(
            f"{folder} contains no variables: give a folder that `jaxvision convert` wrote"
        )
    try:
        check_plain(folder)
        with _checkpointer() as checkpointer:
            read = partial(checkpointer.restore, folder.absolute())
            meta = read(ocp.args.Composite(**{_META: ocp.args.JsonRestore()}))[_META]
            if json_digest({key: meta[key] for key in meta if key != "digest"}) != meta["digest"]:
                raise ValueError("its metadata differs from what was saved")
            flat = {
                path: jax.ShapeDtypeStruct(tuple(shape), jnp.dtype(dtype))
                for path, (shape, dtype) in meta["shapes"].items()
            }
            like = flax.traverse_util.unflatten_dict(flat, sep="/")
            args = ocp.args.Composite(**{_VARIABLES: ocp.args.StandardRestore(like)})
            variables = jax.device_get(read(args)[_VARIABLES])
        if array_digests(variables) != meta["arrays"]:
            raise ValueError("its arrays differ from what was saved")
    except Exception as error:  # a reader may raise anything on a damaged file
        raise InputError(
            f"{folder} is damaged ({reason_of(error)}): convert the weights again"
        ) from error
    return variables


def head_paths(model: nn.Module, images: jax.ShapeDtypeStruct) -> set[Path]:
    """Returns the paths of the variables whose shapes depend on `num_classes`.

    Args:
      model: the network.
      images: shape [B, H, W, C] and dtype of images that it takes.
    """
    one, two = (variable_shapes(model.clone(num_classes=count), images) for count in (1, 2))
    one, two = map(flax.traverse_util.flatten_dict, (one, two))
    return {path for path, x in one.items() if x.shape != two[path].shape}


def class_count(
    model: nn.Module,
    state_dict: Mapping[str, np.ndarray],
    *,
    input_size: tuple[int, int, int],
    prefix: str = "",
    key_map: KeyMap | None = None,
) -> int | None:
    """Finds out for how many classes weights are.

    The arrays whose shape depends on the field `num_classes` of the network say it.

    Args:
      model: the network, for any number of classes.
      state_dict: key -> array, in torch's layout.
      input_size: (height, width, channels) of an image that the network takes.
      prefix: as for `load_weights`.
      key_map: as for `load_weights`.
    Returns:
      the number; None if the network has no classes, or the weights have none of these arrays, or
      others than the network's.
    """
    if "num_classes" not in {field.name for field in dataclasses.fields(model)}:
        return None
    images = jax.ShapeDtypeStruct((1, *input_size), jnp.float32)
    one, two = (variable_shapes(model.clone(num_classes=count), images) for count in (1, 2))
    found, _ = named_alike(state_dict, one, prefix=prefix, key_map=key_map)
    one, two, found = map(flax.traverse_util.flatten_dict, (one, two, found))
    counts = set()
    for path, x in found.items():
        if len(x.shape) != len(one[path].shape):
            return None
        for of_one, of_two, given in zip(one[path].shape, two[path].shape, x.shape, strict=True):
            if of_one != of_two:
                more, rest = divmod(given - of_one, of_two - of_one)
                counts.add(None if rest else more + 1)
    return counts.pop() if len(counts) == 1 else None


def variable_shapes(model: nn.Module, images: jax.ShapeDtypeStruct) -> dict[str, Any]:
    """The shapes of a network's variables, without computing them.

    Args:
      model: the network.
      images: f32[B, H, W, C], which it takes; their shape is enough.
    """
    return jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)


def load_weights(
    model: nn.Module,
    source: str | pathlib.Path | Mapping[str, np.ndarray],
    *,
    prefix: str = "",
    key_map: KeyMap | None = None,
    new_head: Array | None = None,
    input_size: tuple[int, int, int] | None = None,
) -> dict[str, Any]:
    """Loads the variables of a network from pretrained weights.

    Args:
      model: the network.
      source: path of a state dict in torch's layout (.safetensors, .npz; .pth, .pt, .th and .bin if
        torch is installed), path of a folder that `jaxvision convert` or `save_variables` wrote, or
        a state dict.
      prefix: prefix to remove from the keys of the state dict that have it, such as "module.".
      key_map: function from a key of the state dict, without the prefix, to the key of torchvision.
        If it returns None, the key is ignored.
      new_head: a `jax.random` key. With it, the layers whose shape depends on `num_classes` are
        initialised at random, and those of the file are ignored. None: they come from the file.
      input_size: (height, width, channels) of an image that the network takes; None: the size of
        the network of the library that the model is closest to, see `jaxvision.models.input_size`.
    Returns:
      variables for `model.apply`, as numpy arrays.
    Raises:
      InputError: the file cannot be read, or does not fit the network. The message lists arrays
        that are missing, left over or of another shape, and a prefix or a number of classes that
        would explain them.
      OptionError: `input_size` is not given, and the model is not one of the library's.
    """
    if input_size is None:
        input_size = _own_input_size(model)
    images = jax.ShapeDtypeStruct((1, *input_size), jnp.float32)
    variables, head = variable_shapes(model, images), set()
    if new_head is not None:
        head = head_paths(model, images)
        init = jax.jit(partial(model.init, train=False))
        variables = jax.device_get(init(new_head, jnp.zeros(images.shape)))
    if isinstance(source, Mapping):
        state_dict = source
    elif pathlib.Path(source).is_dir():
        state_dict = to_state_dict(restore_variables(source))
    else:
        state_dict = read_state_dict(source)
    names = {"prefix": prefix, "key_map": key_map}
    try:
        return from_state_dict(state_dict, variables, keep=head, **names)
    except InputError as error:
        count = class_count(model, state_dict, input_size=input_size, **names)
        if new_head is not None or count in (None, model.num_classes):
            raise
        reason = (
            f"the weights are for num_classes={count} and the network has "
            f"num_classes={model.num_classes}: build it with theirs, or give new_head, a key of "
            "jax.random, for a new last layer"
        )
        try:
            from_state_dict(state_dict, variables, keep=head_paths(model, images), **names)
        except InputError:  # and more differs
            reason = f"{error}\n{reason}"
        raise InputError(reason) from error


def _own_input_size(model: nn.Module) -> tuple[int, int, int]:
    """Returns (height, width, channels) of the images that a network of the library takes."""
    name = describe(model, {"model": MODELS}).get("name")
    if name is None:
        raise OptionError(
            "input_size",
            f"input_size is not given, and {type(model).__name__} is not a network of the library: "
            "give (height, width, channels) of an image that it takes",
        )
    return published_input_size(name)
