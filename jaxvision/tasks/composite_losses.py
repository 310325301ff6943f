"""Losses of tasks that are put together from the library's losses."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.core import IGNORED, Terms, check_array, check_range
from jaxvision.losses import (
    dice_loss,
    heatmap_cross_entropy,
    pixel_binary_cross_entropy,
    pixel_cross_entropy,
    sigmoid_focal_loss,
    softmax_focal_loss,
)
from jaxvision.ops import gaussian_heatmaps


def segmentation_loss(
    logits: Array,
    labels: Array,
    *,
    cross_entropy: float = 1.0,
    focal: float = 0.0,
    dice: float = 0.0,
    class_weights: tuple[float, ...] | None = None,
    gamma: float = 2.0,
    smooth: float = 1.0,
) -> Terms:
    """Adds softmax cross entropy and focal loss of each pixel and Dice loss of the classes.

    Args:
      logits: f32[H, W, K].
      labels: int[H, W], a class or 255.
      cross_entropy: factor of the cross entropy; 0 leaves it out.
      focal: likewise of the focal loss.
      dice: likewise of the Dice loss.
      class_weights: of the cross entropy, see `pixel_cross_entropy`; and of the focal loss.
      gamma: see `softmax_focal_loss`.
      smooth: see `dice_loss`.
    Returns:
      {"cross_entropy", "focal_loss", "dice_loss"}, as far as they have a factor: (total, weight),
      f32[].
    Raises:
      ValueError: an option is out of range, or all factors are 0.
    """
    counted = labels != IGNORED
    classes = jnp.where(counted, labels, 0)
    targets = jax.nn.one_hot(classes, logits.shape[-1])
    weighted = {"class_weights": class_weights, "ignore_label": IGNORED}
    return _with_factors(
        cross_entropy=(cross_entropy, lambda: pixel_cross_entropy(logits, labels, **weighted)),
        focal_loss=(
            focal,
            lambda: softmax_focal_loss(logits, classes, counted, alpha=class_weights, gamma=gamma),
        ),
        dice_loss=(
            dice,
            lambda: dice_loss(jax.nn.softmax(logits), targets, counted, smooth=smooth),
        ),
    )


def binary_segmentation_loss(
    logits: Array,
    labels: Array,
    *,
    cross_entropy: float = 1.0,
    focal: float = 0.0,
    dice: float = 0.0,
    positive_weight: float = 1.0,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    smooth: float = 1.0,
) -> Terms:
    """`segmentation_loss` for one class, without a channel for the background.

    Args:
      logits: f32[H, W, 1].
      labels: int[H, W], 0, 1 or 255.
      cross_entropy: factor of the sigmoid cross entropy; 0 leaves it out.
      focal: likewise of the focal loss.
      dice: likewise of the Dice loss.
      positive_weight: see `pixel_binary_cross_entropy`.
      alpha: see `sigmoid_focal_loss`.
      gamma: likewise.
      smooth: see `dice_loss`.
    Returns:
      {"cross_entropy", "focal_loss", "dice_loss"}, as far as they have a factor: (total, weight),
      f32[].
    Raises:
      AssertionError: the logits have another shape or dtype.
      ValueError: an option is out of range, or all factors are 0.
    """
    logits = check_array("logits", logits, ("H", "W", 1))
    counted, targets = labels != IGNORED, labels == 1
    weighted = {"positive_weight": positive_weight, "ignore_label": IGNORED}
    pixels = logits[..., 0]
    probabilities = jax.nn.sigmoid(logits)
    return _with_factors(
        cross_entropy=(
            cross_entropy,
            lambda: pixel_binary_cross_entropy(pixels, labels, **weighted),
        ),
        focal_loss=(
            focal,
            lambda: sigmoid_focal_loss(pixels, targets, counted, alpha=alpha, gamma=gamma),
        ),
        dice_loss=(
            dice,
            lambda: dice_loss(probabilities, targets[..., None], counted, smooth=smooth),
        ),
    )


def _with_factors(**parts: tuple[float, Callable[[], tuple[Array, Array]]]) -> Terms:
    """The terms that have a factor, times it."""
    for name, (factor, _) in parts.items():
        check_range(f"the factor of {name}", factor, least=0)
    factors = [factor for factor, _ in parts.values()]
    check_range("the sum of the factors", sum(factors), more_than=0)
    terms = {}
    for name, (factor, loss) in parts.items():
        if factor:
            total, weight = loss()
            terms[name] = factor * total, weight
    return terms


def gaussian_loss(
    maps: Array,
    points: Array,
    visible: Array,
    *,
    loss: Callable[[Array, Array, Array], tuple[Array, Array]] = heatmap_cross_entropy,
    sigma: float = 1.0,
) -> tuple[Array, Array]:
    """Compares the maps of landmarks with a Gaussian around each point.

    Args:
      maps: f32[h, w, K].
      points: f32[K, 2], xy, pixels of the maps.
      visible: bool[K].
      loss: (maps, targets f32[h, w, K], visible) -> (total, weight).
      sigma: standard deviation of the Gaussians, pixels of the maps, more than 0.
    Returns:
      (total, weight), both f32[].
    """
    return loss(maps, gaussian_heatmaps(points, size=maps.shape[:2], sigma=sigma), visible)
