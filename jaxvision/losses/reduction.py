"""Sums the losses of elements to the (total, weight) of an example."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxvision.core import check_array


def check_mask(mask: Any, shape: tuple[int, ...]) -> Array:
    """Returns the mask over leading axes of an array of this shape, or True if it is None.

    Raises:
      AssertionError: its shape is not that of the leading axes, or its dtype is not bool.
    """
    if mask is None:
        return jnp.ones((), bool)
    return check_array("mask", mask, shape[: jnp.ndim(mask)], "bool")


def where_counted(mask: Array, x: Array, instead: float = 0) -> Array:
    """Returns x where the mask over its leading axes is True, and `instead` elsewhere."""
    return jnp.where(mask.reshape(*mask.shape, *(1,) * (x.ndim - mask.ndim)), x, instead)


def sum_counted(loss: Callable[..., Array], mask: Array, *arrays: Array) -> tuple[Array, Array]:
    """Sums the loss of the elements that count.

    Elements that do not count are replaced by zeros before the loss is computed, and so are their
    losses. They change neither the sum nor its gradient, even if they are NaN.

    Args:
      loss: the arrays -> f32[*mask.shape, ...]. It must be finite where all arrays are 0.
      mask: bool over leading axes of all arrays, True for the elements that count.
      *arrays: the arguments of the loss.
    Returns:
      (sum, number of elements that count), both f32[].
    """
    elements = loss(*(where_counted(mask, x) for x in arrays))
    counted = where_counted(mask, jnp.ones_like(elements))
    return where_counted(mask, elements).sum(), counted.sum()
