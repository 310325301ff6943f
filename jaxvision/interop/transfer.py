"""Takes weights of one network into another."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.traverse_util
import jax.numpy as jnp

from jaxvision.core import InputError, names_matching

BACKBONE_NAMES = ("backbone", "backbone_body")
"""Names of the part of a network that may be initialised from a classifier."""


class Transfer(NamedTuple):
    """What became of a network's arrays.

    Attributes:
      variables: of the network, with the given ones where they fit.
      taken: names of the arrays that were taken.
      own: names of those that stay as they were: the other network lacks them, or has them in
        another shape, or `reinit` names them.
      recolored: names of those taken of which the other network's were for grey images and this
        one's are for RGB, or the other way round.
    """

    variables: dict[str, Any]
    taken: list[str]
    own: list[str]
    recolored: list[str]


def transfer(
    variables: Mapping[str, Any], given: Mapping[str, Any], *, reinit: Sequence[str] = ()
) -> Transfer:
    """Replaces a network's variables by another's wherever name and shape are the same.

    If this network has a part called "backbone" or "backbone_body" and the other has none, the
    other is taken for the backbone, so that a detector can be initialised from a pretrained
    classifier. Batch norms and frozen batch norms take each other's arrays.

    A convolution of grey images becomes one of RGB, in which each channel has a third of the
    kernel, and one of RGB becomes one of grey, with the sum over the channels: both do to images
    of equal channels what the other network did.

    Args:
      variables: of the network: collection -> nested names -> arrays.
      given: of the other one.
      reinit: patterns of this network's variables that are not taken, see
        `jaxvision.core.patterns`.
    Raises:
      OptionError: a pattern of `reinit` matches nothing.
      InputError: no weight fits.
    """
    own, other = map(flax.traverse_util.flatten_dict, (dict(variables), dict(given)))
    for backbone in BACKBONE_NAMES:
        if any(backbone in path for path in own) and not any(backbone in path for path in other):
            other = {(path[0], backbone, *path[1:]): x for path, x in other.items()}
    collections = {path[1:]: path[0] for path in own}
    other = {(collections.get(path[1:], path[0]), *path[1:]): x for path, x in other.items()}
    shapes = {path: x.shape for path, x in other.items()}
    other = {path: _of_channels(x, own[path].shape) for path, x in other.items() if path in own}
    names = {path: "/".join(path[1:]) for path in own}
    kept = names_matching(names.values(), reinit, what="reinit")
    fits = {
        path for path, x in other.items() if x.shape == own[path].shape and names[path] not in kept
    }
    if not any(path[0] == "params" for path in fits):
        raise InputError(
            "the networks have no weight in common, by name and shape: give pretrained weights of "
            "the same network, or of its backbone"
        )
    result = {
        path: jnp.asarray(other[path]).astype(x.dtype) if path in fits else x
        for path, x in own.items()
    }
    return Transfer(
        flax.traverse_util.unflatten_dict(result),
        [names[path] for path in own if path in fits],
        [names[path] for path in own if path not in fits],
        [names[path] for path in own if path in fits and shapes[path] != own[path].shape],
    )


def _of_channels(x: Any, shape: tuple[int, ...]) -> Any:
    """Turns a kernel [h, w, C, D] for grey or RGB images into the other kind, if `shape` is it."""
    if len(x.shape) != 4 or (x.shape[2], *shape[2:3]) not in ((1, 3), (3, 1)):
        return x
    if (*x.shape[:2], x.shape[3]) != (*shape[:2], *shape[3:]):
        return x
    return x.sum(axis=2, keepdims=True).repeat(shape[2], axis=2) / shape[2]
