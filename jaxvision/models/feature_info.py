"""The channels and strides of the maps that a network returns."""

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.core import InputError


class FeatureInfo(NamedTuple):
    """A map of a network.

    Attributes:
      name: key of the map in what the network returns, such as "c3".
      channels: number of its channels.
      stride: pixels of the image from one cell of the map to the next.
    """

    name: str
    channels: int
    stride: int


def feature_info(
    model: nn.Module, input_size: tuple[int, int, int] = (448, 448, 3)
) -> tuple[FeatureInfo, ...]:
    """Finds the maps [B, H, W, C] of a network by tracing it, without computing it.

    Args:
      model: the network.
      input_size: (height, width, channels) of an image that it takes. The stride of a map is the
        change of the width of the image, when it is doubled, divided by the change of the width of
        the map.
    Returns:
      the maps, by stride and then by name; without maps of a fixed size, which have no stride.
    Raises:
      InputError: the network returns no map, or it does not take images of this size and of twice
        the width.
    """
    height, width, channels = input_size

    def widths(width: int) -> dict[str, tuple[int, int]]:
        """Returns name of a map -> (channels, its width) for an image of this width."""
        images = jax.ShapeDtypeStruct((1, height, width, channels), jnp.float32)
        run = partial(model.init_with_output, train=False)
        outputs, _ = jax.eval_shape(run, jax.random.key(0), images)
        return {name: (x.shape[3], x.shape[2]) for name, x in outputs.items() if x.ndim == 4}

    once = widths(width)
    if not once:
        raise InputError(
            f"{type(model).__name__} returns no map [B, H, W, C]: give a network that returns maps "
            "such as c3"
        )
    twice = widths(2 * width)
    found = [
        FeatureInfo(name, depth, width // (twice[name][1] - cells))
        for name, (depth, cells) in once.items()
        if twice[name][1] > cells
    ]
    return tuple(sorted(found, key=lambda info: (info.stride, info.name)))
