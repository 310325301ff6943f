"""Floor 2: from files to padded batches of numpy arrays.

What needs Grain or TFDS is imported when it is first asked for: all else here runs without them.
"""

import importlib
from typing import Any

from jaxvision.core import close_names
from jaxvision.data.sources.annotated import (
    AnnotatedImages,
    Annotation,
    Listing,
    Problem,
    find_problems,
    sort_out,
    to_run_lengths,
)
from jaxvision.data.sources.coco import COCO_CLASSES, read_coco
from jaxvision.data.sources.folders import FORMS, find_form, list_folder, open_folder
from jaxvision.data.sources.images import IMAGE_SUFFIXES, ImageError, image_size, read_image
from jaxvision.data.sources.source import Cached, Source, Subset, hold_out
from jaxvision.data.sources.voc import VOC_CLASSES, read_voc
from jaxvision.data.sources.yolo_txt import read_yolo
from jaxvision.data.transforms.classification import ToClassificationExample, random_window
from jaxvision.data.transforms.detection import ToDetectionExample
from jaxvision.data.transforms.landmarks import ToLandmarkExample
from jaxvision.data.transforms.placing import place
from jaxvision.data.transforms.restoration import RandomPatches, Tiles, to_restoration_example
from jaxvision.data.transforms.segmentation import ToSegmentationExample
from jaxvision.data.transforms.tiles import cut_tile, tile_origins
from jaxvision.ops.placement import Placement, to_input, to_original

_LATER = {
    "Alternating": "loader",
    "EvalLoader": "loader",
    "Random": "loader",
    "Reading": "loader",
    "Share": "loader",
    "TrainLoader": "loader",
    "Transform": "loader",
    "open_scenes": "scenes",
    "CLASSIFICATION_SOURCES": "splits",
    "DETECTION_SOURCES": "splits",
    "LANDMARK_SOURCES": "splits",
    "RESTORATION_SOURCES": "splits",
    "SEGMENTATION_SOURCES": "splits",
    "Sources": "splits",
    "Splits": "splits",
}
"""Name -> the module here that has it, and imports Grain or TFDS."""

__all__ = [
    "CLASSIFICATION_SOURCES",
    "COCO_CLASSES",
    "DETECTION_SOURCES",
    "FORMS",
    "IMAGE_SUFFIXES",
    "LANDMARK_SOURCES",
    "RESTORATION_SOURCES",
    "SEGMENTATION_SOURCES",
    "VOC_CLASSES",
    "Alternating",
    "AnnotatedImages",
    "Annotation",
    "Cached",
    "EvalLoader",
    "ImageError",
    "Listing",
    "Placement",
    "Problem",
    "Random",
    "RandomPatches",
    "Reading",
    "Share",
    "Source",
    "Sources",
    "Splits",
    "Subset",
    "Tiles",
    "ToClassificationExample",
    "ToDetectionExample",
    "ToLandmarkExample",
    "ToSegmentationExample",
    "TrainLoader",
    "Transform",
    "cut_tile",
    "find_form",
    "find_problems",
    "hold_out",
    "image_size",
    "list_folder",
    "open_folder",
    "open_scenes",
    "place",
    "random_window",
    "read_coco",
    "read_image",
    "read_voc",
    "read_yolo",
    "sort_out",
    "tile_origins",
    "to_input",
    "to_original",
    "to_restoration_example",
    "to_run_lengths",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"{__name__} has no {name!r}: {close_names(name, __all__)}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
