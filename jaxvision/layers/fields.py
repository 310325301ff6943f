"""What a network hands on of its own fields: to its layers, and to the backbone under it."""

from collections.abc import Callable
from functools import partial
from typing import Any

from jax import Array


def dtypes_of(module: Any) -> dict[str, Any]:
    """The options `dtype` and `param_dtype` for the layers of a module with these fields."""
    return {"dtype": module.dtype, "param_dtype": module.param_dtype}


def norm_of(module: Any, *, train: bool) -> Callable[..., Array] | None:
    """A module's norm with everything but x and the name filled in.

    Args:
      module: with the fields `norm`, `axis_name`, `dtype` and `param_dtype`.
      train: whether norms use the statistics of the batch.
    Returns:
      (x, *, name) -> array; None if the module has no norm.
    """
    if module.norm is None:
        return None
    return partial(module.norm, train=train, axis_name=module.axis_name, **dtypes_of(module))


def as_backbone(module: Any) -> dict[str, Any]:
    """The fields of a module's backbone: no classifier, and norm and dtypes of the module."""
    norm = {"norm": module.norm, "axis_name": module.axis_name}
    return {"num_classes": None, "name": "backbone", **norm, **dtypes_of(module)}
