"""Layer 0: the contracts that everything else is built on."""

from jaxvision.core.arrays import at_least_float32, check_array
from jaxvision.core.batch import (
    IGNORED,
    ClassificationBatch,
    DetectionBatch,
    Detections,
    ImageBatch,
    LandmarkBatch,
    RestorationBatch,
    SegmentationBatch,
    extent_of,
)
from jaxvision.core.errors import InputError, OptionError, check_divisible, check_range, listed
from jaxvision.core.inputs import Inputs
from jaxvision.core.iterator import DataIterator
from jaxvision.core.patterns import name_matches, names_matching
from jaxvision.core.registry import close_names, find_function, lookup, merge
from jaxvision.core.state import TrainState
from jaxvision.core.task import AXIS, DatasetMetric, Keys, Record, Summary, Task
from jaxvision.core.weighting import Terms, divide, mean_ratio, sum_terms

__all__ = [
    "AXIS",
    "IGNORED",
    "ClassificationBatch",
    "DataIterator",
    "DatasetMetric",
    "DetectionBatch",
    "Detections",
    "ImageBatch",
    "InputError",
    "Inputs",
    "Keys",
    "LandmarkBatch",
    "OptionError",
    "Record",
    "RestorationBatch",
    "SegmentationBatch",
    "Summary",
    "Task",
    "Terms",
    "TrainState",
    "at_least_float32",
    "check_array",
    "check_divisible",
    "check_range",
    "close_names",
    "divide",
    "extent_of",
    "find_function",
    "listed",
    "lookup",
    "mean_ratio",
    "merge",
    "name_matches",
    "names_matching",
    "sum_terms",
]
