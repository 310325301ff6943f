"""Images with landmarks: from files to examples."""

import numpy as np
import pytest
from PIL import Image

from jaxvision.core import InputError, Inputs, OptionError
from jaxvision.data import LandmarkFolder, ToLandmarks
from jaxvision.data.sources.scenes import SceneLandmarks

IMAGE = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
POINTS = np.array([[1.0, 0.5], [4.0, 2.0], [7.0, -1.0]])
VISIBLE = np.array([True, True, False])
RECORD = {"image": IMAGE, "points": POINTS, "visible": VISIBLE}

TABLE = """\
image,left eye_x,left eye_y,nose_x,nose_y
b.bmp,1.5,0.25,,
below/a.png,,, 4,2
"""


def write_folder(folder, table=TABLE, images=("b.bmp", "below/a.png")):
    for part in ("images/train/below", "landmarks"):
        (folder / part).mkdir(parents=True)
    for name in images:
        Image.fromarray(IMAGE).save(folder / "images" / "train" / name)
    (folder / "landmarks" / "train.csv").write_text(table)
    return folder


def test_a_folder_of_images_and_a_table(tmp_path):
    source = LandmarkFolder(write_folder(tmp_path), "train")
    assert source.class_names == ("left eye", "nose")
    assert len(source) == 2
    np.testing.assert_array_equal(source[0]["image"], IMAGE)
    np.testing.assert_array_equal(source[0]["points"], [[1.5, 0.25], [0, 0]])
    assert source[0]["visible"].tolist() == [True, False]
    np.testing.assert_array_equal(source[1]["points"], [[0, 0], [4, 2]])
    assert source.target(0).keys() == {"points", "visible", "size"}
    assert source.target(1)["size"] == source[1]["size"] == (2, 4)
    np.testing.assert_array_equal(source.target(0)["points"], [[1.5, 0.25], [0, 0]])
    assert source.where(1) == f"{tmp_path}/landmarks/train.csv:3"


def test_names_of_landmarks_are_those_of_the_table(tmp_path):
    folder = write_folder(tmp_path)
    assert len(LandmarkFolder(folder, "train", class_names=("left eye", "nose"))) == 2
    with pytest.raises(
        OptionError, match=r"^class_names is nose, but the classes of .*train.csv are left eye, no"
    ):
        LandmarkFolder(folder, "train", class_names=("nose",))


def test_a_table_from_a_spreadsheet(tmp_path):
    folder = write_folder(tmp_path)
    text = "\ufeff" + TABLE.replace("\n", "\r\n").replace("b.bmp", '"b.bmp"') + "\r\n"
    (folder / "landmarks" / "train.csv").write_bytes(text.encode())
    source = LandmarkFolder(folder, "train")
    assert source[1]["points"].tolist() == [[0, 0], [4, 2]]


def test_what_is_wrong_with_a_folder_is_listed(tmp_path):
    names = ("a.png", "b.png", "c.png", "d.png", "e.png", "f.png", "g.png")
    table = """\
image,eye_x,eye_y
a.png,1,1
b.png,1
c.png,1,
d.png,4.5,1
e.png,1,nan
a.png,2,2
x.png,1,1
f.png,1,1
"""
    folder = write_folder(tmp_path, table, names)
    (folder / "images" / "train" / "f.png").write_bytes(b"no picture")
    with pytest.raises(InputError) as error:
        LandmarkFolder(folder, "train")
    first, *problems = str(error.value).splitlines()
    assert first == f"{folder} train has 8 problems:"
    expected = [
        (3, "has 2 cells, not 3 as the first line"),
        (4, "eye is at ('1', ''): give two numbers, or two empty cells"),
        (5, "eye is at (4.5, 1), outside"),
        (6, "eye is at ('1', 'nan'): give two numbers"),
        (7, f"image a.png has a line already, {folder}/landmarks/train.csv:2"),
        (8, "x.png cannot be read as an image"),
        (9, "f.png cannot be read as an image"),
    ]
    for (line, message), problem in zip(expected, problems, strict=False):
        assert problem.startswith(f"  {folder}/landmarks/train.csv:{line}: ")
        assert message in problem
    assert problems[7] == (
        f"  {folder}/images/train/g.png has no line in {folder}/landmarks/train.csv"
    )
    assert len(problems) == 8


@pytest.mark.parametrize(
    "header",
    [
        "",
        "image",
        "file,eye_x,eye_y",
        "image,eye_x",
        "image,eye_y,eye_x",
        "image,eye_x,nose_y",
        "image,_x,_y",
        "image,eye_x,eye_y,eye_x,eye_y",
    ],
)
def test_another_first_line_is_a_clear_error(tmp_path, header):
    folder = write_folder(tmp_path, f"{header}\nb.bmp,1,1\n")
    with pytest.raises(InputError, match=r"train.csv:1: the first line is .*: give image,NAME_x"):
        LandmarkFolder(folder, "train")


def test_what_is_no_table_is_a_clear_error(tmp_path):
    folder = write_folder(tmp_path)
    with pytest.raises(InputError, match=r"no split 'val': .*val.csv cannot be read"):
        LandmarkFolder(folder, "val")
    (folder / "landmarks" / "train.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"train.csv is not a table: store it as CSV, in UTF-8"):
        LandmarkFolder(folder, "train")


class Boxes:
    """A scene with digits 3, 1 and 3."""

    class_names = tuple("0123456789")

    def __len__(self):
        return 1

    def __getitem__(self, index):
        boxes = np.array([[0, 0, 10, 20], [5, 30, 10, 41], [50, 50, 60, 60]], float)
        return {"image": IMAGE, "boxes": boxes, "labels": np.array([3, 1, 3])}

    def where(self, index):
        return f"scene {index}"

    def target(self, index):
        record = self[index]
        return {"boxes": record["boxes"], "labels": record["labels"], "size": (2, 4)}


def test_a_digit_is_a_landmark_where_it_is_the_only_such_one():
    source = SceneLandmarks(Boxes())
    assert source.class_names[3] == "digit 3"
    assert (len(source), source.where(0)) == (1, "scene 0")
    record = source[0]
    assert np.flatnonzero(record["visible"]).tolist() == [1]
    assert record["points"][1].tolist() == [7.5, 35.5]
    assert record["points"].shape == (10, 2)
    target = source.target(0)
    assert target.keys() == {"points", "visible", "size"}
    assert target["size"] == record["size"] == (2, 4)
    np.testing.assert_array_equal(target["points"], record["points"])


def test_an_example_of_the_same_size():
    example = ToLandmarks(Inputs((2, 4)), 3)(RECORD, "x")
    np.testing.assert_array_equal(example.image, IMAGE)
    np.testing.assert_array_equal(example.points, [[1, 0.5], [4, 2], [0, 0]])
    assert example.points.dtype == np.float32
    np.testing.assert_array_equal(example.visible, VISIBLE)
    np.testing.assert_array_equal(example.placement, [1, 1, 0, 0])
    assert example.size.tolist() == example.extent.tolist() == [2, 4]
    assert example.mask


def test_points_move_with_the_image_into_the_networks_input():
    example = ToLandmarks(Inputs((8, 8), resize="letterbox"), 3)(RECORD, "x")
    assert (example.image[:2] == 127).all()
    np.testing.assert_array_equal(example.placement, [2, 2, 0, 2])
    np.testing.assert_array_equal(example.points, [[2, 3], [8, 6], [0, 0]])
    example = ToLandmarks(Inputs((4, 4), resize="stretch"), 3)(RECORD, "x")
    np.testing.assert_array_equal(example.points, [[1, 1], [4, 4], [0, 0]])
    assert (example.size.tolist(), example.extent.tolist()) == ([2, 4], [4, 4])


def test_landmarks_that_a_crop_leaves_out_are_not_visible():
    example = ToLandmarks(Inputs((2, 2), resize="crop"), 3)(RECORD, "x")
    np.testing.assert_array_equal(example.placement, [1, 1, -1, 0])
    np.testing.assert_array_equal(example.points, [[0, 0.5], [0, 0], [0, 0]])
    assert example.visible.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"points": POINTS[:2]}, r"x: points are \[2, 2\] and visible \[3\], not \[3, 2\] and"),
        ({"visible": VISIBLE[:2]}, r"x: points are \[3, 2\] and visible \[2\]"),
        ({"visible": ~VISIBLE}, r"x: landmark 2 is at \(7, -1\), outside the image of 4 x 2"),
        ({"points": POINTS * [np.nan, 1]}, r"x: landmark 0 is at \(nan, 0.5\), outside"),
        ({"image": IMAGE[..., :1]}, "x: the image has 1 channels instead of 3"),
        ({"image": IMAGE / 255}, "give uint8"),
    ],
)
def test_bad_records_are_clear_errors(record, message):
    with pytest.raises(InputError, match=message):
        ToLandmarks(Inputs((2, 4)), 3)({**RECORD, **record}, "x")


def test_options_are_checked(tmp_path):
    with pytest.raises(OptionError, match=r"^num_landmarks is 0: give at least 1$"):
        ToLandmarks(Inputs((8, 8)), 0)
    source = LandmarkFolder(write_folder(tmp_path), "train")
    ToLandmarks(Inputs((8, 8)), 2).check_source(source)
    with pytest.raises(
        OptionError, match=r"^num_landmarks is 3, but the data has 2 landmarks: left eye, nose$"
    ):
        ToLandmarks(Inputs((8, 8)), 3).check_source(source)
    with pytest.raises(OptionError, match="path is '': give the folder of the data"):
        LandmarkFolder("", "train")
