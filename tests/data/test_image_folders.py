"""Folders of images by class: what is in them, and what is wrong with them."""

import numpy as np
import pytest
from PIL import Image

from jaxvision.core import InputError
from jaxvision.data import ImageFolder, hold_out


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


def test_classes_are_the_folders_in_their_order(folder):
    source = ImageFolder(folder / "train")
    assert source.class_names == ("cat", "dog")
    assert [source.where(i) for i in range(len(source))] == [
        str(folder / "train" / name) for name in ("cat/deeper/a.PNG", "cat/z.png", "dog/b.png")
    ]
    assert [source[i]["label"] for i in range(3)] == [0, 0, 1]
    assert source[0]["image"].shape == (6, 4, 3)
    np.testing.assert_array_equal(source[2]["image"][0, 0], [0, 0, 255])
    np.testing.assert_array_equal(source.labels, [0, 0, 1])
    assert source.target(2) == {"label": 1}


def test_what_is_hidden_or_no_image_is_ignored_and_counted_once(folder, caplog):
    before = list(ImageFolder(folder / "train").paths)
    assert caplog.messages == [message(folder / "train", 1)]  # notes.txt
    write(folder / "train" / ".ipynb_checkpoints" / "a.png", (0, 0, 0))
    write(folder / "train" / "cat" / ".thumbnails" / "a.png", (0, 0, 0))
    write(folder / "train" / "cat" / "._z.png", (0, 0, 0))
    write(folder / "train" / "stray.png", (0, 0, 0))
    (folder / "train" / "dog" / ".DS_Store").touch()
    (folder / "train" / "dog" / "Thumbs.db").touch()
    (folder / "train" / "dog" / "folder.png").mkdir()
    caplog.clear()
    source = ImageFolder(str(folder / "train"))
    assert (list(source.paths), source.ignored) == (before, 7)
    assert source.class_names == ("cat", "dog")
    rest, part = hold_out(source, 0.5)
    assert rest.class_names == part.class_names == ("cat", "dog")
    assert sorted([*rest.labels, *part.labels]) == [0, 0, 1]
    assert caplog.messages == [message(folder / "train", 7)]
    caplog.clear()
    assert ImageFolder(folder / "val").ignored == 0
    assert caplog.messages == []


def message(folder, count):
    return (
        f"{folder}: ignored {count} files or folders that are hidden, are not images, are there "
        "twice or lie beside the classes' folders"
    )


def test_the_folder_itself_may_be_hidden_and_classes_may_be_links(folder):
    hidden = folder / ".cache" / "train"
    hidden.mkdir(parents=True)
    for name in ("cat", "dog"):
        (hidden / name).symlink_to(folder / "train" / name)
    source = ImageFolder(folder / ".cache" / "train")
    assert source.labels.tolist() == [0, 0, 1]
    assert source.ignored == 1


def test_a_link_to_a_folder_around_it_does_not_repeat_images(folder):
    (folder / "train" / "cat" / "loop").symlink_to(folder / "train" / "cat")
    source = ImageFolder(folder / "train")
    assert (source.labels.tolist(), source.ignored) == ([0, 0, 1], 2)


def test_a_split_may_lack_a_class_but_numbers_stay(folder):
    source = ImageFolder(folder / "val", class_names=ImageFolder(folder / "train").class_names)
    assert (len(source), source.class_names) == (1, ("cat", "dog"))
    assert source[0]["label"] == 1
    assert ImageFolder(folder / "val").class_names == ("dog",)


def test_names_of_classes_number_them(folder):
    names = ["dog", "cat"]
    source = ImageFolder(folder / "train", class_names=names, complete=True)
    assert source.labels.tolist() == [1, 1, 0]
    source = ImageFolder(folder / "val", class_names=names)
    assert (source.class_names, source.labels.tolist()) == (("dog", "cat"), [0])


def test_grey_images_are_as_pillows(folder):
    source = ImageFolder(folder / "val", grey=True)
    expected = np.asarray(Image.open(source.where(0)).convert("L"))
    np.testing.assert_array_equal(source[0]["image"], expected[..., None])


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("gone", {}, "there is no folder .*gone: give one that has a folder of images for each cl"),
        ("train/cat/deeper", {}, "there are no folders in .*deeper: give each class one"),
        ("more", {"class_names": ("cat", "dog")}, "more has classes that are not among the 2 of"),
        ("many", {"class_names": ("a",)}, "class_names: 0, 1, 2, 3, 4, 5, 6, 7 and 3 more: remove"),
        ("empty", {}, "there are no images in .*empty.cat: add some, or remove it"),
        ("val", {"class_names": ("cat",)}, "val has classes .* of class_names: dog: remove their"),
        ("val", {"class_names": ("cat", "fox")}, "not among the 2 of class_names: dog: remove"),
        (
            "train",
            {"class_names": ("cat", "dog", "fox"), "complete": True},
            "^class_names has names without a folder in .*train: fox: give each a folder",
        ),
    ],
)
def test_what_is_wrong_with_a_folder(folder, path, options, message):
    write(folder / "more" / "fox" / "a.png", (0, 0, 0))
    for name in [*range(9), "x", "y"]:
        write(folder / "many" / str(name) / "a.png", (0, 0, 0))
    (folder / "empty" / "cat").mkdir(parents=True)
    (folder / "empty" / "cat" / "notes.txt").write_text("no image")
    with pytest.raises(InputError, match=message):
        ImageFolder(folder / path, **options)


def test_a_path_is_needed():
    with pytest.raises(InputError, match=r"^path is None: give the folder with a folder of images"):
        ImageFolder(None)
