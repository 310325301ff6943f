"""Array arguments at a public edge: what is checked is static, so it costs nothing under jit."""

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
      name: of the argument.
      x: what was given: an array, or what becomes one.
      shape: for each axis its size, or a letter where any size will do; a first "..." stands for
        any number of leading axes.
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
    """x, with half precision turned into float32."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
