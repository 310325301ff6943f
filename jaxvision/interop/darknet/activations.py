"""The activations of Darknet, by their names in a description."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array


def _ramp(x: Array) -> Array:
    return jax.nn.relu(x) + 0.1 * x


def _loggy(x: Array) -> Array:
    return 2 * jax.nn.sigmoid(x) - 1


def _selu(x: Array) -> Array:
    """Computes SELU with Darknet's constants, which have five digits."""
    return 1.0507 * jax.nn.elu(x, alpha=1.6732)


def _plse(x: Array) -> Array:
    """Computes a piecewise linear approximation of the logistic function, in three pieces."""
    middle = 0.125 * x + 0.5
    return jnp.where(x < -4, 0.01 * (x + 4), jnp.where(x > 4, 0.01 * (x - 4) + 1, middle))


def _stair(x: Array) -> Array:
    """Computes a staircase: constant in [2 k, 2 k + 1], rising by 1 in [2 k + 1, 2 k + 2]."""
    below = jnp.floor(x)
    step = jnp.floor(x / 2)
    return jnp.where(below % 2 == 0, step, step + x - below)


def _lhtan(x: Array) -> Array:
    """Computes x in [0, 1], and a line with slope 0.001 outside."""
    return jnp.where(x < 0, 0.001 * x, jnp.where(x > 1, 0.001 * (x - 1) + 1, x))


ACTIVATIONS = {
    "elu": jax.nn.elu,
    "hardtan": jax.nn.hard_tanh,
    "leaky": partial(jax.nn.leaky_relu, negative_slope=0.1),
    "lhtan": _lhtan,
    "linear": lambda x: x,
    "loggy": _loggy,
    "logistic": jax.nn.sigmoid,
    "mish": jax.nn.mish,
    "plse": _plse,
    "ramp": _ramp,
    "relie": partial(jax.nn.leaky_relu, negative_slope=0.01),
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "selu": _selu,
    "stair": _stair,
    "swish": jax.nn.silu,
    "tanh": jnp.tanh,
}
UNSUPPORTED_ACTIVATIONS = (
    "gelu",
    "hard_mish",
    "normalize_channels",
    "normalize_channels_softmax",
    "normalize_channels_softmax_maxval",
)
"""Further ones of AlexeyAB's fork."""
