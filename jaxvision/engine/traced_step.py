"""A digest of the training step, which sees what no name can."""

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxvision.core import AXIS, Task, TrainState
from jaxvision.engine.phases import Phase, Stage
from jaxvision.engine.update import device_update


def step_digest(
    task: Task,
    optimizer: optax.GradientTransformation | Phase,
    state: TrainState,
    batch: Any,
    *,
    ema_decay: float = 0.0,
    start: int = 0,
    accumulate: int = 1,
) -> str:
    """sha256 of the traced training step.

    It depends on all that the step computes, as a learning rate inside an optimizer or a function
    that a loss calls, and neither on the seed nor on the number of devices. It is comparable
    between processes that have the same versions of jax and jaxvision.

    Args:
      task: what is trained.
      optimizer: one of optax's, or a phase with it.
      state: a state of this training, or its shapes and dtypes, from `abstract_state`.
      batch: a global batch, or its shapes and dtypes.
      ema_decay: as in `make_update`.
      start: as in `make_update`.
      accumulate: as in `make_update`.
    """
    phase = optimizer if isinstance(optimizer, Phase) else Phase(optimizer)
    stage = Stage(phase, start)
    update = device_update(task, stage, ema_decay=ema_decay, accumulate=accumulate)
    state, batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(jnp.shape(x), x.dtype), (state, batch)
    )
    seed = jax.ShapeDtypeStruct((), jnp.uint32)
    traced = jax.make_jaxpr(update, axis_env=[(AXIS, 1)])(state, batch, seed)
    digest = hashlib.sha256(re.sub(r"0x[0-9a-f]+", "0x", str(traced.jaxpr)).encode())
    for constant in _constants(traced):
        x = np.asarray(
            jax.random.key_data(constant)
            if jnp.issubdtype(jnp.result_type(constant), jax.dtypes.prng_key)
            else constant
        )
        digest.update(f"{x.dtype.name}\0{x.shape}\0".encode())
        digest.update(np.ascontiguousarray(x).tobytes())
    return digest.hexdigest()


def global_shapes(batch: Any, processes: int) -> Any:
    """Shapes and dtypes of the global batch of which a host batch is one process's part."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((processes * x.shape[0], *x.shape[1:]), x.dtype), batch
    )


def _constants(value: Any) -> Iterator[Any]:
    """The constants of a jaxpr and of all jaxprs in its operations, in their order."""
    if isinstance(value, tuple | list):
        for part in value:
            yield from _constants(part)
    elif hasattr(value, "eqns"):
        yield from getattr(value, "consts", ())
        for equation in value.eqns:
            for operand in equation.invars:
                literal = getattr(operand, "val", None)
                if np.ndim(literal) if literal is not None else False:
                    yield literal
            for name in sorted(equation.params):
                yield from _constants(equation.params[name])
