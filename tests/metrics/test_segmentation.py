"""Label maps: by hand, against the references and scikit-learn, labels that are no class."""

from functools import partial

import jax
import numpy as np
import pytest
import sklearn.metrics

from jaxvision import metrics
from tests.reference import metrics as reference

# Each as one program: operation by operation everything is compiled by itself.
pixel_accuracy = jax.jit(metrics.pixel_accuracy, static_argnames="ignore_label")
confusion_matrix, mean_iou, dice_score = FOR_EACH_CLASS = [
    jax.jit(metric, static_argnames=("num_classes", "ignore_label"))
    for metric in (metrics.confusion_matrix, metrics.mean_iou, metrics.dice_score)
]
CLASSES = 5
# Two rows of three pixels; the last pixel of the target is ignored.
PREDICTED = np.int32([[0, 1, 1], [2, 0, 2]])
TARGET = np.int32([[0, 1, 2], [2, 1, 255]])


def label_maps(seed=0, shape=(9, 11)):
    """Classes, the ignored label, and labels that are no class; and a mask."""
    rng = np.random.default_rng(seed)
    labels = [*range(CLASSES)] * 3 + [255, -1, CLASSES, 2**31 - 1, -(2**31)]
    return (*rng.choice(np.int32(labels), (2, *shape)), rng.random(shape) < 0.8)


def test_the_matrix_by_hand():
    actual = confusion_matrix(PREDICTED, TARGET, num_classes=3)
    np.testing.assert_array_equal(actual, [[1, 0, 0], [1, 1, 0], [0, 1, 1]])
    assert actual.dtype == np.float32


def test_the_metrics_by_hand():
    assert pixel_accuracy(PREDICTED, TARGET) == (3, 5)
    np.testing.assert_array_equal(
        mean_iou(PREDICTED, TARGET, num_classes=4), [[1, 1, 1, 0], [2, 3, 2, 0]]
    )
    np.testing.assert_array_equal(
        dice_score(PREDICTED, TARGET, num_classes=4), [[2, 2, 2, 0], [3, 4, 3, 0]]
    )


def test_a_mask_takes_pixels_out():
    mask = np.bool_([[1, 0, 1], [0, 1, 1]])
    assert pixel_accuracy(PREDICTED, TARGET, mask) == (1, 3)
    np.testing.assert_array_equal(
        confusion_matrix(PREDICTED, TARGET, mask, num_classes=3), [[1, 0, 0], [1, 0, 0], [0, 1, 0]]
    )
    nothing = mean_iou(PREDICTED, TARGET, np.zeros_like(mask), num_classes=3)
    np.testing.assert_array_equal(nothing, np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("metric", "ignore_label"),
    [*((confusion_matrix, label) for label in (255, 2, -1)), (mean_iou, 2), (dice_score, -1)],
)
def test_any_labels_equal_the_reference(metric, ignore_label):
    options = {"num_classes": CLASSES, "ignore_label": ignore_label}
    expected = getattr(reference, metric.__name__)(*label_maps(), **options)
    np.testing.assert_array_equal(metric(*label_maps(), **options), expected)


@pytest.mark.slow
@pytest.mark.parametrize("metric", FOR_EACH_CLASS)
def test_many_label_maps_equal_the_reference(metric):
    slow = getattr(reference, metric.__name__)
    actual = jax.jit(partial(metric, num_classes=CLASSES))
    for seed in range(200):
        maps = label_maps(seed)
        np.testing.assert_array_equal(actual(*maps), slow(*maps, num_classes=CLASSES))


@pytest.mark.parametrize("ignore_label", [255, 2])
def test_accuracy_equals_the_reference(ignore_label):
    for maps in (label_maps(), label_maps()[:2]):
        expected = reference.pixel_accuracy(*maps, ignore_label=ignore_label)
        np.testing.assert_array_equal(pixel_accuracy(*maps, ignore_label=ignore_label), expected)


def test_the_matrix_equals_that_of_scikit_learn():
    predicted, target, _ = label_maps(1, (64, 64))
    actual = confusion_matrix(predicted, target, num_classes=CLASSES)
    expected = sklearn.metrics.confusion_matrix(
        target.ravel(), predicted.ravel(), labels=range(CLASSES)
    )
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("metric", FOR_EACH_CLASS)
def test_a_target_that_is_no_class_counts_nowhere(metric):
    counts = metric(np.int32([0, 1, 2]), np.int32([-1, 3, 1000]), num_classes=3)
    np.testing.assert_array_equal(counts, np.zeros_like(counts))


def test_a_predicted_label_that_is_no_class_is_wrong_for_the_class_of_the_target():
    target = np.int32([0, 0, 0, 1])
    predicted = np.int32([0, -1, 7, 1])
    assert pixel_accuracy(predicted, target) == (2, 4)
    np.testing.assert_array_equal(mean_iou(predicted, target, num_classes=2), [[1, 1], [3, 1]])
    np.testing.assert_array_equal(dice_score(predicted, target, num_classes=2), [[2, 2], [4, 2]])


def test_a_class_that_is_ignored_has_no_weight():
    target = np.int32([0, 0, 1, 1])
    predicted = np.int32([0, 1, 0, 1])
    options = {"num_classes": 2, "ignore_label": 0}
    np.testing.assert_array_equal(mean_iou(predicted, target, **options), [[0, 1], [0, 2]])
    np.testing.assert_array_equal(dice_score(predicted, target, **options), [[0, 2], [0, 3]])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint32])
def test_labels_may_have_any_integer_type(dtype):
    # An int8 cannot hold the ignored label.
    target = np.array([0, 1, 2, 2]).astype(dtype)
    predicted = np.array([0, 2, 2, 127]).astype(dtype)
    expected = [[1, 0, 1], [1, 1, 3]]
    np.testing.assert_array_equal(mean_iou(predicted, target, num_classes=3), expected)
    assert pixel_accuracy(predicted, target.astype(np.int32)) == (2, 4)


@pytest.mark.parametrize("x64", [False, True])
def test_small_types_hold_the_cells_of_many_classes(x64):
    rng = np.random.default_rng(0)
    with jax.enable_x64(x64):
        for dtype in (np.uint8, np.int8, np.uint64):
            predicted, target = rng.integers(0, 21, (2, 64)).astype(dtype)
            actual = confusion_matrix(predicted, target, num_classes=21)
            expected = reference.confusion_matrix(predicted, target, num_classes=21)
            np.testing.assert_array_equal(actual, expected)
    # An int8 of -1 is not the ignored label.
    assert pixel_accuracy(np.int8([-1, 2]), np.int8([-1, 2])) == (2, 2)


def test_a_uint8_of_255_is_ignored():
    assert pixel_accuracy(np.uint8([1, 255]), np.uint8([1, 255])) == (1, 1)


@pytest.mark.parametrize("metric", [pixel_accuracy, *FOR_EACH_CLASS])
def test_wrong_arguments_are_named(metric):
    options = {} if metric is pixel_accuracy else {"num_classes": 3}
    for arguments, message in (
        ((PREDICTED + 0.5, TARGET), r"predicted is float\d+\[2, 3\]: give int\[\.\.\.\]"),
        ((PREDICTED, TARGET[:1]), r"target is int32\[1, 3\]: give int\[2, 3\]"),
        ((PREDICTED, TARGET, TARGET), r"mask is int32\[2, 3\]: give bool\[2, 3\]"),
        ((PREDICTED, TARGET, np.bool_([1, 0])), r"mask is bool\[2\]: give bool\[2, 3\]"),
    ):
        with pytest.raises(AssertionError, match=message):
            metric(*arguments, **options)
    if metric is not pixel_accuracy:
        with pytest.raises(ValueError, match="num_classes is 0: give at least 1"):
            metric(PREDICTED, TARGET, num_classes=0)


def test_the_area_under_the_curve_by_hand_and_as_scikit_learn_has_it():
    scores = np.float32([0.0, 0.25, 0.25, 0.5, 1.0, 0.9])
    target = np.bool_([0, 0, 1, 1, 1, 0])
    mask = np.bool_([1, 1, 1, 1, 1, 0])
    histogram = jax.jit(metrics.score_histogram, static_argnames="bins")
    counts = histogram(scores, target, mask, bins=4)
    np.testing.assert_array_equal(counts, [[1, 1, 0, 0], [0, 1, 1, 1]])
    # Of six pairs five are in order, and one is equal.
    assert metrics.roc_auc(counts) == 5.5 / 6
    rng = np.random.default_rng(0)
    target = rng.random((40, 50)) < 0.2
    grid = rng.integers(0, 1024, target.shape) // 2 + 400 * target
    scores = np.float32(np.minimum(grid, 1023) / 1024)
    total = sum(np.asarray(histogram(*rows)) for rows in zip(scores, target, strict=True))
    expected = sklearn.metrics.roc_auc_score(target.ravel(), scores.ravel())
    assert metrics.roc_auc(total) == pytest.approx(expected, rel=1e-12)
    assert np.isnan(metrics.roc_auc([[1, 2], [0, 0]]))
    with pytest.raises(AssertionError, match=r"histogram is \[4\]: give \[2, bins\]"):
        metrics.roc_auc([1, 2, 3, 4])
    with pytest.raises(ValueError, match="bins is 0: give at least 1"):
        metrics.score_histogram(scores, target, bins=0)
