"""Scores of classes and calibration of a data set: against scikit-learn and slow references."""

import warnings

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from jaxvision.metrics import (
    calibration,
    class_scores,
    confused_pairs,
    count_confusions,
)
from tests.reference import metrics as reference


def predictions(count, classes, seed=0):
    """Labels, predictions that are often right, and confidences, some on the edges of bins."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    predicted = np.where(rng.random(count) < 0.6, labels, rng.integers(0, classes, count))
    edges = rng.integers(0, 16, count) / 15
    confidence = np.where(rng.random(count) < 0.3, edges, rng.random(count))
    return labels, predicted, confidence


@pytest.mark.parametrize(("count", "classes"), [(200, 7), (3, 9), (50, 1)])
def test_the_scores_are_those_of_scikit_learn(count, classes):
    labels, predicted, _ = predictions(count, classes)
    confusions = count_confusions(labels, predicted, num_classes=classes)
    every = list(range(classes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes without examples
        expected = confusion_matrix(labels, predicted, labels=every)
        scores = precision_recall_fscore_support(labels, predicted, labels=every, zero_division=0)
    np.testing.assert_array_equal(confusions, expected)
    padded = np.concatenate([labels, [-1, 0]]), np.concatenate([predicted, [0, classes]])
    for columns in ((labels, predicted), padded):
        found = class_scores(*columns, num_classes=classes)
        for name, column in zip(("precision", "recall", "f1", "support"), scores, strict=True):
            np.testing.assert_allclose(getattr(found, name), column, rtol=1e-12)
    pairs = confused_pairs(*padded, num_classes=classes)
    truth, given = np.nonzero(expected * ~np.eye(classes, dtype=bool))
    assert sorted(pairs.tolist()) == np.stack([truth, given, expected[truth, given]], 1).tolist()
    assert (np.diff(pairs[:, 2]) <= 0).all()


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_the_calibration_is_that_of_the_paper(bins):
    labels, predicted, confidence = predictions(300, 5, seed=bins)
    found = calibration(labels, predicted, confidence, num_classes=5, bins=bins)
    right = labels == predicted
    np.testing.assert_allclose(
        found.error, reference.expected_calibration_error(confidence, right, bins), rtol=1e-12
    )
    assert found.count.sum() == 300


def test_an_example_by_hand():
    labels, predicted = np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])
    confidence = np.float32([0.9, 0.8, 0.7, 0.5])
    found = calibration(labels, predicted, confidence, num_classes=2, bins=2)
    np.testing.assert_array_equal(found.count, [1, 3])
    np.testing.assert_allclose(found.accuracy, [1, 2 / 3])
    np.testing.assert_allclose(found.error, 0.25 * 0.5 + 0.75 * (0.8 - 2 / 3), rtol=1e-6)


def test_filler_and_labels_that_are_no_class_change_nothing():
    labels, predicted, confidence = predictions(20, 4)
    padded = np.concatenate([labels, [-1, 4, -1]]), np.concatenate([predicted, [0, 1, 9]])
    wide = np.concatenate([confidence, [1, np.nan, 0]])
    expected = count_confusions(labels, predicted, num_classes=4)
    np.testing.assert_array_equal(count_confusions(*padded, num_classes=4), expected)
    ours, others = (
        calibration(*columns, num_classes=4)
        for columns in ((labels, predicted, confidence), (*padded, wide))
    )
    for name in ("count", "confidence", "accuracy", "error"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(others, name))


def test_nothing_at_all_and_a_broken_network_give_finite_numbers():
    none = np.zeros(0, np.int32)
    scores = class_scores(none, none, num_classes=3)
    assert all(np.isfinite(column).all() for column in vars(scores).values())
    for labels, confidence in ((none, np.zeros(0)), (np.array([1]), np.array([np.nan]))):
        found = calibration(labels, labels, confidence, num_classes=3)
        assert all(np.isfinite(column).all() for column in vars(found).values())
        assert found.error == len(labels)


def test_wrong_arguments_are_named():
    labels = np.zeros(3, int)
    with pytest.raises(AssertionError, match=r"^predicted is int64\[2\]: give integer\[3\]"):
        count_confusions(labels, labels[:2], num_classes=2)
    with pytest.raises(AssertionError, match=r"^confidence is int64\[3\]: give floating\[3\]"):
        calibration(labels, labels, labels, num_classes=2)
    with pytest.raises(AssertionError, match=r"^predicted is int64\[2\]: give integer\[3\]"):
        class_scores(labels, labels[:2], num_classes=2)
    with pytest.raises(ValueError, match="num_classes is 0"):
        count_confusions(labels, labels, num_classes=0)
    with pytest.raises(ValueError, match="bins is 0"):
        calibration(labels, labels, np.zeros(3), num_classes=2, bins=0)
