"""Writes the images of a source to a cache on disk, decoded and perhaps resized."""

import collections
import contextlib
import functools
import hashlib
import io
import itertools
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import filelock
import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from jaxvision.core import InputError, OptionError, check_range
from jaxvision.core.files import NoRoomError, replace_text, writing
from jaxvision.core.memory import in_gigabytes
from jaxvision.data.sources.image_cache import INDEX, SIZES, VERSION, partial_folder, record_file
from jaxvision.data.sources.source import Source, as_path, image_of
from jaxvision.data.transforms.placing import resize_image
from jaxvision.ops.placement import center_crop, placed_size

_PLAN = "plan.json"  # in an unfinished cache, what its index will be
_MOST_FILES = 128  # so that a process may have all open
_LEAST_RECORDS = 256  # of a file, but for the last
_SAMPLE = 32  # records by which the size of a cache is estimated
_WRITER = "group_size:1,uncompressed"


def write_image_cache(
    source: Source,
    path: str | os.PathLike[str],
    *,
    shorter_side: int | None = None,
    jpeg_quality: int | None = None,
    threads: int = 2,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> int:
    """Writes the images and labels of a source to a cache, which `ImageCache` reads.

    The folder appears when the cache is complete. What an interrupted call wrote stays beside it,
    in NAME.partial, and the same call goes on with it; one with other options or records begins
    anew. It is not noticed if images change in between.

    Args:
      source: records with "image" u8[H, W, 3] and "label", and with `labels`.
      path: of the cache's folder, which must not exist.
      shorter_side: to which larger images are resized, pixels, bilinearly with antialiasing, as
        evaluation does with `resize="crop"`; None: no image is resized.
      jpeg_quality: encode images as JPEGs of this quality, 1 to 100; None: write their pixels.
      threads: that read and resize images.
      progress: goes through the numbers of the records, and may show how far it is.
    Returns:
      bytes of the cache.
    Raises:
      InputError: the folder exists, there are no records, or an image cannot be read or is not RGB.
      NoRoomError: the disk has no room.
      OptionError: an option is out of range.
    """
    if shorter_side is not None:
        check_range("shorter_side", shorter_side, least=1)
    if jpeg_quality is not None:
        check_range("jpeg_quality", jpeg_quality, least=1, most=100)
    check_range("threads", threads, least=1)
    folder = as_path(path, "folder of the cache")
    if folder.exists():
        raise OptionError("path", f"{folder} exists: give another folder, or remove it")
    if not len(source):
        raise InputError("there are no records to write to a cache")
    size = max(_LEAST_RECORDS, -(-len(source) // _MOST_FILES))
    index = {
        "version": VERSION,
        "class_names": list(source.class_names),
        "labels": np.asarray(source.labels).tolist(),
        "records": [min(size, len(source) - start) for start in range(0, len(source), size)],
        "shorter_side": shorter_side,
        "jpeg_quality": jpeg_quality,
        "source": _digest(source),
    }
    encode = functools.partial(_encode, source, shorter_side, jpeg_quality)
    partial = partial_folder(folder)
    with writing(partial), _alone(partial):
        done = _begin(partial, json.dumps(index))
        _check_room(partial, encode, len(source), sum(index["records"][done:]))
        numbers = iter(progress(range(len(source))))
        with ThreadPoolExecutor(threads) as pool:
            for file, count in enumerate(index["records"]):
                of_file = itertools.islice(numbers, count)
                if file < done:
                    collections.deque(of_file, maxlen=0)
                else:
                    images = _ahead(pool, encode, of_file, 4 * threads)
                    _write_file(record_file(partial, file), images)
        collections.deque(numbers, maxlen=0)  # the end of the progress
        (partial / _PLAN).replace(partial / INDEX)
        partial.rename(folder)
    return sum(file.stat().st_size for file in folder.iterdir())


@contextlib.contextmanager
def _alone(partial: pathlib.Path) -> Iterator[None]:
    """Raises InputError if another process writes the same cache."""
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(partial.with_name(f".{partial.name}.lock"), timeout=0):
            yield
    except filelock.Timeout as error:
        raise InputError(f"another process writes {partial}: wait until it ends") from error


def _begin(partial: pathlib.Path, plan: str) -> int:
    """Makes the folder, or takes that of an interrupted call; returns how many files it has."""
    file = partial / _PLAN
    if not (file.is_file() and file.read_text() == plan):
        if partial.is_dir():
            shutil.rmtree(partial)
        partial.mkdir()
        replace_text(file, plan)
    return next(number for number in itertools.count() if not record_file(partial, number).exists())


def _write_file(file: pathlib.Path, images: Iterable[bytes]) -> None:
    """Writes a file of ArrayRecord atomically."""
    new = file.with_suffix(".tmp")
    writer = ArrayRecordWriter(str(new), _WRITER)
    try:
        for image in images:
            writer.write(image)
    finally:
        writer.close()
    with new.open("rb") as written:
        os.fsync(written.fileno())
    new.rename(file)


def _ahead(
    pool: ThreadPoolExecutor, call: Callable[[int], bytes], numbers: Iterable[int], most: int
) -> Iterator[bytes]:
    """Yields the results of calls in order; threads make at most `most` of them beforehand."""
    waiting: collections.deque[Future[bytes]] = collections.deque()
    try:
        for number in numbers:
            waiting.append(pool.submit(call, number))
            if len(waiting) > most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _encode(
    source: Source, shorter_side: int | None, jpeg_quality: int | None, index: int
) -> bytes:
    """Returns an image as a cache has it."""
    where = source.where(index)
    image = image_of(source[index], where)
    if image.shape[2] != 3:
        raise InputError(f"{where}: the image has {image.shape[2]} channels: give RGB images")
    if shorter_side is not None and min(image.shape[:2]) > shorter_side:
        placement = center_crop(image.shape[:2], (shorter_side, shorter_side))
        image = resize_image(image, placed_size(image.shape[:2], placement))
    if jpeg_quality is None:
        return SIZES.pack(*image.shape) + image.tobytes()
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", quality=jpeg_quality)
    return data.getvalue()


def _check_room(
    partial: pathlib.Path, encode: Callable[[int], bytes], records: int, count: int
) -> None:
    """Raises NoRoomError if the disk has clearly less room than `count` of the records take."""
    sample = np.unique(np.linspace(0, records - 1, _SAMPLE).astype(int)).tolist()
    needed = count * float(np.mean([len(encode(index)) for index in sample]))
    free = shutil.disk_usage(partial).free
    if needed > 1.1 * free:  # it is an estimate
        raise NoRoomError(
            f"{partial} needs about {in_gigabytes(needed)} more, and its disk has "
            f"{in_gigabytes(free)} free: make room, use another folder, or set shorter_side or "
            "jpeg_quality lower"
        )


def _digest(source: Source) -> str:
    """A digest of the names of a source's records."""
    digest = hashlib.sha256()
    for index in range(len(source)):
        digest.update(f"{source.where(index)}\n".encode())
    return digest.hexdigest()
