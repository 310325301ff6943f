"""Checks of array arguments that stay on the host."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np


def check_host_array(name: str, x: Any, shape: Sequence[int | str], kind: type) -> np.ndarray:
    """Does what `jaxvision.core.check_array` does, but x stays on the host and keeps its dtype.

    Args:
      name: of the argument.
      x: what was given: an array, or what becomes one.
      shape: for each axis its size, or a letter where any size is allowed.
      kind: a dtype, or one that stands for several, as `jnp.integer`.
    Returns:
      x as a numpy array.
    Raises:
      AssertionError: x has another shape or dtype; the message names the argument.
    """
    x = np.asarray(x)
    fits = x.ndim == len(shape) and all(
        size == actual for size, actual in zip(shape, x.shape, strict=True) if isinstance(size, int)
    )
    if not fits or not jnp.issubdtype(x.dtype, kind):
        wanted = ", ".join(str(size) for size in shape)
        raise AssertionError(f"{name} is {x.dtype}{list(x.shape)}: give {kind.__name__}[{wanted}]")
    return x


def check_pixels(name: str, x: Any, shape: Sequence[int | str], kind: type) -> np.ndarray:
    """Does what `check_host_array` does, and requires at least one pixel."""
    x = check_host_array(name, x, shape, kind)
    if not x.size:
        raise AssertionError(f"{name} is {x.dtype}{list(x.shape)}: give at least one pixel")
    return x


def check_picture(name: str, x: Any) -> np.ndarray:
    """Raises AssertionError, which names the argument, if x is not a picture: u8[H, W, 3]."""
    return check_pixels(name, x, ("H", "W", 3), np.uint8)
