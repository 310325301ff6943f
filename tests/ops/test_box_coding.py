"""Box coding: against plain loops, by hand, back and forth, with padding and at the extremes."""

import math
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from jaxvision.ops import box_coding
from jaxvision.ops.box_coding import (
    FAST_RCNN_WEIGHTS,
    SSD_WEIGHTS,
    cell_index,
    decode_boxes,
    decode_distances,
    decode_yolo,
    decode_yolov1,
    encode_boxes,
    encode_distances,
    encode_yolo,
    encode_yolov1,
)
from jaxvision.testing import check_finite_gradients
from tests.ops.boxes import HARD, any_boxes, random_boxes
from tests.ops.compiled import Case, check_cases, compiled
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


def test_codes_equal_the_reference():
    """Of every coding, in one program."""
    rng = np.random.default_rng(0)
    boxes, anchors = random_boxes(rng, 6).reshape(2, 3, 4), random_boxes(rng, 6).reshape(2, 3, 4)
    deltas = _some(1, 2, 3, 4, scale=3)
    encode, decode = (
        partial(Case, getattr(box_coding, name), getattr(reference, name))
        for name in ("encode_boxes", "decode_boxes")
    )
    cases = {}
    for weights in ((1.0, 1.0, 1.0, 1.0), (1.0, 2.0, 3.0, 4.0)):
        how = {"weights": weights}
        # Sides of nearly equal coordinates near 1e6 keep few digits, and centres a fraction of one.
        cases[f"hard, {weights}"] = encode(PAIRS, how, rtol=2e-5, atol=1e-4)
        cases[f"some, {weights}"] = encode((boxes, anchors), how)
        cases[f"decoded, {weights}"] = decode((deltas, anchors), how, atol=1e-3)
    cases["clamped"] = decode((deltas, anchors), {"max_log_scale": 0.5}, atol=1e-3)
    many = np.concatenate([HARD, random_boxes(np.random.default_rng(6), 16)])
    cases["cells"] = Case(cell_index, reference.cell_index, (many,), GRID)
    # A far corner of 1e6 leaves three digits of a position in a cell.
    many = np.concatenate([HARD, random_boxes(np.random.default_rng(7), 16)])
    cases["YOLOv1"] = Case(encode_yolov1, reference.encode_yolov1, (many,), GRID, rtol=1e-4)
    cases["YOLOv1, decoded"] = Case(
        decode_yolov1,
        reference.decode_yolov1,
        (_some(8, 3, 5, 2, 4),),
        {"image_size": (96, 160)},
        atol=1e-3,
    )
    encode, decode = (
        partial(Case, getattr(box_coding, name), getattr(reference, name))
        for name in ("encode_yolo", "decode_yolo")
    )
    how, free = {"stride": 32}, {"stride": 32, "constrained": False}
    cases["YOLO"] = encode(_yolo_case(), how, atol=1e-5)
    cases["YOLO without constraint"] = encode(_yolo_case(), free, atol=1e-5)
    hard = HARD, np.abs(_some(10, len(HARD), 2)), *reference.cell_index(HARD, **GRID)
    cases["YOLO, hard"] = encode(hard, how, rtol=2e-5, atol=1e-4)
    logits = _some(11, 3, 5, 2, 4, scale=2), np.float32([[10, 20], [50, 30]])
    cases["YOLO, decoded"] = decode(logits, how, atol=1e-3)
    cases["YOLO, clamped"] = decode(logits, {"stride": 8.5, "max_log_scale": 0.1}, atol=1e-4)
    cases["YOLOv4, decoded"] = decode(logits, {**how, "scale_x_y": 1.2}, atol=1e-3)
    scaled = {**how, "scale_x_y": 2.0, "squared": True}
    cases["Scaled-YOLOv4, decoded"] = decode(logits, scaled, atol=1e-3)
    sigmoids = np.abs(np.tanh(logits[0])), logits[1]
    scaled = {**scaled, "activated": True}
    cases["Scaled-YOLOv4, activated"] = decode(sigmoids, scaled, atol=1e-3)
    by_hand = np.zeros((1, 2, 1, 4), "f4")
    by_hand[0, 1, 0] = [0.5, -0.25, math.log(2), 0]
    cases["YOLO without constraint, decoded"] = decode(
        (by_hand, np.float32([[10, 20]])), free, atol=1e-4
    )
    check_cases(cases)


# R-CNN and SSD


def test_deltas_by_hand():
    # From the anchor, centre (5, 10), size 10 x 20, to centre (8, 5), size 20 x 10.
    anchors, boxes = np.float32([[0, 0, 10, 20]]), np.float32([[-2, 0, 18, 10]])
    by_hand = np.float32([[0.3, -0.25, math.log(2), -math.log(2)]])

    @jax.jit
    def run(boxes, anchors):
        ssd = encode_boxes(boxes, anchors, weights=SSD_WEIGHTS)
        decoded = decode_boxes(ssd, anchors, weights=FAST_RCNN_WEIGHTS)
        return encode_boxes(boxes, anchors), ssd, decoded

    plain, ssd, decoded = run(boxes, anchors)
    np.testing.assert_allclose(plain, by_hand, rtol=1e-6)
    np.testing.assert_allclose(ssd, by_hand / [[0.1, 0.1, 0.2, 0.2]], rtol=1e-6)
    np.testing.assert_allclose(decoded, boxes, rtol=1e-5, atol=1e-5)


def test_decoding_undoes_encoding():
    """Also of one box without leading axes."""
    rng = np.random.default_rng(2)
    boxes, anchors = random_boxes(rng, 50), random_boxes(rng, 50)

    @jax.jit
    def run(boxes, anchors):
        def again(boxes, anchors, weights):
            deltas = encode_boxes(boxes, anchors, weights=weights)
            return decode_boxes(deltas, anchors, weights=weights)

        many = [again(boxes, anchors, weights) for weights in ((1.0,) * 4, SSD_WEIGHTS)]
        return many, again(boxes[0], anchors[0], (1.0,) * 4)

    many, one = run(boxes, anchors)
    for decoded in many:
        np.testing.assert_allclose(decoded, boxes, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(one, boxes[0], rtol=1e-5, atol=1e-4)


def test_distances_by_hand():
    box, point = np.float32([[1, 2, 9, 12]]), np.float32([[4, 10]])
    distances = encode_distances(box, point)
    np.testing.assert_array_equal(distances, [[3, 8, 5, 2]])
    np.testing.assert_array_equal(decode_distances(distances, point), box)


def test_scales_are_clamped():
    anchors = np.float32([[0, 0, 16, 16]] * 2)
    deltas = np.float32([[0, 0, 4, 4.2], [0, 0, 80, -80]])
    decoded = np.asarray(compiled(decode_boxes)(deltas, anchors))
    sizes = decoded[:, 2:] - decoded[:, :2]
    np.testing.assert_allclose(sizes, [[16 * math.exp(4), 1000], [1000, 0]], rtol=1e-5, atol=1e-5)


def test_boxes_without_area_have_no_deltas_and_no_gradient():
    """Neither of deltas nor of YOLOv1's codes."""
    valid = (box_area(PAIRS[0]) > 0) & (box_area(PAIRS[1]) > 0)
    without = HARD[box_area(HARD) == 0]

    @jax.jit
    def run(boxes, anchors, deltas):
        def total(boxes, anchors):
            deltas = encode_boxes(boxes, anchors)
            return deltas.sum(), deltas

        gradients, codes = jax.grad(total, argnums=(0, 1), has_aux=True)(boxes, anchors)
        yolo = jax.grad(lambda boxes: encode_yolov1(boxes, **GRID).sum())(HARD)
        return codes, gradients, decode_boxes(deltas, without), yolo

    deltas = _some(3, len(without), 4)
    codes, gradients, decoded, by_yolo = jax.device_get(run(*PAIRS, deltas))
    np.testing.assert_array_equal(codes[~valid], 0)
    for gradient in gradients:
        assert np.isfinite(gradient).all()
        np.testing.assert_array_equal(gradient[~valid], 0)
        assert np.abs(gradient[valid]).sum(axis=1).min() > 0
    np.testing.assert_array_equal(box_area(decoded), 0)
    assert np.isfinite(by_yolo).all()
    np.testing.assert_array_equal(by_yolo[box_area(HARD) == 0], 0)


@jax.jit
def _deltas(boxes, anchors):
    """And the gradients of their sum."""

    def total(*boxes):
        deltas = encode_boxes(*boxes)
        return deltas.sum(), deltas

    return jax.grad(total, argnums=(0, 1), has_aux=True)(boxes, anchors)


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=50)
@given(any_boxes(4), any_boxes(4))
def test_deltas_of_any_boxes_are_finite(boxes, anchors):
    chex.assert_tree_all_finite(jax.device_get(_deltas(boxes, anchors)))


def test_large_deltas_and_logits_give_finite_boxes_and_gradients():
    @jax.jit
    def run(deltas, logits, sides):
        def of_deltas(deltas, anchors):
            boxes = decode_boxes(deltas, anchors)
            return boxes.sum(), boxes

        def of_logits(logits, anchors):
            boxes = decode_yolo(logits, anchors, stride=32)
            return boxes.sum(), boxes

        by_deltas = jax.grad(of_deltas, argnums=(0, 1), has_aux=True)(deltas, HARD)
        of_each = jax.grad(of_logits, argnums=(0, 1), has_aux=True)
        return by_deltas, jax.vmap(of_each, (None, 0))(logits, sides)

    sides = np.float32([0, 1e-3, 1e3, 1e6])
    for logit in (-80, 80):
        arrays = np.full(HARD.shape, logit, "f4"), np.full((2, 2, 1, 4), logit, "f4")
        results = jax.device_get(run(*arrays, np.tile(sides[:, None, None], (1, 1, 2))))
        chex.assert_tree_all_finite(results)
        boxes = results[1][1][sides <= 1e3]
        areas = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
        assert np.isfinite(areas**2).all(), "beyond what IoU can compute"


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


def test_cells_on_borders_by_hand():
    centres = np.float32([[0, 0], [31.9, 32], [32, 64], [160, 96], [159, 200], [-9, -1e6]])
    boxes = np.concatenate([centres - 2, centres + 2], axis=1)
    rows, columns = compiled(cell_index)(boxes, **GRID)
    np.testing.assert_array_equal(rows, [0, 1, 2, 2, 2, 0])
    np.testing.assert_array_equal(columns, [0, 0, 1, 4, 4, 0])
    assert rows.dtype == columns.dtype == np.int32


def test_yolov1_by_hand():
    # In a 448 x 448 image, cells of 64: centre (96, 32) is the middle of row 0, column 1.
    box = np.float32([[96 - 56, 32 - 14, 96 + 56, 32 + 14]])
    codes = compiled(encode_yolov1)(box, grid_size=(7, 7), image_size=(448, 448))
    np.testing.assert_allclose(codes, [[0.5, 0.5, 0.5, 0.25]], rtol=1e-6)


def test_decoding_yolov1_undoes_encoding():
    boxes, _, rows, columns = _yolo_case()
    index = np.arange(len(boxes))

    @jax.jit
    def run(boxes):
        codes = encode_yolov1(boxes, **GRID)
        grid = jnp.zeros((3, 5, len(boxes), 4)).at[rows, columns, index].set(codes)
        return codes, decode_yolov1(grid, image_size=(96, 160))[rows, columns, index]

    codes, decoded = jax.device_get(run(boxes))
    assert codes.min() >= 0
    assert codes[:, :2].max() <= 1
    np.testing.assert_allclose(decoded, boxes, rtol=1e-5, atol=1e-4)


# YOLOv2 and v3


def test_yolo_by_hand():
    # Cell (row 0, column 1): sigmoid(log 3) = 3 / 4, so the centre is (1.75 * 32, 0.5 * 32).
    logits = np.zeros((1, 2, 1, 4), "f4")
    logits[0, 1, 0] = [math.log(3), 0, math.log(2), 0]
    boxes = compiled(decode_yolo)(logits, np.float32([[10, 20]]), stride=32)
    np.testing.assert_allclose(boxes[0, 1, 0], [56 - 10, 16 - 10, 56 + 10, 16 + 10], rtol=1e-6)


def test_yolov4_by_hand():
    # Cell (0, 1): 1.2 3 / 4 - 0.1 = 0.8 and 1.2 / 2 - 0.1 = 0.5; 10 exp(log 3) and 20 exp(0), or
    # 10 (2 3 / 4)^2 and 20 (2 / 2)^2.
    logits = np.zeros((1, 2, 1, 4), "f4")
    logits[0, 1, 0] = [math.log(3), 0, math.log(3), 0]
    how = {"anchors": np.float32([[10, 20]]), "stride": 32, "scale_x_y": 1.2}
    boxes = decode_yolo(logits, **how)
    np.testing.assert_allclose(boxes[0, 1, 0], [57.6 - 15, 6, 57.6 + 15, 26], rtol=1e-6)
    expected = [57.6 - 11.25, 6, 57.6 + 11.25, 26]
    for values, activated in ((logits, False), (jax.nn.sigmoid(logits), True)):
        boxes = decode_yolo(values, **how, squared=True, activated=activated)
        np.testing.assert_allclose(boxes[0, 1, 0], expected, rtol=1e-6)


def test_yolo_without_constraint_by_hand():
    # The cell's middle is (48, 16); 0.5 and -0.25 of the anchor's sides from there is the centre.
    logits = np.zeros((1, 2, 1, 4), "f4")
    logits[0, 1, 0] = [0.5, -0.25, math.log(2), 0]
    how = {"stride": 32, "constrained": False}

    @jax.jit
    def run(logits, anchors):
        boxes = decode_yolo(logits, anchors, **how)
        rows, columns = jnp.int32([0]), jnp.int32([1])
        return boxes, encode_yolo(boxes[0, 1], anchors, rows, columns, **how)

    boxes, codes = run(logits, np.float32([[10, 20]]))
    np.testing.assert_allclose(boxes[0, 1, 0], [53 - 10, 11 - 10, 53 + 10, 11 + 10], rtol=1e-6)
    np.testing.assert_allclose(codes, logits[0, 1], atol=1e-6)


def test_decoding_yolo_undoes_encoding():
    boxes, anchors, rows, columns = _yolo_case()
    index = np.arange(len(boxes))

    @jax.jit
    def run(boxes, anchors):
        codes = encode_yolo(boxes, anchors, rows, columns, stride=32)
        offset = jnp.clip(codes[:, :2], 1e-6, 1 - 1e-6)
        logits = jnp.concatenate([jnp.log(offset / (1 - offset)), codes[:, 2:]], axis=1)
        grid = jnp.zeros((3, 5, len(boxes), 4)).at[rows, columns, index].set(logits)
        return codes, decode_yolo(grid, anchors, stride=32)[rows, columns, index]

    codes, decoded = jax.device_get(run(boxes, anchors))
    assert codes[:, :2].min() >= 0
    assert codes[:, :2].max() <= 1
    np.testing.assert_allclose(decoded, boxes, rtol=1e-5, atol=1e-3)


def test_a_centre_outside_its_cell_is_cut_to_the_cells_border():
    """The gradients are finite there, for anchors of any size."""
    boxes, anchors = np.float32([[0, 0, 20, 20]] * 4), np.full((4, 2), 20, "f4")
    cells = np.int32([0, 1, 9, 2]), np.int32([1, 0, 2, 9])
    codes = compiled(encode_yolo)(boxes, anchors, *cells, stride=4)
    np.testing.assert_array_equal(codes[:2, :2], [[1, 1], [1, 1]])
    np.testing.assert_array_equal(codes[2:], [[0.5, 0, 0, 0], [0, 0.5, 0, 0]])

    cells = [np.zeros(len(HARD), "i4")] * 2

    def of_each(boxes, anchors):
        encode = partial(encode_yolo, stride=8)
        return jax.vmap(encode, (None, 0, None, None))(boxes, anchors, *cells)

    anchors = np.zeros((2, len(HARD), 2), "f4")
    anchors[1] = 1e6
    check_finite_gradients(of_each, HARD, anchors, argnums=(0, 1))


# All


@pytest.mark.parametrize("count", [0, 1])
def test_few_boxes(count):
    boxes = random_boxes(np.random.default_rng(13), count)
    cells = [np.zeros(count, "i4")] * 2

    @jax.jit
    def run(grid):
        codes = (
            encode_boxes(boxes, boxes),
            decode_boxes(boxes, boxes),
            encode_yolov1(boxes, **GRID),
            encode_yolo(boxes, boxes[:, 2:], *cells, stride=32),
        )
        grids = (
            decode_yolov1(grid, image_size=(96, 160)),
            decode_yolo(grid, boxes[:, :2], stride=32),
        )
        return codes, grids

    codes, grids = run(np.zeros((3, 5, count, 4), "f4"))
    assert {result.shape for result in codes} == {(count, 4)}
    assert {result.shape for result in grids} == {(3, 5, count, 4)}


def _arguments(dtype):
    boxes, anchors, *_ = _yolo_case()
    return [x.astype(dtype) for x in (boxes, anchors, _some(15, 3, 5, 2, 4))]


@jax.jit
def _all(boxes, anchors, grid):
    """Each function's result on the arguments of `_arguments`."""
    *_, rows, columns = _yolo_case()
    return {
        "encode_boxes": encode_boxes(boxes, boxes[::-1]),
        "decode_boxes": decode_boxes(boxes / 100, boxes[::-1]),
        "encode_yolov1": encode_yolov1(boxes, **GRID),
        "decode_yolov1": decode_yolov1(grid, image_size=(96, 160)),
        "encode_yolo": encode_yolo(boxes, anchors, rows, columns, stride=32),
        "decode_yolo": decode_yolo(grid, anchors[:2], stride=32),
    }


def test_half_precision_is_computed_in_float32():
    half, single = (_all(*_arguments(dtype)) for dtype in (jnp.bfloat16, jnp.float32))
    for name, result in half.items():
        assert result.dtype == single[name].dtype == jnp.float32, name
        np.testing.assert_allclose(result, single[name], rtol=0.1, atol=2, err_msg=name)


def test_double_precision_stays():
    with jax.enable_x64(True):
        results = jax.eval_shape(_all, *_arguments(jnp.float64))
        assert {x.dtype.name for x in results.values()} == {"float64"}
        boxes, anchors, rows, columns = _yolo_case(np.float64)
        exact = {"rtol": 1e-12, "atol": 1e-12}
        yolo = boxes, anchors, rows, columns
        deltas, yolov1, yolo = (
            Case(getattr(box_coding, name), getattr(reference, name), arrays, options, **exact)
            for name, arrays, options in (
                ("encode_boxes", (boxes, boxes[::-1]), {}),
                ("encode_yolov1", (boxes,), GRID),
                ("encode_yolo", yolo, {"stride": 32}),
            )
        )
        check_cases({"deltas": deltas, "YOLOv1": yolov1, "YOLO": yolo})


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
        jax.eval_shape(partial(getattr(box_coding, name), **static), *args)


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
        jax.eval_shape(call)
