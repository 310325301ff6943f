"""Tasks whose batch norms keep their statistics in training."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.traverse_util
import jax

from jaxvision.core import Task, names_matching
from jaxvision.layers import frozen_statistics

_STATISTICS = "batch_stats"


def with_frozen_statistics(task: Task, patterns: Sequence[str]) -> Task:
    """Makes some batch norms of a task's network do in training what they do in evaluation.

    Args:
      task: the task.
      patterns: of the names of the statistics ("bn1/mean") or of the norms, see
        `jaxvision.core.patterns`; () changes nothing.
    Returns:
      The task with another `forward`.
    Raises:
      OptionError: a pattern matches no batch norm of the network.
    """
    if not patterns:
        return task
    statistics = jax.eval_shape(task.init, jax.random.key(0)).get(_STATISTICS, {})
    names = flax.traverse_util.flatten_dict(statistics, sep="/")
    matching = names_matching(names, patterns, what="freeze_statistics")
    norms = {name.rpartition("/")[0] for name in matching}

    def forward(*args: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        with frozen_statistics(norms):
            return task.forward(*args, **kwargs)

    origin = dict(task.origin)
    if "forward" in origin and origin["forward"][0] is task.forward:
        description = dict(origin["forward"][1])
        description["freeze_statistics"] = [*description.get("freeze_statistics", ()), *patterns]
        origin["forward"] = (forward, description)
    return dataclasses.replace(task, forward=forward, origin=origin)
