"""Mixup and CutMix: what is left of both images, what their labels and weights say of it."""

import functools

import jax
import numpy as np
import pytest
import scipy.stats

from jaxvision import augment
from jaxvision.core import ClassificationBatch, InputError
from jaxvision.losses import cross_entropy
from tests.augment.test_color import uniform_distance
from tests.marks import long_but

HEIGHT, WIDTH, CLASSES = 12, 16, 5
COUNT = 3000
# Nearly all tests share one program, as the draws of beta take long to compile.
MIXUP, CUTMIX, MIXUP_ALPHA, CUTMIX_ALPHA = 0.3, 0.5, 3.0, 0.5
EITHER = augment.ClassMixup(CLASSES, MIXUP, CUTMIX, MIXUP_ALPHA, CUTMIX_ALPHA)


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


SOFT = np.array([[0.5, 0.25, 0.25, 0, 0], [0, 0, 0, 0.75, 0.25]])


def many_keys():
    return jax.random.split(jax.random.key(2), COUNT)


@functools.lru_cache
def compiled(op):
    """(key, example) -> results for it as it is, with soft labels and with extents."""

    def run(key, example):
        partners = example.partners
        soft = example.replace(
            label=np.float32(SOFT[0]), partners=partners.replace(label=np.float32(SOFT[1:]))
        )
        extents = np.int32([5, 16]), np.int32([[12, 4]])
        with_extents = example.replace(
            extent=extents[0], partners=partners.replace(extent=extents[1])
        )
        return {"hard": op(key, example), "soft": op(key, soft), "extents": op(key, with_extents)}

    return jax.jit(jax.vmap(run, (0, None)))


@functools.lru_cache
def results_with(op, **changes):
    return jax.device_get(compiled(op)(many_keys(), example_of(**changes)))


def results_of(op=EITHER, **changes):
    return results_with(op, **changes)["hard"]


def some(results, which):
    return jax.tree.map(lambda x: x[which], results)


def kinds_of(results, example):
    """Two masks: which are blended, and which have a box of the partner's, that is not empty."""
    ours = (results.image == example.image[None]).all(axis=-1)
    theirs = (results.image == example.partners.image).all(axis=-1)
    blended = (~(ours | theirs)).all(axis=(1, 2))
    assert (blended | (ours ^ theirs).all(axis=(1, 2))).all()
    return blended, ~blended & ~ours.all(axis=(1, 2))


def mixed(example, kept):
    ours, theirs = np.float64(example.image), np.float64(example.partners.image[0])
    return kept * ours + (1 - kept) * theirs


@pytest.mark.slow
def test_the_label_is_a_distribution_and_partners_are_gone():
    results = results_of()
    assert results.image.dtype == results.label.dtype == np.float32
    assert results.label.shape == (COUNT, CLASSES)
    np.testing.assert_allclose(results.label.sum(axis=1), 1, rtol=1e-6)
    assert (results.label >= 0).all()
    assert (results.label[:, [0, 2, 4]] == 0).all()
    assert (results.weight == 1).all()
    assert results.mask.all()
    assert results.partners is None


@pytest.mark.parametrize("alpha", long_but([0.2, MIXUP_ALPHA], [MIXUP_ALPHA]))
def test_mixup_blends_by_the_labels_share_which_is_a_beta_draw(alpha):
    example = example_of()
    if alpha == MIXUP_ALPHA:
        results = some(results_of(), kinds_of(results_of(), example)[0])
    else:
        results = results_of(augment.ClassMixup(CLASSES, mixup=1.0, mixup_alpha=alpha))
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
    results = some(results_of(), kinds_of(results_of(), example)[1])
    kept = kept_by(results, example)
    for x in ~kept:
        rows, columns = x.any(axis=1), x.any(axis=0)
        assert (x == rows[:, None] & columns[None]).all()
        for line in (rows, columns):
            assert abs(np.diff(line.astype(int))).sum() <= 2, "in one piece"
    share = kept.mean(axis=(1, 2)).astype(np.float32)
    np.testing.assert_allclose(results.label[:, 3], share, rtol=2e-7)
    np.testing.assert_allclose(results.label[:, 1], 1 - share, atol=1e-6)


@pytest.mark.parametrize("alpha", long_but([CUTMIX_ALPHA, 1.0], [CUTMIX_ALPHA]))
def test_cutmix_draws_boxes_as_the_paper(alpha):
    """Two-sample Kolmogorov-Smirnov: borders and area of the boxes that are not empty."""
    example, op = example_of(), EITHER
    if alpha != CUTMIX_ALPHA:
        op = augment.ClassMixup(CLASSES, cutmix=1.0, cutmix_alpha=alpha)
    results = results_of(op)
    kept = kept_by(some(results, kinds_of(results, example)[1]), example)
    rng = np.random.default_rng(0)
    expected = np.ones((COUNT, HEIGHT, WIDTH), bool)
    for x in expected:
        root = np.sqrt(1 - rng.beta(alpha, alpha))
        row, column = rng.integers(HEIGHT), rng.integers(WIDTH)
        half_height, half_width = int(HEIGHT * root / 2), int(WIDTH * root / 2)
        top, left = max(0, row - half_height), max(0, column - half_width)
        x[top : row + half_height, left : column + half_width] = False
    expected = expected[~expected.all(axis=(1, 2))]

    def figures(kept):
        rows, columns = (~kept).any(axis=2), (~kept).any(axis=1)
        lines = [rows.argmax(axis=1), columns.argmax(axis=1), rows.sum(axis=1), columns.sum(axis=1)]
        return [*lines, kept.mean(axis=(1, 2))]

    for ours, theirs in zip(figures(kept), figures(expected), strict=True):
        distance = scipy.stats.ks_2samp(ours, theirs, method="asymp").statistic
        size = len(ours) * len(theirs) / (len(ours) + len(theirs))
        assert distance * size**0.5 < 1.95


def test_each_of_both_happens_with_its_probability():
    results = results_of()
    blended, boxes = kinds_of(results, example_of())

    def check(happened, probability):
        off = happened.sum() - COUNT * probability
        assert abs(off) < 4 * (COUNT * probability * (1 - probability)) ** 0.5

    check(blended, MIXUP)
    # A box may be empty: of sides 12 and 16, where 1 - t is less than (1 / 6)^2.
    empty = scipy.stats.beta(CUTMIX_ALPHA, CUTMIX_ALPHA).cdf((1 / 6) ** 2)
    check(boxes, CUTMIX * (1 - empty))
    unchanged = ~(blended | boxes)
    np.testing.assert_array_equal(results.label[unchanged], np.eye(CLASSES)[[3] * unchanged.sum()])


@functools.lru_cache
def loss_of_logits():
    logits = np.float32([0.3, -1, 2, 0.1, 1.4])
    return jax.jit(functools.partial(cross_entropy, logits, label_smoothing=0.1))


@pytest.mark.parametrize("weights", [(2.0, 0.5), (0.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_the_loss_is_that_of_both_apart_by_their_shares(weights):
    shares, of_logits = results_of().label[:32, 3], loss_of_logits()
    results = some(results_of(weights=weights), slice(32))
    apart = [[float(x) for x in of_logits(np.int32(label))] for label in (3, 1)]
    for share, label, weight in zip(shares, results.label, results.weight, strict=True):
        total, _ = of_logits(label)
        of_both = (share * weights[0], (1 - share) * weights[1])
        np.testing.assert_allclose(weight, sum(of_both), rtol=1e-5, atol=1e-7)
        expected = sum(w * loss for w, (loss, _) in zip(of_both, apart, strict=True))
        np.testing.assert_allclose(weight * total, expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(label.sum(), 1, rtol=1e-6)


def test_labels_may_be_equal_or_distributions():
    assert (results_of(labels=(2, 2)).label[:, 2] > 0.999999).all()
    share = results_of().label[:, 3:4]
    expected = share * SOFT[:1] + (1 - share) * SOFT[1:]
    np.testing.assert_allclose(results_with(EITHER)["soft"].label, expected, atol=1e-6)


def check_same(results, expected):
    for x, y in zip(jax.tree.leaves(results), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-4)


@pytest.mark.slow
def test_a_key_gives_the_same_example_on_every_device():
    run = jax.pmap(jax.vmap(EITHER, (0, None)), in_axes=(0, None))
    results = jax.device_get(run(many_keys()[:40].reshape(4, 10), example_of()))
    results = jax.tree.map(lambda x: x.reshape(40, *x.shape[2:]), results)
    check_same(results, some(results_of(), slice(40)))


@pytest.mark.long
def test_a_key_gives_the_same_example_operation_by_operation():
    check_same(EITHER(many_keys()[0], example_of()), some(results_of(), 0))


def test_without_a_partner_it_says_what_to_do():
    example = example_of().replace(partners=None)
    with pytest.raises(
        InputError,
        match="ClassMixup takes 1 of an example's partners, and there are 0: let the loader",
    ):
        EITHER(jax.random.key(0), example)


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
        EITHER(jax.random.key(0), example.replace(**{part: value}))
    if part != "image":
        message = message.replace("^", r"^partners\.")
    else:
        value, message = value[:, :, None], r"^partners\.image is uint8\[4, 4, 1\]: .*12, 16, 3"
    partners = example.partners.replace(**{part: value[None]})
    with pytest.raises(AssertionError, match=message):
        EITHER(jax.random.key(0), example.replace(partners=partners))


def test_the_extent_holds_both_where_they_are_mixed():
    blended, boxes = kinds_of(results_of(), example_of())
    extents = results_with(EITHER)["extents"].extent
    assert (extents[blended | boxes] == [12, 16]).all()
    apart = (extents == [5, 16]).all(axis=1)
    assert (apart | (extents == [12, 16]).all(axis=1)).all()
    # Where it has been mixed with an empty box it holds both too.
    assert abs(apart.sum() - 0.2 * COUNT) < 4 * (COUNT * 0.2 * 0.8) ** 0.5
