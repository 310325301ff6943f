"""Metrics for semantic segmentation, of one example each.

A label map holds a class 0..K-1 for each pixel; the shape is any. A pixel counts unless the mask
is False or the target is `ignore_label`. Values cannot raise under jit, so of labels that are no
class:

* a target outside 0..K-1 counts nowhere, as an ignored one does;
* a predicted label outside 0..K-1 is wrong: its pixel stays in the size of the target's class.

Where `ignore_label` is itself one of the classes, that class has weight 0: with more than 255
classes choose another than the default, such as -1.

Pixels are counted as integers and returned as float32, which is exact up to 2^24 pixels.
"""

import jax.numpy as jnp
from jax import Array

from jaxvision.core import check_array, check_range


def confusion_matrix(
    predicted: Array,
    target: Array,
    mask: Array | None = None,
    *,
    num_classes: int,
    ignore_label: int = 255,
) -> Array:
    """How many pixels of each class were given each label.

    Matrices of several examples add up to the matrix of all; this is no pair (total, weight).

    Args:
      predicted: i32[...], a label for each pixel. One outside 0..K-1 is in no column.
      target: i32[...], of the same shape. One outside 0..K-1 is in no row.
      mask: bool[...], False for padding; None counts all pixels.
      num_classes: K.
      ignore_label: of targets that do not count.
    Returns:
      f32[K, K]: row t, column p has the number of pixels of class t that were labelled p.
    Raises:
      AssertionError: an argument has another shape or dtype.
      ValueError: num_classes is less than 1.
    """
    return _count(predicted, target, mask, num_classes, ignore_label)[:, :-1].astype(jnp.float32)


def pixel_accuracy(
    predicted: Array, target: Array, mask: Array | None = None, *, ignore_label: int = 255
) -> tuple[Array, Array]:
    """The share of pixels that have the right label.

    accuracy = sum_i [predicted_i = target_i] / N over the N pixels that count. As the number of
    classes is not known here, every target but `ignore_label` counts.

    Args:
      predicted: i32[...], a label for each pixel.
      target: i32[...], of the same shape.
      mask: bool[...], False for padding; None counts all pixels.
      ignore_label: of targets that do not count.
    Returns:
      (pixels that are right, pixels that count), f32[] both.
    Raises:
      AssertionError: an argument has another shape or dtype.
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
    """Intersection over union of each class, as sums for each class.

    With P_c the pixels labelled c and T_c those whose target is c: IoU_c = |P_c and T_c| /
    |P_c or T_c|. Both are added up over all examples first. The mean is over the classes with a
    union.

    Args:
      predicted: i32[...], a label for each pixel.
      target: i32[...], of the same shape.
      mask: bool[...], False for padding; None counts all pixels.
      num_classes: K.
      ignore_label: of targets that do not count.
    Returns:
      (intersection, union), in pixels, f32[K] both.
    Raises:
      AssertionError: an argument has another shape or dtype.
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
    """Dice coefficient (F1 score) of each class, as sums for each class.

    With P_c the pixels labelled c and T_c those whose target is c: Dice_c = 2 |P_c and T_c| /
    (|P_c| + |T_c|). Both are added up over all examples first.

    Args:
      predicted: i32[...], a label for each pixel.
      target: i32[...], of the same shape.
      mask: bool[...], False for padding; None counts all pixels.
      num_classes: K.
      ignore_label: of targets that do not count.
    Returns:
      (twice the intersection, size of both), in pixels, f32[K] both.
    Raises:
      AssertionError: an argument has another shape or dtype.
      ValueError: num_classes is less than 1.
    Source: Dice 1945 ("Measures of the amount of ecologic association between species").
    """
    intersection, sizes = _overlap(predicted, target, mask, num_classes, ignore_label)
    return (2 * intersection).astype(jnp.float32), sizes.astype(jnp.float32)


def _pixels(
    predicted: Array, target: Array, mask: Array | None, ignore_label: int
) -> tuple[Array, Array, Array]:
    """Both label maps in 32 bits (64 in x64 mode), which hold any `ignore_label`; what counts."""
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
    """i32[K, K + 1]: the confusion matrix, and a last column for labels that are no class."""
    check_range("num_classes", num_classes, least=1)
    predicted, target, counted = _pixels(predicted, target, mask, ignore_label)

    def is_class(labels: Array) -> Array:
        return (labels >= 0) & (labels < num_classes)

    # One scatter: on CPUs much faster than the product of two one-hot maps, in far less memory,
    # and it costs the same for any number of classes.
    column = jnp.where(is_class(predicted), predicted, num_classes)
    cells = num_classes * (num_classes + 1)
    cell = jnp.where(counted & is_class(target), target * (num_classes + 1) + column, cells)
    table = jnp.zeros(cells, jnp.int32).at[cell.ravel()].add(1, mode="drop")
    return table.reshape(num_classes, num_classes + 1)


def _overlap(
    predicted: Array, target: Array, mask: Array | None, num_classes: int, ignore_label: int
) -> tuple[Array, Array]:
    """For each class the pixels that have it in both maps, and those of one plus the other."""
    table = _count(predicted, target, mask, num_classes, ignore_label)
    sizes = table.sum(axis=1) + table[:, :-1].sum(axis=0)
    # Predicting a class that is ignored is wrong for the target's class alone.
    ignored = jnp.arange(num_classes) == ignore_label
    return jnp.diagonal(table), jnp.where(ignored, 0, sizes)
