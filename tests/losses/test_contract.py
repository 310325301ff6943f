"""What every public loss promises, by table: a new one that is missing here fails."""

import dataclasses
import functools
import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import losses
from jaxvision.ops import WordTree
from tests import contract
from tests.contract import Case
from tests.makers import boxes, mask, normal, uniform, whole
from tests.marks import long_but, slow_but
from tests.reference import losses as reference
from tests.reference import losses_detection as detection
from tests.reference import losses_masks, losses_tree
from tests.reference.losses_yolov4 import yolov4_loss as yolov4_reference

NOTHING = {"mask": False}
TREE = WordTree(tuple("abcdefg"), (-1, -1, 0, 0, 1, 2, 2))
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
    accepts = {"target": ("int32",)}
    return _case(
        name,
        arrays,
        "*N D, *N D, N",
        options,
        predicted=("predicted",),
        accepts=accepts,
        **ROWS,
    )


def overlap(name):
    """A loss of boxes and their counterparts."""
    arrays = {"boxes1": boxes(6), "boxes2": boxes(6), "mask": mask(6)}
    return _case(
        name,
        arrays,
        "*N 4, *N 4, N",
        predicted=("boxes1",),
        padded=("boxes1", "boxes2"),
        mask="mask",
        empty=NOTHING,
    )


def detector(name, arrays, axes, options=None, *, predicted, after=None, expected=None):
    """A loss that takes padded ground truth, G objects, after its predictions."""
    truth = {"boxes": boxes(6), "labels": whole(6, most=2), "box_mask": mask(6)}
    return Case(
        getattr(losses, name),
        expected or getattr(detection, name),
        {**arrays, **truth, **(after or {})},
        axes,
        options or {},
        predicted=predicted,
        padded=("boxes", "labels"),
        mask="box_mask",
        empty={"box_mask": False},
    )


def _case(name, arrays, axes, options=None, **more):
    functions = getattr(losses, name), getattr(reference, name)
    return Case(*functions, arrays, axes, options or {}, **more)


def keyed(loss):
    """A loss whose key is its first argument, an array like the others."""

    @functools.wraps(loss)
    def run(key, *arrays, **options):
        return loss(*arrays, key=key, **options)

    parameters = dict(inspect.signature(loss).parameters)
    first = parameters.pop("key").replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = inspect.Signature([first, *parameters.values()])
    return run


def heatmaps(name, predicted):
    """A loss of four maps of 4 x 4 pixels."""
    return _case(
        name,
        {predicted: normal(4, 4, 4), "targets": uniform(4, 4, 4), "visible": mask(4)},
        "H W K, H W K, K",
        predicted=(predicted,),
        padded=(predicted, "targets"),
        mask="visible",
        padded_axis=-1,
        empty={"visible": False},
        accepts={"targets": ("int32",)},
        ignored=lambda x: {predicted: (..., ~x["visible"]), "targets": (..., ~x["visible"])},
    )


def pixels(name, logits, axes, options):
    """A loss of a label map, some of it ignored."""
    labels = _labels(4, 5, classes=logits[2] if logits[2:] else 2)
    return _case(
        name,
        {"logits": normal(*logits), "labels": labels, "mask": mask(4, 5)},
        axes,
        options,
        predicted=("logits",),
        padded=("logits", "labels"),
        mask="mask",
        empty={"labels": 255},
        ignored=lambda x: {"logits": ~x["mask"] | (x["labels"] == 255), "labels": ~x["mask"]},
    )


def regions(name, **options):
    """A loss of the overlap of regions."""
    return _case(
        name,
        {"probabilities": uniform(6, 5, 3), "targets": uniform(6, 5, 3), "mask": mask(6, 5)},
        "*N M K, *N M K, N M",
        options,
        predicted=("probabilities",),
        padded=("probabilities", "targets"),
        accepts={"targets": ("int32", "bool")},
        mask="mask",
        empty=NOTHING,
    )


def yes_or_no(name, **options):
    """A loss of elements that are true or false, or in between."""
    return _case(
        name,
        {"logits": normal(4, 5), "targets": uniform(4, 5), "mask": mask(4)},
        "*N D, *N D, N",
        options,
        predicted=("logits",),
        padded=("logits", "targets"),
        accepts={"targets": ("int32", "bool")},
        mask="mask",
        empty=NOTHING,
    )


CASES = {
    "cross_entropy": _case(
        "cross_entropy",
        {"logits": normal(4), "target": whole(most=3), "weight": uniform()},
        "K,,",
        {"label_smoothing": 0.1},
        predicted=("logits",),
        accepts={"weight": ("int32",)},
        empty={"weight": 0},
        ignored=lambda x: {"logits": x["weight"] == 0, "target": x["weight"] == 0},
    ),
    "word_tree_cross_entropy": Case(
        losses.word_tree_cross_entropy,
        losses_tree.word_tree_cross_entropy,
        {"logits": normal(7), "target": whole(most=6), "weight": uniform()},
        "7,,",
        {"tree": TREE},
        predicted=("logits",),
        accepts={"weight": ("int32",)},
        empty={"weight": 0},
        ignored=lambda x: {"logits": x["weight"] == 0, "target": x["weight"] == 0},
    ),
    "binary_cross_entropy": yes_or_no("binary_cross_entropy", positive_weight=3.0),
    "sigmoid_focal_loss": yes_or_no("sigmoid_focal_loss", alpha=0.3, gamma=0.5),
    "softmax_focal_loss": _case(
        "softmax_focal_loss",
        {"logits": normal(5, 3), "labels": whole(5, most=2), "mask": mask(5)},
        "*N K, *N, N",
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
    "pixel_cross_entropy": pixels(
        "pixel_cross_entropy",
        (4, 5, 3),
        "*H W K, *H W, H W",
        {"class_weights": (0.5, 1.0, 2.0)},
    ),
    "pixel_binary_cross_entropy": pixels(
        "pixel_binary_cross_entropy", (4, 5), "*H W, *H W, H W", {"positive_weight": 3.0}
    ),
    "dice_loss": regions("dice_loss", smooth=0.0),
    "tversky_loss": regions("tversky_loss", alpha=0.2, beta=0.9, smooth=0.0),
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
        "K, 4,, 4,",
        {"box_loss": "smooth_l1", "box_weight": 0.5, "beta": 0.3, "label_smoothing": 0.1},
        predicted=("logits", "box"),
        empty={"has_box": False},
        ignored=lambda x: {"box": ~x["has_box"], "target_box": ~x["has_box"]},
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
        "H W B 4, H W B, H W C, G 4, G, G",
        {"image_size": (60, 80), "predicts_roots": False},
        predicted=("coordinates", "confidence", "class_scores"),
    ),
    "yolov2_loss": detector(
        "yolov2_loss",
        {"logits": normal(4, 4, 2, 8)},
        "H W A C, G 4, G, G, A 2,",
        {"stride": 16, "ignore_threshold": 0.3},
        predicted=("logits",),
        after={
            "anchors": uniform(2, 2, least=5, most=30),
            "step": whole(least=198, most=201),
        },
    ),
    "yolo9000_loss": dataclasses.replace(
        detector(
            "yolov2_loss",
            {"logits": normal(4, 4, 2, 12)},
            "H W A 12, G 4, G, G, A 2,,",
            {"stride": 16, "ignore_threshold": 0.3, "tree": TREE},
            predicted=("logits",),
            after={
                "anchors": uniform(2, 2, least=5, most=30),
                "step": whole(least=198, most=201),
                "labels_only": mask(),
            },
        ),
        function=losses.yolo9000_loss,
        reference=losses_tree.yolo9000_loss,
    ),
    "yolov3_loss": detector(
        "yolov3_loss",
        {"logits": lambda rng: [normal(2, 2, 1, 8)(rng), normal(4, 4, 2, 8)(rng)]},
        "H W A C, G 4, G, G, A 2",
        {"strides": (32, 16), "ignore_threshold": 0.3},
        predicted=("logits",),
        after={"anchors": lambda rng: [np.float32([[40, 30]]), np.float32([[20, 10], [8, 16]])]},
    ),
    "yolov4_loss": detector(
        "yolov4_loss",
        {"logits": lambda rng: [normal(2, 2, 1, 8)(rng), normal(4, 4, 2, 8)(rng)]},
        "H W A C, G 4, G, G, T 2",
        {
            "strides": (32, 16),
            "masks": ((2,), (0, 1)),
            "scale_x_y": (1.05, 1.2),
            "ignore_threshold": 0.3,
        },
        predicted=("logits",),
        after={"anchors": uniform(3, 2, least=8, most=40)},
        expected=yolov4_reference,
    ),
    "ssd_multibox_loss": detector(
        "ssd_multibox_loss",
        {"logits": normal(20, 4), "deltas": normal(20, 4), "default_boxes": boxes(20)},
        "N K, N 4, N 4, G 4, G, G",
        {"box_weight": 0.5},
        predicted=("logits", "deltas"),
    ),
    "retinanet_loss": detector(
        "retinanet_loss",
        {"logits": normal(20, 3), "deltas": normal(20, 4), "anchors": boxes(20)},
        "N K, N 4, N 4, G 4, G, G",
        {"box_weight": 0.5, "box_loss": "giou"},
        predicted=("logits", "deltas"),
    ),
    "fcos_loss": detector(
        "fcos_loss",
        {
            "logits": normal(20, 3),
            "distances": uniform(20, 4, most=3),
            "centerness": normal(20),
            "points": uniform(20, 2, most=64),
            "sides": lambda rng: np.float32([4] * 12 + [8] * 8),
        },
        "N K, N 4, N, N 2, N, G 4, G, G",
        {"box_weight": 0.5, "centerness_weight": 0.5, "radius": 3.0},
        predicted=("logits", "distances", "centerness"),
    ),
    "rpn_loss": Case(
        keyed(losses.rpn_loss),
        detection.rpn_loss,
        {
            "key": lambda rng: jax.random.key(int(rng.integers(1000))),
            "objectness": normal(20),
            "deltas": normal(20, 4),
            "anchors": boxes(20),
            "boxes": boxes(6),
            "box_mask": mask(6),
            "anchor_mask": mask(20),
        },
        ", N, N 4, N 4, G 4, G, N",
        {"size": 8, "high_threshold": 0.5, "box_weight": 0.5, "per": "image"},
        predicted=("objectness", "deltas"),
        padded=("boxes",),
        mask="box_mask",
        empty={"box_mask": False},
        ignored=lambda x: {"boxes": ~x["box_mask"], "anchors": ~x["anchor_mask"]},
    ),
    "faster_rcnn_loss": Case(
        keyed(losses.faster_rcnn_loss),
        detection.faster_rcnn_loss,
        {
            "key": lambda rng: jax.random.key(int(rng.integers(1000))),
            "objectness": normal(20),
            "rpn_deltas": normal(20, 4),
            "anchors": boxes(20),
            "class_logits": normal(7, 4),
            "box_regression": normal(7, 4, 4),
            "proposals": boxes(7),
            "matches": whole(7, least=-2, most=-1),
            "boxes": boxes(6),
            "labels": whole(6, most=2),
            "box_mask": mask(6),
        },
        ", N, N 4, N 4, R K, R K 4, R 4, R, G 4, G, G",
        predicted=("objectness", "rpn_deltas", "class_logits", "box_regression"),
        padded=("boxes", "labels"),
        mask="box_mask",
        empty={"box_mask": False, "matches": -2},
        ignored=lambda x: {
            "boxes": ~x["box_mask"],
            "labels": ~x["box_mask"],
            "class_logits": x["matches"] == -2,
            "box_regression": x["matches"] < 0,
            "proposals": x["matches"] < 0,
        },
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
        "R K, R K 4, R 4, R, G 4, G",
        {"beta": 0.3, "box_weight": 0.5},
        predicted=("logits", "deltas"),
        padded=("boxes", "labels"),
        empty={"matches": -2},
        ignored=lambda x: {
            "logits": x["matches"] == -2,
            "deltas": x["matches"] < 0,
            "proposals": x["matches"] < 0,
            "boxes": ~np.isin(range(3), x["matches"]),
            "labels": ~np.isin(range(3), x["matches"]),
        },
    ),
    "mask_rcnn_loss": Case(
        losses.mask_rcnn_loss,
        losses_masks.mask_rcnn_loss,
        {
            "mask_logits": normal(5, 4, 4, 3),
            "proposals": boxes(5, size=16),
            "matches": whole(5, least=-2, most=2),
            "labels": whole(3, most=2),
            "masks": whole(3, 6, 6, most=255),
            "mask_frames": boxes(3, size=16),
            "size": lambda rng: np.array([15, 16]),
        },
        "R S S K, R 4, R, G, G M M, G 4, 2",
        predicted=("mask_logits",),
        padded=("labels", "masks", "mask_frames"),
        empty={"matches": -1},
        ignored=lambda x: {
            "mask_logits": x["matches"] < 0,
            "proposals": x["matches"] < 0,
            "masks": ~np.isin(range(3), x["matches"]),
            "mask_frames": ~np.isin(range(3), x["matches"]),
            "labels": ~np.isin(range(3), x["matches"]),
        },
    ),
    "keypoint_rcnn_loss": Case(
        losses.keypoint_rcnn_loss,
        detection.keypoint_rcnn_loss,
        {
            "keypoint_logits": normal(5, 4, 4, 3),
            "proposals": boxes(5, size=16),
            "matches": whole(5, least=-2, most=2),
            "keypoints": uniform(3, 3, 3, most=16),
        },
        "R S S K, R 4, R, G K 3",
        predicted=("keypoint_logits",),
        padded=("keypoints",),
        empty={"matches": -1},
        ignored=lambda x: {
            "keypoint_logits": x["matches"] < 0,
            "proposals": x["matches"] < 0,
            "keypoints": ~np.isin(range(3), x["matches"]),
        },
    ),
}
# By default one of each family, but for those of detectors: they take seconds to trace and compile.
QUICK = {
    "cross_entropy",
    "sigmoid_focal_loss",
    "softmax_focal_loss",
    "huber_loss",
    "complete_box_iou_loss",
    "pixel_cross_entropy",
    "tversky_loss",
    "heatmap_cross_entropy",
    "localization_loss",
}


def some_losses(cases, quick):
    """All checks of a loss come one after another, as they share what is compiled."""
    return pytest.mark.parametrize("name", slow_but(cases, quick), scope="module")


every_loss = some_losses(CASES, QUICK)
PADDED = [name for name, case in CASES.items() if case.padded]


def _variant(name, axes, **arrays):
    """A case with other forms of some arguments."""
    case = CASES[name]
    return dataclasses.replace(case, arrays={**case.arrays, **arrays}, axes=axes)


FORMS = CASES | {
    "cross_entropy of a distribution": _variant("cross_entropy", "K, K,", target=uniform(4)),
    "yolov1_loss of scores of each box": _variant(
        "yolov1_loss", "H W B 4, H W B, H W B C, G 4, G, G", class_scores=normal(4, 3, 2, 3)
    ),
    "fast_rcnn_loss of whatever class": _variant(
        "fast_rcnn_loss", "R K, R 4, R 4, R, G 4, G", deltas=normal(7, 4)
    ),
    "mask_rcnn_loss of whole masks": dataclasses.replace(
        CASES["mask_rcnn_loss"],
        arrays={**dict([*CASES["mask_rcnn_loss"].arrays.items()][:4]), "masks": uniform(3, 16, 16)},
        axes="R S S K, R 4, R, G, G H W",
        accepts={"masks": ("bool",)},
    ),
}
ARGUMENTS = [
    (name, argument)
    for name, case in FORMS.items()
    for argument in case.arrays
    if argument != "key"
]

NEGATIVE, NOT_POSITIVE, NO_FRACTION = (-0.01,), (0.0, float("inf")), (-0.01, 1.01)
OUT_OF_RANGE = {
    "cross_entropy": {"label_smoothing": (-0.01, 1.0)},
    "binary_cross_entropy": {"positive_weight": NEGATIVE},
    "sigmoid_focal_loss": {"alpha": NO_FRACTION, "gamma": NEGATIVE},
    "softmax_focal_loss": {"alpha": [(0.2, -0.01, 3.0)], "gamma": NEGATIVE},
    "huber_loss": {"delta": NOT_POSITIVE},
    "smooth_l1_loss": {"beta": NOT_POSITIVE},
    "pixel_cross_entropy": {"class_weights": [(1.0, 2.0, -0.01)]},
    "pixel_binary_cross_entropy": {"positive_weight": NEGATIVE},
    "dice_loss": {"smooth": NEGATIVE},
    "tversky_loss": {"alpha": NEGATIVE, "beta": NEGATIVE, "smooth": NEGATIVE},
    "localization_loss": {
        "box_weight": NEGATIVE,
        "beta": NOT_POSITIVE,
        "label_smoothing": (-0.01, 1.0),
    },
    "yolov1_loss": {
        "image_size": [(0, 80), (60, 0)],
        "lambda_coord": NEGATIVE,
        "lambda_noobj": NEGATIVE,
    },
    "yolov2_loss": {
        "stride": (0,),
        "object_weight": NEGATIVE,
        "no_object_weight": NEGATIVE,
        "coordinate_weight": NEGATIVE,
        "class_weight": NEGATIVE,
        "ignore_threshold": NO_FRACTION,
        "prior_weight": NEGATIVE,
    },
    "yolo9000_loss": {
        "stride": (0,),
        "object_weight": NEGATIVE,
        "no_object_weight": NEGATIVE,
        "coordinate_weight": NEGATIVE,
        "class_weight": NEGATIVE,
        "ignore_threshold": NO_FRACTION,
        "prior_weight": NEGATIVE,
        "label_start": (-1,),
    },
    "yolov3_loss": {"strides": [(32, 0)], "ignore_threshold": NO_FRACTION},
    "yolov4_loss": {
        "strides": [(32, 0)],
        "scale_x_y": [(1.0, 0.0)],
        "iou_threshold": NO_FRACTION,
        "ignore_threshold": NO_FRACTION,
        "ignore_score": NO_FRACTION,
        "box_weight": NEGATIVE,
        "objectness_weight": (-0.01, (1.0, -0.01)),
        "class_weight": NEGATIVE,
        "label_smoothing": (-0.01, 1.0),
        "max_delta": (0.0,),
    },
    "ssd_multibox_loss": {
        "iou_threshold": NO_FRACTION,
        "negative_ratio": NEGATIVE,
        "box_weight": NEGATIVE,
    },
    "retinanet_loss": {
        "high_threshold": (1.01,),
        "low_threshold": (-0.01, 0.51),
        "alpha": NO_FRACTION,
        "gamma": NEGATIVE,
        "box_weight": NEGATIVE,
    },
    "fcos_loss": {
        "radius": (0.0,),
        "alpha": NO_FRACTION,
        "gamma": NEGATIVE,
        "box_weight": NEGATIVE,
        "centerness_weight": NEGATIVE,
    },
    "rpn_loss": {
        "high_threshold": (1.01,),
        "low_threshold": (-0.01, 0.51),
        "size": (0,),
        "positive_fraction": NO_FRACTION,
        "box_weight": NEGATIVE,
        "beta": NOT_POSITIVE,
    },
    "fast_rcnn_loss": {"beta": NOT_POSITIVE, "box_weight": NEGATIVE},
    "mask_rcnn_loss": {"sampling_ratio": (0, -2)},
    "faster_rcnn_loss": {
        "rpn_fg_iou_thresh": (1.01,),
        "rpn_bg_iou_thresh": (-0.01, 0.71),
        "rpn_batch_size_per_image": (0,),
        "rpn_positive_fraction": NO_FRACTION,
        "rpn_beta": NOT_POSITIVE,
        "box_beta": NOT_POSITIVE,
        "rpn_box_weight": NEGATIVE,
        "box_weight": NEGATIVE,
    },
}
UNLIMITED = {
    "box_gradient",
    "box_loss",
    "constrained",
    "forced",
    "ignore_label",
    "label_objectness",
    "masks",
    "match",
    "per",
    "predicts_roots",
    "prior_steps",
    "squared",
    "tree",
}


def test_every_public_loss_is_in_the_table():
    assert set(losses.__all__) == set(CASES)


@every_loss
def test_one_example_equals_the_reference(name):
    contract.check_one_example(CASES[name])


@every_loss
def test_a_batch_equals_its_examples_filler_adds_nothing_and_shards_add_up_to_it(name):
    contract.check_batch(CASES[name])


@some_losses(PADDED, QUICK & set(PADDED))
def test_padding_changes_neither_value_nor_gradient(name):
    contract.check_padding(CASES[name])


@every_loss
def test_the_extremes_and_nothing_at_all_give_finite_values_and_gradients(name):
    contract.check_extremes(CASES[name])


@pytest.mark.parametrize(
    "name",
    long_but(
        CASES,
        ["huber_loss", "pixel_cross_entropy"],
        ["dice_loss", "rpn_loss"],
    ),
    scope="module",
)
def test_half_precision_is_computed_in_float32(name):
    contract.check_half_precision(CASES[name])


@pytest.mark.parametrize(
    "name",
    long_but(CASES, ["huber_loss", "cross_entropy"]),
)
def test_one_example_equals_the_reference_operation_by_operation(name):
    contract.check_operation_by_operation(CASES[name])


@pytest.mark.parametrize(
    ("name", "argument"), slow_but(ARGUMENTS, [pair for pair in ARGUMENTS if pair[0] in QUICK])
)
def test_a_wrong_shape_or_dtype_names_the_argument(name, argument):
    contract.check_errors(FORMS[name], argument)


@pytest.mark.parametrize("name", CASES)
def test_arrays_come_first_and_all_is_documented(name):
    contract.check_documentation(CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_options_out_of_range_are_refused(name):
    arrays, limited = CASES[name].make(0), OUT_OF_RANGE.get(name, {})
    parameters = inspect.signature(CASES[name].function).parameters.values()
    assert {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - UNLIMITED == set(limited)
    for option, values in limited.items():
        for value in values:
            given = r"(\[\d\])? is " if isinstance(value, tuple) else f" is {value}: give"
            loss = partial(CASES[name].bound, **{option: value})
            with pytest.raises(ValueError, match=f"^{option}{given}"):
                jax.eval_shape(loss, *arrays)


@pytest.mark.parametrize(
    ("name", "argument", "least"),
    [
        ("cross_entropy", "logits", 1),
        ("softmax_focal_loss", "logits", 2),
        ("yolov1_loss", "class_scores", 1),
        pytest.param("yolov2_loss", "logits", 6, marks=pytest.mark.slow),
        pytest.param("yolov3_loss", "logits", 6, marks=pytest.mark.slow),
        pytest.param("yolov4_loss", "logits", 6, marks=pytest.mark.slow),
    ],
)
def test_too_few_classes_are_refused(name, argument, least):
    case = CASES[name]
    arrays = dict(zip(case.arrays, case.make(0), strict=True))

    def of_classes(number):
        fewer = jax.tree.map(lambda x: x[..., :number], arrays[argument])
        options = {"alpha": None} if name == "softmax_focal_loss" else {}
        loss = partial(case.bound, **options)
        return jax.eval_shape(loss, *{**arrays, argument: fewer}.values())

    of_classes(least)
    with pytest.raises(ValueError, match="the number of"):
        of_classes(least - 1)


WIDE = 130
"""More classes than int8 can count."""
LABELLED = {
    "cross_entropy": ("only", "logits", 0),
    "softmax_focal_loss": ("only", "logits", 0),
    "pixel_cross_entropy": ("only", "logits", 0),
    "yolov1_loss": ("class", "class_scores", 0),
    "yolov2_loss": ("class", "logits", 5),
    "yolov3_loss": ("class", "logits", 5),
    "yolov4_loss": ("class", "logits", 5),
    "ssd_multibox_loss": ("classification", "logits", 1),
    "retinanet_loss": ("classification", "logits", 0),
    "fast_rcnn_loss of whatever class": ("classification", "logits", 1),
    "mask_rcnn_loss": ("mask", "mask_logits", 0),
}
"""Losses of labels: the term that these are in, the scores, and how many are of no class."""


@pytest.mark.parametrize(
    "name", long_but(LABELLED, ["cross_entropy", "pixel_cross_entropy"], ["ssd_multibox_loss"])
)
def test_labels_of_small_types_and_what_is_no_class(name):
    """A label may have any type; one that is no class gives NaN where it counts, else nothing."""
    term, scores, others = LABELLED[name]
    case = FORMS[name]
    arrays = dict(zip(case.arrays, case.make(0), strict=True))
    rng = np.random.default_rng(0)
    arrays[scores] = jax.tree.map(
        lambda x: rng.normal(size=(*x.shape[:-1], WIDE + others)).astype("f4"), arrays[scores]
    )
    labels = "target" if "target" in arrays else "labels"
    options = {**case.options, **dict.fromkeys({"alpha", "class_weights"} & set(case.options))}

    @jax.jit
    def totals(label, counted):
        """By type of the labels, where all objects have the same one."""
        switches = {"weight": 1.0 * counted, "matches": jnp.where(counted, 1, -2)}
        result = {}
        for dtype in ("int32", "int8", "uint8"):
            given = {labels: jnp.full(arrays[labels].shape, label).astype(dtype)}
            for switch in {"mask", "box_mask", "weight", "matches"} & set(arrays):
                given[switch] = jnp.full(arrays[switch].shape, switches.get(switch, counted))
            terms = case.function(*{**arrays, **given}.values(), **options)
            result[dtype] = contract.as_terms(terms)[term][0]
        return result

    for label in (0, 127, WIDE - 1):
        actual = jax.tree.map(float, totals(label, True))
        if label == WIDE - 1:
            actual.pop("int8")
        assert actual["int32"] > 0
        assert set(actual.values()) == {actual["int32"]}
    nothing = totals(0, False)["int32"]
    for label, *types in (
        (-1, "int32", "int8"),
        (-127, "int32", "int8"),  # in 8 bits it equals 129
        (WIDE, "int32", "uint8"),
        (10**6, "int32"),
    ):
        for dtype in types:
            assert np.isnan(totals(label, True)[dtype]), (label, dtype)
            assert totals(label, False)[dtype] == nothing == 0, (label, dtype)
