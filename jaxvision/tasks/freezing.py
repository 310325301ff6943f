"""Tasks of which a part does not change in training."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.traverse_util
import jax

from jaxvision.core import Task, chosen
from jaxvision.layers import frozen_statistics

_STATISTICS = "batch_stats"


def with_frozen_statistics(task: Task, patterns: Sequence[str]) -> Task:
    """The task, some batch norms of its network doing in training what they do in evaluation.

    Args:
      task: the task.
      patterns: of the norms' names, see `jaxvision.core.patterns`; () for none.
    Raises:
      InputError: a pattern matches no batch norm of the network.
    """
    patterns = tuple(patterns)
    if not patterns:
        return task
    norms = jax.eval_shape(task.init, jax.random.key(0)).get(_STATISTICS, {})
    names = flax.traverse_util.flatten_dict(norms, sep="/")
    chosen(names, patterns, what="config.freeze_statistics")

    def forward(*args: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        with frozen_statistics(patterns):
            return task.forward(*args, **kwargs)

    return dataclasses.replace(task, forward=forward)
