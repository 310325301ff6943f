"""What `jaxvision predict` leaves: predictions.json, and predictions.csv of the same numbers."""

import json
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jaxvision.cli.report import write_csv
from jaxvision.core.files import replace_text

RESULT, TABLE = "predictions.json", "predictions.csv"

Row = list[Any]


class Predictions:
    """The predictions for images and videos, and what failed.

    Args:
      kind: of the task.
      out: folder of the files; it is there.
    Attributes:
      images: an entry for each image.
      videos: an entry for each video, with one for each of its "frames".
      failed: "file" and "reason" of each image and video that failed.
    """

    def __init__(self, kind: str, out: pathlib.Path):
        self._kind, self._out = kind, out
        self.images: list[dict[str, Any]] = []
        self.videos: list[dict[str, Any]] = []
        self.failed: list[dict[str, str]] = []

    def write(self) -> None:
        """Writes the files."""
        result: dict[str, Any] = {"images": self.images, "failed": self.failed}
        if self.videos:
            result["videos"] = self.videos
        replace_text(self._out / RESULT, json.dumps(result, indent=1))
        if self._kind in _ROWS:
            write_csv(self._out / TABLE, self._rows())

    def summary(self) -> dict[str, Any]:
        """How many of each there are."""
        summary = {"images": len(self.images), "failed": len(self.failed), "out": str(self._out)}
        if self.videos:
            frames = sum(len(video["frames"]) for video in self.videos)
            summary |= {"videos": len(self.videos), "frames": frames}
        if self._kind == "detection":
            summary["objects"] = sum(len(entry["detections"]) for _, entry in self._entries())
        return summary

    def _entries(self) -> Iterator[tuple[Row, Mapping[str, Any]]]:
        """([file, frame, time], entry) of each image and frame."""
        for image in self.images:
            yield [image["file"], "", ""], image
        for video in self.videos:
            for frame in video["frames"]:
                yield [video["file"], frame["frame"], frame["time"]], frame

    def _rows(self) -> Iterator[Row]:
        titles, rows_of = _ROWS[self._kind]
        yield ["file", "frame", "time", *titles]
        for start, entry in self._entries():
            for row in rows_of(entry):
                yield [*start, *row]


def _class_rows(entry: Mapping[str, Any]) -> Iterator[Row]:
    for rank, found in enumerate(entry["classes"], start=1):
        yield [rank, found["label"], found["score"]]


def _object_rows(entry: Mapping[str, Any]) -> Iterator[Row]:
    return ([found["label"], found["score"], *found["bbox"]] for found in entry["detections"])


def _landmark_rows(entry: Mapping[str, Any]) -> Iterator[Row]:
    return ([found["label"], found["score"], *found["point"]] for found in entry["landmarks"])


def _share_rows(entry: Mapping[str, Any]) -> Iterator[Row]:
    return ([label, share] for label, share in entry["shares"].items())


_ROWS: dict[str, tuple[tuple[str, ...], Callable[[Mapping[str, Any]], Iterator[Row]]]] = {
    "classification": (("rank", "label", "score"), _class_rows),
    "detection": (("label", "score", "x", "y", "width", "height"), _object_rows),
    "landmarks": (("label", "score", "x", "y"), _landmark_rows),
    "segmentation": (("label", "share"), _share_rows),
}
"""Kind of a task -> (titles of its columns, the rows of an entry); others have no table."""
