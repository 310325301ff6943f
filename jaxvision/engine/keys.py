"""The random keys of a run, all from its seed."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvision.core import AXIS

# Streams of the run's seed: nothing that is drawn in one is drawn in another.
INIT, AUGMENT, FORWARD, LOSS, DEVICE, PERTURB = range(6)


def seed_array(seed: int) -> np.ndarray:
    """The seed as the step takes it: uint32[], the lower 32 bits."""
    return np.array(int(seed) % 2**32, np.uint32)


def stream_key(seed: Array | int, stream: int) -> Array:
    """The key of a stream."""
    return jax.random.fold_in(jax.random.key(seed), stream)


def global_index(local_size: int) -> Array:
    """The index in the global batch of each example of this device's part: i32[local_size]."""
    return jax.lax.axis_index(AXIS) * local_size + jnp.arange(local_size)


def example_keys(key: Array, index: Array) -> Array:
    """A key for each example, by its index in the global batch.

    Args:
      key: key[].
      index: i32[n].
    Returns:
      key[n].
    """
    return jax.vmap(jax.random.fold_in, (None, 0))(key, index)
