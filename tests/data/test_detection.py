"""Examples for detection: padded once, with a mask, and refused where something cannot be."""

import jax
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.data import EvalLoader, TrainLoader
from jaxvision.data.sources.annotated import AnnotatedImages
from jaxvision.data.sources.coco import read_coco
from jaxvision.data.sources.voc import read_voc
from jaxvision.data.transforms.detection import ToDetectionExample
from jaxvision.ops import Polygons, encode_mask
from jaxvision.ops.placement import to_input
from tests.data.folders import IMAGES, coco_content, write_coco, write_voc

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
    assert example.size.tolist() == [20, 40]
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
        "size": np.int32,
        "area": np.float32,
    }


BOTTOM = np.zeros((20, 40), bool)
BOTTOM[10:, :30] = True
MASKS = (encode_mask(BOTTOM), Polygons((np.array([[10, 5], [20, 5], [20, 15], [10, 15]]),)))


def test_masks_by_hand():
    transform = ToDetectionExample((30, 32), num_classes=2, max_boxes=3, masks=True)
    masks = transform({**RECORD, "masks": MASKS}, "x").masks
    assert (masks.dtype, masks.shape) == (bool, (3, 30, 32))
    expected = np.zeros((3, 30, 32), bool)
    expected[0, 15:23, :24] = True
    expected[1, 11:19, 8:16] = True
    np.testing.assert_array_equal(masks, expected)


def test_an_image_without_objects_needs_no_masks():
    nothing = {name: RECORD[name][:0] for name in ("boxes", "labels", "crowd", "difficult")}
    record = {"image": RECORD["image"], **nothing, "masks": ()}
    example = ToDetectionExample((30, 32), num_classes=2, max_boxes=3, masks=True)(record, "x")
    assert example.masks.shape == (3, 30, 32)
    assert not example.masks.any()
    assert example.area.tolist() == [0, 0, 0]


@pytest.mark.parametrize("record", [RECORD, {**RECORD, "masks": None}])
def test_masks_that_are_asked_for_must_be_there(record):
    transform = ToDetectionExample((8, 8), num_classes=2, masks=True)
    with pytest.raises(
        InputError, match=r"x: does not give a mask for each object: .* config\.data\.masks=False"
    ):
        transform(record, "x")


@pytest.mark.parametrize("masks", [False, True])
def test_areas_are_those_of_the_record_or_of_masks_or_of_boxes(masks):
    def areas(**given):
        record = {**RECORD, "masks": MASKS, **given}
        transform = ToDetectionExample((10, 10), num_classes=2, max_boxes=3, masks=masks)
        return transform(record, "x").area.tolist()

    assert areas(area=np.array([7.0, 8.5])) == [7, 8.5, 0]
    assert areas(area=None) == [300, 100, 0]
    assert areas() == [300, 100, 0]
    if not masks:
        assert areas(masks=None) == [800, 100, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": np.zeros((4, 4), np.uint8)}, r"x: the image is uint8\[4, 4\], not uint8 \[H, W"),
        ({"image": np.zeros((4, 4, 3))}, r"x: the image is float64\[4, 4, 3\]"),
        (
            {"labels": np.array([1, 2])},
            "x: label 2 of box 2 .* 0..1: .* config.data.class_names",
        ),
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
        ({"num_classes": 0}, "the number of config.data.class_names is 0"),
        ({"max_boxes": 0}, "config.data.max_boxes is 0"),
        ({"fill": 256}, "^fill is 256"),
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


def test_loaders_take_masks(tmp_path):
    content = coco_content()
    for annotation in content["annotations"]:
        x, y, width, height = annotation["bbox"]
        right, bottom = x + width, y + height
        annotation["segmentation"] = [[x, y, right, y, right, bottom, x, bottom]]
    listing = read_coco(write_coco(tmp_path, content), tmp_path / "images", masks=True)
    source = AnnotatedImages(listing, name="coco")
    transform = ToDetectionExample((80, 80), num_classes=2, max_boxes=4, masks=True)
    found = 0
    for batch in EvalLoader(source, transform, batch_size=2):
        for place in np.ndindex(2, 4):
            # All boxes are of whole pixels there.
            x1, y1, x2, y2 = batch.boxes[place].astype(int)
            expected = np.zeros((80, 80), bool)
            expected[y1:y2, x1:x2] = True
            np.testing.assert_array_equal(batch.masks[place], expected)
            found += expected.any()
    assert found == 3
    batch = next(TrainLoader(source, transform, batch_size=2, seed=0, partners=3))
    assert batch.partners.masks.shape == (2, 3, 4, 80, 80)
