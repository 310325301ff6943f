"""YOLO's losses: by hand, against plain loops, and their gradients against Darknet's deltas."""

import functools
import math
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.losses import yolov1_loss, yolov2_loss, yolov3_loss
from jaxvision.ops import encode_yolov1
from tests.makers import boxes as random_boxes
from tests.reference import losses_detection as reference

ANCHORS = np.float32([[10, 14], [23, 12], [30, 40]])
PYRAMID = [ANCHORS[2:] * [[1.1, 0.9]], ANCHORS[:2]]  # coarse, fine
PYRAMID = [x.astype("f4") for x in PYRAMID]
HEIGHT, WIDTH = IMAGE = 96, 120
CLASSES = 3


def truth(rng, count=6):
    """Objects, the last two of one shape in one cell, and padding among them."""
    boxes = random_boxes(count, size=HEIGHT)(rng)
    boxes[-2:] = [[50, 50, 62, 66], [51, 50, 63, 66]]
    mask = np.ones(count, bool)
    mask[1] = False
    return boxes, rng.integers(0, CLASSES, count), mask


def normal(rng, *shape, scale=1.0):
    return rng.normal(scale=scale, size=shape).astype("f4")


def v1(seed, *, predictors=2, of_each_box=False):
    rng = np.random.default_rng(seed)
    coordinates = rng.uniform(-0.2, 0.9, (4, 5, predictors, 4)).astype("f4")
    scores = normal(rng, 4, 5, *([predictors] if of_each_box else []), CLASSES)
    return coordinates, normal(rng, 4, 5, predictors), scores, *truth(rng)


def v2(seed, step=3):
    rng = np.random.default_rng(seed)
    return normal(rng, 4, 5, 3, 5 + CLASSES), *truth(rng), ANCHORS, np.int32(step)


def v3(seed):
    rng = np.random.default_rng(seed)
    logits = [normal(rng, 4, 5, 1, 5 + CLASSES), normal(rng, 8, 10, 2, 5 + CLASSES)]
    return logits, *truth(rng), PYRAMID


PREDICTIONS = {yolov1_loss: (0, 1, 2), yolov2_loss: (0,), yolov3_loss: (0,)}
BOXES_AND_ANCHORS = {yolov1_loss: (3,), yolov2_loss: (1, 4), yolov3_loss: (1, 4)}
V1 = {"image_size": IMAGE, "lambda_coord": 2.0, "lambda_noobj": 0.3}
V2 = {"stride": 24}
V3 = {"strides": (24, 12), "ignore_threshold": 0.2}


@functools.cache  # as compiling takes longer than all the rest
def compiled(loss, options):
    def total(*arrays):
        terms = loss(*arrays, **dict(options))
        return sum(total for total, _ in terms.values()), terms

    return jax.jit(jax.grad(total, PREDICTIONS[loss] + BOXES_AND_ANCHORS[loss], has_aux=True))


def evaluate(loss, arrays, options):
    """(totals by name, gradients by the predictions)."""
    slopes, terms = jax.device_get(compiled(loss, tuple(options.items()))(*arrays))
    number = len(PREDICTIONS[loss])
    for slope in jax.tree.leaves(slopes[number:]):
        assert not slope.any(), "no gradient flows to the boxes and the anchors"
    return values(terms), list(slopes[:number])


def values(terms):
    assert all(weight == 1 for _, weight in terms.values())
    return {name: float(total) for name, (total, _) in terms.items()}


def check_reference(loss, arrays, options):
    expected = values(getattr(reference, loss.__name__)(*arrays, **options))
    assert evaluate(loss, arrays, options)[0] == pytest.approx(expected, rel=1e-5, abs=1e-6)


# YOLOv1


def by_hand_v1():
    """2 x 2 cells of 10 pixels, 2 boxes a cell, 2 classes; one object in the first cell."""
    coordinates = np.zeros((2, 2, 2, 4), "f4")
    coordinates[0, 0] = [[0.5, 0.5, 0.5, 1.0], [0.5, 0.3, 0.6, 0.5]]
    confidence = np.zeros((2, 2, 2), "f4")
    confidence[0, 0] = [0.2, 0.8]
    confidence[1, 0, 1] = 0.4
    scores = np.full((2, 2, 2), 0.7, "f4")
    scores[0, 0] = [0.9, 0.3]
    boxes = np.float32([[2.5, 2.5, 7.5, 7.5], [11, 11, 19, 19]])
    return coordinates, confidence, scores, boxes, np.int32([0, 1]), np.array([True, False])


# The object has its centre at (0.5, 0.5) of the cell and roots sqrt(5 / 20) = 0.5. The first box is
# 5 x 20, IoU 25 / 100; the second one 7.2 x 5 around (5, 3): 5 * 3 / (36 + 25 - 15) = 15 / 46.
HAND_V1 = {"image_size": (20, 20)}
BY_HAND_V1 = {
    "xy": 5 * (0.3 - 0.5) ** 2,
    "wh": 5 * (0.6 - 0.5) ** 2,
    "objectness": (0.8 - 15 / 46) ** 2,
    "no_objectness": 0.5 * (0.2**2 + 0.4**2),
    "class": (0.9 - 1) ** 2 + 0.3**2,
}


def test_yolov1_of_the_example_by_hand():
    terms, _ = evaluate(yolov1_loss, by_hand_v1(), HAND_V1)
    assert terms == pytest.approx(BY_HAND_V1, rel=1e-5)


def test_yolov1_that_predicts_sizes_is_that_of_their_roots():
    coordinates, *rest = by_hand_v1()
    coordinates[..., 2:] **= 2
    terms, _ = evaluate(yolov1_loss, (coordinates, *rest), {**HAND_V1, "predicts_roots": False})
    assert terms == pytest.approx(BY_HAND_V1, rel=1e-5)


@pytest.mark.parametrize(
    ("of_each_box", "options"),
    [(False, {}), pytest.param(True, {"predicts_roots": False}, marks=pytest.mark.slow)],
)
def test_yolov1_equals_the_reference(of_each_box, options):
    for seed in range(4):
        check_reference(yolov1_loss, v1(seed, of_each_box=of_each_box), {**V1, **options})


def test_a_cell_of_yolov1_keeps_the_last_object():
    *arrays, mask = v1(0)
    (two, _), (alone, _) = (
        evaluate(yolov1_loss, (*arrays, real), V1)
        for real in (mask, mask & (np.arange(len(mask)) != len(mask) - 2))
    )
    assert two == alone


def test_gradients_of_yolov1_are_those_of_its_squares():
    arrays = by_hand_v1()
    _, slopes = evaluate(yolov1_loss, arrays, HAND_V1)
    expected = [np.zeros_like(x) for x in arrays[:3]]
    expected[0][0, 0, 1] = [0, 10 * (0.3 - 0.5), 10 * (0.6 - 0.5), 0]
    expected[1][0, 0] = [0.2, 2 * (0.8 - 15 / 46)]  # no gradient flows through the IoU
    expected[1][1, 0, 1] = 0.4
    expected[2][0, 0] = [2 * (0.9 - 1), 2 * 0.3]
    chex.assert_trees_all_close(slopes, expected, atol=1e-6)


@pytest.mark.parametrize("size", [-0.3, -1e-7, 0.0, 1e-12, 2e-6, 1e-3])
def test_gradient_of_a_root_is_finite_and_pulls_a_size_up(size):
    coordinates, *rest = by_hand_v1()
    coordinates[0, 0, :, 2:] = size
    options = {**HAND_V1, "predicts_roots": False}
    _, (slope, *_) = evaluate(yolov1_loss, (coordinates, *rest), options)
    # 10 (root - 0.5) times the slope of the root: 1 / (2 sqrt |size|), or that of the line
    near = abs(size) < 1e-6
    root = size * 1e3 if near else math.copysign(math.sqrt(abs(size)), size)
    rise = 1e3 if near else 0.5 / math.sqrt(abs(size))
    (responsible,) = np.flatnonzero(slope[0, 0, :, 2])
    by_hand = [10 * (root - 0.5) * rise] * 2
    np.testing.assert_allclose(slope[0, 0, responsible, 2:], by_hand, rtol=1e-4)
    assert (slope[0, 0, responsible, 2:] < 0).all()


def test_perfect_yolov1_costs_nothing():
    coordinates, confidence, scores, boxes, labels, mask = by_hand_v1()
    encode = jax.jit(partial(encode_yolov1, grid_size=(2, 2), image_size=(20, 20)))
    coordinates[0, 0, 1] = encode(boxes[0])
    confidence[...] = 0
    confidence[0, 0, 1] = 1
    scores[0, 0] = [1, 0]
    arrays = coordinates, confidence, scores, boxes, labels, mask
    terms, _ = evaluate(yolov1_loss, arrays, HAND_V1)
    assert terms == pytest.approx(dict.fromkeys(BY_HAND_V1, 0), abs=1e-10)


# YOLOv2


def by_hand_v2():
    """1 x 2 cells of 10 pixels, anchors 4 x 4 and 8 x 8, 2 classes; one object in the first cell.

    All logits are 0 but those of sizes: the boxes stand in the middle of their cells.
    """
    logits = np.zeros((1, 2, 2, 7), "f4")
    logits[0, 0, 1, 2:4] = np.log([0.5, 1])  # 4 x 8 instead of 8 x 8
    boxes = np.float32([[2, 1, 8, 9], [0, 0, 20, 10]])
    anchors = np.float32([[4, 4], [8, 8]])
    return logits, boxes, np.int32([1, 0]), np.array([True, False]), anchors, np.int32(0)


# The object, 6 x 8 around the middle of the first cell, goes to the second anchor (IoU 48 / 64, not
# 16 / 48). Decoded that is 4 x 8 within the object: IoU 32 / 48. Its balance is 2 - 48 / 200. Of
# the other three predictors the first one, 4 x 4, has IoU 16 / 48 with the object.
BY_HAND_V2 = {
    "xy": 0,
    "wh": (2 - 48 / 200) / 2 * (math.log(4 / 8) - math.log(6 / 8)) ** 2,
    "objectness": 5 / 2 * (32 / 48 - 0.5) ** 2,
    "no_objectness": 3 / 2 * 0.5**2,
    "class": math.log(2),
    "prior": 0,
}


@pytest.mark.slow
def test_yolov2_of_the_example_by_hand():
    terms, _ = evaluate(yolov2_loss, by_hand_v2(), {"stride": 10})
    assert terms == pytest.approx(BY_HAND_V2, rel=1e-5, abs=1e-12)


@pytest.mark.slow
def test_yolov2_without_location_prediction():
    logits, *rest, _ = by_hand_v2()
    logits[0, 1, 0, :4] = [0.1, -0.2, 0.2, -0.3]
    arrays, options = (logits, *rest, np.int32(0)), {"stride": 10, "constrained": False}
    terms, (slope,) = evaluate(yolov2_loss, arrays, options)
    expected = reference.yolov2_loss(*arrays, **options)
    assert terms == pytest.approx(values(expected), rel=1e-5, abs=1e-6)
    assert terms != pytest.approx(evaluate(yolov2_loss, arrays, {"stride": 10})[0], rel=1e-3)
    # One predictor's own terms: tx and ty are drawn to 0 by the prior, without a sigmoid's slope.
    np.testing.assert_allclose(slope[0, 1, 0, :4], [0.001, -0.002, 0.002, -0.003], rtol=1e-5)


@pytest.mark.slow
def test_yolov2_ignores_what_overlaps_an_object_more_than_the_threshold():
    options = {"stride": 10, "ignore_threshold": 0.25}
    terms, (slope,) = evaluate(yolov2_loss, by_hand_v2(), options)  # IoU 1 / 3
    assert terms["no_objectness"] == pytest.approx(2 / 2 * 0.5**2)
    assert slope[0, 0, 0, 4] == 0, "neither responsible nor negative"
    assert (slope[0, 1, :, 4] != 0).all()
    # 8 x 8, and a little less, around the first predictor's box of 4 x 4: IoU 1 / 4, and more.
    _, *rest = by_hand_v2()
    logits = np.zeros((1, 2, 2, 7), "f4")
    for left, negatives in ((1, 3), (1.01, 2)):
        rest[0][0] = [left, 1, 9, 9]
        terms, _ = evaluate(yolov2_loss, (logits, *rest), options)
        assert terms["no_objectness"] == pytest.approx(negatives / 2 * 0.5**2)


@pytest.mark.slow
def test_the_prior_of_yolov2_ends():
    logits, *rest, _ = by_hand_v2()
    logits[0, 1, 0, :4] = [math.log(3), 0, 0.2, -0.3]  # sigmoid(log 3) = 3 / 4
    by_hand = 0.01 / 2 * (0.25**2 + 0.2**2 + 0.3**2)
    for step, prior in ((0, by_hand), (199, by_hand), (200, 0), (10**9, 0)):
        arrays = logits, *rest, np.int32(step)
        terms, _ = evaluate(yolov2_loss, arrays, {"stride": 10})
        assert terms["prior"] == pytest.approx(prior, rel=1e-5)


def test_yolov2_equals_the_reference():
    for seed in range(4):
        check_reference(yolov2_loss, v2(seed), V2)


@pytest.mark.slow
def test_yolov2_with_options_equals_the_reference():
    options = {
        **V2,
        "object_weight": 2.0,
        "no_object_weight": 0.5,
        "coordinate_weight": 3.0,
        "class_weight": 0.7,
        "ignore_threshold": 0.2,
        "prior_weight": 0.3,
        "prior_steps": 3,
    }
    for seed in range(4):
        check_reference(yolov2_loss, v2(seed, step=2 + seed % 2), options)


@pytest.mark.parametrize("step", [0, 20_000])
def test_gradients_of_yolov2_are_darknets_deltas(step):
    for seed in range(2):
        arrays = v2(seed, step)
        _, (slope,) = evaluate(yolov2_loss, arrays, V2)
        np.testing.assert_allclose(-slope, reference.yolov2_deltas(*arrays, **V2), atol=2e-5)


def perfect(logits, arrays, strides, *, exclusive=False):
    """Logits that decode to the objects, with certainty; of one class each if so told."""
    boxes, labels, mask, anchors = arrays
    for of_map in logits:
        of_map[...] = 0
        of_map[..., 4:] = -40
    goals = reference.assign(logits, boxes, labels, mask, anchors, strides)
    for (level, *place), goal in goals.items():
        t = logits[level][tuple(place)]
        t[:2] = np.log([goal.x, goal.y]) - np.log1p([-goal.x, -goal.y])
        t[2:4] = goal.w, goal.h
        t[4] = 40
        for label in {goal.label} if exclusive else goal.classes:
            t[5 + label] = 40
    return len(goals)


def test_perfect_yolov2_costs_nothing():
    logits, *arrays, _ = v2(0)
    assert perfect([logits], [*arrays[:3], [arrays[3]]], (24,), exclusive=True) == 4
    terms, _ = evaluate(yolov2_loss, (logits, *arrays, np.int32(10**6)), V2)
    assert terms == pytest.approx(dict.fromkeys(terms, 0), abs=1e-9)


# YOLOv3


def by_hand_v3():
    """Maps of 1 x 1 cell of 20 pixels and of 1 x 2 cells of 10, an anchor each, 3 classes."""
    logits = [np.zeros((1, 1, 1, 8), "f4"), np.zeros((1, 2, 1, 8), "f4")]
    logits[1][0, 0, 0, 0] = math.log(3)
    boxes = np.float32([[1, 2, 7, 8], [0, 0, 20, 10], [0, 0, 20, 10]])
    anchors = [np.float32([[16, 16]]), np.float32([[8, 8]])]
    return logits, boxes, np.int32([1, 0, 0]), np.array([True, False, False]), anchors


HAND_V3 = {"strides": (20, 10), "ignore_threshold": 0.25}
# The object, 6 x 6 at (0.4, 0.5) of the fine map's first cell, goes to its anchor of 8 x 8. The map
# is 10 x 20 pixels. sigmoid(log 3) = 3 / 4, so that x costs -0.4 log 0.75 - 0.6 log 0.25.
BY_HAND_V3 = {
    "xy": (2 - 36 / 200) * (-0.4 * math.log(0.75) - 0.6 * math.log(0.25) + math.log(2)),
    "wh": (2 - 36 / 200) / 2 * 2 * math.log(6 / 8) ** 2,
    "objectness": math.log(2),
    "no_objectness": 2 * math.log(2),
    "class": 3 * math.log(2),
}


@pytest.mark.slow
def test_yolov3_of_the_example_by_hand():
    terms, _ = evaluate(yolov3_loss, by_hand_v3(), HAND_V3)
    assert terms == pytest.approx(BY_HAND_V3, rel=1e-5)


@pytest.mark.slow
def test_what_overlaps_an_object_as_much_as_the_threshold_is_a_negative_of_yolov3():
    logits, *rest = by_hand_v3()
    logits[1][...] = 0
    # 8 x 8, and a little more, within the coarse map's box of 16 x 16: IoU 1 / 4, and more.
    for right, negatives in ((10, 2), (10.01, 1)):
        rest[0][0] = [2, 2, right, 10]
        terms, _ = evaluate(yolov3_loss, (logits, *rest), HAND_V3)
        assert terms["no_objectness"] == pytest.approx(negatives * math.log(2))


@pytest.mark.slow
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]])
def test_a_predictor_of_yolov3_has_the_classes_of_all_its_objects(order):
    logits, _, _, _, anchors = by_hand_v3()
    boxes, labels = np.float32([[1, 2, 7, 8]] * 3)[order], np.int32([1, 0, 1])[order]
    arrays = logits, boxes, labels, np.ones(3, bool), anchors
    terms, (slopes,) = evaluate(yolov3_loss, arrays, HAND_V3)
    np.testing.assert_allclose(slopes[1][0, 0, 0, 5:], [0.5 - 1, 0.5 - 1, 0.5], rtol=1e-6)
    assert terms["class"] == pytest.approx(3 * math.log(2), rel=1e-6)
    assert terms["objectness"] == pytest.approx(math.log(2), rel=1e-6), "it is one predictor"


@pytest.mark.slow
def test_yolov3_equals_the_reference():
    for seed in range(4):
        check_reference(yolov3_loss, v3(seed), V3)


def test_gradients_of_yolov3_are_darknets_deltas():
    for seed in range(2):
        arrays = v3(seed)
        _, (slopes,) = evaluate(yolov3_loss, arrays, V3)
        deltas = reference.yolov3_deltas(*arrays, **V3)
        chex.assert_trees_all_close([-x for x in slopes], deltas, atol=2e-5)
        assigned = reference.assign(*arrays, (24, 12))
        assert len(assigned) == 4, "of five objects two share a predictor"
        assert {level for level, *_ in assigned} == {0, 1}


def test_perfect_yolov3_costs_the_entropy_of_its_positions():
    logits, *arrays = v3(0)
    perfect(logits, arrays, (24, 12))
    terms, (slopes,) = evaluate(yolov3_loss, (logits, *arrays), V3)
    assert terms.pop("xy") > 0
    assert terms == pytest.approx(dict.fromkeys(terms, 0), abs=1e-9)
    for slope in slopes:
        np.testing.assert_allclose(slope, 0, atol=1e-5)


def test_maps_have_the_same_classes():
    logits, *arrays = v3(0)
    with pytest.raises(ValueError, match=r"\[2, 3\] classes"):
        jax.eval_shape(partial(yolov3_loss, **V3), [logits[0][..., :-1], logits[1]], *arrays)


def test_a_map_more_needs_anchors_and_a_stride():
    logits, *arrays = v3(0)
    with pytest.raises(ValueError, match="2 maps of logits, 2 arrays of anchors and 1 strides"):
        yolov3_loss(logits, *arrays, strides=(24,))


# YOLOv3 with a loss of the boxes and a rule of matching of one's own


def match_by_loops(decoded, anchors, strides, boxes, box_mask):
    """The paper's rule with V3's threshold, in plain Python."""

    def run(decoded, anchors, boxes, box_mask):
        index = np.arange(len(boxes))
        assigned = reference.assign(decoded, boxes, index, box_mask, anchors, strides)
        matches = []
        for level, of_map in enumerate(decoded):
            found = np.full(of_map.shape[:3], -1, np.int32)
            for place in np.ndindex(found.shape):
                overlaps = [reference.iou(of_map[place], box) for box in boxes[box_mask]]
                if (level, *place) in assigned:
                    found[place] = assigned[level, *place].label
                elif max(overlaps) > 0.2:
                    found[place] = -2
            matches.append(found)
        return matches

    shapes = [jax.ShapeDtypeStruct(of_map.shape[:3], np.int32) for of_map in decoded]
    given = decoded, anchors, boxes, box_mask
    return jax.pure_callback(
        lambda *x: run(*jax.tree.map(np.asarray, x)), shapes, *given, vmap_method="sequential"
    )


def box_loss_of_paper(t, target_t, decoded, target_box):
    """xy plus wh, without the library."""
    sides = target_box[..., 2:] - target_box[..., :2]
    balance = 2 - sides.prod(-1) / (HEIGHT * WIDTH)
    log_p, log_q = -jnp.log1p(jnp.exp(-t[..., :2])), -jnp.log1p(jnp.exp(t[..., :2]))
    xy = -(target_t[..., :2] * log_p + (1 - target_t[..., :2]) * log_q).sum(-1)
    return balance * (xy + ((t[..., 2:] - target_t[..., 2:]) ** 2).sum(-1) / 2)


def v3_of_one_class_a_predictor(seed):
    """v3, but objects that share a predictor share their class."""
    logits, boxes, labels, mask, anchors = v3(seed)
    return logits, boxes, np.append(labels[:-1], labels[-2]), mask, anchors


@pytest.mark.slow
def test_the_papers_own_rule_and_loss_of_boxes_change_nothing_under_jit_and_vmap():
    examples = [v3_of_one_class_a_predictor(seed) for seed in range(2)]

    def total(*arrays):
        options = {**V3, "match": match_by_loops, "box_loss": box_loss_of_paper}
        terms = yolov3_loss(*arrays, **options)
        return sum(total for total, _ in terms.values()), terms

    run = jax.jit(jax.vmap(jax.grad(total, has_aux=True)))
    batch = jax.tree.map(lambda *x: np.stack(x), *examples)
    all_slopes, all_terms = jax.device_get(run(*batch))
    for number, arrays in enumerate(examples):
        expected, (slopes,) = evaluate(yolov3_loss, arrays, V3)
        assert expected["class"] > 0
        expected["box"] = expected.pop("xy") + expected.pop("wh")
        terms, found = jax.tree.map(lambda x, n=number: x[n], (all_terms, all_slopes))
        assert values(terms) == pytest.approx(expected, rel=1e-5)
        chex.assert_trees_all_close(found, slopes, atol=1e-5)


@pytest.mark.long
def test_the_papers_own_rule_alone_changes_nothing():
    arrays = v3_of_one_class_a_predictor(0)
    expected, (slopes,) = evaluate(yolov3_loss, arrays, V3)
    terms, (found,) = evaluate(yolov3_loss, arrays, {**V3, "match": match_by_loops})
    assert terms == pytest.approx(expected, rel=1e-5)
    chex.assert_trees_all_close(found, slopes, atol=1e-5)


@pytest.mark.slow
def test_what_a_loss_of_boxes_is_given():
    logits, *arrays = v3(0)

    @jax.jit
    def run(logits, *arrays):
        given = []

        def note(*arguments):
            given.append(arguments)
            return jnp.ones(arguments[0].shape[:3])

        return yolov3_loss(logits, *arrays, **V3, box_loss=note), given

    terms, given = jax.device_get(run(logits, *arrays))
    assigned = reference.assign(logits, *arrays, (24, 12))
    assert terms["box"] == (len(assigned), 1)
    for level, (t, target_t, decoded, target_box) in enumerate(given):
        for place in np.ndindex(t.shape[:3]):
            goal = assigned.get((level, *place))
            if goal is None:
                assert not any(x[place].any() for x in given[level])
                continue
            np.testing.assert_array_equal(t[place], logits[level][place][:4])
            np.testing.assert_allclose(
                target_t[place], [goal.x, goal.y, goal.w, goal.h], rtol=1e-4, atol=1e-5
            )
            np.testing.assert_array_equal(target_box[place], goal.box)
        boxes = reference.box_coding.decode_yolo(
            logits[level][..., :4], arrays[3][level], stride=(24, 12)[level]
        )
        real = target_box.any(axis=-1)
        np.testing.assert_allclose(decoded[real], boxes[real], rtol=1e-4)


def rule(*matches):
    return lambda *given: [jnp.array(of_map, jnp.int32)[None, :, None] for of_map in matches]


def test_a_rule_of_matching_by_hand():
    """The coarse map's predictor, in another cell than the paper's, has the object.

    On the fine map the first one is neither, and the second one, matched with padding, a negative.
    """
    logits, *rest = by_hand_v3()
    logits[1][...] = 0
    options = {**HAND_V3, "match": rule([0], [-2, 1])}
    terms, (slopes,) = evaluate(yolov3_loss, (logits, *rest), options)
    b = 2 - 36 / 400
    expected = {
        "xy": b * 2 * math.log(2),
        "wh": b * math.log(6 / 16) ** 2,
        "objectness": math.log(2),
        "no_objectness": math.log(2),
        "class": 3 * math.log(2),
    }
    assert terms == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(slopes[0][0, 0, 0, :2], [b * (0.5 - 0.2), b * (0.5 - 0.25)])
    np.testing.assert_allclose(slopes[1][0, :, 0, 4], [0, 0.5])


@pytest.mark.slow
def test_several_predictors_of_an_object_and_one_beside_its_cell():
    logits, *rest = by_hand_v3()
    options = {**HAND_V3, "match": rule([-1], [0, 0])}
    terms, (slopes,) = evaluate(yolov3_loss, (logits, *rest), options)
    assert terms["objectness"] == pytest.approx(2 * math.log(2))
    # The centre is to the left of the second cell: the target of x is its left border.
    np.testing.assert_allclose(slopes[1][0, 1, 0, 0], (2 - 36 / 200) * 0.5, rtol=1e-6)


@pytest.mark.slow
def test_a_loss_of_boxes_has_finite_gradients_under_vmap():
    """Also where it has none for boxes without area, which do not count."""

    def ratio(t, target_t, decoded, target_box):
        sides, goal = (x[..., 2:] - x[..., :2] for x in (decoded, target_box))
        return jnp.log(sides / goal).sum(-1) ** 2

    @jax.jit
    def total(logits, boxes, labels, mask):
        options = {**V3, "match": match_by_loops, "box_loss": ratio}
        terms = yolov3_loss(logits, boxes, labels, mask, PYRAMID, **options)
        return sum(total for total, _ in terms.values())

    examples = [v3(seed)[:-1] for seed in range(3)]
    batch = jax.tree.map(lambda *x: np.stack(x), *examples)
    run = jax.jit(jax.vmap(jax.value_and_grad(total)))
    found, slopes = run(*batch)
    for number, example in enumerate(examples):
        np.testing.assert_allclose(found[number], total(*example), rtol=1e-5)
    for slope in slopes:
        assert np.isfinite(slope).all()
        assert slope.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"match": rule([0])}, "match returns .*: return a list of arrays, one for each map"),
        (
            {"match": lambda *given: [0, 1]},
            "the result of match for map 0 is int32\\[\\]: give int",
        ),
        (
            {"box_loss": lambda t, *rest: t},
            r"the result of box_loss is float32\[1, 1, 1, 4\]: give",
        ),
    ],
)
def test_a_wrong_rule_or_loss_of_boxes_is_named(options, message):
    run = partial(yolov3_loss, strides=(20, 10), **options)
    with pytest.raises((ValueError, AssertionError), match=message):
        jax.eval_shape(run, *by_hand_v3())


# All

EACH = pytest.mark.parametrize(
    ("loss", "arrays", "mask", "options"),
    [
        (yolov1_loss, v1(0), 5, V1),
        (yolov2_loss, v2(0, step=10**6), 3, V2),
        (yolov3_loss, v3(0), 3, V3),
    ],
    ids=["v1", "v2", "v3"],
)


@EACH
def test_an_image_without_objects_trains_objectness_alone(loss, arrays, mask, options):
    arrays = list(arrays)
    arrays[mask] = np.zeros_like(arrays[mask])
    arrays[mask - 2] = np.float32([[9, 9, 1, 1]] * len(arrays[mask]))  # padding without area
    terms, slopes = evaluate(loss, arrays, options)
    assert terms.pop("no_objectness") > 0
    assert terms == dict.fromkeys(terms, 0)
    if loss is yolov1_loss:
        coordinates, confidence, scores = slopes
        np.testing.assert_allclose(confidence, 2 * 0.3 * arrays[1], rtol=1e-6)
        assert not coordinates.any()
        assert not scores.any()
        return
    for slope in jax.tree.leaves(slopes):
        assert (slope[..., 4] > 0).all()
        assert not np.delete(slope, 4, axis=-1).any()


@EACH
def test_a_box_without_area_is_no_object(loss, arrays, mask, options):
    flat, absent = list(arrays), list(arrays)
    flat[mask - 2] = flat[mask - 2].copy()
    flat[mask - 2][0, 2] = flat[mask - 2][0, 0]
    absent[mask] = absent[mask] & (np.arange(len(absent[mask])) != 0)
    without, _ = evaluate(loss, flat, options)
    assert without == evaluate(loss, absent, options)[0]
    assert without != evaluate(loss, arrays, options)[0]


def test_a_label_out_of_range_changes_no_other_cell():
    arrays = list(v2(0))
    _, (right,) = evaluate(yolov2_loss, arrays, V2)
    arrays[2] = np.where(np.arange(6) == 0, CLASSES + 4, arrays[2])
    terms, (wrong,) = evaluate(yolov2_loss, arrays, V2)
    assert math.isnan(terms["class"])
    assert np.isfinite(wrong).all()
    assert (right != wrong).any(axis=-1).sum() == 1


def test_ground_truth_has_at_least_one_row():
    logits, _, _, _, anchors, step = v2(0)
    nothing = np.zeros((0, 4), "f4"), np.zeros(0, int), np.zeros(0, bool)
    with pytest.raises(ValueError, match="0 rows: pad it to at least one"):
        jax.eval_shape(partial(yolov2_loss, **V2), logits, *nothing, anchors, step)
