"""VOC, COCO and YOLO folders: what is read, and what is refused, with file and reason."""

import json
import math
import pickle
import re

import numpy as np
import pytest
from PIL import Image

from jaxvision.core import InputError
from jaxvision.data import image_size, read_image
from jaxvision.data.sources.annotated import AnnotatedImages, find_problems, to_run_lengths
from jaxvision.data.sources.coco import read_coco
from jaxvision.data.sources.voc import VOC_CLASSES, read_voc
from jaxvision.data.sources.yolo_txt import read_yolo
from jaxvision.ops import compress_counts, decode_mask, encode_mask, mask_area
from tests.data.folders import (
    CLASSES,
    IMAGES,
    coco_content,
    paint,
    voc_object,
    voc_xml,
    write_coco,
    write_voc,
    write_yolo,
)


@pytest.fixture
def voc(tmp_path):
    return write_voc(tmp_path / "voc")


@pytest.fixture
def yolo(tmp_path):
    return write_yolo(tmp_path / "yolo")


def read_all(tmp_path):
    yield read_voc(write_voc(tmp_path / "voc"), "train")
    file = write_coco(tmp_path / "coco")
    yield read_coco(file, file.parent / "images")
    yield read_yolo(write_yolo(tmp_path / "yolo"), "train")


def test_every_form_gives_the_same_boxes(tmp_path):
    for listing in read_all(tmp_path):
        assert listing.problems == ()
        assert listing.class_names == CLASSES
        source = AnnotatedImages(listing, name="train")
        assert len(source) == 3
        for annotation, index in zip(listing.annotations, range(3), strict=True):
            record, name = source[index], annotation.image.stem
            np.testing.assert_array_equal(record["image"], paint(name))
            boxes = np.array([box[:4] for box in IMAGES[name][1]], float).reshape(-1, 4)
            np.testing.assert_allclose(record["boxes"], boxes, atol=1e-4)
            assert [CLASSES[label] for label in record["labels"]] == [b[4] for b in IMAGES[name][1]]
            assert not record["difficult"].any()
            assert name in source.where(index)
            target = source.target(index)
            assert target.keys() | {"image"} == record.keys()
            assert target["size"] == record["size"] == IMAGES[name][0][::-1]
            for key, value in target.items():
                np.testing.assert_array_equal(value, record[key])


def test_targets_need_no_decoding(tmp_path, monkeypatch):
    sources = [AnnotatedImages(listing, name="train") for listing in read_all(tmp_path)]
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    for source in sources:
        boxes = [target["boxes"] for target in map(source.target, range(3))]
        assert [len(x) for x in boxes] == source.box_counts
        assert sorted(source.box_counts) == [0, 1, 2]


def test_orders(tmp_path, voc, yolo):
    def names(listing):
        return [annotation.image.stem for annotation in listing.annotations]

    file = write_coco(tmp_path / "coco")
    assert names(read_voc(voc, "train")) == ["b", "a", "c"]  # of the list
    assert names(read_coco(file, file.parent / "images")) == ["c", "a", "b"]  # of the ids
    assert names(read_yolo(yolo, "train")) == ["a", "b", "c"]  # of the names
    (yolo / "some.txt").write_text("images/train/c.png\nimages/train/a.png\n")
    assert names(read_yolo(yolo, "some")) == ["c", "a"]


def test_difficult_and_crowd_are_kept(tmp_path, voc):
    objects = voc_object(0, 0, 4, 4, "cat", "<difficult>1</difficult>")
    objects += voc_object(0, 0, 4, 4, "dog", "<difficult>0</difficult>")
    (voc / "Annotations" / "a.xml").write_text(voc_xml("a", objects))
    by_name = {x.image.stem: x for x in read_voc(voc, "train").annotations}
    assert by_name["a"].difficult.tolist() == [True, False]
    file = write_coco(tmp_path / "coco")
    by_name = {x.image.stem: x for x in read_coco(file, file.parent / "images").annotations}
    assert by_name["b"].crowd.tolist() == [True, False]
    np.testing.assert_array_equal(by_name["b"].area, [1.5, 1.5])


def test_class_names_may_be_given(voc, yolo):
    listing = read_voc(voc, "train", class_names=("cow", "dog", "cat"))
    assert [x.labels.tolist() for x in listing.annotations] == [[1, 2], [2], []]
    assert read_yolo(yolo, "train", class_names=("x", "y")).class_names == ("x", "y")
    assert len(VOC_CLASSES) == 20
    assert sorted(VOC_CLASSES) == list(VOC_CLASSES)


def test_the_first_pixel_of_voc_may_be_zero(voc):
    one, zero = (read_voc(voc, "train", first_pixel=first).annotations[0] for first in (1, 0))
    np.testing.assert_array_equal(zero.boxes - one.boxes, np.ones((2, 4)))


def test_a_bomb_in_an_xml_is_refused(voc):
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>' + voc_xml("a")
    (voc / "Annotations" / "a.xml").write_text(bomb)
    (problem,) = read_voc(voc, "train").problems
    assert problem.where.endswith("a.xml")
    assert "cannot be read" in problem.reason


@pytest.mark.parametrize(
    ("objects", "reason"),
    [
        (voc_object(0, 0, 4, 4, "cow"), "object 1: unknown class 'cow': known are cat, dog"),
        (voc_object(0, 0, 4, "four", "cat"), "object 1: bndbox/ymax is 'four': give a number"),
        ("<object><name>cat</name></object>", "bndbox/xmin is None: give a number"),
        (voc_object(0, 0, 17, 4, "cat"), r"box 1 \(0, 0, 17, 4\) reaches beyond the image of 16 x"),
        (voc_object(-2, 0, 4, 4, "cat"), "reaches beyond"),
        (voc_object(5, 0, 4, 4, "cat"), "has its corners in the wrong order"),
        (voc_object(4, 0, 4, 4, "cat"), "has no area"),
        ("<size><width>9</width><height>16</height></size>", "says 9 x 16 pixels, but the image"),
        (None, "no such annotation"),
        ("<object>", "cannot be read"),
    ],
)
def test_what_is_wrong_in_an_xml(voc, objects, reason):
    file = voc / "Annotations" / "a.xml"
    if objects is None:
        file.unlink()
    elif objects.startswith("<size>"):
        file.write_text(f"<annotation>{objects}</annotation>")
    else:
        file.write_text(voc_xml("a", objects))
    listing = read_voc(voc, "train", class_names=CLASSES)
    with pytest.raises(InputError, match=f"(?s)voc train has . problem.*a.xml: .*{reason}"):
        AnnotatedImages(listing, name="voc train")
    source = AnnotatedImages(listing, name="voc train", drop_bad=True)
    assert len(source) == 2
    assert {problem.where for problem in source.dropped} == {str(file)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image_id": 1}, "annotation 100: there is no image with the id 1"),
        ({"category_id": 1}, "annotation 100: there is no category with the id 1"),
        ({"bbox": [1, 2, 3]}, r"annotation 100: bbox is \[1, 2, 3\]: give \[x, y, width, height\]"),
        ({"bbox": None}, "annotation 100: bbox is None"),
        ({"area": -1}, "annotation 100: area is -1: give square pixels"),
        ({"area": "9"}, "annotation 100: area is '9'"),
        ({"area": 10**400}, "annotation 100: area is 10"),
        ({"area": True}, "annotation 100: area is True"),
        ({"bbox": [1, 2, True, 3]}, r"annotation 100: bbox is \[1, 2, True, 3\]"),
        ({"bbox": [1, 2, 10**400, 3]}, r"annotation 100: bbox is \[1, 2, 10"),
        ({"bbox": [1, 2, math.nan, 3]}, r"annotation 100: bbox is \[1, 2, nan, 3\]"),
        ({"bbox": [10**308, 2, 10**308, 3]}, r"image 9 \(b.png\): box 1 .* is not finite"),
        ({"iscrowd": "0"}, "annotation 100: iscrowd is '0': give 0 or 1"),
        ({"iscrowd": 2}, "annotation 100: iscrowd is 2"),
        ({"iscrowd": []}, r"annotation 100: iscrowd is \[\]"),
        ({"image_id": [9]}, r"annotation 100: there is no image with the id \[9\]"),
        ({"image_id": "9"}, "annotation 100: there is no image with the id '9'"),
        ({"image_id": 9.0}, "annotation 100: there is no image with the id 9.0"),
        ({"category_id": {}}, "annotation 100: there is no category with the id {}"),
        ({"bbox": [1, 1, 0, 4]}, r"image 9 \(b.png\): box 1 .* has no area"),
    ],
)
def test_what_is_wrong_in_a_json(tmp_path, change, reason):
    content = coco_content()
    content["annotations"][0] |= change
    file = write_coco(tmp_path, content)
    listing = read_coco(file, tmp_path / "images")
    with pytest.raises(InputError, match=f"has [14] problems?:\n  .*instances.json, {reason}"):
        AnnotatedImages(listing, name="coco")
    dropped = AnnotatedImages(listing, name="coco", drop_bad=True)
    assert len(dropped) == 3 - ("image_id" not in change)


def coco_with(tmp_path, *changes, masks=True):
    """A json whose annotations are changed: the first two are of image b, the third is of a."""
    content = coco_content()
    for annotation, change in zip(content["annotations"], changes, strict=False):
        annotation |= change
    return read_coco(write_coco(tmp_path, content), tmp_path / "images", masks=masks)


def b_of(listing):
    return next(x for x in listing.annotations if x.image.stem == "b")


BLOCK = np.zeros((20, 40), bool)
BLOCK[3:9, 12:40] = True


@pytest.mark.parametrize("form", ["polygons", "list", "text"])
def test_segmentations_become_masks(tmp_path, form):
    counts = encode_mask(BLOCK).counts
    segmentation = {
        "polygons": [[12, 3, 30, 3, 30, 9, 12, 9], [26, 3, 26, 9, 40, 9.2, 40, 3.0]],
        "list": {"size": [20, 40], "counts": counts.tolist()},
        "text": {"size": [20, 40], "counts": compress_counts(counts).decode()},
    }[form]
    whole = [[0, 0, 10, 0, 10, 20, 0, 20]]
    listing = coco_with(tmp_path, {"segmentation": whole}, {"segmentation": segmentation})
    source = pickle.loads(pickle.dumps(AnnotatedImages(listing, name="coco")))
    index = next(i for i in range(3) if "b.png" in source.where(i))
    masks = [decode_mask(to_run_lengths(mask, (20, 40))) for mask in source[index]["masks"]]
    expected = np.zeros((20, 40), bool)
    expected[:, :10] = True
    np.testing.assert_array_equal(masks, [expected, BLOCK])
    # An image without objects has no masks to miss; image a has one, without a segmentation.
    others = {x.image.stem: x.masks for x in listing.annotations}
    assert (others["c"], others["a"]) == ((), None)


def test_masks_are_not_read_unless_they_are_asked_for(tmp_path):
    sound, broken = {"segmentation": [[0, 0, 4, 0, 4, 4]]}, {"segmentation": "3O"}
    listing = coco_with(tmp_path, sound, broken, sound, masks=False)
    assert listing.problems == ()
    assert [x.masks for x in listing.annotations if len(x.labels)] == [None, None]


@pytest.mark.parametrize("nothing", [{}, {"segmentation": None}, {"segmentation": []}])
def test_masks_are_of_all_objects_of_an_image_or_of_none(tmp_path, nothing):
    listing = coco_with(tmp_path, {"segmentation": [[0, 0, 4, 0, 4, 4]]}, nothing)
    assert listing.problems == ()
    assert b_of(listing).masks is None


def test_areas_are_of_all_objects_of_an_image_or_of_none(tmp_path):
    listing = coco_with(tmp_path, {"area": None})
    assert b_of(listing).area is None
    assert [x.area.tolist() for x in listing.annotations if x.image.stem != "b"] == [[], [1.5]]


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ("3O", "segmentation is neither a list of polygons nor an object of run-lengths"),
        ([1, 2, 3, 4, 5, 6], r"segmentation\[0\] is no list of x and y in turn"),
        ([[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5]], r"segmentation\[1\] is no list of x and y"),
        ([[1, 2, 3, 4, 5, "6"]], r"segmentation\[0\] is no list of x and y in turn"),
        ([[1, 2, 3, 4]], r"segmentation: corners\[0\] has 2 corners: give at least 3"),
        ([[]], r"segmentation: corners\[0\] has 0 corners: give at least 3"),
        ([[1, 2, 3, 4, 5, 10**400]], "segmentation: .* too large"),
        ([[1, 2, 3, 4, 5, math.nan]], "segmentation: .* has a coordinate that is not finite"),
        ({"size": [20, 40]}, "segmentation has no size or no counts"),
        ({"counts": "3O"}, "segmentation has no size or no counts"),
        ({"size": [20, 40], "counts": [400, 0.5]}, "segmentation has no size or no counts"),
        ({"size": [20], "counts": [20]}, r"segmentation: size is \(20,\): give \(height, width\)"),
        ({"size": [20, 40], "counts": []}, "segmentation: counts sum to 0: a mask of 20 x 40"),
        ({"size": [20, 40], "counts": [10**30]}, "segmentation: .* too large"),
        ({"size": [20, 40], "counts": "3O`"}, "segmentation: the compressed counts end within"),
    ],
)
def test_what_is_wrong_in_a_segmentation(tmp_path, segmentation, reason):
    listing = coco_with(tmp_path, {"segmentation": segmentation}, {"segmentation": segmentation})
    assert [problem.where.rpartition(", ")[2] for problem in listing.problems] == [
        "annotation 100",
        "annotation 101",
    ]
    for problem in listing.problems:
        assert re.match(reason, problem.reason), problem.reason
    assert len(AnnotatedImages(listing, name="coco", drop_bad=True)) == 2


# Between the middles of two columns, and of two rows; and the same outline twice.
THIN = [[4.6, 3, 5.4, 3, 5.4, 9, 4.6, 9], [4, 3.6, 9, 3.6, 9, 4.4, 4, 4.4], [4, 4, 9, 4, 9, 9] * 2]


@pytest.mark.parametrize("polygon", THIN)
def test_a_polygon_without_a_pixel_is_a_problem(tmp_path, polygon):
    whole = {"segmentation": [[0, 0, 10, 0, 10, 20, 0, 20], polygon]}  # one of the two is enough
    listing = coco_with(tmp_path, whole, {"segmentation": [polygon, polygon]})
    reason = (
        "mask 2 is empty, as its polygons are outside the image or thinner than a pixel: correct "
        "them, or leave the object out"
    )
    with pytest.raises(InputError, match=rf"instances.json, image 9 \(b.png\): {reason}"):
        AnnotatedImages(listing, name="coco")
    assert len(AnnotatedImages(listing, name="coco", drop_bad=True)) == 2
    (problem,) = find_problems(b_of(listing))
    assert problem.reason == reason
    assert mask_area(to_run_lengths(b_of(listing).masks[1], (20, 40))) == 0


def test_run_lengths_of_another_size_than_the_image(tmp_path):
    counts = {"size": [40, 20], "counts": [800]}
    listing = coco_with(tmp_path, {"segmentation": counts}, {"segmentation": counts})
    assert listing.problems == ()
    with pytest.raises(
        InputError,
        match=r"has 2 problems:\n.*image 9 \(b.png\): mask 1 has 20 x 40 pixels, but the image "
        r".*b.png has 40 x 20\n.*mask 2",
    ):
        AnnotatedImages(listing, name="coco")


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "cannot be read"), ("[]", "has no list 'images'"), ('{"images": [1]}', "no list 'im")],
)
def test_a_json_of_another_form(tmp_path, content, message):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_coco(tmp_path / "x.json", tmp_path)


@pytest.mark.parametrize(
    ("part", "entry", "message"),
    [
        ("images", {"id": 1}, "entry 4 has no 'file_name': add it"),
        ("images", {"file_name": "x.png"}, "entry 4 has no 'id': add it"),
        ("images", {"id": 1, "file_name": None}, "entry 4: file_name is None: give a text"),
        ("images", {"id": 1, "file_name": ""}, "entry 4: file_name is '': give a text"),
        ("images", {"id": 8, "file_name": "x"}, "entry 4: id is 8, as that of entry 2: give an"),
        ("images", {"id": [1], "file_name": "x"}, r"entry 4: id is \[1\]: give a whole number or"),
        ("images", {"id": True, "file_name": "x"}, "entry 4: id is True: give a whole number"),
        ("images", {"id": "1", "file_name": "x"}, "entry 4: id is '1', but that of entry 1 is 9: "),
        ("categories", {"id": 3, "name": "cow"}, "entry 3: id is 3, as that of entry 2"),
        ("categories", {"id": "4", "name": "cow"}, "entry 3: id is '4', but that of entry 1 is 17"),
        ("categories", {"id": None, "name": "cow"}, "entry 3: id is None: give a whole number"),
        ("categories", {"id": 4, "name": 5}, "entry 3: name is 5: give a text"),
    ],
)
def test_a_bad_image_or_category_in_a_json(tmp_path, part, entry, message):
    content = coco_content()
    content[part].append(entry)
    file = write_coco(tmp_path, content)
    with pytest.raises(InputError, match=f"^{file}, '{part}', {message}") as error:
        read_coco(file, tmp_path / "images")
    assert "\n" not in str(error.value)


def test_ids_may_be_texts(tmp_path):
    content = coco_content()
    for entry in content["images"]:
        entry["id"] = f"n{entry['id']}"
    for entry in content["annotations"]:
        entry["image_id"] = f"n{entry['image_id']}"
    listing = read_coco(write_coco(tmp_path, content), tmp_path / "images")
    assert [len(x.labels) for x in listing.annotations] == [0, 1, 2]
    assert listing.problems == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0 0.5 0.5 0.1", "a.txt, line 1: is '0 0.5 0.5 0.1': give 'class x y width height'"),
        ("0 0.5 0.5 0.1 0.1\n\n2 0.5 0.5 0.1 0.1", "line 3: unknown class 2: there are 0 to 1"),
        ("0.5 0.5 0.5 0.1 0.1", "unknown class 0.5"),
        ("0 0.5 0.5 x 0.1", "line 1: is '0 0.5 0.5 x 0.1'"),
        ("0 0.9 0.5 0.3 0.1", "reaches beyond"),
        ("0 0.9 0.5 -0.3 0.1", "corners in the wrong order"),
        ("0 0.1 0.1 0.5 0.1 0.5 1.2", "reaches beyond"),
        ("0 0.1 0.1 0.5 0.1 0.5", "y3 ...' with at least three corners, in numbers"),
        ("0 0.9 0.5 0.0 0.1", "has no area"),
        (None, "the annotation .*a.txt is missing: write an empty file"),
    ],
)
def test_what_is_wrong_in_a_text(yolo, text, reason):
    file = yolo / "labels" / "train" / "a.txt"
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    with pytest.raises(InputError, match=f"(?s)yolo train has 1 problem:.*{reason}"):
        AnnotatedImages(read_yolo(yolo, "train"), name="yolo train")


def test_rounding_in_a_text_does_not_leave_the_image(yolo):
    file = yolo / "labels" / "train" / "a.txt"
    file.write_text("0 0.333333 0.5 0.666667 1.000001")
    source = AnnotatedImages(read_yolo(yolo, "train"), name="yolo")
    (boxes,) = (source[i]["boxes"] for i in range(3) if "a.txt" in source.where(i))
    np.testing.assert_allclose(boxes, [[0, 0, 32 / 3, 16]], atol=1e-4)
    assert (boxes[0, 0], boxes[0, 3]) == (0, 16)


def test_half_a_pixel_passes_for_rounding_in_every_form(tmp_path):
    voc, yolo = write_voc(tmp_path / "voc"), write_yolo(tmp_path / "yolo")
    (voc / "Annotations" / "a.xml").write_text(voc_xml("a", voc_object(4, -0.25, 16.5, 6, "cat")))
    (yolo / "labels" / "train" / "a.txt").write_text("0 0.640625 0.1796875 0.78125 0.390625")
    content = coco_content()
    content["annotations"][2]["bbox"] = [4, -0.25, 12.5, 6.25]
    file = write_coco(tmp_path / "coco", content)
    for listing in (
        read_voc(voc, "train"),
        read_coco(file, file.parent / "images"),
        read_yolo(yolo, "train"),
    ):
        source = AnnotatedImages(listing, name="train")
        (index,) = (i for i, x in enumerate(listing.annotations) if x.image.stem == "a")
        np.testing.assert_array_equal(listing.annotations[index].boxes, [[4, -0.25, 16.5, 6]])
        np.testing.assert_array_equal(source[index]["boxes"], [[4, 0, 16, 6]])


def test_a_text_without_an_image_is_a_problem_unless_a_list_chooses(yolo):
    (yolo / "images" / "train" / "a.png").unlink()
    (problem,) = read_yolo(yolo, "train").problems
    assert problem.where.endswith("labels/train/a.txt")
    assert problem.reason == "there is no image to this annotation"
    (yolo / "train.txt").write_text("images/train/c.png\n")
    assert read_yolo(yolo, "train").problems == ()


def sideways(file):
    """Makes an image's file one that has to be turned by a quarter to be upright."""
    with Image.open(file) as image:
        pixels = np.asarray(image)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(pixels))).save(file, exif=exif)


def test_boxes_are_in_the_upright_image(tmp_path):
    for listing in read_all(tmp_path):
        for annotation in listing.annotations:
            sideways(annotation.image)
        source = AnnotatedImages(listing, name="train")
        for annotation, index in zip(listing.annotations, range(3), strict=True):
            np.testing.assert_array_equal(source[index]["image"], paint(annotation.image.stem))
    # YOLO's boxes are shares of the sides: those of the upright image, too.
    (b,) = (x for x in read_yolo(tmp_path / "yolo", "train").annotations if x.image.stem == "b")
    np.testing.assert_allclose(b.boxes, [[0, 0, 10, 20], [12, 3, 40, 9]], atol=1e-4)


@pytest.mark.parametrize("decode", [True, False])
def test_a_size_that_is_not_that_of_the_upright_image_is_a_problem(voc, decode):
    xml = (voc / "Annotations" / "b.xml").read_text()
    xml = xml.replace(">40<", ">?<").replace(">20<", ">40<").replace(">?<", ">20<")
    (voc / "Annotations" / "b.xml").write_text(xml)
    sideways(voc / "JPEGImages" / "b.png")
    (problem, *_) = find_problems(read_voc(voc, "train").annotations[0], decode=decode)
    file = voc / "JPEGImages" / "b.png"
    assert problem.reason == f"says 20 x 40 pixels, but the image {file} has 40 x 20, upright"


@pytest.mark.parametrize("kind", ["16 bits", "transparent", "turned"])
def test_training_sees_the_pixels_that_prediction_sees(voc, kind):
    file = voc / "JPEGImages" / "b.png"
    if kind == "16 bits":
        Image.fromarray(np.arange(800, dtype=np.uint16).reshape(20, 40) * 80).save(file)
    elif kind == "transparent":
        image = Image.fromarray(paint("b"))
        image.putalpha(Image.fromarray(paint("b")[:, :, 0]))
        image.save(file)
    else:
        sideways(file)
    annotation = read_voc(voc, "train").annotations[0]
    source = AnnotatedImages(read_voc(voc, "train"), name="voc")
    np.testing.assert_array_equal(source[0]["image"], read_image(file))
    assert len(np.unique(source[0]["image"])) > 200  # nothing is clipped
    assert image_size(file) == annotation.size == source[0]["image"].shape[:2]


def test_numbers_without_a_range_are_found_by_decoding(voc):
    Image.fromarray(np.zeros((20, 40), np.float32)).save(voc / "JPEGImages" / "b.tif")
    (voc / "JPEGImages" / "b.png").unlink()
    (voc / "JPEGImages" / "b.tif").rename(voc / "JPEGImages" / "b.png")
    (problem,) = find_problems(read_voc(voc, "train").annotations[0], decode=True)
    assert "cannot be read (numbers of type float32" in problem.reason


@pytest.mark.parametrize("decode", [True, False])
def test_a_header_that_promises_too_much_is_a_problem(voc, decode):
    """Pillow's DecompressionBombError is no OSError."""
    header = b"BM" + bytes(12) + (40).to_bytes(4, "little") + 2 * (2**20).to_bytes(4, "little")
    header += b"\1\0\x18\0" + bytes(24)
    listing = read_voc(voc, "train")
    listing.annotations[0].image.write_bytes(header)
    (problem,) = find_problems(listing.annotations[0], decode=decode)
    assert "cannot be read (its header states more than 178956970 pixels" in problem.reason


def test_images_that_cannot_be_read(tmp_path):
    for listing in read_all(tmp_path):
        first, second, third = listing.annotations
        first.image.unlink()
        second.image.write_bytes(b"no image")
        data = third.image.read_bytes()
        third.image.write_bytes(data[: len(data) // 2])
        assert [len(list(find_problems(x))) for x in listing.annotations] == [1, 1, 0]
        # Damage after the header shows when all is read.
        problems = [list(find_problems(x, decode=True)) for x in listing.annotations]
        assert "there is no image" in problems[0][0].reason
        assert "cannot be read" in problems[1][0].reason
        assert "cannot be read" in problems[2][0].reason
        assert problems[2][0].where == str(third.image)
        source = AnnotatedImages(listing, name="train", drop_bad=True)
        assert (len(source), len(source.dropped)) == (1, 2)
        with pytest.raises(InputError, match=f"{third.image} cannot be read"):
            source[0]


def test_many_problems_are_counted(voc):
    names = [f"n{i}" for i in range(15)]
    (voc / "ImageSets" / "Main" / "train.txt").write_text("\n".join(names))
    with pytest.raises(InputError, match=r"(?s)has 15 problems.*n6.xml.*and 8 more") as error:
        AnnotatedImages(read_voc(voc, "train"), name="voc")
    assert "n7.xml" not in str(error.value)


def test_splits_that_are_not_there(tmp_path, voc, yolo):
    with pytest.raises(InputError, match=r"no split 'val'.*there are train"):
        read_voc(voc, "val")
    with pytest.raises(InputError, match="is this a folder in VOC's form"):
        read_voc(tmp_path, "val")
    with pytest.raises(InputError, match=r"no split 'val': there are no images in .*val, and no"):
        read_yolo(yolo, "val")
    (yolo / "classes.txt").unlink()
    with pytest.raises(InputError, match=r"class_names is not given, .*classes.txt"):
        read_yolo(yolo, "train")
    (voc / "ImageSets" / "Main" / "train.txt").write_text("a\nb\na\n")
    with pytest.raises(InputError, match="names a twice"):
        read_voc(voc, "train")


def test_bccd(real_data):
    """Every annotation of the real data reads, and holds as many objects as a count of its text."""
    folder = real_data / "bccd"
    listing = read_voc(folder, "trainval")
    source = AnnotatedImages(listing, name="bccd")
    assert listing.class_names == ("Platelets", "RBC", "WBC")
    assert len(source) == 292
    for annotation in listing.annotations:
        text = (folder / "Annotations" / f"{annotation.image.stem}.xml").read_text()
        assert len(annotation.labels) == text.count("<object>")


def voc_problem(voc):
    (problem,) = read_voc(voc, "train", class_names=CLASSES).problems
    assert len(str(problem)) < 700
    return problem.reason


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        (voc_xml("a").replace("<xmin>5<", "<xmin>nan<"), "bndbox/xmin is 'nan': give a number"),
        (voc_xml("a").replace("<ymax>6<", "<ymax>inf<"), "bndbox/ymax is 'inf'"),
        (voc_xml("a").replace("<ymax>6<", "<ymax>1_6<"), "bndbox/ymax is '1_6'"),
        (voc_xml("a").replace("<width>16<", "<width>nan<"), "size/width is 'nan'"),
        (voc_xml("a").replace("<width>16<", "<width>15.9<"), "size is 15.9 x 16: give whole"),
        (voc_xml("a").replace("</name>", "</name><name>dog</name>"), "name is given 2 times"),
        (voc_xml("a").replace("</name>", "</name><difficult>False</difficult>"), "difficult is 'F"),
        (voc_xml("a").replace("annotation>", "html>"), "its root is 'html': it must be"),
        ('<?xml version="1.0" encoding="shift_jis"?>' + voc_xml("a"), "multi-byte encodings are"),
        ('<?xml version="1.0" encoding="no-such"?>' + voc_xml("a"), "unknown encoding"),
    ],
)
def test_what_xml_must_not_say(voc, xml, reason):
    assert xml != voc_xml("a")
    (voc / "Annotations" / "a.xml").write_text(xml)
    assert reason in voc_problem(voc)


def test_names_in_vocs_lists_may_have_spaces(voc):
    for folder, suffix in (("JPEGImages", "png"), ("Annotations", "xml")):
        (voc / folder / f"a.{suffix}").rename(voc / folder / f"a 1.{suffix}")
        (voc / folder / f"c.{suffix}").rename(voc / folder / f"the c.{suffix}")
    file = voc / "ImageSets" / "Main" / "train.txt"
    file.write_text("b  1\na 1\nthe c -1\n")
    listing = read_voc(voc, "train")
    assert [x.image.stem for x in listing.annotations] == ["b", "a 1", "the c"]
    assert not listing.problems
    file.write_text("the other\n")
    assert read_voc(voc, "train", class_names=CLASSES).problems[0].where.endswith("the other.xml")
    file.write_bytes("b\n".encode("utf-16"))
    with pytest.raises(InputError, match=r"train.txt cannot be read \(not UTF-8.*store it in"):
        read_voc(voc, "train")


def test_what_yolos_files_must_not_repeat_or_hold(yolo, caplog):
    label = yolo / "labels" / "train" / "a.txt"
    label.write_bytes("0 0.5 0.5 0.1 0.1 é".encode("latin-1"))
    (problem,) = read_yolo(yolo, "train").problems
    assert "cannot be read (not UTF-8" in problem.reason
    label.write_text("0 0.5 0.5 0.1 nan")
    (problem,) = read_yolo(yolo, "train").problems
    assert "give 'class x y width height', or" in problem.reason
    label.write_text("")
    (yolo / "train.txt").write_text("images/train/a.png\nimages/train/a.png\n")
    assert [x.image.stem for x in read_yolo(yolo, "train").annotations] == ["a", "a"]
    (warning,) = caplog.messages
    assert "train.txt repeats 1 of its 2 lines" in warning
    (yolo / "train.txt").write_bytes(b"\xff\xfe\n")
    with pytest.raises(InputError, match=r"train.txt cannot be read \(not UTF-8"):
        read_yolo(yolo, "train")
    (yolo / "train.txt").unlink()
    (yolo / "classes.txt").write_text("cat\ncat\n")
    with pytest.raises(InputError, match=r"classes.txt has the class cat twice"):
        read_yolo(yolo, "train")


def test_what_cocos_json_must_not_repeat(tmp_path):
    content = coco_content()
    content["annotations"][1]["id"] = 100
    file = write_coco(tmp_path, content)
    listing = read_coco(file, tmp_path / "images")
    assert "annotation 100: there are two annotations with this id" in str(listing.problems[0])
    text = json.dumps(coco_content())
    for wrong, message in [
        (text.replace('"cat"', '"dog"'), "of two categories 'dog', with the ids 3 and 17: give"),
        (text.replace('"iscrowd": 0', '"iscrowd": 0, "iscrowd": 1'), "has the key 'iscrowd' twice"),
        ("[" * 10**5, r"cannot be read \(nested too deeply\)"),
        ("{" + "".join(f'"{key}": 1, ' for key in range(10**5)) + '"99999": 1}', "key '99999' tw"),
    ]:
        assert wrong != text
        file.write_text(wrong)
        with pytest.raises(InputError, match=message):
            read_coco(file, tmp_path / "images")


@pytest.mark.parametrize("used", [3, 17, None])
def test_a_category_that_coco_names_twice_is_the_annotated_one(tmp_path, used):
    content = coco_content()
    content["categories"] = [
        {"id": 3, "name": "x"},
        {"id": 9, "name": "y"},
        {"id": 17, "name": "x"},
    ]
    content["annotations"] = [x for x in content["annotations"] if x["category_id"] == used]
    listing = read_coco(write_coco(tmp_path, content), tmp_path / "images")
    assert listing.class_names == (("x", "y") if used == 3 else ("y", "x"))
    labels = np.concatenate([x.labels for x in listing.annotations])
    assert {listing.class_names[label] for label in labels} == ({"x"} if used else set())
    assert not listing.problems
