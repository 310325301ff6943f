"""TFDS data sets through `as_data_source`: ArrayRecord files, random access, no TensorFlow."""

import contextlib
import functools
import io
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import naming, read_only_builder
from tensorflow_datasets.core.utils import error_utils

from jaxvision.core import InputError, OptionError, Record, listed, lookup, reason_of
from jaxvision.core.files import parse_json, read_text
from jaxvision.data.sources.boxes import box_problems, clip_boxes
from jaxvision.data.sources.images import decode_jpeg, opened
from jaxvision.data.sources.mask_folders import find_binary, from_binary

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's, by the channels that a data set declares
_NAME = "give a name as NAME, NAME/CONFIG or NAME:VERSION"


def tfds_folder(path: str | os.PathLike[str] | None) -> str | None:
    """Returns TFDS's folder, of which ~ is the home folder; None: TFDS's own."""
    return os.path.expanduser(path) if path else None


class _Records:
    """One split of a prepared TFDS data set, whose images Pillow decodes.

    Args:
      builder: the data set, prepared as ArrayRecord.
      split: a TFDS split, such as "test" or "train[:90%]".
      images: keys of its images.
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str, images: Iterable[str]):
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
                split, decoders={key: tfds.decode.SkipDecoding() for key in features}
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

    def read(self, index: int, *, headers: Iterable[str] = ()) -> dict[str, Any]:
        """Returns a record, with its images as u8[H, W, C].

        Args:
          index: of the record.
          headers: keys of images of which only the size is wanted, (height, width).
        """
        with self._readable(index):
            record = dict(self._records[index])
            for key, mode in self._modes.items():
                with opened(io.BytesIO(record[key]), key) as image:
                    if key in headers:
                        record[key] = image.size[::-1]
                        continue
                    # A set of RGB images may well hold some grey or palette files.
                    wanted = mode or image.mode
                    pixels = decode_jpeg(image) if wanted == "RGB" else None
                    if pixels is None:
                        pixels = np.asarray(
                            image if image.mode == wanted else image.convert(wanted)
                        )
                record[key] = pixels if pixels.ndim == 3 else pixels[:, :, None]
        return record

    def size(self, index: int) -> tuple[int, int]:
        """Returns the (height, width) of a record's first image, from its header."""
        return self.read(index, headers=self._modes)[next(iter(self._modes))]

    def numbers(self, key: str) -> np.ndarray:
        """Returns the whole number that each record has there, without decoding images: i64[N]."""
        numbers = np.zeros(len(self), np.int64)
        for index in range(len(self)):
            numbers[index] = self.number(index, key)
        return numbers

    def number(self, index: int, key: str) -> int:
        """Returns the whole number of a record."""
        with self._readable(index):
            return int(self._records[index][key])

    @contextlib.contextmanager
    def _readable(self, index: int) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError, InputError) as error:
            raise InputError(
                f"{self.where(index)} in {self._folder} cannot be read "
                f"({' '.join(str(error).split())}): prepare the data set again"
            ) from error

    def where(self, index: int) -> str:
        return f"{self._name}, record {index}"


class _Kind(Protocol):
    """How the records of a kind of data set are read."""

    class_names: tuple[str, ...]

    def record(self, index: int) -> Record: ...

    def target(self, index: int) -> Record: ...


class _Classification:
    def __init__(self, builder: tfds.core.DatasetBuilder, split: str, **of_masks: Any):
        keys = builder.info.supervised_keys
        if not _are_image_and_label(keys, builder.info.features):
            raise InputError(
                f"TFDS data set {builder.name!r} names no image and label (supervised_keys): "
                "it is not for classification"
            )
        self._image, self._label = keys
        self._records = _Records(builder, split, [self._image])
        self.class_names = _names(builder.info.features[self._label])

    def record(self, index: int) -> Record:
        record = self._records.read(index)
        return {"image": record[self._image], "label": int(record[self._label])}

    def target(self, index: int) -> Record:
        return {"label": self._records.number(index, self._label)}

    @functools.cached_property
    def labels(self) -> np.ndarray:
        return self._records.numbers(self._label)


class _Detection:
    def __init__(self, builder: tfds.core.DatasetBuilder, split: str, **of_masks: Any):
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
        self.class_names = _names(label)
        self._records = _Records(builder, split, ["image"])

    def record(self, index: int) -> Record:
        record = self._records.read(index)
        image = record["image"]
        return {"image": _rgb(image), **self._objects(index, record["objects"], image.shape[:2])}

    def target(self, index: int) -> Record:
        record = self._records.read(index, headers=["image"])
        return self._objects(index, record["objects"], record["image"])

    def _objects(self, index: int, objects: Any, size: tuple[int, int]) -> Record:
        height, width = size
        shares = np.asarray(objects["bbox"], np.float64).reshape(-1, 4)  # y1, x1, y2, x2
        boxes = shares[:, [1, 0, 3, 2]] * np.array([[width, height, width, height]])
        problem = next(box_problems(boxes, size), None)
        if problem:
            raise InputError(
                f"{self._records.where(index)}: {problem}: prepare the data set again without it, "
                "or read its original files, of which drop_bad=True leaves out bad records"
            )

        def column(name: str, kind: type) -> np.ndarray:
            return np.asarray(objects.get(name, np.zeros(len(boxes))), kind)

        return {
            "boxes": clip_boxes(boxes, size),
            "labels": column("label", np.int64),
            "crowd": column("is_crowd", bool),
            "difficult": column("is_difficult", bool),
            "area": column("area", np.float64) if "area" in objects else None,
            "masks": None,
            "size": size,
        }


class _Segmentation:
    def __init__(
        self,
        builder: tfds.core.DatasetBuilder,
        split: str,
        *,
        mask: str,
        binary: bool | None,
        class_names: Sequence[str],
    ):
        features = dict(builder.info.features.items())
        if "image" not in features or mask not in features:
            raise OptionError(
                "mask",
                f"mask is {mask!r}, but TFDS data set {builder.name!r} has no image and such a "
                f"mask: it has {', '.join(sorted(features))}",
            )
        self.class_names = tuple(class_names)
        self._mask = mask
        self._records = _Records(builder, split, ["image", mask])
        groups = {f"{builder.name} {split}": range(len(self._records))}
        self._binary = find_binary(binary, groups, len(class_names) or None, count=self._count)

    def record(self, index: int) -> Record:
        record = self._records.read(index)
        labels = self._labels(index, record[self._mask][:, :, 0])
        return {"image": _rgb(record["image"]), "labels": labels}

    def target(self, index: int) -> Record:
        record = self._records.read(index, headers=["image"])
        return {"labels": self._labels(index, record[self._mask][:, :, 0])}

    def _labels(self, index: int, labels: np.ndarray) -> np.ndarray:
        return from_binary(labels, self._records.where(index)) if self._binary else labels

    def _count(self, index: int) -> np.ndarray:
        labels = self._records.read(index, headers=["image"])[self._mask]
        return np.bincount(np.minimum(labels, 255).ravel(), minlength=256)


KINDS = {
    "classification": _Classification,
    "detection": _Detection,
    "segmentation": _Segmentation,
}
"""Kind of a data set -> (builder, split, *, mask, binary, class_names) -> what reads it."""


class TfdsBuilder:
    """A source over one split of a prepared TFDS data set, by its builder.

    Args:
      builder: the data set, prepared as ArrayRecord.
      split: a TFDS split, such as "test" or "train[:90%]".
      kind, mask, binary, class_names: as for `Tfds`.

    Attributes and errors are those of `Tfds`.
    """

    def __init__(
        self,
        builder: tfds.core.DatasetBuilder,
        split: str,
        *,
        kind: str = "classification",
        mask: str = "segmentation_mask",
        binary: bool | None = None,
        class_names: Sequence[str] = (),
    ):
        make = lookup(KINDS, kind, "kind")
        _check_prepared(builder)
        how = {"mask": mask, "binary": binary, "class_names": class_names}
        self._kind: _Kind = make(builder, split, **how)
        self._records = self._kind._records

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._kind.class_names

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        """Returns a record of the kind, see `Tfds`."""
        return self._kind.record(index)

    def where(self, index: int) -> str:
        return self._records.where(index)

    def target(self, index: int) -> Record:
        return self._kind.target(index)

    def size(self, index: int) -> tuple[int, int]:
        """Returns the (height, width) of an image, from its header."""
        return self._records.size(index)

    @property
    def labels(self) -> np.ndarray:
        """i64[N], for classification; takes a pass over all records, but decodes no image."""
        return self._kind.labels


class Tfds(TfdsBuilder):
    """A source over one split of a TFDS data set that is prepared on this machine.

    Records are, by `kind`:
      classification: "image" u8[H, W, C] and "label", of the data set's `supervised_keys`;
      detection: "image" u8[H, W, 3], "boxes" f64[G, 4] (xyxy, pixels), "labels" i64[G], "crowd" and
        "difficult" bool[G], "area" f64[G] or None, "masks" None and "size" (H, W), of a sequence
        "objects" of "bbox" and "label", as in voc and coco;
      segmentation: "image" u8[H, W, 3] and "labels" u8[H, W], of a mask of one channel.

    Only TFDS's own code runs: names of community data sets, which TFDS would fetch with their code,
    and folders whose features.json names classes outside TFDS are refused.

    Args:
      name: of the data set, such as "mnist", "voc/2007" or "cifar10:3.0.2".
      split: a TFDS split, such as "test" or "train[:90%]".
      dir: TFDS's folder; None: TFDS's own.
      kind: "classification", "detection" or "segmentation".
      mask: key of the mask, for segmentation.
      binary: what 255 means in masks, as for `MaskFolder`.
      class_names: of the labels of masks, which TFDS does not know; () if they are not known.

    Attributes:
      class_names: of the labels, where the data set names or numbers them; else ().
    Raises:
      InputError: the data set has an unknown name, version or configuration, is not prepared or in
        another format, is not of the kind, or names classes outside TFDS; there is no such split;
        on reading, a record is damaged or has a bad box. The message says what to do.
    """

    def __init__(
        self,
        name: str,
        split: str,
        *,
        dir: str | os.PathLike[str] | None = None,
        kind: str = "classification",
        mask: str = "segmentation_mask",
        binary: bool | None = None,
        class_names: Sequence[str] = (),
    ):
        builder = _builder(name, tfds_folder(dir))
        how = {"mask": mask, "binary": binary, "class_names": class_names}
        super().__init__(builder, split, kind=kind, **how)


def _names(label: Any) -> tuple[str, ...]:
    return tuple(getattr(label, "names", None) or ())


def _rgb(image: np.ndarray) -> np.ndarray:
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


def _check_prepared(builder: tfds.core.DatasetBuilder) -> None:
    if not (pathlib.Path(builder.data_dir) / "dataset_info.json").is_file():
        variant = f"/{builder.builder_config.name}" if builder.builder_config else ""
        raise InputError(
            f"TFDS data set {builder.name!r} is not prepared in {builder.data_dir}: run "
            f"`pip install tensorflow && tfds build {builder.name}{variant} "
            f"--file_format=array_record --data_dir={builder.data_dir_root}` once, or name the "
            "folder that has it with dir"
        )


def _are_image_and_label(keys: Any, features: tfds.features.FeaturesDict) -> bool:
    """Returns whether `supervised_keys` name an image and a whole number."""
    if not keys or len(keys) != 2 or not all(isinstance(key, str) for key in keys):
        return False
    image, label = features[keys[0]], features[keys[1]]
    return (
        isinstance(image, tfds.features.Image)
        and label.shape == ()
        and np.issubdtype(label.np_dtype, np.integer)
    )


def _builder(name: str, folder: str | None) -> tfds.core.DatasetBuilder:
    """Returns the builder of a data set, by its name.

    Raises:
      InputError: as for `Tfds`.
    """
    if not name:
        raise OptionError("name", f"name is {name!r}: give a TFDS data set, such as mnist")
    try:
        _check_name(name)
        # The function by which `tfds.builder` finds the files, so that these are checked.
        with error_utils.record_error_context():
            found = read_only_builder._find_builder_dir(name, data_dir=folder)
        if found is not None:
            _check_features(found)
        return tfds.builder(name, data_dir=folder)
    except InputError:
        raise
    except tfds.core.DatasetNotFoundError as error:
        raise InputError(f"TFDS knows no data set {name!r}: see `tfds.list_builders()`") from error
    except Exception as error:  # TFDS raises whatever it met first
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"TFDS cannot open {name!r} ({reason}): {_NAME}") from error


def _check_name(name: str) -> None:
    """Raises InputError if TFDS would fetch code for a name, or read it from another folder."""
    parsed, options = naming.parse_builder_name_kwargs(name)
    if parsed.namespace:
        raise InputError(
            f"TFDS data set {name!r} is of the community {parsed.namespace!r}, whose code TFDS "
            f"would fetch and run: {_NAME}"
        )
    others = options.keys() - {"version", "config"}
    if others:
        raise InputError(
            f"TFDS cannot open {name!r} (it sets {', '.join(sorted(others))}): {_NAME}"
        )


_CLASS_KEYS = ("pythonClassName", "python_class_name", "type", "proto_cls")


def _check_features(folder: str | os.PathLike[str]) -> None:
    """Raises InputError if features.json names classes outside TFDS, which TFDS would import."""
    file = pathlib.Path(folder) / "features.json"
    try:
        content = parse_json(read_text(file))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file} cannot be read ({reason_of(error)}): prepare the data set again"
        ) from error
    classes = sorted({*_class_names(content)})
    foreign = [name for name in classes if not name.startswith("tensorflow_datasets.")]
    if foreign:
        raise InputError(
            f"{file} names classes outside tensorflow_datasets, whose code would be imported: "
            f"{listed(foreign)}: use only features of TFDS"
        )


def _class_names(content: Any) -> Iterator[str]:
    """Yields every class that features.json names, also within texts that are JSON themselves."""
    if isinstance(content, dict):
        for key in _CLASS_KEYS:
            if isinstance(content.get(key), str):
                yield content[key]
        content = list(content.values())
    elif isinstance(content, str) and content.lstrip()[:1] in ("{", "["):
        with contextlib.suppress(ValueError):
            yield from _class_names(json.loads(content))
    if isinstance(content, list):
        for value in content:
            yield from _class_names(value)
