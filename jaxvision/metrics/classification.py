"""Metrics for classification, each of one example, which return (total, weight)."""

import jax.numpy as jnp
from jax import Array

from jaxvision.core import check_array, check_range


def top_k_accuracy(logits: Array, target: Array, *, k: int = 1) -> tuple[Array, Array]:
    """Computes whether the target is among the k largest logits of one example.

    Of equal logits, that of the lower class ranks first. NaN ranks above all numbers, and a target
    whose logit is NaN is never right.

    Args:
      logits: f32[K].
      target: a class, i32[], or a distribution, f32[K], whose most probable class is used.
      k: how many guesses count, 1 <= k <= K.
    Returns:
      (1.0 or 0.0, 1.0), both f32[].
    Raises:
      ValueError: k is out of range.
    """
    logits = check_array("logits", logits, ("K",))
    check_range("k", k, least=1, most=logits.shape[0])
    if jnp.ndim(target) == 0:
        target = check_array("target", target, (), "int")
    else:
        target = jnp.argmax(check_array("target", target, logits.shape))
    classes = jnp.arange(logits.shape[0])
    # This uses comparisons, because a sort would put -0.0 below 0.0.
    wanted = jnp.where(classes == target, logits, 0).sum()
    below = (logits < wanted) | ((logits == wanted) & (classes >= target))
    exists = (classes == target).any()
    return (exists & ((~below).sum() < k)).astype(jnp.float32), jnp.float32(1)
