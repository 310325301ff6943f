"""Folders of images with boxes: which files, which splits, which classes."""

import functools
import json
import logging

import numpy as np
import pytest

from jaxvision.core import InputError, Inputs, OptionError
from jaxvision.data import (
    CocoFolder,
    EvalLoader,
    ToDetection,
    VocFolder,
    YoloFolder,
    find_form,
    list_folder,
)
from jaxvision.data.sources.folders import COCO_LAYOUTS
from tests.data.folders import (
    CLASSES,
    coco_content,
    voc_object,
    voc_xml,
    write_images,
    write_voc,
    write_yolo,
)

SOURCES = {"voc": VocFolder, "coco": CocoFolder, "yolo": YoloFolder}


def batches_of(source, *, masks):
    inputs = Inputs((16, 16), resize="letterbox")
    return EvalLoader(source, ToDetection(inputs, 2, masks=masks), batch_size=3)


def write_coco_like(folder, layout):
    file, images = (folder / part.format(split="train") for part in layout)
    write_images(images)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(coco_content()))
    return folder


WRITERS = {
    "voc": write_voc,
    "yolo": write_yolo,
    **{
        f"coco {number}": functools.partial(write_coco_like, layout=layout)
        for number, layout in enumerate(COCO_LAYOUTS)
    },
}


@pytest.mark.parametrize("form", WRITERS)
def test_a_folder_of_each_form_is_a_source(form, tmp_path):
    folder, name = WRITERS[form](tmp_path / "mine"), form.split()[0]
    source = SOURCES[name](folder, "train")
    assert source.class_names == CLASSES
    assert sorted(len(source[i]["boxes"]) for i in range(len(source))) == [0, 1, 2]
    assert {source[i]["image"].shape[2] for i in range(3)} == {3}
    assert find_form(folder, "train") == name
    for given in (name, None):
        assert len(list_folder(folder, given, "train").annotations) == 3


def test_a_split_of_several_parts_is_one_after_the_other(tmp_path):
    for name in ("old", "new"):
        write_voc(tmp_path / name)
    source = VocFolder(tmp_path, "old/train + new/train", class_names=CLASSES)
    assert len(source) == 6
    assert [source.where(i).split("/")[-3] for i in (0, 3)] == ["old", "new"]
    np.testing.assert_array_equal(source[0]["boxes"], source[3]["boxes"])


def test_parts_with_other_classes_are_refused(tmp_path):
    for name in ("old", "new"):
        write_voc(tmp_path / name)
    file = tmp_path / "new" / "Annotations" / "a.xml"
    file.write_text(voc_xml("a", voc_object(4, 4, 5, 6, "cow")))
    (tmp_path / "new" / "Annotations" / "b.xml").write_text(voc_xml("b", ""))
    with pytest.raises(
        OptionError,
        match=r"^class_names is not given, .* different classes \(cat, dog; cow\): give",
    ) as error:
        list_folder(tmp_path, "voc", "old/train+new/train")
    assert error.value.option == "class_names"


def test_bad_records_are_refused_or_left_out_and_counted(tmp_path, caplog):
    folder = write_voc(tmp_path / "mine")
    (folder / "Annotations" / "a.xml").write_text(voc_xml("a", voc_object(4, 4, 4, 6, "cat")))
    (folder / "JPEGImages" / "c.png").write_bytes(b"no picture")
    with pytest.raises(
        InputError,
        match=r"has 2 problems:\n .*a.xml: box 1 .* has no area\n .*c.png.*\ncorrect them, .* with "
        r"drop_bad=True$",
    ):
        VocFolder(folder, "train")
    with caplog.at_level(logging.WARNING):
        source = VocFolder(folder, "train", drop_bad=True)
    assert len(source) == 1
    assert len(source.dropped) == 2
    assert "mine train: 1 records; others are left out, for 2 problems" in caplog.text


def test_a_split_may_be_empty(tmp_path):
    folder = write_voc(tmp_path / "mine")
    (folder / "ImageSets" / "Main" / "none.txt").write_text("")
    source = VocFolder(folder, "none")
    assert (len(source), source.box_counts) == (0, [])


@pytest.mark.parametrize("asked", [False, True])
def test_masks_are_read_if_they_are_asked_for(tmp_path, asked):
    content = coco_content()
    for annotation in content["annotations"]:
        annotation["segmentation"] = [[0, 0, 4, 0, 4, 4]]
    folder = WRITERS["coco 0"](tmp_path / "mine")
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(content))
    source = CocoFolder(folder, "train", masks=asked)
    assert [bool(source[i]["masks"]) for i in range(3)] == [False, asked, asked]
    assert [bool(source.target(i)["masks"]) for i in range(3)] == [False, asked, asked]
    (batch,) = batches_of(source, masks=asked)
    assert (batch.masks is not None) == asked


def test_masks_that_are_asked_for_and_missing_are_named(tmp_path):
    source = VocFolder(write_voc(tmp_path / "mine"), "train", class_names=CLASSES)
    with pytest.raises(InputError, match=r"b.xml: does not give a mask .* set masks=False"):
        list(batches_of(source, masks=True))


def test_options_of_the_readers_are_passed_on(tmp_path):
    folder = write_voc(tmp_path / "voc")
    one, zero = (VocFolder(folder, "train", first_pixel=n, drop_bad=True) for n in (1, 0))
    assert (len(one), len(zero.dropped)) == (3, 2)
    other = list_folder(folder, "voc", "train", first_pixel=0)
    assert (other.annotations[1].boxes == one[1]["boxes"] + 1).all()
    yolo = write_yolo(tmp_path / "yolo")
    assert YoloFolder(yolo, "train", class_names=("x", "y")).class_names == ("x", "y")
    assert list_folder(yolo, "yolo", "train", class_names=()).class_names == CLASSES


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    write_voc(tmp_path / "mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(VocFolder("~/mine", "train")) == 3


def test_what_is_not_there_is_a_clear_error(tmp_path):
    with pytest.raises(InputError, match=r"^unknown form 'pascal': "):
        list_folder(tmp_path, "pascal", "train")
    with pytest.raises(OptionError, match=r"^path is None: give the folder of the data"):
        VocFolder(None, "train")
    with pytest.raises(InputError, match=r"no split 'train' of COCO's form in .*: name the folder"):
        CocoFolder(tmp_path, "train")
    with pytest.raises(InputError, match="no split 'train'"):
        YoloFolder(tmp_path, "train")
    with pytest.raises(OptionError, match=r"^form is not given, and .* fits no form for the split"):
        list_folder(tmp_path, None, "train")
    write_voc(tmp_path / "both")
    (tmp_path / "both" / "labels").mkdir()
    with pytest.raises(OptionError, match=r"both fits several forms \(voc, yolo\) for the split"):
        find_form(tmp_path / "both", "train")


def test_bccd_is_a_source(real_data):
    source = VocFolder(real_data / "bccd", "train")
    assert (len(source), source.class_names) == (205, ("Platelets", "RBC", "WBC"))
    assert source.target(0)["size"] == source[0]["image"].shape[:2] == (480, 640)
    assert find_form(real_data / "bccd", "train") == "voc"
