"""Metrics for semantic segmentation, each of one example.

A label map holds a class 0..K-1 for each pixel; it may have any shape. A pixel counts unless its
mask is False or its target is `ignore_label`. Values cannot be checked under jit, so labels outside
0..K-1 are handled as follows:

* a target outside 0..K-1 does not count, like an ignored one;
* a predicted label outside 0..K-1 is wrong: its pixel still counts in the size of the target class.

If `ignore_label` is itself one of the classes, that class has weight 0. With more than 255 classes,
choose another value than the default, such as -1.

Pixels are counted as integers and returned as float32, which is exact up to 2^24 pixels.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvision.core import at_least_float32, check_array, check_range


def confusion_matrix(
    predicted: Array,
    target: Array,
    mask: Array | None = None,
    *,
    num_classes: int,
    ignore_label: int = 255,
) -> Array:
    """Counts the pixels of each class that were given each label.

    The sum of the matrices of several examples is the matrix of all of them. The result is not a
    pair (total, weight).

    Args:
      predicted: i32[...], a label for each pixel. A label outside 0..K-1 is in no column.
      target: i32[...], of the same shape. A label outside 0..K-1 is in no row.
      mask: bool[...], False for padding. None: all pixels count.
      num_classes: K.
      ignore_label: target of pixels that do not count.
    Returns:
      f32[K, K]: row t, column p holds the number of pixels of class t that were labelled p.
    Raises:
      ValueError: num_classes is less than 1.
    """
    return _count(predicted, target, mask, num_classes, ignore_label)[:, :-1].astype(jnp.float32)


def pixel_accuracy(
    predicted: Array, target: Array, mask: Array | None = None, *, ignore_label: int = 255
) -> tuple[Array, Array]:
    """Computes the fraction of pixels that have the right label.

    accuracy = sum_i [predicted_i = target_i] / N over the N pixels that count. The number of
    classes is not known here, so every target except `ignore_label` counts.

    Args:
      predicted: i32[...], a label for each pixel.
      target: i32[...], of the same shape.
      mask: bool[...], False for padding. None: all pixels count.
      ignore_label: target of pixels that do not count.
    Returns:
      (number of pixels that are right, number of pixels that count), both f32[].
    Source: Long et al. 2015 ("Fully convolutional networks"), section 5.
    """
    predicted, target, counted = _pixels(predicted, target, mask, ignore_label)
    correct = counted & (predicted == target)
    return correct.sum().astype(jnp.float32), counted.sum().astype(jnp.float32)


def mean_iou(
    predicted: Array,
    target: Array,
    mask: Array | None = None,
    *,
    num_classes: int,
    ignore_label: int = 255,
) -> tuple[Array, Array]:
    """Computes the sums for the intersection over union (IoU) of each class.

    IoU_c = |P_c and T_c| / |P_c or T_c|, with P_c the pixels labelled c and T_c those whose target
    is c. Intersection and union are summed over all examples first. The mean IoU is taken over the
    classes whose union is not empty.

    Args:
      predicted: i32[...], a label for each pixel.
      target: i32[...], of the same shape.
      mask: bool[...], False for padding. None: all pixels count.
      num_classes: K.
      ignore_label: target of pixels that do not count.
    Returns:
      (intersection, union), in pixels, both f32[K].
    Raises:
      ValueError: num_classes is less than 1.
    Source: Everingham et al. 2015 ("The PASCAL visual object classes challenge: a
      retrospective"), section 2; Long et al. 2015 ("Fully convolutional networks"), section 5.
    """
    intersection, sizes = _overlap(predicted, target, mask, num_classes, ignore_label)
    return intersection.astype(jnp.float32), (sizes - intersection).astype(jnp.float32)


def dice_score(
    predicted: Array,
    target: Array,
    mask: Array | None = None,
    *,
    num_classes: int,
    ignore_label: int = 255,
) -> tuple[Array, Array]:
    """Computes the sums for the Dice coefficient (F1 score) of each class.

    Dice_c = 2 |P_c and T_c| / (|P_c| + |T_c|), with P_c the pixels labelled c and T_c those whose
    target is c. Numerator and denominator are summed over all examples first.

    Args:
      predicted: i32[...], a label for each pixel.
      target: i32[...], of the same shape.
      mask: bool[...], False for padding. None: all pixels count.
      num_classes: K.
      ignore_label: target of pixels that do not count.
    Returns:
      (2 |P_c and T_c|, |P_c| + |T_c|), in pixels, both f32[K].
    Raises:
      ValueError: num_classes is less than 1.
    Source: Dice 1945 ("Measures of the amount of ecologic association between species").
    """
    intersection, sizes = _overlap(predicted, target, mask, num_classes, ignore_label)
    return (2 * intersection).astype(jnp.float32), sizes.astype(jnp.float32)


def score_histogram(
    scores: Array, target: Array, mask: Array | None = None, *, bins: int = 1024
) -> Array:
    """Counts the pixels with and without a class by the score that each was given.

    Bin b has the scores from b / bins on and below (b + 1) / bins; the last one also has 1. The sum
    of the histograms of several examples is that of all of them; see `roc_auc`.

    Args:
      scores: f32[...], of the class, such as probabilities; those outside 0..1 are clipped.
      target: bool[...], of the same shape: whether a pixel has the class.
      mask: bool[...], False for padding and pixels that do not count. None: all count.
      bins: how many.
    Returns:
      f32[2, bins]: row 0 counts the pixels that do not have the class, row 1 those that do.
    Raises:
      ValueError: bins is less than 1.
    """
    check_range("bins", bins, least=1)
    scores = at_least_float32(check_array("scores", scores, ("...",), "float"))
    target = check_array("target", target, scores.shape, "bool")
    place = jnp.clip(jnp.floor(jnp.clip(scores, 0, 1) * bins), 0, bins - 1).astype(jnp.int32)
    cell = target * bins + place
    if mask is not None:
        cell = jnp.where(check_array("mask", mask, scores.shape, "bool"), cell, 2 * bins)
    counts = jnp.zeros(2 * bins, jnp.int32).at[cell.ravel()].add(1, mode="drop")
    return counts.reshape(2, bins).astype(jnp.float32)


def roc_auc(histogram: np.ndarray) -> float:
    """Computes the area under the receiver operating characteristic (ROC) curve, on the host.

    It is the probability that a random pixel with the class has a higher score than a random one
    without it; scores of the same bin count as equal, that is, by one half. So it is exact for
    scores that are multiples of 1 / bins. Otherwise it is wrong by at most one half of the share of
    pairs that lie in one bin.

    Args:
      histogram: number[2, bins], of `score_histogram`, summed over all examples.
    Returns:
      in 0..1; NaN if one of the two rows is empty.
    Raises:
      AssertionError: the histogram has another shape.
    Source: Hanley and McNeil 1982 ("The meaning and use of the area under a receiver operating
      characteristic (ROC) curve").
    """
    histogram = np.asarray(histogram, np.float64)
    if histogram.ndim != 2 or len(histogram) != 2:
        raise AssertionError(f"histogram is {list(histogram.shape)}: give [2, bins]")
    without, having = histogram
    pairs = without.sum() * having.sum()
    below = np.cumsum(without) - without / 2
    return float((having * below).sum() / pairs) if pairs else float("nan")


def _pixels(
    predicted: Array, target: Array, mask: Array | None, ignore_label: int
) -> tuple[Array, Array, Array]:
    """Returns both label maps and which pixels count.

    The labels have 32 bits (64 in x64 mode), which hold any `ignore_label`.
    """
    predicted = check_array("predicted", predicted, ("...",), "int")
    target = check_array("target", target, predicted.shape, "int")
    predicted, target = predicted.astype(int), target.astype(int)
    counted = target != ignore_label
    if mask is not None:
        counted &= check_array("mask", mask, predicted.shape, "bool")
    return predicted, target, counted


def _count(
    predicted: Array, target: Array, mask: Array | None, num_classes: int, ignore_label: int
) -> Array:
    """Returns i32[K, K + 1]: the confusion matrix and a column for labels outside 0..K-1."""
    check_range("num_classes", num_classes, least=1)
    predicted, target, counted = _pixels(predicted, target, mask, ignore_label)

    def is_class(labels: Array) -> Array:
        return (labels >= 0) & (labels < num_classes)

    # On CPUs one scatter is much faster than the product of two one-hot maps and needs far less
    # memory. Its cost does not depend on the number of classes.
    column = jnp.where(is_class(predicted), predicted, num_classes)
    cells = num_classes * (num_classes + 1)
    cell = jnp.where(counted & is_class(target), target * (num_classes + 1) + column, cells)
    table = jnp.zeros(cells, jnp.int32).at[cell.ravel()].add(1, mode="drop")
    return table.reshape(num_classes, num_classes + 1)


def _overlap(
    predicted: Array, target: Array, mask: Array | None, num_classes: int, ignore_label: int
) -> tuple[Array, Array]:
    """Returns |P_c and T_c| and |P_c| + |T_c| for each class, i32[K] each."""
    table = _count(predicted, target, mask, num_classes, ignore_label)
    sizes = table.sum(axis=1) + table[:, :-1].sum(axis=0)
    # Predicting the ignored class is an error of the target's class only.
    ignored = jnp.arange(num_classes) == ignore_label
    return jnp.diagonal(table), jnp.where(ignored, 0, sizes)
