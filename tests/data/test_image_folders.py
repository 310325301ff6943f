"""Folders of images by class: what is in them, and what is wrong with them."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from jaxvision.core import InputError
from jaxvision.data import CLASSIFICATION_SOURCES, Splits
from jaxvision.data.sources.image_folders import open_image_folder


def write(path, color, size=(4, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "train" / "dog" / "b.png", (0, 0, 255))
    write(tmp_path / "train" / "cat" / "z.png", (255, 0, 0))
    write(tmp_path / "train" / "cat" / "deeper" / "a.PNG", (0, 255, 0))
    (tmp_path / "train" / "cat" / "notes.txt").write_text("no image")
    write(tmp_path / "val" / "dog" / "x.png", (10, 20, 30))
    return tmp_path


def data_of(folder, **changes):
    fields = {
        "dir": str(folder),
        "train_split": "train",
        "test_split": "val",
        "num_classes": 2,
        "class_names": (),
    }
    return SimpleNamespace(**{**fields, "channels": 3, **changes})


def test_classes_are_the_folders_in_their_order(folder):
    source = open_image_folder(data_of(folder), "train")
    assert source.class_names == ("cat", "dog")
    assert [source.where(i) for i in range(len(source))] == [
        str(folder / "train" / name) for name in ("cat/deeper/a.PNG", "cat/z.png", "dog/b.png")
    ]
    assert [source[i]["label"] for i in range(3)] == [0, 0, 1]
    assert source[0]["image"].shape == (6, 4, 3)
    np.testing.assert_array_equal(source[2]["image"][0, 0], [0, 0, 255])
    np.testing.assert_array_equal(source.labels, [0, 0, 1])
    assert CLASSIFICATION_SOURCES["folder"] is open_image_folder


def test_what_is_hidden_or_no_image_is_ignored_and_counted_once(folder, caplog):
    before = list(open_image_folder(data_of(folder), "train").paths)
    assert caplog.messages == [message(folder / "train", 1)]  # notes.txt
    write(folder / "train" / ".ipynb_checkpoints" / "a.png", (0, 0, 0))
    write(folder / "train" / "cat" / ".thumbnails" / "a.png", (0, 0, 0))
    write(folder / "train" / "cat" / "._z.png", (0, 0, 0))
    write(folder / "train" / "stray.png", (0, 0, 0))
    (folder / "train" / "dog" / ".DS_Store").touch()
    (folder / "train" / "dog" / "Thumbs.db").touch()
    (folder / "train" / "dog" / "folder.png").mkdir()
    caplog.clear()
    splits = Splits(
        data_of(folder, source="folder", validation_fraction=0.5, cache=False),
        CLASSIFICATION_SOURCES,
    )
    source = splits.whole("train")
    assert (list(source.paths), source.ignored) == (before, 7)
    assert source.class_names == ("cat", "dog")
    splits.open("train")
    splits.open("validation")
    assert caplog.messages == [message(folder / "train", 7)]
    caplog.clear()
    assert splits.whole("test").ignored == 0
    assert caplog.messages == []


def message(folder, count):
    return (
        f"{folder}: ignored {count} files or folders that are hidden, no images, there twice or "
        "beside the classes' folders"
    )


def test_the_folder_itself_may_be_hidden_and_classes_may_be_links(folder):
    hidden = folder / ".cache" / "train"
    hidden.mkdir(parents=True)
    for name in ("cat", "dog"):
        (hidden / name).symlink_to(folder / "train" / name)
    source = open_image_folder(data_of(folder / ".cache"), "train")
    assert source.labels.tolist() == [0, 0, 1]
    assert source.ignored == 1


def test_a_link_to_a_folder_around_it_does_not_repeat_images(folder):
    (folder / "train" / "cat" / "loop").symlink_to(folder / "train" / "cat")
    source = open_image_folder(data_of(folder), "train")
    assert (source.labels.tolist(), source.ignored) == ([0, 0, 1], 2)


def test_a_split_may_lack_a_class_but_numbers_stay(folder):
    source = open_image_folder(data_of(folder), "test")
    assert len(source) == 1
    assert source[0]["label"] == 1


def test_names_of_classes_number_them_without_the_training_split(folder):
    data = data_of(folder, class_names=("dog", "cat"))
    assert open_image_folder(data, "train").labels.tolist() == [1, 1, 0]
    data.train_split = "gone"
    source = open_image_folder(data, "test")
    assert (source.class_names, source.labels.tolist()) == (("dog", "cat"), [0])


def test_grey_images_are_as_pillows(folder):
    source = open_image_folder(data_of(folder, channels=1), "test")
    expected = np.asarray(Image.open(source.where(0)).convert("L"))
    np.testing.assert_array_equal(source[0]["image"][..., 0], expected)


@pytest.mark.parametrize(
    ("split", "changes", "message"),
    [
        ("train", {"num_classes": 3}, "train has 2 classes: set config.data.num_classes=2"),
        ("train", {"dir": None}, "config.data.dir is not set"),
        ("train", {"train_split": "gone"}, "there is no folder .*gone"),
        ("gone", {}, "there is no folder .*gone"),
        ("train", {"train_split": "train/cat/deeper"}, "there are no folders in .*deeper"),
        ("more", {}, "more has classes that are none of the 2 to train on: fox: take"),
        ("many", {}, "train on: 0, 1, 2, 3, 4, 5, 6, 7 and 3 more: take their folders out"),
        ("empty", {}, "there are no images in .*empty.cat: add some, or take it out"),
        ("train", {"train_split": "empty", "num_classes": 1}, "there are no images in .*empty.cat"),
        ("test", {"class_names": ("cat",)}, "class_names has 1 classes: set .*num_classes=1"),
        (
            "test",
            {"class_names": ("cat", "fox")},
            "classes that are none of the 2 to train on: dog: take",
        ),
        (
            "train",
            {"class_names": ("cat", "dog", "fox"), "num_classes": 3},
            "train lacks classes of config.data.class_names: fox: give each a folder",
        ),
    ],
)
def test_what_is_wrong_with_a_folder(folder, split, changes, message):
    write(folder / "more" / "fox" / "a.png", (0, 0, 0))
    for name in [*range(9), "x", "y"]:
        write(folder / "many" / str(name) / "a.png", (0, 0, 0))
    (folder / "empty" / "cat").mkdir(parents=True)
    (folder / "empty" / "cat" / "notes.txt").write_text("no image")
    with pytest.raises(InputError, match=message):
        open_image_folder(data_of(folder, **changes), split)
