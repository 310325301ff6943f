"""Metrics for classification, of one example each, as (total, weight)."""

import jax.numpy as jnp
from jax import Array

from jaxvision.core import check_array, check_range


def top_k_accuracy(logits: Array, target: Array, *, k: int = 1) -> tuple[Array, Array]:
    """Whether the target is among the k largest logits of one example.

    Equal logits rank by the lower class first. NaN ranks above all, and is never right itself.

    Args:
      logits: f32[K].
      target: a class, i32[], or a distribution, f32[K], whose largest class is meant.
      k: how many guesses count, 1 <= k <= K.
    Returns:
      (1.0 or 0.0, 1.0), f32[] both.
    Raises:
      AssertionError: an argument has another shape or dtype.
      ValueError: k is out of range.
    """
    logits = check_array("logits", logits, ("K",))
    check_range("k", k, least=1, most=logits.shape[0])
    if jnp.ndim(target) == 0:
        target = check_array("target", target, (), "int")
    else:
        target = jnp.argmax(check_array("target", target, logits.shape))
    classes = jnp.arange(logits.shape[0])
    # By comparisons, where a sort would put -0.0 below 0.0.
    wanted = jnp.where(classes == target, logits, 0).sum()
    below = (logits < wanted) | ((logits == wanted) & (classes >= target))
    exists = (classes == target).any()
    return (exists & ((~below).sum() < k)).astype(jnp.float32), jnp.float32(1)
