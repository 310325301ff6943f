"""What of a network is not trained: statistics of batch norms, first stages of a backbone."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp

from jaxvision.core import OptionError, Task, names_matching
from jaxvision.layers import frozen_statistics
from jaxvision.ops.primitives import dce_jaxpr

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


def frozen_parameters(model: nn.Module, shape: tuple[int, ...], trained: int) -> tuple[str, ...]:
    """Finds the parameters of a network's backbone that come before its last stages.

    The stages end at the maps that the backbone returns (c1, c2, ...): a stage has the parameters
    on which its map depends, and no earlier map. A ResNet has five, the first of which is the stem.

    Args:
      model: a network with a module that returns such maps, as detectors have.
      shape: (H, W, C) of its images.
      trained: number of stages that are trained, the last ones.
    Returns:
      patterns of all parameters of the other stages, see `jaxvision.core.patterns`.
    Raises:
      OptionError: the network has no backbone, or fewer stages.
    """
    stages, names = _stages_of_backbone(model, shape)
    option = "trainable_backbone_layers"
    if not stages:
        raise OptionError(
            option, f"{option}: no module of the model returns maps c1, c2, ...: leave it out"
        )
    if not 0 <= trained <= len(stages):
        raise OptionError(
            option,
            f"{option} is {trained}: the backbone has {len(stages)} stages, so give 0 to "
            f"{len(stages)}",
        )
    frozen = stages[-trained - 1] if trained < len(stages) else frozenset()
    return _as_patterns(frozen, names)


def _stages_of_backbone(
    model: nn.Module, shape: tuple[int, ...]
) -> tuple[list[frozenset[str]], list[str]]:
    """The parameters of each stage with those of the stages before it, and of the whole network."""
    image = jnp.zeros((1, *shape))
    variables = jax.eval_shape(lambda key: model.init(key, image, train=False), jax.random.key(0))

    def maps_of(variables: Any) -> dict[str, Any]:
        found: list[dict[str, Any]] = [{}]

        def keep(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
            result = call(*args, **kwargs)
            if context.method_name == "__call__" and isinstance(result, Mapping):
                found.append({k: x for k, x in result.items() if re.fullmatch(r"c\d+", k)})
            return result

        with nn.intercept_methods(keep):
            model.apply(variables, image, train=False)
        return max(reversed(found), key=len)  # of equal ones the outermost

    program, maps = jax.make_jaxpr(maps_of, return_shape=True)(variables)
    paths = [path for path, _ in jax.tree.leaves_with_path(variables)]
    params = [path[0].key == "params" for path in paths]
    names = [jax.tree_util.keystr(path[1:], simple=True, separator="/") for path in paths]
    order = jax.tree.leaves({name: name for name in maps})
    stages: list[frozenset[str]] = []
    for name in sorted(maps, key=lambda name: int(name[1:])):
        _, needed = dce_jaxpr(program.jaxpr, [output == name for output in order])
        needed = [a and b for a, b in zip(needed, params, strict=True)]
        stages.append(frozenset(compress(names, needed)))
    # What a map has for itself, such as a scale of SSD's, does not come before the next one.
    stages = [stage & stages[-1] for stage in stages]
    return list(dict.fromkeys(stages)), list(compress(names, params))


def _as_patterns(chosen: frozenset[str], names: Sequence[str]) -> tuple[str, ...]:
    """The shortest beginnings of names, up to a "/", that select the chosen ones and no others."""
    others = [name for name in names if name not in chosen]
    patterns: dict[str, None] = {}
    for name in (name for name in names if name in chosen):
        parts = name.split("/")
        for end in range(1, len(parts) + 1):
            beginning = "/".join(parts[:end])
            if not any(f"{other}/".startswith(f"{beginning}/") for other in others):
                patterns[beginning] = None
                break
    return tuple(patterns)
