"""Activations."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.ops.primitives import stored


@jax.custom_jvp
def relu(x: Array) -> Array:
    """Computes max(x, 0), and its gradient from this result.

    Values and derivatives are those of `flax.linen.relu`. The layer after it needs the result for
    the gradient of its weights. On CPUs and GPUs the derivative of `flax.linen.relu` has x in
    memory as well, or what x is computed from: in the backward pass XLA computes the signs again. A
    batch norm needs its input in any case, but a frozen norm, a bias or a sum does not.

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


def add_act(x: Array, y: Array, act: Callable[[Array], Array]) -> Array:
    """Computes act(x + y), of a block and its shortcut.

    With `flax.linen.relu` the derivative is that of `relu` above: to compute the signs of a sum
    again, both of its parts would be read.

    Args:
      x: float[...].
      y: float[...], of the same shape.
      act: the activation.
    """
    return relu(x + y) if act is nn.relu else act(x + y)
