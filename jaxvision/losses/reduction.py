"""From the losses of elements to the (total, weight) of an example."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxvision.core import check_array


def check_mask(mask: Any, shape: tuple[int, ...]) -> Array:
    """A mask over leading axes of an array of some shape; all True if it is None.

    Raises:
      AssertionError: its shape is not that of the leading axes, or it is no mask.
    """
    if mask is None:
        return jnp.ones((), bool)
    return check_array("mask", mask, shape[: jnp.ndim(mask)], "bool")


def where_counted(mask: Array, x: Array, instead: float = 0) -> Array:
    """x where the mask, over leading axes of x, is True."""
    return jnp.where(mask.reshape(*mask.shape, *(1,) * (x.ndim - mask.ndim)), x, instead)


def sum_counted(loss: Callable[..., Array], mask: Array, *arrays: Array) -> tuple[Array, Array]:
    """Sums the loss of the elements that count.

    What does not count is replaced by zeros before the loss is computed and after it, so that it
    changes neither the sum nor its gradient, whatever it is.

    Args:
      loss: the arrays -> f32[*mask.shape, ...], finite where they are all 0.
      mask: bool, over leading axes of all arrays.
      *arrays: what the loss takes.
    Returns:
      (sum, number of elements that count), both f32[].
    """
    elements = loss(*(where_counted(mask, x) for x in arrays))
    counted = where_counted(mask, jnp.ones_like(elements))
    return where_counted(mask, elements).sum(), counted.sum()
