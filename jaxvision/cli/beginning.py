"""What a network begins with: the weights of another."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision.cli.assemble import open_run
from jaxvision.core import InputError, Task, listed, name_matches
from jaxvision.engine import transfer
from jaxvision.interop import (
    SUFFIXES,
    is_variables,
    named_alike,
    read_state_dict,
    restore_variables,
    to_state_dict,
)


class _Weights(NamedTuple):
    """Variables to begin with.

    Attributes:
      variables: of another network, or some of them.
      origin: names them in messages.
      left: keys of the file that the network has no variable for.
    """

    variables: dict[str, Any]
    origin: str
    left: Sequence[str] = ()


def _weights_of_run(folder: pathlib.Path) -> _Weights:
    _, best = open_run(folder)
    return _Weights(jax.device_get(best.state.averaged), f"{folder}, step {best.step}")


def _weights_of_file(path: pathlib.Path, like: dict[str, Any], prefix: str) -> _Weights:
    """Of a state dict for a network like `like`, or for its backbone."""
    state_dict = read_state_dict(path)
    backbone = {name: tree["backbone"] for name, tree in like.items() if "backbone" in tree}
    for part in (like, backbone):
        found, left = named_alike(state_dict, part, prefix=prefix)
        if "params" in found:
            return _Weights(found, str(path), left)
    params = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like["params"])
    ours = listed(to_state_dict({"params": params}), most=3)
    raise InputError(
        f"{path} has no weight of the network: its keys are {listed(state_dict, most=3)}, the "
        f"network's {ours}: if they differ in how they begin, say what to take off the file's, by "
        "config.init_prefix or --prefix"
    )


def starting_from(
    task: Task,
    origin: str,
    *,
    prefix: str = "",
    leave_out: Sequence[str] = (),
    freeze: Sequence[str] = (),
    say: Callable[[str], None],
) -> Task:
    """The task, its network beginning with weights of another, where they fit.

    Args:
      task: the task.
      origin: folder of a run, whose best weights they are; or of variables, as `jaxvision convert`
        writes them; or a file of weights in torch's layout.
      prefix: taken off the keys of such a file where they have it.
      leave_out: patterns of variables that begin at random all the same.
      freeze: patterns of the parameters that will not train.
      say: shows lines to the user: what is new, and perhaps frozen, and what was not taken.
    Raises:
      InputError: there is no such run or file, or it has nothing in common with the task's network;
        or a pattern to leave out matches nothing.
    """
    path = pathlib.Path(origin).expanduser()
    like = jax.eval_shape(task.init, jax.random.key(0))
    if is_variables(path):
        weights = _Weights(restore_variables(path), str(path))
    elif path.suffix in SUFFIXES or path.is_file():
        weights = _weights_of_file(path, like, prefix)
    else:
        weights = _weights_of_run(path)
    given = weights.variables
    taken = transfer(like, given, leave_out=leave_out)
    rest = f"; new: {', '.join(taken.own)}" if taken.own else ""
    say(f"{len(taken.taken)} arrays begin as in {weights.origin}{rest}")
    if taken.recolored:
        say(f"from grey to RGB, or back: {', '.join(taken.recolored)}")
    frozen = [name for name in taken.own if any(name_matches(name, x) for x in freeze)]
    if frozen:
        say(f"frozen, though new and at random: {', '.join(frozen)}")
    if weights.left:
        say(f"not taken from there: {', '.join(weights.left)}")

    def init(key: jax.Array) -> dict[str, Any]:
        return transfer(task.init(key), given, leave_out=leave_out).variables

    return dataclasses.replace(task, init=init)
