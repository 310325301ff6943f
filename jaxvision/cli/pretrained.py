"""Initialisation from pretrained weights (config.init_from)."""

import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision.cli.kinds.darknet import description_of
from jaxvision.core import InputError, OptionError, Task, listed, name_matches
from jaxvision.engine import RUN, restore_weights
from jaxvision.interop import (
    SUFFIXES,
    KeyRules,
    PublishedWeights,
    download_weights,
    find_published,
    is_variables,
    is_weights_name,
    named_alike,
    published_state_dict,
    read_state_dict,
    read_weights,
    restore_variables,
    to_module,
    to_state_dict,
    transfer,
)
from jaxvision.interop.transfer import BACKBONE_NAMES


class Weights(NamedTuple):
    """Pretrained weights.

    Attributes:
      origin: where they are from.
      state_dict: key -> array, in torch's layout and under the names that they have there.
      variables: those of a run or of a folder of `jaxvision convert`; None: of a file.
    """

    origin: str
    state_dict: Mapping[str, np.ndarray]
    variables: dict[str, Any] | None = None


_HUB = "hub:"


def read_pretrained(
    origin: str,
    *,
    cfg: str | None = None,
    like: Callable[[], dict[str, Any]] | None = None,
) -> Weights:
    """Reads pretrained weights. No code of a run is imported.

    Args:
      origin: folder of a run, whose best weights are taken; or of variables, as `jaxvision convert`
        writes them; or a file of weights in torch's layout; or "MODEL:NAME" for published ones, see
        `jaxvision.load_pretrained`; or "hub:OWNER/NAME" for a file of the Hugging Face hub; or a
        file of Darknet, .weights, or .conv.15 with the first 15 layers.
      cfg: path of the description of a file of Darknet, or its text.
      like: gives the shapes of the variables of the library's network whose names the arrays of a
        file of Darknet get; None: they get those of `jaxvision.interop.DarknetNetwork`.
    Raises:
      InputError: there are no such weights, or they cannot be read.
    """
    published = published_of(origin)
    if published is not None:
        return Weights(published.full_name, published_state_dict(published))
    path = _path(origin)
    first = re.search(r"\.conv\.(\d+)$", path.name)
    if path.suffix == ".weights" or first:
        if not cfg:
            raise InputError(
                f"{path} has no names of arrays, so its description is needed: give --cfg=FILE, or "
                "config.init_cfg in training"
            )
        variables = read_weights(path, description_of(cfg), until=first and int(first[1]))
        if like is not None:
            try:
                variables = to_module(variables, like(), keep_shapes=True)
            except InputError as error:
                raise InputError(
                    f"the network that the .cfg file of {path} describes has other layers than the "
                    f"model: {error}"
                ) from error
        return Weights(str(path), to_state_dict(variables), variables)
    if is_variables(path):
        variables = restore_variables(path)
        return Weights(str(path), to_state_dict(variables), variables)
    if not (path / RUN).is_file() and (path.suffix in SUFFIXES or path.is_file()):
        return Weights(str(path), read_state_dict(path))
    weights = restore_weights(path)
    variables = jax.device_get(weights.variables)
    return Weights(f"{path}, step {weights.step}", to_state_dict(variables), variables)


def published_of(origin: str, model: str | None = None) -> PublishedWeights | None:
    """The published weights that a text names; None if it names a file, a folder or a run.

    Args:
      origin: "MODEL:NAME", or with a model NAME alone, as "IMAGENET1K_V2" or "DEFAULT".
      model: name of the network that they are for; None: any.
    Raises:
      InputError: there are no such weights, or they are for another network.
    """
    if pathlib.Path(origin).expanduser().exists():
        return None
    if is_weights_name(origin):
        of, _, name = origin.partition(":")
        if model is not None and model != of:
            raise InputError(f"--weights={origin} are those of {of}, but --model is {model}")
        return find_published(of, name)
    if model is not None and re.fullmatch(r"(\w+_Weights\.)?[A-Z][A-Z0-9_]*", origin):
        return find_published(model, origin)
    return None


def check_prefix(prefix: str, weights: Weights) -> None:
    """Raises OptionError if no key of the weights begins with a prefix that is given."""
    if prefix and not any(key.startswith(prefix) for key in weights.state_dict):
        raise OptionError(
            "init_prefix",
            f"init_prefix is {prefix!r}, but no key of {weights.origin} begins with it: they are "
            f"{listed(weights.state_dict, most=3)}",
        )


def key_map_of(rules: Sequence[tuple[str, str]], weights: Weights, prefix: str) -> KeyRules | None:
    """Rules that rename the keys of weights; None if there are none.

    Args:
      rules: (old, new) pairs, see `KeyRules`.
      weights: whose keys they are for.
      prefix: taken off the keys before.
    Raises:
      OptionError: a rule finds nothing in the keys.
    """
    key_map = KeyRules(rules)
    for key in weights.state_dict:
        key_map(key.removeprefix(prefix))
    if key_map.unused:
        shown = ", ".join(f"{old}={new}" for old, new in key_map.unused)
        raise OptionError(
            "init_key_map",
            f"init_key_map: no key of the weights fits {shown}: correct it or leave it out",
        )
    return key_map if rules else None


def _path(origin: str) -> pathlib.Path:
    """Where weights are; those of the hub are downloaded."""
    if origin.startswith(_HUB):
        return download_weights(origin.removeprefix(_HUB))
    return pathlib.Path(origin).expanduser()


def _by_name(
    weights: Weights, like: dict[str, Any], prefix: str, key_map: KeyRules | None
) -> tuple[dict[str, Any], Sequence[str]]:
    """The variables of a network like `like`, or of its backbone, and the keys that it lacks."""
    if weights.variables is not None and not prefix and key_map is None:
        return weights.variables, ()
    backbones = (
        {name: tree[part] for name, tree in like.items() if part in tree} for part in BACKBONE_NAMES
    )
    for part in (like, *backbones):
        found, left = named_alike(weights.state_dict, part, prefix=prefix, key_map=key_map)
        if "params" in found:
            return found, left
    params = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like["params"])
    ours = listed(to_state_dict({"params": params}), most=3)
    raise InputError(
        f"{weights.origin} has no weight of the network: its keys are "
        f"{listed(weights.state_dict, most=3)}, the network's {ours}: if they differ in how they "
        "begin, say what to take off the file's, by config.init_prefix or --prefix"
    )


def pretrained_variables(
    task: Task,
    weights: Weights,
    *,
    variables: Any,
    prefix: str = "",
    key_map: KeyRules | None = None,
    reinit: Sequence[str] = (),
    freeze: Sequence[str] = (),
    log: Callable[[str], None],
) -> dict[str, Any]:
    """The variables of a task's network, with pretrained weights wherever they fit.

    Args:
      task: the task.
      weights: of `read_pretrained`.
      variables: of the task's network, for what the weights lack.
      prefix: taken off the keys of the weights where they have it.
      key_map: renames the keys of the weights; None: they keep their names.
      reinit: patterns of variables that are not taken.
      freeze: patterns of the parameters that will not be trained, besides those of the task.
      log: shows lines to the user: what is new, and perhaps frozen, and what was not taken.
    Raises:
      InputError: the weights have nothing in common with the task's network; or a pattern matches
        nothing.
      OptionError: no key begins with the prefix.
    """
    check_prefix(prefix, weights)
    like = jax.eval_shape(task.init, jax.random.key(0))
    given, left = _by_name(weights, like, prefix, key_map)
    taken = transfer(variables, given, reinit=reinit)
    rest = f"; new: {', '.join(taken.own)}" if taken.own else ""
    log(f"{len(taken.taken)} arrays are initialised from {weights.origin}{rest}")
    if taken.recolored:
        log(f"from grey to RGB, or back: {', '.join(taken.recolored)}")
    patterns = (*freeze, *task.freeze)
    frozen = [name for name in taken.own if any(name_matches(name, x) for x in patterns)]
    if frozen:
        log(f"frozen, though new and at random: {', '.join(frozen)}")
    if left:
        log(f"not taken from there: {', '.join(left)}")
    return taken.variables
