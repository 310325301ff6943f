"""Finding images, names for outputs, and writing them."""

import os
import pathlib

import numpy as np
import pytest

from jaxvision import data, predict
from jaxvision.core import InputError
from jaxvision.predict import find_images, output_names, read_image, write_picture

TREE = ["b.jpg", "a.PNG", "c10.jpeg", "c9.webp", "notes.txt", ".hidden.png", "odd[1].tif"]
DEEP = ["deep/d.bmp", "deep/deeper/e.gif", "deep/deeper/f.ppm", "empty.png/readme"]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Some files, in the current folder."""
    for name in TREE + DEEP:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*arguments):
    return [path.as_posix() for path in find_images(arguments)]


def test_a_file_is_taken_whatever_its_suffix(tree):
    assert found("b.jpg") == ["b.jpg"]
    assert found("notes.txt", ".hidden.png") == ["notes.txt", ".hidden.png"]


def test_a_folder_stands_for_the_images_directly_in_it(tree):
    expected = ["a.PNG", "b.jpg", "c10.jpeg", "c9.webp", "odd[1].tif"]
    assert found(".") == expected
    assert found(f"{tree}/") == [f"{tree}/{name}" for name in expected]
    assert found("deep") == ["deep/d.bmp"]


def test_a_folder_whose_name_looks_like_a_pattern(tree):
    (tree / "set[1]").mkdir()
    (tree / "set[1]" / "x.png").write_bytes(b"")
    assert found("set[1]") == ["set[1]/x.png"]


def test_patterns(tree):
    assert found("c*") == ["c10.jpeg", "c9.webp"]
    assert found("?.jpg") == ["b.jpg"]
    assert found("[ab].*") == ["a.PNG", "b.jpg"]
    assert found("deep/**") == ["deep/d.bmp", "deep/deeper/e.gif", "deep/deeper/f.ppm"]
    assert found("**/*.ppm") == ["deep/deeper/f.ppm"]
    # A name that is a file is no pattern.
    assert found("odd[1].tif") == ["odd[1].tif"]


def test_no_file_comes_twice_and_the_order_is_that_of_the_arguments(tree):
    assert found("c*", "b.jpg", "c9.webp", "./b.jpg", str(tree / "b.jpg"), "deep/../b.jpg") == [
        "c10.jpeg",
        "c9.webp",
        "b.jpg",
    ]
    assert found("deep", "deep/**", "a.PNG")[-1] == "a.PNG"
    assert found("b.jpg", ".")[:2] == ["b.jpg", "a.PNG"]
    os.symlink(tree / "b.jpg", tree / "link.jpg")
    assert found("link.jpg", "b.jpg") == ["link.jpg"]


def test_no_arguments_find_nothing():
    assert find_images([]) == []


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("missing.jpg", r"^'missing.jpg': there is no such file or folder, and no image matches"),
        ("", r"^'': there is no such file"),
        ("*.gif", r"^'\*\.gif': there is no such"),
        ("*.txt", r"^'\*\.txt': there is no such"),
        ("empty*", r"^'empty\*': there is no such"),
        ("empty.png", r"^empty.png: there are no images \(\.bmp, .*'empty.png/\*\*/\*' for those"),
    ],
)
def test_nothing_found_names_the_argument(tree, argument, message):
    with pytest.raises(InputError, match=message) as error:
        find_images(["b.jpg", argument])
    assert "\n" not in str(error.value)


def test_images_are_read_as_for_training():
    assert predict.read_image is data.read_image


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        ([], []),
        (["a.jpg", "b/c.png"], ["a", "c"]),
        (["a.jpg", "b/a.png", "c/a.jpg"], ["a", "a_2", "a_3"]),
        (["a.jpg", "b/a.png", "a_2.jpg", "c/a_2.png"], ["a", "a_3", "a_2", "a_2_2"]),
        (["a_2.jpg", "a.jpg", "a.png"], ["a_2", "a", "a_3"]),
        (["A.jpg", "a.png"], ["A", "a_2"]),
        (["x.tar.gz", "x.tar.png"], ["x.tar", "x.tar_2"]),
    ],
)
def test_output_names_are_unique(paths, names):
    assert output_names(paths) == names
    assert output_names([pathlib.Path(path) for path in paths]) == names
    assert len({name.lower() for name in names}) == len(paths)


def test_many_files_of_one_name_take_no_time():
    names = output_names([f"{number}/image.jpg" for number in range(20_000)])
    assert len(set(names)) == 20_000
    assert names[:2] == ["image", "image_2"]
    assert names[-1] == "image_20000"


def test_a_picture_is_read_back_as_it_was_written(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    for path in (tmp_path / "a.png", str(tmp_path / "a.png")):
        write_picture(path, image)
        np.testing.assert_array_equal(read_image(path), image)
        image = image[::-1, 1:]
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_pictures_are_png_and_of_bytes(tmp_path):
    with pytest.raises(
        InputError, match=r"a\.jpg is written as a PNG: give a name that ends in \.png$"
    ):
        write_picture(tmp_path / "a.jpg", np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(AssertionError, match=r"^image is float64\[2, 2, 3\]: give uint8"):
        write_picture(tmp_path / "a.png", np.zeros((2, 2, 3)))
    assert not list(tmp_path.iterdir())


def test_a_pipe_is_no_image(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(InputError, match="this is not a regular file: give an image"):
        find_images([str(tmp_path / "a.png")])
    with pytest.raises(InputError, match=r"cannot be read as an image \(not a regular file\)"):
        read_image(tmp_path / "a.png")
