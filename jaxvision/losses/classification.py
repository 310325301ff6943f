"""Losses for classification, of one example each."""

import chex
import jax
import jax.numpy as jnp
from jax import Array


def cross_entropy(
    logits: Array,
    target: Array,
    weight: Array | float = 1.0,
    *,
    label_smoothing: float = 0.0,
) -> tuple[Array, Array]:
    """Softmax cross entropy of one example.

    With q the target distribution and K classes, smoothed to q' = (1 - s) q + s / K:
    total = -weight * sum_k q'_k log softmax(logits)_k. Computed in float32 at least.

    Args:
      logits: [K].
      target: a class, i32[] (0 <= target < K), or a distribution, f32[K].
      weight: f32[], how much the example counts.
      label_smoothing: s, in [0, 1).
    Returns:
      (total, weight), both f32[].
    Raises:
      AssertionError: logits are no vector, or a soft target has another length.
    Source: Szegedy et al. 2016 ("Rethinking the Inception architecture"), section 7, for smoothing.
    """
    chex.assert_rank(logits, 1)
    num_classes = logits.shape[0]
    if jnp.ndim(target) == 0:
        chex.assert_type(target, int)
        target = jax.nn.one_hot(target, num_classes)
    else:
        chex.assert_shape(target, (num_classes,))
    log_p = jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
    target = jnp.asarray(target, log_p.dtype)
    smoothed = (1 - label_smoothing) * target + label_smoothing / num_classes
    weight = jnp.asarray(weight, log_p.dtype)
    return -weight * (smoothed * log_p).sum(), weight
