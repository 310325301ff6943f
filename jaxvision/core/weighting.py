"""Totals, weights and the one place that divides them.

Losses and metrics of one example are named terms, each a pair (total, weight). They are added up
over the batch and over the devices, and divided once, at the end. A mean of per-device means would
be wrong as soon as the weights differ from device to device.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array

Terms = dict[str, tuple[Array, Array]]
"""Named (total, weight) pairs."""


def sum_terms(terms: Terms, mask: Array) -> Terms:
    """Adds up the terms of a batch; filler counts nothing.

    Args:
      terms: name -> (f32[B], f32[B]).
      mask: bool[B], False for filler.
    Returns:
      name -> (f32[], f32[]).
    Raises:
      AssertionError: a total or a weight is not one number for each example.
    """

    def add(x: Array) -> Array:
        chex.assert_shape(x, mask.shape)
        return jnp.where(mask, x, 0).sum()

    return jax.tree.map(add, terms)


def divide(total: Array, weight: Array) -> Array:
    """total / weight, and 0 where there was nothing to weigh; for JAX and numpy alike.

    The denominator is 1 only where the weight is 0; a floor of 1 would halve a loss of weight 0.5.
    """
    return total / (weight + (weight == 0))
