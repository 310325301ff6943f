"""What a person sees of a run, on stderr: a bar in a terminal, plain lines elsewhere."""

import datetime
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")


def format_values(values: dict[str, float]) -> str:
    """Figures on one line."""
    return " ".join(f"{name} {value:.4g}" for name, value in values.items())


class Progress:
    """Progress of training.

    Args:
      start: steps done before.
      steps: of the whole run.
      batch_size: images a step.
      every: steps between two plain lines.
      visible: whether to show anything; False in all processes but the first.
    """

    def __init__(self, *, start: int, steps: int, batch_size: int, every: int, visible: bool):
        self._start, self._steps, self._batch_size = start, steps, batch_size
        self._every, self._visible = every, visible
        self._began = time.monotonic()
        self._bar = None
        if visible and sys.stderr.isatty():
            self._bar = tqdm(total=steps, initial=start, unit="step", dynamic_ncols=True)

    def update(self, step: int, values: dict[str, float]) -> None:
        """Shows the figures of a step that is done."""
        if self._bar is not None:
            self._bar.set_postfix_str(
                f"{format_values(values)} {self._rate(step):.0f} images/s", False
            )
            self._bar.update(1)
        elif self._visible and (step % self._every == 0 or step == self._steps):
            seconds = (self._steps - step) * self._batch_size / self._rate(step)
            eta = datetime.timedelta(seconds=round(seconds))
            self.say(
                f"step {step}/{self._steps} {format_values(values)} "
                f"{self._rate(step):.0f} images/s ETA {eta}"
            )

    def say(self, line: str) -> None:
        """Prints a line without tearing the bar."""
        if self._visible:
            tqdm.write(line, file=sys.stderr)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _rate(self, step: int) -> float:
        elapsed = max(time.monotonic() - self._began, 1e-9)
        return (step - self._start) * self._batch_size / elapsed


def passing(batches: Iterable[T], label: str, *, visible: bool) -> Iterator[T]:
    """The batches, with a passing bar in a terminal."""
    return iter(tqdm(batches, label, leave=False, disable=not (visible and sys.stderr.isatty())))


def say(line: Any) -> None:
    """Prints a line for people: on stderr, because stdout is for the result."""
    print(line, file=sys.stderr, flush=True)
