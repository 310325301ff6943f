"""Losses of single elements, not yet summed, from which the losses of an example are built.

These functions neither broadcast nor check. The caller has checked the shapes, converted half
precision to float32 and labels to int32, and replaced the elements that do not count by zeros.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def softmax_cross_entropy(logits: Array, labels: Array) -> Array:
    """f32[..., K], i32[...] -> f32[...]: -log softmax(logits)[label]; NaN outside 0..K - 1."""
    log_p = jax.nn.log_softmax(logits)
    beyond = logits.shape[-1]  # a negative index would count from the end
    index = jnp.where(labels < 0, beyond, labels)[..., None]
    return -jnp.take_along_axis(log_p, index, axis=-1, mode="fill", fill_value=jnp.nan)[..., 0]


def one_hot(labels: Array, num_classes: int, dtype: Any) -> Array:
    """i32[...] -> dtype[..., K]: 1 at the label, else 0; all NaN for labels outside 0..K - 1."""
    chosen = jax.nn.one_hot(labels, num_classes, dtype=bool)
    return jnp.where(chosen.any(axis=-1, keepdims=True), chosen, jnp.nan).astype(dtype)


def without_infinities(log_p: Array, targets: Array) -> Array:
    """f32[...], f32[...] -> f32[...]: log p, but 0 where it is -inf and the target is 0.

    This makes 0 log 0 equal 0, as in the definition of the entropy.
    """
    return jnp.where((targets == 0) & jnp.isneginf(log_p), 0, log_p)


def sigmoid_cross_entropy(logits: Array, targets: Array, positive_weight: float = 1.0) -> Array:
    """f32[...], f32[...] -> f32[...]: -w t log sigmoid(x) - (1 - t) log(1 - sigmoid(x))."""
    positive = positive_weight * targets * jax.nn.log_sigmoid(logits)
    return -positive - (1 - targets) * jax.nn.log_sigmoid(-logits)


def huber(difference: Array, delta: float) -> Array:
    """f32[...] -> f32[...]: d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2)."""
    size = jnp.abs(difference)
    square = jnp.minimum(size, delta)
    return square**2 / 2 + delta * (size - square)


def smooth_l1(difference: Array, beta: float) -> Array:
    """f32[...] -> f32[...]: d^2 / (2 beta) where |d| < beta, else |d| - beta / 2."""
    return huber(difference, beta) / beta
