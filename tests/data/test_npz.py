"""npz files: every usual naming and shape, and one line for everything that can be wrong."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.data import CLASSIFICATION_SOURCES
from jaxvision.data.sources.npz import open_npz

PIXELS = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
CLASSES = np.array([3, 1, 4, 1, 5])
USUAL = {"train_x": PIXELS, "train_y": CLASSES}


def data_of(path, **changes):
    fields = {"dir": str(path), "train_split": "train", "test_split": "test", "num_classes": 10}
    return SimpleNamespace(**{**fields, **changes})


@pytest.fixture
def write(tmp_path):
    """Writes arrays to a file."""

    def save(**arrays):
        np.savez(tmp_path / "mine.npz", **arrays)
        return tmp_path / "mine.npz"

    return save


@pytest.mark.parametrize(
    "names", [("{}_x", "{}_y"), ("x_{}", "y_{}"), ("{}_images", "{}_labels")], ids="_".join
)
def test_each_split_under_each_pair_of_names(write, names):
    arrays = {}
    for count, split in enumerate(("train", "val", "test"), start=1):
        images, labels = (name.format(split) for name in names)
        arrays |= {images: PIXELS[:count] + count, labels: CLASSES[:count]}
    data = data_of(write(**arrays, other=np.zeros(3)))
    for count, split in enumerate(("train", "val", "test"), start=1):
        source = open_npz(data, split)
        assert len(source) == count
        for i in range(count):
            np.testing.assert_array_equal(source[i]["image"][..., 0], PIXELS[i] + count)
            assert source[i]["label"] == CLASSES[i]
    assert len(open_npz(data_of(data.dir, test_split="val"), "test")) == 2
    assert CLASSIFICATION_SOURCES["npz"] is open_npz


@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.uint64])
def test_each_shape_and_whole_number(write, channels, column, kind):
    images = PIXELS if channels is None else np.repeat(PIXELS[..., None], channels, axis=3)
    labels = CLASSES.astype(kind).reshape((5, 1) if column else 5)
    source = open_npz(data_of(write(x_train=images, y_train=labels)), "train")
    for i, record in enumerate(map(source.__getitem__, range(5))):
        assert record["image"].shape == (4, 3, channels or 1)
        assert record["image"].dtype == np.uint8
        for channel in range(channels or 1):
            np.testing.assert_array_equal(record["image"][..., channel], PIXELS[i])
        assert type(record["label"]) is int
    np.testing.assert_array_equal(source.labels, CLASSES)


def test_a_copy_for_a_worker_has_the_split_once(write):
    images = np.zeros((100, 32, 32, 3), np.uint8)
    labels = np.zeros(100, int)
    arrays = {"train_x": images, "train_y": labels, "test_x": images, "test_y": labels}
    source = open_npz(data_of(write(**arrays)), "train")
    copied = pickle.dumps(source)
    assert len(copied) < 1.1 * images.nbytes
    assert pickle.loads(copied).where(7) == source.where(7) == f"{source.names[0]}, record 7"
    assert source.names[0].endswith("mine.npz, train_x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_x": None}, "needs train_x and train_y, or x_train and y_train, or train_images"),
        ({"train_y": None}, "^no split 'train': .*mine.npz has the arrays train_x: it needs"),
        ({"x_train": PIXELS, "y_train": CLASSES}, "and just one of these pairs"),
        ({"train_x": PIXELS / 255}, r"train_x is float64\[5, 4, 3\]: store the images as uint8"),
        ({"train_x": PIXELS.astype(int)}, r"train_x is int64\[5, 4, 3\]"),
        ({"train_x": PIXELS[0]}, r"train_x is uint8\[4, 3\]"),
        ({"train_x": np.zeros((5, 3, 8, 8), np.uint8)}, r"train_x is uint8\[5, 3, 8, 8\]"),
        ({"train_x": PIXELS[:4]}, "^.*, train_x has 4 images, but .*train_y has 5 labels"),
        ({"train_y": CLASSES / 2}, r"train_y is float64\[5\]: store the number of each image's"),
        ({"train_y": np.eye(5, dtype=int)}, r"train_y is int64\[5, 5\]"),
        ({"train_y": CLASSES[:, None] / 2}, r"train_y is float64\[5, 1\]"),
        ({"train_y": np.array(3)}, r"train_y is int64\[\]"),
        ({"train_y": CLASSES + 5}, "mine.npz, train_x, record 4: label 10 is out of range 0..9"),
        ({"train_y": CLASSES - 2}, "train_x, record 1: label -1 is out of range"),
        ({"train_y": CLASSES.astype(object)}, r"mine.npz cannot be read \(Object arrays cannot"),
    ],
)
def test_what_is_wrong_with_the_arrays(write, changes, message):
    arrays = {name: array for name, array in {**USUAL, **changes}.items() if array is not None}
    data = data_of(write(**arrays))
    with pytest.raises(InputError, match=message) as error:
        open_npz(data, "train")
    assert "\n" not in str(error.value)


def test_what_is_wrong_with_the_file(write, tmp_path):
    file = write(**USUAL)
    content = file.read_bytes()
    flipped = bytearray(content)
    flipped[content.index(PIXELS.tobytes())] ^= 1
    np.save(tmp_path / "one.npy", PIXELS)
    for wrong, message in [
        (content[:-30], "is no .npz file, or cut short"),
        (pickle.dumps(USUAL), "is no .npz file"),
        (b"", "is no .npz file"),
        ((tmp_path / "one.npy").read_bytes(), "is no .npz file"),
        (bytes(flipped), r"cannot be read \(Bad CRC-32"),
    ]:
        file.write_bytes(wrong)
        with pytest.raises(InputError, match=f"{file} {message}"):
            open_npz(data_of(file), "train")
    for absent in (tmp_path, tmp_path / "gone.npz"):
        with pytest.raises(InputError, match=f"there is no file {absent}: --config.data.dir must"):
            open_npz(data_of(absent), "train")
    with pytest.raises(InputError, match=r"config.data.dir is not set: give the .npz file"):
        open_npz(data_of(tmp_path, dir=None), "train")


def test_a_tilde_is_the_home_folder(write, monkeypatch):
    monkeypatch.setenv("HOME", str(write(**USUAL).parent))
    assert len(open_npz(data_of("~/mine.npz"), "train")) == 5


@pytest.mark.slow
@pytest.mark.parametrize(("split", "count"), [("train", 4000), ("test", 1000)])
def test_a_part_of_cifar10(real_data, split, count):
    """Counts as $JAXVISION_DATA's README has them, and the mean colours of CIFAR-10."""
    source = open_npz(data_of(real_data / "cifar10_sample" / "cifar10_sample.npz"), split)
    assert len(source) == count
    assert source[count - 1]["image"].shape == (32, 32, 3)
    assert (np.bincount(source.labels, minlength=10) > 0.08 * count).all()
    means = np.mean([source[i]["image"].mean(axis=(0, 1)) for i in range(count)], axis=0) / 255
    np.testing.assert_allclose(means, [0.4914, 0.4822, 0.4465], atol=0.01)  # all 50,000's
