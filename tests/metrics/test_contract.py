"""What every public metric of one example promises, by table: a new one that is missing fails.

Metrics on the host, which see whole data sets, are not in it: their rules are tested in
test_coco.py, test_coco_keypoints.py, test_voc.py, test_detection_tables.py and
test_class_scores.py.
"""

import pytest

from jaxvision import metrics
from tests import contract
from tests.contract import Case
from tests.makers import mask, normal, uniform, whole
from tests.reference import metrics as reference

ON_THE_HOST = {
    "COCO_KEYPOINT_SIGMAS",
    "Calibration",
    "ClassScores",
    "CocoResult",
    "DetectionAccumulator",
    "DetectionTable",
    "ObjectTable",
    "VocResult",
    "calibration",
    "class_scores",
    "coco_average_precision",
    "confused_pairs",
    "count_confusions",
    "matched_classes",
    "paired_keypoint_similarity",
    "roc_auc",
    "voc_average_precision",
}


def _labels(*shape):
    """Classes 0 to 2, some that are none, and ignored pixels."""

    def make(rng):
        return rng.choice([0, 1, 2, 3, -1, 255], shape, p=[0.3, 0.3, 0.2, 0.05, 0.05, 0.1])

    return make


def _case(name, arrays, axes, options=None, **more):
    functions = getattr(metrics, name), getattr(reference, name)
    return Case(*functions, arrays, axes, options or {}, **more)


def pixels(name, **options):
    """A metric of label maps with a mask."""
    return _case(
        name,
        {"predicted": _labels(5, 6), "target": _labels(5, 6), "mask": mask(5, 6)},
        "*H W, *H W, H W",
        options,
        padded=("predicted", "target"),
        mask="mask",
        empty={"mask": False},
    )


def images(name, axes, *shape, **more):
    arrays = {"predicted": uniform(*shape), "target": uniform(*shape), **more}
    how = {
        "predicted": ("predicted",),
        "accepts": dict.fromkeys(("predicted", "target"), ("int32",)),
    }
    how["empty"] = dict.fromkeys(more, False)
    return _case(name, arrays, axes, {"data_range": 1.0}, **how)


CASES = {
    "top_k_accuracy": _case(
        "top_k_accuracy", {"logits": normal(5), "target": whole(most=4)}, "K,", {"k": 2}
    ),
    "confusion_matrix": pixels("confusion_matrix", num_classes=3),
    "pixel_accuracy": pixels("pixel_accuracy"),
    "mean_iou": pixels("mean_iou", num_classes=3),
    "dice_score": pixels("dice_score", num_classes=3),
    "score_histogram": _case(
        "score_histogram",
        {"scores": uniform(5, 6), "target": mask(5, 6), "mask": mask(5, 6)},
        "*H W, *H W, *H W",
        {"bins": 8},
        padded=("scores", "target"),
        mask="mask",
        empty={"mask": False},
    ),
    "psnr": images("psnr", "*H W C, *H W C", 5, 6, 3),
    "ssim": images("ssim", "H W C, H W C, 2 3", 12, 13, 2, windows=mask(2, 3)),
    "normalized_landmark_error": _case(
        "normalized_landmark_error",
        {
            "predicted": normal(5, 2),
            "target": normal(5, 2),
            "visible": mask(5),
            "normalizer": uniform(least=0.5),
        },
        "K 2, K 2, K,",
        predicted=("predicted",),
        padded=("predicted", "target"),
        mask="visible",
        empty={"visible": False, "normalizer": 0},
        accepts={"normalizer": ("int32",)},
    ),
}
# All checks of a metric come one after another, as they share what is compiled.
every_metric = pytest.mark.parametrize("name", CASES, scope="module")
PADDED = [name for name, case in CASES.items() if case.padded]
ARGUMENTS = [(name, argument) for name, case in CASES.items() for argument in case.arrays]


def test_every_public_metric_is_in_the_table():
    assert set(metrics.__all__) == set(CASES) | ON_THE_HOST


@every_metric
def test_one_example_equals_the_reference(name):
    contract.check_one_example(CASES[name])


@pytest.mark.parametrize("name", ["pixel_accuracy", "normalized_landmark_error"])
def test_one_example_equals_the_reference_operation_by_operation(name):
    contract.check_operation_by_operation(CASES[name])


@every_metric
def test_a_batch_equals_its_examples_filler_adds_nothing_and_shards_add_up_to_it(name):
    contract.check_batch(CASES[name])


@pytest.mark.parametrize("name", PADDED, scope="module")
def test_padding_changes_neither_value_nor_gradient(name):
    contract.check_padding(CASES[name])


@every_metric
def test_the_extremes_and_nothing_at_all_give_finite_values_and_gradients(name):
    contract.check_extremes(CASES[name])


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_a_wrong_shape_or_dtype_names_the_argument(name, argument):
    contract.check_errors(CASES[name], argument)


@every_metric
def test_half_precision_is_computed_in_float32(name):
    contract.check_half_precision(CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_arrays_come_first_and_all_is_documented(name):
    contract.check_documentation(CASES[name])
