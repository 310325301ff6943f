"""`jaxvision crop-objects`: every object in the folder of its class, or counted as left out."""

import json
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from jaxvision.data import ImageFolder, read_image
from tests.cli.test_errors import error_of
from tests.data.folders import IMAGES, paint, voc_object, voc_xml, write_voc
from tests.data.test_folders import WRITERS

FORMS = ("voc", "yolo", "coco 0")
ALL = ("--splits=train", "--least_side=0")


def result_of(command, *arguments, code=0):
    """(the result, what is said on stderr) of a command that ends with a code."""
    found, out, err = command("crop-objects", *arguments)
    assert found == code, err
    (line,) = out.splitlines()
    return json.loads(line), err


def files_in(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("form", FORMS)
def test_each_object_of_each_form(command, tmp_path, form):
    folder = WRITERS[form](tmp_path / "mine")
    out = tmp_path / "new" / "crops"
    result, err = result_of(command, f"--data={folder}", *ALL, f"--out={out}")
    crowd = int(form.startswith("coco"))  # there the dog is one
    assert result == {
        "out": str(out),
        "splits": {"train": {"cat": 2, "dog": 1 - crowd}},
        "left_out": {"crowd": crowd, "difficult": 0, "small": 0},
        "problems": 0,
    }
    names = {("b", 0): "dog/b_1.png", ("b", 1): "cat/b_2.png", ("a", 0): "cat/a_1.png"}
    if crowd:
        del names["b", 0]
    assert files_in(out) == sorted(f"train/{name}" for name in names.values())
    for (name, number), file in names.items():
        x1, y1, x2, y2, _ = IMAGES[name][1][number]
        np.testing.assert_array_equal(read_image(out / "train" / file), paint(name)[y1:y2, x1:x2])
    assert f"train: cat 2, dog {1 - crowd}\n" in err
    assert [path.name for path in out.parent.iterdir()] == ["crops"]
    assert out.stat().st_mode & 0o777 == out.parent.stat().st_mode & 0o777


def test_a_folder_of_classes_reads_them(command, tmp_path):
    folder = write_voc(tmp_path / "mine")
    result_of(command, f"--data={folder}", *ALL, f"--out={tmp_path / 'crops'}")
    source = ImageFolder(tmp_path / "crops" / "train")
    assert source.class_names == ("cat", "dog")
    assert source.labels.tolist() == [0, 0, 1]


def test_windows_and_small_and_difficult_objects(command, tmp_path):
    folder = write_voc(tmp_path / "mine")
    objects = [
        voc_object(2, 4, 8, 14, "cat"),
        voc_object(2, 4, 8, 9, "cat"),
        voc_object(10, 4, 30, 14, "dog", "<difficult>1</difficult>"),
    ]
    (folder / "Annotations" / "b.xml").write_text(voc_xml("b", "".join(objects)))
    (folder / "ImageSets" / "Main" / "train.txt").write_text("b\n")
    usual = [f"--data={folder}", "--splits=train"]
    result, err = result_of(command, *usual, "--least_side=6", "--out=first")
    assert result["splits"]["train"] == {"cat": 1, "dog": 0}
    assert result["left_out"] == {"crowd": 0, "difficult": 1, "small": 1}
    assert "left out: crowd 0, difficult 1, small 1; problems: 0\n" in err
    assert files_in(tmp_path / "first") == ["train/cat/b_1.png"]
    np.testing.assert_array_equal(
        read_image(tmp_path / "first" / "train" / "cat" / "b_1.png"), paint("b")[4:14, 2:8]
    )
    options = ["--difficult", "--least_side=6", "--square", "--margin=0.1", "--out=second"]
    result, _ = result_of(command, *usual, *options)
    assert result["splits"]["train"] == {"cat": 1, "dog": 1}
    for name, pixels in {
        "cat/b_1": paint("b")[3:15, 0:12],  # moved into the image
        "dog/b_3": paint("b")[0:20, 8:32],  # larger than the image
    }.items():
        image = read_image(tmp_path / "second" / "train" / f"{name}.png")
        np.testing.assert_array_equal(image, pixels)


def test_several_splits_and_images_of_one_name(command, tmp_path):
    for year in ("2007", "2012"):
        write_voc(tmp_path / "mine" / year)
    arguments = ["--splits=2007/train,2007/train+2012/train", "--least_side=0", "--out=crops"]
    result, _ = result_of(command, f"--data={tmp_path / 'mine'}", *arguments)
    both = "2007/train+2012/train"
    assert result["splits"] == {"2007/train": {"cat": 2, "dog": 1}, both: {"cat": 4, "dog": 2}}
    names = files_in(tmp_path / "crops" / "2007_train+2012_train")
    assert names == [
        *(f"cat/{name}.png" for name in ("a_1", "a_2_1", "b_2", "b_2_2")),
        *(f"dog/{name}.png" for name in ("b_1", "b_2_1")),
    ]
    assert len(files_in(tmp_path / "crops" / "2007_train")) == 3


def test_splits_of_one_folder_are_refused(command, tmp_path):
    write_voc(tmp_path / "mine" / "2007")
    write_voc(tmp_path / "mine")
    lists = tmp_path / "mine" / "ImageSets" / "Main"
    (lists / "train.txt").rename(lists / "2007_train.txt")
    arguments = [f"--data={tmp_path / 'mine'}", "--splits=2007/train,2007_train", "--out=crops"]
    code, _, err = command("crop-objects", *arguments)
    assert code == 2
    assert "the splits 2007/train, 2007_train would share a folder" in err
    assert not (tmp_path / "crops").exists()


def test_the_data_of_a_config(command, tmp_path):
    folder = write_voc(tmp_path / "mine")
    (folder / "ImageSets" / "Main" / "rest.txt").write_text("a\n")
    data = [f"--config.data.dir={folder}", "--config.data.class_names=()"]
    splits = ["--config.data.train_split=train", "--config.data.test_split=rest"]
    usual = ["--config=bccd_yolov2", *data, *splits, "--least_side=0"]
    result, _ = result_of(command, *usual, "--out=crops")
    assert result["splits"] == {"train": {"cat": 2, "dog": 1}, "test": {"cat": 1, "dog": 0}}
    assert files_in(tmp_path / "crops" / "test") == ["cat/a_1.png"]
    coco = [f"--config.data.dir={WRITERS['coco 0'](tmp_path / 'coco')}", "--splits=train"]
    names = "--config.data.class_names=('dog', 'cat')"
    usual = [*usual, *coco, "--config.data.source=coco", names, "--out=other"]
    message = error_of(command("crop-objects", *usual))
    assert message.startswith(
        "config.data.class_names is dog, cat, but the classes of the data are cat, dog: leave"
    )


def test_images_and_boxes_with_problems_are_named_and_counted(command, tmp_path):
    folder = write_voc(tmp_path / "mine")
    (folder / "Annotations" / "c.xml").write_text(voc_xml("c", voc_object(2, 2, 9, 6, "cat")))
    cut = folder / "JPEGImages" / "b.png"
    cut.write_bytes(cut.read_bytes()[:-40])  # the header is sound
    result, err = result_of(command, f"--data={folder}", *ALL, "--out=crops", code=1)
    assert result["splits"] == {"train": {"cat": 1, "dog": 0}}
    assert result["problems"] == 2
    assert f"{folder}/Annotations/c.xml: box 1 (2, 2, 9, 6) reaches beyond the image" in err
    assert f"{cut}: the image cannot be read (" in err
    assert files_in(tmp_path / "crops") == ["train/cat/a_1.png"]


@pytest.mark.parametrize("name", ["a/b", "..", ".cat", "a\\b", ""])
def test_classes_that_are_no_folders(command, tmp_path, name):
    folder = WRITERS["yolo"](tmp_path / "mine")
    names = f"--class_names={name},dog"
    code, out, err = command("crop-objects", f"--data={folder}", names, *ALL, "--out=crops")
    assert (code, out) == (2, "")
    assert f"\nerror: the class {name!r} cannot be the name of a folder: rename it" in err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_folder_that_is_not_empty_is_left_alone(command, tmp_path):
    folder, out = write_voc(tmp_path / "mine"), tmp_path / "crops"
    out.mkdir()
    result_of(command, f"--data={folder}", *ALL, f"--out={out}")
    before = files_in(out)
    arguments = ["crop-objects", f"--data={folder}", *ALL]
    message = error_of(command(*arguments, f"--out={out}"))
    assert message == f"--out={out} is not empty: give a folder that is, or a new one"
    assert files_in(out) == before
    file = out / "train" / "cat" / "a_1.png"
    assert "is not empty" in error_of(command(*arguments, f"--out={file}"))


def test_an_empty_folder_stays_the_one_it_is(command, tmp_path, monkeypatch):
    """A disk may be mounted on it, or a shell in it."""
    folder, out = write_voc(tmp_path / "mine"), tmp_path / "crops"
    out.mkdir()
    before = out.stat().st_ino
    monkeypatch.chdir(out)
    result, _ = result_of(command, f"--data={folder}", *ALL, "--out=.")
    assert result["out"] == str(out)
    assert out.stat().st_ino == before
    assert [path.name for path in pathlib.Path().iterdir()] == ["train"]


def test_what_fails_on_the_way_leaves_nothing(command, tmp_path, monkeypatch):
    folder = write_voc(tmp_path / "mine")
    (folder / "ImageSets" / "Main" / "empty.txt").write_text("c\n")
    code, out, err = command("crop-objects", f"--data={folder}", "--splits=empty", "--out=crops")
    assert (code, out) == (2, "")
    assert err.endswith("error: there are no objects to write: check the data and its splits\n")
    save, saved = Image.Image.save, []

    def interrupt(image, file, **options):
        if saved:
            raise KeyboardInterrupt
        save(image, file, **options)
        saved.append(file)

    monkeypatch.setattr(Image.Image, "save", interrupt)
    code, out, _ = command("crop-objects", f"--data={folder}", *ALL, "--out=crops")
    assert (code, out, len(saved)) == (130, "", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    saved.clear()
    (tmp_path / "crops").mkdir()
    command("crop-objects", f"--data={folder}", *ALL, "--out=crops")
    assert list((tmp_path / "crops").iterdir()) == []  # it was there before


def test_a_split_that_cannot_be_moved_takes_the_others_back(command, tmp_path, monkeypatch):
    folder = write_voc(tmp_path / "mine")
    (folder / "ImageSets" / "Main" / "rest.txt").write_text("a\n")
    rename, moved = pathlib.Path.rename, []

    def fail(path, target):
        if moved:
            raise OSError("no space left")
        moved.append(target)
        return rename(path, target)

    monkeypatch.setattr(pathlib.Path, "rename", fail)
    usual = ["crop-objects", f"--data={folder}", "--splits=train,rest", "--least_side=0"]
    code, _, err = command(*usual, "--out=new/crops")
    assert (code, len(moved)) == (1, 1)
    assert err.endswith("error: no space left\n")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--data=mine"], "no --out: give the folder for the crops"),
        (["--out=crops"], "no --data: give the folder of the images and annotations"),
        (["--data=mine", "--out=crops"], "no split 'test': mine/ImageSets/Main/test.txt cannot"),
        (["--out=crops", "--data=mine", "--margin=-1"], "flag --margin=-1"),
        (["--out=crops", "--data=mine", "--least_side=-1"], "flag --least_side=-1"),
        (["--config=bccd_yolov2", "--data=mine", "--out=c"], "--data does not go with --config"),
        (["--config=bccd_yolov2", "--difficult", "--out=c"], "--difficult does not go with"),
        (["--config=bccd_yolov2", "--out=c"], "config.data.dir is not set"),
        (["--config=digits_lenet5", "--out=c"], "--config=digits_lenet5 is for classification"),
        (
            ["--config=scenes_yolov2_tiny", "--out=c"],
            "config.data.source is 'scenes', but objects are cut out of folders only: give the "
            "form of one, voc, coco, yolo",
        ),
    ],
)
def test_bad_arguments(command, tmp_path, arguments, expected):
    write_voc(tmp_path / "mine")
    code, out, err = command("crop-objects", *arguments)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith(f"error: {expected}")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_help(command):
    code, out, err = command("crop-objects", "--help")
    assert (code, err) == (0, "")
    assert "OUT/SPLIT/CLASS/NAME_NUMBER.png" in out
    assert "--splits=trainval,test" in out
    assert "(default: train,test)" in out
    assert "voc, coco or yolo" in out
    for name in ("data", "form", "splits", "out", "margin", "square", "least_side", "difficult"):
        assert f"\n  --{name}: " in out


@pytest.mark.long
def test_bccd(command, tmp_path, real_data):
    """Counted in the text of the annotations."""
    folder, splits = real_data / "bccd", ("train", "val", "test")
    arguments = [f"--splits={','.join(splits)}", "--least_side=0", "--out=crops"]
    result, _ = result_of(command, f"--data={folder}", *arguments)
    assert result["problems"] == 0
    assert set(result["left_out"].values()) == {0}
    for split in splits:
        names = (folder / "ImageSets" / "Main" / f"{split}.txt").read_text().split()
        objects = " ".join((folder / "Annotations" / f"{name}.xml").read_text() for name in names)
        for name in ("Platelets", "RBC", "WBC"):
            count = len(re.findall(f"<name>{name}</name>", objects))
            assert result["splits"][split][name] == count > 0
            assert len(files_in(tmp_path / "crops" / split / name)) == count
