"""What training changes from step to step, and nothing else."""

from typing import Any

import flax.struct
from jax import Array


@flax.struct.dataclass
class TrainState:
    """Everything a run needs to go on, besides its config and the position in the data.

    Attributes:
      step: i32[], updates done so far.
      params: the parameters.
      statistics: the network's other collections, such as {"batch_stats": ...}; often {}.
      opt_state: the optimizer's state.
      average: running means of `variables` over the steps, float32 at least, or None.
    """

    step: Array
    params: Any
    statistics: dict[str, Any]
    opt_state: Any
    average: Any = None

    @property
    def variables(self) -> dict[str, Any]:
        """What `flax.linen.Module.apply` takes, in training."""
        return {"params": self.params, **self.statistics}

    @property
    def averaged(self) -> dict[str, Any]:
        """Likewise, for evaluation and prediction: the running means, if there are any."""
        return self.variables if self.average is None else self.average
