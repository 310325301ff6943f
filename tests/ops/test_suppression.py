"""Non-maximum suppression: equal to a plain loop, to the index, in 10,000 cases and more."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxvision import ops
from jaxvision.ops import suppression
from jaxvision.testing import TRANSFORMS, check_op
from tests.marks import slow_but
from tests.ops.boxes import HARD, any_boxes, random_boxes
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


def test_by_hand(transform):
    # 1 makes 0 fall (0.9) and 2 (50 / 90), not 3 (50 / 140).
    indices, valid = transform(partial(ops.nms, iou_threshold=0.5, max_detections=5))(BOXES, SCORES)
    np.testing.assert_array_equal(indices, [1, 4, 3, 0, 0])
    np.testing.assert_array_equal(valid, [True, True, True, False, False])


def test_a_box_that_fell_makes_none_fall():
    boxes = np.float32([[0, 0, 4, 1], [1, 0, 5, 1], [2, 0, 6, 1], [3, 0, 7, 1]])
    indices, valid = ops.nms(boxes, np.float32([4, 3, 2, 1]), iou_threshold=0.4, max_detections=4)
    np.testing.assert_array_equal(indices[valid], [0, 2])


def test_an_iou_equal_to_the_threshold_stays():
    keep = partial(ops.nms, BOXES[[0, 2]], np.float32([2, 1]), max_detections=2)
    assert keep(iou_threshold=0.5)[1].sum() == 2
    assert keep(iou_threshold=np.nextafter(np.float32(0.5), np.float32(0)))[1].sum() == 1


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
    [
        (0, 10, None),
        (1, 500, None),
        (2, 500, None),
        (5, 500, None),
        (13, 300, 4),  # several tiles, the last one not full
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (2, 2000, None),
                (5, 2500, None),
                (13, 2500, None),
                (13, 1000, 4),
                (40, 1500, 8),
                (40, 300, 1),
            )
        ),
    ],
)
def test_equal_to_a_plain_loop(monkeypatch, count, cases, tile):
    if tile:
        monkeypatch.setattr(suppression, "_CPU_TILE", tile)
    rng = np.random.default_rng(count)
    boxes, scores = hard_cases(rng, cases, count)
    thresholds = rng.choice(THRESHOLDS, cases)
    score_thresholds = rng.choice(np.float32([-np.inf, -0.5, 0]), cases)
    for size in (max(1, count // 2), count + 3):

        def one(boxes, scores, threshold, score_threshold, size=size):
            return ops.nms(
                boxes,
                scores,
                iou_threshold=threshold,
                score_threshold=score_threshold,
                max_detections=size,
            )

        run = jax.jit(jax.vmap(one))
        indices, valid = jax.device_get(run(boxes, scores, thresholds, score_thresholds))
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


@pytest.mark.slow
@pytest.mark.parametrize("count", [255, 256, 257, 700])
@pytest.mark.parametrize("size", [10, 256, 1000])
def test_equal_to_a_plain_loop_around_the_size_of_a_tile(count, size):
    rng = np.random.default_rng(count)
    boxes, scores = hard_cases(rng, 6, count)
    kernel = jax.jit(partial(ops.nms, iou_threshold=0.5, max_detections=size))
    for b, s in zip(boxes, scores, strict=True):
        expected = reference.nms(b, s, iou_threshold=0.5, max_detections=size)
        np.testing.assert_array_equal(kernel(b, s), expected)


def test_the_longest_chain_of_suppressions():
    # Each box overlaps the next one only, so that every second is kept: as many rounds as boxes.
    x = np.arange(600, dtype=np.float32)
    boxes = np.stack([x, 0 * x, x + 1.9, 0 * x + 1], axis=1)
    indices, valid = ops.nms(boxes, -x, iou_threshold=0.1, max_detections=600)
    np.testing.assert_array_equal(indices[valid], np.arange(0, 600, 2))


_KEEP_SIX = jax.jit(partial(ops.nms, max_detections=6))
_ALL_IOU = jax.jit(ops.box_iou)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(
    any_boxes(6),
    arrays(np.float32, 6, elements=st.floats(width=32, allow_subnormal=False)),
    st.sampled_from(THRESHOLDS.tolist()),
)
def test_any_boxes_and_scores(boxes, scores, threshold):
    indices, valid = _KEEP_SIX(boxes, scores, iou_threshold=threshold)
    # Sides of any magnitude: the union may round either way, so check what greedy means instead.
    kept = np.asarray(indices)[np.asarray(valid)]
    assert len(set(kept)) == len(kept)
    assert set(kept) <= set(np.flatnonzero(scores > -np.inf))
    order = [(-float(scores[i]), i) for i in kept]
    assert order == sorted(order)
    iou = np.asarray(_ALL_IOU(boxes, boxes))
    slack = 1e-6
    for a in kept:
        assert all(iou[a, b] <= threshold + slack for b in kept if b != a)
    for i in set(np.flatnonzero(scores > -np.inf)) - set(kept):
        better = [a for a in kept if (-scores[a], a) < (-scores[i], i)]
        assert max(iou[a, i] for a in better) > threshold - slack


@pytest.mark.parametrize("iou_threshold", [0.3, 0.5])
def test_nms_equals_the_reference_under_every_transform(iou_threshold):
    boxes, scores = np.concatenate([HARD, BOXES]), np.linspace(-1, 1, 21, dtype="f4")
    scores[4] = np.nan
    static = {"iou_threshold": iou_threshold, "max_detections": 16, "score_threshold": -0.8}
    check_op(ops.nms, reference.nms, boxes, scores, **static)
    check_op(ops.nms, reference.nms, boxes[:0], scores[:0], **static)


@pytest.mark.parametrize("num_classes", [1, 3])
def test_batched_equals_each_class_by_itself(num_classes):
    rng = np.random.default_rng(num_classes)
    boxes, scores = (x[0] for x in hard_cases(rng, 1, 30))
    classes = rng.integers(-1, num_classes - 1, 30)
    static = {"iou_threshold": 0.3, "max_detections": 25}
    transforms = TRANSFORMS if num_classes == 3 else ["jit"]
    pair = ops.batched_nms, reference.batched_nms
    check_op(*pair, boxes, scores, classes, transforms=transforms, **static)
    empty = boxes[:0], scores[:0], classes[:0]
    check_op(*pair, *empty, transforms=["eager", "vmap"], **static)


@pytest.mark.parametrize("tile", [4, 256])
def test_batched_equals_each_class_by_itself_in_many_cases(monkeypatch, tile):
    monkeypatch.setattr(suppression, "_CPU_TILE", tile)
    rng = np.random.default_rng(tile)
    boxes, scores = hard_cases(rng, 500, 15)
    classes = rng.integers(0, 3, (500, 15))
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
    indices, valid = ops.batched_nms(
        boxes, np.float32([1, 2, 3]), classes, iou_threshold=0.5, max_detections=3
    )
    np.testing.assert_array_equal(indices[valid], [2, 1])


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("max_candidates", slow_but([None, 7, 1000], [7]))
def test_multiclass_equals_the_reference(per_class, max_candidates):
    rng = np.random.default_rng(0)
    boxes, scores = hard_cases(rng, 3, 12)
    boxes = boxes.transpose(1, 0, 2) if per_class else boxes[1]
    static = {
        "iou_threshold": 0.4,
        "max_detections": 30,
        "score_threshold": -1.5,
        "max_candidates": max_candidates,
    }
    transforms = TRANSFORMS if max_candidates == 7 else ["jit"]
    pair = ops.multiclass_nms, reference.multiclass_nms
    check_op(*pair, boxes, scores.T, transforms=transforms, **static)
    check_op(*pair, boxes[:0], scores.T[:0], transforms=["eager", "vmap"], **static)


@pytest.mark.parametrize("method", ["linear", "gaussian"])
@pytest.mark.parametrize(("max_detections", "score_threshold"), [(20, 0.001), (5, 0.3)])
def test_soft_equals_the_reference(method, max_detections, score_threshold):
    rng = np.random.default_rng(1)
    boxes = np.concatenate([HARD, random_boxes(rng, 9, size=10)])
    scores = rng.random(len(boxes)).astype("f4")
    scores[3], scores[18], scores[19] = np.nan, scores[17], -np.inf
    static = {
        "method": method,
        "max_detections": max_detections,
        "score_threshold": score_threshold,
    }
    transforms = TRANSFORMS if max_detections == 5 else ["jit"]
    check_op(ops.soft_nms, reference.soft_nms, boxes, scores, transforms=transforms, **static)
    empty = boxes[:0], scores[:0]
    check_op(ops.soft_nms, reference.soft_nms, *empty, transforms=["eager", "vmap"], **static)


def test_soft_by_hand():
    boxes, scores = BOXES[[0, 2]], np.float32([1, 0.8])  # IoU 0.5
    for method, factor in (("gaussian", np.exp(-0.25 / 0.5)), ("linear", 0.5)):
        indices, lowered, valid = ops.soft_nms(boxes, scores, max_detections=3, method=method)
        np.testing.assert_array_equal(indices, [0, 1, 0])
        np.testing.assert_allclose(lowered, [1, 0.8 * factor, 0], rtol=1e-6)
        np.testing.assert_array_equal(valid, [True, True, False])


def test_soft_with_a_hard_threshold_is_nms():
    rng = np.random.default_rng(2)
    boxes = random_boxes(rng, 40, size=30)
    scores = rng.permutation(40).astype("f4") + 1
    # exp(-u^2 / sigma) is 1 where nothing overlaps, and nothing is left where anything does.
    soft, _, valid = ops.soft_nms(boxes, scores, max_detections=40, sigma=1e-9)
    hard, hard_valid = ops.nms(boxes, scores, iou_threshold=1e-4, max_detections=40)
    np.testing.assert_array_equal(soft, hard)
    np.testing.assert_array_equal(valid, hard_valid)


@pytest.mark.parametrize("absent", [-np.inf, np.nan])
def test_absent_boxes_change_nothing(absent):
    rng = np.random.default_rng(3)
    boxes, scores = random_boxes(rng, 20, size=20), rng.random(20).astype("f4")
    classes = rng.integers(0, 2, 20)
    more = random_boxes(rng, 9, size=20)
    padded = np.concatenate([more, boxes]), np.append(np.full(9, absent, "f4"), scores)
    padded_classes = np.append(np.zeros(9, int), classes)
    static = {"iou_threshold": 0.3, "max_detections": 20}

    @jax.jit
    def run(boxes, scores, classes):
        return (
            ops.nms(boxes, scores, **static),
            ops.batched_nms(boxes, scores, classes, **static),
            ops.soft_nms(boxes, scores, max_detections=20),
        )

    for plain, with_padding in zip(
        run(boxes, scores, classes), run(*padded, padded_classes), strict=True
    ):
        valid = plain[-1]
        np.testing.assert_array_equal(with_padding[-1], valid)
        np.testing.assert_array_equal(with_padding[0][valid], plain[0][valid] + 9)


def test_no_gradient_flows_and_none_is_hindered():
    def kept_area(boxes, scores):
        indices, valid = ops.nms(boxes, scores, iou_threshold=0.5, max_detections=5)
        soft, lowered, soft_valid = ops.soft_nms(boxes, scores, max_detections=5)
        areas = ops.box_area(boxes[indices]) * valid
        return areas.sum() + 0 * (ops.box_area(boxes[soft]) * soft_valid).sum() + lowered.sum()

    by_boxes, by_scores = jax.jit(jax.grad(kept_area, argnums=(0, 1)))(BOXES, SCORES)
    assert (np.abs(by_boxes).sum(axis=1) > 0).tolist() == [False, True, False, True, True]
    np.testing.assert_array_equal(by_scores, 0)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_computed_in_float32(dtype):
    rng = np.random.default_rng(4)
    boxes = jnp.asarray(random_boxes(rng, 30, size=600), dtype)
    scores = jnp.asarray(rng.random(30), dtype)
    static = {"iou_threshold": 0.3, "max_detections": 30}
    np.testing.assert_array_equal(
        ops.nms(boxes, scores, **static),
        ops.nms(boxes.astype("f4"), scores.astype("f4"), **static),
    )


def test_double_precision_stays():
    with jax.enable_x64(True):
        # Equal in float32; in float64 the second has the higher score and overlaps a little more.
        boxes = np.array([[0, 0, 1, 1], [0, 0, 1, 1 + 1e-12], [0, 0.5, 1, 1.5]])
        scores = np.array([1, 1 + 1e-12, 0.5])
        indices, valid = ops.nms(boxes, scores, iou_threshold=1 / 3, max_detections=3)
        assert (indices.dtype, indices[valid].tolist()) == (jnp.int32, [1])


def test_the_tiles_follow_the_platform():
    traced = jax.jit(partial(ops.nms, iou_threshold=0.5, max_detections=100)).trace(
        jax.ShapeDtypeStruct((5000, 4), jnp.float32), jax.ShapeDtypeStruct((5000,), jnp.float32)
    )
    texts = {p: traced.lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "cuda", "tpu")}
    for platform, text in texts.items():
        assert ("256x256x" in text) == (platform == "cpu")
        assert ("4096x4096x" in text) == (platform != "cpu")


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
            jax.jit(partial(kernel, **static))(*arguments)
    with pytest.raises(AssertionError, match="scores is"):
        ops.soft_nms(BOXES, SCORES[None], max_detections=3)
    with pytest.raises(ValueError, match="method is 'cubic': choose gaussian or linear"):
        ops.soft_nms(BOXES, SCORES, max_detections=3, method="cubic")
    for kernel in (partial(ops.nms, iou_threshold=0.5), ops.soft_nms):
        with pytest.raises(ValueError, match="max_detections is 0: give at least 1"):
            kernel(BOXES, SCORES, max_detections=0)
    with pytest.raises(ValueError, match="max_candidates is 0"):
        ops.multiclass_nms(BOXES, SCORES[:, None], max_candidates=0, **static)
