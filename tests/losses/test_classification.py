"""Losses for classification: by hand, against the reference, masked, sharded, at the extremes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import losses
from jaxvision.core import divide, sum_terms
from tests.reference import losses as reference

# Each as one program: operation by operation everything is compiled by itself.
cross_entropy = jax.jit(losses.cross_entropy, static_argnames="label_smoothing")
binary_cross_entropy = jax.jit(losses.binary_cross_entropy, static_argnames="positive_weight")
sigmoid_focal_loss = jax.jit(losses.sigmoid_focal_loss, static_argnames=("alpha", "gamma"))
softmax_focal_loss = jax.jit(losses.softmax_focal_loss, static_argnames=("alpha", "gamma"))

LOGITS = np.float32([0.3, -1.2, 2.5, 0.0])
SOFT = np.float32([0.1, 0.2, 0.0, 0.7])


def test_cross_entropy_of_the_example_by_hand():
    # softmax is (1, 2, 5) / 8
    total, weight = cross_entropy(np.log(np.float32([1, 2, 5])), np.int32(1))
    np.testing.assert_allclose(total, math.log(4), rtol=1e-6)
    assert weight == 1


def test_cross_entropy_smoothed_by_hand():
    # q' = 0.7 (0, 1, 0) + 0.1
    total, _ = cross_entropy(np.log(np.float32([1, 2, 5])), np.int32(1), label_smoothing=0.3)
    by_hand = 0.1 * math.log(8) + 0.8 * math.log(4) + 0.1 * math.log(8 / 5)
    np.testing.assert_allclose(total, by_hand, rtol=1e-6)


@pytest.mark.parametrize(("weight", "label_smoothing"), [(1.0, 0.0), (0.5, 0.1), (0.0, 0.9)])
@pytest.mark.parametrize("target", [np.int32(2), SOFT], ids=["hard", "soft"])
def test_cross_entropy_equals_the_reference(target, weight, label_smoothing):
    options = {"label_smoothing": label_smoothing}
    actual = cross_entropy(LOGITS, target, np.float32(weight), **options)
    expected = reference.cross_entropy(LOGITS, target, np.float32(weight), **options)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("target", [np.int32(1), SOFT], ids=["hard", "soft"])
def test_gradient_is_weight_times_softmax_minus_target(target):
    def total(logits, weight):
        return cross_entropy(logits, target, weight, label_smoothing=0.1)[0]

    expected = reference.cross_entropy_gradient(LOGITS, target, 0.5, label_smoothing=0.1)
    actual = jax.jit(jax.grad(total))(LOGITS, np.float32(0.5))
    np.testing.assert_allclose(actual, expected, atol=1e-6)


@pytest.mark.parametrize("label", range(4))
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_a_class_equals_its_one_hot_distribution(label, label_smoothing):
    hard = cross_entropy(LOGITS, np.int32(label), label_smoothing=label_smoothing)
    soft = cross_entropy(LOGITS, np.eye(4, dtype="f4")[label], label_smoothing=label_smoothing)
    assert hard == soft


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64])
def test_a_class_may_have_any_integer_type(dtype):
    assert cross_entropy(LOGITS, dtype(3)) == cross_entropy(LOGITS, np.int32(3))


def test_a_class_that_has_no_probability_may_have_a_logit_of_minus_infinity():
    logits = np.float32([math.log(3), -np.inf, 0])
    slope = jax.jit(jax.value_and_grad(losses.cross_entropy, has_aux=True))
    for target in (np.int32(0), np.float32([1, 0, 0])):
        (total, _), gradient = slope(logits, target)
        np.testing.assert_allclose(total, math.log(4 / 3), rtol=1e-6)
        np.testing.assert_allclose(gradient, [-1 / 4, 0, 1 / 4], rtol=1e-6)
    assert slope(logits, np.int32(1))[0][0] == np.inf
    slope = jax.jit(jax.value_and_grad(softmax_focal_loss, has_aux=True))
    (total, _), gradient = slope(logits, np.int32(0))
    np.testing.assert_allclose(total, (1 / 4) ** 2 * math.log(4 / 3), rtol=1e-6)
    assert np.isfinite(gradient).all()


def test_a_weight_scales_the_total_and_is_returned():
    total, _ = cross_entropy(LOGITS, np.int32(1))
    weighted, weight = cross_entropy(LOGITS, np.int32(1), 0.25)
    np.testing.assert_allclose(weighted, total / 4, rtol=1e-6)
    assert weight == 0.25
    assert cross_entropy(LOGITS, np.int32(1), 0.0) == (0, 0)


def _batch(rng, size):
    return (
        rng.normal(size=(size, 4)).astype("f4"),
        rng.integers(4, size=size),
        rng.uniform(0.1, 2, size).astype("f4"),
        np.arange(size) < size - 3,  # filler at the end
    )


def _mean_loss(logits, labels, weights, mask, axis=None):
    sums = sum_terms({"loss": jax.vmap(cross_entropy)(logits, labels, weights)}, mask)
    if axis:
        sums = jax.lax.psum(sums, axis)
    return divide(*sums["loss"])


def test_the_mean_over_shards_equals_the_mean_over_the_batch_and_the_reference():
    batch = _batch(np.random.default_rng(0), 8)
    shards = jax.tree.map(lambda x: x.reshape(4, 2, *x.shape[1:]), batch)
    sharded = jax.pmap(lambda *b: _mean_loss(*b, axis="batch"), axis_name="batch")(*shards)
    real = [pair for *pair, used in zip(*batch, strict=True) if used]
    pairs = [reference.cross_entropy(*example) for example in real]
    slow = sum(total for total, _ in pairs) / sum(weight for _, weight in pairs)
    np.testing.assert_allclose(jax.jit(_mean_loss)(*batch), slow, rtol=1e-5)
    np.testing.assert_allclose(sharded, np.full(4, slow), rtol=1e-5)


def test_filler_changes_neither_the_loss_nor_its_gradient():
    logits, labels, weights, mask = _batch(np.random.default_rng(1), 8)
    logits[~mask] = 1e4
    run = jax.jit(jax.value_and_grad(_mean_loss))
    value, gradient = jax.device_get(run(logits, labels, weights, mask))
    short = [x[mask] for x in (logits, labels, weights, mask)]
    expected, expected_gradient = run(*short)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient[mask], expected_gradient, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(gradient[~mask], 0)


@pytest.mark.parametrize(("dtype", "soft"), [(jnp.bfloat16, True), (jnp.float16, False)])
def test_half_precision_is_computed_in_float32(dtype, soft):
    logits = jnp.asarray(LOGITS, dtype)
    target = jnp.asarray([0, 0, 1, 0], dtype) if soft else jnp.int32(2)
    total, weight = cross_entropy(logits, target, jnp.asarray(0.5, dtype), label_smoothing=0.1)
    expected, _ = reference.cross_entropy(logits, np.int32(2), 0.5, label_smoothing=0.1)
    assert (total.dtype, weight.dtype) == (jnp.float32, jnp.float32)
    np.testing.assert_allclose(total, expected, rtol=1e-5)


def test_large_logits_give_the_true_loss_and_finite_gradients():
    slope = jax.jit(jax.value_and_grad(losses.cross_entropy, has_aux=True))
    for size in (80, 1e4):
        logits = np.float32([size, -size, 0])
        for label in (0, 1):
            (total, _), gradient = slope(logits, np.int32(label))
            np.testing.assert_allclose(total, 2 * size * label, rtol=1e-6, atol=1e-6)
            assert np.isfinite(gradient).all()
        _, gradient = slope(logits, np.float32([0.2, 0.3, 0.5]))
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        (np.zeros((2, 3), "f4"), np.int32(0), r"logits is float32\[2, 3\]: give float\[K\]"),
        (np.float32(0), np.int32(0), r"logits is float32\[\]"),
        (np.zeros(3, "f4"), np.zeros(4, "f4"), r"target is float32\[4\]: give float\[3\]"),
        (np.zeros(3, "f4"), np.zeros((3, 1), "f4"), r"target is float32\[3, 1\]: give float\[3\]"),
        (np.zeros(3, "f4"), np.float32(0), r"target is float32\[\]: give int\[\]"),
    ],
    ids=["batch", "scalar", "length", "rank", "float class"],
)
def test_wrong_shapes_and_types_are_named(logits, target, message):
    with pytest.raises(AssertionError, match=message):
        cross_entropy(logits, target)


LOG_3 = np.float32(math.log(3))  # sigmoid 3/4


def test_binary_cross_entropy_by_hand():
    logits, targets = np.float32([LOG_3, LOG_3, 0, np.nan]), np.float32([1, 0, 0.5, 0])
    mask = np.array([True, True, True, False])
    total, weight = binary_cross_entropy(logits, targets, mask, positive_weight=3.0)
    soft = 3 * math.log(2) / 2 + math.log(2) / 2
    np.testing.assert_allclose(total, 3 * math.log(4 / 3) + math.log(4) + soft, rtol=1e-6)
    assert weight == 3


def test_sigmoid_focal_loss_by_hand():
    logits, targets = np.float32([LOG_3, LOG_3]), np.int32([1, 0])
    total, weight = sigmoid_focal_loss(logits, targets, alpha=0.25, gamma=2.0)
    by_hand = 0.25 * (1 / 4) ** 2 * math.log(4 / 3) + 0.75 * (3 / 4) ** 2 * math.log(4)
    np.testing.assert_allclose(total, by_hand, rtol=1e-6)
    assert weight == 2


def test_softmax_focal_loss_by_hand():
    logits, labels = np.log(np.float32([[1, 2, 5], [1, 1, 2]])), np.int32([1, 2])
    total, weight = softmax_focal_loss(logits, labels, alpha=(9, 3, 0.5), gamma=2.0)
    by_hand = 3 * (6 / 8) ** 2 * math.log(4) + 0.5 * (2 / 4) ** 2 * math.log(2)
    np.testing.assert_allclose(total, by_hand, rtol=1e-6)
    assert weight == 2


def test_no_gradient_flows_to_the_targets_of_a_focal_loss():
    slope = jax.jit(jax.grad(sigmoid_focal_loss, argnums=(0, 1), has_aux=True))
    (by_logits, by_targets), _ = slope(np.float32([1, 2]), np.float32([0.3, 1]))
    assert by_logits.all()
    assert not by_targets.any()


def test_bools_are_targets_too():
    masks = np.int32([0, 1, 2, 1]) == 1
    for loss in (binary_cross_entropy, sigmoid_focal_loss):
        assert loss(LOGITS, masks) == loss(LOGITS, masks.astype("f4"))


def test_focal_losses_without_focus_are_cross_entropy():
    logits = np.random.default_rng(0).normal(size=(5, 3)).astype("f4")
    labels = np.int32([0, 2, 1, 1, 0])
    targets = np.eye(3, dtype="f4")[labels]

    @jax.jit
    def totals(logits, labels, targets):
        pairs = [
            losses.softmax_focal_loss(logits, labels, gamma=0.0),
            jax.vmap(losses.cross_entropy)(logits, labels),
            losses.sigmoid_focal_loss(logits, targets, alpha=None, gamma=0.0),
            losses.binary_cross_entropy(logits, targets),
        ]
        return [total.sum() for total, _ in pairs]

    by_class, all_classes, either, both = totals(logits, labels, targets)
    np.testing.assert_allclose(by_class, all_classes, rtol=1e-5)
    np.testing.assert_allclose(either, both, rtol=1e-5)


def test_focal_losses_have_finite_gradients_where_the_prediction_is_certain():
    logits = np.float32([[100, -100], [-100, 100], [0, 0]])

    @jax.jit
    def slopes(logits, labels, targets):
        def by_class(x, gamma):
            return losses.softmax_focal_loss(x, labels, gamma=gamma)[0]

        def either(x, gamma):
            return losses.sigmoid_focal_loss(x, targets, gamma=gamma)[0]

        gammas = (0.0, 0.3, 2.0)
        return [jax.grad(loss)(logits, gamma) for loss in (by_class, either) for gamma in gammas]

    for labels in (np.int32([0, 0, 0]), np.int32([1, 1, 1])):
        assert np.isfinite(slopes(logits, labels, np.eye(2, dtype="f4")[labels])).all()


@pytest.mark.parametrize("alpha", [(1.0,), 1.0, [[1.0]] * 3], ids=["length", "scalar", "columns"])
def test_weights_of_classes_are_one_for_each(alpha):
    with pytest.raises(AssertionError, match=r"^alpha is float"):
        losses.softmax_focal_loss(np.zeros((2, 3), "f4"), np.zeros(2, "i4"), alpha=alpha)
