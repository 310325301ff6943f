"""Reads the frames of a video file one after the other, with PyAV."""

import math
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxvision.core import InputError, reason_of

VIDEO_SUFFIXES = (
    ".3gp",
    ".avi",
    ".m4v",
    ".mkv",
    ".mov",
    ".mp4",
    ".mpeg",
    ".mpg",
    ".ogv",
    ".webm",
    ".wmv",
)
"""The suffixes of videos in folders, in small or capital letters."""

_FORMATS = "mov,mp4,matroska,webm,avi,mpeg,mpegvideo,mpegts,ogg,asf"
"""What FFmpeg may take a file for. A playlist, which could name other files, is none of them."""
_MOST_PIXELS = 2 * Image.MAX_IMAGE_PIXELS
"""Of a frame: as many as Pillow reads of an image."""
_USUAL_RATE = Fraction(25)


class VideoFrame(NamedTuple):
    """A frame of a video.

    Attributes:
      index: from 0.
      time: seconds from the start of the video; index / frame rate if the file does not say it.
      image: u8[H, W, 3], RGB, upright.
    """

    index: int
    time: float
    image: np.ndarray


class VideoFrames:
    """The frames of a video file, which are decoded when they are due.

    Iterating over it gives the images u8[H, W, 3], so that it can be given to
    `jaxvision.predict.predict`; `frames` also gives their times. Sound is not read.

    Args:
      path: of the file.
    Attributes:
      path: of the file.
      frame_rate: frames in a second, on average.
      count: of the frames, as the file says; None if it does not. It may be wrong.
    Raises:
      InputError: PyAV is not installed, there is no such file, or it is not a video.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        av = import_av()
        if not self.path.is_file():
            raise InputError(f"{self.path}: there is no such file: give a video")
        try:
            with _opened(av, self.path) as container:
                stream = container.streams.video[0] if container.streams.video else None
                rate = stream and (stream.average_rate or stream.guessed_rate)
                pixels = stream.width * stream.height if stream else 0
                count = stream.frames if stream else 0
        except (av.FFmpegError, OSError) as error:
            raise InputError(
                f"{self.path} cannot be read as a video ({reason_of(error)}): correct it or leave "
                "it out"
            ) from error
        if not pixels:
            raise InputError(f"{self.path} has no pictures: give a video")
        if pixels > _MOST_PIXELS:
            raise InputError(
                f"{self.path} has frames of {pixels} pixels: give at most {_MOST_PIXELS}"
            )
        self.frame_rate: Fraction = rate or _USUAL_RATE
        self.count: int | None = count or None

    def __iter__(self) -> Iterator[np.ndarray]:
        return (frame.image for frame in self.frames())

    def frames(self) -> Iterator[VideoFrame]:
        """Decodes the frames, one after the other.

        Raises:
          InputError: the file is damaged; the frames before the damage were given. Or it has no
            frames, or frames of several sizes.
        """
        av, index, shape = import_av(), 0, None
        try:
            with _opened(av, self.path) as container:
                for frame in _decoded(av, container, self.path):
                    # FFmpeg gives the angle counterclockwise, as numpy does.
                    image = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                    shape = shape or image.shape
                    if image.shape != shape:
                        raise ValueError("its size is another one")
                    time = frame.time
                    if time is None or not math.isfinite(time):
                        time = float(index / self.frame_rate)
                    yield VideoFrame(index, time, np.ascontiguousarray(image))
                    index += 1
        except (av.FFmpegError, OSError, ValueError) as error:
            raise InputError(
                f"{self.path}: frame {index} cannot be read ({reason_of(error)}): correct the "
                f"video, or use the {index} frames before it"
            ) from error
        if not index:
            raise InputError(f"{self.path} has no frames: give a video")


def import_av() -> Any:
    """Imports PyAV.

    Raises:
      InputError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise InputError(
            "videos are read and written with PyAV, which is not installed: pip install "
            "'jaxvision[video]'"
        ) from error
    return av


def _opened(av: Any, path: Path, **options: str) -> Any:
    # The absolute path is never taken for an address, and nothing but the file is opened.
    options |= {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
    return av.open(str(path.absolute()), options=options)


def _decoded(av: Any, container: Any, path: Path) -> Iterator[Any]:
    """Decodes the frames; at damage, first those that the decoder still holds."""
    stream = container.streams.video[0]
    packets = 0
    try:
        for packet in container.demux(stream):
            packets += packet.size > 0
            yield from packet.decode()
    except av.FFmpegError as damage:
        try:
            held = stream.codec_context.decode(None)
        except av.FFmpegError:
            held = []
        yield from held
        raise damage
    # The index of an MP4 counts the packets, of which a file that was cut off has fewer. Of a file
    # that was trimmed by its edit list, FFmpeg leaves out those that are not shown.
    if "mp4" in container.format.name and packets < stream.frames:
        packets = _packets(av, path)
        if packets < stream.frames:
            raise ValueError(f"the file is cut off: it has {packets} of {stream.frames} frames")


def _packets(av: Any, path: Path) -> int:
    """Counts the packets of an MP4, with those that its edit list leaves out."""
    with _opened(av, path, ignore_editlist="1") as container:
        return sum(packet.size > 0 for packet in container.demux(video=0))
