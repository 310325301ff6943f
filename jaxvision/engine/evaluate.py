"""Evaluation over all examples, for any task."""

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxvision.core import AXIS, Task, Terms, TrainState, mean_ratio, sum_terms
from jaxvision.engine.parallel import Parallel
from jaxvision.engine.progress import passing


def _evaluate(task: Task, state: TrainState, batch: Any) -> Terms:
    """One device's part of the evaluation step."""
    batch = jax.vmap(task.prepare)(batch)
    outputs, _ = task.forward(state.variables, batch, keys=None, step=state.step, train=False)
    return jax.lax.psum(sum_terms(jax.vmap(task.metrics)(outputs, batch), batch.mask), AXIS)


def make_evaluate(task: Task, *, parallel: Parallel) -> Callable[[TrainState, Any], Terms]:
    """The evaluation step over all devices.

    Args:
      task: what to evaluate.
      parallel: the devices.
    Returns:
      (state, batch) -> name -> (total, weight), of the global batch without filler: the task's
      metrics.
    """
    return parallel.map(partial(_evaluate, task))


def measured(task: Task, like: TrainState, batch: Any) -> list[str]:
    """Names of what an evaluation measures, found without computing it.

    Args:
      task: what is evaluated.
      like: from `abstract_state`.
      batch: any host batch.
    """
    one_device = jax.vmap(partial(_evaluate, task), in_axes=(None, 0), axis_name=AXIS)
    return list(jax.eval_shape(one_device, like, jax.tree.map(lambda x: x[None], batch)))


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
      name -> total / weight, added up in float64; of vectors the mean, see `mean_ratio`.
    """
    sums: dict[str, np.ndarray] = {}
    waiting: deque[Any] = deque()

    def collect() -> None:
        for name, pair in jax.device_get(waiting.popleft()).items():
            sums[name] = sums.get(name, 0) + np.array(pair, np.float64)

    for batch in passing(data, label, visible=jax.process_index() == 0):
        waiting.append(step(state, parallel.shard(batch)))
        if len(waiting) > 2:  # one is computed while the next is read
            collect()
    while waiting:
        collect()
    return {name: float(mean_ratio(total, weight)) for name, (total, weight) in sums.items()}
