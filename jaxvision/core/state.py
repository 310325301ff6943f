"""The state of a training run that changes from step to step."""

from typing import Any

import flax.struct
from jax import Array


@flax.struct.dataclass
class TrainState:
    """The state of a training run, except for the position in the data.

    Attributes:
      step: i32[], number of updates so far.
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
        """The variables for training, as `flax.linen.Module.apply` takes them."""
        return {"params": self.params, **self.statistics}

    @property
    def eval_variables(self) -> dict[str, Any]:
        """The variables for evaluation and prediction: the EMA of the weights, if there is one."""
        return self.variables if self.ema is None else self.ema
