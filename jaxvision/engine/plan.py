"""When a training evaluates, saves and ends."""

from dataclasses import dataclass

from jaxvision.core import check_range
from jaxvision.engine.history import Best, History


@dataclass(frozen=True)
class Plan:
    """When a training evaluates, saves and ends.

    Attributes:
      steps: updates in all.
      eval_every: steps between evaluations; each one is followed by a checkpoint.
      checkpoint_every: steps between further checkpoints; 0 for none.
      best: when to stop early; None for never.
      patient_until: evaluations up to this step do not end the training.
    """

    steps: int
    eval_every: int
    checkpoint_every: int = 0
    best: Best | None = None
    patient_until: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "eval_every"):
            check_range(name, getattr(self, name), least=1)
        check_range("checkpoint_every", self.checkpoint_every, least=0)

    def evaluates_after(self, step: int) -> bool:
        """Whether an evaluation follows this step."""
        return step % self.eval_every == 0 or step == self.steps

    def saves_after(self, step: int) -> bool:
        """Whether a checkpoint follows this step."""
        also = self.checkpoint_every and step % self.checkpoint_every == 0
        return self.evaluates_after(step) or bool(also)

    def over(self, step: int, history: History) -> bool:
        """Whether the training ends with this step."""
        later = [evaluation for evaluation in history if evaluation["step"] > self.patient_until]
        return step >= self.steps or (self.best is not None and self.best.stalled(later))
