"""Pure functions of one image on the device, for use under `jax.vmap`."""

import chex
import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.ndimage import map_coordinates

from jaxvision.augment.sampling import inside_extent
from jaxvision.core import at_least_float32


def rotation_places(angle: Array, *, size: tuple[int, int], extent: Array | None = None) -> Array:
    """Computes the source of each pixel of an image that is rotated counter-clockwise.

    Args:
      angle: f32[], degrees.
      size: (height, width) of the image.
      extent: i32[2], (height, width) of the image without its padding, about whose centre it is
        rotated; None: there is none.
    Returns:
      f32[H, W, 2], (x, y), positions in the image for `warp`, in pixels from its upper left corner:
      the centre of the first pixel is (1/2, 1/2).
    """
    y, x = _rotation(angle, size, extent)
    return jnp.stack([x + 0.5, y + 0.5], axis=-1)


def _rotation(angle: Array, size: tuple[int, int], extent: Array | None) -> tuple[Array, Array]:
    """Returns the row and the column, f32[H, W], of the source of each pixel of a rotated image."""
    height, width = size if extent is None else extent
    radians = jnp.deg2rad(angle)
    cos, sin = jnp.cos(radians), jnp.sin(radians)
    y = jnp.arange(size[0])[:, None] - (height - 1) / 2
    x = jnp.arange(size[1])[None, :] - (width - 1) / 2
    # In images y points down.
    return cos * y + sin * x + (height - 1) / 2, cos * x - sin * y + (width - 1) / 2


def rotate(image: Array, angle: Array, *, fill: float = 0, extent: Array | None = None) -> Array:
    """Rotates an image counter-clockwise about its centre, with bilinear interpolation.

    Args:
      image: [H, W, C].
      angle: f32[], degrees.
      fill: value of the pixels outside the image.
      extent: i32[2], (height, width) of the image without its padding, which counts as outside the
        image; None: there is none.
    Returns:
      f32[H, W, C].
    """
    chex.assert_rank(image, 3)
    source = _rotation(angle, image.shape[:2], extent)
    if extent is not None:
        image = inside_extent(image, extent, fill=fill)

    def sample(channel: Array) -> Array:
        return map_coordinates(channel, source, order=1, mode="constant", cval=fill)

    return jax.vmap(sample, in_axes=-1, out_axes=-1)(image.astype(jnp.float32))


def normalize(image: Array, *, mean: tuple[float, ...], std: tuple[float, ...]) -> Array:
    """Normalizes an image: (image / 255 - mean) / std, channel by channel.

    Args:
      image: [..., C] in 0..255.
      mean: C numbers, for values in 0..1.
      std: C numbers, for values in 0..1.
    Returns:
      f32[..., C]; float64 of a float64 image.
    """
    image = at_least_float32(image)
    mean, std = jnp.asarray(mean, image.dtype), jnp.asarray(std, image.dtype)
    chex.assert_shape([mean, std], image.shape[-1:])
    channels = (1,) * (image.ndim - 1) + (-1,)
    return (image / 255 - mean.reshape(channels)) / std.reshape(channels)
