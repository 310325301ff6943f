"""Objects with keypoints: COCO's files, their skeletons, and examples for detection."""

import json
import math

import numpy as np
import pytest

from jaxvision.augment import RandomFlip
from jaxvision.core import InputError, Inputs, OptionError
from jaxvision.data import (
    COCO_SKELETON,
    AnnotatedImages,
    CocoFolder,
    EvalLoader,
    Skeleton,
    ToDetection,
    find_form,
    list_folder,
    read_coco,
)
from tests.data.folders import IMAGES, coco_content, write_coco, write_images

NAMES = ["nose", "left_ear", "right_ear"]
LIMBS = [[1, 2], [1, 3]]
POINTS = [2, 3, 2, 4, 5, 1, 0.5, 0.25, 0]


def content_with(*changes, categories=None):
    """Keypoints of cats alone; changes are those of the annotations with keypoints, in turn."""
    content = coco_content()
    for category in content["categories"]:
        if category["name"] == "cat":
            category |= {"keypoints": NAMES, "skeleton": LIMBS, **(categories or {})}
    cats = [entry for entry in content["annotations"] if entry["category_id"] == 3]
    for number, entry in enumerate(cats):
        entry |= {"keypoints": POINTS, "num_keypoints": 2}
        if number < len(changes):
            entry |= changes[number]
    return content


def listing_of(folder, content):
    return read_coco(write_coco(folder, content), folder / "images", keypoints=True)


def test_keypoints_are_read(tmp_path):
    listing = listing_of(tmp_path, content_with())
    assert listing.problems == ()
    assert listing.skeleton == Skeleton(tuple(NAMES), ((0, 1), (0, 2)))
    source = AnnotatedImages(listing, name="coco")
    assert source.skeleton is listing.skeleton
    seen = 0
    for index in range(len(source)):
        target = source.target(index)
        assert target["keypoints"].shape == (len(target["labels"]), 3, 3)
        for label, keypoints in zip(target["labels"], target["keypoints"], strict=True):
            if source.class_names[label] == "cat":
                seen += 1
                np.testing.assert_array_equal(keypoints, [[2, 3, 2], [4, 5, 1], [0, 0, 0]])
            else:
                assert not keypoints.any()
        np.testing.assert_array_equal(source[index]["keypoints"], target["keypoints"])
    assert seen > 0


def test_keypoints_are_not_read_unless_they_are_asked_for(tmp_path):
    file = write_coco(tmp_path, content_with({"keypoints": "none of this is read"}))
    listing = read_coco(file, tmp_path / "images")
    assert listing.skeleton is None
    assert [x.keypoints for x in listing.annotations] == [None] * 3
    assert listing.problems == ()


def test_keypoints_may_have_no_names_and_objects_no_keypoints(tmp_path):
    content = content_with({"keypoints": None}, categories={"keypoints": [], "skeleton": []})
    listing = listing_of(tmp_path, content)
    assert listing.skeleton is None
    points = np.concatenate([x.keypoints for x in listing.annotations])
    assert points.shape[1:] == (3, 3)
    assert sorted({int(x) for x in points[..., 2].sum(axis=1)}) == [0, 3]


@pytest.mark.parametrize(
    ("keypoints", "reason"),
    [
        (POINTS[:8], "keypoints has 8 numbers: give 9, x, y and visibility of each of 3 keypoints"),
        (POINTS + POINTS, "keypoints has 18 numbers: give 9"),
        ([*POINTS[:8], 3], "the visibility of keypoint 3 is 3: give 0"),
        ([*POINTS[:2], 0.5, *POINTS[3:]], "the visibility of keypoint 1 is 0.5"),
        (["2", *POINTS[1:]], r"keypoints is \['2', 3, .*: give x, y and visibility"),
        ([math.nan, *POINTS[1:]], r"keypoints is \[nan, 3"),
        ([10**400, *POINTS[1:]], r"keypoints is \[10"),
        ({"x": 1}, r"keypoints is \{'x': 1\}"),
    ],
)
def test_what_is_wrong_in_an_annotation(tmp_path, keypoints, reason):
    listing = listing_of(tmp_path, content_with({"keypoints": keypoints}))
    with pytest.raises(InputError, match=rf"instances.json, annotation \d+: {reason}"):
        AnnotatedImages(listing, name="coco")


@pytest.mark.parametrize(
    ("category", "message"),
    [
        ({"keypoints": "nose"}, "category 'cat': keypoints is 'nose': give a list of names"),
        ({"keypoints": ["nose", 1, 2]}, "category 'cat': keypoints is"),
        ({"keypoints": ["a", "b", "a"]}, "category 'cat': two keypoints have the name 'a'"),
        (
            {"skeleton": [[1, 4]]},
            r"category 'cat': limbs\[0\] is \(0, 3\): give the indices of two",
        ),
        ({"skeleton": [[0, 1]]}, r"limbs\[0\] is \(-1, 0\)"),
        ({"skeleton": [[1, 1]]}, r"limbs\[0\] is \(0, 0\)"),
        ({"skeleton": [[1, 2, 3]]}, r"limbs\[0\] is \(0, 1, 2\)"),
        ({"skeleton": [1, 2]}, "skeleton is .*: give a list of pairs of numbers"),
    ],
)
def test_what_is_wrong_in_a_category(tmp_path, category, message):
    with pytest.raises(InputError, match=message):
        listing_of(tmp_path, content_with(categories=category))


def test_categories_with_other_keypoints_are_refused(tmp_path):
    content = content_with()
    for category in content["categories"]:
        category["keypoints"] = category.get("keypoints", ["tail"])
    with pytest.raises(InputError, match="categories 'dog' and 'cat' have different keypoints"):
        listing_of(tmp_path, content)


@pytest.mark.parametrize("keypoints", [None, [], [1, 2], 9])
def test_a_file_without_keypoints_is_refused(tmp_path, keypoints):
    content = coco_content()
    for entry in content["annotations"]:
        entry["keypoints"] = keypoints
    with pytest.raises(InputError, match="has no keypoints: give a file that has them, such as"):
        listing_of(tmp_path, content)


def test_a_folder_in_cocos_layout(tmp_path):
    write_images(tmp_path / "val")
    (tmp_path / "annotations").mkdir()
    for name, content in (("person_keypoints", content_with()), ("instances", coco_content())):
        file = tmp_path / "annotations" / f"{name}_val.json"
        file.write_text(json.dumps(content))
        if name == "person_keypoints":
            assert find_form(tmp_path, "val") == "coco"
    assert CocoFolder(tmp_path, "val").target(0)["keypoints"] is None
    source = CocoFolder(tmp_path, "val", keypoints=True)
    assert source.skeleton.names == tuple(NAMES)
    assert list_folder(tmp_path, None, "val", keypoints=True).skeleton == source.skeleton


def test_parts_with_other_keypoints_are_refused(tmp_path):
    for part, names in (("a", NAMES), ("b", ["nose", "tail", "paw"])):
        write_images(tmp_path / part / "images")
        content = content_with(categories={"keypoints": names})
        (tmp_path / part / "val.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"the parts of a/val.b/val have different keypoints"):
        CocoFolder(tmp_path, "a/val+b/val", keypoints=True)


def test_cocos_skeleton():
    assert len(COCO_SKELETON) == 17
    assert len(COCO_SKELETON.limbs) == 19
    assert COCO_SKELETON.swap == (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
    limbs = {frozenset(COCO_SKELETON.names[k] for k in limb) for limb in COCO_SKELETON.limbs}
    assert {"left_wrist", "left_elbow"} in limbs
    assert {"left_hip", "right_hip"} in limbs
    # Every limb has a mirrored one.
    swap = COCO_SKELETON.swap
    mirrored = {frozenset(swap[k] for k in limb) for limb in COCO_SKELETON.limbs}
    assert mirrored == {frozenset(limb) for limb in COCO_SKELETON.limbs}


def test_the_counterpart_of_a_keypoint_is_known_by_its_name():
    names = ("left", "top", "right", "left_eye", "bright_spot", "eye_right", "eye_left")
    swap = Skeleton(names).swap
    assert swap == (2, 1, 0, 3, 4, 6, 5)
    assert RandomFlip(swap=swap).swap == swap


RECORD = {
    "image": np.full((20, 40, 3), 9, np.uint8),
    "boxes": np.array([[0, 0, 40, 20], [10, 5, 20, 15.0]]),
    "labels": np.array([1, 0]),
    "crowd": np.array([False, True]),
    "difficult": np.array([True, False]),
    "keypoints": np.array(
        [[[5, 10, 2], [0, 0, 0], [40, 20, 1]], [[0, 0, 1], [11, 6, 2], [9, 9, 0]]]
    ),
}


def to_detection(inputs, **options):
    return ToDetection(inputs, 2, max_boxes=3, **options)


def test_an_example_by_hand():
    transform = to_detection(Inputs((30, 32), resize="letterbox"), num_keypoints=3)
    keypoints = transform(RECORD, "x").keypoints
    assert keypoints.dtype == np.float32
    # Scaled by 0.8 and moved down by 7.
    expected = np.zeros((3, 3, 3))
    expected[0, 0], expected[0, 2] = (4, 15, 2), (32, 23, 1)
    expected[1, 0], expected[1, 1] = (0, 7, 1), (8.8, 11.8, 2)
    np.testing.assert_allclose(keypoints, expected, rtol=1e-6)
    assert to_detection(Inputs((30, 32), resize="letterbox"))(RECORD, "x").keypoints is None


def test_keypoints_outside_a_crop_or_the_image_become_absent():
    keypoints = np.array(
        [[[10, 3, 2], [9.9, 3, 2], [30, 20, 1]], [[30.1, 3, 2], [12, 21, 2], [12, 9, 1]]]
    )
    transform = to_detection(Inputs((20, 20), resize="crop"), num_keypoints=3)
    found = transform({**RECORD, "keypoints": keypoints}, "x").keypoints
    np.testing.assert_array_equal(found[0], [[0, 3, 2], [0, 0, 0], [20, 20, 1]])
    np.testing.assert_array_equal(found[1], [[0, 0, 0], [0, 0, 0], [2, 9, 1]])
    transform = to_detection(Inputs((30, 32), resize="letterbox"), num_keypoints=3)
    found = transform({**RECORD, "keypoints": keypoints}, "x").keypoints
    assert not found[1, 1].any()  # in the padding below the image


def test_an_object_that_a_crop_leaves_out_takes_its_keypoints_along():
    record = {**RECORD, "boxes": np.array([[0, 0, 11, 20], [10, 5, 20, 15.0]])}
    transform = to_detection(Inputs((20, 20), resize="crop"), num_keypoints=3)
    example = transform(record, "x")
    assert example.box_mask.tolist() == [True, False, False]
    np.testing.assert_array_equal(example.keypoints[0], [[0, 0, 0], [1, 6, 2], [0, 0, 0]])
    assert not example.keypoints[1:].any()


@pytest.mark.parametrize(
    ("keypoints", "message"),
    [
        (None, "^x: has no keypoints: choose data that has them, or set num_keypoints=None$"),
        (RECORD["keypoints"][:1], r"^x: keypoints are \[1, 3, 3\], not \[2, 3, 3\]: correct the"),
        (RECORD["keypoints"][:, :2], r"^x: keypoints are \[2, 2, 3\], not \[2, 3, 3\]"),
    ],
)
def test_keypoints_that_are_asked_for_must_be_there(keypoints, message):
    transform = to_detection(Inputs((20, 40)), num_keypoints=3)
    with pytest.raises(InputError, match=message):
        transform({**RECORD, "keypoints": keypoints}, "x")


def test_another_number_of_keypoints_is_refused_before_an_image_is_read(tmp_path):
    source = AnnotatedImages(listing_of(tmp_path, content_with()), name="coco")
    with pytest.raises(OptionError, match=r"num_keypoints is 17, but .* 3 keypoints: nose, left_"):
        EvalLoader(source, to_detection(Inputs((8, 8)), num_keypoints=17), batch_size=2)
    with pytest.raises(OptionError, match="num_keypoints is 0"):
        to_detection(Inputs((8, 8)), num_keypoints=0)


def test_loaders_take_them(tmp_path):
    source = AnnotatedImages(listing_of(tmp_path, content_with()), name="coco")
    transform = to_detection(Inputs((16, 16), resize="stretch"), num_keypoints=3)
    batches = list(EvalLoader(source, transform, batch_size=2))
    assert [x.keypoints.shape for x in batches] == [(2, 3, 3, 3)] * 2
    cats = sum(box[4] == "cat" for _, boxes in IMAGES.values() for box in boxes)
    labelled = sum((x.keypoints[..., 2] > 0).sum() for x in batches)
    assert labelled == 2 * cats
