"""What the evaluations of a run found, and what follows from it."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from jaxvision.core import OptionError, check_range, close_names

History = list[dict[str, Any]]
"""[{"step": int, "metrics": {name: float}}, ...], in the order of the steps."""


@dataclass(frozen=True)
class Best:
    """Which evaluation is best, and when training stops early.

    Attributes:
      metric: name of the metric of the validation data.
      mode: "max" or "min".
      patience: evaluations without a better one after which training stops; 0 for never.
    Raises:
      OptionError: unknown mode, or a negative patience.
    """

    metric: str
    mode: str = "max"
    patience: int = 0

    def __post_init__(self) -> None:
        if self.mode not in ("max", "min"):
            raise OptionError("mode", f"mode is {self.mode!r}: choose max or min")
        check_range("patience", self.patience, least=0)

    def check(self, measured: Collection[str]) -> None:
        """Raises OptionError if the metric is not among the names of what is measured."""
        if self.metric not in measured:
            raise OptionError(
                "metric",
                f"metric is {self.metric!r}, which is not measured: "
                f"{close_names(self.metric, measured)}",
            )

    def ranked(self, history: History) -> list[int]:
        """The evaluated steps, best first; of equal ones the later, which was trained longer."""
        order = sorted(history, key=lambda e: (self._score(e), e["step"]), reverse=True)
        return [evaluation["step"] for evaluation in order]

    def stalled(self, history: History) -> bool:
        """Whether the last `patience` evaluations brought nothing better."""
        if not self.patience or not history:
            return False
        scores = [self._score(evaluation) for evaluation in history]
        return len(scores) - 1 - scores.index(max(scores)) >= self.patience

    def _score(self, evaluation: dict[str, Any]) -> float:
        self.check(evaluation["metrics"])
        value = evaluation["metrics"][self.metric]
        return value if self.mode == "max" else -value


def ranked(best: Best | None, history: History) -> list[int]:
    """The evaluated steps, best first; [] without a rule, for then the last step is the best."""
    return best.ranked(history) if best is not None else []
