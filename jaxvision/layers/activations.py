"""Activations."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.ops.primitives import stored


@jax.custom_jvp
def relu(x: Array) -> Array:
    """Computes max(x, 0), and its gradient from this result.

    Values and derivatives are those of `flax.linen.relu`. The layer after it needs the result for
    the gradient of its weights. On a CPU the derivative of `flax.linen.relu` has x in memory as
    well, or what x is computed from: in the backward pass XLA computes the signs again. A batch
    norm needs its input in any case, but a frozen norm or a bias does not.

    Args:
      x: float[...].
    Returns:
      an array of the shape of x.
    """
    return jnp.maximum(x, 0)


@relu.defjvp
def _relu_jvp(arrays: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (tangent,) = arrays, tangents
    y = stored(relu(x))
    return y, jnp.where(y > 0, tangent, 0)
