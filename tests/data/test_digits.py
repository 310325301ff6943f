"""The embedded digits: what they hold, and that preparing them is all or nothing."""

import subprocess
import sys

import numpy as np
import pytest
import sklearn.datasets
from PIL import Image

from jaxvision.core import InputError
from jaxvision.data import Digits
from jaxvision.data.sources.digits import JaxvisionDigits

PREPARE = """
import sys
from jaxvision.data import Digits

print("ready", file=sys.stderr, flush=True)
sys.stdin.readline()
source = Digits("train", dir=sys.argv[1])
assert source[0]["image"].shape == (8, 8, 1)
print(len(source), "tensorflow" in sys.modules, file=sys.stderr)
"""


def digits(folder, split):
    return Digits(split, dir=folder)


def records(source):
    """What a source holds, in an order of its own."""
    all_of_it = [source[i] for i in range(len(source))]
    return sorted((r["label"], r["image"].shape, r["image"].tobytes()) for r in all_of_it)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    digits(folder, "train")
    return folder


@pytest.mark.slow
def test_two_processes_may_prepare_it_at_once_without_tensorflow(tmp_path):
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [sys.executable, "-c", PREPARE, str(tmp_path)]
    with subprocess.Popen(command, text=True, **pipes) as other:
        assert "ready\n" in iter(other.stderr.readline, "")
        other.stdin.write("go\n")
        other.stdin.flush()
        assert len(digits(tmp_path, "train")) == 1438
        out, err = other.communicate(timeout=120)
    assert other.returncode == 0, err
    assert out == ""
    assert err.splitlines()[-1] == "1438 False"


def test_the_splits_are_a_stratified_fifth_and_the_rest(folder):
    train, test = (
        np.bincount([label for label, _, _ in records(digits(folder, split))])
        for split in ("train", "test")
    )
    assert (train.sum(), test.sum()) == (1438, 359)
    np.testing.assert_array_equal(train + test, np.bincount(sklearn.datasets.load_digits().target))
    assert np.abs(test - (train + test) / 5).max() < 1


@pytest.mark.parametrize("split", ["train", "test"])
def test_pixels_and_labels_are_those_of_scikit_learn(folder, split):
    original = sklearn.datasets.load_digits()
    expected, seen = [], [0] * 10
    for image, label in zip(original.images, original.target, strict=True):
        is_test = seen[label] % 5 == 2
        seen[label] += 1
        if is_test == (split == "test"):
            pixels = bytes(round(value * 255 / 16) for value in image.flat)
            expected.append((int(label), (8, 8, 1), pixels))
    assert records(digits(folder, split)) == sorted(expected)


def test_records_are_named(folder):
    assert digits(folder, "test").where(7) == "jaxvision_digits/1.0.0 test, record 7"


def test_classes_and_targets_are_known_without_decoding(folder, monkeypatch):
    source = digits(folder, "test")
    assert source.class_names == tuple("0123456789")
    expected = [source[index]["label"] for index in range(20)]
    monkeypatch.setattr(Image, "open", None)
    assert [source.target(index) for index in range(20)] == [{"label": x} for x in expected]
    assert source.labels[:20].tolist() == expected


def test_a_second_open_reuses_what_is_there(folder, monkeypatch):
    monkeypatch.setattr(JaxvisionDigits, "download_and_prepare", None)
    assert len(digits(folder, "train")) == 1438


def test_an_unknown_split_names_those_there_are(folder):
    with pytest.raises(InputError, match=r"no split 'valid': it has test, train$"):
        digits(folder, "valid")


def test_nothing_half_written_is_left_behind(tmp_path, monkeypatch):
    generate = JaxvisionDigits._generate_examples

    def fails_midway(self, images, labels, indices):
        yield from generate(self, images, labels, indices[:100])
        raise RuntimeError("disk on fire")

    with monkeypatch.context() as patch:
        patch.setattr(JaxvisionDigits, "_generate_examples", fails_midway)
        with pytest.raises(RuntimeError, match="disk on fire"):
            digits(tmp_path, "train")
    assert [p.name for p in (tmp_path / "jaxvision_digits").iterdir()] == ["prepare.lock"]
    assert len(digits(tmp_path, "train")) == 1438


def test_a_folder_that_cannot_be_made_is_an_error_with_the_fix(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        InputError, match=r"cannot prepare .*/file/jaxvision_digits .* can be written with dir$"
    ):
        digits(tmp_path / "file", "train")


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    digits("~/data", "train")
    assert (tmp_path / "data" / "jaxvision_digits" / "1.0.0").is_dir()
    assert not (tmp_path / "~").exists()
