"""Evaluation over all examples, for any task."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision.core import AXIS, InputError, Summary, Task, Terms, mean_ratio, merge, sum_terms
from jaxvision.engine.parallel import Mapped, Parallel
from jaxvision.engine.progress import log as show
from jaxvision.engine.progress import progress_bar


class Evaluation(NamedTuple):
    """What an evaluation found.

    Attributes:
      metrics: name -> number: the task's metrics, and the numbers of its metric over all examples.
      tables: name -> array, of the metric over all examples; {} without one.
      collected: what the task's `dataset_metric.collect` gave, or `reduce` made of it, each array
        with a leading axis over all examples, on the host and the same in every process, in the
        order of the data: of the records, if the data say by `order` which record each example is.
        None without such a metric.
    """

    metrics: dict[str, float]
    tables: dict[str, np.ndarray]
    collected: Any


def _evaluate(task: Task, variables: Any, batch: Any) -> tuple[Terms, Any]:
    """One device's part of the evaluation step: sums over all devices, and (mask, collected) of
    the examples of all."""
    batch = jax.vmap(task.prepare)(batch)
    outputs, _ = task.forward(variables, batch, keys=None, step=None, train=False)
    terms = jax.lax.psum(sum_terms(jax.vmap(task.metrics)(outputs, batch), batch.mask), AXIS)
    if task.dataset_metric is None:
        return terms, None
    collected = batch.mask, jax.vmap(task.dataset_metric.collect)(outputs, batch)
    return terms, jax.tree.map(lambda x: jax.lax.all_gather(x, AXIS, tiled=True), collected)


def check_targets(task: Task, data: Any) -> None:
    """Raises InputError if the task needs the records of the data and cannot use what is there."""
    metric = task.dataset_metric
    if metric is None or not metric.needs_records:
        return
    if not callable(getattr(data, "targets", None)):
        names = ", ".join(metric.names)
        raise InputError(
            f"the task measures {names} over all examples, for which it needs their records: give "
            "data with a method targets(), as jaxvision.data.EvalLoader has"
        )
    if metric.check is not None:
        metric.check(data.targets())


def metric_names(task: Task, variables: Any, batch: Any) -> list[str]:
    """Names of what an evaluation measures, found without computing it.

    Args:
      task: what is evaluated.
      variables: of the network, or their shapes and dtypes.
      batch: any host batch.
    Raises:
      ValueError: a metric and a number of the metric over all examples have the same name.
    """
    one_device = jax.vmap(partial(_evaluate, task), in_axes=(None, 0), axis_name=AXIS)
    batch = jax.tree.map(lambda x: x[None], batch)
    terms, _ = jax.eval_shape(one_device, variables, batch)
    numbers = () if task.dataset_metric is None else task.dataset_metric.names
    return list(merge(dict.fromkeys(terms), dict.fromkeys(numbers)))


def _summary(task: Task, collected: Any, data: Any) -> Summary:
    metric = task.dataset_metric
    if metric is None:
        return Summary({}, {})
    records = data.targets() if metric.needs_records else ()
    counts = {len(x) for x in jax.tree.leaves(collected)}
    if metric.needs_records and counts - {len(records)}:
        raise InputError(
            f"the data gave {min(counts)} examples, and their targets() has {len(records)} "
            "records: give one record an example, in the same order"
        )
    summary = metric.summarize(collected, records)
    missing = set(metric.names) - summary.numbers.keys()
    if missing:
        raise ValueError(
            f"the metric over all examples gave {sorted(summary.numbers)}, without "
            f"{sorted(missing)} of its names"
        )
    return summary


def evaluation_step(task: Task, *, parallel: Parallel) -> Mapped:
    """Makes the evaluation of one batch over all devices.

    Args:
      task: what is evaluated.
      parallel: the devices.
    Returns:
      (variables, batch) -> (name -> (total, weight) of each metric, summed over all devices; (mask,
      collected) of all examples for the metric over all examples, or None).
    """
    return parallel.map(partial(_evaluate, task))


def make_evaluate(
    task: Task, *, parallel: Parallel, log: Callable[[str], None]
) -> Callable[..., Evaluation]:
    """Makes an evaluation that compiles once for each shape, however often it is called.

    Args:
      task: what is evaluated.
      parallel: the devices.
      log: shows a line to the user, for each compilation.
    Returns:
      (variables from `Parallel.replicate`, data, *, label) -> Evaluation.
    """
    step = evaluation_step(task, parallel=parallel).reporting("the evaluation", log)

    def fill(batch: Any) -> Any:
        """The batch with filler at its end, so that the devices of this process divide it."""
        missing = -len(batch.mask) % parallel.local_count
        if not missing:
            return batch
        batch = jax.tree.map(lambda x: np.concatenate([x, x[:1].repeat(missing, 0)]), batch)
        real = np.arange(len(batch.mask)) < len(batch.mask) - missing
        return batch.replace(mask=batch.mask & real)

    def evaluate(
        variables: Mapping[str, Any], data: Iterable[Any], *, label: str | None = None
    ) -> Evaluation:
        check_targets(task, data)
        sums: dict[str, np.ndarray] = {}
        parts: list[Any] = []
        waiting: deque[Any] = deque()

        def take() -> None:
            terms, of_examples = jax.device_get(waiting.popleft())
            for name, pair in terms.items():
                sums[name] = sums.get(name, 0) + np.array(pair, np.float64)
            if of_examples is not None:
                mask, collected = of_examples
                collected = jax.tree.map(lambda x: x[mask], collected)
                reduce = task.dataset_metric.reduce
                parts.append(collected if reduce is None else reduce(collected))

        visible = jax.process_index() == 0
        for batch in progress_bar(data, label or "evaluating", visible=visible):
            waiting.append(step(variables, parallel.shard(fill(batch))))
            if len(waiting) > 2:  # one is computed while the next is read
                take()
        while waiting:
            take()
        means = {name: float(mean_ratio(total, weight)) for name, (total, weight) in sums.items()}
        collected = jax.tree.map(lambda *xs: np.concatenate(xs), *parts) if parts else None
        summary = _summary(task, collected, data)
        if collected is not None and hasattr(data, "order"):
            records = np.argsort(data.order)
            collected = jax.tree.map(lambda x: x[records], collected)
        return Evaluation(merge(means, summary.numbers), summary.tables, collected)

    return evaluate


def evaluate(
    task: Task,
    variables: Mapping[str, Any],
    data: Iterable[Any],
    *,
    parallel: Parallel | None = None,
    label: str | None = None,
) -> Evaluation:
    """Measures a network on all examples of some data.

    Totals and weights of the task's metrics are added up in float64, see
    `jaxvision.core.mean_ratio`. What the task's metric over all examples collects is gathered from
    all devices and processes, without filler, reduced on the host batch by batch if the metric says
    how, and summarized once, with the records of the data.

    Args:
      task: what is evaluated.
      variables: of the network, arrays on the host or on any device.
      data: this process's parts of the batches, numpy arrays with filler masked. If the task has a
        metric over all examples, it has a method `targets` that gives the records of all examples
        in their order, without the images.
      parallel: the devices; None for all devices.
      label: shown while it runs.
    Raises:
      InputError: the task needs the records of the data, and the data have no `targets`, or not as
        many as examples, or the metric over all examples cannot use them.
      ValueError: a metric and a number of the metric over all examples have the same name, or
        that gives other numbers than its names.
    """
    parallel = Parallel() if parallel is None else parallel
    visible = jax.process_index() == 0
    run = make_evaluate(task, parallel=parallel, log=show if visible else lambda line: None)
    return run(parallel.replicate(dict(variables)), data, label=label)
