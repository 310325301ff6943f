"""Losses of landmark heatmaps: one map for each landmark, with high values at its position."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.core import at_least_float32, check_array
from jaxvision.losses.elements import without_infinities
from jaxvision.losses.reduction import sum_counted


def heatmap_l2_loss(heatmaps: Array, targets: Array, visible: Array) -> tuple[Array, Array]:
    """Computes the squared error of each pixel of the heatmaps of visible landmarks.

    total = sum_k sum_x (h_k(x) - t_k(x))^2. The mean is the MSE of the visible maps.

    Args:
      heatmaps: f32[H, W, K], one map for each landmark.
      targets: f32[H, W, K], usually a Gaussian around each landmark.
      visible: bool[K], False for landmarks that are absent.
    Returns:
      (total, H W times the number of visible landmarks), both f32[].
    Source: Tompson et al. 2014 ("Joint training of a convolutional network and a graphical model"),
      section 3.1.
    """
    heatmaps, targets, visible = _check("heatmaps", heatmaps, targets, visible)
    return sum_counted(lambda h, t: (h - t) ** 2, visible, heatmaps, targets)


def heatmap_cross_entropy(logits: Array, targets: Array, visible: Array) -> tuple[Array, Array]:
    """Computes the cross entropy of the position of each visible landmark, over all pixels.

    total = -sum_k sum_x q_k(x) log p_k(x), with p_k the softmax over the pixels of map k, and q_k
    the target divided by its sum.

    Args:
      logits: f32[H, W, K], one map for each landmark.
      targets: f32[H, W, K], at least 0; usually a Gaussian around the landmark, or 1 at its pixel.
      visible: bool[K], False for landmarks that are absent. A landmark whose target is all zeros
        counts as absent too.
    Returns:
      (total, number of landmarks that count), both f32[].
    Source: He et al. 2017 ("Mask R-CNN"), section 5 ("Human pose estimation").
    """
    logits, targets, visible = _check("logits", logits, targets, visible)
    sums = targets.sum(axis=(1, 2))
    visible = visible & (sums > 0)

    def loss(x: Array, t: Array, total: Array) -> Array:
        log_p = jax.nn.log_softmax(x, axis=(1, 2))
        entropy = -(t * without_infinities(log_p, t)).sum(axis=(1, 2))
        return entropy / jnp.where(total > 0, total, 1)

    return sum_counted(loss, visible, logits, targets, sums)


def _check(name: str, maps: Array, targets: Array, visible: Array) -> tuple[Array, Array, Array]:
    """Returns the maps and the targets as f32[K, H, W], and the mask."""
    maps = at_least_float32(check_array(name, maps, ("H", "W", "K")))
    targets = check_array("targets", targets, maps.shape, "number").astype(maps.dtype)
    visible = check_array("visible", visible, maps.shape[-1:], "bool")
    return jnp.moveaxis(maps, -1, 0), jnp.moveaxis(targets, -1, 0), visible
