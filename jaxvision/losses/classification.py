"""Losses for classification: one class out of several (softmax), or binary targets (sigmoid)."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.core import at_least_float32, check_array, check_range
from jaxvision.losses.elements import (
    one_hot,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
    without_infinities,
)
from jaxvision.losses.reduction import check_mask, sum_counted, where_counted


def cross_entropy(
    logits: Array,
    target: Array,
    weight: Array | float = 1.0,
    *,
    label_smoothing: float = 0.0,
) -> tuple[Array, Array]:
    """Computes the softmax cross entropy of one example.

    The target distribution q over K classes is smoothed to q' = (1 - s) q + s / K. Then
    total = -weight * sum_k q'_k log softmax(logits)_k.

    Args:
      logits: f32[K].
      target: a class, i32[], or a distribution, f32[K]. A class outside 0..K - 1 gives NaN.
      weight: f32[], how much the example counts. If it is 0, logits and target change nothing.
      label_smoothing: s, in [0, 1).
    Returns:
      (total, weight), both f32[].
    Raises:
      ValueError: label_smoothing is out of range, or logits is empty.
    Source: Szegedy et al. 2016 ("Rethinking the Inception architecture"), section 7, for smoothing.
    """
    check_range("label_smoothing", label_smoothing, least=0, less_than=1)
    logits = at_least_float32(check_array("logits", logits, ("K",)))
    check_range("the number of logits", len(logits), least=1)
    if jnp.ndim(target) == 0:
        label = check_array("target", target, (), "int").astype(int)
        target = one_hot(label, len(logits), logits.dtype)
    else:
        target = check_array("target", target, logits.shape).astype(logits.dtype)
    weight = check_array("weight", weight, (), "number").astype(logits.dtype)
    logits, target = (where_counted(weight != 0, x) for x in (logits, target))
    smoothed = (1 - label_smoothing) * target + label_smoothing / len(logits)
    log_p = without_infinities(jax.nn.log_softmax(logits), smoothed)
    return -weight * (smoothed * log_p).sum(), weight


def binary_cross_entropy(
    logits: Array,
    targets: Array,
    mask: Array | None = None,
    *,
    positive_weight: float = 1.0,
) -> tuple[Array, Array]:
    """Computes the sigmoid (binary) cross entropy.

    Each element costs -w t log p - (1 - t) log(1 - p), with p = sigmoid(x) and a weight w for the
    positives.

    Args:
      logits: f32[...], x.
      targets: [...], t in [0, 1], of numbers or bools.
      mask: bool over leading axes, True for the elements that count. None: all count.
      positive_weight: w; more than 1 balances rare positives.
    Returns:
      (total, number of elements that count), both f32[].
    Raises:
      ValueError: positive_weight is negative.
    """
    check_range("positive_weight", positive_weight, least=0)
    logits, targets = _check_binary(logits, targets)

    def loss(x: Array, t: Array) -> Array:
        return sigmoid_cross_entropy(x, t, positive_weight)

    return sum_counted(loss, check_mask(mask, logits.shape), logits, targets)


def sigmoid_focal_loss(
    logits: Array,
    targets: Array,
    mask: Array | None = None,
    *,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
) -> tuple[Array, Array]:
    """Computes the binary focal loss: cross entropy in which well-predicted elements count less.

    Each element costs -a_t (1 - p_t)^gamma log p_t. Here p_t is the predicted probability of the
    target, and a_t is alpha for positives and 1 - alpha for negatives. A target t between 0 and 1
    interpolates, as in torchvision: the cross entropy is that with t,
    1 - p_t = p (1 - t) + (1 - p) t, and a_t = alpha t + (1 - alpha) (1 - t).

    Args:
      logits: f32[...], p = sigmoid(logits).
      targets: [...], in [0, 1], of numbers or bools. No gradient flows to them.
      mask: bool over leading axes, True for the elements that count. None: all count.
      alpha: weight of the positives, in [0, 1]; None gives all elements weight 1.
      gamma: at least 0; 0 is plain cross entropy.
    Returns:
      (total, number of elements that count), both f32[]. RetinaNet divides the total by the number
      of anchors matched to an object instead.
    Raises:
      ValueError: alpha or gamma is out of range.
    Source: Lin et al. 2017 ("Focal loss for dense object detection"), equation 5.
    """
    check_range("gamma", gamma, least=0)
    if alpha is not None:
        check_range("alpha", alpha, least=0, most=1)
    logits, targets = _check_binary(logits, targets)

    def loss(x: Array, t: Array) -> Array:
        # Computed with logarithms: a power of 1 - p_t has no finite derivative where 1 - p_t is
        # rounded to 0.
        log_miss = jnp.logaddexp(
            jax.nn.log_sigmoid(x) + jnp.log1p(-t), jax.nn.log_sigmoid(-x) + jnp.log(t)
        )
        focal = jnp.exp(gamma * log_miss) * sigmoid_cross_entropy(x, t)
        return focal if alpha is None else (alpha * t + (1 - alpha) * (1 - t)) * focal

    mask = check_mask(mask, logits.shape)
    return sum_counted(loss, mask, logits, jax.lax.stop_gradient(targets))


def softmax_focal_loss(
    logits: Array,
    labels: Array,
    mask: Array | None = None,
    *,
    alpha: Sequence[float] | None = None,
    gamma: float = 2.0,
) -> tuple[Array, Array]:
    """Computes the focal loss of one class out of several.

    Each label t costs -alpha_t (1 - p_t)^gamma log p_t, with p = softmax(logits).

    Args:
      logits: f32[..., K], K at least 2.
      labels: i32[...]. A label outside 0..K - 1 gives NaN where the mask is True.
      mask: bool over leading axes of labels, True for the labels that count. None: all count.
      alpha: a weight for each class; None gives all classes weight 1.
      gamma: at least 0; 0 is plain cross entropy.
    Returns:
      (total, number of labels that count), both f32[].
    Raises:
      ValueError: gamma or an entry of alpha is negative, or K is less than 2.
    Source: Lin et al. 2017 ("Focal loss for dense object detection"), equation 5.
    """
    check_range("gamma", gamma, least=0)
    logits = at_least_float32(check_array("logits", logits, ("...", "K")))
    num_classes = logits.shape[-1]
    check_range("the number of classes in logits", num_classes, least=2)
    labels = check_array("labels", labels, logits.shape[:-1], "int").astype(int)
    weights = jnp.ones(num_classes, logits.dtype)
    if alpha is not None:
        weights = check_class_weights("alpha", alpha, weights)

    def loss(x: Array, label: Array) -> Array:
        chosen = jax.nn.one_hot(label, num_classes, dtype=bool)
        log_rest = jax.nn.logsumexp(jnp.where(chosen, -jnp.inf, x), axis=-1)
        log_miss = log_rest - jax.nn.logsumexp(x, axis=-1)
        return weights[label] * jnp.exp(gamma * log_miss) * softmax_cross_entropy(x, label)

    return sum_counted(loss, check_mask(mask, labels.shape), logits, labels)


def check_class_weights(name: str, weights: Sequence[float], like: Array) -> Array:
    """Returns one weight for each class, as an array with the shape and dtype of `like`.

    Raises:
      AssertionError: the weights are not one number for each class.
      ValueError: a weight is negative.
    """
    checked = check_array(name, weights, like.shape, "number").astype(like.dtype)
    for weight in weights:
        check_range(name, weight, least=0)
    return checked


def _check_binary(logits: Any, targets: Any) -> tuple[Array, Array]:
    logits = at_least_float32(check_array("logits", logits, ("...",)))
    targets = check_array("targets", targets, logits.shape, "number or bool")
    return logits, targets.astype(logits.dtype)
