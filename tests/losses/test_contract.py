"""What every public loss promises, by table: a new one that is missing here fails."""

import jax
import numpy as np
import pytest

from jaxvision import losses
from tests import contract
from tests.contract import Case
from tests.makers import boxes, mask, normal, uniform, whole
from tests.reference import losses as reference
from tests.reference import losses_detection as detection

NOTHING = {"mask": False}
ROWS = {"padded": ("predicted", "target"), "mask": "mask", "empty": NOTHING}


def _labels(*shape, classes, ignored=255):
    """Classes, with some pixels ignored."""

    def make(rng):
        labels = rng.integers(0, classes, shape)
        return np.where(rng.random(shape) < 0.2, ignored, labels)

    return make


def numbers(name, **options):
    """A loss of numbers [5, 3] with a mask [5]."""
    arrays = {"predicted": normal(5, 3), "target": normal(5, 3), "mask": mask(5)}
    return _case(name, arrays, options, predicted=("predicted",), **ROWS)


def overlap(name):
    """A loss of boxes and their counterparts."""
    arrays = {"boxes1": boxes(6), "boxes2": boxes(6), "mask": mask(6)}
    return _case(
        name,
        arrays,
        predicted=("boxes1",),
        padded=("boxes1", "boxes2"),
        mask="mask",
        empty=NOTHING,
    )


def detector(name, arrays, options=None, *, predicted, after=None):
    """A loss that takes padded ground truth after its predictions."""
    truth = {"boxes": boxes(6), "labels": whole(6, most=2), "box_mask": mask(6)}
    return Case(
        getattr(losses, name),
        getattr(detection, name),
        {**arrays, **truth, **(after or {})},
        options or {},
        predicted=predicted,
        padded=("boxes", "labels"),
        mask="box_mask",
        empty={"box_mask": False},
    )


def _case(name, arrays, options=None, **more):
    return Case(getattr(losses, name), getattr(reference, name), arrays, options or {}, **more)


def heatmaps(name, predicted):
    """A loss of four maps of 4 x 4 pixels, as many, to pad whichever axis is the first."""
    return _case(
        name,
        {predicted: normal(4, 4, 4), "targets": uniform(4, 4, 4), "visible": mask(4)},
        predicted=(predicted,),
        padded=(predicted, "targets"),
        mask="visible",
        paddable=_maps_last,
        empty={"visible": False},
    )


def _unmasked(loss):
    """Of ground truth that indices point at: padding is what none points at."""
    return lambda *arrays: loss(*arrays[:-1])


def _maps_last(loss):
    """Of heatmaps [K, H, W], to pad them along the first axis."""

    def of_maps_first(maps, targets, visible):
        return loss(maps.transpose(1, 2, 0), targets.transpose(1, 2, 0), visible)

    return of_maps_first


YES_OR_NO = {"logits": normal(4, 5), "targets": uniform(4, 5), "mask": mask(4)}
PIXELS = {"logits": normal(4, 5, 3), "labels": _labels(4, 5, classes=3), "mask": mask(4, 5)}
REGIONS = {"probabilities": uniform(6, 5, 3), "targets": uniform(6, 5, 3), "mask": mask(6, 5)}
CASES = {
    "cross_entropy": _case(
        "cross_entropy",
        {"logits": normal(4), "target": whole(most=3), "weight": uniform()},
        {"label_smoothing": 0.1},
        predicted=("logits",),
        empty={"weight": 0},
    ),
    "binary_cross_entropy": _case(
        "binary_cross_entropy",
        YES_OR_NO,
        {"positive_weight": 3.0},
        predicted=("logits",),
        padded=("logits", "targets"),
        mask="mask",
        empty=NOTHING,
    ),
    "sigmoid_focal_loss": _case(
        "sigmoid_focal_loss",
        YES_OR_NO,
        {"alpha": 0.3, "gamma": 0.5},
        predicted=("logits",),
        padded=("logits", "targets"),
        mask="mask",
        empty=NOTHING,
    ),
    "softmax_focal_loss": _case(
        "softmax_focal_loss",
        {"logits": normal(5, 3), "labels": whole(5, most=2), "mask": mask(5)},
        {"alpha": (0.2, 1.0, 3.0), "gamma": 0.5},
        predicted=("logits",),
        padded=("logits", "labels"),
        mask="mask",
        empty=NOTHING,
    ),
    "l1_loss": numbers("l1_loss"),
    "l2_loss": numbers("l2_loss"),
    "huber_loss": numbers("huber_loss", delta=0.7),
    "smooth_l1_loss": numbers("smooth_l1_loss", beta=0.7),
    "box_iou_loss": overlap("box_iou_loss"),
    "generalized_box_iou_loss": overlap("generalized_box_iou_loss"),
    "distance_box_iou_loss": overlap("distance_box_iou_loss"),
    "complete_box_iou_loss": overlap("complete_box_iou_loss"),
    "pixel_cross_entropy": _case(
        "pixel_cross_entropy",
        PIXELS,
        {"class_weights": (0.5, 1.0, 2.0)},
        predicted=("logits",),
        padded=("logits", "labels"),
        mask="mask",
        empty={"labels": 255},
    ),
    "pixel_binary_cross_entropy": _case(
        "pixel_binary_cross_entropy",
        {"logits": normal(4, 5), "labels": _labels(4, 5, classes=2), "mask": mask(4, 5)},
        {"positive_weight": 3.0},
        predicted=("logits",),
        padded=("logits", "labels"),
        mask="mask",
        empty={"labels": 255},
    ),
    "dice_loss": _case(
        "dice_loss",
        REGIONS,
        {"smooth": 0.0},
        predicted=("probabilities",),
        padded=("probabilities", "targets"),
        mask="mask",
        empty=NOTHING,
    ),
    "tversky_loss": _case(
        "tversky_loss",
        REGIONS,
        {"alpha": 0.2, "beta": 0.9, "smooth": 0.0},
        predicted=("probabilities",),
        padded=("probabilities", "targets"),
        mask="mask",
        empty=NOTHING,
    ),
    "heatmap_l2_loss": heatmaps("heatmap_l2_loss", "heatmaps"),
    "heatmap_cross_entropy": heatmaps("heatmap_cross_entropy", "logits"),
    "localization_loss": _case(
        "localization_loss",
        {
            "logits": normal(4),
            "box": uniform(4),
            "target": whole(most=3),
            "target_box": uniform(4),
            "has_box": mask(),
        },
        {"box_weight": 0.5},
        predicted=("logits", "box"),
        empty={"has_box": False},
    ),
}
CASES |= {
    "yolov1_loss": detector(
        "yolov1_loss",
        {
            "coordinates": uniform(4, 3, 2, 4),
            "confidence": normal(4, 3, 2),
            "class_scores": normal(4, 3, 3),
        },
        {"image_size": (64, 64), "predicts_roots": False},
        predicted=("coordinates", "confidence", "class_scores"),
    ),
    "yolov2_loss": detector(
        "yolov2_loss",
        {"logits": normal(4, 4, 2, 8)},
        {"stride": 16, "ignore_threshold": 0.3},
        predicted=("logits",),
        after={
            "anchors": uniform(2, 2, least=5, most=30),
            "step": whole(least=12_798, most=12_801),
        },
    ),
    "yolov3_loss": detector(
        "yolov3_loss",
        {"logits": lambda rng: [normal(2, 2, 1, 8)(rng), normal(4, 4, 2, 8)(rng)]},
        {"strides": (32, 16), "ignore_threshold": 0.3},
        predicted=("logits",),
        after={"anchors": lambda rng: [np.float32([[40, 30]]), np.float32([[20, 10], [8, 16]])]},
    ),
    "ssd_multibox_loss": detector(
        "ssd_multibox_loss",
        {"logits": normal(20, 4), "deltas": normal(20, 4), "default_boxes": boxes(20)},
        {"box_weight": 0.5},
        predicted=("logits", "deltas"),
    ),
    "rpn_loss": Case(
        losses.rpn_loss,
        detection.rpn_loss,
        {
            "key": lambda rng: jax.random.key(int(rng.integers(1000))),
            "objectness": normal(20),
            "deltas": normal(20, 4),
            "anchors": boxes(20),
            "boxes": boxes(6),
            "box_mask": mask(6),
        },
        {"size": 8, "high_threshold": 0.5, "box_weight": 0.5},
        predicted=("objectness", "deltas"),
        padded=("boxes",),
        mask="box_mask",
        empty={"box_mask": False},
    ),
    "fast_rcnn_loss": Case(
        losses.fast_rcnn_loss,
        detection.fast_rcnn_loss,
        {
            "logits": normal(7, 4),
            "deltas": normal(7, 4, 4),
            "proposals": boxes(7),
            "matches": whole(7, least=-2, most=2),
            "boxes": boxes(3),
            "labels": whole(3, most=2),
        },
        {"beta": 0.3, "box_weight": 0.5},
        predicted=("logits", "deltas"),
        padded=("boxes", "labels"),
        paddable=_unmasked,
        empty={"matches": -2},
    ),
    "mask_rcnn_loss": Case(
        losses.mask_rcnn_loss,
        detection.mask_rcnn_loss,
        {
            "mask_logits": normal(5, 4, 4, 3),
            "proposals": boxes(5, size=16),
            "matches": whole(5, least=-2, most=2),
            "labels": whole(3, most=2),
            "masks": uniform(3, 16, 16),
        },
        predicted=("mask_logits",),
        padded=("labels", "masks"),
        paddable=_unmasked,
        empty={"matches": -1},
        any_dtype=("masks",),
    ),
}
PADDED = [name for name, case in CASES.items() if case.padded]
ARGUMENTS = [
    (name, argument)
    for name, case in CASES.items()
    for argument in case.arrays
    if argument not in ("key", "weight")
]


def test_every_public_loss_is_in_the_table():
    assert set(losses.__all__) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_one_example_equals_the_reference(name):
    contract.check_one_example(CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_a_batch_equals_its_examples_and_shards_add_up_to_it(name):
    contract.check_batch(CASES[name])


@pytest.mark.parametrize("name", PADDED)
def test_padding_changes_neither_value_nor_gradient(name):
    contract.check_padding(CASES[name])


@pytest.mark.parametrize("name", sorted(set(CASES) - set(PADDED)))
def test_filler_changes_nothing_where_an_example_has_no_padding(name):
    contract.check_filler(CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_the_extremes_and_nothing_at_all_give_finite_values_and_gradients(name):
    contract.check_extremes(CASES[name])


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_a_wrong_shape_or_dtype_names_the_argument(name, argument):
    contract.check_errors(CASES[name], argument)


@pytest.mark.parametrize("name", CASES)
def test_arrays_come_first_and_all_is_documented(name):
    contract.check_documentation(CASES[name])
