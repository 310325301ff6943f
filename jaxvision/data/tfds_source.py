"""TFDS data sets through `as_data_source`: ArrayRecord files, random access, no TensorFlow."""

import io
import os
import pathlib
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from jaxvision.core import InputError
from jaxvision.data.source import Record

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's, by the channels that a data set declares


def data_dir(data: Any) -> str | None:
    """TFDS's folder as `config.data.dir` names it; None: TFDS's own."""
    return data.dir and os.path.expanduser(data.dir)


class TfdsSource:
    """The images and labels of one split of a prepared TFDS data set.

    Args:
      builder: the data set, prepared as ArrayRecord, with `supervised_keys` (image, label).
      split: a TFDS split, such as "test" or "train[:90%]".
    Raises:
      InputError: not prepared, prepared in another format, no such split or no image and label,
        or, on reading, a damaged record; says how to mend it.
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str):
        self._name = f"{builder.info.full_name} {split}"
        self._folder = builder.data_dir
        if not (pathlib.Path(builder.data_dir) / "dataset_info.json").is_file():
            config = f"/{builder.builder_config.name}" if builder.builder_config else ""
            raise InputError(
                f"TFDS data set {builder.name!r} is not prepared in {builder.data_dir}: run "
                f"`pip install tensorflow && tfds build {builder.name}{config} "
                f"--file_format=array_record --data_dir={builder.data_dir_root}` once, or name the "
                "folder that has it with --config.data.dir=DIR"
            )
        keys = builder.info.supervised_keys
        if not _are_image_and_label(keys, builder.info.features):
            raise InputError(
                f"TFDS data set {builder.name!r} names no image and label (supervised_keys): "
                "it is not for classification"
            )
        self._image_key, self._label_key = keys
        image = builder.info.features[self._image_key]
        self._mode = _MODES.get(image.shape[-1]) if image.np_dtype == np.uint8 else None
        try:
            # Images stay encoded here: Pillow decodes them below, whatever else is installed.
            self._records = builder.as_data_source(
                split, decoders={self._image_key: tfds.decode.SkipDecoding()}
            )
            len(self._records)  # fails for a slice that ends before it starts
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
        try:
            record = self._records[index]
            with Image.open(io.BytesIO(record[self._image_key])) as image:
                # A set of RGB images may well hold some grey or palette files.
                wanted = self._mode or image.mode
                pixels = np.asarray(image if image.mode == wanted else image.convert(wanted))
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"{self.where(index)} in {self._folder} cannot be read "
                f"({' '.join(str(error).split())}): prepare the data set again"
            ) from error
        if pixels.ndim == 2:
            pixels = pixels[:, :, None]
        return {"image": pixels, "label": int(record[self._label_key])}

    def where(self, index: int) -> str:
        return f"{self._name}, record {index}"


def _are_image_and_label(keys: Any, features: tfds.features.FeaturesDict) -> bool:
    """Whether `supervised_keys` name an image and a whole number."""
    if not keys or len(keys) != 2 or not all(isinstance(key, str) for key in keys):
        return False
    image, label = features[keys[0]], features[keys[1]]
    return (
        isinstance(image, tfds.features.Image)
        and label.shape == ()
        and np.issubdtype(label.np_dtype, np.integer)
    )


def open_tfds(data: Any, split: str) -> TfdsSource:
    """A split of any TFDS data set.

    Args:
      data: config with `name` (such as "mnist" or "cifar10:3.0.2") and `dir` (None: TFDS's own).
      split: a TFDS split.
    Raises:
      InputError: see `TfdsSource`; also for an unknown name, version or config.
    """
    if not data.name:
        raise InputError("config.data.name is not set: give a TFDS data set, such as mnist")
    try:
        builder = tfds.builder(data.name, data_dir=data_dir(data))
    except tfds.core.DatasetNotFoundError as error:
        raise InputError(
            f"TFDS knows no data set {data.name!r}: see `tfds.list_builders()`"
        ) from error
    except Exception as error:  # TFDS raises whatever it met first
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"TFDS cannot open {data.name!r} ({reason}): give config.data.name as NAME, "
            "NAME/CONFIG or NAME:VERSION"
        ) from error
    return TfdsSource(builder, split)
