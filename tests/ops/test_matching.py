"""Matching, sampling and mining: against plain loops, with ties, padding and nothing at all."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxvision.ops import matching
from jaxvision.ops.matching import (
    FORCED,
    FORCED_BY_TIES,
    IGNORE,
    NEGATIVE,
    assign_to_grid,
    best_anchor,
    mask_to_indices,
    match_anchors,
    match_boxes,
    match_points,
    mine_hard_negatives,
    sample_balanced,
    yolov1_responsible,
)
from jaxvision.testing import check_padding_invariance
from tests.ops.boxes import HARD, random_boxes
from tests.ops.compiled import Case, check_cases, compiled
from tests.ops.parity import import_torchvision
from tests.reference.ops import matching as reference
from tests.reference.ops.boxes import box_iou

quick = settings(deadline=None, derandomize=True, max_examples=25)
eighths = st.integers(0, 8).map(lambda n: n / 8)  # many of them are equal

match, sample, mine, assign = (
    compiled(fn) for fn in (match_anchors, sample_balanced, mine_hard_negatives, assign_to_grid)
)


@partial(jax.jit, static_argnames=("high", "low"))
def match_in_all_ways(iou, mask, high=0.5, low=0.0):
    """A list of the matches of each way to force some."""
    options = {"high_threshold": high, "low_threshold": low}
    return [match_anchors(iou, mask, **options, forced=forced) for forced in FORCED]


# Anchors

IOU = np.float32(
    [  # three objects
        [0.8, 0.1, 0.0],
        [0.5, 0.6, 0.0],
        [0.4, 0.4, 0.0],
        [0.2, 0.2, 0.0],
        [0.3, 0.1, 0.25],
        [0.0, 0.0, 0.25],
    ]
)


def test_matches_by_hand():
    by_hand = {
        "none": [0, IGNORE, IGNORE, NEGATIVE, IGNORE, NEGATIVE],
        # Object 1 has its best anchor (1), object 2 two of them: 4, which prefers object 0, and 5.
        "ties": [0, 1, IGNORE, NEGATIVE, 0, 2],
        "all_ties": [0, 1, IGNORE, NEGATIVE, 0, 2],
        # Object 2 gets the first of its two anchors, in spite of object 0.
        "bipartite": [0, 1, IGNORE, NEGATIVE, 2, NEGATIVE],
        "best": [0, 1, IGNORE, NEGATIVE, 2, NEGATIVE],
    }
    found = match_in_all_ways(IOU, np.ones(3, bool), high=0.7, low=0.3)
    for forced, matches in zip(FORCED, found, strict=True):
        np.testing.assert_array_equal(matches, by_hand[forced])
        assert matches.dtype == np.int32


@pytest.mark.slow
@quick
@given(arrays(np.float32, (7, 4), elements=eighths), arrays(bool, 4))
def test_any_matches_equal_the_reference(iou, mask):
    found = match_in_all_ways(iou, mask, low=0.25)
    for forced, matches in zip(FORCED, found, strict=True):
        options = {"high_threshold": 0.5, "low_threshold": 0.25, "forced": forced}
        np.testing.assert_array_equal(matches, reference.match_anchors(iou, mask, **options))


def test_each_object_that_can_have_an_anchor_of_its_own_gets_one():
    # All prefer anchor 0, then 1, and so on: the most rounds of refusals.
    iou = np.float32([[0.5 - 0.01 * g - 0.05 * n for g in range(8)] for n in range(8)])
    matches = match(
        iou, np.ones(8, bool), high_threshold=0.6, low_threshold=0.6, forced="bipartite"
    )
    np.testing.assert_array_equal(matches, np.arange(8))


def test_padding_changes_no_match():
    rng = np.random.default_rng(1)
    iou = box_iou(random_boxes(rng, 30), random_boxes(rng, 5)).astype("f4")
    expected = match_in_all_ways(iou, np.ones(5, bool))
    for junk in (0.0, 1.0):
        padded = np.concatenate([iou, np.full((30, 3), junk, "f4")], axis=1)
        chex.assert_trees_all_equal(match_in_all_ways(padded, np.arange(8) < 5), expected)


def test_without_objects_and_without_overlap_all_anchors_are_negative():
    without_objects = {
        shape: (np.ones(shape, "f4"), np.zeros(shape[1], bool))
        for shape in ((4, 0), (0, 3), (0, 0), (4, 3), (1, 1))
    }

    @jax.jit
    def run(without_objects, without_overlap):
        matches = {n: match_in_all_ways(*arrays) for n, arrays in without_objects.items()}
        return matches, match_in_all_ways(*without_overlap, low=0.1)

    without_overlap = np.zeros((5, 2), "f4"), np.ones(2, bool)
    every, of_no_overlap = run(without_objects, without_overlap)
    for (anchors, _), found in every.items():
        for matches in found:
            np.testing.assert_array_equal(matches, np.full(anchors, NEGATIVE))
    # In torchvision an object without overlap has its best IoU, 0, with all anchors.
    forced = {"all_ties": [0] * 5, "best": [1, *[NEGATIVE] * 4]}
    for name, matches in zip(FORCED, of_no_overlap, strict=True):
        np.testing.assert_array_equal(matches, forced.get(name, [NEGATIVE] * 5))


def test_the_last_object_wins_a_contested_anchor_only_by_the_rule_best():
    iou = np.float32([[0.4, 0.3, 0.2], [0.1, 0.2, 0.1]])
    found = match_in_all_ways(iou, np.array([True, True, False]), low=0.5)
    expected = {"bipartite": [0, 1], "best": [1, NEGATIVE]}
    for name, matches in zip(FORCED, found, strict=True):
        if name in expected:
            np.testing.assert_array_equal(matches, expected[name])


# Points


def test_points_by_hand():
    """Sides 4 (finest), 8 and 16 (coarsest), all at one place; boxes by their distances from it."""
    points, sides = np.full((3, 2), 50, "f4"), np.float32([4, 8, 16])

    def around(left, top, right, bottom):
        return [50 - left, 50 - top, 50 + right, 50 + bottom]

    find = compiled(match_points)
    for box, expected in [
        (around(3, 3, 3, 3), [0, NEGATIVE, NEGATIVE]),  # the finest has no lower limit
        (around(31, 31, 31, 31), [0, NEGATIVE, NEGATIVE]),  # less than 8 x 4
        (around(32, 32, 32, 32), [NEGATIVE, NEGATIVE, NEGATIVE]),  # the limits are no part of it
        (around(33, 33, 33, 33), [NEGATIVE, 0, NEGATIVE]),
        (around(900, 900, 900, 900), [NEGATIVE, NEGATIVE, 0]),  # the coarsest has no upper one
        (around(0, 10, 20, 10), [NEGATIVE, NEGATIVE, NEGATIVE]),  # on the border
        (around(10, 10, 22, 10), [NEGATIVE, NEGATIVE, NEGATIVE]),  # 6 = 1.5 x 4 from the centre
        (around(11, 10, 22, 10), [0, NEGATIVE, NEGATIVE]),
    ]:
        matches = find(points, sides, np.float32([box]), np.ones(1, bool))
        np.testing.assert_array_equal(matches, expected, err_msg=str(box))
    boxes = np.float32([around(9, 9, 9, 9), around(8, 8, 8, 8), around(2, 2, 2, 2)])
    matches = find(points, sides, boxes, np.array([True, True, False]))
    np.testing.assert_array_equal(matches, [1, NEGATIVE, NEGATIVE])  # the smallest one


def test_any_points_equal_the_reference():
    find = compiled(match_points)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        points = rng.uniform(0, 64, (90, 2)).astype("f4")
        sides = np.float32([2] * 50 + [4] * 30 + [8] * 10)
        boxes, mask = random_boxes(rng, 6).astype("f4"), rng.random(6) < 0.7
        expected = reference.match_points(points, sides, boxes, mask)
        np.testing.assert_array_equal(find(points, sides, boxes, mask), expected)


@pytest.mark.parity
def test_matches_equal_torchvisions():
    torch, utils = import_torchvision("models.detection._utils")
    rng = np.random.default_rng(2)
    iou = box_iou(random_boxes(rng, 60), random_boxes(rng, 7)).astype("f4")
    quality, all_real = torch.tensor(iou.T), np.ones(7, bool)
    for high, low in ((0.7, 0.3), (0.5, 0.4), (0.5, 0.5)):
        for forced in ("none", "ties"):
            expected = utils.Matcher(high, low, allow_low_quality_matches=forced == "ties")(quality)
            actual = match(iou, all_real, high_threshold=high, low_threshold=low, forced=forced)
            np.testing.assert_array_equal(actual, expected)
    iou[:, 6] = 0  # an object without overlap
    iou[:, 5] = iou[:, 4] / 2  # contested, so that the last of two objects wins
    quality = torch.tensor(iou.T)
    for utils_matcher, high, low, forced in (
        (utils.SSDMatcher(0.5), 0.5, 0.5, "best"),
        (utils.Matcher(0.5, 0.4, allow_low_quality_matches=True), 0.5, 0.4, "all_ties"),
    ):
        actual = match(iou, all_real, high_threshold=high, low_threshold=low, forced=forced)
        np.testing.assert_array_equal(actual, utils_matcher(quality))


# YOLO

GRID = {"grid_size": (3, 2), "num_anchors": 2}


def test_all_but_the_random_ones_equal_the_reference():
    """Each operator, in one program."""
    rng = np.random.default_rng(3)
    boxes = np.concatenate([HARD, random_boxes(rng, 16)]).reshape(2, 16, 4)
    predicted = random_boxes(rng, 96).reshape(2, 16, 3, 4)
    predicted[0, 0] = [500, 500, 501, 501]
    shapes, anchors = np.random.default_rng(4).uniform(-5, 50, (2, 16, 2)).astype("f4")
    cases = {
        "responsible": Case(yolov1_responsible, reference.yolov1_responsible, (predicted, boxes)),
        "best anchor": Case(best_anchor, reference.best_anchor, (shapes, anchors[:5])),
    }
    rng = np.random.default_rng(0)
    iou = box_iou(random_boxes(rng, 16), random_boxes(rng, 6)).astype("f4")
    for forced in FORCED:
        options = {"high_threshold": 0.5, "low_threshold": 0.4, "forced": forced}
        pair = match_anchors, reference.match_anchors
        cases[f"matches, {forced}"] = Case(*pair, (iou, np.arange(6) != 2), options)
    # Coordinates of a lattice give ties; more boxes than are compared at once, or none.
    rng = np.random.default_rng(12)
    anchors, objects = (np.round(random_boxes(rng, n, size=30)) for n in (40, 19))
    for forced in FORCED_BY_TIES:
        options = {"high_threshold": 0.5, "low_threshold": 0.25, "forced": forced}
        for name, count in (("19", 19), ("3", 3), ("0", 0)):
            arrays = anchors, objects[:count], np.arange(count) % 5 != 2
            pair = match_boxes, reference.match_boxes
            cases[f"{name} boxes, {forced}"] = Case(*pair, arrays, options)
    arrays = anchors, np.float32([[200, 200, 300, 300]] * 2), np.array([False, True])
    cases["far boxes"] = Case(match_boxes, reference.match_boxes, arrays, options)
    places = np.random.default_rng(5).integers(-1, 4, (3, 30)).astype("i4")
    arrays = *places, np.arange(30) % 4 > 0
    cases["grid"] = Case(assign_to_grid, reference.assign_to_grid, arrays, GRID)
    mask = np.random.default_rng(10).random(12) > 0.4
    masks = {"some": mask, "none": mask & False, "1": mask[:1], "0": mask[:0]}
    for size, name in ((3, "some"), (9, "some"), (20, "some"), (3, "none"), (3, "1"), (3, "0")):
        pair = mask_to_indices, reference.mask_to_indices
        cases[f"{size} indices of {name}"] = Case(*pair, (masks[name],), {"size": size})
    rng = np.random.default_rng(11)
    loss, labels = rng.normal(size=30).astype("f4"), rng.integers(0, 6, 30)
    for ratio, least in ((2, 1), (3, 0), (0.5, 2), (0, 0), (1, 30)):
        options = {"ratio": ratio, "min_negatives": least}
        pair = mine_hard_negatives, reference.mine_hard_negatives
        arrays = loss, labels == 1, labels > 1
        cases[f"mined: {options}"] = Case(*pair, arrays, options)
    found = check_cases(cases)
    assert found["9 indices of some"][0].dtype == np.int32


def test_responsible_predictors_by_hand():
    boxes = np.float32([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]])
    predicted = np.float32(
        [
            [[0, 0, 4, 4], [5, 0, 15, 10], [20, 20, 30, 30]],  # IoU 16 / 100, 50 / 150, 0
            [[20, 0, 30, 10], [15, 0, 55, 40], [40, 0, 50, 10]],  # none: the centre is nearer
            [[11, 0, 60, 10], [15, 0, 25, 10], [14, 0, 94, 10]],  # none: the size is more alike
        ]
    )
    responsible = jax.jit(yolov1_responsible)(predicted, boxes)
    np.testing.assert_array_equal(responsible, [1, 0, 1])
    assert responsible.dtype == np.int32


def test_best_anchors_by_hand():
    anchors = np.float32([[10, 13], [16, 30], [16, 30]])
    index, iou = jax.jit(best_anchor)(np.float32([[16, 30], [10, 10], [0, 9]]), anchors)
    np.testing.assert_array_equal(index, [1, 0, 0])
    np.testing.assert_allclose(iou, [1, 100 / 130, 0], rtol=1e-6)
    assert index.dtype == np.int32


@quick
@given(arrays(np.int32, (3, 9), elements=st.integers(-2, 3)), arrays(bool, 9))
def test_any_grids_equal_the_reference(places, mask):
    expected = reference.assign_to_grid(*places, mask, **GRID)
    np.testing.assert_array_equal(assign(*places, mask, **GRID), expected)


def test_the_last_object_stays_in_a_grid():
    rows, columns, anchors = np.int32([[2, 2, 2, 0], [1, 1, 1, 5], [0, 0, 0, 0]])
    grid = assign(rows, columns, anchors, np.array([True, True, False, True]), **GRID)
    assert grid.shape == (3, 2, 2)
    assert grid.dtype == np.int32
    assert grid[2, 1, 0] == 1
    assert (np.asarray(grid) == NEGATIVE).sum() == 11


def test_padding_changes_no_grid():
    places = np.random.default_rng(6).integers(0, 2, (3, 5)).astype("i4")
    check_padding_invariance(
        partial(assign_to_grid, **GRID), *places, np.arange(5) != 2, padded=(0, 1, 2), mask=3
    )
    empty = np.zeros(0, "i4")
    np.testing.assert_array_equal(
        assign(empty, empty, empty, empty > 0, **GRID), np.full((3, 2, 2), NEGATIVE)
    )


# Sampling


def test_samples_equal_the_reference():
    labels = np.random.default_rng(7).integers(0, 3, 40)
    args = jax.random.key(0), labels == 1, labels == 0
    pair = sample_balanced, reference.sample_balanced
    options = [(10, 0.25), (4, 0.5), (100, 0.5)]
    cases = {}
    for size, fraction in options:
        how = {"size": size, "positive_fraction": fraction}
        cases[str(how)] = Case(*pair, args, how)
    check_cases(cases)


SIZES = [(1, 0.5), (4, 0.0), (5, 0.25), (6, 1.0), (30, 0.5)]


@jax.jit
def sample_in_all_sizes(key, positive, negative):
    return [
        sample_balanced(key, positive, negative, size=size, positive_fraction=fraction)
        for size, fraction in SIZES
    ]


@quick
@given(
    st.integers(0, 2**31 - 1),
    arrays(bool, 12),
    arrays(bool, 12),
    st.sampled_from(SIZES),
)
def test_any_sample_has_the_sizes_promised(seed, positive, negative, sizes):
    size, fraction = sizes
    drawn_positive, drawn_negative = jax.device_get(
        sample_in_all_sizes(jax.random.key(seed), positive, negative)
    )[SIZES.index(sizes)]
    negative = negative & ~positive
    assert not (drawn_positive & ~positive).any()
    assert not (drawn_negative & ~negative).any()
    assert drawn_positive.sum() == min(positive.sum(), int(size * fraction))
    assert drawn_negative.sum() == min(negative.sum(), size - drawn_positive.sum())


def test_samples_are_uniform_and_independent_of_each_other():
    labels = np.arange(40) % 4  # 10 positives, 20 negatives, 10 of neither kind
    positive, negative = labels == 1, labels % 2 == 0
    keys = jax.random.split(jax.random.key(0), 4000)
    draws = jax.vmap(
        lambda key: jnp.stack(
            sample_balanced(key, positive, negative, size=9, positive_fraction=0.5)
        )
    )
    drawn = np.asarray(jax.jit(draws)(keys))
    for kind, candidates, count in ((0, positive, 4), (1, negative, 5)):
        chosen = drawn[:, kind][:, candidates].astype(float)
        assert (chosen.sum(axis=1) == count).all()
        p = count / candidates.sum()
        # Five standard deviations of a binomial frequency.
        slack = 5 * np.sqrt(p * (1 - p) / len(keys))
        np.testing.assert_allclose(chosen.mean(axis=0), p, atol=slack)
        # Two candidates are drawn together as often as without replacement.
        together = chosen.T @ chosen / len(keys)
        pair = p * (count - 1) / (candidates.sum() - 1)
        off_diagonal = together[~np.eye(len(together), dtype=bool)]
        np.testing.assert_allclose(off_diagonal, pair, atol=5 * np.sqrt(pair / len(keys)))
    both = drawn[:, 0][:, positive].T.astype(float) @ drawn[:, 1][:, negative] / len(keys)
    np.testing.assert_allclose(both, 0.4 * 0.25, atol=5 * np.sqrt(0.1 / len(keys)))


def test_padding_changes_no_sample():
    labels = np.random.default_rng(8).integers(0, 3, 30)
    longer = np.append(labels, [2] * 9)
    options = {"size": 12, "positive_fraction": 0.25}
    key = jax.random.key(3)
    expected = sample(key, labels == 1, labels == 0, **options)
    actual = sample(key, longer == 1, longer == 0, **options)
    for ours, theirs in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(ours, np.append(theirs, [False] * 9))


@pytest.mark.parametrize("count", [0, 1])
def test_few_candidates(count):
    for kind in (np.zeros(count, bool), np.ones(count, bool)):
        positive, negative = sample(jax.random.key(0), kind, ~kind, size=3, positive_fraction=0.5)
        np.testing.assert_array_equal(positive, kind)
        np.testing.assert_array_equal(negative, ~kind)


@pytest.mark.parity
def test_sample_sizes_equal_torchvisions():
    torch, utils = import_torchvision("models.detection._utils")
    rng = np.random.default_rng(9)
    for size, fraction in ((256, 0.5), (512, 0.25), (7, 0.5)):
        for chances in ((0.1, 0.2, 0.7), (0.5, 0.4, 0.1), (0.9, 0, 0.1), (0, 0.5, 0.5)):
            labels = rng.choice([-1, 1, 0], 300, p=chances)
            sampler = utils.BalancedPositiveNegativeSampler(size, fraction)
            expected = [int(m[0].sum()) for m in sampler([torch.tensor(labels)])]
            ours = sample(
                jax.random.key(0), labels == 1, labels == 0, size=size, positive_fraction=fraction
            )
            assert [int(m.sum()) for m in ours] == expected


# Hard negatives


RATIOS = ({}, {"ratio": 1.5, "min_negatives": 3})
mine_in_both_ways = jax.jit(lambda *arrays: [mine_hard_negatives(*arrays, **r) for r in RATIOS])


@quick
@given(arrays(np.float32, 12, elements=eighths), arrays(bool, 12), arrays(bool, 12))
def test_any_hard_negatives_equal_the_reference(loss, positive, negative):
    found = mine_in_both_ways(loss, positive, negative)
    for options, keep in zip(RATIOS, found, strict=True):
        expected = reference.mine_hard_negatives(loss, positive, negative, **options)
        np.testing.assert_array_equal(keep, expected)


def test_hard_negatives_by_hand():
    # One positive: three negatives, and of the equal ones the first.
    loss = np.float32([9, 1, 3, 2, 2, 7, 2, 8])
    positive = np.array([True] + [False] * 7)
    negative = np.array([False] + [True] * 6 + [False])
    keep = mine(loss, positive, negative)
    np.testing.assert_array_equal(np.flatnonzero(keep), [2, 3, 5])


def test_hard_negatives_of_images_without_objects_and_of_nothing():
    loss, none = np.ones(5, "f4"), np.zeros(5, bool)
    large = np.float32([-1e30, 1e30, 80, -80, 0])

    @jax.jit
    def run(loss, none, large):
        return {
            "no objects": mine_hard_negatives(loss, none, ~none),
            "at least 2": mine_hard_negatives(loss, none, ~none, min_negatives=2),
            "no negatives": mine_hard_negatives(loss, ~none, none),
            "nothing": mine_hard_negatives(loss[:0], none[:0], none[:0]),
            "one": mine_hard_negatives(loss[:1], none[:1], ~none[:1], min_negatives=1),
            "large": mine_hard_negatives(large, none, ~none, min_negatives=3),
        }

    found = jax.device_get(run(loss, none, large))
    assert not found["no objects"].any()
    assert found["at least 2"].sum() == 2
    assert not found["no negatives"].any()
    assert found["nothing"].shape == (0,)
    assert found["one"].all()
    np.testing.assert_array_equal(found["large"], [False, True, True, False, True])


def test_padding_changes_no_hard_negatives():
    rng = np.random.default_rng(12)
    loss, labels = rng.normal(size=20).astype("f4"), rng.integers(0, 6, 20)
    longer = np.append(loss, [99] * 5).astype("f4"), np.append(labels, [0] * 5)
    expected = mine(loss, labels == 1, labels > 1)
    actual = mine(longer[0], longer[1] == 1, longer[1] > 1)
    np.testing.assert_array_equal(actual, np.append(expected, [False] * 5))


# All


def test_no_gradient_flows_through_matching():
    def total(iou, boxes, loss):
        shapes = boxes[:, 2:]
        return (
            iou[
                match_anchors(
                    iou, np.ones(3, bool), high_threshold=0.5, low_threshold=0.4, forced="bipartite"
                )
            ].sum()
            + best_anchor(shapes, shapes)[1].sum()
            + yolov1_responsible(boxes[:, None], boxes).sum()
            + jnp.where(mine_hard_negatives(loss, loss > 1, loss <= 1), 5, 0).sum()
        )

    boxes = random_boxes(np.random.default_rng(13), 6)
    gradients = jax.jit(jax.grad(total, argnums=(0, 1, 2)))(IOU, boxes, IOU[:, 0])
    assert jnp.abs(gradients[0]).sum() > 0  # from outside
    np.testing.assert_array_equal(gradients[1], 0)
    np.testing.assert_array_equal(gradients[2], 0)


@pytest.mark.slow
def test_other_precisions():
    half = match(IOU.astype(jnp.bfloat16), np.ones(3, bool), high_threshold=0.7, low_threshold=0.15)
    np.testing.assert_array_equal(half, [0, IGNORE, IGNORE, IGNORE, IGNORE, IGNORE])
    with jax.enable_x64(True):
        iou, three = IOU.astype("f8"), np.ones(3, bool)
        found = match_in_all_ways(iou, three, high=0.7, low=0.3)
        for forced, actual in zip(FORCED, found, strict=True):
            options = {"high_threshold": 0.7, "low_threshold": 0.3, "forced": forced}
            expected = reference.match_anchors(iou, three, **options)
            np.testing.assert_array_equal(actual, expected)
            assert actual.dtype == np.int32
        cells = np.zeros(3, np.int64)
        results = jax.eval_shape(
            lambda: {
                "int32": (
                    yolov1_responsible(np.ones((3, 4)), np.ones(4)),
                    mask_to_indices(three, size=2)[0],
                    assign_to_grid(cells, cells, cells, three, **GRID),
                    best_anchor(np.ones((2, 2)), np.ones((1, 2)))[0],
                ),
                "float64": (best_anchor(np.ones((2, 2)), np.ones((1, 2)))[1],),
                "bool": (mine_hard_negatives(np.ones(3), three, ~three),),
            }
        )
        for dtype, arrays_of_it in results.items():
            assert {x.dtype.name for x in arrays_of_it} == {dtype}
        key = jax.random.key(0)
        assert sample(key, three, ~three, size=2, positive_fraction=1)[0].sum() == 2


MASK, CELLS, BOXES, LOSS = np.ones(3, bool), np.zeros(3, "i4"), np.ones((3, 4), "f4"), IOU[:3, 0]
THRESHOLDS = {"high_threshold": 0.7, "low_threshold": 0.3}


@pytest.mark.parametrize(
    ("name", "args", "static", "argument"),
    [
        ("match_anchors", (IOU[0], MASK), THRESHOLDS, "iou"),
        ("match_anchors", (IOU.astype(int), MASK), THRESHOLDS, "iou"),
        ("match_anchors", (IOU, MASK[:2]), THRESHOLDS, "gt_mask"),
        ("match_anchors", (IOU, CELLS), THRESHOLDS, "gt_mask"),
        ("yolov1_responsible", (BOXES[0], BOXES[0]), {}, "predicted"),
        ("yolov1_responsible", (BOXES, BOXES), {}, "boxes"),
        ("best_anchor", (BOXES, BOXES[:, :2]), {}, "shapes"),
        ("best_anchor", (BOXES[:, :2], BOXES), {}, "anchors"),
        ("assign_to_grid", (BOXES, CELLS, CELLS, MASK), GRID, "rows"),
        ("assign_to_grid", (CELLS, CELLS[:2], CELLS, MASK), GRID, "columns"),
        ("assign_to_grid", (CELLS, CELLS, LOSS, MASK), GRID, "anchors"),
        ("assign_to_grid", (CELLS, CELLS, CELLS, CELLS), GRID, "gt_mask"),
        ("mask_to_indices", (CELLS,), {"size": 3}, "mask"),
        ("mine_hard_negatives", (MASK, MASK, MASK), {}, "loss"),
        ("mine_hard_negatives", (LOSS, MASK[:2], MASK), {}, "positive"),
        ("mine_hard_negatives", (LOSS, MASK, CELLS), {}, "negative"),
    ],
)
def test_wrong_shapes_and_dtypes_name_the_argument(name, args, static, argument):
    with pytest.raises(AssertionError, match=f"^{argument} is "):
        jax.eval_shape(partial(getattr(matching, name), **static), *args)


def test_wrong_candidates_of_a_sample_are_named():
    options = {"size": 3, "positive_fraction": 0.5}
    with pytest.raises(AssertionError, match="positive is int32"):
        sample(jax.random.key(0), CELLS, MASK, **options)
    with pytest.raises(AssertionError, match=r"negative is bool\[2\]"):
        sample(jax.random.key(0), MASK, MASK[:2], **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: match_anchors(IOU, MASK, **THRESHOLDS, forced="all"), "forced is 'all'"),
        (
            lambda: match_boxes(
                IOU[:, :1] * np.ones(4), IOU[:3, :1] * np.ones(4), MASK, **THRESHOLDS, forced="best"
            ),
            "forced is 'best'",
        ),
        (
            lambda: match_anchors(IOU, MASK, high_threshold=0.3, low_threshold=0.7),
            "low_threshold is 0.7: give at least 0 and at most 0.3",
        ),
        (
            lambda: match_anchors(IOU, MASK, high_threshold=2, low_threshold=0),
            "high_threshold is 2",
        ),
        (
            lambda: assign_to_grid(CELLS, CELLS, CELLS, MASK, grid_size=(0, 2), num_anchors=1),
            "grid_size is",
        ),
        (
            lambda: sample_balanced(jax.random.key(0), MASK, MASK, size=0, positive_fraction=0.5),
            "size is 0",
        ),
        (
            lambda: sample_balanced(jax.random.key(0), MASK, MASK, size=2, positive_fraction=1.5),
            "positive_fraction is 1.5",
        ),
        (lambda: mask_to_indices(MASK, size=-1), "size is -1"),
        (lambda: mine_hard_negatives(LOSS, MASK, MASK, ratio=-1), "ratio is -1"),
        (lambda: mine_hard_negatives(LOSS, MASK, MASK, min_negatives=-2), "min_negatives is -2"),
    ],
)
def test_wrong_options_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(call)
