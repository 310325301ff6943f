"""Functions that pass the fields of a network on to its layers and to its backbone."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from jax import Array


def dtypes_of(module: Any) -> dict[str, Any]:
    """Returns the fields `dtype` and `param_dtype` of a module, as options for its layers."""
    return {"dtype": module.dtype, "param_dtype": module.param_dtype}


def norm_of(module: Any, *, train: bool, field: str = "norm") -> Callable[..., Array] | None:
    """Returns the norm of a module as a function of x and the name of the layer.

    Args:
      module: a module with the fields `norm`, `axis_name`, `dtype` and `param_dtype`.
      train: whether norms use the statistics of the batch.
      field: the field with the norm, where it is another than `norm`.
    Returns:
      (x, *, name) -> array, or None if the module has no norm.
    """
    norm = getattr(module, field)
    if norm is None:
        return None
    return partial(norm, train=train, axis_name=module.axis_name, **dtypes_of(module))


def as_backbone(
    module: Any, build: Callable[..., Any], *, name: str = "backbone"
) -> dict[str, Any]:
    """Returns the fields for the backbone of a module: its norm and dtypes, and no classifier.

    The backbone computes its blocks a second time too, if it can.

    Args:
      module: a module with the fields `remat`, `norm`, `axis_name`, `dtype` and `param_dtype`.
      build: builds the backbone.
      name: name of the backbone.
    """
    fields = {"norm": module.norm, "axis_name": module.axis_name, **dtypes_of(module)}
    if module.remat and "remat" in inspect.signature(build).parameters:
        fields["remat"] = True
    return {"num_classes": None, "name": name, **fields}
