"""npz files: every usual naming and shape, and one line for everything that can be wrong."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from jaxvision.core import InputError, OptionError
from jaxvision.data import Npz

PIXELS = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
CLASSES = np.array([3, 1, 4, 1, 5])
USUAL = {"train_x": PIXELS, "train_y": CLASSES}


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
    path = write(**arrays, other=np.zeros(3))
    for count, split in enumerate(("train", "val", "test"), start=1):
        source = Npz(path, split)
        assert len(source) == count
        for i in range(count):
            np.testing.assert_array_equal(source[i]["image"][..., 0], PIXELS[i] + count)
            assert source[i]["label"] == CLASSES[i]
        assert source.target(0) == {"label": CLASSES[0]}
    assert source.class_names == ()
    names = [f"class {number}" for number in range(6)]
    assert Npz(path, "test", class_names=names).class_names == tuple(names)


@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.uint64])
def test_each_shape_and_whole_number(write, channels, column, kind):
    images = PIXELS if channels is None else np.repeat(PIXELS[..., None], channels, axis=3)
    labels = CLASSES.astype(kind).reshape((5, 1) if column else 5)
    source = Npz(write(x_train=images, y_train=labels), "train")
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
    source = Npz(write(**arrays), "train")
    copied = pickle.dumps(source)
    assert len(copied) < 1.1 * images.nbytes
    assert pickle.loads(copied).where(7) == source.where(7)
    assert source.where(7).endswith("mine.npz, train_x, record 7")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_x": None}, "needs train_x and train_y, or x_train and y_train, or train_images"),
        ({"train_y": None}, "^no split 'train': .*mine.npz has the arrays train_x: it needs"),
        ({"x_train": PIXELS, "y_train": CLASSES}, "and just one of these pairs"),
        ({"train_x": PIXELS / 255}, r"train_x is float64\[5, 4, 3\]: give the images as uint8"),
        ({"train_x": PIXELS.astype(int)}, r"train_x is int64\[5, 4, 3\]"),
        ({"train_x": PIXELS[0]}, r"train_x is uint8\[4, 3\]"),
        ({"train_x": np.zeros((5, 3, 8, 8), np.uint8)}, r"train_x is uint8\[5, 3, 8, 8\]"),
        ({"train_x": PIXELS[:4]}, "^.*, train_x has 4 images, but .*train_y has 5 labels"),
        ({"train_y": CLASSES / 2}, r"train_y is float64\[5\]: give the number of each image's"),
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
    names = [f"class {number}" for number in range(10)]
    path = write(**arrays)
    with pytest.raises(InputError, match=message) as error:
        Npz(path, "train", class_names=names)
    assert "\n" not in str(error.value)


def test_what_is_wrong_with_the_file(write, tmp_path):
    file = write(**USUAL)
    content = file.read_bytes()
    flipped = bytearray(content)
    flipped[content.index(PIXELS.tobytes())] ^= 1
    np.save(tmp_path / "one.npy", PIXELS)
    for wrong, message in [
        (content[:-30], "is not an .npz file, or cut short"),
        (pickle.dumps(USUAL), "is not an .npz file"),
        (b"", "is not an .npz file"),
        ((tmp_path / "one.npy").read_bytes(), "is not an .npz file"),
        (bytes(flipped), r"cannot be read \(Bad CRC-32"),
    ]:
        file.write_bytes(wrong)
        with pytest.raises(InputError, match=f"{file} {message}"):
            Npz(file, "train")
    for absent in (tmp_path, tmp_path / "gone.npz"):
        with pytest.raises(InputError, match=f"there is no file {absent}: give the path"):
            Npz(absent, "train")
    with pytest.raises(OptionError, match=r"path is None: give the .npz file of the data"):
        Npz(None, "train")


def test_a_tilde_is_the_home_folder(write, monkeypatch):
    monkeypatch.setenv("HOME", str(write(**USUAL).parent))
    assert len(Npz("~/mine.npz", "train")) == 5


class Marker:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_pickled_objects_are_never_read(write, tmp_path):
    """A file that would run code if it were read as numpy can read it."""
    marker = tmp_path / "marker"
    labels = np.array([Marker(str(marker))] * 5, object)
    path = write(train_x=PIXELS, train_y=labels)
    with pytest.raises(InputError, match=r"mine.npz cannot be read \(Object arrays cannot"):
        Npz(path, "train")
    assert not marker.exists()
    with np.load(path, allow_pickle=True) as file:
        file["train_y"]
    assert marker.exists()


@pytest.mark.slow
@pytest.mark.parametrize(("split", "count"), [("train", 4000), ("test", 1000)])
def test_a_part_of_cifar10(real_data, split, count):
    """Counts as $JAXVISION_DATA's README has them, and the mean colours of CIFAR-10."""
    source = Npz(real_data / "cifar10_sample" / "cifar10_sample.npz", split)
    assert len(source) == count
    assert source[count - 1]["image"].shape == (32, 32, 3)
    assert (np.bincount(source.labels, minlength=10) > 0.08 * count).all()
    means = np.mean([source[i]["image"].mean(axis=(0, 1)) for i in range(count)], axis=0) / 255
    np.testing.assert_allclose(means, [0.4914, 0.4822, 0.4465], atol=0.01)  # all 50,000's


def archive(path, *entries, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in entries:
            file.writestr(name, content)
    return path


def array_bytes(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_damaged_headers_are_clear_errors(tmp_path):
    path, image, label = tmp_path / "mine.npz", array_bytes(PIXELS), array_bytes(CLASSES)
    labels = ("train_y.npy", label)
    for old, new, message in [
        (b"(5, ", b"(99999999999, ", "another size than its header states"),
        (b"(5, ", b"(-5, ", "another size than its header states"),
        (b"{'descr'", b"{" * 500, "cannot be read"),
        (b"'|u1'", b"'|O' ", "Object arrays cannot be read"),
        (b"NUMPY\1", b"NUMPY\3", "unsupported version"),
    ]:
        assert old in image
        archive(path, ("train_x.npy", image.replace(old, new, 1)), labels)
        with pytest.raises(InputError, match=message) as error:
            Npz(path, "train")
        assert len(str(error.value)) < 500
    archive(path, ("train_x.npy", image), labels, method=zipfile.ZIP_BZIP2)
    with pytest.raises(InputError, match=r"train_x.npy has an unsupported compression"):
        Npz(path, "train")
    with pytest.warns(UserWarning, match="Duplicate"):
        archive(path, ("train_x.npy", image), ("train_x.npy", image), labels)
    with pytest.raises(InputError, match="it has two arrays of one name"):
        Npz(path, "train")


def test_what_does_not_fit_into_the_memory_is_refused(write, monkeypatch):
    path = write(**USUAL)
    monkeypatch.setattr("jaxvision.core.memory.free_memory", lambda: 100)
    with pytest.raises(InputError, match=r"npz needs .* GB of memory, and 1e-07 GB is free: end"):
        Npz(path, "train")


def test_images_without_pixels_are_refused(write):
    path = write(train_x=np.zeros((5, 4, 0), np.uint8), train_y=CLASSES)
    with pytest.raises(InputError, match="train_x has images of 0 x 4 pixels: give at least 1 x 1"):
        Npz(path, "train")
