"""The embedded scenes: boxes and masks fit the pixels, splits share nothing, all is repeatable."""

import hashlib
import itertools

import numpy as np
import pytest
import sklearn.datasets

from jaxvision.core import InputError
from jaxvision.data import Scenes
from jaxvision.data.sources.digits import is_test_digit
from jaxvision.data.sources.scenes import (
    COUNTS,
    SIZE,
    JaxvisionScenes,
    extremes,
    scenes,
)
from jaxvision.ops import decode_mask, mask_to_box


@pytest.fixture(scope="module")
def some():
    return {split: list(itertools.islice(scenes(split), 60)) for split in COUNTS}


@pytest.mark.parametrize("split", COUNTS)
def test_boxes_hold_the_masks_of_their_digits_and_nothing_else(some, split):
    for image, mask, boxes, labels in some[split]:
        assert (image.shape, image.dtype) == ((SIZE, SIZE, 3), np.uint8)
        assert 1 <= len(boxes) == len(labels) <= 6
        rest = mask.copy()
        for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True):
            inside = mask[y1:y2, x1:x2]
            assert set(np.unique(inside)) <= {0, 1 + label}
            ink = inside > 0
            # Tight: ink on each side.
            assert ink[0].any()
            assert ink[-1].any()
            assert ink[:, 0].any()
            assert ink[:, -1].any()
            rest[y1:y2, x1:x2] = 0
        assert not rest.any()


def test_the_scenes_are_varied(some):
    boxes = np.concatenate([boxes for _, _, boxes, _ in some["train"]])
    labels = np.concatenate([labels for *_, labels in some["train"]])
    assert set(labels.tolist()) == set(range(10))
    heights = boxes[:, 3] - boxes[:, 1]
    assert heights.min() < 18
    assert heights.max() > 34
    assert {len(labels) for *_, labels in some["train"]} == {1, 2, 3, 4, 5, 6}


def test_away_from_the_digits_the_photograph_shows(some):
    for split, photo in (("train", "china.jpg"), ("test", "flower.jpg")):
        colours = {tuple(p) for p in sklearn.datasets.load_sample_image(photo).reshape(-1, 3)}
        for image, _, boxes, _ in some[split][:10]:
            free = np.ones((SIZE, SIZE), bool)
            for x1, y1, x2, y2 in boxes:  # the digit's square is at most 40 large
                free[max(y1 - 40, 0) : y2 + 40, max(x1 - 40, 0) : x2 + 40] = False
            assert {tuple(p) for p in image[free]} <= colours


def test_scenes_are_the_same_everywhere(some):
    digest = hashlib.sha256()
    # Not of the images: their last bit is the decoder's and the processor's.
    for _, mask, boxes, labels in some["train"][:5] + some["test"][:5]:
        for part in (mask, boxes.astype("<i8"), labels.astype("<i8")):
            digest.update(np.ascontiguousarray(part).tobytes())
    assert digest.hexdigest() == "2a3b8776e0239dca09933239bf909f29b190e0da231970e8582ce40ff0ef952b"


def test_single_scenes_have_one_digit_each():
    for split in COUNTS:
        some = list(itertools.islice(scenes(split, 1), 30))
        assert [len(labels) for *_, labels in some] == [1] * 30
        assert len({labels[0] for *_, labels in some}) > 5
        for _, mask, ((x1, y1, x2, y2),), (label,) in some:
            np.testing.assert_array_equal(np.unique(mask), [0, 1 + label])
            assert (mask[y1:y2, x1:x2] > 0).sum() == (mask > 0).sum()


def test_keypoints_of_a_digit_by_hand():
    """Of the highest row the middle pixel, of two the first; all as centres of pixels."""
    ink = np.array([[0, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]], bool)
    found = extremes(ink)
    np.testing.assert_array_equal(
        found, [[2.5, 0.5, 2], [1.5, 3.5, 2], [0.5, 1.5, 2], [3.5, 0.5, 2]]
    )


def test_test_digits_are_a_stratified_fifth():
    labels = sklearn.datasets.load_digits().target
    assert is_test_digit(labels).sum() == 359


def test_the_prepared_set_holds_the_scenes(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxvision.data.sources.scenes.COUNTS", {"train": 7, "test": 3})
    for split, count in (("train", 7), ("test", 3)):
        source = Scenes(split, dir=tmp_path)
        assert len(source) == count
        assert source.class_names == tuple("0123456789")
        found = {record["image"].tobytes(): record for record in (source[i] for i in range(count))}
        for image, _, boxes, labels in itertools.islice(scenes(split), count):
            record = found.pop(image.tobytes())
            np.testing.assert_allclose(record["boxes"], boxes, atol=1e-5)
            np.testing.assert_array_equal(record["labels"], labels)
        assert not found
        masked = Scenes(split, kind="segmentation", dir=tmp_path)
        found = {record["image"].tobytes(): record for record in (masked[i] for i in range(count))}
        for image, mask, _, _ in itertools.islice(scenes(split), count):
            np.testing.assert_array_equal(found.pop(image.tobytes())["labels"], mask)
        with_landmarks = Scenes(split, kind="landmarks", dir=tmp_path)
        assert len(with_landmarks) == count
        for index in range(count):
            record = with_landmarks[index]
            for label in np.flatnonzero(record["visible"]):
                x1, y1, x2, y2 = source[index]["boxes"][source[index]["labels"] == label][0]
                np.testing.assert_allclose(record["points"][label], [(x1 + x2) / 2, (y1 + y2) / 2])
        with_keypoints = Scenes(split, kind="keypoints", dir=tmp_path)
        assert with_keypoints.class_names == source.class_names
        assert with_keypoints.skeleton.names == ("top", "bottom", "left", "right")
        assert with_keypoints.skeleton.swap == (0, 1, 3, 2)
        assert source.skeleton is None
        for index in range(count):
            record, ink = with_keypoints[index], masked[index]["labels"] > 0
            np.testing.assert_array_equal(record["boxes"], source[index]["boxes"])
            assert record["keypoints"].shape == (len(record["labels"]), 4, 3)
            for box, (top, bottom, left, right) in zip(
                record["boxes"], record["keypoints"], strict=True
            ):
                edges = [left[0] - 0.5, top[1] - 0.5, right[0] + 0.5, bottom[1] + 0.5]
                np.testing.assert_allclose(edges, box, atol=1e-5)
                for x, y, visibility in (top, bottom, left, right):
                    assert visibility == 2
                    assert ink[int(y), int(x)]
        assert masked.class_names == ("background", *"0123456789")
        assert with_landmarks.class_names == tuple(f"digit {number}" for number in range(10))
        with_masks = Scenes(split, kind="instances", dir=tmp_path)
        assert with_masks.class_names == source.class_names
        for index in range(3):
            record, labels = with_masks[index], masked[index]["labels"]
            shapes = [decode_mask(mask) for mask in record["masks"]]
            whole = sum((1 + label) * x for label, x in zip(record["labels"], shapes, strict=True))
            np.testing.assert_array_equal(whole, labels)  # so no two of them overlap
            np.testing.assert_allclose([mask_to_box(x) for x in record["masks"]], record["boxes"])
            assert len(with_masks.target(index)["masks"]) == len(shapes)
        for each in (source, masked, with_landmarks, with_keypoints, with_masks):
            assert each.where(2) == f"jaxvision_scenes/1.0.0 {split}, record 2"
            for index in range(count):
                record, target = each[index], each.target(index)
                del record["image"]
                assert record.keys() == target.keys()
                if each is with_masks:
                    for x in (record, target):
                        x["masks"] = [decode_mask(mask) for mask in x["masks"]]
                for key, value in record.items():
                    np.testing.assert_array_equal(target[key], value)
    single = Scenes("test", dir=tmp_path, single=True)
    assert single.where(0) == "jaxvision_single_scenes/1.0.0 test, record 0"
    assert [len(single.target(index)["boxes"]) for index in range(len(single))] == [1] * 3
    with pytest.raises(InputError, match=r"unknown kind 'masks': did you mean 'landmarks'"):
        Scenes("test", kind="masks", dir=tmp_path)
    assert (tmp_path / JaxvisionScenes.name / "1.0.0").is_dir()
