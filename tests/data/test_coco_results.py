"""Detections in COCO's form of results: there and back, and what cannot be."""

import json
import re

import numpy as np
import pytest

from jaxvision.core import Detections, InputError, OptionError
from jaxvision.data import (
    Cached,
    CocoFolder,
    Subset,
    VocFolder,
    YoloFolder,
    read_coco_results,
    write_coco_results,
)
from jaxvision.ops import MaskTable, encode_mask
from tests.data.folders import coco_content, write_images, write_voc, write_yolo

BOX = [1.5, 2.25, 4.0, 3.0]


def coco(folder, content=None):
    write_images(folder / "images")
    (folder / "annotations").mkdir()
    text = json.dumps(content or coco_content())
    (folder / "annotations" / "train.json").write_text(text)
    return CocoFolder(folder, "train")


def detections(rng, source, *, parts=False):
    """Of three images: two, none, and three detections."""
    valid = np.arange(3) < np.array([2, 0, 3])[:, None]
    low = rng.uniform(0, 4, (3, 3, 2))
    boxes = np.concatenate([low, low + rng.uniform(1, 4, (3, 3, 2))], axis=-1).astype("f4")
    scores = -np.sort(-rng.uniform(size=(3, 3)).astype("f4"))
    found = Detections(boxes, scores, rng.integers(0, 2, (3, 3)), valid)
    if not parts:
        return found
    masks = np.empty(3, object)
    for row, count in enumerate(valid.sum(axis=1)):
        drawn = rng.uniform(size=(count, *source.target(row)["size"])) > 0.5
        masks[row] = MaskTable.of([encode_mask(mask) for mask in drawn])
    return found.replace(masks=masks, keypoints=rng.uniform(size=(3, 3, 2, 3)).astype("f4"))


def check_same(found, expected):
    np.testing.assert_array_equal(found.valid, expected.valid)
    for name in ("boxes", "scores", "labels", "keypoints"):
        value = getattr(expected, name)
        if value is not None:
            there = expected.valid
            np.testing.assert_array_equal(getattr(found, name)[there], value[there], err_msg=name)
    if expected.masks is not None:
        for one, other in zip(found.masks, expected.masks, strict=True):
            assert [str(x) for x in one] == [str(x) for x in other]


@pytest.mark.parametrize("form", ["coco", "voc", "yolo"])
def test_there_and_back(tmp_path, form):
    writers = {
        "coco": lambda: coco(tmp_path / "data"),
        "voc": lambda: VocFolder(write_voc(tmp_path / "data"), "train"),
        "yolo": lambda: YoloFolder(write_yolo(tmp_path / "data"), "train"),
    }
    source = writers[form]()
    rng = np.random.default_rng(0)
    file = tmp_path / "results.json"
    for parts in (False, True):
        expected = detections(rng, source, parts=parts)
        write_coco_results(file, expected, source)
        check_same(read_coco_results(file, source, masks=parts, keypoints=parts), expected)
    # The same of wrapped sources, in their order.
    part = Cached(Subset(source, [2, 0]))
    order = Detections(
        *(getattr(expected, x)[[2, 0]] for x in ("boxes", "scores", "labels", "valid"))
    )
    write_coco_results(file, order, part)
    check_same(read_coco_results(file, part), order)
    entries = json.loads(file.read_text())
    ids = {"coco": {3, 17}, "voc": {1, 2}, "yolo": {1, 2}}[form]
    assert {entry["category_id"] for entry in entries} <= ids
    # Files are in the order of their names or ids: the last one, and the first.
    images = {"coco": [9, 9, 9, 7, 7], "voc": list("cccbb"), "yolo": list("cccaa")}[form]
    assert [entry["image_id"] for entry in entries] == images


def test_images_are_called_by_id_name_or_number(tmp_path):
    content = coco_content()
    for number, entry in enumerate(content["images"]):
        (old, entry["file_name"]) = entry["file_name"], f"0{number}5.png"
        entry["was"] = old
    source_folder = tmp_path / "data"
    write_images(source_folder / "images")
    for entry in content["images"]:
        place = source_folder / "images"
        (place / entry["was"]).rename(place / entry["file_name"])
    (source_folder / "annotations").mkdir()
    (source_folder / "annotations" / "train.json").write_text(json.dumps(content))
    source = CocoFolder(source_folder, "train")
    file = tmp_path / "results.json"
    # Of the third image: its id, its file, and these as numbers and texts.
    for name in (9, "9", "005.png", "005", 5):
        entry = {"image_id": name, "category_id": 17, "bbox": BOX, "score": 0.5}
        file.write_text(json.dumps([entry]))
        found = read_coco_results(file, source)
        assert found.valid.sum(axis=1).tolist() == [0, 0, 1]
        assert found.labels[2, 0] == 1
        np.testing.assert_array_equal(found.boxes[2, 0], [1.5, 2.25, 5.5, 5.25])


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["000000000139", "7", "0"], [0, 139, 7]),
        (["7", "x", "8"], ["7", "8", "x"]),
        (["7", "07", "8"], ["07", "7", "8"]),  # of which two are the same number
        (["1" * 16, "2", "3"], ["1" * 16, "2", "3"]),  # json readers may round the first
        (["²", "2", "3"], ["2", "3", "²"]),  # a digit to Python alone
    ],
)
def test_names_are_ids_as_numbers_if_all_are_numbers(tmp_path, names, ids):
    folder = write_yolo(tmp_path / "data")
    for part, suffix in (("images", "png"), ("labels", "txt")):
        for old, new in zip("abc", names, strict=True):
            place = folder / part / "train"
            (place / f"{old}.{suffix}").rename(place / f"{new}.{suffix}")
    source = YoloFolder(folder, "train")
    assert sorted(source.image_id(index) for index in range(3)) == sorted(ids)
    for index in range(3):
        assert type(source.image_id(index)) is type(ids[0])
    found, file = detections(np.random.default_rng(0), source), tmp_path / "results.json"
    write_coco_results(file, found, source)
    check_same(read_coco_results(file, source), found)
    name = source.image_file(2).name
    for called in (name, name.removesuffix(".png")):
        entry = {"image_id": called, "category_id": 1, "bbox": BOX, "score": 0.5}
        file.write_text(json.dumps([entry]))
        assert read_coco_results(file, source).valid.sum(axis=1).tolist() == [0, 0, 1]


def test_names_that_several_images_have(tmp_path, monkeypatch):
    """They get the folder before them, and the name alone is refused."""
    content = {
        "images": [
            {"id": name, "file_name": f"{name}/x.png", "width": 8, "height": 8} for name in "ab"
        ],
        "annotations": [],
        "categories": [{"id": 1, "name": "cat"}],
    }
    folder = tmp_path / "data"
    for name in "ab":
        write_images(folder / "images" / name)
        (folder / "images" / name / "c.png").rename(folder / "images" / name / "x.png")
    (folder / "annotations").mkdir()
    (folder / "annotations" / "train.json").write_text(json.dumps(content))
    source = CocoFolder(folder, "train")
    assert [source.image_id(index) for index in range(2)] == ["a", "b"]
    entry = {"image_id": "x", "category_id": 1, "bbox": BOX, "score": 0.5}
    (tmp_path / "results.json").write_text(json.dumps([entry]))
    with pytest.raises(InputError, match="image_id 'x' is the name of several images"):
        read_coco_results(tmp_path / "results.json", source)
    (folder / "train.txt").write_text("images/a/x.png\nimages/b/x.png\n")
    for name in "ab":
        (folder / "images" / name / "x.txt").write_text("")
        (folder / "labels" / name).mkdir(parents=True)
        (folder / "labels" / name / "x.txt").write_text("")
    listed = YoloFolder(folder, "train", class_names=("cat",))
    assert [listed.image_id(index) for index in range(2)] == ["a/x", "b/x"]
    # A list may name a file by its whole path, also where the folder is named in another way.
    (folder / "train.txt").write_text(f"images/a/x.png\n{folder}/images/b/x.png\n")
    monkeypatch.chdir(tmp_path)
    listed = YoloFolder("data", "train", class_names=("cat",))
    assert [listed.image_id(index) for index in range(2)] == ["a/x", "b/x"]


def test_a_box_around_the_mask_or_the_keypoints(tmp_path):
    source, file = coco(tmp_path / "data"), tmp_path / "results.json"
    entry = {"image_id": 9, "category_id": 3, "score": 1}
    mask = np.zeros((20, 40), bool)
    mask[3:7, 5:9] = True
    counts = encode_mask(mask).counts.tolist()
    given = {**entry, "segmentation": {"size": [20, 40], "counts": counts}}
    file.write_text(json.dumps([given]))
    np.testing.assert_array_equal(
        read_coco_results(file, source, masks=True).boxes[2, 0], [5, 3, 9, 7]
    )
    file.write_text(json.dumps([{**entry, "keypoints": [1, 8, 0.5, 4, 2, 1]}]))
    found = read_coco_results(file, source, keypoints=True)
    np.testing.assert_array_equal(found.boxes[2, 0], [1, 2, 4, 8])


def test_an_empty_list_finds_nothing(tmp_path):
    source, file = coco(tmp_path / "data"), tmp_path / "results.json"
    file.write_text("[]")
    found = read_coco_results(file, source, masks=True)
    assert found.valid.shape == (3, 0)
    assert [len(table) for table in found.masks] == [0, 0, 0]
    assert found.keypoints is None
    coco(tmp_path / "pointed", pointed_content())
    pointed = CocoFolder(tmp_path / "pointed", "train", keypoints=True)
    found = read_coco_results(file, pointed, keypoints=True)
    assert found.keypoints.shape == (3, 0, 2, 3)


def pointed_content():
    """Objects with two keypoints each."""
    content = coco_content()
    for entry in content["annotations"]:
        x, y, _, _ = entry["bbox"]
        entry["keypoints"] = [x, y, 2, x + 1, y + 1, 2]
    return content


def test_as_many_keypoints_as_the_objects_have(tmp_path):
    coco(tmp_path / "data", pointed_content())
    source = CocoFolder(tmp_path / "data", "train", keypoints=True)
    entry = {"image_id": 9, "category_id": 3, "score": 1}
    good, bad = {**entry, "keypoints": [1, 2, 1] * 2}, {**entry, "keypoints": [1, 2, 1]}
    file = tmp_path / "results.json"
    file.write_text(json.dumps([good, bad]))
    with pytest.raises(InputError, match=r"entry 2: keypoints has 3 numbers.* give 6, x"):
        read_coco_results(file, source, keypoints=True)


GOOD = {"image_id": 9, "category_id": 3, "bbox": BOX, "score": 0.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("{}", "is no list of detections"),
        ("[" * 100_000, "nested too deeply"),
        ([GOOD, 3], "entry 2: it is 3: give an object"),
        ([{**GOOD, "image_id": 4}], "entry 1: image_id 4 is no image of the data"),
        ([{**GOOD, "image_id": True}], "entry 1: image_id True is no image"),
        ([{**GOOD, "category_id": 0}], "category_id is 0, but those of the classes are 3, 17: if"),
        ([{**GOOD, "category_id": [3]}], r"category_id is \[3\]"),
        ([{**GOOD, "bbox": [1, 2, -1, 2]}], r"bbox is \[1, 2, -1, 2\]: give \[x, y, width"),
        ([{**GOOD, "bbox": [1, 2, 3]}], "give .x, y, width, height"),
        ([{**GOOD, "bbox": [1, 2, 10**400, 2]}], "give .x, y, width, height"),
        ([{**GOOD, "bbox": [1, 2, 1e200, 2]}], "give .x, y, width, height"),
        ([{**GOOD, "score": 10**400}], "score is 1000.*: give a number"),
        ([{**GOOD, "score": "high"}], "score is 'high': give a number"),
        ('[{"image_id": 9, "category_id": 3, "bbox": [1, 2, 3, 4], "score": NaN}]', "score is nan"),
        ([{"image_id": 9, "category_id": 3, "score": 1}], "it has no 'bbox': add it"),
    ],
)
def test_what_cannot_be(tmp_path, text, message):
    source, file = coco(tmp_path / "data"), tmp_path / "results.json"
    file.write_text(text if isinstance(text, str) else json.dumps(text))
    with pytest.raises(InputError, match=f"^{re.escape(str(file))}.*{message}"):
        read_coco_results(file, source)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, "it has no 'segmentation'"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6]], "keypoints": [1, 2, 3]}, "is no run-lengths: give"),
        ({"segmentation": {"size": [20, 40], "counts": [3]}}, "segmentation: "),
        ({"segmentation": {"size": [20, 40], "counts": "\ud800"}}, "segmentation: character 0 of"),
        (
            {"segmentation": {"size": [40, 20], "counts": [800]}},
            r"the size of segmentation is \[40, 20\], but .*height, width.* is \[20, 40\]",
        ),
        (
            {"segmentation": {"size": [20, 40], "counts": [800]}, "keypoints": [1, 2]},
            "keypoints is",
        ),
    ],
)
def test_masks_and_keypoints_that_cannot_be(tmp_path, entry, message):
    source, file = coco(tmp_path / "data"), tmp_path / "results.json"
    file.write_text(json.dumps([{**GOOD, "keypoints": [1, 2, 3], **entry}]))
    with pytest.raises(InputError, match=f"entry 1: .*{message}"):
        read_coco_results(file, source, masks=True, keypoints=True)


def test_other_ids_of_the_classes(tmp_path):
    source, file = coco(tmp_path / "data"), tmp_path / "results.json"
    file.write_text(json.dumps([{**GOOD, "category_id": 1}]))
    assert read_coco_results(file, source, category_ids=(0, 1)).labels[2, 0] == 1
    assert read_coco_results(file, source, category_ids=(1, 2)).labels[2, 0] == 0
    with pytest.raises(OptionError, match="category_ids has 3, but there are 2 classes"):
        read_coco_results(file, source, category_ids=(1, 2, 3))
    with pytest.raises(InputError, match="the detections are of 1 images, but the source has 3"):
        write_coco_results(file, Detections(*[np.zeros((1, 0))] * 4), source)
