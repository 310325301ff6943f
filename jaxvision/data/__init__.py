"""Floor 2: from files to padded batches of numpy arrays."""

from collections.abc import Callable
from typing import Any

from jaxvision.core import lookup
from jaxvision.data.annotated import AnnotatedImages, Annotation, Listing, Problem, find_problems
from jaxvision.data.classification import ToClassificationExample
from jaxvision.data.coco import read_coco
from jaxvision.data.detection import ToDetectionExample
from jaxvision.data.digits import open_digits
from jaxvision.data.idx import open_idx
from jaxvision.data.loader import EvalLoader, Reading, Share, TrainLoader
from jaxvision.data.placement import Placement, place, to_input, to_original
from jaxvision.data.scenes import open_scenes
from jaxvision.data.source import Cached, Source, Subset, hold_out
from jaxvision.data.tfds_source import open_tfds
from jaxvision.data.voc import VOC_CLASSES, read_voc
from jaxvision.data.yolo_txt import read_yolo

SOURCES: dict[str, Callable[[Any, str], Source]] = {
    "digits": open_digits,
    "idx": open_idx,
    "tfds": open_tfds,
}
"""Name -> (config.data, split) -> Source."""


def open_split(data: Any, split: str) -> Source:
    """The records of one split of a config's data.

    Args:
      data: `config.data`; see `jaxvision.cli.config.default_config`.
      split: "train" and "validation" share the source's training split, of which a fixed random
        `data.validation_fraction` is for validation; any other is the source's own.
    Raises:
      InputError: the data cannot be opened; says why and what to do.
    """
    open_source = lookup(SOURCES, data.source, "data source")
    if split in ("train", "validation"):
        train, validation = hold_out(open_source(data, "train"), data.validation_fraction)
        source = train if split == "train" else validation
    else:
        source = open_source(data, split)
    return Cached(source) if data.cache else source


__all__ = [
    "SOURCES",
    "VOC_CLASSES",
    "AnnotatedImages",
    "Annotation",
    "Cached",
    "EvalLoader",
    "Listing",
    "Placement",
    "Problem",
    "Reading",
    "Share",
    "Source",
    "Subset",
    "ToClassificationExample",
    "ToDetectionExample",
    "TrainLoader",
    "find_problems",
    "hold_out",
    "open_scenes",
    "open_split",
    "place",
    "read_coco",
    "read_voc",
    "read_yolo",
    "to_input",
    "to_original",
]
