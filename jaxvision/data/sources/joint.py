"""Sources for detectors that are trained on images with boxes and images with labels alone."""

from collections.abc import Sequence

import numpy as np

from jaxvision.core import InputError, OptionError, Record
from jaxvision.data.sources.skeletons import Skeleton
from jaxvision.data.sources.source import Source, size_of


class LabelsOnly:
    """The records of a source as images whose objects have labels but no boxes.

    A record has "labels_only" True, and the box of each of its objects is the whole image. Records
    of one "label", for classification, become records of one object.

    Args:
      source: for classification or detection.

    Attributes:
      class_names: those of the source.
    """

    def __init__(self, source: Source):
        self._source = source

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._source.class_names

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        record = self._source[index]
        found = self._without_boxes(record, np.asarray(record["image"]).shape[:2])
        return {"image": record["image"], **found}

    def where(self, index: int) -> str:
        return self._source.where(index)

    def target(self, index: int) -> Record:
        return self._without_boxes(self._source.target(index), size_of(self._source, index))

    def size(self, index: int) -> tuple[int, int]:
        """Returns the (height, width) of an image, see `size_of`."""
        return size_of(self._source, index)

    @staticmethod
    def _without_boxes(record: Record, size: tuple[int, int]) -> Record:
        labels = np.atleast_1d(np.asarray(record["labels" if "labels" in record else "label"]))
        none = np.zeros(len(labels), bool)
        return {
            "boxes": np.tile([0.0, 0.0, size[1], size[0]], (len(labels), 1)),
            "labels": labels,
            "crowd": record.get("crowd", none),
            "difficult": record.get("difficult", none),
            "size": tuple(size),
            "labels_only": True,
        }


class Joined:
    """Several sources of the same classes, one after the other.

    Args:
      sources: at least one.

    Attributes:
      class_names: those of the sources.
    Raises:
      OptionError: there is no source.
      InputError: they have different class names.
    """

    def __init__(self, sources: Sequence[Source]):
        self._sources = tuple(sources)
        if not self._sources:
            raise OptionError("sources", "sources is empty: give at least one")
        self.class_names = self._sources[0].class_names
        for number, source in enumerate(self._sources):
            if source.class_names != self.class_names:
                raise InputError(
                    f"source {number} has the classes {source.class_names}, but source 0 has "
                    f"{self.class_names}: give sources of the same classes"
                )
        self._ends = np.cumsum([len(source) for source in self._sources])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Record:
        source, own = self._place(index)
        return source[own]

    def where(self, index: int) -> str:
        source, own = self._place(index)
        return source.where(own)

    def target(self, index: int) -> Record:
        source, own = self._place(index)
        return source.target(own)

    def size(self, index: int) -> tuple[int, int]:
        """Returns the (height, width) of an image, see `size_of`."""
        return size_of(*self._place(index))

    @property
    def skeleton(self) -> Skeleton | None:
        """Of the objects' keypoints, where the first source has them."""
        return self._sources[0].skeleton

    def _place(self, index: int) -> tuple[Source, int]:
        """The source that has a record, and the record's index there."""
        number = int(np.searchsorted(self._ends, index, side="right"))
        if not 0 <= index < len(self):
            raise IndexError(f"there is no record {index} of {len(self)}")
        return self._sources[number], int(index - (self._ends[number - 1] if number else 0))
