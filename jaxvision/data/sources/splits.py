"""The records of a split, from whatever a config names."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxvision.core import InputError, check_range, lookup
from jaxvision.data.sources.annotated import Listing
from jaxvision.data.sources.digits import open_digits
from jaxvision.data.sources.folders import FORMS, open_folder
from jaxvision.data.sources.idx import open_idx
from jaxvision.data.sources.image_folders import open_image_folder
from jaxvision.data.sources.landmark_folders import open_landmark_folder
from jaxvision.data.sources.mask_folders import open_mask_folder, open_voc_masks
from jaxvision.data.sources.npz import open_npz
from jaxvision.data.sources.photographs import open_embedded_photographs, open_photograph_folder
from jaxvision.data.sources.scenes import open_scene_landmarks, open_scene_masks, open_scenes
from jaxvision.data.sources.source import Cached, Source, Subset, hold_out
from jaxvision.data.sources.tfds_source import (
    open_tfds,
    open_tfds_detection,
    open_tfds_segmentation,
)
from jaxvision.data.transforms.classification import few_of_each

Sources = Mapping[str, Callable[[Any, str], Source]]
"""Name -> (config.data, split) -> Source."""

CLASSIFICATION_SOURCES: Sources = {
    "digits": open_digits,
    "folder": open_image_folder,
    "idx": open_idx,
    "npz": open_npz,
    "tfds": open_tfds,
}
DETECTION_SOURCES: Sources = {
    "scenes": open_scenes,
    "tfds": open_tfds_detection,
    **dict.fromkeys(FORMS, open_folder),
}
SEGMENTATION_SOURCES: Sources = {
    "scenes": open_scene_masks,
    "folder": open_mask_folder,
    "voc": open_voc_masks,
    "tfds": open_tfds_segmentation,
}
RESTORATION_SOURCES: Sources = {
    "photographs": open_embedded_photographs,
    "folder": open_photograph_folder,
}
LANDMARK_SOURCES: Sources = {
    "scenes": open_scene_landmarks,
    "folder": open_landmark_folder,
}


class Splits:
    """The splits of a config's data; what several are cut from is opened once.

    Args:
      data: `config.data`; see `jaxvision.cli.config.default_config`.
      sources: of the task.
    """

    def __init__(self, data: Any, sources: Sources):
        self._data, self._sources = data, sources
        self._opened: dict[str, Source] = {}

    def whole(self, split: str) -> Source:
        """A split of the source's own, with all its records.

        Raises:
          InputError: the data cannot be opened, or has other classes than `data.class_names` (if
            there are any); says why and what to do.
        """
        if split not in self._opened:
            source = lookup(self._sources, self._data.source, "data source")(self._data, split)
            check_class_names(self._data, source)
            self._opened[split] = source
        return self._opened[split]

    def open(self, split: str) -> Source:
        """The records of a split.

        Args:
          split: "train" and "validation" share the source's training split, of which a fixed random
            `data.validation_fraction` is for validation, and of each class of the rest the random
            `data.per_class` for training, if that is not 0; any other is the source's own.
        Raises:
          InputError: as `whole`, or a class has fewer images than `data.per_class`.
        """
        if split in ("train", "validation"):
            rest, held = hold_out(self.whole("train"), self._data.validation_fraction)
            source = held if split == "validation" else self._few(rest)
        else:
            source = self.whole(split)
        return Cached(source) if self._data.cache else source

    def _few(self, records: Subset) -> Subset:
        """What `data.per_class` leaves of the training part; not all tasks have that key."""
        count = getattr(self._data, "per_class", 0)
        check_range("config.data.per_class", count, least=0)
        if not count:
            return records
        numbers = range(self._data.num_classes)
        return few_of_each(records, count, getattr(self.whole("train"), "class_names", numbers))


def check_class_names(data: Any, source: Source | Listing) -> None:
    """Raises InputError unless `data.class_names`, if there are any, are those of the data."""
    wanted, own = tuple(getattr(data, "class_names", ())), getattr(source, "class_names", None)
    count = getattr(data, "num_classes", len(wanted))
    if wanted and len(wanted) != count:
        raise InputError(
            f"config.data.class_names has {len(wanted)} names, but config.data.num_classes is "
            f"{count}: give one name for each class"
        )
    if wanted and own is not None and wanted != tuple(own):
        raise InputError(
            f"the classes of the data are {', '.join(own)}, but config.data.class_names is "
            f"{', '.join(wanted)}: leave it out, or make them the same, in the same order"
        )
