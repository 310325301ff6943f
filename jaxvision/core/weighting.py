"""Totals and weights of losses and metrics, and the functions that divide them.

Losses and metrics of one example are named terms, each a pair (total, weight). They are summed over
the batch and over the devices, and divided once, at the end. A mean of the means of all devices
would be wrong if the weights differ between devices. Where the weights add up to 0, the total is
divided by 1: a term whose weight is a count is divided by max(1, count). A metric such as mean IoU
may have a total and a weight for each class; its mean is taken over the classes that have a weight.
"""

import jax
import jax.numpy as jnp
from jax import Array

Terms = dict[str, tuple[Array, Array]]
"""Named (total, weight) pairs."""


def sum_terms(terms: Terms, mask: Array) -> Terms:
    """Sums the terms of a batch; filler images do not count.

    Args:
      terms: name -> (f32[B, ...], f32[B, ...]).
      mask: bool[B], False for filler images.
    Returns:
      name -> (f32[...], f32[...]).
    Raises:
      AssertionError: the total and the weight of a term have different shapes, or do not have one
        row for each example.
    """
    for name, (total, weight) in terms.items():
        if not jnp.shape(total) == jnp.shape(weight) or jnp.shape(total)[:1] != mask.shape:
            raise AssertionError(
                f"{name} of {len(mask)} examples has totals {jnp.shape(total)} and weights "
                f"{jnp.shape(weight)}: give both the same shape, with one row for each example"
            )

    def add(x: Array) -> Array:
        return jnp.where(mask.reshape(-1, *(1,) * (x.ndim - 1)), x, 0).sum(axis=0)

    return jax.tree.map(add, terms)


def divide(total: Array, weight: Array) -> Array:
    """Computes total / weight, and total / 1 where the weight is 0, of JAX or numpy arrays.

    The total of what does not exist is 0, and so is the result. The total of a detector's negatives
    exists without any positive, their weight. The denominator is replaced by 1 only where the
    weight is 0; max(weight, 1) would halve a loss of weight 0.5.
    """
    return total / (weight + (weight == 0))


def mean_ratio(total: Array, weight: Array) -> Array:
    """Computes the mean of total / weight over the entries with a weight, of JAX or numpy arrays.

    Args:
      total: f32[...]: f32[] for one quantity, or f32[K] with an entry for each class.
      weight: f32[...], at least 0.
    Returns:
      f32[]; 0 if no entry has a weight.
    """
    return divide(divide(total, weight).sum(), (weight > 0).sum())
