"""The localiser as a detector: which object counts, one detection an image, and its metrics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.core import Inputs, OptionError
from jaxvision.models import create_model
from jaxvision.tasks import RESTORE, DetectOptions, detection, detectors
from tests.tasks.loop import as_json
from tests.tasks.test_detection import SIZE, batch_of, first

BACKBONE = {"name": "plain_darknet", "stages": ((1, ((4, 3),)), (2, ((8, 3),)))}
LOGITS = np.log(np.float32([1, 6, 3]))
BOX = np.float32([0.5, 0.25, 0.5, 0.25])  # [8, 4, 24, 12] of 32 x 32
MAPS = {"logits": LOGITS, "box": BOX}


def make(**options):
    model = create_model("localizer", num_classes=3, backbone=BACKBONE)
    detector = detectors.localizer(model, **options)
    return detection(detector, Inputs((SIZE, SIZE), resize="letterbox"), class_names=3)


task_of = functools.cache(make)


def example_of(boxes, labels, **flags):
    """One image with these objects and padding that is larger than all."""
    count = len(boxes)
    padded = np.float32([*boxes, [0, 0, SIZE, SIZE]])
    no = np.zeros(count + 1, bool)
    fields = {"crowd": no, "difficult": no}
    fields |= {name: np.isin(np.arange(count + 1), rows) for name, rows in flags.items()}
    example = first(batch_of(boxes=count + 1))
    return example.replace(
        boxes=padded,
        labels=np.int32([*labels, 0]),
        box_mask=np.arange(count + 1) < count,
        **fields,
    )


def test_one_box_of_the_most_probable_class_is_found_and_clipped_to_the_image():
    example = example_of([], []).replace(extent=np.int32([10, 20]))
    found, none = jax.device_get(
        jax.jit(
            lambda example: (
                task_of().decode(MAPS, example),
                make(decode=DetectOptions(score_threshold=0.7)).decode(MAPS, example),
            )
        )(example)
    )
    np.testing.assert_allclose(found.boxes, [[8, 4, 20, 10]], rtol=1e-5)
    np.testing.assert_allclose(found.scores, [0.6], rtol=1e-5)
    assert (found.labels.tolist(), found.valid.tolist()) == ([1], [True])
    assert none.valid.tolist() == [False]


@jax.jit
def losses_and_metrics(example):
    terms = task_of().loss(MAPS, example, key=None, step=jnp.int32(0))
    return terms, task_of().metrics(MAPS, example)


SMALL, LARGE = [8, 4, 24, 12], [8, 4, 24, 20]  # of 16 x 8 and 16 x 16 pixels
CASES = [
    # What counts, and whether the class 1 is right and the box [8, 4, 24, 12] has this IoU.
    ([SMALL], [1], {}, True, 1.0),
    ([SMALL, LARGE], [0, 1], {}, True, 0.5),
    ([LARGE, LARGE], [2, 1], {}, False, 0.5),
    ([LARGE, SMALL], [2, 1], {"crowd": [0]}, True, 1.0),
    ([LARGE, SMALL], [2, 1], {"difficult": [0]}, True, 1.0),
]


@pytest.mark.parametrize(("boxes", "labels", "flags", "right", "iou"), CASES)
def test_the_largest_object_counts(boxes, labels, flags, right, iou):
    terms, metrics = jax.device_get(losses_and_metrics(example_of(boxes, labels, **flags)))
    expected = {"accuracy": right, "mean_iou": iou, "localization_accuracy": right}
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], (value, 1), rtol=1e-5, err_msg=name)
    taken = labels[0] if len(boxes) == 1 or (labels == [2, 1] and not flags) else 1
    np.testing.assert_allclose(terms["classification"], (np.log(10) - LOGITS[taken], 1), rtol=1e-5)
    bottom = 0.0 if iou == 1 else 8 / 32
    np.testing.assert_allclose(terms["box"], (bottom**2, 1), atol=1e-6)


def test_an_image_without_objects_has_no_part_in_anything():
    for example in (example_of([], []), example_of([LARGE], [1], crowd=[0])):
        terms, metrics = jax.device_get(losses_and_metrics(example))
        for name, (total, weight) in {**terms, **metrics}.items():
            assert (total, weight) == (0, 0), name


def test_a_description_gives_the_same_decoding():
    task = make(decode=DetectOptions(score_threshold=0.2), box_loss="giou", box_weight=3.0)
    parts = as_json(task)
    assert parts["loss"]["box_loss"] == "giou"
    assert parts["decode"]["detector"] == "localizer"
    assert as_json(RESTORE["detection"](parts))["decode"] == parts["decode"]


def test_a_backbone_that_takes_images_of_224_pixels_only():
    backbone = {"name": "vit_b_16", "blocks": 1, "width": 4, "heads": 2}
    model = create_model("localizer", num_classes=3, backbone=backbone, attention=False)
    task = detection(detectors.localizer(model), Inputs((224, 224)), class_names=3)
    assert task.class_names == ("0", "1", "2")


def test_errors_name_the_option():
    model = create_model("localizer", num_classes=3, backbone=BACKBONE)
    with pytest.raises(OptionError, match="gamma"):
        detectors.localizer(model, gamma=2)
    with pytest.raises(OptionError, match="model gives no map 'box', but"):
        detectors.localizer(create_model("resnet20"))
    with pytest.raises(OptionError, match="unknown box_loss 'gio': did you mean 'giou'"):
        make(box_loss="gio")
