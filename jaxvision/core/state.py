"""What training changes from step to step, and nothing else."""

from typing import Any

import flax.struct
from jax import Array


@flax.struct.dataclass
class TrainState:
    """Everything that changes in a run, besides the position in the data.

    Attributes:
      step: i32[], updates done so far.
      params: the parameters.
      statistics: the network's other collections, such as {"batch_stats": ...}; often {}.
      opt_state: the optimizer's state.
      ema: the exponential moving average of `variables` over the steps, float32 at least, or None.
    """

    step: Array
    params: Any
    statistics: dict[str, Any]
    opt_state: Any
    ema: Any = None

    @property
    def variables(self) -> dict[str, Any]:
        """The variables in training, as `flax.linen.Module.apply` takes them."""
        return {"params": self.params, **self.statistics}

    @property
    def eval_variables(self) -> dict[str, Any]:
        """The variables for evaluation and prediction: the moving average, if there is one."""
        return self.variables if self.ema is None else self.ema
