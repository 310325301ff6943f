"""`jaxvision check-data`: every bad record in one go, and what is in the sound ones."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from jaxvision.core import InputError
from jaxvision.data import find_form
from tests.cli.test_errors import error_of
from tests.data.folders import coco_content, voc_object, voc_xml, write_voc, write_yolo
from tests.data.test_folders import WRITERS
from tests.marks import long_but, slow_but

FORMS = ("voc", "yolo", "coco 0")
BCCD_IMAGES = {"train": 205, "val": 87, "test": 72}


def result_of(command, *arguments, code=0):
    """(the result, what is said on stderr) of a check that ends with a code."""
    found, out, err = command("check-data", *arguments)
    assert found == code, err
    (line,) = out.splitlines()
    return json.loads(line), err


def is_picture(file):
    with Image.open(file) as image:
        pixels = np.asarray(image.convert("RGB"))
    height, width = pixels.shape[:2]
    return 400 < height < 2000 and 800 < width < 3000 and pixels.std() > 10


@pytest.mark.parametrize("form", slow_but(FORMS, ["coco 0"]))
def test_a_sound_folder_of_each_form(command, tmp_path, form):
    folder = WRITERS[form](tmp_path / "mine")
    result, err = result_of(command, f"--data={folder}")
    assert result == {
        "problems": 0,
        "images": 3,
        "empty_images": 1,
        "image_sizes": {"40 x 20": 1, "16 x 16": 1, "8 x 8": 1},
        "objects": 3,
        "crowd": int(form.startswith("coco")),
        "difficult": 0,
        "small": 3,
        "medium": 0,
        "large": 0,
        "most_objects": 2,
        "classes": {"cat": 2, "dog": 1},
    }
    assert f"{folder} train: annotations in the form {form.split()[0]}\n" in err
    for line in ("sound images  3, 1 without objects", "cat          2", "dog          1"):
        assert f"\n{line}\n" in err
    assert err.endswith("picture: data_train.png\n")
    assert is_picture(tmp_path / "data_train.png")


@pytest.mark.parametrize("form", WRITERS)
def test_the_form_is_found_out(tmp_path, form):
    folder = WRITERS[form](tmp_path / "mine")
    assert find_form(folder, "train") == form.split()[0]
    assert find_form(tmp_path, "mine/train+other/train") == form.split()[0]


def test_a_list_of_images_is_enough_for_yolo(tmp_path):
    (tmp_path / "train.txt").write_text("a.png\n")
    assert find_form(tmp_path, "train") == "yolo"


@pytest.mark.usefixtures("without_figures")
def test_a_form_that_cannot_be_found_out(command, tmp_path):
    with pytest.raises(InputError, match=r"fits no form for the split 'train': check folder and"):
        find_form(tmp_path, "train")
    message = error_of(command("check-data", f"--data={tmp_path}"))
    assert message.endswith("check folder and split, or give one of voc, coco, yolo, instances")
    write_voc(tmp_path / "mine")
    (tmp_path / "mine" / "labels").mkdir()
    message = error_of(command("check-data", f"--data={tmp_path / 'mine'}"))
    assert "mine fits several forms (voc, yolo) for the split 'train'" in message
    result_of(command, f"--data={tmp_path / 'mine'}", "--form=voc")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.usefixtures("without_figures")
def test_images_that_cannot_be_read(command, tmp_path, form):
    folder = WRITERS[form](tmp_path / "mine")
    missing, other, cut = (next(folder.rglob(f"{name}.png")) for name in "abc")
    if form == "yolo":  # else the images of the folder are those that are there
        (folder / "train.txt").write_text("".join(f"images/train/{x}.png\n" for x in "abc"))
    missing.unlink()
    other.write_bytes(b"no image")
    cut.write_bytes(cut.read_bytes()[:-40])
    result, err = result_of(command, f"--data={folder}", code=1)
    assert (result["problems"], result["images"], result["objects"]) == (3, 0, 0)
    assert re.search(rf"^{folder}.*\ba\b.*: there is no (such )?image", err, re.MULTILINE)
    for file in (other, cut):
        assert f"\n{file}: the image cannot be read (" in err
    # Damage after the header does not show in it.
    result, err = result_of(command, f"--data={folder}", "--headers_only", code=1)
    assert (result["problems"], result["images"], result["objects"]) == (2, 1, 0)
    assert str(cut) not in err


def write_records(folder, annotations):
    """A split in VOC's form whose records have the image of a, 16x16, and these annotations."""
    write_voc(folder)
    for name, text in annotations.items():
        shutil.copy(folder / "JPEGImages" / "a.png", folder / "JPEGImages" / f"{name}.png")
        (folder / "Annotations" / f"{name}.xml").write_text(text)
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a\n" + "\n".join(annotations))
    return folder


@pytest.mark.usefixtures("without_figures")
def test_what_is_wrong_in_xmls(command, tmp_path):
    objects = {
        "beyond": (4, 4, 17, 6, "cat"),
        "flat": (4, 4, 4, 6, "cat"),
        "turned": (5, 4, 4, 6, "cat"),
        "odd": (4, 4, 5, "?", "cat"),
        "new": (4, 4, 5, 6, "cow"),
    }
    annotations = {name: voc_xml("a", voc_object(*box)) for name, box in objects.items()}
    annotations["broken"] = "<object>"
    annotations["size"] = voc_xml("c")
    folder = write_records(tmp_path / "mine", annotations)
    with (folder / "ImageSets" / "Main" / "train.txt").open("a") as file:
        file.write("\nabsent\n")
    result, err = result_of(command, f"--data={folder}", "--class_names=cat,dog", code=1)
    for name, reason in {
        "beyond": "box 1 (4, 4, 17, 6) reaches beyond the image of 16 x 16",
        "flat": "box 1 (4, 4, 4, 6) has no area",
        "turned": "box 1 (5, 4, 4, 6) has its corners in the wrong order",
        "odd": "object 1: bndbox/ymax is '?': give a number",
        "new": "object 1: unknown class 'cow': known are cat, dog",
        "broken": "the annotation cannot be read (",
        "size": "says 8 x 8 pixels, but the image",
        "absent": "there is no such annotation",
    }.items():
        assert f"\n{folder}/Annotations/{name}.xml: {reason}" in err
    assert (result["problems"], result["images"]) == (8, 1)
    assert result["classes"] == {"cat": 1, "dog": 0}  # those of a, which is sound


@pytest.mark.usefixtures("without_figures")
def test_what_is_wrong_in_texts(command, tmp_path):
    folder = write_yolo(tmp_path / "mine")
    labels = folder / "labels" / "train"
    (labels / "a.txt").write_text("0 0.9 0.5 0.3 0.1")
    (labels / "b.txt").write_text("0 0.5 0.5 0.1\n\n2 0.5 0.5 0.1 0.1\n")
    (labels / "c.txt").unlink()
    result, err = result_of(command, f"--data={folder}", code=1)
    assert f"\n{labels}/a.txt: box 1 (12, 7.2, 16.8, 8.8) reaches beyond" in err
    assert f"\n{labels}/b.txt, line 1: is '0 0.5 0.5 0.1'" in err
    assert f"\n{labels}/b.txt, line 3: unknown class 2" in err
    assert f"\n{folder}/images/train/c.png: the annotation {labels}/c.txt is missing" in err
    assert (result["problems"], result["images"]) == (4, 0)


@pytest.mark.usefixtures("without_figures")
def test_what_is_wrong_in_a_json(command, tmp_path):
    folder, content = WRITERS["coco 0"](tmp_path / "mine"), coco_content()
    good = content["annotations"][2]  # of a, 16x16
    content["images"] = [
        {"id": n, "file_name": "a.png", "width": 16, "height": 16 + (n == 3)} for n in range(1, 7)
    ]
    changes = [{}, {"bbox": [1, 1, 0, 4]}, {}, {"bbox": None}, {"category_id": 1}, {}]
    content["annotations"] = [
        {**good, "id": n, "image_id": n, **change} for n, change in enumerate(changes, start=1)
    ]
    content["annotations"].append({**good, "id": 7, "image_id": 100})
    file = folder / "annotations" / "instances_train.json"
    file.write_text(json.dumps(content))
    result, err = result_of(command, f"--data={folder}", code=1)
    assert f"\n{file}, image 2 (a.png): box 1 (1, 1, 1, 5) has no area" in err
    assert f"\n{file}, image 3 (a.png): says 16 x 17 pixels, but the image" in err
    assert f"\n{file}, annotation 4: bbox is None" in err
    assert f"\n{file}, annotation 5: there is no category with the id 1" in err
    assert f"\n{file}, annotation 7: there is no image with the id 100" in err
    assert (result["problems"], result["images"], result["objects"]) == (5, 2, 2)


@pytest.mark.parametrize("form", ["yolo", "coco 0"])
@pytest.mark.usefixtures("without_figures")
def test_polygons_of_two_points_or_without_a_pixel(command, tmp_path, form):
    """Of image b, 40x20, and a, 16x16; the box of a has an area, but the polygon is too thin."""
    folder = WRITERS[form](tmp_path / "mine")
    thin = [4.6, 3, 5.4, 3, 5.4, 9, 4.6, 9]
    if form == "yolo":
        labels = folder / "labels" / "train"
        (labels / "a.txt").write_text(f"0 {' '.join(str(x / 16) for x in thin)}\n")
        (labels / "b.txt").write_text("0 0.1 0.1 0.5 0.1 0.5\n")  # four numbers are a box
        first = f"{labels}/a.txt: mask 1 is empty, as its polygons are"
        second = (
            f"{labels}/b.txt, line 1: is '0 0.1 0.1 0.5 0.1 0.5': give 'class x y width height'"
        )
    else:
        file, content = folder / "annotations" / "instances_train.json", coco_content()
        of_b, _, of_a = content["annotations"]
        of_a |= {"segmentation": [thin], "bbox": [4.6, 3, 0.8, 6]}
        of_b |= {"segmentation": [[1, 2, 3, 4]]}
        file.write_text(json.dumps(content))
        first = f"{file}, image 8 (a.png): mask 1 is empty, as its polygons are"
        second = f"{file}, annotation 100: segmentation: corners[0] has 2 corners: give at least 3"
    result, err = result_of(command, f"--data={folder}", code=1)
    assert (result["problems"], result["images"]) == (2, 1)
    assert f"\n{first}" in err
    assert f"\n{second}" in err


@pytest.mark.usefixtures("without_figures")
def test_more_bad_records_than_an_error_shows_are_listed(command, tmp_path):
    twice = voc_object(0, 0, 4, 4, "cat") + 2 * voc_object(9, 9, 8, 10, "cat")
    names = [f"n{number}" for number in range(30)]
    folder = write_records(tmp_path / "mine", dict.fromkeys(names, voc_xml("a", twice)))
    result, err = result_of(command, f"--data={folder}", code=1)
    assert (result["problems"], result["images"], result["objects"]) == (60, 1, 1)
    for name in names:
        for box in (2, 3):
            assert (
                f"\n{folder}/Annotations/{name}.xml: box {box} (9, 9, 8, 10) has its corners" in err
            )
    assert "\nproblems      60\n" in err


@pytest.mark.parametrize(
    ("form", "empty", "classes"),
    [("yolo", "", {"cat": 0, "dog": 0}), ("voc", "<annotation></annotation>", {})],
)
def test_without_objects_there_is_no_picture(command, tmp_path, form, empty, classes):
    folder = WRITERS[form](tmp_path / "mine")
    for file in [*folder.rglob("*.xml"), *folder.rglob("labels/train/*.txt")]:
        file.write_text(empty)
    result, err = result_of(command, f"--data={folder}")
    assert (result["images"], result["empty_images"], result["most_objects"]) == (3, 3, 0)
    assert result["classes"] == classes
    assert "picture" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.usefixtures("without_figures")
def test_difficult_objects_and_sizes_are_counted(command, tmp_path):
    folder = write_voc(tmp_path / "mine")
    Image.new("RGB", (200, 100)).save(folder / "JPEGImages" / "a.png")
    sides = {"small": (31, 33), "medium": (32, 32), "large": (96, 96)}
    objects = [voc_object(0, 0, *sides[size], "cat") for size in sides]
    objects.append(voc_object(0, 0, 95, 97, "dog", "<difficult>1</difficult>"))
    (folder / "Annotations" / "a.xml").write_text(f"<annotation>{''.join(objects)}</annotation>")
    (folder / "ImageSets" / "Main" / "one.txt").write_text("a\n")
    result, _ = result_of(command, f"--data={folder}", "--split=one")
    assert [result[size] for size in sides] == [1, 2, 1]
    assert (result["difficult"], result["most_objects"]) == (1, 4)
    assert result["classes"] == {"cat": 3, "dog": 1}


@pytest.mark.slow
@pytest.mark.usefixtures("without_figures")
def test_class_names_and_the_first_pixel_reach_the_reader(command, tmp_path):
    folder = write_voc(tmp_path / "mine")
    result, _ = result_of(command, f"--data={folder}", "--class_names=dog,cow,cat")
    assert result["classes"] == {"dog": 1, "cow": 0, "cat": 2}
    result, err = result_of(command, f"--data={folder}", "--class_names=cat", code=1)
    assert "b.xml: object 1: unknown class 'dog': known are cat" in err
    result, err = result_of(command, f"--data={folder}", "--first_pixel=0", code=1)
    assert "b.xml: box 1 (1, 1, 11, 21) reaches beyond the image of 40 x 20" in err
    folder = WRITERS["coco 0"](tmp_path / "coco")
    result_of(command, f"--data={folder}", "--class_names=cat,dog")
    message = error_of(command("check-data", f"--data={folder}", "--class_names=dog,cat"))
    assert message.startswith("the classes of the data are cat, dog, but --class_names is dog, cat")


@pytest.mark.slow
def test_the_picture_goes_where_it_is_asked_for(command, tmp_path):
    for year in ("2007", "2012"):
        write_voc(tmp_path / year)
    out = tmp_path / "some" / "where"
    split = "2007/train+2012/train"
    result, _ = result_of(command, f"--data={tmp_path}", f"--split={split}", f"--out={out}")
    assert result["images"] == 6
    (picture,) = out.iterdir()
    assert picture.name == "data_2007_train+2012_train.png"
    assert is_picture(picture)


@pytest.mark.slow
def test_many_classes_fit_into_the_picture(command, tmp_path):
    folder = write_yolo(tmp_path / "mine")
    (folder / "classes.txt").write_text("\n".join(f"class{number}" for number in range(300)))
    lines = [f"{number} 0.5 0.5 0.1 0.1\n" for number in range(60)]
    (folder / "labels" / "train" / "a.txt").write_text("".join(lines))
    result, err = result_of(command, f"--data={folder}")
    assert len(result["classes"]) == 300
    assert len(re.findall(r"^class\d+ ", err, re.MULTILINE)) == 300
    assert is_picture(tmp_path / "data_train.png")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "no --data: give the folder of the images and annotations"),
        (["--data=nowhere"], "--form is not given, and nowhere fits no form for the split 'train'"),
        (["--data=mine", "--split=val"], "no split 'val': mine/ImageSets/Main/val.txt cannot"),
        (["--data=mine", "--form=coco"], "no split 'train' of COCO's form in mine"),
        (["--data=mine", "--form=xml"], "flag --form=xml: value should be one of <voc|coco|yolo|"),
        (["--data=mine", "--header_only"], "Unknown command line flag 'header_only'. Did you mean"),
        (["mine"], "unexpected argument 'mine'"),
    ],
)
def test_bad_arguments(command, tmp_path, arguments, expected):
    write_voc(tmp_path / "mine")
    code, out, err = command("check-data", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {expected}")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_help(command):
    code, out, err = command("check-data", "--help")
    assert (code, err) == (0, "")
    assert "jaxvision check-data --data=DIR\n" in out
    for name in ("data", "form", "split", "class_names", "first_pixel", "out", "headers_only"):
        assert f"\n  --{name}: " in out


@pytest.mark.parametrize("split", long_but(BCCD_IMAGES, (), ["train"]))
def test_bccd(command, tmp_path, real_data, split):
    """Counted in the text of the annotations."""
    folder = real_data / "bccd"
    names = (folder / "ImageSets" / "Main" / f"{split}.txt").read_text().split()
    texts = [(folder / "Annotations" / f"{name}.xml").read_text() for name in names]
    objects = [re.findall(r"<name>(\w+)</name>", text) for text in texts]
    sides = [
        [int(x) for x in re.findall(f"<{side}>(\\d+)</{side}>", "".join(texts))]
        for side in ("xmin", "xmax", "ymin", "ymax")
    ]
    areas = [(x2 - x1 + 1) * (y2 - y1 + 1) for x1, x2, y1, y2 in zip(*sides, strict=True)]

    result, _ = result_of(command, f"--data={folder}", f"--split={split}")
    assert result["images"] == len(names) == BCCD_IMAGES[split]
    assert result["image_sizes"] == {"640 x 480": len(names)}
    assert (result["problems"], result["empty_images"], result["crowd"]) == (0, 0, 0)
    assert result["most_objects"] == max(map(len, objects))
    assert result["objects"] == len(areas) == sum(map(len, objects))
    assert result["classes"] == {
        name: sum(x.count(name) for x in objects) for name in ("Platelets", "RBC", "WBC")
    }
    assert result["small"] == sum(area < 1024 for area in areas)
    assert result["large"] == sum(area >= 9216 for area in areas)
    assert result["medium"] == len(areas) - result["small"] - result["large"]
    assert is_picture(tmp_path / f"data_{split}.png")
