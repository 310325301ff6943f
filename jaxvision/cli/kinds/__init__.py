"""The kinds of tasks of the command line, one file each."""

from jaxvision.cli.kinds.classification import CLASSIFICATION
from jaxvision.cli.kinds.detection import DETECTION
from jaxvision.cli.kinds.kind import Built, Kind, Result, Shown
from jaxvision.cli.kinds.landmarks import LANDMARKS
from jaxvision.cli.kinds.restoration import RESTORATION
from jaxvision.cli.kinds.segmentation import SEGMENTATION

KINDS: dict[str, Kind] = {
    kind.name: kind for kind in (CLASSIFICATION, DETECTION, LANDMARKS, RESTORATION, SEGMENTATION)
}
"""Name -> what a kind of task brings to the command line."""

__all__ = ["KINDS", "Built", "Kind", "Result", "Shown"]
