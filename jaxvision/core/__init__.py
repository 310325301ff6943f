"""Types and checks on which all other packages depend: batches, tasks, options and errors."""

from jaxvision.core.arrays import at_least_float32, check_array
from jaxvision.core.batch import (
    IGNORED,
    KINDS,
    ClassificationBatch,
    DetectionBatch,
    Detections,
    ImageBatch,
    LandmarkBatch,
    RestorationBatch,
    SegmentationBatch,
    annotation,
    annotations_of,
    extent_of,
)
from jaxvision.core.describe import code_of, describe, differences, flat, restore
from jaxvision.core.errors import (
    InputError,
    OptionError,
    check_choice,
    check_divisible,
    check_range,
    listed,
    one_line,
    option_errors,
    reason_of,
    under,
)
from jaxvision.core.inputs import Inputs
from jaxvision.core.iterator import DataIterator
from jaxvision.core.patterns import name_matches, names_matching
from jaxvision.core.registry import close_names, lookup, merge
from jaxvision.core.state import TrainState
from jaxvision.core.task import AXIS, DatasetMetric, Keys, Record, Summary, Task
from jaxvision.core.weighting import Terms, divide, mean_ratio, sum_terms

__all__ = [
    "AXIS",
    "IGNORED",
    "KINDS",
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
    "annotation",
    "annotations_of",
    "at_least_float32",
    "check_array",
    "check_choice",
    "check_divisible",
    "check_range",
    "close_names",
    "code_of",
    "describe",
    "differences",
    "divide",
    "extent_of",
    "flat",
    "listed",
    "lookup",
    "mean_ratio",
    "merge",
    "name_matches",
    "names_matching",
    "one_line",
    "option_errors",
    "reason_of",
    "restore",
    "sum_terms",
    "under",
]
