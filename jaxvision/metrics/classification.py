"""Metrics for classification: of one example, and on the host of a whole data set.

Those of a data set take a row for each example. A row whose label is outside 0..K-1, such as the -1
of filler, does not count.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvision.core import check_array, check_range

CALIBRATION_BINS = 15
"""Bins of confidence, as in Guo et al. 2017."""


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


def count_confusions(labels: Any, predicted: Any, *, num_classes: int) -> np.ndarray:
    """Counts the examples of each class that were given each class; on the host.

    Args:
      labels: int[N], the true classes.
      predicted: int[N], the predicted classes. One outside 0..K-1 is in no column.
      num_classes: K.
    Returns:
      i64[K, K]: row t, column p holds the number of examples of class t that were given class p.
    Raises:
      ValueError: num_classes is less than 1.
    """
    labels, predicted = _counted(labels, predicted, num_classes)
    counts = np.bincount(num_classes * labels + predicted, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes).astype(np.int64, copy=False)


def confused_pairs(labels: Any, predicted: Any, *, num_classes: int) -> np.ndarray:
    """Counts the pairs of different classes of which one was given for the other; on the host.

    They are what `count_confusions` has beside its diagonal and above 0, without the matrix, which
    many classes make large.

    Args:
      labels: int[N], the true classes.
      predicted: int[N], the predicted classes. One outside 0..K-1 is in no pair.
      num_classes: K.
    Returns:
      i64[P, 3]: (true class, predicted class, number of examples), the most frequent pair first; of
      equal ones that of the lower true class, then of the lower predicted class.
    Raises:
      ValueError: num_classes is less than 1.
    """
    labels, predicted = _counted(labels, predicted, num_classes)
    wrong = labels != predicted
    cells, counts = np.unique(num_classes * labels[wrong] + predicted[wrong], return_counts=True)
    pairs = np.stack([*np.divmod(cells, num_classes), counts], axis=1)
    return pairs[np.argsort(-counts, kind="stable")]


@dataclasses.dataclass(frozen=True, eq=False)
class ClassScores:
    """How well each of K classes is recognised.

    Attributes:
      support: i64[K], the number of examples of the class.
      precision: f64[K], the share of the examples that were given the class that are of it; 0 where
        there is none.
      recall: f64[K], the share of the examples of the class that were given it; 0 where there is
        none.
      f1: f64[K], the harmonic mean of both; 0 where both are 0.
    """

    support: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


def class_scores(labels: Any, predicted: Any, *, num_classes: int) -> ClassScores:
    """Computes precision, recall and F1 score of each class; on the host.

    With TP_c the examples of class c that were given it, P_c those that were given it and N_c those
    that are of it: precision = TP_c / P_c, recall = TP_c / N_c, F1 = 2 TP_c / (P_c + N_c).

    Args:
      labels: int[N], the true classes.
      predicted: int[N], the predicted classes. A row with one outside 0..K-1 does not count.
      num_classes: K.
    Raises:
      ValueError: num_classes is less than 1.
    """
    labels, predicted = _counted(labels, predicted, num_classes)
    of_each = (labels[labels == predicted], labels, predicted)
    right, support, given = (np.bincount(x, minlength=num_classes) for x in of_each)
    return ClassScores(
        support=support,
        precision=right / np.maximum(given, 1),
        recall=right / np.maximum(support, 1),
        f1=2 * right / np.maximum(given + support, 1),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
    """The examples by their confidence, in bins of equal width.

    Attributes:
      count: i64[bins], the number of examples.
      confidence: f64[bins], their mean confidence; 0 in an empty bin.
      accuracy: f64[bins], the share of them that are right; 0 in an empty bin.
    """

    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error (ECE), in 0..1; 0 without examples.

        ECE = sum_m count_m / n |accuracy_m - confidence_m|.
        """
        gaps = self.count * np.abs(self.accuracy - self.confidence)
        return float(gaps.sum() / max(1, self.count.sum()))


def calibration(
    labels: Any, predicted: Any, confidence: Any, *, num_classes: int, bins: int = CALIBRATION_BINS
) -> Calibration:
    """Compares the confidence of predictions with how often they are right; on the host.

    Bin m = 1..M holds the confidences in ((m - 1) / M, m / M]; the first one also holds 0. A
    confidence that is not finite counts as 0.

    Args:
      labels: int[N], the true classes.
      predicted: int[N], the predicted classes.
      confidence: f[N], the probabilities of the predicted classes, in 0..1.
      num_classes: K.
      bins: M.
    Returns:
      the bins, whose `error` is the expected calibration error.
    Raises:
      ValueError: num_classes or bins is less than 1.
    Source: Guo et al. 2017 ("On calibration of modern neural networks"), equations 2 and 3.
    """
    check_range("num_classes", num_classes, least=1)
    check_range("bins", bins, least=1)
    labels, predicted, confidence = _columns(
        labels=(labels, np.integer),
        predicted=(predicted, np.integer),
        confidence=(confidence, np.floating),
    )
    counted = _is_class(labels, num_classes)
    right = (labels == predicted)[counted].astype(np.float64)
    confidence = confidence[counted].astype(np.float64)
    confidence = np.where(np.isfinite(confidence), confidence, 0)
    bin_of = np.searchsorted(np.arange(1, bins) / bins, confidence, side="left")
    count = np.bincount(bin_of, minlength=bins)
    confidences, rights = (np.bincount(bin_of, x, minlength=bins) for x in (confidence, right))
    divisor = np.maximum(count, 1)
    return Calibration(count.astype(np.int64), confidences / divisor, rights / divisor)


def _counted(labels: Any, predicted: Any, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows, i64, whose true and predicted classes are both in 0..K-1."""
    check_range("num_classes", num_classes, least=1)
    labels, predicted = _columns(labels=(labels, np.integer), predicted=(predicted, np.integer))
    counted = _is_class(labels, num_classes) & _is_class(predicted, num_classes)
    return labels[counted].astype(np.int64), predicted[counted].astype(np.int64)


def _columns(**columns: tuple[Any, type]) -> list[np.ndarray]:
    """Checks columns of one length: name -> (values, kind of the numbers)."""
    arrays = {name: np.asarray(values) for name, (values, _) in columns.items()}
    rows = next(iter(arrays.values())).size
    for (name, array), (_, kind) in zip(arrays.items(), columns.values(), strict=True):
        if array.shape != (rows,) or not jnp.issubdtype(array.dtype, kind):
            raise AssertionError(
                f"{name} is {array.dtype}{list(array.shape)}: give {kind.__name__}[{rows}]"
            )
    return list(arrays.values())


def _is_class(labels: np.ndarray, num_classes: int) -> np.ndarray:
    return (labels >= 0) & (labels < num_classes)
