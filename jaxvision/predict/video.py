"""Writes pictures as a video, with PyAV."""

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from jaxvision.data.video import import_av
from jaxvision.predict.arrays import check_picture

_ENCODERS = {
    "libx264": {"crf": "20", "preset": "fast"},
    "libopenh264": {},
    "mpeg4": {"qmin": "2", "qmax": "6"},
}
"""Encoder -> its options. The first one that is there is taken; the last one always is."""
_FINEST_RATE = 1001  # the largest divisor of a frame rate: MPEG-4 stores both with 16 bits


class VideoWriter:
    """Writes pictures as the frames of an MP4 file: H.264, or MPEG-4 where there is no encoder.

    It is a context manager. At its end the file is there, with the pictures that were written, also
    when the context was left by an exception; until then it has another name. Without pictures
    there is no file. The format has even sizes only: a picture with an odd width or height is
    extended by its last column or row.

    Args:
      path: of the file, whose suffix is .mp4.
      frame_rate: frames in a second.
    Raises:
      InputError: PyAV is not installed.
    """

    def __init__(self, path: Path | str, frame_rate: Fraction | float):
        self._path = Path(path)
        self._part = self._path.with_name(f"{self._path.name}.tmp")
        self._rate = Fraction(frame_rate).limit_denominator(_FINEST_RATE)
        self._av = import_av()
        self._container: Any = None
        self._stream: Any = None

    def write(self, picture: np.ndarray) -> None:
        """Appends a frame.

        Args:
          picture: u8[H, W, 3], RGB, of the same size each time.
        Raises:
          AssertionError: it has another shape or dtype than the first one.
        """
        picture = check_picture("picture", picture)
        height, width = picture.shape[:2]
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._container is None:
            self._open(picture.shape)
        size = self._stream.height, self._stream.width
        if picture.shape[:2] != size:
            raise AssertionError(f"picture is {height} x {width}: give {size[0]} x {size[1]}")
        frame = self._av.VideoFrame.from_ndarray(picture, format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._container is None:
            return
        self._container.mux(self._stream.encode())
        self._container.close()
        self._part.replace(self._path)

    def _open(self, shape: tuple[int, ...]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        name = next(name for name in _ENCODERS if self._has(name))
        self._container = self._av.open(str(self._part.absolute()), "w", format="mp4")
        self._stream = self._container.add_stream(name, rate=self._rate, options=_ENCODERS[name])
        self._stream.height, self._stream.width = shape[:2]
        self._stream.pix_fmt = "yuv420p"

    def _has(self, encoder: str) -> bool:
        try:
            self._av.Codec(encoder, "w")
        except ValueError:  # UnknownCodecError
            return False
        return True
