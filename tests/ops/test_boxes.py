"""Boxes and the IoU family: against plain loops, on every kind of degenerate box."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from jax.test_util import check_grads

from jaxvision import ops
from jaxvision.testing import check_finite_gradients, check_op
from tests.marks import slow_but
from tests.ops.boxes import HARD, any_boxes, random_boxes
from tests.reference.ops import boxes as reference

MEASURES = ["box_iou", "generalized_box_iou", "distance_box_iou", "complete_box_iou"]
ELEMENTWISE = [f"elementwise_{name}" for name in MEASURES]
WITH_AREA = reference.box_area(HARD) > 0


@pytest.mark.parametrize("name", MEASURES)
def test_measures_of_all_pairs_equal_the_reference(name):
    rng = np.random.default_rng(0)
    pair = getattr(ops, name), getattr(reference, name)
    # A box of 1e6 by 1e-6 leaves 1e-6 of relative error in its sides.
    check_op(*pair, HARD, HARD, rtol=2e-5, atol=2e-6)
    check_op(*pair, random_boxes(rng, 5), random_boxes(rng, 7), transforms=["jit"])
    for empty in ((HARD[:0], HARD), (HARD, HARD[:0])):
        check_op(*pair, *empty, transforms=["eager", "pmap"])


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_measures_of_counterparts_equal_the_reference(name):
    boxes1, boxes2 = np.repeat(HARD, len(HARD), 0), np.tile(HARD, (len(HARD), 1))
    check_op(getattr(ops, name), getattr(reference, name), boxes1, boxes2, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_measures_take_any_leading_axes(name):
    boxes = random_boxes(np.random.default_rng(1), 12)
    measure = getattr(ops, name)
    grid = measure(boxes.reshape(2, 6, 4), boxes[::-1].reshape(2, 6, 4))
    np.testing.assert_array_equal(grid, measure(boxes, boxes[::-1]).reshape(2, 6))
    assert measure(boxes[0], boxes[1]).shape == ()


def test_by_hand():
    # Overlap 1 x 2 = 2, union 6 + 9 - 2 = 13, hull 4 x 4 = 16, centres (1, 1.5) and (2.5, 2.5).
    a, b = np.float32([0, 0, 2, 3]), np.float32([1, 1, 4, 4])
    distance = (1.5**2 + 1**2) / (4**2 + 4**2)
    v = 4 / np.pi**2 * (np.arctan(1) - np.arctan(2 / 3)) ** 2
    by_hand = {
        "box_iou": 2 / 13,
        "generalized_box_iou": 2 / 13 - 3 / 16,
        "distance_box_iou": 2 / 13 - distance,
        "complete_box_iou": 2 / 13 - distance - v / (11 / 13 + v) * v,
    }
    for name, value in by_hand.items():
        np.testing.assert_allclose(getattr(ops, name)(a[None], b[None]), [[value]], rtol=1e-5)
        np.testing.assert_allclose(getattr(ops, f"elementwise_{name}")(a, b), value, rtol=1e-5)


@pytest.mark.parametrize("name", slow_but(MEASURES, ["box_iou", "complete_box_iou"]))
def test_boxes_without_area_give_0_and_no_gradient(name):
    measure = getattr(ops, name)

    @jax.jit
    def values_and_gradients(*boxes):
        gradients = jax.grad(lambda *boxes: measure(*boxes).sum(), argnums=(0, 1))(*boxes)
        return measure(*boxes), gradients

    values, gradients = values_and_gradients(HARD, HARD)
    assert values.dtype == jnp.float32
    np.testing.assert_array_equal(values[~WITH_AREA], 0)
    np.testing.assert_array_equal(values[:, ~WITH_AREA], 0)
    for gradient in jax.device_get(gradients):
        assert np.isfinite(gradient).all()
        np.testing.assert_array_equal(gradient[~WITH_AREA], 0)
        if name != "box_iou":  # where two boxes do not overlap, the others still pull
            assert np.abs(gradient[WITH_AREA]).sum(axis=1).min() > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_gradients_equal_finite_differences(name):
    with jax.enable_x64(True):
        rng = np.random.default_rng(2)
        # Sizes of about 1 at positions far from each other's borders; some pairs are disjoint.
        boxes1, boxes2 = (random_boxes(rng, 6, size=4.0, dtype=np.float64) for _ in range(2))

        def measure(boxes1, boxes2):
            return getattr(ops, name)(boxes1, boxes2)

        if name == "elementwise_complete_box_iou":
            # The gradient leaves alpha out: hold it fixed in the differences too.
            plain, distance = (
                reference.elementwise(f)(boxes1, boxes2)
                for f in (reference.iou, reference.distance_iou)
            )
            v = 1e-300 + _aspect_term(boxes1, boxes2)
            alpha = v / (1 - plain + v)
            np.testing.assert_allclose(distance - alpha * v, measure(boxes1, boxes2), rtol=1e-9)

            def fixed_alpha(boxes1, boxes2):
                distance = ops.elementwise_distance_box_iou(boxes1, boxes2)
                return distance - alpha * _aspect_term(boxes1, boxes2)

            check_grads(jax.jit(fixed_alpha), (boxes1, boxes2), order=1, modes=["rev"])
            for argnum in (0, 1):
                gradients = [
                    jax.grad(lambda *b, f=f: f(*b).sum(), argnums=argnum)(boxes1, boxes2)
                    for f in (measure, fixed_alpha)
                ]
                np.testing.assert_allclose(*gradients, rtol=1e-9, atol=1e-12)
        else:
            check_grads(jax.jit(measure), (boxes1, boxes2), order=1, modes=["rev"])


def _aspect_term(boxes1, boxes2):
    angle1, angle2 = (
        jnp.arctan((b[:, 2] - b[:, 0]) / (b[:, 3] - b[:, 1])) for b in (boxes1, boxes2)
    )
    return 4 / np.pi**2 * (angle1 - angle2) ** 2


_ALL = jax.jit(lambda a, b: jnp.stack([getattr(ops, name)(a, b) for name in MEASURES]))
_ALL_GRADIENTS = jax.jit(jax.grad(lambda a, b: _ALL(a, b).sum(), argnums=(0, 1)))


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=50)
@given(any_boxes(4), any_boxes(3))
def test_any_boxes_give_bounded_values_and_finite_gradients(boxes1, boxes2):
    iou, generalized, distance, complete = _ALL(boxes1, boxes2)
    slack = 1e-5
    for values, least in ((iou, 0), (generalized, -1), (distance, -1), (complete, -2)):
        assert values.min() >= least - slack
        assert values.max() <= 1 + slack
    np.testing.assert_allclose(
        jax.jit(ops.box_iou)(boxes2, boxes1).T, iou, rtol=1e-6, err_msg="symmetry"
    )
    assert all(np.isfinite(g).all() for g in _ALL_GRADIENTS(boxes1, boxes2))


@settings(deadline=None, derandomize=True, max_examples=50)
@given(any_boxes(4, magnitude=100), any_boxes(3, magnitude=100))
def test_iou_of_any_boxes_equals_the_reference(boxes1, boxes2):
    expected = reference.box_iou(boxes1, boxes2)
    # Differences of nearly equal coordinates keep no digits; compare where the sides have some.
    sides = [np.abs(b[:, 2:].astype("f8") - b[:, :2]).min(axis=1) > 1e-3 for b in (boxes1, boxes2)]
    sound = sides[0][:, None] & sides[1][None]
    actual = np.asarray(jax.jit(ops.box_iou)(boxes1, boxes2))
    np.testing.assert_allclose(actual[sound], expected[sound], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("in_fmt", ops.FORMATS)
@pytest.mark.parametrize("out_fmt", ops.FORMATS)
def test_convert_equals_the_reference_and_its_inverse(in_fmt, out_fmt):
    boxes = np.concatenate([HARD, random_boxes(np.random.default_rng(3), 9)])
    check_op(
        ops.box_convert, reference.box_convert, boxes, in_fmt=in_fmt, out_fmt=out_fmt, rtol=1e-6
    )
    boxes = random_boxes(np.random.default_rng(4), 9)
    there = ops.box_convert(boxes, in_fmt, out_fmt)
    np.testing.assert_allclose(ops.box_convert(there, out_fmt, in_fmt), boxes, rtol=1e-5)


def test_convert_by_hand():
    box = np.float32([2, 4, 8, 5])
    np.testing.assert_array_equal(ops.box_convert(box, "xyxy", "cxcywh"), [5, 4.5, 6, 1])
    np.testing.assert_array_equal(ops.box_convert(box, "xywh", "xyxy"), [2, 4, 10, 9])
    np.testing.assert_array_equal(ops.box_convert(box, "cxcywh", "xywh"), [-2, 1.5, 8, 5])


def test_convert_in_half_precision_does_not_overflow():
    box = jnp.asarray([60_000, 60_000, 64_000, 64_000], jnp.float16)
    np.testing.assert_array_equal(
        ops.box_convert(box, "xyxy", "cxcywh"), np.float16([62_000, 62_000, 4_000, 4_000])
    )


@pytest.mark.parametrize(("in_fmt", "out_fmt"), [("xyxy", "yxyx"), ("ltrb", "xyxy")])
def test_convert_names_an_unknown_format(in_fmt, out_fmt):
    with pytest.raises(ValueError, match=r"fmt is .* choose one of xyxy, xywh, cxcywh"):
        ops.box_convert(HARD, in_fmt, out_fmt)


@pytest.mark.parametrize("size", [np.int32([3, 7]), np.float32([2.5, 1e6])])
def test_area_and_clip_equal_the_reference(size):
    check_op(ops.box_area, reference.box_area, HARD)
    check_op(ops.clip_boxes_to_image, reference.clip_boxes_to_image, HARD, size)
    check_finite_gradients(lambda boxes: ops.clip_boxes_to_image(boxes, size), HARD)


def test_clip_takes_the_height_first():
    box = np.float32([[-5, -5, 50, 50]])
    np.testing.assert_array_equal(ops.clip_boxes_to_image(box, (10, 20)), [[0, 0, 20, 10]])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_computed_in_float32(dtype):
    boxes = jnp.asarray(random_boxes(np.random.default_rng(5), 6, size=900), dtype)
    for name in MEASURES:
        measure = getattr(ops, name)
        np.testing.assert_array_equal(
            measure(boxes, boxes), measure(boxes.astype("f4"), boxes.astype("f4"))
        )


def test_double_precision_stays():
    with jax.enable_x64(True):
        boxes = random_boxes(np.random.default_rng(6), 6, dtype=np.float64)
        for name in MEASURES:
            actual = getattr(ops, name)(boxes, boxes)
            expected = getattr(reference, name)(boxes, boxes)
            np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", MEASURES + ELEMENTWISE)
def test_wrong_shapes_and_dtypes_name_the_argument(name):
    measure = getattr(ops, name)
    for bad in (HARD[:, :3], HARD.astype(int), HARD > 0):
        with pytest.raises(AssertionError, match="boxes1 is "):
            jax.jit(measure)(bad, HARD)
        with pytest.raises(AssertionError, match="boxes2 is "):
            jax.jit(measure)(HARD, bad)
    with pytest.raises(AssertionError, match=r"boxes[12] is float32\["):
        measure(HARD[0], np.stack([HARD, HARD]))


def test_wrong_arguments_of_the_rest_are_named():
    with pytest.raises(AssertionError, match=r"boxes is int32\[2, 4\]: give float\[..., 4\]"):
        ops.box_area(np.zeros((2, 4), np.int32))
    with pytest.raises(AssertionError, match=r"boxes is float32\[3\]: give float\[..., 4\]"):
        ops.box_convert(np.zeros(3, "f4"), "xyxy", "xywh")
    with pytest.raises(AssertionError, match=r"boxes is float32\[\]: give float\[..., 4\]"):
        ops.box_area(np.float32(3))
    with pytest.raises(AssertionError, match=r"size is int32\[3\]: give number\[2\]"):
        ops.clip_boxes_to_image(HARD, (1, 2, 3))
