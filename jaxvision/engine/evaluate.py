"""Evaluation over all examples, for any task."""

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision.core import AXIS, Task, Terms, TrainState, mean_ratio, merge, sum_terms
from jaxvision.engine.parallel import Parallel
from jaxvision.engine.progress import passing


class Evaluation(NamedTuple):
    """What an evaluation found.

    Attributes:
      metrics: name -> number.
      collected: what the task's `collect` gave, each array with a leading axis over all examples in
        the order of the data, on the host and the same in every process; None if it has none.
    """

    metrics: dict[str, float]
    collected: Any


def _evaluate(task: Task, state: TrainState, batch: Any) -> tuple[Terms, Any]:
    """One device's part of the evaluation step: sums over all devices, and (mask, collected) of
    the examples of all."""
    batch = jax.vmap(task.prepare)(batch)
    outputs, _ = task.forward(state.averaged, batch, keys=None, step=state.step, train=False)
    terms = jax.lax.psum(sum_terms(jax.vmap(task.metrics)(outputs, batch), batch.mask), AXIS)
    if task.collect is None:
        return terms, None
    collected = batch.mask, jax.vmap(task.collect)(outputs, batch)
    return terms, jax.tree.map(lambda x: jax.lax.all_gather(x, AXIS, tiled=True), collected)


def _summary(task: Task, collected: Any) -> dict[str, float]:
    return {} if task.summarize is None else task.summarize(collected)


def measured(task: Task, like: TrainState, batch: Any) -> list[str]:
    """Names of what an evaluation measures, found without computing it.

    Args:
      task: what is evaluated.
      like: from `abstract_state`.
      batch: any host batch.
    """
    one_device = jax.vmap(partial(_evaluate, task), in_axes=(None, 0), axis_name=AXIS)
    batch = jax.tree.map(lambda x: x[None], batch)
    terms, of_examples = jax.eval_shape(one_device, like, batch)
    collected = None
    if of_examples is not None:
        collected = jax.tree.map(lambda x: np.zeros((0, *x.shape[2:]), x.dtype), of_examples[1])
    return [*terms, *_summary(task, collected)]


def make_evaluate(task: Task, *, parallel: Parallel) -> Callable[..., Evaluation]:
    """What evaluates a state, compiled once.

    Args:
      task: what to evaluate.
      parallel: the devices.
    Returns:
      (state on the devices, data, *, label) -> Evaluation. The data are this process's parts of the
      global batches, filler masked; the label is shown while it runs. Totals and weights are added
      up in float64, see `mean_ratio`; what the task collects is gathered from all devices and
      processes, without filler, and summarized.
    Raises:
      ValueError: at the end of an evaluation, if a metric and a number of the task's summary have
        the same name.
    """
    step = parallel.map(partial(_evaluate, task))

    def evaluate(
        state: TrainState, data: Iterable[Any], *, label: str = "evaluating"
    ) -> Evaluation:
        sums: dict[str, np.ndarray] = {}
        parts: list[Any] = []
        waiting: deque[Any] = deque()

        def take() -> None:
            terms, of_examples = jax.device_get(waiting.popleft())
            for name, pair in terms.items():
                sums[name] = sums.get(name, 0) + np.array(pair, np.float64)
            if of_examples is not None:
                mask, collected = of_examples
                parts.append(jax.tree.map(lambda x: x[mask], collected))

        for batch in passing(data, label, visible=jax.process_index() == 0):
            waiting.append(step(state, parallel.shard(batch)))
            if len(waiting) > 2:  # one is computed while the next is read
                take()
        while waiting:
            take()
        means = {name: float(mean_ratio(total, weight)) for name, (total, weight) in sums.items()}
        collected = jax.tree.map(lambda *xs: np.concatenate(xs), *parts) if parts else None
        return Evaluation(merge(means, _summary(task, collected)), collected)

    return evaluate
