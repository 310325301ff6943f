"""Losses for regression: how far numbers are from their targets.

The mean over elements is total / weight. A loss that divides the sum by something else, as those
of box deltas do, uses the total alone.
"""

import math
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxvision.core import at_least_float32, check_array, check_range
from jaxvision.losses.elements import huber, smooth_l1
from jaxvision.losses.reduction import check_mask, sum_counted


def l1_loss(predicted: Array, target: Array, mask: Array | None = None) -> tuple[Array, Array]:
    """Computes the absolute error |predicted - target|.

    Args:
      predicted: f32[...].
      target: numbers [...], of the shape of predicted.
      mask: bool over leading axes, True for the elements that count. None: all count.
    Returns:
      (total, number of elements that count), both f32[].
    """
    predicted, target = _check(predicted, target)
    mask = check_mask(mask, predicted.shape)
    return sum_counted(lambda p, t: jnp.abs(p - t), mask, predicted, target)


def l2_loss(predicted: Array, target: Array, mask: Array | None = None) -> tuple[Array, Array]:
    """Computes the squared error (predicted - target)^2, without a factor 1/2.

    Its mean is the mean squared error (MSE).

    Args:
      predicted: f32[...].
      target: numbers [...], of the shape of predicted.
      mask: bool over leading axes, True for the elements that count. None: all count.
    Returns:
      (total, number of elements that count), both f32[].
    """
    predicted, target = _check(predicted, target)
    mask = check_mask(mask, predicted.shape)
    return sum_counted(lambda p, t: (p - t) ** 2, mask, predicted, target)


def huber_loss(
    predicted: Array, target: Array, mask: Array | None = None, *, delta: float = 1.0
) -> tuple[Array, Array]:
    """Computes the Huber loss: squared error near the target, absolute error far from it.

    With d = predicted - target, it is d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2).

    Args:
      predicted: f32[...].
      target: numbers [...], of the shape of predicted.
      mask: bool over leading axes, True for the elements that count. None: all count.
      delta: the |d| at which the squared error changes to the absolute error.
    Returns:
      (total, number of elements that count), both f32[].
    Raises:
      ValueError: delta is not positive and finite.
    Source: Huber 1964 ("Robust estimation of a location parameter"), section 1.
    """
    check_range("delta", delta, more_than=0, less_than=math.inf)
    predicted, target = _check(predicted, target)
    mask = check_mask(mask, predicted.shape)
    return sum_counted(lambda p, t: huber(p - t, delta), mask, predicted, target)


def smooth_l1_loss(
    predicted: Array, target: Array, mask: Array | None = None, *, beta: float = 1.0
) -> tuple[Array, Array]:
    """Computes the smooth L1 loss, which is `huber_loss` with delta = beta, divided by beta.

    With d = predicted - target, it is d^2 / (2 beta) where |d| < beta, else |d| - beta / 2.

    Args:
      predicted: f32[...].
      target: numbers [...], of the shape of predicted.
      mask: bool over leading axes, True for the elements that count. None: all count.
      beta: the |d| at which the squared error changes to the absolute error: 1 in Fast R-CNN and
        SSD, 1/9 in later R-CNNs.
    Returns:
      (total, number of elements that count), both f32[].
    Raises:
      ValueError: beta is not positive and finite.
    Source: Girshick 2015 ("Fast R-CNN"), equation 3.
    """
    check_range("beta", beta, more_than=0, less_than=math.inf)
    predicted, target = _check(predicted, target)
    mask = check_mask(mask, predicted.shape)
    return sum_counted(lambda p, t: smooth_l1(p - t, beta), mask, predicted, target)


def _check(predicted: Any, target: Any) -> tuple[Array, Array]:
    predicted = at_least_float32(check_array("predicted", predicted, ("...",)))
    target = check_array("target", target, predicted.shape, "number")
    return predicted, target.astype(predicted.dtype)
