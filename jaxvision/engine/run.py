"""What a run is: where, how long, and when it evaluates, saves and stops."""

import pathlib
from dataclasses import dataclass, field
from typing import Any

from jaxvision.core import check_range
from jaxvision.engine.history import Criterion, History


@dataclass(frozen=True)
class Run:
    """What `fit` is to do.

    Attributes:
      workdir: folder of the run, the same for all processes.
      config: everything that makes the run what it is, as plain JSON; saved and compared.
      steps: updates in all.
      batch_size: of the global batch.
      seed: of the initialisation and of all randomness in training.
      criterion: which evaluation is best, and when to stop early.
      eval_every: steps between evaluations; each one is followed by a checkpoint.
      checkpoint_every: steps between further checkpoints; 0 for none.
      keep: last checkpoints to keep, beside the best.
      log_every: steps between two plain lines of progress.
      defaults: values of keys that a config saved by an older version may lack.
    """

    workdir: pathlib.Path
    config: dict[str, Any]
    steps: int
    batch_size: int
    seed: int
    criterion: Criterion
    eval_every: int
    checkpoint_every: int = 0
    keep: int = 2
    log_every: int = 100
    defaults: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("steps", "eval_every", "log_every"):
            check_range(f"config.{name}", getattr(self, name), least=1)
        # Of two, one may be damaged.
        check_range("config.keep", self.keep, least=2)
        check_range("config.checkpoint_every", self.checkpoint_every, least=0)

    def evaluates_after(self, step: int) -> bool:
        """Whether an evaluation follows this step."""
        return step % self.eval_every == 0 or step == self.steps

    def saves_after(self, step: int) -> bool:
        """Whether a checkpoint follows this step."""
        also = self.checkpoint_every and step % self.checkpoint_every == 0
        return self.evaluates_after(step) or bool(also)

    def over(self, step: int, history: History, *, since: int) -> bool:
        """Whether the run ends with this step; evaluations up to step `since` do not end it."""
        later = [evaluation for evaluation in history if evaluation["step"] > since]
        return step >= self.steps or self.criterion.stalled(later)
