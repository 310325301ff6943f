"""Losses for segmentation: cross entropy of pixels, and overlap of regions."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from jaxvision.core import at_least_float32, check_array, check_range
from jaxvision.losses.classification import binary_cross_entropy, check_class_weights
from jaxvision.losses.elements import softmax_cross_entropy
from jaxvision.losses.reduction import check_mask, sum_counted, where_counted


def pixel_cross_entropy(
    logits: Array,
    labels: Array,
    mask: Array | None = None,
    *,
    class_weights: Sequence[float] | None = None,
    ignore_label: int = 255,
) -> tuple[Array, Array]:
    """Computes the softmax cross entropy of each pixel, weighted by its class.

    total = -sum_i w[y_i] log softmax(logits_i)[y_i], weight = sum_i w[y_i]. Their quotient equals
    torch's CrossEntropyLoss(weight, ignore_index).

    Args:
      logits: f32[..., K], usually [H, W, K].
      labels: i32[...], a class or `ignore_label`. Any other value gives NaN.
      mask: bool over leading axes of labels, True for the pixels that count. None: all count.
      class_weights: K weights, one for each class; None gives all classes weight 1.
      ignore_label: label of pixels that do not count.
    Returns:
      (total, weight), both f32[].
    Raises:
      ValueError: a weight is negative.
    Source: Long et al. 2015 ("Fully convolutional networks"), section 3; Ronneberger et al. 2015
      ("U-Net"), equation 1, for weights.
    """
    logits = at_least_float32(check_array("logits", logits, ("...", "K")))
    labels, counted = _check_labels(labels, mask, logits.shape[:-1], ignore_label)
    weights = jnp.ones(logits.shape[-1], logits.dtype)
    if class_weights is not None:
        weights = check_class_weights("class_weights", class_weights, weights)

    def loss(x: Array, label: Array) -> Array:
        return weights[label] * softmax_cross_entropy(x, label)

    total, _ = sum_counted(loss, counted, logits, labels)
    weight, _ = sum_counted(lambda label: weights[label], counted, labels)
    return total, weight


def pixel_binary_cross_entropy(
    logits: Array,
    labels: Array,
    mask: Array | None = None,
    *,
    positive_weight: float = 1.0,
    ignore_label: int = 255,
) -> tuple[Array, Array]:
    """Computes the sigmoid cross entropy of each pixel, for one class against the background.

    Args:
      logits: f32[...], usually [H, W].
      labels: i32[...], 0 (background), 1 or `ignore_label`. Any other value gives NaN.
      mask: bool over leading axes, True for the elements that count. None: all count.
      positive_weight: weight of pixels with label 1; more than 1 balances a rare class.
      ignore_label: label of pixels that do not count.
    Returns:
      (total, number of pixels that count), both f32[].
    Raises:
      ValueError: positive_weight is negative.
    """
    logits = check_array("logits", logits, ("...",))
    labels, counted = _check_labels(labels, mask, logits.shape, ignore_label)
    targets = jnp.where((labels == 0) | (labels == 1), labels, jnp.nan)
    return binary_cross_entropy(logits, targets, counted, positive_weight=positive_weight)


def _check_labels(
    labels: Array, mask: Array | None, shape: tuple[int, ...], ignore_label: int
) -> tuple[Array, Array]:
    """Returns the labels, in a type that holds any `ignore_label`, and which of them count."""
    labels = check_array("labels", labels, shape, "int").astype(int)
    return labels, where_counted(check_mask(mask, shape), labels != ignore_label, False)


def dice_loss(
    probabilities: Array, targets: Array, mask: Array | None = None, *, smooth: float = 1.0
) -> tuple[Array, Array]:
    """Computes 1 - the Dice coefficient of each class.

    A class with probabilities p and targets g over the pixels costs
    1 - (2 sum p g + s) / (sum p + sum g + s), or 0 if that fraction is 0 / 0.

    Args:
      probabilities: f32[..., K], the sigmoid or the softmax of logits.
      targets: [..., K], in [0, 1], of numbers or bools; `jax.nn.one_hot(labels, K)`, with
        `labels != 255` as the mask.
      mask: bool over leading axes, True for the elements that count. None: all count.
      smooth: s. If it is above 0, a class that is absent costs little where little of it is
        predicted.
    Returns:
      (sum over the classes, K), both f32[]; (0, 0) where nothing counts.
    Raises:
      ValueError: smooth is negative.
    Source: Sudre et al. 2017 ("Generalised Dice overlap"), section 2; Milletari et al. 2016
      ("V-Net"), section 3, has squares in the denominator.
    """
    check_range("smooth", smooth, least=0)
    # s is halved, because numerator and denominator are half of those in the docstring.
    return _overlap_loss(probabilities, targets, mask, alpha=0.5, beta=0.5, smooth=smooth / 2)


def tversky_loss(
    probabilities: Array,
    targets: Array,
    mask: Array | None = None,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    smooth: float = 1.0,
) -> tuple[Array, Array]:
    """Computes 1 - the Tversky index of each class, which weighs the two kinds of error separately.

    A class with probabilities p and targets g over the pixels costs
    1 - (sum p g + s) / (sum p g + alpha sum p (1 - g) + beta sum (1 - p) g + s), or 0 if that
    fraction is 0 / 0. With alpha = beta = 1/2 this is the Dice loss with twice the s.

    Args:
      probabilities: f32[..., K], the sigmoid or the softmax of logits.
      targets: [..., K], in [0, 1], of numbers or bools; `jax.nn.one_hot(labels, K)`, with
        `labels != 255` as the mask.
      mask: bool over leading axes, True for the elements that count. None: all count.
      alpha: the cost of a false positive.
      beta: the cost of a false negative. More than alpha finds more of the small objects.
      smooth: s.
    Returns:
      (sum over the classes, K), both f32[]; (0, 0) where nothing counts.
    Raises:
      ValueError: alpha, beta or smooth is negative.
    Source: Salehi et al. 2017 ("Tversky loss function"), equations 3 and 4.
    """
    check_range("alpha", alpha, least=0)
    check_range("beta", beta, least=0)
    check_range("smooth", smooth, least=0)
    return _overlap_loss(probabilities, targets, mask, alpha=alpha, beta=beta, smooth=smooth)


def _overlap_loss(
    probabilities: Array,
    targets: Array,
    mask: Array | None,
    *,
    alpha: float,
    beta: float,
    smooth: float,
) -> tuple[Array, Array]:
    p = at_least_float32(check_array("probabilities", probabilities, ("...", "K")))
    g = check_array("targets", targets, p.shape, "number or bool").astype(p.dtype)
    mask = check_mask(mask, p.shape[:-1])
    counted = where_counted(mask, jnp.ones(p.shape[:-1], bool), False)
    p, g = where_counted(mask, p), where_counted(mask, g)
    pixels = tuple(range(p.ndim - 1))
    both, extra, missed = (x.sum(axis=pixels) for x in (p * g, p * (1 - g), (1 - p) * g))
    whole = both + alpha * extra + beta * missed + smooth
    index = jnp.where(whole > 0, (both + smooth) / jnp.where(whole > 0, whole, 1), 1)
    return (1 - index).sum(), jnp.where(counted.any(), p.shape[-1], 0).astype(p.dtype)
