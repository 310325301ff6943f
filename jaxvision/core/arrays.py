"""Checks of the array arguments of public functions.

Only static properties are checked, so a check costs nothing under jit.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

_KINDS = {
    "float": (jnp.floating,),
    "int": (jnp.integer,),
    "bool": (jnp.bool_,),
    "number": (jnp.floating, jnp.integer),
    "number or bool": (jnp.floating, jnp.integer, jnp.bool_),
}


def check_array(name: str, x: Any, shape: Sequence[int | str], kind: str = "float") -> Array:
    """Raises AssertionError, naming the argument, if its shape or dtype is wrong.

    Args:
      name: name of the argument.
      x: its value: an array, or a value that can be converted to an array.
      shape: the size of each axis, or a letter if any size is allowed; "..." as the first entry
        stands for any number of leading axes.
      kind: "float", "int", "bool", "number" (float or int) or "number or bool".
    Returns:
      x as a JAX array.
    """
    x = jnp.asarray(x)
    sizes = list(shape)
    if sizes[:1] == ["..."]:
        sizes[:1] = ["any"] * (x.ndim - len(sizes) + 1)
    fits = len(sizes) == x.ndim and all(
        size == actual for size, actual in zip(sizes, x.shape, strict=True) if isinstance(size, int)
    )
    if not fits or not any(jnp.issubdtype(x.dtype, allowed) for allowed in _KINDS[kind]):
        wanted = ", ".join(str(size) for size in shape)
        raise AssertionError(f"{name} is {x.dtype}{list(x.shape)}: give {kind}[{wanted}]")
    return x


def at_least_float32(x: Array) -> Array:
    """Converts half precision to float32 and leaves wider floats unchanged."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
