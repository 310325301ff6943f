"""Initialisation from pretrained weights (config.init_from)."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision.core import InputError, OptionError, Task, listed, name_matches
from jaxvision.engine import RUN, restore_weights
from jaxvision.interop import (
    SUFFIXES,
    KeyRules,
    download_weights,
    is_variables,
    named_alike,
    read_state_dict,
    restore_variables,
    to_state_dict,
    transfer,
)


class _Weights(NamedTuple):
    """Variables to start from.

    Attributes:
      variables: of another network, or some of them.
      origin: names them in messages.
      left: keys of the file that the network has no variable for.
    """

    variables: dict[str, Any]
    origin: str
    left: Sequence[str] = ()


_HUB = "hub:"


def read_weights_of(origin: str) -> Mapping[str, np.ndarray]:
    """The arrays of pretrained weights, in torch's layout and under the names that they have there.

    Args:
      origin: as for `pretrained_variables`.
    Raises:
      InputError: there are no such weights, or they cannot be read.
    """
    path = _path(origin)
    if is_variables(path):
        return to_state_dict(restore_variables(path))
    if _is_file(path):
        return read_state_dict(path)
    return to_state_dict(_weights_of_run(path).variables)


def _path(origin: str) -> pathlib.Path:
    """Where weights are; those of the hub are downloaded."""
    if origin.startswith(_HUB):
        return download_weights(origin.removeprefix(_HUB))
    return pathlib.Path(origin).expanduser()


def _is_file(path: pathlib.Path) -> bool:
    """Whether weights are in a file, rather than in a run's folder."""
    return not (path / RUN).is_file() and (path.suffix in SUFFIXES or path.is_file())


def _weights_of_run(folder: pathlib.Path) -> _Weights:
    weights = restore_weights(folder)
    return _Weights(jax.device_get(weights.variables), f"{folder}, step {weights.step}")


def _weights_of_file(
    path: pathlib.Path, like: dict[str, Any], prefix: str, key_map: KeyRules | None
) -> _Weights:
    """Of a state dict for a network like `like`, or for its backbone."""
    state_dict = read_state_dict(path)
    backbone = {name: tree["backbone"] for name, tree in like.items() if "backbone" in tree}
    for part in (like, backbone):
        found, left = named_alike(state_dict, part, prefix=prefix, key_map=key_map)
        if "params" in found:
            return _Weights(found, str(path), left)
    params = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like["params"])
    ours = listed(to_state_dict({"params": params}), most=3)
    raise InputError(
        f"{path} has no weight of the network: its keys are {listed(state_dict, most=3)}, the "
        f"network's {ours}: if they differ in how they begin, say what to take off the file's, by "
        "config.init_prefix or --prefix"
    )


def pretrained_variables(
    task: Task,
    origin: str,
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
      origin: folder of a run, whose best weights are taken; or of variables, as `jaxvision convert`
        writes them; or a file of weights in torch's layout, or "hub:OWNER/NAME" for one of the
        Hugging Face hub. No code of the run is imported.
      variables: of the task's network, for what the weights lack.
      prefix: taken off the keys of such a file where they have it.
      key_map: renames the keys of such a file; None: they keep their names.
      reinit: patterns of variables that are not taken.
      freeze: patterns of the parameters that will not be trained.
      log: shows lines to the user: what is new, and perhaps frozen, and what was not taken.
    Raises:
      InputError: there is no such run or file, or it has nothing in common with the task's network;
        or a pattern matches nothing.
    """
    path = _path(origin)
    if prefix and (is_variables(path) or not _is_file(path)):
        raise OptionError(
            "init_prefix",
            f"init_prefix is {prefix!r}, but {path} is no file in torch's layout, whose keys may "
            "have a prefix: leave it out",
        )
    if is_variables(path):
        weights = _Weights(restore_variables(path), str(path))
    elif _is_file(path):
        like = jax.eval_shape(task.init, jax.random.key(0))
        weights = _weights_of_file(path, like, prefix, key_map)
    else:
        weights = _weights_of_run(path)
    taken = transfer(variables, weights.variables, reinit=reinit)
    rest = f"; new: {', '.join(taken.own)}" if taken.own else ""
    log(f"{len(taken.taken)} arrays are initialised from {weights.origin}{rest}")
    if taken.recolored:
        log(f"from grey to RGB, or back: {', '.join(taken.recolored)}")
    frozen = [name for name in taken.own if any(name_matches(name, x) for x in freeze)]
    if frozen:
        log(f"frozen, though new and at random: {', '.join(frozen)}")
    if weights.left:
        log(f"not taken from there: {', '.join(weights.left)}")
    return taken.variables
