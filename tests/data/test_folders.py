"""Folders as a config names them: which files, which splits, which classes."""

import functools
import json
import logging

import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxvision.cli.assemble import eval_data
from jaxvision.cli.config import default_config
from jaxvision.core import InputError
from jaxvision.data import DETECTION_SOURCES, Splits, list_folder, open_folder
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


def data_of(source, folder, **changes):
    data = default_config("detection").data
    data.update({"source": source, "dir": str(folder), "validation_fraction": 0.0, **changes})
    return data


def batches_of(data, source):
    config = default_config("detection")
    config.batch_size, config.data = 3, data
    return eval_data(config, source)


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
    folder = WRITERS[form](tmp_path / "mine")
    source = Splits(data_of(form.split()[0], folder), DETECTION_SOURCES).open("train")
    boxes = sorted(len(source[i]["boxes"]) for i in range(len(source)))
    assert boxes == [0, 1, 2]
    assert {source[i]["image"].shape[2] for i in range(3)} == {3}


def test_a_split_of_several_parts_is_one_after_the_other(tmp_path):
    for name in ("old", "new"):
        write_voc(tmp_path / name)
    data = data_of("voc", tmp_path, train_split="old/train + new/train", class_names=CLASSES)
    source = open_folder(data, "train")
    assert len(source) == 6
    assert [source.where(i).split("/")[-3] for i in (0, 3)] == ["old", "new"]
    np.testing.assert_array_equal(source[0]["boxes"], source[3]["boxes"])


def test_parts_with_other_classes_are_refused(tmp_path):
    for name in ("old", "new"):
        write_voc(tmp_path / name)
    file = tmp_path / "new" / "Annotations" / "a.xml"
    file.write_text(voc_xml("a", voc_object(4, 4, 5, 6, "cow")))
    (tmp_path / "new" / "Annotations" / "b.xml").write_text(voc_xml("b", ""))
    with pytest.raises(InputError, match=r"other classes \(cat, dog; cow\): give config.data.clas"):
        list_folder(data_of("voc", tmp_path), "old/train+new/train")


def test_classes_of_the_config_that_the_data_does_not_have_are_refused(tmp_path):
    folder = WRITERS["coco 0"](tmp_path / "mine")
    right = data_of("coco", folder, class_names=("cat", "dog"))
    assert len(Splits(right, DETECTION_SOURCES).open("train")) == 3
    for names in (("dog", "cat"), ("cat",)):
        with pytest.raises(InputError, match=r"classes of the data are cat, dog, but config.data"):
            Splits(data_of("coco", folder, class_names=names), DETECTION_SOURCES).open("train")


def test_bad_records_are_refused_or_left_out_and_counted(tmp_path, caplog):
    folder = write_voc(tmp_path / "mine")
    (folder / "Annotations" / "a.xml").write_text(voc_xml("a", voc_object(4, 4, 4, 6, "cat")))
    (folder / "JPEGImages" / "c.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"has 2 problems:\n .*a.xml: box 1 .* has no area\n .*c"):
        open_folder(data_of("voc", folder), "train")
    with caplog.at_level(logging.WARNING):
        source = open_folder(data_of("voc", folder, drop_bad=True), "train")
    assert len(source) == 1
    assert "mine train: 1 records; others are left out, for 2 problems" in caplog.text


def test_a_crowded_image_is_named_when_the_data_is_opened(tmp_path):
    folder = write_voc(tmp_path / "mine")
    assert len(open_folder(data_of("voc", folder, max_boxes=2), "train")) == 3
    with pytest.raises(
        InputError,
        match=r"mine/Annotations/b.xml: has 2 boxes, more than 1: set config.data.max_bo",
    ):
        open_folder(data_of("voc", folder, max_boxes=1), "train")
    (folder / "ImageSets" / "Main" / "none.txt").write_text("")
    assert len(open_folder(data_of("voc", folder), "none")) == 0


@pytest.mark.parametrize("asked", [False, True])
def test_masks_are_read_if_the_config_asks_for_them(tmp_path, asked):
    content = coco_content()
    for annotation in content["annotations"]:
        annotation["segmentation"] = [[0, 0, 4, 0, 4, 4]]
    folder = WRITERS["coco 0"](tmp_path / "mine")
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(content))
    data = data_of("coco", folder, masks=asked, class_names=CLASSES)
    source = open_folder(data, "train")
    assert [bool(source[i]["masks"]) for i in range(3)] == [False, asked, asked]
    (batch,) = batches_of(data, source)
    assert (batch.masks is not None) == asked


def test_masks_that_are_asked_for_and_missing_are_named(tmp_path):
    data = data_of("voc", write_voc(tmp_path / "mine"), masks=True, class_names=CLASSES)
    source = open_folder(data, "train")
    with pytest.raises(InputError, match=r"b.xml: does not give a mask .*config.data.masks=False"):
        list(batches_of(data, source))


def test_names_of_splits_are_the_configs(tmp_path):
    folder = write_voc(tmp_path / "mine")
    (folder / "ImageSets" / "Main" / "small.txt").write_text("a\n")
    data = data_of("voc", folder, train_split="small", test_split="train")
    assert len(open_folder(data, "train")) == 1
    assert len(open_folder(data, "test")) == 3
    assert len(open_folder(data, "small")) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "pascal"}, "unknown config.data.source 'pascal'"),
        ({"dir": None}, "config.data.dir is not set"),
        ({"source": "coco"}, "no split 'train' of COCO's form in .*: name the folder"),
        ({"source": "yolo"}, "no split 'train'"),
    ],
)
def test_what_is_not_there_is_said_clearly(changes, message, tmp_path):
    data = ConfigDict({**data_of("voc", tmp_path).to_dict(), **changes})
    with pytest.raises(InputError, match=message):
        open_folder(data, "train")
