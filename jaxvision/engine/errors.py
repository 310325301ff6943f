"""What ends a run: numbers that are not finite, checkpoints that cannot be used."""

import pathlib

from jaxvision.core import InputError


class DamagedError(RuntimeError):
    """There are checkpoints, but none can be used."""


class RenamedError(InputError):
    """A checkpoint is in a folder with the name of another step."""


class NonFiniteError(RuntimeError):
    """A loss, metric, gradient or parameter is NaN or infinite.

    Attributes:
      step: the step after which it was found.
      values: name -> value, of those that are not finite.
      last_good: the last checkpoint before it, or None.
    """

    def __init__(self, step: int, values: dict[str, float], last_good: pathlib.Path | None):
        self.step, self.values, self.last_good = step, values, last_good
        listed = ", ".join(f"{name} = {value}" for name, value in values.items())
        super().__init__(
            f"not finite at step {step}: {listed}; last good checkpoint: {last_good or 'none yet'}"
        )
