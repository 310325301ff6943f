"""What a person sees of a run, on stderr: a bar in a terminal, plain lines elsewhere."""

import datetime
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from tqdm import tqdm

T = TypeVar("T")


def log(line: Any) -> None:
    """Prints a line for people on stderr, because stdout is for the result; keeps bars whole."""
    tqdm.write(str(line), file=sys.stderr)
    sys.stderr.flush()


def progress_bar(batches: Iterable[T], label: str, *, visible: bool) -> Iterator[T]:
    """Goes through the batches, with a bar in a terminal that disappears at the end."""
    return iter(tqdm(batches, label, leave=False, disable=not (visible and sys.stderr.isatty())))


def format_values(values: dict[str, float]) -> str:
    """Figures on one line."""
    return " ".join(f"{name} {value:.4g}" for name, value in values.items())


class Moment(NamedTuple):
    """A moment of a training.

    Attributes:
      time: of a clock, seconds.
      waited: how long the training waited for data until then, seconds.
    """

    time: float
    waited: float

    def wait_since(self, before: "Moment") -> float:
        """The share of the time since an earlier moment that was spent waiting for data."""
        passed = self.time - before.time
        return min((self.waited - before.waited) / passed, 1.0) if passed > 0 else 0.0


class Progress:
    """Progress of training.

    Args:
      start: steps done before.
      steps: of the whole run.
      batch_size: images a step.
      every: steps between two plain lines.
      log: shows a line.
      visible: whether to show anything; False in all processes but the first.
    """

    def __init__(
        self,
        *,
        start: int,
        steps: int,
        batch_size: int,
        every: int,
        log: Callable[[str], None],
        visible: bool,
    ):
        self._steps, self._batch_size = steps, batch_size
        self._every, self._log, self._visible = every, log, visible
        # (step, time, moment) of the last line, or of the first step: compiling is no part of the
        # speed.
        self._mark: tuple[int, float, Moment] | None = None
        self._bar = None
        if visible and sys.stderr.isatty():
            self._bar = tqdm(
                total=steps,
                initial=start,
                unit="step",
                dynamic_ncols=True,
                bar_format="{l_bar}{bar}| {n}/{total} [{elapsed}, ETA {remaining}{postfix}]",
            )

    def update(self, step: int, values: dict[str, float], moment: Moment) -> None:
        """Shows the figures of a step that is done, and the share of the time spent on waiting.

        Args:
          step: its number.
          values: the figures.
          moment: at which the step was begun, with its batch there.
        """
        now = time.monotonic()
        if self._mark is None:
            self._mark = (step, now, moment)
        last, then, before = self._mark
        speed = (step - last) * self._batch_size / (now - then) if now > then else 0.0
        waited = f"{moment.wait_since(before):.0%} waiting for data"
        line = f"{format_values(values)} {speed:.0f} images/s {waited}"
        due = step % self._every == 0 or step == self._steps
        if self._bar is not None:
            self._bar.set_postfix_str(line, refresh=False)
            self._bar.update(1)
        elif due:
            left = (self._steps - step) * self._batch_size
            eta = datetime.timedelta(seconds=round(left / speed)) if speed else "?"
            self.show(f"step {step}/{self._steps} {line} ETA {eta}")
        if due:
            self._mark = (step, now, moment)

    def show(self, line: str) -> None:
        """Shows a line, if anything is shown."""
        if self._visible:
            self._log(line)

    def close(self) -> None:
        """Leaves the bar as it is."""
        if self._bar is not None:
            self._bar.close()
