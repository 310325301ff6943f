"""SSD's loss: by hand, against plain loops, and against torchvision."""

import math
import types
from functools import partial

import chex
import jax
import numpy as np
import pytest

from jaxvision.losses import ssd_multibox_loss
from jaxvision.ops import SSD_WEIGHTS, box_iou, encode_boxes, match_anchors
from tests.makers import boxes as random_boxes
from tests.ops.parity import import_torchvision
from tests.reference import losses_detection as reference

COUNT, CLASSES = 60, 3


@partial(jax.jit, static_argnames=("negative_ratio", "box_weight", "iou_threshold"))
def evaluate(*arrays, **options):
    """(terms, gradients by logits, deltas, default boxes and boxes)."""

    def total(*arrays):
        terms = ssd_multibox_loss(*arrays, per="image", **options)
        return sum(total for total, _ in terms.values()), terms

    slopes, terms = jax.grad(total, argnums=(0, 1, 2, 3), has_aux=True)(*arrays)
    return terms, slopes


def example(seed):
    rng = np.random.default_rng(seed)
    logits, deltas = (rng.normal(size=(COUNT, n)).astype("f4") for n in (CLASSES + 1, 4))
    boxes, mask = random_boxes(5)(rng), np.array([1, 0, 1, 1, 1], bool)
    default_boxes = random_boxes(COUNT)(rng)
    default_boxes[:8] = boxes[np.arange(8) % 5] + rng.normal(size=(8, 4))
    return logits, deltas, default_boxes, boxes, rng.integers(0, CLASSES, 5), mask


def by_hand():
    """One object of the first of two classes, and six default boxes."""
    default_boxes = [
        [0, 0, 4, 4],
        [2, 0, 6, 4],
        [5, 5, 6, 6],
        [6, 6, 7, 7],
        [7, 7, 8, 8],
        [8, 8, 9, 9],
    ]
    logits = np.zeros((6, 3), "f4")
    logits[:, 0] = np.log([2, 1, 2, 6, 2, 18])  # background; the two classes have log 1
    deltas = np.zeros((6, 4), "f4")
    deltas[0] = [0.5, -4.5, 0, 5 * math.log(0.5)]
    boxes = np.float32([[0, 0, 4, 2], [8, 8, 9, 9]])
    mask = np.array([True, False])
    return logits, deltas, np.float32(default_boxes), boxes, np.int32([0, 1]), mask


# The object has IoU 8 / 16 with the first default box, and 4 / 20 with the second one: N = 1, and 3
# negatives count. Probabilities are 1 / 4 for the object's class, and for the background of the
# others 1 / 3, 2 / 4, 6 / 8, 2 / 4 and 18 / 20. The encoded object is (0, -10 / 4, 0, 5 log 1/2).
BY_HAND = {
    "classification": math.log(4) + math.log(3) + math.log(2) + math.log(2),
    "box": 0.5**2 / 2 + (2 - 1 / 2),
}


def values(terms):
    assert all(weight == 1 for _, weight in terms.values())
    return {name: float(total) for name, (total, _) in terms.items()}


def test_the_example_by_hand():
    terms, _ = evaluate(*by_hand())
    assert values(terms) == pytest.approx(BY_HAND, rel=1e-5)


def test_a_ratio_of_negatives_is_rounded_down():
    terms, _ = evaluate(*by_hand(), negative_ratio=1.9, box_weight=2.0, iou_threshold=0.9)
    expected = {"classification": math.log(4) + math.log(3), "box": 2 * BY_HAND["box"]}
    assert values(terms) == pytest.approx(expected, rel=1e-5), "an object has one box at least"


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param(
            {"negative_ratio": 1.5, "box_weight": 2.0, "iou_threshold": 0.3},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_equals_the_reference(options):
    for seed in range(4):
        arrays = example(seed)
        expected = values(reference.ssd_multibox_loss(*arrays, per="image", **options))
        assert values(evaluate(*arrays, **options)[0]) == pytest.approx(expected, rel=1e-5)


def _counted(arrays):
    """Which default boxes are matched, and with what."""
    _, _, default_boxes, boxes, _, mask = arrays
    options = {"high_threshold": 0.5, "low_threshold": 0.5, "forced": "bipartite"}
    match = jax.jit(lambda a, b, mask: match_anchors(box_iou(a, b), mask, **options))
    return np.asarray(match(default_boxes, boxes, mask))


def test_gradients_are_zero_where_nothing_counts():
    arrays = example(0)
    _, (logits, deltas, default_boxes, boxes) = jax.device_get(evaluate(*arrays))
    matched = _counted(arrays) >= 0
    np.testing.assert_array_equal(deltas.any(axis=1), matched)
    counted = logits.any(axis=1)
    assert counted[matched].all()
    assert counted.sum() == min(4 * matched.sum(), COUNT)
    assert not default_boxes.any()
    assert not boxes.any()


def test_an_image_without_objects_costs_nothing():
    *arrays, mask = example(0)
    arrays[3] = np.float32([[9, 9, 1, 1]] * 5)  # padding without area
    terms, slopes = jax.device_get(evaluate(*arrays, np.zeros_like(mask)))
    assert values(terms) == {"classification": 0, "box": 0}
    assert not any(slope.any() for slope in slopes)


def test_a_box_without_area_is_no_object():
    *arrays, mask = example(0)
    flat = arrays[3].copy()
    flat[0, 2] = flat[0, 0]
    without, _ = evaluate(*arrays[:3], flat, arrays[4], mask)
    absent, _ = evaluate(*arrays, mask & (np.arange(5) != 0))
    chex.assert_trees_all_equal(without, absent)


def test_perfect_predictions_cost_nothing():
    logits, deltas, default_boxes, boxes, labels, mask = example(0)
    matches = _counted((logits, deltas, default_boxes, boxes, labels, mask))
    classes = np.where(matches >= 0, labels[matches] + 1, 0)
    logits = 40 * np.eye(CLASSES + 1, dtype="f4")[classes]
    encode = jax.jit(partial(encode_boxes, weights=SSD_WEIGHTS))
    deltas = encode(boxes[matches], default_boxes)
    terms, _ = evaluate(logits, deltas, default_boxes, boxes, labels, mask)
    assert values(terms) == pytest.approx({"classification": 0, "box": 0}, abs=1e-9)


@pytest.mark.parity
def test_equals_torchvisions():
    torch, ssd = import_torchvision("models.detection.ssd")
    _, utils = import_torchvision("models.detection._utils")
    model = types.SimpleNamespace(box_coder=utils.BoxCoder(SSD_WEIGHTS), neg_to_pos_ratio=3)
    for seed in range(4):
        *arrays, mask = example(seed)
        logits, deltas, default_boxes, boxes, labels = (torch.tensor(x) for x in arrays)
        expected = ssd.SSD.compute_loss(
            model,
            [{"boxes": boxes, "labels": labels + 1}],
            {"bbox_regression": deltas[None], "cls_logits": logits[None]},
            [default_boxes],
            [torch.tensor(_counted((*arrays, mask)))],
        )
        terms, _ = evaluate(*arrays, mask)
        expected = {
            "classification": expected["classification"],
            "box": expected["bbox_regression"],
        }
        chex.assert_trees_all_close(values(terms), jax.tree.map(float, expected), rtol=1e-5)
