"""A trace of some steps of a training, by JAX's profiler."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxvision.core import OptionError

PROFILE = "profile"
"""Name of the folder of the traces in that of the run."""


def check_profile(profile: Sequence[int] | None, steps: int) -> tuple[int, int] | None:
    """Checks which steps are to be traced.

    Args:
      profile: (the first step, the last one), or None.
      steps: of the whole run.
    Raises:
      OptionError: they are no steps of the run.
    """
    if profile is None:
        return None
    given = tuple(profile) if isinstance(profile, Sequence) else (profile,)
    if len(given) != 2 or not all(isinstance(step, int) for step in given):
        raise OptionError(
            "profile", f"profile is {profile!r}: give the first and the last step, as (10, 12)"
        )
    if not 1 <= given[0] <= given[1] <= steps:
        raise OptionError(
            "profile",
            f"profile is {given}: give steps of 1 to {steps}, the first one not after the last",
        )
    return given


class Profile:
    """Traces some steps; a context manager, which ends the trace.

    The devices are waited for before and after these steps, so that the trace has what belongs to
    them and nothing else.

    Args:
      steps: (the first, the last) one that is traced; None for no trace.
      folder: of the traces.
      start: the step that the run starts after.
      log: shows a line to the user.
    """

    def __init__(
        self,
        steps: tuple[int, int] | None,
        folder: pathlib.Path,
        *,
        start: int,
        log: Callable[[str], None],
    ):
        self._folder, self._log, self._running = folder, log, False
        self._steps = steps
        if steps is not None and start >= steps[1]:
            log(f"profile: the run is after step {start}, so that steps {_shown(steps)} are over")
            self._steps = None
        elif steps is not None:
            self._steps = (max(steps[0], start + 1), steps[1])

    def after(self, step: int, state: Any) -> None:
        """Starts or ends the trace, if that is due.

        Args:
          step: the last step that was begun.
          state: after it, perhaps still being computed.
        """
        if self._steps is None:
            return
        first, last = self._steps
        if step == first - 1:
            jax.block_until_ready(state)
            jax.profiler.start_trace(self._folder)
            self._running = True
        elif self._running and step == last:
            jax.block_until_ready(state)
            self.close()

    def close(self) -> None:
        """Ends the trace, if one is running, and says how to look at it."""
        if not self._running:
            return
        self._running = False
        jax.profiler.stop_trace()
        traces = sorted(self._folder.rglob("*.trace.json.gz"), key=lambda x: x.stat().st_mtime)
        opened = f": open {traces[-1]} at https://ui.perfetto.dev" if traces else ""
        self._log(
            f"wrote the trace of steps {_shown(self._steps)} to {self._folder}{opened}, or install "
            f"xprof and run `xprof --logdir {self._folder}`"
        )

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _shown(steps: tuple[int, int]) -> str:
    return f"{steps[0]} to {steps[1]}"
