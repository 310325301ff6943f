"""Further keys of a group: the fields of the network, and the options of the function, it names."""

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ml_collections import ConfigDict, config_dict

from jaxvision.cli.code import Code
from jaxvision.cli.kinds.darknet import DARKNET, darknet_network
from jaxvision.cli.kinds.detection import FAMILIES
from jaxvision.cli.options import documentation, plain_type
from jaxvision.models import MODELS
from jaxvision.tasks import DEGRADATIONS, DETECTORS
from jaxvision.tasks.names import LOSSES

_PLAIN = (bool, int, float, str, tuple)
_GIVEN = {
    "model": ("parent", "name", "axis_name", "num_anchors", "remat"),
    "detector": ("model", "anchors", "loss", "decode"),
    "loss": ("constrained", "predicts_roots"),  # which are options of the detector
}
"""Group -> what the task or the detector gives."""


def chosen_names(names: Mapping[str, str]) -> dict[str, str]:
    """The names of networks and functions, those included that follow from others.

    Args:
      names: group -> the name in it; empty: the one that belongs to the others.
    """
    found = dict(names)
    if "detector" in found:
        found["detector"] = found["detector"] or FAMILIES.get(found["model"], "")
        if found["detector"] in DETECTORS and not found["loss"]:
            loss = inspect.signature(DETECTORS[found["detector"]]).parameters.get("loss")
            name = getattr(getattr(loss, "default", None), "__name__", "")
            found["loss"] = name if name in LOSSES["detection"] else ""
    # The loss of an auxiliary output is that of the network's output.
    return {**found, "auxiliary": found.get("loss", "")}


def fields_of(config: ConfigDict, group: str, name: str) -> dict[str, inspect.Parameter]:
    """The further keys that a group may have.

    Args:
      config: of the run; its task matters alone.
      group: its path, such as "model".
      name: of the network or function that the group names.
    Returns:
      Key -> parameter, with its default; {} for a group that takes no others.
    Raises:
      InputError: there is no such network or function.
    """
    table = _tables(config).get(group)
    if not name or table is None:
        return {}
    parameters = inspect.signature(Code().find(table, name, group)).parameters.values()
    return {
        x.name: x
        for x in parameters
        if x.default is not inspect.Parameter.empty
        and x.name not in _GIVEN.get(group, ())
        and (group not in ("loss", "auxiliary") or x.kind is x.KEYWORD_ONLY)
        and (x.name in ("norm", "backbone") or not _is_function(x.annotation))  # they have names
    }


def _is_function(hint: Any) -> bool:
    """Whether an annotation is that of a function, or of a function or None."""
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return any(typing.get_origin(part) is Callable for part in parts)


def meaning_of(config: ConfigDict, group: str, name: str) -> dict[str, str]:
    """Key -> what it means, of those that the docstring explains."""
    named = Code().find(_tables(config)[group], name, group)
    while isinstance(named, partial):
        named = named.func
    return documentation(named)


def _tables(config: ConfigDict) -> Mapping[str, Mapping[str, Callable[..., Any]]]:
    return {
        "model": {**MODELS, DARKNET: darknet_network},
        "loss": LOSSES.get(config.task, {}),
        "auxiliary": LOSSES.get(config.task, {}),
        "degradation": DEGRADATIONS,
        "detector": DETECTORS,
    }


def default_of(parameter: inspect.Parameter) -> Any:
    """The value that a key begins with: the default, or an empty one of its type."""
    if isinstance(parameter.default, _PLAIN):
        return parameter.default
    kind = plain_type(parameter.annotation)
    kind = tuple if kind is Sequence else kind
    return config_dict.placeholder(kind if kind in _PLAIN else object)


def shown(default: Any) -> str:
    """A default, as --help shows it."""
    while isinstance(default, partial):
        default = default.func
    return getattr(default, "__name__", None) or str(default)
