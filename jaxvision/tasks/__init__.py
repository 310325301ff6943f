"""Floor 5: what binds networks, augmentation, losses and metrics together."""

from collections.abc import Callable
from typing import Any

from jaxvision.core import Task
from jaxvision.tasks.classification import classification
from jaxvision.tasks.detection import detection
from jaxvision.tasks.freezing import with_frozen_statistics
from jaxvision.tasks.landmarks import landmarks
from jaxvision.tasks.restoration import restoration
from jaxvision.tasks.segmentation import segmentation

TASKS: dict[str, Callable[[Any], Task]] = {
    "classification": classification,
    "detection": detection,
    "landmarks": landmarks,
    "restoration": restoration,
    "segmentation": segmentation,
}
"""Name -> (config) -> Task."""

__all__ = [
    "TASKS",
    "classification",
    "detection",
    "landmarks",
    "restoration",
    "segmentation",
    "with_frozen_statistics",
]
