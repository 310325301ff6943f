"""Examples for detection: padded once, with a mask, and refused where something cannot be."""

import jax
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.data import EvalLoader, TrainLoader
from jaxvision.data.annotated import AnnotatedImages
from jaxvision.data.detection import ToDetectionExample
from jaxvision.data.placement import to_input
from jaxvision.data.voc import read_voc
from tests.data.folders import IMAGES, write_voc

RECORD = {
    "image": np.full((20, 40, 3), 9, np.uint8),
    "boxes": np.array([[0, 0, 40, 20], [10, 5, 20, 15.0]]),
    "labels": np.array([1, 0]),
    "crowd": np.array([False, True]),
    "difficult": np.array([True, False]),
}


def test_an_example_by_hand():
    example = ToDetectionExample((30, 32), num_classes=2, max_boxes=3)(RECORD, "x")
    assert example.image.shape == (30, 32, 3)
    assert (example.image[7:23] == 9).all()
    assert (example.image[:7] == 127).all()
    np.testing.assert_allclose(example.boxes, [[0, 7, 32, 23], [8, 11, 16, 19], [0, 0, 0, 0]])
    assert example.labels.tolist() == [1, 0, 0]
    assert example.box_mask.tolist() == [True, True, False]
    assert example.crowd.tolist() == [False, True, False]
    assert example.difficult.tolist() == [True, False, False]
    np.testing.assert_allclose(example.placement, [0.8, 0.8, 0, 7])
    dtypes = {name: x.dtype for name, x in vars(example).items() if x is not None}
    assert dtypes == {
        "image": np.uint8,
        "boxes": np.float32,
        "labels": np.int32,
        "box_mask": bool,
        "crowd": bool,
        "difficult": bool,
        "mask": bool,
        "placement": np.float32,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": np.zeros((4, 4), np.uint8)}, r"x: the image is uint8\[4, 4\], not uint8 \[H, W"),
        ({"image": np.zeros((4, 4, 3))}, r"x: the image is float64\[4, 4, 3\]"),
        ({"labels": np.array([1, 2])}, "x: label 2 of box 2 is out of range 0..1"),
        ({"labels": np.array([-1, 0])}, "x: label -1 of box 1"),
    ],
)
def test_a_record_that_cannot_be_used(changes, message):
    with pytest.raises(InputError, match=message):
        ToDetectionExample((8, 8), num_classes=2)({**RECORD, **changes}, "x")


def test_too_many_boxes_are_never_cut_off():
    with pytest.raises(
        InputError, match=r"x: has 2 boxes, more than 1: set config.data.max_boxes=2"
    ):
        ToDetectionExample((8, 8), num_classes=2, max_boxes=1)(RECORD, "x")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": (0, 8)}, "config.data.image_size is 0"),
        ({"num_classes": 0}, "config.data.num_classes is 0"),
        ({"max_boxes": 0}, "config.data.max_boxes is 0"),
        ({"fill": 256}, "config.data.fill is 256"),
        ({"resize": "crop"}, "unknown config.data.resize 'crop'"),
    ],
)
def test_settings_that_cannot_be(options, message):
    with pytest.raises(InputError, match=message):
        ToDetectionExample(**{"image_size": (8, 8), "num_classes": 2, **options})


def test_loaders_take_them(tmp_path):
    source = AnnotatedImages(read_voc(write_voc(tmp_path / "voc"), "train"), name="voc")
    transform = ToDetectionExample((16, 16), num_classes=2, max_boxes=4)
    batches = list(EvalLoader(source, transform, batch_size=2))
    assert [x.mask.tolist() for x in batches] == [[True, True], [True, False]]
    boxes = np.concatenate([x.boxes for x in batches])
    for row, annotation in enumerate(read_voc(tmp_path / "voc", "train").annotations):
        expected = to_input(annotation.boxes, batches[row // 2].placement[row % 2].astype(float))
        np.testing.assert_allclose(boxes[row, : len(expected)], expected, atol=1e-5)
        assert len(expected) == len(IMAGES[annotation.image.stem][1])
    # Filler is all zeros, placements too: nobody divides by its scale but under the mask.
    assert not any(np.any(x[1]) for x in jax.tree.leaves(batches[1]))
    with_partners = next(TrainLoader(source, transform, batch_size=2, seed=0, partners=3))
    assert with_partners.partners.image.shape == (2, 3, 16, 16, 3)
    assert with_partners.partners.boxes.shape == (2, 3, 4, 4)
