"""The embedded data set: scikit-learn's real handwritten digits, as a TFDS builder."""

import contextlib
import io
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import filelock
import numpy as np
import sklearn.datasets
import tensorflow_datasets as tfds
from PIL import Image

from jaxvision.core import InputError
from jaxvision.data.sources.tfds_source import TfdsBuilder, tfds_folder

# Of each digit's scans, counted from 0, the third of every five is for testing.
_TEST = slice(2, None, 5)


class JaxvisionDigits(tfds.core.GeneratorBasedBuilder):
    """1,797 scans of digits, 8x8, grey.

    The test part of the UCI "Optical recognition of handwritten digits" (Alpaydin & Kaynak 1998),
    which scikit-learn carries. Its 17 grey levels are spread over 0..255. The split is fixed and
    stratified: of each digit, the scans 2, 7, 12, ... are the test fifth.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        digits = sklearn.datasets.load_digits()
        images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        test = is_test_digit(digits.target)
        return {
            "train": self._generate_examples(images, digits.target, np.flatnonzero(~test)),
            "test": self._generate_examples(images, digits.target, np.flatnonzero(test)),
        }

    def _generate_examples(
        self, images: np.ndarray, labels: np.ndarray, indices: np.ndarray
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in indices:
            yield int(index), {"image": encode_png(images[index]), "label": int(labels[index])}


def is_test_digit(labels: np.ndarray) -> np.ndarray:
    """Returns which of scikit-learn's digits are for testing, bool[N], by their labels, int[N]."""
    test = np.zeros(len(labels), bool)
    for label in range(10):
        test[np.flatnonzero(labels == label)[_TEST]] = True
    return test


def encode_png(image: np.ndarray) -> io.BytesIO:
    """Encodes an image for TFDS's image features, which would call TensorFlow for an array."""
    png = io.BytesIO()
    Image.fromarray(image).save(png, format="PNG")
    png.seek(0)
    return png


def _prepare(builder: tfds.core.GeneratorBasedBuilder, folder: pathlib.Path) -> None:
    # TFDS writes beside the folder and renames it at the end, so it is there whole or not at all;
    # the lock makes a second process wait for the first.
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.parent / "prepare.lock"):
        if not folder.is_dir():
            tfds.disable_progress_bar()  # it takes some seconds
            with contextlib.redirect_stdout(sys.stderr):
                builder.download_and_prepare()


class Digits(TfdsBuilder):
    """The embedded digits, 8 x 8 and grey; they are prepared on first use.

    Args:
      split: "train" or "test".
      dir: TFDS's folder; None: TFDS's own.

    Attributes:
      class_names: "0" to "9".
      labels: i64[N].
    Raises:
      InputError: there is no such split, the folder cannot be written, or as for `Tfds`.
    """

    def __init__(self, split: str, *, dir: str | os.PathLike[str] | None = None):
        super().__init__(prepared(JaxvisionDigits, dir), split)


def prepared(
    make_builder: type[tfds.core.GeneratorBasedBuilder], dir: str | os.PathLike[str] | None
) -> tfds.core.GeneratorBasedBuilder:
    """Returns the builder of an embedded data set, which is prepared on first use.

    Args:
      make_builder: its class.
      dir: TFDS's folder; None: TFDS's own.
    Raises:
      InputError: the folder cannot be written.
    """
    where = tfds_folder(dir)
    builder = make_builder(data_dir=where, file_format="array_record")
    folder = pathlib.Path(builder.data_dir)
    if not folder.is_dir():
        try:
            _prepare(builder, folder)
        except OSError as error:
            raise InputError(
                f"cannot prepare {builder.name} in {folder.parent} ({error.strerror or error}): "
                "name a folder that can be written with dir"
            ) from error
        builder = make_builder(data_dir=where, file_format="array_record")
    return builder
