"""What a run writes about its steps: metrics.jsonl, TensorBoard events and the progress shown.

Metrics are fetched from the devices a few steps late, so that training never waits for them. Each
line has a figure `data_wait` besides: the share, in 0..1, of the time since the line before that
the training waited for data.
"""

import contextlib
import json
import logging
import math
import os
import pathlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from jaxvision.core.files import parse_json, replace_text, writing
from jaxvision.engine.errors import NonFiniteError
from jaxvision.engine.prefetch import Waiting
from jaxvision.engine.progress import Moment, Progress, format_values

warnings = logging.getLogger(__name__)

METRICS = "metrics.jsonl"
BOARD = "tensorboard"
DATA_WAIT = "data_wait"
"""Name of the share of the time that the training waited for data."""


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
    """Reads the lines of a metrics file.

    A last line that was cut short is left out; any other that cannot be read is left out with a
    warning.
    """
    if not path.exists():
        return []
    lines, texts = [], path.read_text(errors="replace").splitlines()
    for number, text in enumerate(texts, start=1):
        try:
            lines.append(parse_json(text))
        except ValueError:
            if number < len(texts):
                warnings.warning("%s, line %d is damaged and left out", path, number)
    return lines


class _Board:
    """Writes TensorBoard events, in this thread: a full disk is an error here.

    Args:
      folder: of the events.
      start: events of earlier runs that come after this step are hidden.
    """

    def __init__(self, folder: pathlib.Path, *, start: int):
        folder.mkdir(exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"))
        self._add(start + 1, session_log=SessionLog(status=SessionLog.START))
        self.flush, self.close = self._writer.flush, self._writer.close

    def _add(self, step: int, **content: Any) -> None:
        self._writer.write_event(Event(wall_time=time.time(), step=step, **content))

    def add(self, step: int, values: dict[str, float]) -> None:
        """Writes the figures of a step."""
        for name, value in values.items():
            self._add(step, summary=scalar(name, value))


class _Pending(NamedTuple):
    """A step that is not written yet.

    Attributes:
      step: its number.
      record: still on the devices.
      moment: at which the step was begun.
      wait: share of the time since the step before that the training waited for data.
    """

    step: int
    record: dict[str, jax.Array]
    moment: Moment
    wait: float


class Journal:
    """Writes what each step gave, each step once; a context manager.

    Args:
      workdir: the run's folder; None writes no file.
      start: the step that the run starts after; what was written of later ones is dropped.
      steps: of the whole run.
      batch_size: images a step.
      shown: names of the figures in the progress.
      log_every: steps between two plain lines.
      log: shows a line to the user.
      visible: whether this process shows the progress; it is the first one that does.
      last_good: gives the last checkpoint, to name it in an error.
      waiting: how long the training waited for data; None: it did not.
      delay: steps after which metrics are fetched.
    """

    def __init__(
        self,
        workdir: pathlib.Path | None,
        *,
        start: int,
        steps: int,
        batch_size: int,
        shown: Sequence[str],
        log_every: int,
        log: Callable[[str], None],
        visible: bool,
        last_good: Callable[[], pathlib.Path | None],
        waiting: Waiting | None = None,
        delay: int = 4,
    ):
        self._shown = shown
        # Files of TensorBoard grow and load slowly; metrics.jsonl has every step.
        self._board_every = max(1, steps // 1000)
        self._last_good, self._delay = last_good, delay
        self._pending: deque[_Pending] = deque()
        self._waiting = Waiting() if waiting is None else waiting
        self._before = self._now()
        self._file = self._board = None
        self._workdir = workdir
        self._progress = Progress(
            start=start,
            steps=steps,
            batch_size=batch_size,
            every=log_every,
            log=log,
            visible=visible,
        )
        if workdir is not None:
            path = workdir / METRICS
            kept = [line for line in read_metrics(path) if line["step"] <= start]
            replace_text(path, "".join(json.dumps(line) + "\n" for line in kept))
            self._file = path.open("a", buffering=1)  # whole lines, at once
            with writing(workdir / BOARD):
                self._board = _Board(workdir / BOARD, start=start)

    def __enter__(self) -> "Journal":
        return self

    def add(self, step: int, record: dict[str, jax.Array]) -> None:
        """Takes the record of a step, still on the devices.

        Raises:
          NonFiniteError: an earlier record holds NaN or infinity.
        """
        before, self._before = self._before, self._now()
        self._pending.append(_Pending(step, record, self._before, self._before.wait_since(before)))
        while len(self._pending) > self._delay:
            self._write(self._pending.popleft(), {})

    def check(self) -> None:
        """Fetches and checks all records, and writes all but the last one.

        Raises:
          NonFiniteError: a record holds NaN or infinity.
        """
        while len(self._pending) > 1:
            self._write(self._pending.popleft(), {})
        if self._pending:
            self._fetch(self._pending[0])

    def flush(self, extra: dict[str, float]) -> None:
        """Writes everything to disk; the figures of an evaluation go into the last step's line."""
        self.check()
        if self._pending:
            self._write(self._pending.popleft(), extra)
        if self._file is not None:
            with writing(self._workdir / METRICS):
                self._file.flush()
                os.fsync(self._file.fileno())
            with writing(self._workdir / BOARD):
                self._board.flush()

    def __exit__(self, *_: object) -> None:
        """Writes what is pending, if it is sound, and closes the files."""
        with contextlib.ExitStack() as closing:
            if self._file is not None:
                for name, file in ((METRICS, self._file), (BOARD, self._board)):
                    closing.enter_context(writing(self._workdir / name))
                    closing.callback(file.close)
            closing.callback(self._progress.close)
            with contextlib.suppress(NonFiniteError):
                self.flush({})

    def _now(self) -> Moment:
        return Moment(time.perf_counter(), self._waiting.seconds)

    def _fetch(self, pending: _Pending) -> dict[str, float]:
        values = {name: float(value) for name, value in jax.device_get(pending.record).items()}
        wrong = {name: value for name, value in values.items() if not math.isfinite(value)}
        if wrong:
            self._pending.clear()
            raise NonFiniteError(pending.step, wrong, self._last_good())
        return values

    def _write(self, pending: _Pending, extra: dict[str, float]) -> None:
        step, values = pending.step, {**self._fetch(pending), **extra}
        shown = {name: values[name] for name in self._shown if name in values}
        self._progress.update(step, shown, pending.moment)
        values[DATA_WAIT] = round(pending.wait, 4)
        if extra:
            self._progress.show(f"step {step} {format_values(extra)}")
        if self._file is not None:
            with writing(self._workdir / METRICS):
                self._file.write(json.dumps({"step": step, **values}) + "\n")
            if extra or step % self._board_every == 0:
                with writing(self._workdir / BOARD):
                    self._board.add(step, values)
