"""Being asked to stop: by Ctrl-C, or by SIGTERM, which schedulers send before they kill a run."""

import signal
import threading
from types import FrameType

import jax
from jax.experimental import multihost_utils

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Preemption:
    """Notices SIGTERM and Ctrl-C, and lets every process stop after the same step.

    With one process, signal handlers are set inside the `with` block, after its first step: before
    it there is nothing to save, and compiling takes long (in the main thread; elsewhere Python
    allows none). A second Ctrl-C raises KeyboardInterrupt at once. With several processes, JAX's
    own preemption service catches SIGTERM of any of them and has all agree on a step.
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
        self._asked.add(number)

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C asked to stop."""
        return signal.SIGINT in self._asked

    def requested(self, step: int) -> bool:
        """Whether to stop after this step; to be asked after every step, by all processes."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        if not self._previous and threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._ask) for number in _SIGNALS}
        return bool(self._asked)
