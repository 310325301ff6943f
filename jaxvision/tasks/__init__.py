"""Floor 5: what binds networks, augmentation, losses and metrics together."""

from collections.abc import Callable
from typing import Any

from jaxvision.core import Task
from jaxvision.tasks.classification import classification

TASKS: dict[str, Callable[[Any], Task]] = {"classification": classification}
"""Name -> (config) -> Task."""

__all__ = ["TASKS", "classification"]
