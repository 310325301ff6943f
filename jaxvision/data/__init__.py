"""From files to padded batches of numpy arrays, on the host.

`sources` has records, `transforms` makes an example of each, `loading` makes batches of them. What
needs Grain, TFDS or ArrayRecord is imported when it is first asked for: all else here runs without.
"""

import importlib
from typing import TYPE_CHECKING, Any

from jaxvision.core import close_names
from jaxvision.data.loading.options import (
    MultiScale,
    RandomTransform,
    ReadOptions,
    Shard,
    Transform,
)
from jaxvision.data.selective_search import selective_search
from jaxvision.data.sources.annotated import (
    AnnotatedImages,
    Annotation,
    Listing,
    Problem,
    find_problems,
    sort_out,
    to_run_lengths,
)
from jaxvision.data.sources.arrays import Arrays
from jaxvision.data.sources.boxes import box_windows
from jaxvision.data.sources.checks import (
    check_box_counts,
    check_class_count,
    check_class_names,
    check_labels,
)
from jaxvision.data.sources.coco import COCO_CLASSES, read_coco
from jaxvision.data.sources.coco_results import read_coco_results, write_coco_results
from jaxvision.data.sources.folders import (
    FORMS,
    CocoFolder,
    InstanceFolder,
    VocFolder,
    YoloFolder,
    find_form,
    list_folder,
)
from jaxvision.data.sources.idx import Idx
from jaxvision.data.sources.image_folders import ImageFolder, Images
from jaxvision.data.sources.images import IMAGE_SUFFIXES, ImageError, image_size, read_image
from jaxvision.data.sources.instances import read_instances
from jaxvision.data.sources.joint import Joined, LabelsOnly
from jaxvision.data.sources.landmark_folders import LandmarkFolder
from jaxvision.data.sources.mask_folders import MaskFolder, VocMasks, read_mask
from jaxvision.data.sources.npz import Npz
from jaxvision.data.sources.patches import RandomPatches, Tiles
from jaxvision.data.sources.photographs import Photographs
from jaxvision.data.sources.proposals import WithProposals, write_proposals
from jaxvision.data.sources.skeletons import COCO_SKELETON, Skeleton
from jaxvision.data.sources.source import Source
from jaxvision.data.sources.subsets import Cached, Subset, few_of_each, hold_out
from jaxvision.data.sources.tiles import cut_tile, tile_origins
from jaxvision.data.sources.voc import VOC_CLASSES, read_voc
from jaxvision.data.sources.yolo_txt import read_yolo
from jaxvision.data.transforms.classification import ToClassification, random_window
from jaxvision.data.transforms.detection import ToDetection
from jaxvision.data.transforms.landmarks import ToLandmarks
from jaxvision.data.transforms.placing import place, place_image, resize_image
from jaxvision.data.transforms.restoration import ToRestoration
from jaxvision.data.transforms.segmentation import ToSegmentation
from jaxvision.data.video import VIDEO_SUFFIXES, VideoFrame, VideoFrames
from jaxvision.ops.placement import Placement, to_input, to_original

if TYPE_CHECKING:
    from jaxvision.data.caching import write_image_cache
    from jaxvision.data.loading.loader import EvalLoader, TrainLoader
    from jaxvision.data.sources.digits import Digits
    from jaxvision.data.sources.image_cache import ImageCache
    from jaxvision.data.sources.scenes import Scenes
    from jaxvision.data.sources.tfds_source import Tfds

_LATER = {
    "Digits": "sources.digits",
    "EvalLoader": "loading.loader",
    "ImageCache": "sources.image_cache",
    "Scenes": "sources.scenes",
    "Tfds": "sources.tfds_source",
    "TrainLoader": "loading.loader",
    "write_image_cache": "caching",
}
"""Name -> the module here that has it, and imports Grain, TFDS or ArrayRecord."""

__all__ = [
    "COCO_CLASSES",
    "COCO_SKELETON",
    "FORMS",
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "VOC_CLASSES",
    "AnnotatedImages",
    "Annotation",
    "Arrays",
    "Cached",
    "CocoFolder",
    "Digits",
    "EvalLoader",
    "Idx",
    "ImageCache",
    "ImageError",
    "ImageFolder",
    "Images",
    "InstanceFolder",
    "Joined",
    "LabelsOnly",
    "LandmarkFolder",
    "Listing",
    "MaskFolder",
    "MultiScale",
    "Npz",
    "Photographs",
    "Placement",
    "Problem",
    "RandomPatches",
    "RandomTransform",
    "ReadOptions",
    "Scenes",
    "Shard",
    "Skeleton",
    "Source",
    "Subset",
    "Tfds",
    "Tiles",
    "ToClassification",
    "ToDetection",
    "ToLandmarks",
    "ToRestoration",
    "ToSegmentation",
    "TrainLoader",
    "Transform",
    "VideoFrame",
    "VideoFrames",
    "VocFolder",
    "VocMasks",
    "WithProposals",
    "YoloFolder",
    "box_windows",
    "check_box_counts",
    "check_class_count",
    "check_class_names",
    "check_labels",
    "cut_tile",
    "few_of_each",
    "find_form",
    "find_problems",
    "hold_out",
    "image_size",
    "list_folder",
    "place",
    "place_image",
    "random_window",
    "read_coco",
    "read_coco_results",
    "read_image",
    "read_instances",
    "read_mask",
    "read_voc",
    "read_yolo",
    "resize_image",
    "selective_search",
    "sort_out",
    "tile_origins",
    "to_input",
    "to_original",
    "to_run_lengths",
    "write_coco_results",
    "write_image_cache",
    "write_proposals",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"{__name__} has no {name!r}: {close_names(name, __all__)}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
