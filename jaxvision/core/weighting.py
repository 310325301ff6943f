"""Totals and weights of losses and metrics, and how they are divided.

Losses and metrics of one example are named terms, each a pair (total, weight). They are added up
over the batch and over the devices, and divided once, at the end. A mean of per-device means would
be wrong as soon as the weights differ from device to device. A metric may have a total and a weight
for each class, as mean IoU has: then the mean is taken over the classes that have a weight.
"""

import jax
import jax.numpy as jnp
from jax import Array

Terms = dict[str, tuple[Array, Array]]
"""Named (total, weight) pairs."""


def sum_terms(terms: Terms, mask: Array) -> Terms:
    """Adds up the terms of a batch; filler counts nothing.

    Args:
      terms: name -> (f32[B, ...], f32[B, ...]).
      mask: bool[B], False for filler.
    Returns:
      name -> (f32[...], f32[...]).
    Raises:
      AssertionError: a total or a weight does not have a row for each example, or not the shape of
        the other.
    """
    for name, (total, weight) in terms.items():
        if not jnp.shape(total) == jnp.shape(weight) or jnp.shape(total)[:1] != mask.shape:
            raise AssertionError(
                f"{name} of {len(mask)} examples has totals {jnp.shape(total)} and weights "
                f"{jnp.shape(weight)}: give both the same shape, one row an example"
            )

    def add(x: Array) -> Array:
        return jnp.where(mask.reshape(-1, *(1,) * (x.ndim - 1)), x, 0).sum(axis=0)

    return jax.tree.map(add, terms)


def divide(total: Array, weight: Array) -> Array:
    """total / weight, and 0 where there was nothing to weigh; for JAX and numpy alike.

    The denominator is 1 only where the weight is 0; a denominator of at least 1 would halve a loss
    of weight 0.5.
    """
    return total / (weight + (weight == 0))


def mean_ratio(total: Array, weight: Array) -> Array:
    """total / weight, averaged over the entries that have a weight; for JAX and numpy alike.

    Args:
      total: f32[...]: f32[] of one quantity, or f32[K] with an entry for each class.
      weight: f32[...], at least 0.
    Returns:
      f32[]; 0 where nothing has a weight.
    """
    return divide(divide(total, weight).sum(), (weight > 0).sum())
