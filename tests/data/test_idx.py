"""idx files: what is in them, and one line for everything that can be wrong with them."""

import gzip
import re
import struct
import tracemalloc

import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.data import Idx
from jaxvision.data.sources.idx import read_idx

IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
PIXELS = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
CLASSES = np.array([3, 1, 4, 1, 5], np.uint8)


def idx_bytes(array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


def open_split(folder, split="train"):
    return Idx(folder, split, class_names=[f"class {number}" for number in range(10)])


@pytest.fixture
def folder(tmp_path):
    """A good pair of files, for tests to damage."""
    (tmp_path / IMAGES).write_bytes(gzip.compress(idx_bytes(PIXELS)))
    (tmp_path / LABELS).write_bytes(gzip.compress(idx_bytes(CLASSES)))
    return tmp_path


def error_of(folder, split="train"):
    with pytest.raises(InputError) as error:
        open_split(folder, split)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_records_are_images_with_a_channel_axis_and_labels(folder):
    source = open_split(folder)
    assert len(source) == 5
    for i in range(5):
        np.testing.assert_array_equal(source[i]["image"], PIXELS[i][:, :, None])
        assert source[i]["image"].dtype == np.uint8
        assert source[i]["label"] == source.target(i)["label"] == CLASSES[i]
    assert source.class_names[9] == "class 9"
    assert Idx(folder, "train").class_names == ()
    assert source.where(2) == f"{folder / IMAGES}, record 2"


def test_the_test_split_has_files_of_its_own(folder):
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(PIXELS[:2])))
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(CLASSES[:2])))
    assert len(open_split(folder, "test")) == 2


def test_a_tilde_is_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(open_split(f"~/{folder.name}")) == 5


def test_sizes_are_32_bit_and_big_endian(tmp_path):
    array = np.arange(70_000, dtype=np.uint32).astype(np.uint8)
    (tmp_path / "x.gz").write_bytes(gzip.compress(idx_bytes(array)))
    np.testing.assert_array_equal(read_idx(tmp_path / "x.gz"), array)


def test_no_folder_given():
    assert error_of(None) == "path is None: give the folder of the idx .gz files of the data"


def test_a_missing_folder(tmp_path):
    message = error_of(tmp_path / "absent")
    assert message == f"there is no folder {tmp_path / 'absent'}: give the folder of the idx files"


def test_a_file_instead_of_the_folder(folder):
    assert error_of(folder / IMAGES).startswith(f"there is no folder {folder / IMAGES}: ")


@pytest.mark.parametrize("name", [IMAGES, LABELS])
def test_a_missing_file(folder, name):
    (folder / name).unlink()
    message = error_of(folder)
    assert message.startswith(
        f"there is no file {folder / name}: give the folder that has train-im"
    )
    assert "t10k-labels-idx1-ubyte.gz" in message


def test_an_unknown_split(folder):
    assert error_of(folder, "valid") == "idx files have no split 'valid': choose train or test"


GOOD = gzip.compress(idx_bytes(PIXELS))
BAD_CRC = GOOD[:-8] + bytes(4) + GOOD[-4:]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(idx_bytes(PIXELS), "cut short or damaged", id="not gzip"),
        pytest.param(b"", "not an idx file of bytes", id="empty"),
        pytest.param(GOOD[:-20], "cut short or damaged", id="truncated gzip"),
        pytest.param(GOOD[:5], "cut short or damaged", id="truncated gzip header"),
        pytest.param(GOOD[:12] + b"\xff" * 8 + GOOD[20:], "cut short or damaged", id="damaged"),
        pytest.param(BAD_CRC, "cut short or damaged", id="wrong checksum"),
        pytest.param(
            gzip.compress(idx_bytes(PIXELS)[:-7]),
            "holds 69 bytes, but its header states 76",
            id="short",
        ),
        pytest.param(
            gzip.compress(idx_bytes(PIXELS) + b"!"),
            "holds more bytes, but its header states 76",
            id="long",
        ),
        pytest.param(
            gzip.compress(idx_bytes(PIXELS)[:10]), "ends within its header", id="inside the header"
        ),
        pytest.param(gzip.compress(b"\0\0\x08"), "not an idx file", id="inside the magic number"),
        pytest.param(
            gzip.compress(b"\0\0\x0d\x03" + idx_bytes(PIXELS)[4:]),
            "starts with 00000d03",
            id="floats",
        ),
        pytest.param(gzip.compress(b"PNG!" * 20), "starts with 504e4721", id="something else"),
    ],
)
@pytest.mark.parametrize("name", [IMAGES, LABELS])
def test_a_bad_file_is_named_with_its_problem_and_the_fix(folder, name, content, problem):
    (folder / name).write_bytes(content)
    message = error_of(folder)
    assert message.startswith(str(folder / name))
    assert problem in message
    assert message.endswith("fetch it again")


def test_a_folder_instead_of_a_file(folder):
    (folder / IMAGES).unlink()
    (folder / IMAGES).mkdir()
    assert error_of(folder).startswith(str(folder / IMAGES))


def test_swapped_files(folder):
    (folder / IMAGES).rename(folder / "x")
    (folder / LABELS).rename(folder / IMAGES)
    (folder / "x").rename(folder / LABELS)
    message = error_of(folder)
    assert f"{folder / IMAGES} and {folder / LABELS} have 1 and 3 dimensions" in message
    assert message.endswith("are they swapped?")


def test_counts_that_differ(folder):
    (folder / LABELS).write_bytes(gzip.compress(idx_bytes(CLASSES[:4])))
    message = error_of(folder)
    assert f"{folder / IMAGES} has 5 images, but {folder / LABELS} has 4 labels" in message


@pytest.mark.parametrize(("split", "count"), [("train", 60_000), ("test", 10_000)])
def test_fashion_mnist(real_data, split, count):
    source = open_split(real_data / "fashion_mnist", split)
    assert len(source) == count
    assert source[count - 1]["image"].shape == (28, 28, 1)
    labels = np.bincount([source[i]["label"] for i in range(count)])
    np.testing.assert_array_equal(labels, [count // 10] * 10)


def test_one_label_out_of_range_shows_at_once(folder):
    (folder / LABELS).write_bytes(gzip.compress(idx_bytes(np.array([3, 1, 4, 10, 5], np.uint8))))
    expected = f"{folder / IMAGES}, record 3: label 10 is out of range 0..9: correct the record"
    assert error_of(folder).startswith(expected)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\0\0\x08\x41" + b"\0\0\0\1" * 65, "has 65 dimensions, but images have 3 and labels 1"),
        (
            b"\0\0\x08\x03" + b"\xff" * 12,
            "damaged .its header states [0-9]+ bytes, of which",
        ),
        (b"\0\0\x08\x01\0\0\0\1" + bytes(10**7), "holds more bytes, but its header states 9"),
    ],
    ids=["dimensions", "more than it can hold", "bomb"],
)
def test_no_more_is_read_than_the_header_states(folder, content, problem):
    (folder / IMAGES).write_bytes(gzip.compress(content))
    tracemalloc.start()
    assert re.search(problem, error_of(folder))
    assert tracemalloc.get_traced_memory()[1] < 3e6
    tracemalloc.stop()


def test_what_does_not_fit_into_the_memory_is_not_called_damaged(folder, monkeypatch):
    monkeypatch.setattr("jaxvision.core.memory.free_memory", lambda: 10)
    assert re.search(r"gz needs 6e-08 GB of memory, and 1e-08 GB is free: end", error_of(folder))


def test_images_without_pixels_are_refused(folder):
    (folder / IMAGES).write_bytes(gzip.compress(idx_bytes(np.zeros((5, 0, 3), np.uint8))))
    assert error_of(folder).endswith("has images of 3 x 0 pixels: give at least 1 x 1")
