"""Tasks of which a part does not change in training."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.traverse_util
import jax

from jaxvision.core import Task, names_matching
from jaxvision.layers import frozen_statistics

_STATISTICS = "batch_stats"


def with_frozen_statistics(task: Task, patterns: Sequence[str]) -> Task:
    """The task, some batch norms of its network doing in training what they do in evaluation.

    Args:
      task: the task.
      patterns: of the names of their statistics ("bn1/mean") or of the norms, see
        `jaxvision.core.patterns`; () for none.
    Raises:
      InputError: a pattern matches no batch norm of the network.
    """
    if not patterns:
        return task
    statistics = jax.eval_shape(task.init, jax.random.key(0)).get(_STATISTICS, {})
    names = flax.traverse_util.flatten_dict(statistics, sep="/")
    matching = names_matching(names, patterns, what="config.freeze_statistics")
    norms = {name.rpartition("/")[0] for name in matching}

    def forward(*args: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        with frozen_statistics(norms):
            return task.forward(*args, **kwargs)

    return dataclasses.replace(task, forward=forward)
