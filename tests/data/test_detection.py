"""Examples for detection: padded once, with a mask, and refused where something cannot be."""

import jax
import numpy as np
import pytest

from jaxvision.core import InputError, Inputs, OptionError
from jaxvision.data import (
    EvalLoader,
    MultiScale,
    Subset,
    ToDetection,
    TrainLoader,
    check_box_counts,
)
from jaxvision.data.sources.annotated import AnnotatedImages
from jaxvision.data.sources.coco import read_coco
from jaxvision.data.sources.voc import read_voc
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


def boxed(height, width):
    return Inputs((height, width), resize="letterbox")


def test_an_example_by_hand():
    example = ToDetection(boxed(30, 32), 2, max_boxes=3)(RECORD, "x")
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
    assert example.extent.tolist() == [30, 32]
    dtypes = {name: x.dtype for name, x in vars(example).items() if x is not None}
    assert dtypes == {
        "image": np.uint8,
        "boxes": np.float32,
        "labels": np.int32,
        "box_mask": bool,
        "crowd": bool,
        "difficult": bool,
        "mask": bool,
        "extent": np.int32,
        "placement": np.float32,
        "size": np.int32,
        "area": np.float32,
    }


BOTTOM = np.zeros((20, 40), bool)
BOTTOM[10:, :30] = True
MASKS = (encode_mask(BOTTOM), Polygons((np.array([[10, 5], [20, 5], [20, 15], [10, 15]]),)))


def test_masks_by_hand():
    transform = ToDetection(boxed(30, 32), 2, max_boxes=3, masks=True, mask_size=6)
    corner = np.zeros((20, 40), bool)
    corner[0, 30], corner[:6, 37:40] = True, True
    example = transform({**RECORD, "masks": (MASKS[0], encode_mask(corner))}, "x")
    assert (example.masks.dtype, example.masks.shape) == (np.uint8, (3, 6, 6))
    frames = example.mask_frames
    assert frames.dtype == np.float32
    # The frames are around the masks, not the boxes, in pixels of the input.
    np.testing.assert_allclose(frames, [[0, 15, 24, 23], [24, 7, 32, 11.8], [0] * 4], atol=1e-6)
    # The second mask has 6 rows and 10 columns: a cell has 5/3 columns.
    expected = np.zeros((6, 6))
    expected[0, 0], expected[:, 4], expected[:, 5] = 0.6, 0.8, 1
    np.testing.assert_allclose(example.masks[1] / 255, expected, atol=0.5 / 255 + 1e-6)
    assert (example.masks[0] == 255).all()
    assert not example.masks[2].any()
    assert ToDetection(boxed(8, 8), 2, masks=True)({**RECORD, "masks": MASKS}, "x").masks.shape == (
        100,
        112,
        112,
    )


def test_an_image_without_objects_needs_no_masks():
    nothing = {name: RECORD[name][:0] for name in ("boxes", "labels", "crowd", "difficult")}
    record = {"image": RECORD["image"], **nothing, "masks": ()}
    example = ToDetection(boxed(30, 32), 2, max_boxes=3, masks=True, mask_size=5)(record, "x")
    assert example.masks.shape == (3, 5, 5)
    assert not example.masks.any()
    assert not example.mask_frames.any()
    assert example.area.tolist() == [0, 0, 0]


@pytest.mark.parametrize("record", [RECORD, {**RECORD, "masks": None}])
def test_masks_that_are_asked_for_must_be_there(record):
    transform = ToDetection(boxed(8, 8), 2, masks=True)
    with pytest.raises(
        InputError, match=r"x: does not give a mask for each object: .* set masks=False$"
    ):
        transform(record, "x")


@pytest.mark.parametrize("masks", [False, True])
def test_areas_are_those_of_the_record_or_of_masks_or_of_boxes(masks):
    def areas(**given):
        record = {**RECORD, "masks": MASKS, **given}
        transform = ToDetection(boxed(10, 10), 2, max_boxes=3, masks=masks)
        return transform(record, "x").area.tolist()

    assert areas(area=np.array([7.0, 8.5])) == [7, 8.5, 0]
    assert areas(area=None) == [300, 100, 0]
    assert areas() == [300, 100, 0]
    if not masks:
        assert areas(masks=None) == [800, 100, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": np.zeros((4, 4), np.uint8)}, r"x: the image is uint8\[4, 4\]: give uint8"),
        ({"image": np.zeros((4, 4, 3))}, r"x: the image is float64\[4, 4, 3\]"),
        (
            {"labels": np.array([1, 2])},
            "x: label 2 of box 2 .* 0..1: correct the record or add to class_names",
        ),
        ({"labels": np.array([-1, 0])}, "x: label -1 of box 1"),
    ],
)
def test_a_record_that_cannot_be_used(changes, message):
    with pytest.raises(InputError, match=message):
        ToDetection(boxed(8, 8), 2)({**RECORD, **changes}, "x")


def test_too_many_boxes_are_not_cut_off_unless_that_is_asked_for():
    message = r"^max_boxes is 1, but x has 2 boxes: give 2, or leave out .* with drop_extra=True$"
    with pytest.raises(OptionError, match=message) as error:
        ToDetection(boxed(8, 8), 2, max_boxes=1)(RECORD, "x")
    assert error.value.option == "max_boxes"
    kept = ToDetection(boxed(30, 32), 2, max_boxes=1, drop_extra=True)(RECORD, "x")
    np.testing.assert_array_equal(kept.boxes, [[0, 7, 32, 23]])
    with pytest.raises(InputError, match="x: label 2 of box 2"):
        ToDetection(boxed(8, 8), 2, max_boxes=1, drop_extra=True)(
            {**RECORD, "labels": np.array([1, 2])}, "x"
        )


class Crowded:
    """Two images of 40 x 20 pixels, the second of which has 300 objects of 1 to 300 pixels."""

    class_names = ("cat", "dog")

    def __init__(self, counted=True):
        self._records = [self._record(1), self._record(300)]
        if counted:
            self.box_counts = [1, 300]

    def _record(self, count):
        side = np.random.default_rng(count).permutation(count) + 1.0
        masks = [np.zeros((20, 40), bool) for _ in side]
        for row, mask in enumerate(masks):
            mask.flat[: row + 1] = True
        return {
            "image": RECORD["image"],
            "boxes": np.stack([0 * side, 0 * side, 0.1 * side, 10 + 0 * side], axis=1),
            "labels": np.arange(count) % 2,
            "crowd": np.arange(count) % 3 == 1,
            "difficult": np.arange(count) % 3 == 2,
            "area": np.arange(count) + 1.0,
            "masks": tuple(map(encode_mask, masks)),
            "keypoints": np.tile(np.arange(count)[:, None, None] % 16 + 1.0, (1, 1, 3)),
            "size": (20, 40),
        }

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self._records[index]

    def where(self, index):
        return f"image {index}"

    def target(self, index):
        return {name: x for name, x in self._records[index].items() if name != "image"}


def test_of_300_objects_the_largest_are_kept_with_all_that_belongs_to_them():
    record = Crowded()[1]
    how = {"masks": True, "mask_size": 3, "num_keypoints": 1}

    def example_of(most, **more):
        return ToDetection(Inputs((20, 40)), 2, max_boxes=most, **how, **more)(record, "x")

    everything = example_of(300)
    for most in (7, 150, 250, 300):
        kept = example_of(most, drop_extra=True)
        # First those that are neither difficult nor crowds, then the difficult ones.
        rank = record["difficult"] + 2 * record["crowd"] - record["boxes"][:, 2] / 100
        rows = np.sort(np.argsort(rank)[:most])
        assert kept.box_mask.all()
        assert kept.crowd.sum() == max(0, most - 200)
        for name in ("boxes", "labels", "crowd", "difficult", "area", "masks", "mask_frames"):
            np.testing.assert_array_equal(getattr(kept, name), getattr(everything, name)[rows])
        np.testing.assert_array_equal(kept.keypoints, everything.keypoints[rows])
    assert len(np.unique(everything.area)) == 300
    assert len(record["labels"]) == 300


@pytest.mark.parametrize("counted", [True, False])
def test_loaders_say_how_many_objects_examples_lack(caplog, counted):
    source, inputs = Crowded(counted), Inputs((20, 40))
    transform = ToDetection(inputs, 2, max_boxes=100, drop_extra=True)
    sizes = MultiScale((transform, transform), every=1, seed=0)
    expected = (
        "max_boxes is 100: examples lack 200 of 301 objects, the smallest ones, in 1 of 2 images "
        "(image 1 has 300); the average precision counts all objects"
    )
    batch = next(TrainLoader(source, sizes, batch_size=2, seed=0))
    assert sorted(batch.box_mask.sum(axis=1)) == [1, 100]
    assert caplog.messages == [expected]
    loader = EvalLoader(source, transform, batch_size=2)
    assert caplog.messages == [expected] * 2
    assert [len(target["labels"]) for target in loader.targets()] == [1, 300]
    EvalLoader(source, ToDetection(inputs, 2, max_boxes=300, drop_extra=True), batch_size=2)
    assert caplog.messages == [expected] * 2
    if counted:
        with pytest.raises(OptionError, match=r"^max_boxes is 100, but image 1 has 300 boxes"):
            TrainLoader(source, ToDetection(inputs, 2), batch_size=2, seed=0)


def test_a_crowded_image_is_named_when_a_loader_is_made(tmp_path):
    source = AnnotatedImages(read_voc(write_voc(tmp_path / "voc"), "train"), name="voc")
    assert source.box_counts == [2, 1, 0]
    check_box_counts(source, 2)
    message = r"^max_boxes is 1, but .*Annotations/b.xml has 2 boxes: give 2, or leave out"
    with pytest.raises(OptionError, match=message):
        check_box_counts(source, 1)
    transform = ToDetection(boxed(8, 8), 2, max_boxes=1)
    with pytest.raises(OptionError, match=message):
        TrainLoader(source, transform, batch_size=1, seed=0)
    with pytest.raises(OptionError, match=message):
        EvalLoader(source, transform, batch_size=1)
    EvalLoader(Subset(source, [1, 2]), transform, batch_size=1)
    check_box_counts(Subset(source, []), 1)


def test_a_source_with_other_classes_is_refused(tmp_path):
    source = AnnotatedImages(read_voc(write_voc(tmp_path / "voc"), "train"), name="voc")
    with pytest.raises(
        OptionError, match=r"^num_classes is 3, but the data has 2 classes: cat, dog$"
    ):
        EvalLoader(source, ToDetection(boxed(8, 8), 3), batch_size=1)


@pytest.mark.parametrize("option", ["num_classes", "max_boxes", "mask_size"])
def test_settings_that_cannot_be(option):
    with pytest.raises(OptionError, match=f"^{option} is 0: give at least 1$"):
        ToDetection(**{"inputs": boxed(8, 8), "num_classes": 2, option: 0})


def test_images_of_another_size_are_refused_without_resize():
    with pytest.raises(InputError, match=r"^x: the image has 40 x 20 pixels instead of 8 x 8"):
        ToDetection(Inputs((8, 8)), 2)(RECORD, "x")
    same = ToDetection(Inputs((20, 40)), 2, max_boxes=2)(RECORD, "x")
    np.testing.assert_array_equal(same.boxes, RECORD["boxes"])


def test_a_crop_clips_boxes_and_leaves_out_those_that_are_hardly_visible():
    boxes = np.array(
        [[0, 0, 12, 20], [0, 0, 16, 20], [18, 5, 22, 15], [0, 0, 40, 20.0], [1, 1, 2, 2]]
    )
    record = {
        "image": RECORD["image"],
        "boxes": boxes,
        "labels": np.array([0, 1, 0, 1, 0]),
        "crowd": np.zeros(5, bool),
        "difficult": np.array([False, True, False, False, False]),
        "area": np.arange(5.0),
        "masks": (MASKS[0],) * 5,
    }
    inputs = Inputs((20, 20), resize="crop")
    example = ToDetection(inputs, 2, max_boxes=6, masks=True, mask_size=4)(record, "x")
    # The crop shows columns 10 to 30: a sixth of the first box, 3/8 of the second.
    assert example.placement.tolist() == [1, 1, -10, 0]
    assert example.box_mask.tolist() == [True] * 3 + [False] * 3
    np.testing.assert_array_equal(
        example.boxes[:3], [[0, 0, 6, 20], [8, 5, 12, 15], [0, 0, 20, 20]]
    )
    assert example.labels[:3].tolist() == [1, 0, 1]
    assert example.difficult.tolist() == [True, False, False, False, False, False]
    assert example.area.tolist() == [1, 2, 3, 0, 0, 0]
    # Of the mask, too, what the input does not show is left out.
    np.testing.assert_array_equal(example.mask_frames[2], [0, 10, 20, 20])
    assert (example.masks[:3] == 255).all()
    assert not example.masks[3:].any()
    assert not example.mask_frames[3:].any()


def test_loaders_take_them(tmp_path):
    source = AnnotatedImages(read_voc(write_voc(tmp_path / "voc"), "train"), name="voc")
    transform = ToDetection(boxed(16, 16), 2, max_boxes=4)
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
    transform = ToDetection(boxed(80, 80), 2, max_boxes=4, masks=True, mask_size=7)
    found = 0
    for batch in EvalLoader(source, transform, batch_size=2):
        for place in np.ndindex(2, 4):
            # All boxes are of whole pixels there.
            np.testing.assert_allclose(batch.mask_frames[place], batch.boxes[place], atol=1e-5)
            real = batch.box_mask[place]
            assert (batch.masks[place] == 255 * real).all()
            found += real
    assert found == 3
    batch = next(TrainLoader(source, transform, batch_size=2, seed=0, partners=3))
    assert batch.partners.masks.shape == (2, 3, 4, 7, 7)
    assert batch.partners.mask_frames.shape == (2, 3, 4, 4)
