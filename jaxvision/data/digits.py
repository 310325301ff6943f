"""The embedded data set: scikit-learn's real handwritten digits, as a TFDS builder."""

import contextlib
import io
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
from jaxvision.data.tfds_source import TfdsSource, data_dir

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
        test = np.zeros(len(images), bool)
        for label in range(10):
            test[np.flatnonzero(digits.target == label)[_TEST]] = True
        return {
            "train": self._generate_examples(images, digits.target, np.flatnonzero(~test)),
            "test": self._generate_examples(images, digits.target, np.flatnonzero(test)),
        }

    def _generate_examples(
        self, images: np.ndarray, labels: np.ndarray, indices: np.ndarray
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in indices:
            # Encoded bytes: for an array TFDS would call TensorFlow.
            png = io.BytesIO()
            Image.fromarray(images[index]).save(png, format="PNG")
            png.seek(0)
            yield int(index), {"image": png, "label": int(labels[index])}


def _prepare(builder: JaxvisionDigits, folder: pathlib.Path) -> None:
    # TFDS writes beside the folder and renames it at the end, so it is there whole or not at all;
    # the lock makes a second process wait for the first.
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.parent / "prepare.lock"):
        if not folder.is_dir():
            tfds.disable_progress_bar()  # it takes a second
            with contextlib.redirect_stdout(sys.stderr):
                builder.download_and_prepare()


def open_digits(data: Any, split: str) -> TfdsSource:
    """A split of the embedded digits, prepared on first use.

    Args:
      data: config with `dir`, TFDS's folder (None: TFDS's own).
      split: "train" or "test".
    Raises:
      InputError: see `TfdsSource`; also if the folder cannot be written.
    """
    where = data_dir(data)
    builder = JaxvisionDigits(data_dir=where, file_format="array_record")
    folder = pathlib.Path(builder.data_dir)
    if not folder.is_dir():
        try:
            _prepare(builder, folder)
        except OSError as error:
            raise InputError(
                f"cannot prepare the digits in {folder.parent} ({error.strerror or error}): name a "
                "folder that can be written with --config.data.dir=DIR"
            ) from error
        builder = JaxvisionDigits(data_dir=where, file_format="array_record")
    return TfdsSource(builder, split)
