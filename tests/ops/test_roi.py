"""Regions of interest: values and gradients against plain loops, also far outside of the map."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxvision.ops import roi
from tests.marks import long_but, slow_but
from tests.ops.boxes import HARD, random_boxes
from tests.ops.compiled import Case, check_cases, compiled
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


def check_values_and_gradients(cases):
    """Of name -> (name of an operator, features, boxes, options), all in one program."""
    gradients = {}
    for name, (op, features, boxes, options) in cases.items():
        shape = getattr(reference, op)(features, boxes, **options).shape
        gradients[name] = feature_map(shape, seed=1)

    @jax.jit
    def run(gradients):
        results = {}
        for name, (op, features, boxes, options) in cases.items():
            kernel = functools.partial(getattr(roi, op), **options)
            value, back = jax.vjp(lambda x, f=kernel, b=boxes: f(x, b), jnp.asarray(features))
            results[name] = value, back(gradients[name])[0]
        return results

    for name, (value, gradient) in run(gradients).items():
        op, *arguments, options = cases[name]
        expected = getattr(reference, op)(*arguments, **options)
        atol = 1e-6 if op == "roi_pool" else 1e-5
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=atol, err_msg=name)
        slow = getattr(reference, f"{op}_gradient")
        expected = slow(*arguments, gradients[name], **options)
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5, err_msg=name)


PLAIN = {"output_size": 2, "spatial_scale": 0.25}
ALIGN = {
    str(options): ("roi_align", feature_map(), BOXES, options | {"spatial_scale": 0.25})
    for options in OPTIONS
}
ALIGN["a row"] = ("roi_align", feature_map((1, 6, 2)), BOXES, PLAIN)
ALIGN["a column"] = ("roi_align", feature_map((7, 1, 2)), BOXES, PLAIN)
ALIGN["a cell"] = ("roi_align", feature_map((1, 1, 2)), BOXES, PLAIN)
QUICK = [str(OPTIONS[2])]


@pytest.mark.parametrize(
    "names",
    [QUICK, pytest.param([name for name in ALIGN if name not in QUICK], marks=pytest.mark.slow)],
    ids=["quick", "others"],
)
def test_align_equals_the_reference_in_value_and_gradient(names):
    """With every option, and on maps of a single row or column."""
    check_values_and_gradients({name: ALIGN[name] for name in names})


def test_align_by_hand():
    # The value at row y and column x is 10 y + x, linear: a sample has the value of its position.
    features = np.float32([[10 * y + x for x in range(4)] for y in range(4)])[..., None]
    # A whole cell outside counts as 0, less than that as the border; to be seen, 1 is added.
    ends = {-0.9: 1, -1.1: 0, 3.9: 4, 4.1: 0}
    points = [[x + 0.5, 0.5, x + 0.5, 0.5] for x in ends]
    options = {"output_size": (1, 2), "spatial_scale": 1}

    @jax.jit
    def run(features, boxes):
        shifted = roi.roi_align(features + 1, boxes, **options)
        return shifted[..., 0], roi.roi_align(features, boxes[:1], **options, aligned=False)

    boxes = np.float32([[1, 1, 3, 3], *points])
    aligned, unshifted = jax.device_get(run(features, boxes))
    # Bins are 1 wide and 2 high; their centres are (1.5, 2) and (2.5, 2), less half a cell.
    np.testing.assert_allclose(aligned[0, 0], [16 + 1, 17 + 1])
    np.testing.assert_allclose(unshifted[0, 0, :, 0], [21.5, 22.5])
    np.testing.assert_array_equal(aligned[1:, 0, 0], list(ends.values()))


CHUNKS = [("roi_align", 75), ("roi_align", 32), ("roi_pool", 40), ("roi_pool", 16)]


@pytest.mark.parametrize(("name", "count"), slow_but(CHUNKS, CHUNKS[:1]))
def test_several_chunks_count_each_box_once(name, count):
    """Of the last chunks some are not full, and some are."""
    features = feature_map((9, 8, 2))
    boxes = random_boxes(np.random.default_rng(count), count, size=9.0)
    gradient = feature_map((count, 2, 2, 2), seed=1)
    options = {"output_size": 2, "spatial_scale": 1.0}
    op = functools.partial(getattr(roi, name), **options)

    @jax.jit
    def run(features, boxes, gradient):
        value, back = jax.vjp(lambda x: op(x, boxes), features)
        return value, back(gradient)[0]

    value, by_features = run(features, boxes, gradient)
    expected = getattr(reference, name)(features, boxes, **options)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=0 if name == "roi_pool" else 1e-5)
    expected = getattr(reference, f"{name}_gradient")(features, boxes, gradient, **options)
    np.testing.assert_allclose(by_features, expected, rtol=1e-4, atol=1e-4)


PYRAMID = [feature_map(shape, seed=n) for n, shape in enumerate([(8, 9, 3), (4, 5, 3), (2, 2, 3)])]
SCALES = (1 / 4, 1 / 8, 1 / 16)


def test_pyramid_equals_the_reference_in_value_and_gradient():
    rng = np.random.default_rng(3)
    boxes = np.concatenate([BOXES, random_boxes(rng, 8, size=30.0)])
    levels = rng.integers(0, 3, len(boxes)).astype(np.int32)
    gradient = feature_map((len(boxes), 2, 3, 3), seed=4)
    options = {"output_size": (2, 3), "spatial_scales": SCALES, "aligned": False}

    @jax.jit
    def run(features, gradient):
        value, back = jax.vjp(
            lambda x: roi.multilevel_roi_align(x, boxes, levels=levels, **options), features
        )
        return value, back(gradient)[0]

    value, by_features = run(PYRAMID, gradient)
    expected = reference.multilevel_roi_align(PYRAMID, boxes, levels, **options)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)
    expected = reference.multilevel_roi_align_gradient(PYRAMID, boxes, levels, gradient, **options)
    for actual, wanted in zip(by_features, expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-5)


def test_memory_is_that_of_the_maps_and_of_the_outputs():
    """Of 512 boxes on the maps of 800 x 1344 pixels; [512, 200, 336] would be ten times as much."""
    channels, count, bins = 8, 512, 7
    scales = [1 / stride for stride in (4, 8, 16, 32)]
    features = [
        jax.ShapeDtypeStruct((int(800 * scale), int(1344 * scale), channels), jnp.float32)
        for scale in scales
    ]
    boxes = jax.ShapeDtypeStruct((count, 4), jnp.float32)

    def run(features, boxes):
        align = functools.partial(roi.multilevel_roi_align, output_size=bins, spatial_scales=scales)
        value, back = jax.vjp(lambda x: align(x, boxes), features)
        return back(value)[0]

    needed = jax.jit(run).lower(features, boxes).compile().memory_analysis().temp_size_in_bytes
    # The maps of all levels in one table, a table of their gradients, and the outputs.
    assert needed < 4 * channels * (2 * sum(x.size // channels for x in features) + count * bins**2)


def test_pyramid_finds_the_levels_itself_and_takes_the_nearest():
    boxes = np.float32([[0, 0, s, s] for s in (5, 111, 112, 223, 224, 900)])
    options = {"output_size": 2, "spatial_scales": SCALES}
    expected = np.int32([0, 0, 1, 1, 2, 2])

    # Those below the first and above the last are taken as these.
    beyond = np.int32([-5, -1, 1, 1, 3, 13])

    @jax.jit
    def run(features, boxes, levels):
        found = roi.assign_levels(boxes, min_level=2, max_level=4) - 2
        align = functools.partial(roi.multilevel_roi_align, features, boxes, **options)
        return found, align(), align(levels=levels)

    found, itself, given = run(PYRAMID, boxes, beyond)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(itself, given)


@pytest.mark.parametrize("name", long_but(["roi_align", "roi_pool"], [], ["roi_pool"]))
def test_a_batch_of_images_by_vmap(name):
    rng = np.random.default_rng(5)
    features = feature_map((3, 6, 5, 2))
    boxes = np.stack([random_boxes(rng, 4, size=6.0) for _ in range(3)])
    gradient = feature_map((3, 4, 2, 2, 2), seed=6, ties=True)
    op = functools.partial(getattr(roi, name), output_size=2, spatial_scale=0.9)

    def one(features, boxes, gradient):
        value, back = jax.vjp(lambda x: op(x, boxes), features)
        return value, back(gradient)[0]

    @jax.jit
    def run(*arrays):
        return jax.vmap(one)(*arrays), jax.lax.map(lambda x: one(*x), arrays)

    (values, gradients), (values_of_each, gradients_of_each) = run(features, boxes, gradient)
    np.testing.assert_allclose(values, values_of_each, rtol=1e-6)
    np.testing.assert_allclose(gradients, gradients_of_each, rtol=1e-5, atol=1e-6)


def test_levels_equal_the_reference():
    sides = 224 * 2.0 ** np.arange(-4, 4)
    boxes = [[10, 20, 10 + a, 20 + b] for s in sides for a, b in ((s, s), (s / 2, 2 * s))]
    boxes = np.float32([*boxes, *HARD, *random_boxes(np.random.default_rng(7), 50, size=2000.0)])
    cases = {
        str(options): Case(roi.assign_levels, reference.assign_levels, (boxes,), options)
        for options in (
            {"min_level": 2, "max_level": 5},
            {"min_level": 3, "max_level": 3},
            {"min_level": 1, "max_level": 9, "canonical_size": 100.0, "canonical_level": 6},
        )
    }
    for levels in check_cases(cases).values():
        assert levels.dtype == jnp.int32


def test_levels_by_hand():
    # Sides of 112, 223, 224, 447, 448 and 1e6 pixels; a box without area is on the lowest.
    boxes = np.float32([[0, 0, s, s] for s in (112, 223, 224, 447, 448, 1e6)])
    levels_of = compiled(roi.assign_levels)
    levels = levels_of(boxes, min_level=2, max_level=5)
    np.testing.assert_array_equal(levels, [3, 3, 4, 4, 5, 5])
    levels = levels_of(boxes[:, [2, 3, 0, 1]], min_level=2, max_level=5)
    np.testing.assert_array_equal(levels, 2)


@pytest.mark.parametrize("size", slow_but([3, 7], [3]))
def test_pool_equals_the_reference_in_value_and_gradient(size):
    options = {"output_size": size, "spatial_scale": 0.25}
    check_values_and_gradients({"pool": ("roi_pool", feature_map(ties=True), BOXES, options)})


def test_pool_by_hand():
    features = np.arange(16, dtype=np.float32).reshape(4, 4, 1)
    # 0.5 and 2.5 round to 1 and 3: rows and columns 1 to 3, in bins of cells {1, 2} and {2, 3}.
    boxes = np.float32([[0.5, 0.5, 2.5, 2.5], [9, 9, 12, 12], [-2.5, 0, 0, 0]])
    pool = compiled(roi.roi_pool)
    pooled = pool(features, boxes, output_size=2, spatial_scale=1)[..., 0]
    np.testing.assert_array_equal(pooled[0], [[10, 11], [14, 15]])
    np.testing.assert_array_equal(pooled[1], 0)
    # -2.5 rounds to -3: the columns are -3 to 0, of which the second bin has one on the map.
    np.testing.assert_array_equal(pooled[2], [[0, 0], [0, 0]])
    shifted = pool(features - 9, boxes, output_size=2, spatial_scale=1)
    np.testing.assert_array_equal(shifted[2, :, :, 0], [[0, -9], [0, -9]])


# Eighths and powers of 2: float32 has the same positions as the reference, also at the borders,
# where samples start to count.
_EIGHTHS = st.integers(-200, 400).map(lambda x: x / 8)
_ANY = arrays(
    np.float32, (3, 4), elements=st.one_of(_EIGHTHS, st.sampled_from([1e6, -1e6, 0, 20, 24]))
)
_FEATURES = feature_map(ties=True)
_OPS = ("roi_align", "roi_pool")


def _value_and_gradients(name):
    op = functools.partial(getattr(roi, name), output_size=2, spatial_scale=0.25)

    def total(features, boxes):
        value = op(features, boxes)
        return (value**2).sum(), value

    return jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))


_GRADIENTS = {name: _value_and_gradients(name) for name in _OPS}


@pytest.mark.slow
@pytest.mark.parametrize("name", _OPS)
@settings(deadline=None, derandomize=True, max_examples=50)
@given(boxes=_ANY)
def test_any_boxes_equal_the_reference(name, boxes):
    (gradient, of_boxes), actual = _GRADIENTS[name](_FEATURES, boxes)
    expected = getattr(reference, name)(_FEATURES, boxes, output_size=2, spatial_scale=0.25)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    slow = getattr(reference, f"{name}_gradient")
    np.testing.assert_allclose(
        gradient,
        slow(_FEATURES, boxes, 2 * expected, output_size=2, spatial_scale=0.25),
        rtol=1e-4,
        atol=1e-4,
    )
    np.testing.assert_array_equal(of_boxes, 0)


@pytest.mark.parametrize("name", slow_but(_OPS, ["roi_align"]))
def test_hard_boxes_give_finite_values_and_gradients(name):
    op = functools.partial(getattr(roi, name), output_size=3, spatial_scale=1 / 16)

    @jax.jit
    def run(*arrays):
        return jax.value_and_grad(lambda *a: op(*a).sum(), argnums=(0, 1))(*arrays)

    chex.assert_tree_all_finite(jax.device_get(run(_FEATURES, HARD)))


@pytest.mark.parametrize("name", slow_but(_OPS, ["roi_pool"]))
def test_no_boxes(name):
    empty = np.zeros((0, 4), np.float32)
    op = functools.partial(getattr(roi, name), output_size=(2, 3), spatial_scale=1.0)

    @jax.jit
    def run(features):
        return op(features, empty), jax.grad(lambda x: op(x, empty).sum())(features)

    value, gradient = run(_FEATURES)
    assert value.shape == (0, 2, 3, 3)
    np.testing.assert_array_equal(gradient, 0)
    levels = functools.partial(roi.assign_levels, min_level=2, max_level=5)
    assert jax.eval_shape(levels, empty).shape == (0,)


@pytest.mark.slow
def test_double_precision_stays():
    with jax.enable_x64(True):
        boxes = BOXES.astype(np.float64)
        features = np.random.default_rng(8).permutation(60).reshape(6, 5, 2) / 10.0
        options = {"output_size": 2, "spatial_scale": 0.3}
        cases = {
            name: Case(
                getattr(roi, name),
                getattr(reference, name),
                (features, boxes),
                options,
                rtol=1e-12,
                atol=1e-12,
            )
            for name in _OPS
        }
        assert {x.dtype.name for x in check_cases(cases).values()} == {"float64"}


@pytest.mark.slow
def test_half_precision_is_computed_in_float32():
    def with_gradient(op, features, boxes):
        value, back = jax.vjp(lambda x: op(x, boxes), features)
        return value, back(jnp.ones_like(value))[0]

    @jax.jit
    def run(features, boxes):
        results = []
        for name in _OPS:
            op = functools.partial(getattr(roi, name), output_size=2, spatial_scale=0.25)
            single = with_gradient(op, features.astype("f4"), boxes.astype("f4"))
            results.append(
                (with_gradient(op, features, boxes), [x.astype(features.dtype) for x in single])
            )
        return results

    for dtype in [jnp.bfloat16]:
        half = feature_map().astype(dtype), BOXES[:4].astype(dtype)
        for actual, expected in run(*half):
            for a, b in zip(actual, expected, strict=True):
                assert a.dtype == dtype
                np.testing.assert_array_equal(a, b)


def test_wrong_shapes_and_dtypes_name_the_argument():
    features = feature_map()
    for op in (roi.roi_align, roi.roi_pool):
        op = functools.partial(op, output_size=2, spatial_scale=1.0)
        for bad in (features[0], features[None], features > 0):
            with pytest.raises(AssertionError, match="features is "):
                jax.eval_shape(op, bad, BOXES)
        with pytest.raises(AssertionError, match=r"features is .* no cells"):
            op(features[:, :0], BOXES)
        for bad in (BOXES[0], BOXES[:, :3], BOXES.astype(int)):
            with pytest.raises(AssertionError, match="boxes is "):
                jax.eval_shape(op, features, bad)
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
