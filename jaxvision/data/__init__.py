"""Floor 2: from files to padded batches of numpy arrays."""

from jaxvision.data.annotated import (
    AnnotatedImages,
    Annotation,
    Listing,
    Problem,
    find_problems,
    sort_out,
    to_run_lengths,
)
from jaxvision.data.classification import ToClassificationExample
from jaxvision.data.coco import COCO_CLASSES, read_coco
from jaxvision.data.detection import ToDetectionExample
from jaxvision.data.folders import FORMS, find_form, list_folder, open_folder
from jaxvision.data.loader import (
    Alternating,
    EvalLoader,
    Reading,
    Share,
    TrainLoader,
    Transform,
)
from jaxvision.data.placement import Placement, place, to_input, to_original
from jaxvision.data.scenes import open_scenes
from jaxvision.data.source import Cached, Source, Subset, hold_out
from jaxvision.data.splits import (
    CLASSIFICATION_SOURCES,
    DETECTION_SOURCES,
    Sources,
    open_split,
)
from jaxvision.data.voc import VOC_CLASSES, read_voc
from jaxvision.data.yolo_txt import read_yolo

__all__ = [
    "CLASSIFICATION_SOURCES",
    "COCO_CLASSES",
    "DETECTION_SOURCES",
    "FORMS",
    "VOC_CLASSES",
    "Alternating",
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
    "Sources",
    "Subset",
    "ToClassificationExample",
    "ToDetectionExample",
    "TrainLoader",
    "Transform",
    "find_form",
    "find_problems",
    "hold_out",
    "list_folder",
    "open_folder",
    "open_scenes",
    "open_split",
    "place",
    "read_coco",
    "read_voc",
    "read_yolo",
    "sort_out",
    "to_input",
    "to_original",
    "to_run_lengths",
]
