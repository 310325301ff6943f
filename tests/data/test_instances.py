"""Masks of objects from label images, YOLO's polygons, and what is wrong with masks."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from jaxvision.core import InputError, Inputs
from jaxvision.data import (
    AnnotatedImages,
    EvalLoader,
    InstanceFolder,
    ToDetection,
    YoloFolder,
    find_form,
    find_problems,
    read_instances,
    to_run_lengths,
)
from jaxvision.data.sources.yolo_txt import read_yolo
from jaxvision.ops import decode_mask, encode_mask
from tests.data.folders import IMAGES, write_images, write_yolo

NUMBERS = np.zeros((20, 40), np.uint16)
NUMBERS[2:8, 5:11] = 1
NUMBERS[4:6, 7:9] = 0  # a hole
NUMBERS[10:20, 30:40] = 300
NUMBERS[12, 3] = 300  # of two parts


def write_labels(folder, numbers, name, mode=None):
    (folder / "instances" / "train").mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(numbers)
    (image if mode is None else image.convert(mode)).save(
        folder / "instances" / "train" / f"{name}.png"
    )


@pytest.fixture
def folder(tmp_path):
    """Image b has two objects, image a one, and image c none."""
    write_images(tmp_path / "images" / "train")
    write_labels(tmp_path, NUMBERS, "b")
    write_labels(tmp_path, np.pad(np.full((2, 1), 7, np.uint8), ((4, 10), (4, 11))), "a", "P")
    write_labels(tmp_path, np.zeros((8, 8), np.uint8), "c")
    return tmp_path


def test_label_images_become_boxes_and_masks(folder):
    assert find_form(folder, "train") == "instances"
    source = InstanceFolder(folder, "train")
    assert source.class_names == ("object",)
    assert source.box_counts == [1, 2, 0]
    record = source[1]
    assert record["labels"].tolist() == [0, 0]
    np.testing.assert_array_equal(record["boxes"], [[5, 2, 11, 8], [3, 10, 40, 20]])
    masks = [decode_mask(to_run_lengths(mask, (20, 40))) for mask in record["masks"]]
    np.testing.assert_array_equal(masks, [NUMBERS == 1, NUMBERS == 300])
    assert source.where(1).endswith("instances/train/b.png")
    assert InstanceFolder(folder, "train", masks=False).target(1)["masks"] is None
    inputs = Inputs((20, 40), resize="stretch")
    (batch,) = EvalLoader(source, ToDetection(inputs, 1, masks=True, mask_size=3), batch_size=3)
    assert batch.box_mask.sum(axis=1).tolist() == [1, 2, 0]
    np.testing.assert_allclose(batch.mask_frames[1, 0], [5, 2, 11, 8], atol=1e-5)
    assert batch.masks[1, 0].tolist() == [[255] * 3, [255, 0, 255], [255] * 3]


def test_classes_of_objects_are_in_a_text_beside(folder):
    (folder / "classes.txt").write_text("cat\nbig dog\n")
    texts = folder / "instances" / "train"
    (texts / "b.txt").write_text("300 cat\n\n1 big dog\n")
    (texts / "a.txt").write_text("7 cat\n")
    source = InstanceFolder(folder, "train")
    assert source.class_names == ("cat", "big dog")
    assert [source[n]["labels"].tolist() for n in range(3)] == [[0], [1, 0], []]
    assert read_instances(folder, "train", class_names=["big dog", "cat"]).annotations[
        1
    ].labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1 cat\n300", "b.txt beside it, line 2, is '300': give 'number class'"),
        ("1 cow\n300 cat", "line 1, has the unknown class 'cow': the classes are cat, dog"),
        ("1 cat\n2 cat\n300 cat", "line 2, has the object 2, of which there is no pixel"),
        ("1 cat\n1 cat", "line 2, has the object 1 again: give each once"),
        ("1 cat", "b.txt beside it has no line for the object 300: add it"),
        (None, "there is no b.txt beside it, and there are 2 classes: write a line"),
    ],
)
def test_what_is_wrong_in_a_text_of_classes(folder, text, reason):
    texts = folder / "instances" / "train"
    if text is not None:
        (texts / "b.txt").write_text(text)
    (texts / "a.txt").write_text("7 dog")
    with pytest.raises(InputError, match=f"(?s)has 1 problem:.*instances/train/b.png: .*{reason}"):
        InstanceFolder(folder, "train", class_names=("cat", "dog"))
    kept = InstanceFolder(folder, "train", class_names=("cat", "dog"), drop_bad=True)
    assert len(kept) == 2
    assert len(kept.dropped) == 1


def test_what_is_wrong_with_a_label_image(folder):
    file = folder / "instances" / "train" / "b.png"

    def problem():
        with pytest.raises(InputError) as error:
            InstanceFolder(folder, "train")
        return str(error.value)

    Image.fromarray(np.zeros((20, 40, 3), np.uint8)).save(file)
    assert "b.png: a label image of mode RGB: store it as palette or grey, of 8" in problem()
    Image.fromarray(NUMBERS[:, 1:]).save(file)
    assert "b.png: says 39 x 20 pixels, but the image" in problem()
    file.unlink()
    assert "b.png: is missing: write a label image of zeros if" in problem()
    with pytest.raises(InputError, match=r"no split 'val': there are no images in .*images/val"):
        InstanceFolder(folder, "val")


def polygons_of(name):
    (width, height), boxes = IMAGES[name]
    for x1, y1, x2, y2, label in boxes:
        corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
        numbers = " ".join(f"{x / width:.8f} {y / height:.8f}" for x, y in corners)
        yield f"{('cat', 'dog').index(label)} {numbers}\n"


def test_yolos_polygons_become_boxes_and_masks(tmp_path):
    folder = write_yolo(tmp_path)
    for name in IMAGES:
        file = folder / "labels" / "train" / f"{name}.txt"
        file.write_text("".join(polygons_of(name)))
    source = YoloFolder(folder, "train", masks=True)
    for index, name in enumerate("abc"):
        record, ((width, height), boxes) = source[index], IMAGES[name]
        np.testing.assert_allclose(record["boxes"], np.reshape(boxes, (-1, 5))[:, :4].astype(float))
        for mask, (x1, y1, x2, y2, _) in zip(record["masks"], boxes, strict=True):
            expected = np.zeros((height, width), bool)
            expected[y1:y2, x1:x2] = True
            found = decode_mask(to_run_lengths(mask, (height, width)))
            np.testing.assert_array_equal(found, expected)
    assert YoloFolder(folder, "train").target(0)["masks"] is None


def test_an_image_of_which_a_line_has_a_box_has_no_masks(tmp_path):
    folder = write_yolo(tmp_path)
    file = folder / "labels" / "train" / "b.txt"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text(lines[0] + [*polygons_of("b")][1])
    source = YoloFolder(folder, "train", masks=True)
    assert source.target(1)["masks"] is None
    assert source.box_counts == [1, 2, 0]
    transform = ToDetection(Inputs((8, 8), resize="stretch"), 2, masks=True)
    with pytest.raises(InputError, match=r"b.txt: does not give a mask for each object"):
        transform(source[1], source.where(1))


def test_a_polygon_far_outside_is_a_problem(tmp_path):
    folder = write_yolo(tmp_path)
    (folder / "labels" / "train" / "b.txt").write_text("0 0 0 1e9 0 0 1")
    (problem,) = read_yolo(folder, "train", masks=True).problems
    assert "b.txt, line 1: the polygon cannot be used: corners[0] has a coordinate" in str(problem)


def test_an_empty_mask_is_a_problem(folder):
    annotation = read_instances(folder, "train").annotations[1]
    empty = encode_mask(np.zeros((20, 40), bool))
    broken = dataclasses.replace(annotation, masks=(annotation.masks[0], empty))
    (problem,) = find_problems(broken)
    assert problem.where.endswith("b.png")
    assert problem.reason == "mask 2 is empty: give it a pixel at least"
    listing = read_instances(folder, "train")
    listing = dataclasses.replace(listing, annotations=(broken,))
    with pytest.raises(InputError, match="mask 2 is empty"):
        AnnotatedImages(listing, name="x")
    assert len(AnnotatedImages(listing, name="x", drop_bad=True)) == 0
