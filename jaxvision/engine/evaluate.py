"""Evaluation over all examples, for any task."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from jaxvision.core import AXIS, Task, Terms, TrainState, divide, sum_terms
from jaxvision.engine.parallel import Parallel
from jaxvision.engine.progress import passing


def make_evaluate(task: Task, *, parallel: Parallel) -> Callable[[TrainState, Any], Terms]:
    """The evaluation step over all devices.

    Args:
      task: what to evaluate.
      parallel: the devices.
    Returns:
      (state, batch) -> name -> (total, weight), of the global batch without filler: the task's
      metrics.
    """

    def evaluate(state: TrainState, batch: Any) -> Terms:
        batch = jax.vmap(task.prepare)(batch)
        outputs, _ = task.forward(state.variables, batch, keys=None, step=state.step, train=False)
        return jax.lax.psum(sum_terms(jax.vmap(task.metrics)(outputs, batch), batch.mask), AXIS)

    return parallel.map(evaluate)


def evaluate(
    step: Callable[[TrainState, Any], Any],
    state: TrainState,
    data: Iterable[Any],
    *,
    parallel: Parallel,
    label: str = "evaluating",
) -> dict[str, float]:
    """The metrics over all examples of some data.

    Args:
      step: from `make_evaluate`.
      state: on the devices.
      data: this process's parts of the global batches, filler masked.
      parallel: the devices.
      label: shown while it runs.
    Returns:
      name -> total / weight, added up in float64.
    """
    sums: dict[str, np.ndarray] = {}
    waiting: deque[Any] = deque()

    def collect() -> None:
        for name, pair in jax.device_get(waiting.popleft()).items():
            sums[name] = sums.get(name, np.zeros(2)) + np.array(pair, np.float64)

    for batch in passing(data, label, visible=jax.process_index() == 0):
        waiting.append(step(state, parallel.shard(batch)))
        if len(waiting) > 2:  # one is computed while the next is read
            collect()
    while waiting:
        collect()
    return {name: float(divide(total, weight)) for name, (total, weight) in sums.items()}
