"""Boxes and the IoU family: against plain loops, on every kind of degenerate box."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from jax.test_util import check_grads

from jaxvision import ops
from jaxvision.testing import check_finite_gradients
from tests.marks import slow_but
from tests.ops.boxes import HARD, any_boxes, random_boxes
from tests.ops.compiled import Case, check_cases, compiled
from tests.reference.ops import boxes as reference

MEASURES = ["box_iou", "generalized_box_iou", "distance_box_iou", "complete_box_iou"]
ELEMENTWISE = [f"elementwise_{name}" for name in MEASURES]
WITH_AREA = reference.box_area(HARD) > 0


def test_measures_equal_the_reference():
    """Of all pairs and of counterparts, where there is no box, and with any leading axes."""
    rng = np.random.default_rng(0)
    some, others = random_boxes(rng, 5), random_boxes(rng, 7)
    boxes1, boxes2 = np.repeat(HARD, len(HARD), 0), np.tile(HARD, (len(HARD), 1))
    # A box of 1e6 by 1e-6 leaves 1e-6 of relative error in its sides.
    hard = {"rtol": 2e-5, "atol": 2e-6}
    cases = {}
    for name in MEASURES:
        pair = getattr(ops, name), getattr(reference, name)
        cases[name, "hard"] = Case(*pair, (HARD, HARD), **hard)
    for name in ("box_iou", "complete_box_iou"):
        pair = getattr(ops, name), getattr(reference, name)
        cases[name, "some"] = Case(*pair, (some, others))
        cases[name, "no first"] = Case(*pair, (HARD[:0], HARD))
        cases[name, "no second"] = Case(*pair, (HARD, HARD[:0]))
    for name in ELEMENTWISE:
        pair = getattr(ops, name), getattr(reference, name)
        cases[name, "hard"] = Case(*pair, (boxes1, boxes2), **hard)
    found = check_cases({" ".join(key): case for key, case in cases.items()})
    assert {x.dtype.name for x in found.values()} == {"float32"}


def test_elementwise_measures_take_any_leading_axes():
    boxes = random_boxes(np.random.default_rng(1), 12)

    @jax.jit
    def run(boxes):
        def all_of(a, b):
            return jnp.stack([getattr(ops, name)(a, b) for name in ELEMENTWISE])

        grid = all_of(boxes.reshape(2, 6, 4), boxes[::-1].reshape(2, 6, 4))
        return grid, all_of(boxes, boxes[::-1]), all_of(boxes[0], boxes[1])

    grid, row, one = run(boxes)
    np.testing.assert_allclose(grid, row.reshape(4, 2, 6), rtol=1e-6)
    assert one.shape == (4,)


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

    @jax.jit
    def run(a, b):
        return {
            name: (getattr(ops, name)(a[None], b[None]), getattr(ops, f"elementwise_{name}")(a, b))
            for name in by_hand
        }

    for name, (pairs, counterparts) in run(a, b).items():
        np.testing.assert_allclose(pairs, [[by_hand[name]]], rtol=1e-5)
        np.testing.assert_allclose(counterparts, by_hand[name], rtol=1e-5)


@pytest.mark.parametrize("name", slow_but(MEASURES, ["complete_box_iou"]))
def test_boxes_without_area_give_0_and_no_gradient(name):
    @jax.jit
    def gradients_and_values(*boxes):
        def total(*boxes):
            values = getattr(ops, name)(*boxes)
            return values.sum(), values

        return jax.grad(total, argnums=(0, 1), has_aux=True)(*boxes)

    gradients, values = jax.device_get(gradients_and_values(HARD, HARD))
    np.testing.assert_array_equal(values[~WITH_AREA], 0)
    np.testing.assert_array_equal(values[:, ~WITH_AREA], 0)
    for gradient in gradients:
        assert np.isfinite(gradient).all()
        np.testing.assert_array_equal(gradient[~WITH_AREA], 0)
        if name != "box_iou":  # where two boxes do not overlap, the others still pull
            assert np.abs(gradient[WITH_AREA]).sum(axis=1).min() > 0


@pytest.mark.long
def test_the_gradient_of_complete_box_iou_leaves_alpha_out():
    """It is that of a form with alpha held fixed, which finite differences confirm."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(2)
        # Sizes of about 1 at positions far from each other's borders; some pairs are disjoint.
        boxes1, boxes2 = (random_boxes(rng, 6, size=4.0, dtype=np.float64) for _ in range(2))
        plain, distance = (
            reference.elementwise(f)(boxes1, boxes2)
            for f in (reference.iou, reference.distance_iou)
        )
        v = 1e-300 + np.asarray(_aspect_term(boxes1, boxes2))
        alpha = v / (1 - plain + v)

        def fixed_alpha(boxes1, boxes2):
            distance = ops.elementwise_distance_box_iou(boxes1, boxes2)
            return distance - alpha * _aspect_term(boxes1, boxes2)

        @jax.jit
        def gradients(*boxes):
            functions = ops.elementwise_complete_box_iou, fixed_alpha
            return [
                jax.value_and_grad(lambda *b, f=f: f(*b).sum(), argnums=(0, 1))(*boxes)
                for f in functions
            ]

        expected = (distance - alpha * v).sum()
        (value, actual), (_, by_fixed) = gradients(boxes1, boxes2)
        np.testing.assert_allclose(value, expected, rtol=1e-9)
        for found, wanted in zip(actual, by_fixed, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)
        check_grads(jax.jit(fixed_alpha), (boxes1, boxes2), order=1, modes=["rev"])


def _aspect_term(boxes1, boxes2):
    angle1, angle2 = (
        jnp.arctan((b[:, 2] - b[:, 0]) / (b[:, 3] - b[:, 1])) for b in (boxes1, boxes2)
    )
    return 4 / np.pi**2 * (angle1 - angle2) ** 2


@jax.jit
def _all(boxes1, boxes2):
    """All measures of pairs, and the gradients of their sum by both."""

    def total(a, b):
        values = jnp.stack([getattr(ops, name)(a, b) for name in MEASURES])
        return values.sum(), values

    gradients, values = jax.grad(total, argnums=(0, 1), has_aux=True)(boxes1, boxes2)
    return values, gradients


_IOU = jax.jit(ops.box_iou)


@pytest.mark.long
@settings(deadline=None, derandomize=True, max_examples=50)
@given(any_boxes(4), any_boxes(3))
def test_any_boxes_give_bounded_values_and_finite_gradients(boxes1, boxes2):
    (iou, generalized, distance, complete), gradients = _all(boxes1, boxes2)
    slack = 1e-5
    for values, least in ((iou, 0), (generalized, -1), (distance, -1), (complete, -2)):
        assert values.min() >= least - slack
        assert values.max() <= 1 + slack
    np.testing.assert_allclose(_IOU(boxes2, boxes1).T, iou, rtol=1e-6, err_msg="symmetry")
    assert all(np.isfinite(g).all() for g in gradients)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(any_boxes(4, magnitude=100), any_boxes(3, magnitude=100))
def test_iou_of_any_boxes_equals_the_reference(boxes1, boxes2):
    expected = reference.box_iou(boxes1, boxes2)
    # Differences of nearly equal coordinates keep no digits; compare where the sides have some.
    sides = [np.abs(b[:, 2:].astype("f8") - b[:, :2]).min(axis=1) > 1e-3 for b in (boxes1, boxes2)]
    sound = sides[0][:, None] & sides[1][None]
    actual = np.asarray(_IOU(boxes1, boxes2))
    np.testing.assert_allclose(actual[sound], expected[sound], rtol=1e-3, atol=1e-4)


def test_convert_equals_the_reference_and_its_inverse():
    boxes = np.concatenate([HARD, random_boxes(np.random.default_rng(3), 9)])
    pair = ops.box_convert, reference.box_convert
    check_cases(
        {
            f"{one} to {other}": Case(*pair, (boxes,), {"in_fmt": one, "out_fmt": other}, rtol=1e-6)
            for one, other in itertools.product(ops.FORMATS, repeat=2)
        }
    )
    boxes = random_boxes(np.random.default_rng(4), 9)

    @jax.jit
    def there_and_back(boxes):
        return [
            ops.box_convert(ops.box_convert(boxes, one, other), other, one)
            for one, other in itertools.product(ops.FORMATS, repeat=2)
        ]

    for again in there_and_back(boxes):
        np.testing.assert_allclose(again, boxes, rtol=1e-5)


def test_convert_by_hand():
    by_hand = {
        ("xyxy", "cxcywh"): [5, 4.5, 6, 1],
        ("xywh", "xyxy"): [2, 4, 10, 9],
        ("cxcywh", "xywh"): [-2, 1.5, 8, 5],
    }
    run = jax.jit(lambda box: [ops.box_convert(box, *formats) for formats in by_hand])
    np.testing.assert_array_equal(run(np.float32([2, 4, 8, 5])), list(by_hand.values()))


def test_convert_in_half_precision_does_not_overflow():
    box = jnp.asarray([60_000, 60_000, 64_000, 64_000], jnp.float16)
    centred = compiled(ops.box_convert)(box, "xyxy", "cxcywh")
    np.testing.assert_array_equal(centred, np.float16([62_000, 62_000, 4_000, 4_000]))


@pytest.mark.parametrize(("in_fmt", "out_fmt"), [("xyxy", "yxyx"), ("ltrb", "xyxy")])
def test_convert_names_an_unknown_format(in_fmt, out_fmt):
    with pytest.raises(ValueError, match=r"fmt is .* choose one of xyxy, xywh, cxcywh"):
        ops.box_convert(HARD, in_fmt, out_fmt)


def test_area_and_clip_equal_the_reference():
    clip = ops.clip_boxes_to_image, reference.clip_boxes_to_image
    sizes = np.int32([3, 7]), np.float32([2.5, 1e6])
    check_cases(
        {
            "area": Case(ops.box_area, reference.box_area, (HARD,)),
            "clip to integers": Case(*clip, (HARD, sizes[0])),
            "clip to numbers": Case(*clip, (HARD, sizes[1])),
        }
    )

    def clipped(boxes):
        return [ops.clip_boxes_to_image(boxes, size) for size in (*sizes, (10, 20))]

    check_finite_gradients(clipped, HARD)
    # The height comes first.
    box = np.float32([[-5, -5, 50, 50]])
    np.testing.assert_array_equal(jax.jit(clipped)(box)[2], [[0, 0, 20, 10]])


def test_half_precision_is_computed_in_float32():
    boxes = random_boxes(np.random.default_rng(5), 6, size=900)

    @jax.jit
    def run(boxes):
        return jnp.stack([getattr(ops, name)(boxes, boxes) for name in MEASURES])

    for dtype in (jnp.bfloat16, jnp.float16):
        half = np.asarray(boxes, dtype)
        np.testing.assert_array_equal(run(half), run(half.astype("f4")))


def test_double_precision_stays():
    with jax.enable_x64(True):
        boxes = random_boxes(np.random.default_rng(6), 6, dtype=np.float64)
        check_cases(
            {
                name: Case(
                    getattr(ops, name),
                    getattr(reference, name),
                    (boxes, boxes),
                    rtol=1e-12,
                    atol=1e-14,
                )
                for name in MEASURES
            }
        )


@pytest.mark.parametrize("name", MEASURES + ELEMENTWISE)
def test_wrong_shapes_and_dtypes_name_the_argument(name):
    measure = getattr(ops, name)
    for bad in (HARD[:, :3], HARD.astype(int), HARD > 0):
        with pytest.raises(AssertionError, match="boxes1 is "):
            jax.eval_shape(measure, bad, HARD)
        with pytest.raises(AssertionError, match="boxes2 is "):
            jax.eval_shape(measure, HARD, bad)
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
