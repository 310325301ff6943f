"""Mixup and CutMix: what is left of both images, what their labels and weights say of it."""

import functools

import jax
import numpy as np
import pytest
import scipy.stats

from jaxvision import augment
from jaxvision.core import ClassificationBatch, InputError
from jaxvision.losses import cross_entropy
from jaxvision.testing import TRANSFORMS
from tests.augment.test_color import uniform_distance
from tests.marks import slow_but

HEIGHT, WIDTH, CLASSES = 12, 16, 5
OPS = {
    "mixup": functools.partial(augment.ClassMixup, CLASSES, mixup=1.0),
    "cutmix": functools.partial(augment.ClassMixup, CLASSES, cutmix=1.0),
    "either": functools.partial(augment.ClassMixup, CLASSES, mixup=0.5, cutmix=0.5),
}
both_ops = pytest.mark.parametrize("name", OPS)


def example_of(labels=(3, 1), weights=(1.0, 1.0), dtype=np.uint8):
    """Its image is below 100, its partner's above."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 100, (2, HEIGHT, WIDTH, 3)).astype(dtype) + np.array(
        [0, 120], dtype
    ).reshape(2, 1, 1, 1)
    labels = np.array(labels)
    labels = labels.astype(np.float32 if labels.dtype == float else np.int32)
    both = ClassificationBatch(
        image=images, label=labels, weight=np.float32(weights), mask=np.ones(2, bool)
    )
    first, partners = (jax.tree.map(lambda x, n=n: x[n], both) for n in (0, slice(1, 2)))
    return first.replace(partners=partners)


@functools.lru_cache
def compiled(name, **options):
    return jax.jit(jax.vmap(OPS[name](**options), (0, None)))


def results_of(count, name, example, **options):
    keys = jax.random.split(jax.random.key(2), count)
    return jax.device_get(compiled(name, **options)(keys, example))


def mixed(example, kept):
    ours, theirs = np.float64(example.image), np.float64(example.partners.image[0])
    return kept * ours + (1 - kept) * theirs


@both_ops
def test_the_label_is_a_distribution_and_partners_are_gone(name):
    results = results_of(64, name, example_of())
    assert results.image.dtype == results.label.dtype == np.float32
    assert results.label.shape == (64, CLASSES)
    np.testing.assert_allclose(results.label.sum(axis=1), 1, rtol=1e-6)
    assert (results.label >= 0).all()
    assert (results.label[:, [0, 2, 4]] == 0).all()
    assert (results.weight == 1).all()
    assert results.mask.all()
    assert results.partners is None


@pytest.mark.parametrize("alpha", slow_but([0.2, 1.0, 3.0], [0.2]))
def test_mixup_blends_by_the_labels_share_which_is_a_beta_draw(alpha):
    example = example_of()
    results = results_of(300, "mixup", example, mixup_alpha=alpha)
    share = results.label[:, 3]
    np.testing.assert_allclose(results.image, mixed(example, share[:, None, None, None]), atol=1e-3)
    drawn = scipy.stats.beta(alpha, alpha).cdf(np.float64(share))
    assert uniform_distance(drawn, 0, 1) < 1.95


def kept_by(results, example):
    """bool[N, H, W]: where the example's own pixels are; all others are its partner's."""
    ours = (results.image == example.image[None]).all(axis=-1)
    theirs = (results.image == example.partners.image).all(axis=-1)
    assert (ours ^ theirs).all()
    return ours


def test_cutmix_pastes_a_box_whose_area_is_the_labels_share():
    example = example_of()
    results = results_of(300, "cutmix", example)
    kept = kept_by(results, example)
    for x in ~kept:
        rows, columns = x.any(axis=1), x.any(axis=0)
        assert (x == rows[:, None] & columns[None]).all()
        for line in (rows, columns):
            assert abs(np.diff(line.astype(int))).sum() <= 2, "in one piece"
    share = kept.mean(axis=(1, 2)).astype(np.float32)
    np.testing.assert_allclose(results.label[:, 3], share, rtol=2e-7)
    np.testing.assert_allclose(results.label[:, 1], 1 - share, atol=1e-6)


@pytest.mark.parametrize("alpha", slow_but([0.5, 1.0], [0.5]))
def test_cutmix_draws_boxes_as_the_paper(alpha):
    """Two-sample Kolmogorov-Smirnov: borders and area."""
    count = 1500
    example = example_of()
    kept = kept_by(results_of(count, "cutmix", example, cutmix_alpha=alpha), example)
    rng = np.random.default_rng(0)
    expected = np.ones((count, HEIGHT, WIDTH), bool)
    for x in expected:
        root = np.sqrt(1 - rng.beta(alpha, alpha))
        row, column = rng.integers(HEIGHT), rng.integers(WIDTH)
        half_height, half_width = int(HEIGHT * root / 2), int(WIDTH * root / 2)
        top, left = max(0, row - half_height), max(0, column - half_width)
        x[top : row + half_height, left : column + half_width] = False

    def figures(kept):
        rows, columns = (~kept).any(axis=2), (~kept).any(axis=1)
        lines = [rows.argmax(axis=1), columns.argmax(axis=1), rows.sum(axis=1), columns.sum(axis=1)]
        return [*lines, kept.mean(axis=(1, 2))]

    for ours, theirs in zip(figures(kept), figures(expected), strict=True):
        distance = scipy.stats.ks_2samp(ours, theirs, method="asymp").statistic
        assert distance * (count / 2) ** 0.5 < 1.95


def test_each_of_both_happens_with_its_probability():
    example, count = example_of(), 1000
    results = results_of(count, "either", example, mixup=0.3, cutmix=0.5, mixup_alpha=3.0)
    ours = (results.image == example.image[None]).all(axis=-1)
    theirs = (results.image == example.partners.image).all(axis=-1)
    blended = (~(ours | theirs)).all(axis=(1, 2))
    assert (blended | (ours ^ theirs).all(axis=(1, 2))).all()
    assert abs(blended.sum() - 300) < 4 * (count * 0.3 * 0.7) ** 0.5
    # A box may be empty: of sides 12 and 16, where t is within (1 / 6)^2 of 1.
    changed = ~ours.all(axis=(1, 2))
    boxes = (changed & ~blended).sum()
    assert abs(boxes - 500 * (1 - (1 / 6) ** 2)) < 4 * (count * 0.5 * 0.5) ** 0.5
    np.testing.assert_array_equal(results.label[~changed], np.eye(CLASSES)[[3] * (~changed).sum()])
    share = scipy.stats.beta(3, 3).cdf(np.float64(results.label[blended, 3]))
    assert uniform_distance(share, 0, 1) < 1.95


WEIGHTS = [(2.0, 0.5), (0.0, 1.0), (1.0, 0.0), (0.0, 0.0)]


@pytest.mark.parametrize(
    ("name", "weights"),
    slow_but(
        [(name, weights) for name in OPS for weights in WEIGHTS],
        [*(("either", weights) for weights in WEIGHTS), ("mixup", WEIGHTS[0])],
    ),
)
def test_the_loss_is_that_of_both_apart_by_their_shares(name, weights):
    example, logits = example_of(weights=weights), np.float32([0.3, -1, 2, 0.1, 1.4])
    shares = results_of(32, name, example_of()).label[:, 3]
    results = results_of(32, name, example)
    of_logits = jax.jit(functools.partial(cross_entropy, logits, label_smoothing=0.1))
    apart = [[float(x) for x in of_logits(np.int32(label))] for label in (3, 1)]
    for share, label, weight in zip(shares, results.label, results.weight, strict=True):
        total, _ = of_logits(label)
        of_both = (share * weights[0], (1 - share) * weights[1])
        np.testing.assert_allclose(weight, sum(of_both), rtol=1e-5, atol=1e-7)
        expected = sum(w * loss for w, (loss, _) in zip(of_both, apart, strict=True))
        np.testing.assert_allclose(weight * total, expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(label.sum(), 1, rtol=1e-6)


def test_labels_may_be_equal_or_distributions():
    assert (results_of(8, "either", example_of(labels=(2, 2))).label[:, 2] > 0.999999).all()
    soft = np.array([[0.5, 0.25, 0.25, 0, 0], [0, 0, 0, 0.75, 0.25]])
    results = results_of(8, "mixup", example_of(labels=soft))
    share = 2 * results.label[:, :1]
    np.testing.assert_allclose(results.label, share * soft[:1] + (1 - share) * soft[1:], atol=1e-6)


@pytest.mark.parametrize(
    ("transform", "name"),
    slow_but(
        [(x, name) for x in TRANSFORMS for name in OPS], [("vmap", "either"), ("pmap", "cutmix")]
    ),
    indirect=["transform"],
)
def test_a_key_gives_the_same_example_under_every_transform(transform, name):
    op = OPS[name]()
    example = example_of(dtype=np.float32)
    result = transform(op)(jax.random.key(7), example)
    expected = jax.jit(op)(jax.random.key(7), example)
    for x, y in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-4)


@both_ops
def test_without_a_partner_it_says_what_to_do(name):
    example = example_of().replace(partners=None)
    with pytest.raises(
        InputError,
        match="ClassMixup takes 1 of an example's partners, and there are 0: let the loader",
    ):
        OPS[name]()(jax.random.key(0), example)


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("image", np.zeros((4, 4), np.uint8), r"^image is uint8\[4, 4\]"),
        ("label", np.zeros(4, np.float32), r"^label is float32\[4\]: give float\[5\]"),
        ("label", np.float32(1), r"^label is float32\[\]: give int"),
        ("weight", np.zeros(2, np.float32), r"^weight is"),
    ],
)
def test_parts_of_another_shape_or_dtype_are_named(part, value, message):
    example = example_of()
    with pytest.raises(AssertionError, match=message):
        OPS["mixup"]()(jax.random.key(0), example.replace(**{part: value}))
    if part != "image":
        message = message.replace("^", r"^partners\.")
    else:
        value, message = value[:, :, None], r"^partners\.image is uint8\[4, 4, 1\]: .*12, 16, 3"
    partners = example.partners.replace(**{part: value[None]})
    with pytest.raises(AssertionError, match=message):
        OPS["mixup"]()(jax.random.key(0), example.replace(partners=partners))


def test_the_extent_holds_both_where_they_are_mixed():
    example = example_of()
    partners = example.partners.replace(extent=np.int32([[12, 4]]))
    example = example.replace(extent=np.int32([5, 16]), partners=partners)
    assert results_of(4, "either", example).extent.tolist() == [[12, 16]] * 4
    assert results_of(4, "mixup", example, mixup=0.0).extent.tolist() == [[5, 16]] * 4
