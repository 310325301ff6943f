"""The smallest task: one number and batches of numbers, which compile in no time."""

import flax.struct
import jax
import jax.numpy as jnp

from jaxvision.core import Task


@flax.struct.dataclass
class WeightedBatch:
    total: jax.Array
    weight: jax.Array
    mask: jax.Array


def sized_task():
    """One number, drawn to the mean of whatever a batch holds."""
    return Task(
        init=lambda key: {"params": {"x": jnp.zeros(())}},
        augment=lambda key, example: example,
        prepare=lambda example: example,
        forward=lambda variables, batch, **_: (batch.total.mean(1) - variables["params"]["x"], {}),
        loss=lambda outputs, example, **_: {"square": (outputs**2, example.weight)},
        metrics=lambda outputs, example: {},
        decode=lambda outputs, example: outputs,
    )
