"""Box coding: against plain loops, by hand, back and forth, with padding and at the extremes."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from jax.test_util import check_grads

from jaxvision.ops import box_coding
from jaxvision.ops.box_coding import (
    FAST_RCNN_WEIGHTS,
    SSD_WEIGHTS,
    cell_index,
    decode_boxes,
    decode_yolo,
    decode_yolov1,
    encode_boxes,
    encode_yolo,
    encode_yolov1,
)
from jaxvision.testing import check_finite_gradients, check_op
from tests.ops.boxes import HARD, any_boxes, random_boxes
from tests.ops.parity import import_torchvision
from tests.reference.ops import box_coding as reference
from tests.reference.ops.boxes import box_area

GRID = {"grid_size": (3, 5), "image_size": (96, 160)}
PAIRS = np.repeat(HARD, len(HARD), 0), np.tile(HARD, (len(HARD), 1))


def _some(seed, *shape, scale=1.0, dtype=np.float32):
    return (scale * np.random.default_rng(seed).normal(size=shape)).astype(dtype)


def _yolo_case(dtype=np.float32, count=16):
    """Boxes in a grid of 3 x 5 cells of 32 pixels, their anchors and cells."""
    rng = np.random.default_rng(0)
    centre = rng.uniform(0, [160, 96], (count, 2))
    size = rng.uniform(1, 90, (count, 2))
    boxes = np.concatenate([centre - size / 2, centre + size / 2], 1).astype(dtype)
    anchors = rng.uniform(5, 60, (count, 2)).astype(dtype)
    return boxes, anchors, *reference.cell_index(boxes, **GRID)


# R-CNN and SSD


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (1.0, 2.0, 3.0, 4.0)])
def test_deltas_equal_the_reference(weights):
    # Sides of nearly equal coordinates near 1e6 keep few digits, and centres a fraction of one.
    check_op(encode_boxes, reference.encode_boxes, *PAIRS, weights=weights, rtol=2e-5, atol=1e-4)
    rng = np.random.default_rng(0)
    boxes, anchors = random_boxes(rng, 6).reshape(2, 3, 4), random_boxes(rng, 6).reshape(2, 3, 4)
    once = {"transforms": ["jit"]}
    check_op(encode_boxes, reference.encode_boxes, boxes, anchors, weights=weights, **once)
    deltas = _some(1, 2, 3, 4, scale=3)
    decoding = decode_boxes, reference.decode_boxes, deltas, anchors
    check_op(*decoding, weights=weights, atol=1e-3)
    check_op(*decoding, max_log_scale=0.5, atol=1e-3, **once)


def test_deltas_by_hand(transform):
    # From the anchor, centre (5, 10), size 10 x 20, to centre (8, 5), size 20 x 10.
    anchors, boxes = np.float32([[0, 0, 10, 20]]), np.float32([[-2, 0, 18, 10]])
    by_hand = np.float32([[0.3, -0.25, math.log(2), -math.log(2)]])
    np.testing.assert_allclose(transform(jax.jit(encode_boxes))(boxes, anchors), by_hand, rtol=1e-6)
    ssd = transform(jax.jit(partial(encode_boxes, weights=SSD_WEIGHTS)))(boxes, anchors)
    np.testing.assert_allclose(ssd, by_hand / [[0.1, 0.1, 0.2, 0.2]], rtol=1e-6)
    decoded = transform(jax.jit(partial(decode_boxes, weights=FAST_RCNN_WEIGHTS)))(ssd, anchors)
    np.testing.assert_allclose(decoded, boxes, rtol=1e-5, atol=1e-5)


def test_decoding_undoes_encoding():
    rng = np.random.default_rng(2)
    boxes, anchors = random_boxes(rng, 50), random_boxes(rng, 50)
    for weights in ((1.0, 1.0, 1.0, 1.0), SSD_WEIGHTS):
        deltas = encode_boxes(boxes, anchors, weights=weights)
        decoded = decode_boxes(deltas, anchors, weights=weights)
        np.testing.assert_allclose(decoded, boxes, rtol=1e-5, atol=1e-4)


def test_scales_are_clamped():
    anchors = np.float32([[0, 0, 16, 16]] * 2)
    decoded = decode_boxes(np.float32([[0, 0, 4, 4.2], [0, 0, 80, -80]]), anchors)
    sizes = decoded[:, 2:] - decoded[:, :2]
    np.testing.assert_allclose(sizes, [[16 * math.exp(4), 1000], [1000, 0]], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_gradients_of_deltas_equal_finite_differences(seed):
    with jax.enable_x64(True):
        rng = np.random.default_rng(seed)
        boxes, anchors = (random_boxes(rng, 5, size=4.0, dtype=np.float64) for _ in range(2))
        weighted = jax.jit(partial(encode_boxes, weights=SSD_WEIGHTS))
        check_grads(weighted, (boxes, anchors), order=1, modes=["rev"])
        check_grads(
            jax.jit(decode_boxes), (rng.normal(size=(5, 4)), anchors), order=1, modes=["rev"]
        )


def test_boxes_without_area_have_no_deltas_and_no_gradient():
    valid = (box_area(PAIRS[0]) > 0) & (box_area(PAIRS[1]) > 0)
    np.testing.assert_array_equal(encode_boxes(*PAIRS)[~valid], 0)
    for argnum in (0, 1):
        gradient = jax.jit(jax.grad(lambda *x: encode_boxes(*x).sum(), argnum))(*PAIRS)
        assert np.isfinite(gradient).all()
        np.testing.assert_array_equal(gradient[~valid], 0)
        assert jnp.abs(gradient[valid]).sum(axis=1).min() > 0
    without = HARD[box_area(HARD) == 0]
    np.testing.assert_array_equal(
        box_area(np.asarray(decode_boxes(_some(3, len(without), 4), without))), 0
    )


_DELTAS = jax.jit(encode_boxes)
_DELTA_GRADIENTS = jax.jit(jax.grad(lambda *boxes: encode_boxes(*boxes).sum(), argnums=(0, 1)))


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=50)
@given(any_boxes(4), any_boxes(4))
def test_deltas_of_any_boxes_are_finite(boxes, anchors):
    assert np.isfinite(_DELTAS(boxes, anchors)).all()
    assert all(np.isfinite(g).all() for g in _DELTA_GRADIENTS(boxes, anchors))


@pytest.mark.parametrize("logit", [-80, 80])
def test_large_deltas_give_finite_boxes_and_gradients(logit):
    deltas = np.full(HARD.shape, logit, "f4")
    decode = jax.jit(decode_boxes)
    assert np.isfinite(decode(deltas, HARD)).all()
    check_finite_gradients(decode, deltas, HARD, argnums=(0, 1))


@pytest.mark.parity
def test_deltas_equal_torchvisions():
    torch, detection = import_torchvision("models.detection._utils")
    rng = np.random.default_rng(4)
    boxes, anchors, deltas = random_boxes(rng, 30), random_boxes(rng, 30), _some(5, 30, 4, scale=9)
    for weights in ((1.0, 1.0, 1.0, 1.0), FAST_RCNN_WEIGHTS):
        coder = detection.BoxCoder(weights)
        expected = coder.encode_single(torch.tensor(boxes), torch.tensor(anchors))
        actual = encode_boxes(boxes, anchors, weights=weights)
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
        expected = coder.decode_single(torch.tensor(deltas), torch.tensor(anchors))
        actual = decode_boxes(deltas, anchors, weights=weights)
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-3)


# YOLOv1


def test_cells_equal_the_reference():
    boxes = np.concatenate([HARD, random_boxes(np.random.default_rng(6), 16)])
    check_op(cell_index, reference.cell_index, boxes, **GRID)


def test_cells_on_borders_by_hand(transform):
    centres = np.float32([[0, 0], [31.9, 32], [32, 64], [160, 96], [159, 200], [-9, -1e6]])
    boxes = np.concatenate([centres - 2, centres + 2], axis=1)
    rows, columns = transform(jax.jit(partial(cell_index, **GRID)))(boxes)
    np.testing.assert_array_equal(rows, [0, 1, 2, 2, 2, 0])
    np.testing.assert_array_equal(columns, [0, 0, 1, 4, 4, 0])
    assert rows.dtype == columns.dtype == np.int32


def test_yolov1_equals_the_reference():
    boxes = np.concatenate([HARD, random_boxes(np.random.default_rng(7), 16)])
    # A far corner of 1e6 leaves three digits of a position in a cell.
    check_op(encode_yolov1, reference.encode_yolov1, boxes, **GRID, rtol=1e-4)
    coordinates = _some(8, 3, 5, 2, 4)
    check_op(decode_yolov1, reference.decode_yolov1, coordinates, image_size=(96, 160), atol=1e-3)


def test_yolov1_by_hand(transform):
    # In a 448 x 448 image, cells of 64: centre (96, 32) is the middle of row 0, column 1.
    box = np.float32([[96 - 56, 32 - 14, 96 + 56, 32 + 14]])
    encode = partial(encode_yolov1, grid_size=(7, 7), image_size=(448, 448))
    np.testing.assert_allclose(transform(encode)(box), [[0.5, 0.5, 0.5, 0.25]], rtol=1e-6)


def test_decoding_yolov1_undoes_encoding(transform):
    boxes, _, rows, columns = _yolo_case()
    codes = encode_yolov1(boxes, **GRID)
    assert codes.min() >= 0
    assert codes[:, :2].max() <= 1
    grid = jnp.zeros((3, 5, len(boxes), 4)).at[rows, columns, np.arange(len(boxes))].set(codes)
    decoded = transform(jax.jit(partial(decode_yolov1, image_size=(96, 160))))(grid)
    np.testing.assert_allclose(
        decoded[rows, columns, np.arange(len(boxes))], boxes, rtol=1e-5, atol=1e-4
    )


def test_yolov1_gradients():
    with jax.enable_x64(True):
        boxes, *_ = _yolo_case(np.float64)
        check_grads(jax.jit(partial(encode_yolov1, **GRID)), (boxes,), order=1, modes=["rev"])
        coordinates = np.random.default_rng(9).normal(size=(3, 5, 1, 4))
        decode = jax.jit(partial(decode_yolov1, image_size=(96, 160)))
        check_grads(decode, (coordinates,), order=1, modes=["rev"])
    gradient = jax.jit(jax.grad(lambda boxes: encode_yolov1(boxes, **GRID).sum()))(HARD)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[box_area(HARD) == 0], 0)


# YOLOv2 and v3


def test_yolo_equals_the_reference():
    case = _yolo_case()
    check_op(encode_yolo, reference.encode_yolo, *case, stride=32, atol=1e-5)
    hard = HARD, np.abs(_some(10, len(HARD), 2)), *cell_index(HARD, **GRID)
    check_op(encode_yolo, reference.encode_yolo, *hard, stride=32, rtol=2e-5, atol=1e-4)
    logits, anchors = _some(11, 3, 5, 2, 4, scale=2), np.float32([[10, 20], [50, 30]])
    check_op(decode_yolo, reference.decode_yolo, logits, anchors, stride=32, atol=1e-3)
    check_op(
        decode_yolo,
        reference.decode_yolo,
        logits,
        anchors,
        stride=8.5,
        max_log_scale=0.1,
        atol=1e-4,
    )


def test_yolo_by_hand(transform):
    # Cell (row 0, column 1): sigmoid(log 3) = 3 / 4, so the centre is (1.75 * 32, 0.5 * 32).
    logits = np.zeros((1, 2, 1, 4), "f4")
    logits[0, 1, 0] = [math.log(3), 0, math.log(2), 0]
    boxes = transform(jax.jit(partial(decode_yolo, stride=32)))(logits, np.float32([[10, 20]]))
    np.testing.assert_allclose(boxes[0, 1, 0], [56 - 10, 16 - 10, 56 + 10, 16 + 10], rtol=1e-6)


def test_yolo_without_constraint_by_hand(transform):
    # The cell's middle is (48, 16); 0.5 and -0.25 of the anchor's sides from there is the centre.
    logits = np.zeros((1, 2, 1, 4), "f4")
    logits[0, 1, 0] = [0.5, -0.25, math.log(2), 0]
    anchors, how = np.float32([[10, 20]]), {"stride": 32, "constrained": False}
    boxes = transform(jax.jit(partial(decode_yolo, **how)))(logits, anchors)
    np.testing.assert_allclose(boxes[0, 1, 0], [53 - 10, 11 - 10, 53 + 10, 11 + 10], rtol=1e-6)
    codes = encode_yolo(boxes[0, 1], anchors, np.int32([0]), np.int32([1]), **how)
    np.testing.assert_allclose(codes, logits[0, 1], atol=1e-6)
    check_op(decode_yolo, reference.decode_yolo, logits, anchors, **how, atol=1e-4)
    case = _yolo_case()
    check_op(encode_yolo, reference.encode_yolo, *case, **how, atol=1e-5)


def test_decoding_yolo_undoes_encoding(transform):
    boxes, anchors, rows, columns = _yolo_case()
    codes = encode_yolo(boxes, anchors, rows, columns, stride=32)
    assert codes[:, :2].min() >= 0
    assert codes[:, :2].max() <= 1
    offset = jnp.clip(codes[:, :2], 1e-6, 1 - 1e-6)
    logits = jnp.concatenate([jnp.log(offset / (1 - offset)), codes[:, 2:]], axis=1)
    index = np.arange(len(boxes))
    grid = jnp.zeros((3, 5, len(boxes), 4)).at[rows, columns, index].set(logits)
    decoded = transform(jax.jit(partial(decode_yolo, stride=32)))(grid, anchors)
    np.testing.assert_allclose(decoded[rows, columns, index], boxes, rtol=1e-5, atol=1e-3)


def test_a_centre_outside_its_cell_is_cut_to_the_cells_border():
    boxes = np.float32([[0, 0, 20, 20]] * 2)
    codes = encode_yolo(
        boxes, np.full((2, 2), 20, "f4"), np.int32([0, 1]), np.int32([1, 0]), stride=4
    )
    np.testing.assert_array_equal(codes[:, :2], [[1, 1], [1, 1]])
    codes = encode_yolo(
        boxes, np.full((2, 2), 20, "f4"), np.int32([9, 2]), np.int32([2, 9]), stride=4
    )
    np.testing.assert_array_equal(codes, [[0.5, 0, 0, 0], [0, 0.5, 0, 0]])


def test_yolo_gradients():
    with jax.enable_x64(True):
        boxes, anchors, rows, columns = _yolo_case(np.float64)
        check_grads(
            jax.jit(lambda *x: encode_yolo(*x, rows, columns, stride=32)),
            (boxes, anchors),
            order=1,
            modes=["rev"],
        )
        logits = np.random.default_rng(12).normal(size=(3, 5, 2, 4))
        decode = jax.jit(partial(decode_yolo, stride=32))
        check_grads(decode, (logits, anchors[:2]), order=1, modes=["rev"])
    cells = [np.zeros(len(HARD), "i4")] * 2
    for anchors in (np.zeros((len(HARD), 2), "f4"), np.full((len(HARD), 2), 1e6, "f4")):
        check_finite_gradients(
            partial(encode_yolo, stride=8), HARD, anchors, *cells, argnums=(0, 1)
        )


@pytest.mark.parametrize("logit", [-80, 80])
@pytest.mark.parametrize("side", [0, 1e-3, 1e3, 1e6])
def test_large_logits_give_finite_yolo_boxes_and_gradients(logit, side):
    logits, anchors = np.full((2, 2, 1, 4), logit, "f4"), np.full((1, 2), side, "f4")
    decode = jax.jit(partial(decode_yolo, stride=32))
    boxes = decode(logits, anchors)
    assert np.isfinite(boxes).all()
    if side <= 1e3:
        areas = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
        assert np.isfinite(areas**2).all(), "beyond what IoU can compute"
    check_finite_gradients(decode, logits, anchors, argnums=(0, 1))


# All


@pytest.mark.parametrize("count", [0, 1])
def test_few_boxes(count):
    boxes = random_boxes(np.random.default_rng(13), count)
    cells = [np.zeros(count, "i4")] * 2

    @jax.jit
    def codes():
        return (
            encode_boxes(boxes, boxes),
            decode_boxes(boxes, boxes),
            encode_yolov1(boxes, **GRID),
            encode_yolo(boxes, boxes[:, 2:], *cells, stride=32),
        )

    @jax.jit
    def grids(grid):
        return (
            decode_yolov1(grid, image_size=(96, 160)),
            decode_yolo(grid, boxes[:, :2], stride=32),
        )

    for result in codes():
        assert result.shape == (count, 4)
    for result in grids(np.zeros((3, 5, count, 4), "f4")):
        assert result.shape == (3, 5, count, 4)


def test_one_box_without_leading_axes():
    box, anchor = random_boxes(np.random.default_rng(14), 2)
    np.testing.assert_allclose(
        decode_boxes(encode_boxes(box, anchor), anchor), box, rtol=1e-5, atol=1e-4
    )


def _all(dtype):
    """Each function's result on some arguments of a dtype."""
    boxes, anchors, rows, columns = _yolo_case()
    boxes, anchors = jnp.asarray(boxes, dtype), jnp.asarray(anchors, dtype)
    grid = jnp.asarray(_some(15, 3, 5, 2, 4), dtype)
    return {
        "encode_boxes": encode_boxes(boxes, boxes[::-1]),
        "decode_boxes": decode_boxes(boxes / 100, boxes[::-1]),
        "encode_yolov1": encode_yolov1(boxes, **GRID),
        "decode_yolov1": decode_yolov1(grid, image_size=(96, 160)),
        "encode_yolo": encode_yolo(boxes, anchors, rows, columns, stride=32),
        "decode_yolo": decode_yolo(grid, anchors[:2], stride=32),
    }


def test_half_precision_is_computed_in_float32():
    half, single = _all(jnp.bfloat16), _all(jnp.float32)
    for name, result in half.items():
        assert result.dtype == single[name].dtype == jnp.float32, name
        np.testing.assert_allclose(result, single[name], rtol=0.1, atol=2, err_msg=name)


def test_double_precision_stays():
    with jax.enable_x64(True):
        results = jax.eval_shape(lambda: _all(jnp.float64))
        assert {x.dtype.name for x in results.values()} == {"float64"}
        boxes, anchors, rows, columns = _yolo_case(np.float64)
        for actual, expected in (
            (encode_boxes(boxes, boxes[::-1]), reference.encode_boxes(boxes, boxes[::-1])),
            (encode_yolov1(boxes, **GRID), reference.encode_yolov1(boxes, **GRID)),
            (
                encode_yolo(boxes, anchors, rows, columns, stride=32),
                reference.encode_yolo(boxes, anchors, rows, columns, stride=32),
            ),
        ):
            np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


BOXES, SIZES, CELLS = np.ones((3, 4), "f4"), np.ones((3, 2), "f4"), np.zeros(3, "i4")
GRIDS = np.zeros((2, 2, 3, 4), "f4")


@pytest.mark.parametrize(
    ("name", "args", "static", "argument"),
    [
        ("encode_boxes", (BOXES[:, :3], BOXES), {}, "boxes"),
        ("encode_boxes", (BOXES > 0, BOXES), {}, "boxes"),
        ("encode_boxes", (BOXES, BOXES[:2]), {}, "anchors"),
        ("encode_boxes", (BOXES[0], BOXES), {}, "anchors"),
        ("encode_boxes", (BOXES, BOXES.astype(int)), {}, "anchors"),
        ("decode_boxes", (BOXES.astype(int), BOXES), {}, "deltas"),
        ("decode_boxes", (BOXES, BOXES[:2]), {}, "anchors"),
        ("cell_index", (BOXES[:, :2],), GRID, "boxes"),
        ("encode_yolov1", (BOXES.astype(int),), GRID, "boxes"),
        ("decode_yolov1", (BOXES,), {"image_size": (1, 1)}, "coordinates"),
        ("encode_yolo", (BOXES[:, :2], SIZES, CELLS, CELLS), {"stride": 8}, "boxes"),
        ("encode_yolo", (BOXES, SIZES[:2], CELLS, CELLS), {"stride": 8}, "anchors"),
        ("encode_yolo", (BOXES, SIZES, SIZES[:, 0], CELLS), {"stride": 8}, "rows"),
        ("encode_yolo", (BOXES, SIZES, CELLS, CELLS[:2]), {"stride": 8}, "columns"),
        ("decode_yolo", (BOXES, SIZES), {"stride": 8}, "logits"),
        ("decode_yolo", (GRIDS, SIZES[:2]), {"stride": 8}, "anchors"),
    ],
)
def test_wrong_shapes_and_dtypes_name_the_argument(name, args, static, argument):
    with pytest.raises(AssertionError, match=f"^{argument} is "):
        jax.jit(partial(getattr(box_coding, name), **static))(*args)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: encode_boxes(BOXES, BOXES, weights=(1, 1, 1)), "weights has 3"),
        (lambda: decode_boxes(BOXES, BOXES, weights=(1, 1, 0, 1)), "weights is"),
        (lambda: cell_index(BOXES, grid_size=(0, 3), image_size=(9, 9)), "grid_size is"),
        (lambda: encode_yolov1(BOXES, grid_size=(3, 3), image_size=(9, 0)), "image_size is"),
        (lambda: decode_yolov1(GRIDS, image_size=(9, 9, 3)), "image_size has 3"),
        (lambda: encode_yolo(BOXES, SIZES, CELLS, CELLS, stride=0), "stride is 0"),
        (lambda: decode_yolo(GRIDS, SIZES, stride=-8), "stride is -8"),
    ],
)
def test_wrong_options_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
