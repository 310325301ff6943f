"""Floor 5: what binds networks, augmentation, losses and metrics together."""

from collections.abc import Callable
from typing import Any

from jaxvision.core import Task
from jaxvision.tasks.classification import classification
from jaxvision.tasks.detection import detection

TASKS: dict[str, Callable[[Any], Task]] = {
    "classification": classification,
    "detection": detection,
}
"""Name -> (config) -> Task."""

__all__ = ["TASKS", "classification", "detection"]
