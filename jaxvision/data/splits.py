"""The records of a split, from whatever a config names."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxvision.core import InputError, lookup
from jaxvision.data.digits import open_digits
from jaxvision.data.folders import FORMS, open_folder
from jaxvision.data.idx import open_idx
from jaxvision.data.scenes import open_scenes
from jaxvision.data.source import Cached, Source, hold_out
from jaxvision.data.tfds_source import open_tfds, open_tfds_detection

Sources = Mapping[str, Callable[[Any, str], Source]]
"""Name -> (config.data, split) -> Source."""

CLASSIFICATION_SOURCES: Sources = {
    "digits": open_digits,
    "idx": open_idx,
    "tfds": open_tfds,
}
DETECTION_SOURCES: Sources = {
    "scenes": open_scenes,
    "tfds": open_tfds_detection,
    **dict.fromkeys(FORMS, open_folder),
}


def open_split(data: Any, split: str, sources: Sources) -> Source:
    """The records of one split of a config's data.

    Args:
      data: `config.data`; see `jaxvision.cli.config.default_config`.
      split: "train" and "validation" share the source's training split, of which a fixed random
        `data.validation_fraction` is for validation; any other is the source's own.
      sources: of the task.
    Raises:
      InputError: the data cannot be opened, or has other classes than `data.class_names` (if
        there are any); says why and what to do.
    """

    def open_source(own: str) -> Source:
        source = lookup(sources, data.source, "data source")(data, own)
        _check_class_names(data, source)
        return source

    if split in ("train", "validation"):
        train, validation = hold_out(open_source("train"), data.validation_fraction)
        source = train if split == "train" else validation
    else:
        source = open_source(split)
    return Cached(source) if data.cache else source


def _check_class_names(data: Any, source: Source) -> None:
    wanted, own = tuple(getattr(data, "class_names", ())), getattr(source, "class_names", None)
    if wanted and own is not None and wanted != tuple(own):
        raise InputError(
            f"the classes of the data are {', '.join(own)}, but config.data.class_names is "
            f"{', '.join(wanted)}: leave it out, or make them the same, in the same order"
        )
