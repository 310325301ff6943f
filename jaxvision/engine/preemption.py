"""Being asked to stop: by Ctrl-C, or by SIGTERM, which schedulers send before they kill a run."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Mapping
from types import FrameType

import jax
from jax.experimental import multihost_utils

Handler = Callable[[int, FrameType | None], None]

_STOPPING = "stopping after this step, and its evaluation if one is due"
_ACKNOWLEDGED = {
    signal.SIGINT: f"{_STOPPING}; Ctrl-C again stops at once",
    signal.SIGTERM: _STOPPING,
}
"""What is said about the first signal of each kind."""


class Preemption:
    """Notices SIGTERM and Ctrl-C, and lets every process stop after the same step.

    Signal handlers are set inside the `with` block, after its first step: before it there is
    nothing to save, and compiling takes long (in the main thread; elsewhere Python allows none).

    With one process, a line on stderr acknowledges the signal, and a second Ctrl-C raises
    KeyboardInterrupt at once. With several processes, JAX's own preemption service catches SIGTERM
    of any of them and has all agree on a step. Ctrl-C does not save there: it raises
    KeyboardInterrupt at once, so that a save that is under way is finished.
    """

    def __init__(self) -> None:
        self._asked: set[int] = set()
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Preemption":
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.interrupted:
            raise KeyboardInterrupt
        if number not in self._asked:
            with contextlib.suppress(OSError):  # nobody reads stderr any more
                os.write(2, f"{_ACKNOWLEDGED[number]}\n".encode())
        self._asked.add(number)

    def _listen(self, handlers: Mapping[int, Handler]) -> None:
        """Sets signal handlers, unless some are set."""
        if not self._previous and threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, x) for number, x in handlers.items()}

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C asked to stop."""
        return signal.SIGINT in self._asked

    def requested(self, step: int) -> bool:
        """Whether to stop after this step; to be asked after every step, by all processes."""
        if jax.process_count() > 1:
            self._listen({signal.SIGINT: signal.default_int_handler})
            return multihost_utils.reached_preemption_sync_point(step)
        self._listen(dict.fromkeys(_ACKNOWLEDGED, self._ask))
        return bool(self._asked)
