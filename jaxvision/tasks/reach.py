"""How far a restored pixel looks: the radius of the receptive field, with the degradation's."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from jaxvision.tasks.degradations import Degradation

_ROUNDING = 1e-6
"""Share of the largest change that is taken for rounding, where there are no CPUs."""


def reach_of(model: nn.Module, degradation: Degradation, *, channels: int, side: int) -> int:
    """Computes on how many pixels to each side a restored pixel depends at most.

    A square of factor x factor pixels in the middle of an image is changed, and the restored pixels
    that change with it are looked at, by a directional derivative of the network. All of its
    weights are positive there, so that no two paths cancel and no ReLU blocks one.

    Args:
      model: a network that gives "image".
      degradation: of its images.
      channels: of the images.
      side: of the square image, pixels.
    Returns:
      pixels; `side` if the change reaches the border of the result, as it always does where a
      network looks at the whole image.
    """
    try:
        hash((model, degradation))
    except TypeError:  # a network or a degradation of the user's own
        return _reach(model, degradation, channels, side)
    return _cached(model, degradation, channels, side)


def _reach(model: nn.Module, degradation: Degradation, channels: int, side: int) -> int:
    # Only on CPUs what is not reached is exactly 0: some convolutions of GPUs leave rounding there.
    try:
        device, rounding = jax.local_devices(backend="cpu")[0], 0.0
    except RuntimeError:  # JAX_PLATFORMS leaves them out
        device, rounding = None, _ROUNDING
    with jax.default_device(device):
        changes = np.asarray(_changes(model, degradation, channels, side))
    largest = np.max(changes, where=np.isfinite(changes), initial=0)
    changed = ~(changes <= rounding * largest)  # NaN counts as changed
    first, factor = _middle(side, degradation.factor), degradation.factor
    reach = 0
    for axis in range(2):
        places = np.flatnonzero(changed.any(axis=axis))
        if not len(places):
            return 0
        if places[0] == 0 or places[-1] == len(changed) - 1:
            return side
        places = places + (side - len(changed)) // 2
        reach = max(reach, first + factor - 1 - places[0], places[-1] - first)
    return int(reach)


_cached = functools.lru_cache(_reach)


def _middle(side: int, factor: int) -> int:
    """Where the changed pixels begin, on the grid of the degradation."""
    return side // 2 // factor * factor


def _changes(model: nn.Module, degradation: Degradation, channels: int, side: int) -> Array:
    """Returns f32[h, w], how much the restored pixels change with the middle of the image."""
    factor, first = degradation.factor, _middle(side, degradation.factor)
    square = slice(first, first + factor)
    image = np.full((side, side, channels), 127.5, np.float32)
    other = image.copy()
    # By different numbers, as the weights of a cubic kernel may add up to 0.
    numbers = np.linspace(50, 100, factor**2 * channels)
    other[square, square] += numbers.reshape(factor, factor, channels)
    degraded = jax.jit(functools.partial(degradation, jax.random.key(0)))
    small, changed = degraded(image), degraded(other)  # a rounded image has no derivative

    @jax.jit
    def change(variables: Any, image: Array, direction: Array) -> Array:
        def restored(image: Array) -> Array:
            return model.apply(variables, image[None], train=False)["image"][0]

        _, changes = jax.jvp(restored, (image,), (direction,))
        return jnp.abs(changes).max(axis=-1)

    shapes = jax.eval_shape(
        lambda image: model.init(jax.random.key(0), image[None], train=False), small
    )
    variables = jax.tree_util.tree_map_with_path(_positive, shapes)
    direction = (np.asarray(small) != np.asarray(changed)).astype(np.float32)
    return change(variables, small / 255, direction)


def _positive(path: Any, leaf: Any) -> np.ndarray:
    """Weights that average; biases and means of 0, scales and variances of 1."""
    if leaf.ndim > 1:
        return np.full(leaf.shape, 1 / np.prod(leaf.shape[:-1]), leaf.dtype)
    at_zero = getattr(path[-1], "key", "") in ("bias", "mean")
    return np.full(leaf.shape, 0 if at_zero else 1, leaf.dtype)
