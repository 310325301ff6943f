"""Weights of one network as the beginning of another."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.traverse_util
import jax.numpy as jnp

from jaxvision.core import InputError

_BACKBONE = "backbone"


class Transfer(NamedTuple):
    """What became of a network's arrays.

    Attributes:
      variables: of the network, with what it could take.
      taken: names of the arrays that were taken.
      own: names of those that stay as they were: the other network lacks them, or has them in
        another shape.
    """

    variables: dict[str, Any]
    taken: list[str]
    own: list[str]


def transfer(variables: Mapping[str, Any], given: Mapping[str, Any]) -> Transfer:
    """A network's variables, with another's wherever name and shape are the same.

    If this network has a part called "backbone" and the other has none, the other is taken for the
    backbone: a classifier becomes the beginning of a detector.

    Args:
      variables: of the network: collection -> nested names -> arrays.
      given: of the other one.
    Raises:
      InputError: there is nothing to take.
    """
    own, other = map(flax.traverse_util.flatten_dict, (dict(variables), dict(given)))
    if any(_BACKBONE in path for path in own) and not any(_BACKBONE in path for path in other):
        other = {(path[0], _BACKBONE, *path[1:]): x for path, x in other.items()}
    fits = {path for path in own if path in other and other[path].shape == own[path].shape}
    if not any(path[0] == "params" for path in fits):
        raise InputError(
            "the networks have no weight in common, by name and shape: begin with a run of the "
            "same network, or of its backbone"
        )
    result = {
        path: jnp.asarray(other[path]).astype(x.dtype) if path in fits else x
        for path, x in own.items()
    }
    names = {path: "/".join(path[1:]) for path in own}
    return Transfer(
        flax.traverse_util.unflatten_dict(result),
        [names[path] for path in own if path in fits],
        [names[path] for path in own if path not in fits],
    )
