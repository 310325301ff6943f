"""Being asked to stop: SIGTERM, as schedulers send it before they take a machine away."""

import signal
import threading
from types import FrameType

import jax
from jax.experimental import multihost_utils


class Preemption:
    """Notices SIGTERM, and lets every process stop after the same step.

    With one process a signal handler is set inside the `with` block (in the main thread; elsewhere
    Python allows none). With several, JAX's own preemption service catches the signal of any of
    them and has all agree on a step.
    """

    def __init__(self) -> None:
        self._asked = False

    def __enter__(self) -> "Preemption":
        self._handles = (
            jax.process_count() == 1 and threading.current_thread() is threading.main_thread()
        )
        if self._handles:
            self._previous = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        if self._handles:
            signal.signal(signal.SIGTERM, self._previous)

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        self._asked = True

    def requested(self, step: int) -> bool:
        """Whether to stop after this step; to be asked after every step, by all processes."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._asked
