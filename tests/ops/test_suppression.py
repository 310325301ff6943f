"""Non-maximum suppression: equal to a plain loop, to the index, in 10,000 cases and more."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxvision import ops
from jaxvision.ops import suppression
from tests.marks import long_but, slow_but
from tests.ops.boxes import HARD, any_boxes, random_boxes
from tests.ops.compiled import Case, check_cases, compiled
from tests.reference.ops import suppression as reference

BOXES = np.float32(
    [
        [0, 0, 10, 10],
        [0, 0, 10, 9],  # IoU 0.9 with the first
        [0, 0, 10, 5],  # 0.5 with the first
        [0, 4, 10, 14],  # 60 / 140 with the first
        [20, 20, 30, 30],
    ]
)
SCORES = np.float32([0.6, 0.9, 0.7, 0.5, 0.8])

nms, soft_nms = (compiled(op) for op in (ops.nms, ops.soft_nms))


def test_by_hand():
    # 1 makes 0 fall (0.9) and 2 (50 / 90), not 3 (50 / 140).
    indices, valid = nms(BOXES, SCORES, iou_threshold=np.float32(0.5), max_detections=5)
    np.testing.assert_array_equal(indices, [1, 4, 3, 0, 0])
    np.testing.assert_array_equal(valid, [True, True, True, False, False])
    # A box that fell makes none fall.
    boxes = np.float32([[0, 0, 4, 1], [1, 0, 5, 1], [2, 0, 6, 1], [3, 0, 7, 1], [9, 9, 9, 9]])
    scores = np.float32([4, 3, 2, 1, -np.inf])
    indices, valid = nms(boxes, scores, iou_threshold=np.float32(0.4), max_detections=5)
    np.testing.assert_array_equal(indices[valid], [0, 2])
    # An IoU equal to the threshold stays.
    scores = np.float32([2, np.nan, 1, np.nan, np.nan])
    half = np.float32(0.5)
    for threshold, count in ((half, 2), (np.nextafter(half, np.float32(0)), 1)):
        valid = nms(BOXES, scores, iou_threshold=threshold, max_detections=5)[1]
        assert valid.sum() == count


def test_by_hand_with_the_distance_of_the_centres():
    # An IoU of 0.6, centres 2.5 apart, and a hull of 10 x 12.5: 0.6 - 6.25 / 256.25 = 0.5756, and
    # with a power of 0.5, 0.6 - 0.1562 = 0.4438.
    boxes, scores = np.float32([[0, 0, 10, 10], [0, 2.5, 10, 12.5]]), np.float32([2, 1])
    for power, threshold, count in ((1.0, 0.57, 1), (1.0, 0.58, 2), (0.5, 0.44, 1), (0.5, 0.45, 2)):
        how = {"iou_threshold": np.float32(threshold), "max_detections": 2}
        assert ops.nms(boxes, scores, **how, distance_power=power)[1].sum() == count
    with pytest.raises(ValueError, match="distance_power is 0: give more than 0"):
        ops.nms(boxes, scores, iou_threshold=0.5, max_detections=2, distance_power=0)


def hard_cases(rng, cases, count):
    """f32[cases, count, 4], f32[cases, count]: crowded boxes; duplicates, empties, ties, NaN."""
    shape = (cases, count)
    whole = rng.random((cases, 1, 1)) < 0.5  # coordinates on a lattice: IoU on the threshold
    extent = rng.choice([4, 12, 40, 1e6], (cases, 1, 1), p=[0.3, 0.3, 0.3, 0.1])
    corner = rng.random((*shape, 2)) * extent
    size = (0.1 + rng.random((*shape, 2))) * extent / 2
    boxes = np.concatenate([corner, corner + size], axis=2)
    boxes = np.where(whole, np.round(boxes), boxes)
    if count:
        # Duplicates of others, points, and inverted boxes.
        source = rng.integers(0, count, shape)
        duplicates = np.take_along_axis(boxes, source[..., None], axis=1)
        boxes = np.where(rng.random(shape)[..., None] < 0.2, duplicates, boxes)
        boxes = np.where(rng.random(shape)[..., None] < 0.05, boxes[..., [0, 1, 0, 1]], boxes)
        boxes = np.where(rng.random(shape)[..., None] < 0.05, boxes[..., [2, 1, 0, 3]], boxes)
    scores = rng.normal(size=shape)
    tied = rng.random((cases, 1)) < 0.5
    scores = np.where(tied, np.round(scores), scores)  # 0.0 and -0.0 among them
    scores = np.where(rng.random(shape) < 0.1, np.nan, scores)
    scores = np.where(rng.random(shape) < 0.03, -np.inf, scores)
    scores = np.where(rng.random(shape) < 0.03, np.inf, scores)
    return boxes.astype(np.float32), scores.astype(np.float32)


THRESHOLDS = np.float32([0, 0.25, 1 / 3, 0.5, 0.7, 1])


@pytest.mark.parametrize(
    ("count", "cases", "tile"),
    long_but(
        [
            (0, 10, None),
            (1, 500, None),
            (2, 500, None),
            (5, 500, None),
            (13, 300, 4),  # several tiles, the last one not full
            (2, 2000, None),
            (5, 2500, None),
            (13, 2500, None),
            (13, 1000, 4),
            (40, 1500, 8),
            (40, 300, 1),
        ],
        quick=[(13, 300, 4)],
        slow=[(0, 10, None), (5, 500, None)],
    ),
)
def test_equal_to_a_plain_loop(monkeypatch, count, cases, tile):
    if tile:
        monkeypatch.setattr(suppression, "_CPU_TILE", tile)
    rng = np.random.default_rng(count)
    boxes, scores = hard_cases(rng, cases, count)
    thresholds = rng.choice(THRESHOLDS, cases)
    score_thresholds = rng.choice(np.float32([-np.inf, -0.5, 0]), cases)
    # Fewer detections than boxes, or more.
    sizes = [count // 2] if tile else [count + 3]

    def one(boxes, scores, threshold, score_threshold):
        how = {"iou_threshold": threshold, "score_threshold": score_threshold}
        return [ops.nms(boxes, scores, max_detections=size, **how) for size in sizes]

    run = jax.jit(jax.vmap(one))
    found = jax.device_get(run(boxes, scores, thresholds, score_thresholds))
    for size, (indices, valid) in zip(sizes, found, strict=True):
        assert indices.dtype == np.int32
        for case in range(cases):
            expected = reference.nms(
                boxes[case],
                scores[case],
                iou_threshold=thresholds[case],
                score_threshold=score_thresholds[case],
                max_detections=size,
            )
            np.testing.assert_array_equal(indices[case], expected[0], err_msg=f"case {case}")
            np.testing.assert_array_equal(valid[case], expected[1], err_msg=f"case {case}")


@pytest.mark.long
@pytest.mark.parametrize("count", [256, 257])
def test_equal_to_a_plain_loop_around_the_size_of_a_tile(count):
    boxes, scores = hard_cases(np.random.default_rng(count), 6, count)
    sizes = (10, 256, 1000)

    @jax.jit
    @jax.vmap
    def run(boxes, scores):
        return [ops.nms(boxes, scores, iou_threshold=0.5, max_detections=n) for n in sizes]

    for size, (indices, valid) in zip(sizes, run(boxes, scores), strict=True):
        for case, (b, s) in enumerate(zip(boxes, scores, strict=True)):
            expected = reference.nms(b, s, iou_threshold=0.5, max_detections=size)
            np.testing.assert_array_equal((indices[case], valid[case]), expected)


@pytest.mark.slow
def test_the_longest_chain_of_suppressions():
    # Each box overlaps the next one only, so that every second is kept: as many rounds as boxes.
    x = np.arange(600, dtype=np.float32)
    boxes = np.stack([x, 0 * x, x + 1.9, 0 * x + 1], axis=1)
    indices, valid = nms(boxes, -x, iou_threshold=0.1, max_detections=600)
    np.testing.assert_array_equal(indices[valid], np.arange(0, 600, 2))


@jax.jit
def _keep_six(boxes, scores, threshold):
    kept = ops.nms(boxes, scores, iou_threshold=threshold, max_detections=6)
    return *kept, ops.box_iou(boxes, boxes)


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=50)
@given(
    any_boxes(6),
    arrays(np.float32, 6, elements=st.floats(width=32, allow_subnormal=False)),
    st.sampled_from(THRESHOLDS.tolist()),
)
def test_any_boxes_and_scores(boxes, scores, threshold):
    indices, valid, iou = jax.device_get(_keep_six(boxes, scores, threshold))
    # Sides of any magnitude: the union may round either way, so check what greedy means instead.
    kept = indices[valid]
    assert len(set(kept)) == len(kept)
    assert set(kept) <= set(np.flatnonzero(scores > -np.inf))
    order = [(-float(scores[i]), i) for i in kept]
    assert order == sorted(order)
    slack = 1e-6
    for a in kept:
        assert all(iou[a, b] <= threshold + slack for b in kept if b != a)
    for i in set(np.flatnonzero(scores > -np.inf)) - set(kept):
        better = [a for a in kept if (-scores[a], a) < (-scores[i], i)]
        assert max(iou[a, i] for a in better) > threshold - slack


@pytest.mark.parametrize("which", slow_but(["quick", "others"], ["quick"]))
def test_each_equals_the_reference(which):
    """With boxes and without, in one program; the score threshold and the sizes differ."""
    rng = np.random.default_rng(3)
    hard, spread = np.concatenate([HARD, BOXES]), np.linspace(-1, 1, 21, dtype="f4")
    spread[4] = np.nan
    boxes, scores = (x[0] for x in hard_cases(rng, 1, 30))
    per_class, many = hard_cases(np.random.default_rng(0), 3, 12)
    per_class, many = per_class.transpose(1, 0, 2), many.T
    cases = {}

    def add(quick, name, arrays, where="", **static):
        if quick == (which == "quick"):
            kernel, slow = getattr(ops, name), getattr(reference, name)
            key = f"{name} {where}{static}"
            cases[key] = Case(kernel, slow, arrays, static)
            cases[f"{key}, no boxes"] = Case(kernel, slow, [x[:0] for x in arrays], static)

    for threshold in (0.3, 0.5):
        options = {"iou_threshold": threshold, "max_detections": 16, "score_threshold": -0.8}
        add(threshold == 0.5, "nms", (hard, spread), **options)
        add(threshold == 0.5, "nms", (hard, spread), **options, distance_power=1.0)
    for count in (1, 3):
        classes = np.random.default_rng(count).integers(-1, count - 1, 30)
        options = {"iou_threshold": 0.3, "max_detections": 25}
        add(count == 3, "batched_nms", (boxes, scores, classes), f"of {count} ", **options)
        options["distance_power"] = 0.6
        add(count == 1, "batched_nms", (boxes, scores, classes), f"of {count} ", **options)
    options = {"iou_threshold": 0.4, "max_detections": 30, "score_threshold": -1.5}
    for candidates in (None, 7, 1000):
        options = {**options, "max_candidates": candidates}
        add(False, "multiclass_nms", (per_class[:, 1], many), **options)
    add(False, "multiclass_nms", (per_class[:, 1], many), **options, distance_power=0.6)
    by_class = {**options, "max_candidates": 7}
    add(True, "multiclass_nms", (per_class, many), "by class ", **by_class)
    soft = np.concatenate([HARD, random_boxes(np.random.default_rng(1), 9, size=10)])
    scores = rng.random(len(soft)).astype("f4")
    scores[3], scores[18], scores[19] = np.nan, scores[17], -np.inf
    for method in ("linear", "gaussian"):
        for max_detections, score_threshold in ((20, 0.001), (5, 0.3)):
            options = {"max_detections": max_detections, "score_threshold": score_threshold}
            add(max_detections == 5, "soft_nms", (soft, scores), method=method, **options)
    check_cases(cases)


@pytest.mark.parametrize("tile", long_but([4, 256], [], [4]))
def test_batched_equals_each_class_by_itself_in_many_cases(monkeypatch, tile):
    monkeypatch.setattr(suppression, "_CPU_TILE", tile)
    rng = np.random.default_rng(tile)
    boxes, scores = hard_cases(rng, 200, 15)
    classes = rng.integers(0, 3, (200, 15))
    static = {"iou_threshold": 0.5, "max_detections": 12}
    run = jax.jit(jax.vmap(partial(ops.batched_nms, **static)))
    indices, valid = jax.device_get(run(boxes, scores, classes))
    for case, arguments in enumerate(zip(boxes, scores, classes, strict=True)):
        expected = reference.batched_nms(*arguments, **static)
        np.testing.assert_array_equal(indices[case], expected[0])
        np.testing.assert_array_equal(valid[case], expected[1])


def test_classes_far_apart_and_far_out_do_not_mix():
    # An offset of class * 1e6 in float32 would round these boxes away.
    boxes = np.float32([[1e6, 1e6, 1e6 + 1, 1e6 + 1]] * 3)
    classes = np.int32([2_000_000_000, -5, 2_000_000_000])
    indices, valid = compiled(ops.batched_nms)(
        boxes, np.float32([1, 2, 3]), classes, iou_threshold=0.5, max_detections=3
    )
    np.testing.assert_array_equal(indices[valid], [2, 1])


def test_soft_by_hand():
    boxes, scores = BOXES[[0, 2]], np.float32([1, 0.8])  # IoU 0.5
    for method, factor in (("gaussian", np.exp(-0.25 / 0.5)), ("linear", 0.5)):
        indices, lowered, valid = soft_nms(boxes, scores, max_detections=3, method=method)
        np.testing.assert_array_equal(indices, [0, 1, 0])
        np.testing.assert_allclose(lowered, [1, 0.8 * factor, 0], rtol=1e-6)
        np.testing.assert_array_equal(valid, [True, True, False])


@pytest.mark.slow
def test_soft_with_a_hard_threshold_is_nms():
    rng = np.random.default_rng(2)
    boxes = random_boxes(rng, 40, size=30)
    scores = rng.permutation(40).astype("f4") + 1

    @jax.jit
    def run(boxes, scores):
        # exp(-u^2 / sigma) is 1 where nothing overlaps, and nothing is left where anything does.
        soft, _, valid = ops.soft_nms(boxes, scores, max_detections=40, sigma=1e-9)
        return (soft, valid), ops.nms(boxes, scores, iou_threshold=1e-4, max_detections=40)

    chex.assert_trees_all_equal(*run(boxes, scores))


def test_absent_boxes_change_nothing():
    rng = np.random.default_rng(3)
    boxes, scores = random_boxes(rng, 20, size=20), rng.random(20).astype("f4")
    classes = rng.integers(0, 2, 20)
    more = random_boxes(rng, 9, size=20)
    static = {"iou_threshold": 0.3, "max_detections": 20}

    @jax.jit
    def run(boxes, scores, classes):
        return (
            ops.batched_nms(boxes, scores, classes, **static),
            ops.soft_nms(boxes, scores, max_detections=20),
        )

    absent = np.resize(np.float32([-np.inf, np.nan]), 9)
    padded = np.concatenate([more, boxes]), np.append(absent, scores)
    found = jax.device_get(run(*padded, np.append(np.zeros(9, int), classes)))
    expected = (
        reference.batched_nms(boxes, scores, classes, **static),
        reference.soft_nms(boxes, scores, max_detections=20),
    )
    for (indices, *_, valid), (first, *_, still_valid) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(valid, still_valid)
        np.testing.assert_array_equal(indices[valid], first[valid] + 9)


def test_no_gradient_flows_and_none_is_hindered():
    def kept_area(boxes, scores):
        indices, valid = ops.nms(boxes, scores, iou_threshold=0.5, max_detections=5)
        soft, lowered, soft_valid = ops.soft_nms(boxes, scores, max_detections=5)
        areas = ops.box_area(boxes[indices]) * valid
        return areas.sum() + 0 * (ops.box_area(boxes[soft]) * soft_valid).sum() + lowered.sum()

    by_boxes, by_scores = jax.jit(jax.grad(kept_area, argnums=(0, 1)))(BOXES, SCORES)
    assert (np.abs(by_boxes).sum(axis=1) > 0).tolist() == [False, True, False, True, True]
    np.testing.assert_array_equal(by_scores, 0)


@pytest.mark.slow
def test_half_precision_is_computed_in_float32():
    rng = np.random.default_rng(4)
    boxes, scores = random_boxes(rng, 30, size=600), rng.random(30)
    static = {"iou_threshold": 0.3, "max_detections": 30}
    half = boxes.astype(jnp.bfloat16), scores.astype(jnp.bfloat16)
    single = [x.astype("f4") for x in half]
    chex.assert_trees_all_equal(nms(*half, **static), nms(*single, **static))


@pytest.mark.slow
def test_double_precision_stays():
    with jax.enable_x64(True):
        # Equal in float32; in float64 the second has the higher score and overlaps a little more.
        boxes = np.array([[0, 0, 1, 1], [0, 0, 1, 1 + 1e-12], [0, 0.5, 1, 1.5]])
        scores = np.array([1, 1 + 1e-12, 0.5])
        found = nms(boxes, scores, iou_threshold=1 / 3, max_detections=3)
        indices, valid = jax.device_get(found)
        assert (indices.dtype, indices[valid].tolist()) == (jnp.int32, [1])


def test_the_tiles_follow_the_platform():
    traced = jax.jit(partial(ops.nms, iou_threshold=0.5, max_detections=100)).trace(
        jax.ShapeDtypeStruct((5000, 4), jnp.float32), jax.ShapeDtypeStruct((5000,), jnp.float32)
    )
    texts = {p: traced.lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "cuda", "tpu")}
    for platform, text in texts.items():
        assert ("256x256x" in text) == (platform == "cpu")
        assert ("2048x2048x" in text) == (platform != "cpu")


def test_wrong_arguments_are_named():
    static = {"iou_threshold": 0.5, "max_detections": 3}
    whole = BOXES.astype(int)
    classes = np.zeros(5, int)
    for kernel, arguments, message in [
        (ops.nms, (whole, SCORES), "boxes is int"),
        (ops.nms, (BOXES[:, :3], SCORES), r"boxes is float32\[5, 3\]: give float\[N, 4\]"),
        (ops.nms, (BOXES, SCORES[:4]), r"scores is float32\[4\]: give float\[5\]"),
        (ops.nms, (BOXES, whole[:, 0]), "scores is int"),
        (ops.batched_nms, (BOXES, SCORES, SCORES), r"classes is float32\[5\]: give int\[5\]"),
        (ops.batched_nms, (BOXES, SCORES, classes[:2]), r"classes is int\d+\[2\]: give int\[5\]"),
        (ops.multiclass_nms, (BOXES, SCORES), r"scores is float32\[5\]: give float\[N, C\]"),
        (ops.multiclass_nms, (BOXES[:2], SCORES[:, None]), r"boxes is .*: give float\[5, 4\]"),
        (ops.multiclass_nms, (BOXES[:, None], np.zeros((5, 2), "f4")), r"give float\[5, 2, 4\]"),
    ]:
        with pytest.raises(AssertionError, match=message):
            jax.eval_shape(partial(kernel, **static), *arguments)
    with pytest.raises(AssertionError, match="scores is"):
        ops.soft_nms(BOXES, SCORES[None], max_detections=3)
    with pytest.raises(ValueError, match="method is 'cubic': choose gaussian or linear"):
        ops.soft_nms(BOXES, SCORES, max_detections=3, method="cubic")
    for kernel in (partial(ops.nms, iou_threshold=0.5), ops.soft_nms):
        with pytest.raises(ValueError, match="max_detections is 0: give at least 1"):
            kernel(BOXES, SCORES, max_detections=0)
    with pytest.raises(ValueError, match="max_candidates is 0"):
        ops.multiclass_nms(BOXES, SCORES[:, None], max_candidates=0, **static)


@pytest.mark.slow
def test_the_best_of_each_class_equal_the_reference(monkeypatch):
    """With pairs enough at first, with too few of them, and both in one batch."""
    monkeypatch.setattr(suppression, "_FIRST_PAIRS", 24)
    rng = np.random.default_rng(0)
    boxes = np.stack([random_boxes(rng, 20) for _ in range(3)])
    scores = rng.integers(0, 40, (3, 20, 4)).astype("f4") / 40  # many of them are equal
    scores[1, :, 0] += 1  # one class has all of the first pairs
    scores[2, :18] = 0
    options = {"iou_threshold": 0.3, "max_per_class": 6, "score_threshold": 0.01}
    for most in (5, 40):
        find = jax.jit(jax.vmap(partial(ops.per_class_nms, **options, max_detections=most)))
        found = jax.device_get(find(boxes, scores))
        for image in range(3):
            expected = reference.per_class_nms(
                boxes[image], scores[image], **options, max_detections=most
            )
            for actual, right in zip(found, expected, strict=True):
                np.testing.assert_array_equal(actual[image], right)
