"""A cache of images has their bits or smaller images, and appears only when it is complete."""

import json
import pickle
import shutil

import filelock
import numpy as np
import pytest
from PIL import Image

from jaxvision.core import InputError, Inputs, OptionError
from jaxvision.core.files import NoRoomError
from jaxvision.data import (
    EvalLoader,
    ImageCache,
    ImageFolder,
    RandomTransform,
    ReadOptions,
    ToClassification,
    TrainLoader,
    caching,
    read_image,
    write_image_cache,
)
from jaxvision.data.sources.image_cache import INDEX, record_file

SIZES = [(30, 40), (50, 21), (8, 9), (24, 60), (33, 33)]
READ = ReadOptions(threads=0)


@pytest.fixture(autouse=True)
def _small_files(monkeypatch):
    monkeypatch.setattr(caching, "_LEAST_RECORDS", 2)


@pytest.fixture
def source(tmp_path):
    """Five images of two classes, of several sizes, in class folders."""
    rng = np.random.default_rng(0)
    for number, size in enumerate(SIZES):
        folder = tmp_path / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        small = rng.integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(small).resize(size[::-1]).save(folder / f"{number}.png")
    return ImageFolder(tmp_path / "photos")


class Counted:
    """A source that counts how often each record is read, and cannot read one."""

    def __init__(self, source, broken=None):
        self.source, self.broken, self.read = source, broken, []
        self.labels, self.class_names, self.where = source.labels, source.class_names, source.where

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        self.read.append(index)
        if index == self.broken:
            raise InputError("it is broken")
        return self.source[index]


def assert_same_records(cache, source):
    assert len(cache) == len(source)
    assert cache.class_names == source.class_names
    np.testing.assert_array_equal(cache.labels, source.labels)
    for index in range(len(source)):
        expected = source[index]
        assert cache[index].keys() == expected.keys()
        assert cache[index]["label"] == expected["label"] == cache.target(index)["label"]
        np.testing.assert_array_equal(cache[index]["image"], expected["image"])
        assert cache.size(index) == expected["image"].shape[:2]


def test_pixels_are_those_of_the_files(source, tmp_path):
    size = write_image_cache(source, tmp_path / "new" / "cache")
    cache = ImageCache(tmp_path / "new" / "cache")
    assert_same_records(cache, source)
    assert_same_records(pickle.loads(pickle.dumps(cache)), source)
    assert cache.where(3) == f"{tmp_path / 'new' / 'cache'}, record 3"
    assert cache.shorter_side is None
    assert size > sum(3 * height * width for height, width in SIZES)
    grey = ImageFolder(tmp_path / "photos", grey=True)
    assert_same_records(ImageCache(tmp_path / "new" / "cache", grey=True), grey)


def test_batches_are_those_of_the_files(source, tmp_path):
    write_image_cache(source, tmp_path / "cache")
    inputs = Inputs((16, 16), resize="crop", shorter_side=20)
    crops = RandomTransform(ToClassification(inputs, 2, crop_scale=(0.1, 1.0)))
    batches = [
        next(TrainLoader(records, crops, batch_size=8, seed=3, read=READ)).image
        for records in (source, ImageCache(tmp_path / "cache"))
    ]
    np.testing.assert_array_equal(*batches)


def test_evaluation_of_resized_images_is_that_of_the_files(source, tmp_path):
    write_image_cache(source, tmp_path / "cache", shorter_side=20)
    cache = ImageCache(tmp_path / "cache")
    assert cache.shorter_side == 20
    for index in range(5):
        small, size = cache[index]["image"].shape[:2], source.size(index)
        assert cache.size(index) == small == (size if min(size) < 20 else small)
        assert min(small) == min(*size, 20)
    transform = ToClassification(Inputs((16, 16), resize="crop", shorter_side=20), 2)
    loaders = [EvalLoader(x, transform, batch_size=5, read=READ) for x in (source, cache)]
    np.testing.assert_array_equal(*(next(iter(loader)).image for loader in loaders))


def test_jpegs_of_a_quality(source, tmp_path):
    write_image_cache(source, tmp_path / "cache", jpeg_quality=70)
    cache, file = ImageCache(tmp_path / "cache"), tmp_path / "a.jpg"
    for index in range(len(source)):
        Image.fromarray(source[index]["image"]).save(file, quality=70)
        np.testing.assert_array_equal(cache[index]["image"], read_image(file))
        assert cache.size(index) == source.size(index)


def test_an_interrupted_call_is_continued_by_the_same_one(source, tmp_path, monkeypatch):
    monkeypatch.setattr(caching, "_SAMPLE", 1)  # does not read the broken record
    path = tmp_path / "cache"
    with pytest.raises(InputError, match=r"^it is broken$"):
        write_image_cache(Counted(source, broken=4), path)
    assert not path.exists()
    with pytest.raises(InputError, match=r"cache is not complete: run its `jaxvision cache` again"):
        ImageCache(path)
    again = Counted(source)
    write_image_cache(again, path, threads=1)
    # The first is the sample; records 0 to 3 are in the two files that are there.
    assert again.read == [0, 4]
    assert_same_records(ImageCache(path), source)
    assert sorted(x.name for x in path.iterdir()) == [
        *(f"0000{number}.array_record" for number in range(3)),
        INDEX,
    ]


def test_another_call_begins_anew(source, tmp_path, monkeypatch):
    monkeypatch.setattr(caching, "_SAMPLE", 1)
    path = tmp_path / "cache"
    with pytest.raises(InputError, match=r"^it is broken$"):
        write_image_cache(Counted(source, broken=4), path)
    write_image_cache(source, path, shorter_side=10)
    assert {min(ImageCache(path).size(index)) for index in range(5)} == {8, 10}


def test_progress_goes_through_all_records(source, tmp_path):
    seen = []

    def progress(numbers):
        for number in numbers:
            seen.append(number)
            yield number
        seen.append("end")

    write_image_cache(source, tmp_path / "cache", progress=progress)
    assert seen == [0, 1, 2, 3, 4, "end"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shorter_side": 0}, "shorter_side is 0: give at least 1"),
        ({"jpeg_quality": 101}, "jpeg_quality is 101: give at least 1 and at most 100"),
        ({"threads": 0}, "threads is 0: give at least 1"),
    ],
)
def test_options_out_of_range_are_refused(source, tmp_path, options, message):
    with pytest.raises(OptionError, match=f"^{message}"):
        write_image_cache(source, tmp_path / "cache", **options)
    assert not (tmp_path / "cache.partial").exists()


def test_nothing_is_overwritten(source, tmp_path):
    (tmp_path / "cache").mkdir()
    with pytest.raises(InputError, match=r"cache exists: give another folder, or remove it$"):
        write_image_cache(source, tmp_path / "cache")


def test_two_processes_cannot_write_one_cache(source, tmp_path):
    with (
        filelock.FileLock(tmp_path / ".cache.partial.lock"),
        pytest.raises(InputError, match=r"another process writes .*: wait until it ends"),
    ):
        write_image_cache(source, tmp_path / "cache")


def test_a_disk_without_room_is_named_before_anything_is_written(source, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(NoRoomError, match=r"needs about .* more, and its disk has 1e-06 GB free"):
        write_image_cache(source, tmp_path / "cache")
    assert not list((tmp_path / "cache.partial").glob("*.array_record"))


def test_a_disk_that_becomes_full_is_named(source, tmp_path, monkeypatch):
    class Full:
        def __init__(self, *arguments):
            pass

        def write(self, data):
            pass

        def close(self):
            raise RuntimeError("write() failed: No space left on device; writing x; at byte 5")

    monkeypatch.setattr(caching, "ArrayRecordWriter", Full)
    with pytest.raises(NoRoomError, match=r"cannot write .*cache\.partial \(No space left"):
        write_image_cache(source, tmp_path / "cache")


@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_a_file_that_is_cut_short_is_named(source, tmp_path, keep):
    write_image_cache(source, tmp_path / "cache")
    file = record_file(tmp_path / "cache", 1)
    data = file.read_bytes()
    file.write_bytes(data[: int(keep * len(data))])
    cache = ImageCache(tmp_path / "cache")
    np.testing.assert_array_equal(cache[1]["image"], source[1]["image"])
    for read in (cache.__getitem__, cache.size):
        with pytest.raises(InputError, match=r"cache, record 2 cannot be read .*: write the cache"):
            read(2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version 2 instead of 1"),
        ({"labels": [0, 1]}, "it has not as many labels as records"),
        ({"labels": [0, 1, 0, 1, -1]}, "its labels, records or class_names are wrong"),
        ({"records": None}, "NoneType"),
        ({"class_names": [1]}, "its labels, records or class_names are wrong"),
    ],
)
def test_a_damaged_index_is_named(source, tmp_path, change, message):
    write_image_cache(source, tmp_path / "cache")
    file = tmp_path / "cache" / INDEX
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(InputError, match=rf"{INDEX} cannot be read \(.*{message}"):
        ImageCache(tmp_path / "cache")


def test_what_is_no_cache_is_named(tmp_path):
    with pytest.raises(InputError, match="is no cache of images: write one with `jaxvision cache`"):
        ImageCache(tmp_path)


def test_other_classes_are_refused(source, tmp_path):
    write_image_cache(source, tmp_path / "cache")
    ImageCache(tmp_path / "cache", class_names=("a", "b"))
    with pytest.raises(OptionError, match=r"^class_names is a, c, but the classes of the data are"):
        ImageCache(tmp_path / "cache", class_names=("a", "c"))
