"""TFDS data sets through `as_data_source`: ArrayRecord files, random access, no TensorFlow."""

import io
import pathlib
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from jaxvision.core import InputError
from jaxvision.data.source import Record


class TfdsSource:
    """The images and labels of one split of a prepared TFDS data set.

    Args:
      builder: the data set, prepared as ArrayRecord, with `supervised_keys` (image, label).
      split: a TFDS split, such as "test" or "train[:90%]".
    Raises:
      InputError: not prepared, prepared in another format, no such split or no image and label;
        says how to mend it.
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str):
        self._name = f"{builder.info.full_name} {split}"
        if not pathlib.Path(builder.data_dir).is_dir():
            raise InputError(
                f"TFDS data set {builder.name!r} is not prepared in {builder.data_dir}: run "
                f"`pip install tensorflow && tfds build {builder.name} "
                f"--file_format=array_record --data_dir={builder.data_dir_root}` once, or name the "
                "folder that has it with --config.data.dir=DIR"
            )
        keys = builder.info.supervised_keys
        if not keys or len(keys) != 2:
            raise InputError(
                f"TFDS data set {builder.name!r} names no image and label (supervised_keys): "
                "it is not for classification"
            )
        self._image_key, self._label_key = keys
        try:
            # Images stay encoded here: Pillow decodes them below, whatever else is installed.
            self._records = builder.as_data_source(
                split, decoders={self._image_key: tfds.decode.SkipDecoding()}
            )
        except NotImplementedError as error:
            raise InputError(
                f"TFDS data set {builder.name!r} in {builder.data_dir} has no random access: "
                "prepare it with --file_format=array_record"
            ) from error
        except ValueError as error:
            known = ", ".join(sorted(builder.info.splits))
            raise InputError(
                f"TFDS data set {builder.name!r} has no split {split!r}: it has {known}"
            ) from error

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        record = self._records[index]
        with Image.open(io.BytesIO(record[self._image_key])) as image:
            pixels = np.asarray(image)
        if pixels.ndim == 2:
            pixels = pixels[:, :, None]
        return {"image": pixels, "label": int(record[self._label_key])}

    def where(self, index: int) -> str:
        return f"{self._name}, record {index}"


def open_tfds(data: Any, split: str) -> TfdsSource:
    """A split of any TFDS data set.

    Args:
      data: config with `name` (such as "mnist" or "cifar10:3.0.2") and `dir` (None: TFDS's own).
      split: a TFDS split.
    Raises:
      InputError: see `TfdsSource`; also for an unknown name.
    """
    try:
        builder = tfds.builder(data.name, data_dir=data.dir, file_format="array_record")
    except tfds.core.DatasetNotFoundError as error:
        raise InputError(
            f"TFDS knows no data set {data.name!r}: see `tfds.list_builders()`"
        ) from error
    return TfdsSource(builder, split)
