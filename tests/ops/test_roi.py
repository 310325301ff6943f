"""Regions of interest: values and gradients against plain loops, also far outside of the map."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax.test_util import check_grads

from jaxvision.ops import roi
from jaxvision.testing import TRANSFORMS, check_finite_gradients, check_op
from tests.marks import slow_but
from tests.ops.boxes import HARD, random_boxes
from tests.ops.parity import import_torchvision
from tests.reference.ops import roi as reference

# On a map of 6 x 5 cells of 4 pixels: 20 pixels wide and 24 high.
BOXES = np.float32(
    [
        [2, 3, 17, 21],
        [0, 0, 20, 24],
        [-6, -3, 9, 5],  # over the corner
        [13, 18, 40, 29],
        [30, 30, 40, 40],  # outside
        [5, 5, 5, 5],  # a point
        [12, 9, 7, 3],  # inverted
        [0, 0, 0, 0],  # padding
        [1, 2, 1.5, 2.25],  # within one cell
        [-300, -500, 700, 800],
    ]
)
OPTIONS = [
    {"output_size": 2},
    {"output_size": (3, 1), "sampling_ratio": 1},
    {"output_size": (1, 4), "sampling_ratio": 3, "aligned": False},
    {"output_size": 2, "aligned": False},
]


def feature_map(shape=(6, 5, 3), *, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    values = rng.integers(-2, 3, shape) if ties else rng.normal(size=shape)
    return values.astype(np.float32)


def gradient_of(op):
    """(features, boxes, gradient) -> the features' gradient."""
    return lambda features, boxes, gradient: jax.vjp(lambda x: op(x, boxes), features)[1](gradient)[
        0
    ]


@pytest.mark.parametrize("options", slow_but(OPTIONS, OPTIONS[:1]))
def test_align_equals_the_reference_in_value_and_gradient(options):
    options = options | {"spatial_scale": 0.25}
    op, expected, expected_gradient = (
        functools.partial(f, **options)
        for f in (roi.roi_align, reference.roi_align, reference.roi_align_gradient)
    )
    features = feature_map()
    every = options["output_size"] == OPTIONS[0]["output_size"]
    transforms = TRANSFORMS if every else ("jit",)
    check_op(op, expected, features, BOXES, atol=1e-5, transforms=transforms)
    gradient = feature_map(op(features, BOXES).shape, seed=1)
    check_op(
        gradient_of(op),
        expected_gradient,
        features,
        BOXES,
        gradient,
        atol=1e-5,
        transforms=("jit", "vmap"),
    )


@pytest.mark.parametrize("shape", [(1, 1, 2), (1, 6, 2), (7, 1, 2)])
def test_align_on_maps_of_a_single_row_or_column(shape):
    features = feature_map(shape)
    options = {"output_size": 2, "spatial_scale": 0.25}
    expected = reference.roi_align(features, BOXES, **options)
    np.testing.assert_allclose(roi.roi_align(features, BOXES, **options), expected, atol=1e-5)
    gradient = feature_map(expected.shape, seed=1)
    np.testing.assert_allclose(
        gradient_of(functools.partial(roi.roi_align, **options))(features, BOXES, gradient),
        reference.roi_align_gradient(features, BOXES, gradient, **options),
        atol=1e-5,
    )


def test_align_by_hand():
    # The value at row y and column x is 10 y + x, linear: a sample has the value of its position.
    features = np.float32([[10 * y + x for x in range(4)] for y in range(4)])[..., None]
    box = np.float32([[1, 1, 3, 3]])
    options = {"output_size": (1, 2), "spatial_scale": 1}
    # Bins are 1 wide and 2 high; their centres are (1.5, 2) and (2.5, 2), less half a cell.
    np.testing.assert_allclose(roi.roi_align(features, box, **options)[0, 0, :, 0], [16, 17])
    unshifted = roi.roi_align(features, box, **options, aligned=False)
    np.testing.assert_allclose(unshifted[0, 0, :, 0], [21.5, 22.5])
    # A whole cell outside counts as 0, less than that as the border.
    for x, expected in ((-0.9, 0), (-1.1, 0), (3.9, 3), (4.1, 0)):
        point = np.float32([[x + 0.5, 0.5, x + 0.5, 0.5]])
        actual = roi.roi_align(features + 1, point, **options)[0, 0, 0, 0]
        assert actual == (expected + 1 if -1 <= x <= 4 else 0)


def test_align_in_several_chunks_counts_each_box_once():
    features = feature_map((9, 8, 2))
    for count in (32, 75):
        boxes = random_boxes(np.random.default_rng(count), count, size=9.0)
        gradient = feature_map((count, 2, 2, 2), seed=1)
        options = {"output_size": 2, "spatial_scale": 1.0}
        np.testing.assert_allclose(
            gradient_of(functools.partial(roi.roi_align, **options))(features, boxes, gradient),
            reference.roi_align_gradient(features, boxes, gradient, **options),
            rtol=1e-4,
            atol=1e-4,
        )


PYRAMID = [feature_map(shape, seed=n) for n, shape in enumerate([(8, 9, 3), (4, 5, 3), (2, 2, 3)])]
SCALES = (1 / 4, 1 / 8, 1 / 16)


def test_pyramid_equals_the_reference_in_value_and_gradient():
    rng = np.random.default_rng(3)
    boxes = np.concatenate([BOXES, random_boxes(rng, 8, size=30.0)])
    levels = rng.integers(0, 3, len(boxes)).astype(np.int32)
    options = {"output_size": (2, 3), "spatial_scales": SCALES, "aligned": False}

    def op(features, boxes, levels):
        return roi.multilevel_roi_align(features, boxes, levels=levels, **options)

    def gradients(features, boxes, levels, gradient):
        return jax.vjp(lambda x: op(x, boxes, levels), features)[1](gradient)[0]

    expected = functools.partial(reference.multilevel_roi_align, **options)
    check_op(op, expected, PYRAMID, boxes, levels, atol=1e-5)
    check_op(
        gradients,
        functools.partial(reference.multilevel_roi_align_gradient, **options),
        PYRAMID,
        boxes,
        levels,
        feature_map((len(boxes), 2, 3, 3), seed=4),
        atol=1e-5,
    )


def test_pyramid_finds_the_levels_itself_and_takes_the_nearest():
    boxes = np.float32([[0, 0, s, s] for s in (5, 111, 112, 223, 224, 900)])
    options = {"output_size": 2, "spatial_scales": SCALES}
    levels = roi.assign_levels(boxes, min_level=2, max_level=4) - 2
    np.testing.assert_array_equal(levels, [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(
        roi.multilevel_roi_align(PYRAMID, boxes, **options),
        roi.multilevel_roi_align(PYRAMID, boxes, levels=levels, **options),
    )
    np.testing.assert_array_equal(
        roi.multilevel_roi_align(PYRAMID, boxes, levels=levels * 9 - 5, **options),
        roi.multilevel_roi_align(PYRAMID, boxes, levels=np.clip(levels * 9 - 5, 0, 2), **options),
    )


def test_a_batch_of_images_by_vmap():
    rng = np.random.default_rng(5)
    features = feature_map((3, 6, 5, 2))
    boxes = np.stack([random_boxes(rng, 4, size=6.0) for _ in range(3)])
    gradient = feature_map((3, 4, 2, 2, 2), seed=6, ties=True)
    for op in (roi.roi_align, roi.roi_pool):
        op = functools.partial(op, output_size=2, spatial_scale=0.9)
        np.testing.assert_allclose(
            jax.vmap(op)(features, boxes),
            [op(*x) for x in zip(features, boxes, strict=True)],
            rtol=1e-6,
        )
        np.testing.assert_allclose(
            jax.jit(jax.vmap(gradient_of(op)))(features, boxes, gradient),
            [gradient_of(op)(*x) for x in zip(features, boxes, gradient, strict=True)],
            rtol=1e-5,
            atol=1e-6,
        )


def test_levels_equal_the_reference():
    sides = 224 * 2.0 ** np.arange(-4, 4)
    boxes = [[10, 20, 10 + a, 20 + b] for s in sides for a, b in ((s, s), (s / 2, 2 * s))]
    boxes = np.float32([*boxes, *HARD, *random_boxes(np.random.default_rng(7), 50, size=2000.0)])
    for options in (
        {"min_level": 2, "max_level": 5},
        {"min_level": 3, "max_level": 3},
        {"min_level": 1, "max_level": 9, "canonical_size": 100.0, "canonical_level": 6},
    ):
        check_op(roi.assign_levels, reference.assign_levels, boxes, **options)
    assert roi.assign_levels(boxes, min_level=2, max_level=5).dtype == jnp.int32


def test_levels_by_hand():
    # Sides of 112, 223, 224, 447, 448 and 1e6 pixels; a box without area is on the lowest.
    boxes = np.float32([[0, 0, s, s] for s in (112, 223, 224, 447, 448, 1e6)])
    levels = roi.assign_levels(boxes, min_level=2, max_level=5)
    np.testing.assert_array_equal(levels, [3, 3, 4, 4, 5, 5])
    np.testing.assert_array_equal(
        roi.assign_levels(boxes[:, [2, 3, 0, 1]], min_level=2, max_level=5), 2
    )


@pytest.mark.parametrize("output_size", [(3, 1), 7])
def test_pool_equals_the_reference_in_value_and_gradient(output_size):
    options = {"output_size": output_size, "spatial_scale": 0.25}
    op, expected, expected_gradient = (
        functools.partial(f, **options)
        for f in (roi.roi_pool, reference.roi_pool, reference.roi_pool_gradient)
    )
    features = feature_map(ties=True)
    # Op by op, and over devices, one size does for both.
    transforms = ("jit", "vmap") if output_size == 7 else TRANSFORMS
    check_op(op, expected, features, BOXES, transforms=transforms)
    gradient = feature_map(jax.eval_shape(op, features, BOXES).shape, seed=1)
    check_op(
        gradient_of(op),
        expected_gradient,
        features,
        BOXES,
        gradient,
        atol=1e-5,
        transforms=("jit", "vmap"),
    )


def test_pool_in_several_chunks():
    features = feature_map((9, 8, 2))
    for count in (16, 40):
        boxes = random_boxes(np.random.default_rng(count), count, size=9.0)
        options = {"output_size": 2, "spatial_scale": 1.0}
        np.testing.assert_array_equal(
            roi.roi_pool(features, boxes, **options),
            reference.roi_pool(features, boxes, **options).astype(np.float32),
        )


def test_pool_by_hand():
    features = np.arange(16, dtype=np.float32).reshape(4, 4, 1)
    # 0.5 and 2.5 round to 1 and 3: rows and columns 1 to 3, in bins of cells {1, 2} and {2, 3}.
    boxes = np.float32([[0.5, 0.5, 2.5, 2.5], [9, 9, 12, 12], [-2.5, 0, 0, 0]])
    pooled = roi.roi_pool(features, boxes, output_size=2, spatial_scale=1)[..., 0]
    np.testing.assert_array_equal(pooled[0], [[10, 11], [14, 15]])
    np.testing.assert_array_equal(pooled[1], 0)
    # -2.5 rounds to -3: the columns are -3 to 0, of which the second bin has one on the map.
    np.testing.assert_array_equal(pooled[2], [[0, 0], [0, 0]])
    shifted = roi.roi_pool(features - 9, boxes[2:], output_size=2, spatial_scale=1)
    np.testing.assert_array_equal(shifted[0, :, :, 0], [[0, -9], [0, -9]])


# Eighths and powers of 2: float32 has the same positions as the reference, also at the borders,
# where samples start to count.
_EIGHTHS = st.integers(-200, 400).map(lambda x: x / 8)
_ANY = arrays(
    np.float32, (3, 4), elements=st.one_of(_EIGHTHS, st.sampled_from([1e6, -1e6, 0, 20, 24]))
)
_FEATURES = feature_map(ties=True)
_OPS = {
    name: jax.jit(functools.partial(getattr(roi, name), output_size=2, spatial_scale=0.25))
    for name in ("roi_align", "roi_pool")
}
_GRADIENTS = {
    name: jax.jit(jax.grad(lambda x, b, op=op: (op(x, b) ** 2).sum(), argnums=(0, 1)))
    for name, op in _OPS.items()
}


@pytest.mark.parametrize("name", _OPS)
@settings(deadline=None, derandomize=True, max_examples=50)
@given(boxes=_ANY)
def test_any_boxes_equal_the_reference(name, boxes):
    actual = _OPS[name](_FEATURES, boxes)
    expected = getattr(reference, name)(_FEATURES, boxes, output_size=2, spatial_scale=0.25)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    gradient, of_boxes = _GRADIENTS[name](_FEATURES, boxes)
    slow = getattr(reference, f"{name}_gradient")
    np.testing.assert_allclose(
        gradient,
        slow(_FEATURES, boxes, 2 * expected, output_size=2, spatial_scale=0.25),
        rtol=1e-4,
        atol=1e-4,
    )
    np.testing.assert_array_equal(of_boxes, 0)


@pytest.mark.parametrize("name", _OPS)
def test_hard_boxes_give_finite_values_and_gradients(name):
    op = getattr(roi, name)
    for options in ({}, {"aligned": False}) if name == "roi_align" else ({},):
        pool = functools.partial(op, output_size=3, spatial_scale=1 / 16, **options)
        assert np.isfinite(pool(_FEATURES, HARD)).all()
        check_finite_gradients(pool, _FEATURES, HARD, argnums=(0, 1))


def test_no_boxes():
    empty = np.zeros((0, 4), np.float32)
    for op in (roi.roi_align, roi.roi_pool):
        op = functools.partial(op, output_size=(2, 3), spatial_scale=1.0)
        assert op(_FEATURES, empty).shape == (0, 2, 3, 3)
        np.testing.assert_array_equal(jax.grad(lambda x, op=op: op(x, empty).sum())(_FEATURES), 0)
    assert roi.assign_levels(empty, min_level=2, max_level=5).shape == (0,)


def test_gradients_equal_finite_differences():
    with jax.enable_x64(True):
        features = np.random.default_rng(8).permutation(60).reshape(6, 5, 2) / 10.0
        boxes = BOXES.astype(np.float64)
        for op in (roi.roi_align, roi.roi_pool):
            op = jax.jit(functools.partial(op, output_size=2, spatial_scale=0.25))
            check_grads(lambda x, op=op: op(x, boxes), (features,), order=1, modes=["rev"])
            assert op(features, boxes).dtype == jnp.float64
        expected = reference.roi_align(features, boxes, output_size=2, spatial_scale=0.3)
        actual = roi.roi_align(features, boxes, output_size=2, spatial_scale=0.3)
        np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    features = jnp.asarray(feature_map(), dtype)
    boxes = jnp.asarray(BOXES[:4], dtype)
    for op in (roi.roi_align, roi.roi_pool):
        op = functools.partial(op, output_size=2, spatial_scale=0.25)
        expected, back = jax.vjp(lambda x, op=op: op(x, boxes.astype("f4")), features.astype("f4"))
        actual, ours = jax.vjp(lambda x, op=op: op(x, boxes), features)
        np.testing.assert_array_equal(actual, expected.astype(dtype))
        ones = jnp.ones_like(expected)
        np.testing.assert_array_equal(ours(ones.astype(dtype))[0], back(ones)[0].astype(dtype))


def test_wrong_shapes_and_dtypes_name_the_argument():
    features = feature_map()
    for op in (roi.roi_align, roi.roi_pool):
        op = jax.jit(functools.partial(op, output_size=2, spatial_scale=1.0))
        for bad in (features[0], features[None], features > 0):
            with pytest.raises(AssertionError, match="features is "):
                op(bad, BOXES)
        with pytest.raises(AssertionError, match=r"features is .* no cells"):
            op(features[:, :0], BOXES)
        for bad in (BOXES[0], BOXES[:, :3], BOXES.astype(int)):
            with pytest.raises(AssertionError, match="boxes is "):
                op(features, bad)
    with pytest.raises(AssertionError, match="boxes is "):
        roi.assign_levels(BOXES.astype(int), min_level=2, max_level=5)
    pyramid = functools.partial(
        roi.multilevel_roi_align, output_size=2, spatial_scales=SCALES, boxes=BOXES
    )
    with pytest.raises(AssertionError, match=r"features\[1\] is float32\[8, 9, 2\]"):
        pyramid([PYRAMID[0], PYRAMID[0][..., :2], PYRAMID[2]])
    for bad in (np.zeros(len(BOXES)), np.zeros(3, int)):
        with pytest.raises(AssertionError, match="levels is "):
            pyramid(PYRAMID, levels=bad)


def test_wrong_options_are_named():
    features = feature_map()
    for op in (roi.roi_align, roi.roi_pool):
        for bad in ({"output_size": 0}, {"spatial_scale": 0.0}, {"spatial_scale": float("nan")}):
            with pytest.raises(ValueError, match=f"{next(iter(bad))} is "):
                op(features, BOXES, **({"output_size": 2, "spatial_scale": 1.0} | bad))
    for ratio in (-1, 0, 1.5, True):
        with pytest.raises(ValueError, match=f"sampling_ratio is {ratio}"):
            roi.roi_align(features, BOXES, output_size=2, spatial_scale=1.0, sampling_ratio=ratio)
    with pytest.raises(ValueError, match="max_level is 1"):
        roi.assign_levels(BOXES, min_level=2, max_level=1)
    with pytest.raises(ValueError, match="canonical_size is -1"):
        roi.assign_levels(BOXES, min_level=2, max_level=5, canonical_size=-1)
    for scales, message in (
        (SCALES[:2], "spatial_scales has 2 numbers for 3 maps"),
        ((0.25, 0.1, 0.05), "give levels"),
        ((0.25, 0.0625, 0.03125), "give levels"),
        ((0.25, 0.125, -1), "spatial_scales is -1"),
    ):
        with pytest.raises(ValueError, match=message):
            roi.multilevel_roi_align(PYRAMID, BOXES, output_size=2, spatial_scales=scales)


@pytest.mark.parity
@pytest.mark.parametrize("options", OPTIONS)
def test_align_equals_torchvision(options):
    torch, theirs = import_torchvision("ops.roi_align")
    features = feature_map((9, 12, 3)).astype(np.float64)
    # On the map: its form in Python does not leave out the samples far outside, the compiled does.
    boxes = random_boxes(np.random.default_rng(9), 20, size=24.0, dtype=np.float64)
    options = {"sampling_ratio": 2, "aligned": True} | options
    height, width = np.broadcast_to(options["output_size"], 2)
    there = torch.tensor(features).permute(2, 0, 1)[None].requires_grad_()
    indexed = torch.tensor(np.insert(boxes, 0, 0, axis=1))
    # Undecorated, as the decorator compiles it.
    expected = theirs._roi_align.__wrapped__(
        there, indexed, 0.25, int(height), int(width), options["sampling_ratio"], options["aligned"]
    )
    gradient = np.random.default_rng(10).normal(size=expected.shape)
    expected.backward(torch.tensor(gradient))
    with jax.enable_x64(True):
        op = functools.partial(roi.roi_align, spatial_scale=0.25, **options)
        actual, back = jax.vjp(lambda x: op(x, boxes), features)
        np.testing.assert_allclose(
            np.moveaxis(actual, -1, 1), expected.detach().numpy(), rtol=1e-9, atol=1e-9
        )
        np.testing.assert_allclose(
            back(np.moveaxis(gradient, 1, -1))[0],
            there.grad[0].permute(1, 2, 0).numpy(),
            rtol=1e-9,
            atol=1e-9,
        )


@pytest.mark.parity
def test_levels_equal_torchvision():
    torch, poolers = import_torchvision("ops.poolers")
    boxes = random_boxes(np.random.default_rng(11), 500, size=2000.0)
    exact = [[0, 0, 224 * 2.0**n, 224 * 2.0**n] for n in range(-4, 4)]
    boxes = np.concatenate([boxes, np.float32(exact)])
    expected = poolers.LevelMapper(2, 5)([torch.tensor(boxes)])
    np.testing.assert_array_equal(
        roi.assign_levels(boxes, min_level=2, max_level=5), expected.numpy() + 2
    )
