"""TFDS data sets through `as_data_source`: ArrayRecord files, random access, no TensorFlow."""

import contextlib
import functools
import io
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from jaxvision.core import InputError
from jaxvision.data.sources.boxes import box_problems, clip_boxes
from jaxvision.data.sources.source import Record, own_split

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's, by the channels that a data set declares


def data_dir(data: Any) -> str | None:
    """TFDS's folder as `config.data.dir` names it; None: TFDS's own."""
    return data.dir and os.path.expanduser(data.dir)


class _Records:
    """One split of a prepared TFDS data set, with its images decoded by Pillow.

    Args:
      builder: the data set, prepared as ArrayRecord.
      split: a TFDS split, such as "test" or "train[:90%]".
      images: keys of its images.
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str, images: Sequence[str]):
        self._name = f"{builder.info.full_name} {split}"
        self._folder = builder.data_dir
        features = {key: builder.info.features[key] for key in images}
        self._modes = {
            key: _MODES.get(feature.shape[-1]) if feature.np_dtype == np.uint8 else None
            for key, feature in features.items()
        }
        try:
            # Images stay encoded here: Pillow decodes them below, whatever else is installed.
            self._records = builder.as_data_source(
                split, decoders={key: tfds.decode.SkipDecoding() for key in images}
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

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The record, its images as u8[H, W, C]."""
        with self._readable(index):
            record = dict(self._records[index])
            for key, mode in self._modes.items():
                with Image.open(io.BytesIO(record[key])) as image:
                    # A set of RGB images may well hold some grey or palette files.
                    wanted = mode or image.mode
                    pixels = np.asarray(image if image.mode == wanted else image.convert(wanted))
                record[key] = pixels if pixels.ndim == 3 else pixels[:, :, None]
        return record

    def numbers(self, key: str) -> np.ndarray:
        """The whole number that each record has there, without decoding its images: i64[N]."""
        numbers = np.zeros(len(self), np.int64)
        for index in range(len(self)):
            with self._readable(index):
                numbers[index] = self._records[index][key]
        return numbers

    @contextlib.contextmanager
    def _readable(self, index: int) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"{self.where(index)} in {self._folder} cannot be read "
                f"({' '.join(str(error).split())}): prepare the data set again"
            ) from error

    def where(self, index: int) -> str:
        return f"{self._name}, record {index}"


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
        _check_prepared(builder)
        keys = builder.info.supervised_keys
        if not _are_image_and_label(keys, builder.info.features):
            raise InputError(
                f"TFDS data set {builder.name!r} names no image and label (supervised_keys): "
                "it is not for classification"
            )
        self._image_key, self._label_key = keys
        self._records = _Records(builder, split, [self._image_key])

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        record = self._records[index]
        return {"image": record[self._image_key], "label": int(record[self._label_key])}

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """i64[N], which takes a pass over all records, but decodes no image."""
        return self._records.numbers(self._label_key)

    def where(self, index: int) -> str:
        return self._records.where(index)


class TfdsDetectionSource:
    """The images and objects of one split of a prepared TFDS data set.

    Args:
      builder: the data set, prepared as ArrayRecord, with an "image" and a sequence "objects" of
        "bbox" and "label", perhaps "area", "is_crowd" and "is_difficult", as voc and coco.
      split: a TFDS split, such as "test" or "train[:90%]".

    Attributes:
      class_names: of the labels.
    Raises:
      InputError: as `TfdsSource`, or the data set has no such objects; on reading, also a bad box
        (see `find_problems`).
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str):
        _check_prepared(builder)
        features = dict(builder.info.features.items())
        parts = getattr(features.get("objects"), "feature", None)
        has_boxes = isinstance(parts, tfds.features.FeaturesDict) and "bbox" in parts
        if "image" not in features or not has_boxes:
            raise InputError(
                f"TFDS data set {builder.name!r} has no image and objects with a bbox: it is not "
                "for detection"
            )
        label = dict(parts.items()).get("label")
        if not isinstance(label, tfds.features.ClassLabel):
            raise InputError(
                f"TFDS data set {builder.name!r} has no names for the classes of its objects (a "
                "ClassLabel called label): it is not for detection"
            )
        self.class_names = tuple(label.names)
        self._records = _Records(builder, split, ["image"])

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        """A record: "image" u8[H, W, 3], "boxes" f64[G, 4] (xyxy, pixels), "labels" i64[G], "crowd"
        and "difficult" bool[G], "area" f64[G] or None."""
        record = self._records[index]
        objects, image = record["objects"], record["image"]
        height, width = size = image.shape[:2]
        shares = np.asarray(objects["bbox"], np.float64).reshape(-1, 4)  # y1, x1, y2, x2
        boxes = shares[:, [1, 0, 3, 2]] * np.array([[width, height, width, height]])
        problem = next(box_problems(boxes, size), None)
        if problem:
            raise InputError(
                f"{self.where(index)}: {problem}: prepare the data set again without it, or read "
                "its original files (config.data.source), of which config.data.drop_bad leaves "
                "out what is bad"
            )

        def column(name: str, kind: type) -> np.ndarray:
            return np.asarray(objects.get(name, np.zeros(len(boxes))), kind)

        return {
            "image": np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image,
            "boxes": clip_boxes(boxes, size),
            "labels": column("label", np.int64),
            "crowd": column("is_crowd", bool),
            "difficult": column("is_difficult", bool),
            "area": column("area", np.float64) if "area" in objects else None,
        }

    def where(self, index: int) -> str:
        return self._records.where(index)


class TfdsSegmentationSource:
    """The images and masks of one split of a prepared TFDS data set.

    Args:
      builder: the data set, prepared as ArrayRecord, with an image and a mask of one channel.
      split: a TFDS split, such as "test" or "train[:90%]".
      mask: the mask's key, such as "segmentation_mask".
    Raises:
      InputError: as `TfdsSource`, or the data set has no such mask.
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str, *, mask: str):
        _check_prepared(builder)
        features = dict(builder.info.features.items())
        if "image" not in features or mask not in features:
            raise InputError(
                f"TFDS data set {builder.name!r} has no image and mask called {mask!r}: it has "
                f"{', '.join(sorted(features))}: set config.data.mask"
            )
        self._mask = mask
        self._records = _Records(builder, split, ["image", mask])

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        """A record: "image" u8[H, W, 3] and "labels" u8[H, W]."""
        record = self._records[index]
        image, mask = record["image"], record[self._mask]
        return {
            "image": np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image,
            "labels": mask[:, :, 0],
        }

    def where(self, index: int) -> str:
        return self._records.where(index)


def _check_prepared(builder: tfds.core.DatasetBuilder) -> None:
    if not (pathlib.Path(builder.data_dir) / "dataset_info.json").is_file():
        config = f"/{builder.builder_config.name}" if builder.builder_config else ""
        raise InputError(
            f"TFDS data set {builder.name!r} is not prepared in {builder.data_dir}: run "
            f"`pip install tensorflow && tfds build {builder.name}{config} "
            f"--file_format=array_record --data_dir={builder.data_dir_root}` once, or name the "
            "folder that has it with --config.data.dir=DIR"
        )


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


def _builder(data: Any) -> tfds.core.DatasetBuilder:
    """The data set of a config.

    Raises:
      InputError: an unknown name, version or config.
    """
    if not data.name:
        raise InputError("config.data.name is not set: give a TFDS data set, such as mnist")
    try:
        return tfds.builder(data.name, data_dir=data_dir(data))
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


def open_tfds(data: Any, split: str) -> TfdsSource:
    """A split of any TFDS data set for classification.

    Args:
      data: config with `name` (such as "mnist" or "cifar10:3.0.2"), `dir` (None: TFDS's own),
        `train_split` and `test_split`.
      split: "train" and "test" stand for the config's two splits; any other is a TFDS split.
    Raises:
      InputError: see `TfdsSource`; also for an unknown name, version or config.
    """
    return TfdsSource(_builder(data), own_split(data, split))


def open_tfds_detection(data: Any, split: str) -> TfdsDetectionSource:
    """A split of any TFDS data set for detection.

    Args:
      data: config with `name` (such as "voc/2007" or "coco/2017"), `dir` (None: TFDS's own),
        `train_split`, `test_split` and `drop_bad`, which has to be False.
      split: "train" and "test" stand for the config's two splits; any other is a TFDS split.
    Raises:
      InputError: see `TfdsDetectionSource`; also for an unknown name, version or config.
    """
    if data.drop_bad:
        raise InputError(
            "config.data.drop_bad has no effect on TFDS data sets, whose records are checked as "
            "they are read: leave it out"
        )
    return TfdsDetectionSource(_builder(data), own_split(data, split))


def open_tfds_segmentation(data: Any, split: str) -> TfdsSegmentationSource:
    """A split of any TFDS data set for segmentation.

    Args:
      data: config with `name` (such as "oxford_iiit_pet"), `dir` (None: TFDS's own), `mask`,
        `train_split` and `test_split`.
      split: "train" and "test" stand for the config's two splits; any other is a TFDS split.
    Raises:
      InputError: see `TfdsSegmentationSource`; also for an unknown name, version or config.
    """
    return TfdsSegmentationSource(_builder(data), own_split(data, split), mask=data.mask)
