"""Metrics for classification, of one example each, as (total, weight)."""

import chex
import jax
import jax.numpy as jnp
from jax import Array


def top_k_accuracy(logits: Array, target: Array, *, k: int = 1) -> tuple[Array, Array]:
    """Whether the target is among the k largest logits of one example.

    Equal logits rank by the lower class first.

    Args:
      logits: [K].
      target: a class, i32[], or a distribution, f32[K], whose largest class is meant.
      k: how many guesses count, 1 <= k <= K.
    Returns:
      (1.0 or 0.0, 1.0), f32[] both.
    """
    chex.assert_rank(logits, 1)
    if jnp.ndim(target) == 1:
        chex.assert_shape(target, logits.shape)
        target = jnp.argmax(target)
    _, guesses = jax.lax.top_k(logits, k)
    return (guesses == target).any().astype(jnp.float32), jnp.float32(1)
