"""Linear probes: against scikit-learn, and where columns, classes and labels are odd."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jaxvision.core import InputError
from jaxvision.features import Features, choose_l2, fit_linear_probe, probe_map

CLASSES = 3


def blobs(seed=0, count=120):
    """Three overlapping clouds of very different scales: (f32[N, 4], i64[N])."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    centres = np.array([[0, 0, 0, 1], [1, 1, 0, 0], [0, 2, 1, 0]])
    x = centres[labels] + rng.normal(scale=0.8, size=(count, 4))
    return (x * [1, 1e3, 1e-3, 1] + [0, 0, 0, 50]).astype("f4"), labels


@pytest.fixture(scope="module")
def fitted():
    x, labels = blobs()
    return fit_linear_probe(x, labels, CLASSES, l2=0.01)


def test_equals_scikit_learn(fitted):
    x, labels = blobs()
    assert fitted.converged
    mean, scale = x.mean(axis=0, dtype="f8"), x.std(axis=0, dtype="f8")
    # Columns of float32 around 50 keep five digits of what is left.
    np.testing.assert_allclose(fitted.mean, mean, rtol=1e-5, atol=1e-6 * scale.max())
    np.testing.assert_allclose(fitted.scale, scale, rtol=1e-5)
    known = LogisticRegression(C=1 / (len(x) * 0.01), tol=1e-10, max_iter=10_000)
    known.fit((x - mean) / scale, labels)
    np.testing.assert_allclose(fitted.kernel, known.coef_.T, atol=1e-3)
    bias = known.intercept_ - known.intercept_.mean()  # a common part changes nothing
    np.testing.assert_allclose(fitted.bias - fitted.bias.mean(), bias, atol=1e-3)
    others, their_labels = blobs(1)
    expected = known.score((others - mean) / scale, their_labels)
    assert fitted.accuracy(others, their_labels) == expected
    assert 0.5 < expected < 1


def test_is_the_minimum(fitted):
    """The gradient in float64, by hand: no element is larger than the tolerance."""
    x, labels = blobs()
    x = (x.astype("f8") - np.asarray(fitted.mean)) / np.asarray(fitted.scale)
    logits = x @ np.asarray(fitted.kernel, "f8") + np.asarray(fitted.bias)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = p / p.sum(axis=1, keepdims=True) - np.eye(CLASSES)[labels]
    slopes = [x.T @ p / len(x) + 0.01 * np.asarray(fitted.kernel), p.mean(axis=0)]
    assert max(np.abs(slope).max() for slope in slopes) < 3e-6


def test_the_same_again_has_the_same_bits(fitted):
    x, labels = blobs()
    again = fit_linear_probe(x, labels, CLASSES, l2=0.01)
    jax.tree.map(np.testing.assert_array_equal, again, fitted)


def test_a_column_of_one_value_changes_nothing(fitted):
    x, labels = blobs()
    x[:, 3] = 0.1  # whose mean in float32 is another number
    probe = fit_linear_probe(x, labels, CLASSES, l2=0.01)
    assert probe.scale[3] == 1
    assert np.abs(probe.kernel[3]).max() < 1e-6
    assert np.isfinite(probe.logits(x)).all()


@pytest.mark.slow
def test_a_class_without_an_example_is_never_found(fitted):
    x, labels = blobs()
    probe = fit_linear_probe(x, labels, CLASSES + 1, l2=0.01)
    assert (probe.logits(x).argmax(axis=1) < CLASSES).all()


def test_too_few_steps_are_reported():
    x, labels = blobs()
    probe = fit_linear_probe(x, labels, CLASSES, l2=0.01, max_steps=2)
    assert (probe.steps, probe.converged) == (2, False)


@pytest.mark.slow
def test_l2_is_chosen_on_every_fifth_of_each_class():
    x, labels = blobs()
    held = np.zeros(len(labels), bool)
    seen = [0] * CLASSES
    for number, label in enumerate(labels):
        seen[label] += 1
        held[number] = seen[label] % 5 == 0
    l2, accuracy = choose_l2(x, labels, CLASSES, grid=(1e-2, 10.0, 1.0))
    for tried, found in accuracy.items():
        probe = fit_linear_probe(x[~held], labels[~held], CLASSES, l2=tried)
        assert probe.accuracy(x[held], labels[held]) == found
    best = max(accuracy.values())
    assert l2 == max(tried for tried, found in accuracy.items() if found == best)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"l2": 0}, "l2 is 0: give more than 0"),
        ({"tolerance": -1}, "tolerance is -1"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"labels": np.array([0, 3])}, "^labels is 3: give less than 3"),
        ({"labels": np.array([-1, 0])}, "^labels is -1: give at least 0"),
        ({"features": np.float32([[1], [np.nan]])}, "^features are not all finite"),
        (
            {"features": np.zeros((0, 1), "f4"), "labels": np.zeros(0, int)},
            "^features has no rows: give",
        ),
    ],
)
def test_what_cannot_be_fitted(changes, message):
    usual = {"features": np.float32([[1], [2]]), "labels": np.array([0, 1]), "l2": 1.0}
    arguments = {**usual, **changes}
    with pytest.raises(InputError, match=message):
        fit_linear_probe(arguments.pop("features"), arguments.pop("labels"), CLASSES, **arguments)


def test_what_l2_cannot_be_chosen_for():
    with pytest.raises(InputError, match="no class has 5 examples"):
        choose_l2(jnp.zeros((8, 1)), np.arange(8) // 4, 2)


def test_wrong_shapes_name_the_argument(fitted):
    with pytest.raises(AssertionError, match=r"^labels is "):
        fit_linear_probe(np.zeros((3, 2), "f4"), np.zeros(2, int), 1, l2=1)
    with pytest.raises(AssertionError, match=r"^features is "):
        fitted.logits(np.zeros((3, 2), "f4"))


def features_of(x, labels):
    return Features(
        maps={"pooled": x},
        indices=np.arange(len(x)),
        labels=labels,
        files=tuple(map(str, range(len(x)))),
        failed=(),
        class_names=("a", "b", "c"),
        origin={},
        about={},
    )


@pytest.mark.slow
def test_a_probe_of_a_map():
    train, test = features_of(*blobs()), features_of(*blobs(1))
    given = probe_map(train, test, "pooled", l2=0.01)
    x, labels = blobs()
    known = fit_linear_probe(x, labels, CLASSES, l2=0.01)
    assert (given.dimensions, given.l2, given.held_out_accuracy) == (4, 0.01, None)
    assert given.train_accuracy == known.accuracy(x, labels)
    assert given.test_accuracy == known.accuracy(*blobs(1))
    assert (given.steps, given.converged) == (known.steps, True)
    chosen = probe_map(train, test, "pooled")
    l2, accuracy = choose_l2(x, labels, CLASSES)
    assert (chosen.l2, chosen.held_out_accuracy) == (l2, accuracy)
    with pytest.raises(InputError, match=r"^test has no labels: give features of images with lab"):
        probe_map(train, test._replace(labels=None), "pooled")
