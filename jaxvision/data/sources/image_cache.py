"""A cache of images with labels on disk, in files of ArrayRecord; `write_image_cache` writes it.

A cache is a folder: cache.json has the classes, the labels, and the number of records of each file;
00000.array_record and so on have the images, as pixels or as JPEGs.
"""

import io
import itertools
import os
import pathlib
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from jaxvision.core import InputError, Record, reason_of
from jaxvision.core.files import parse_json, read_text
from jaxvision.data.sources.checks import check_class_names
from jaxvision.data.sources.image_folders import to_grey
from jaxvision.data.sources.images import decode_jpeg, opened
from jaxvision.data.sources.source import as_path

INDEX = "cache.json"
VERSION = 1
SIZES = struct.Struct("<III")
"""Height, width and channels, before the pixels of an image that is no JPEG."""
_READER = "readahead_buffer_size:0"  # records are read in random order


def record_file(folder: pathlib.Path, number: int) -> pathlib.Path:
    """Returns the file of a cache with a number, counted from 0."""
    return folder / f"{number:05}.array_record"


def partial_folder(folder: pathlib.Path) -> pathlib.Path:
    """Returns the folder that a cache is written to, before it gets its own name."""
    return folder.with_name(f"{folder.name}.partial")


class ImageCache:
    """A source over a cache of images with labels.

    Args:
      path: of the cache's folder, such as "imagenet256/train".
      class_names: that the cache must have; None or (): any.
      grey: give images one channel instead of three.

    Attributes:
      labels: i32[N], the number of each image's class.
      class_names: of the classes.
      shorter_side: to which larger images were resized, pixels; None: they were not.
    Raises:
      InputError: there is no whole cache, its index is damaged, or it has other classes; on
        reading, a record is damaged.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        class_names: Sequence[str] | None = None,
        grey: bool = False,
    ):
        self._folder, self._grey = as_path(path, "folder of the cache"), grey
        index = _read_index(self._folder)
        self.class_names = tuple(index["class_names"])
        check_class_names(self.class_names, class_names or ())
        self.labels = np.int32(index["labels"])
        self.shorter_side: int | None = index["shorter_side"]
        self._jpeg = index["jpeg_quality"] is not None
        self._starts = list(itertools.accumulate(index["records"], initial=0))
        self._readers: dict[int, ArrayRecordReader] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_readers": {}}

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Record:
        """Returns a record: "image" u8[H, W, 3] (u8[H, W, 1] if grey) and "label"."""
        try:
            image = self._decode(self._read(index))
        except (OSError, RuntimeError, ValueError, InputError, struct.error) as error:
            raise self._damaged(index, error) from error
        return {"image": to_grey(image) if self._grey else image, **self.target(index)}

    def where(self, index: int) -> str:
        return f"{self._folder}, record {index}"

    def target(self, index: int) -> Record:
        return {"label": int(self.labels[index])}

    def size(self, index: int) -> tuple[int, int]:
        """Returns the (height, width) of an image, without decoding it."""
        try:
            data = self._read(index)
            if not self._jpeg:
                return SIZES.unpack_from(data)[:2]
            with opened(io.BytesIO(data), "its JPEG") as image:
                return image.size[::-1]
        except (OSError, RuntimeError, ValueError, InputError, struct.error) as error:
            raise self._damaged(index, error) from error

    def _read(self, index: int) -> bytes:
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        if number not in self._readers:
            reader = ArrayRecordReader(str(record_file(self._folder, number)), _READER)
            expected = self._starts[number + 1] - self._starts[number]
            if reader.num_records() != expected:
                raise ValueError(f"its file has {reader.num_records()} records, not {expected}")
            self._readers[number] = reader
        return self._readers[number].read([index - self._starts[number]])[0]

    def _decode(self, data: bytes) -> np.ndarray:
        if not self._jpeg:
            shape = SIZES.unpack_from(data)
            return np.frombuffer(data, np.uint8, offset=SIZES.size).reshape(shape)
        with opened(io.BytesIO(data), "its JPEG") as image:
            pixels = decode_jpeg(image)
            return np.asarray(image) if pixels is None else pixels

    def _damaged(self, index: int, error: Exception) -> InputError:
        return InputError(
            f"{self.where(index)} cannot be read ({reason_of(error)}): write the cache again"
        )


def _read_index(folder: pathlib.Path) -> dict[str, Any]:
    """Reads the index of a cache.

    Raises:
      InputError: there is no whole cache, or its index is damaged.
    """
    file = folder / INDEX
    if partial_folder(folder).is_dir() and not folder.exists():
        raise InputError(f"the cache {folder} is not complete: run its `jaxvision cache` again")
    if not file.is_file():
        raise InputError(f"{folder} is no cache of images: write one with `jaxvision cache`")
    try:
        index = parse_json(read_text(file))
        if index["version"] != VERSION:
            raise ValueError(f"version {index['version']} instead of {VERSION}")
        numbers, names = (*index["labels"], *index["records"]), index["class_names"]
        whole = all(isinstance(x, int) and 0 <= x < 2**31 for x in numbers)
        if not whole or not all(isinstance(x, str) for x in names):
            raise ValueError("its labels, records or class_names are wrong")
        if sum(index["records"]) != len(index["labels"]):
            raise ValueError("it has not as many labels as records")
        index["shorter_side"], index["jpeg_quality"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file} cannot be read ({reason_of(error)}): write the cache again"
        ) from error
    return index
