"""Metrics for restored images, each of one example, which return (total, weight).

Integers and half precision are converted to float32 first.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvision.core import at_least_float32, check_array, check_range, divide
from jaxvision.ops import conv2d

# Wang et al. 2004, sections III-B and III-C.
_K1, _K2 = 0.01, 0.03
_SIGMA = 1.5
SSIM_WINDOW = 11
"""Side of a window in pixels. The Gaussian is cut off at 3.5 sigma."""


def psnr(
    predicted: Array, target: Array, *, data_range: float, max_db: float = 100.0
) -> tuple[Array, Array]:
    """Computes the peak signal-to-noise ratio (PSNR).

    PSNR = min(10 log10(data_range^2 / MSE), max_db), with the mean squared error (MSE) over all
    elements. It is max_db if the MSE is 0.

    Args:
      predicted: f32[...] or integers, such as [H, W, C].
      target: numbers of the same shape.
      data_range: the largest possible value minus the smallest possible value: 255 for uint8.
      max_db: the highest PSNR that is returned, so that identical images have a finite value.
    Returns:
      (decibels, 1.0), both f32[].
    Raises:
      AssertionError: the arrays have no elements.
      ValueError: data_range is not positive and finite, or max_db is not finite.
    Source: Huynh-Thu and Ghanbari 2008 ("Scope of validity of PSNR in image/video quality
      assessment").
    """
    check_range("max_db", max_db, more_than=-math.inf, less_than=math.inf)
    predicted, target = _images(predicted, target, ("...",), data_range)
    mse = (((predicted - target) / data_range) ** 2).mean()
    # Testing equality with 0 keeps NaN as NaN.
    identical = mse == 0
    decibels = jnp.minimum(-10 * jnp.log10(jnp.where(identical, 1, mse)), max_db)
    return jnp.where(identical, max_db, decibels), jnp.ones_like(decibels)


def ssim(
    predicted: Array, target: Array, windows: Array | None = None, *, data_range: float
) -> tuple[Array, Array]:
    """Computes the structural similarity (SSIM), the mean over windows and channels.

    SSIM = (2 mu_x mu_y + C1) (2 cov_xy + C2) / ((mu_x^2 + mu_y^2 + C1) (var_x + var_y + C2)) of
    each window inside the image, with C1 = (0.01 data_range)^2 and C2 = (0.03 data_range)^2. Means,
    variances and covariance (biased) are weighted by a Gaussian of sigma 1.5 over 11 x 11 pixels.

    1 - SSIM can be used as a loss: its gradients are finite everywhere.

    Args:
      predicted: f32[H, W, C] or integers, H and W at least 11.
      target: numbers of the same shape.
      windows: bool[H - 10, W - 10], True for the windows that count, by their first row and column.
        None: all count.
      data_range: the largest possible value minus the smallest possible value: 255 for uint8.
    Returns:
      (mean SSIM, in [-1, 1]; 1.0), both f32[], or (0, 0) if no window counts.
    Raises:
      AssertionError: the arrays have no channels.
      ValueError: the image is smaller than the window, or data_range is not positive and finite.
    Source: Wang et al. 2004 ("Image quality assessment: from error visibility to structural
      similarity"), equations 13 to 17.
    """
    predicted, target = _images(predicted, target, ("H", "W", "C"), data_range)
    for side, size in zip(("height", "width"), predicted.shape[:2], strict=True):
        check_range(f"the {side} of predicted and target", size, least=SSIM_WINDOW)
    inside = tuple(side - SSIM_WINDOW + 1 for side in predicted.shape[:2])
    windows = jnp.ones(inside, bool) if windows is None else windows
    windows = check_array("windows", windows, inside, "bool")
    similarity = _ssim_map((predicted + target) / data_range, (predicted - target) / data_range)
    count = windows.sum().astype(similarity.dtype)
    total = jnp.where(windows[:, :, None], similarity, 0).sum() / similarity.shape[-1]
    return divide(total, count), (count > 0).astype(similarity.dtype)


def _images(
    predicted: Array, target: Array, shape: Sequence[int | str], data_range: float
) -> tuple[Array, Array]:
    """Returns both images as floats, after checking them."""
    check_range("data_range", data_range, more_than=0, less_than=math.inf)
    predicted = check_array("predicted", predicted, shape, "number")
    if not predicted.size:
        raise AssertionError(f"predicted is {list(predicted.shape)}: give at least one element")
    target = check_array("target", target, predicted.shape, "number")
    return at_least_float32(predicted), at_least_float32(target)


@jax.jit
def _ssim_map(total: Array, difference: Array) -> Array:
    """Computes the SSIM of each window and channel from s = x + y and d = x - y, with range 1.

    4 mu_x mu_y = mu_s^2 - mu_d^2 and 2 (mu_x^2 + mu_y^2) = mu_s^2 + mu_d^2, and the same holds for
    the variances. So SSIM = (1 - 2 mu_d^2 / (mu_s^2 + mu_d^2 + 2 C1))
    (1 - 2 var_d / (var_s + var_d + 2 C2)). This form has no cancellation where the images are
    similar, and needs one map less.
    """
    maps = jnp.concatenate([total, difference], axis=-1)
    # A shift of all values does not change the variances, and small values lose fewer digits.
    shift = jax.lax.stop_gradient(maps.mean(axis=(0, 1), keepdims=True))
    maps = maps - shift
    mean, square = jnp.split(_blur(jnp.concatenate([maps, maps**2], axis=-1)), 2, axis=-1)
    mean_s, mean_d = jnp.split((mean + shift) ** 2, 2, axis=-1)
    # Rounding must not make a variance negative: its error is large if values are far out of range.
    var_s, var_d = jnp.split(jnp.maximum(square - mean**2, 0), 2, axis=-1)
    luminance = 1 - 2 * mean_d / (mean_s + mean_d + 2 * _K1**2)
    structure = 1 - 2 * var_d / (var_s + var_d + 2 * _K2**2)
    return luminance * structure


def _blur(maps: Array) -> Array:
    """[H, W, D] -> [H - 10, W - 10, D]: the Gaussian mean of each window inside the image."""
    depth = maps.shape[-1]
    weights = np.exp(-((np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2) ** 2) / (2 * _SIGMA**2))
    weights = jnp.asarray(weights / weights.sum(), maps.dtype)
    column = jnp.broadcast_to(weights[:, None, None, None], (SSIM_WINDOW, 1, 1, depth))
    # The default precision on GPUs and TPUs is too low for a difference of squares.
    with jax.default_matmul_precision("highest"):
        rows_done = conv2d(maps[None], column, groups=depth)
        return conv2d(rows_done, column.swapaxes(0, 1), groups=depth)[0]
