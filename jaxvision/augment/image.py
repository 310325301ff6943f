"""Augmentation of one image on the device: pure functions of (key, image), to be vmapped.

Images are [H, W, C] in any numeric range; what a function moves in from outside has the value
`fill`.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.ndimage import map_coordinates

from jaxvision.augment.sampling import random_resized_crop_window, resized_crop
from jaxvision.core import check_array


def horizontal_flip(key: Array, image: Array, *, probability: float = 0.5) -> Array:
    """Mirrors left and right with the given probability.

    Args:
      key: key[].
      image: [H, W, C].
      probability: in [0, 1].
    Returns:
      [H, W, C], the image's dtype.
    """
    chex.assert_rank(image, 3)
    return jnp.where(jax.random.bernoulli(key, probability), image[:, ::-1], image)


def random_symmetry(key: Array, image: Array) -> Array:
    """One of the eight turns and mirror images of a square, each as likely.

    Args:
      key: key[].
      image: [S, S, C].
    Returns:
      [S, S, C], the image's dtype.
    Raises:
      AssertionError: the image is no square.
    """
    chex.assert_rank(image, 3)
    chex.assert_equal(image.shape[0], image.shape[1])
    swap, upside_down, mirror = jax.random.bernoulli(key, shape=(3,))
    image = jnp.where(swap, image.swapaxes(0, 1), image)
    image = jnp.where(upside_down, image[::-1], image)
    return jnp.where(mirror, image[:, ::-1], image)


def pad_and_crop(key: Array, image: Array, *, padding: int, fill: float = 0) -> Array:
    """Pads every side, then crops the original size at a random offset.

    Offsets are uniform over all (2 * padding + 1)^2 positions, as in the CIFAR experiments of He et
    al. 2016 (section 4.2; padding 4).

    Args:
      key: key[].
      image: [H, W, C].
      padding: pixels on each side, at least 0.
      fill: value of the padding.
    Returns:
      [H, W, C], the image's dtype.
    """
    chex.assert_rank(image, 3)
    sides = ((padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(image, sides, constant_values=fill)
    y, x = jax.random.randint(key, (2,), 0, 2 * padding + 1)
    return jax.lax.dynamic_slice(padded, (y, x, 0), image.shape)


def random_resized_crop(
    key: Array,
    image: Array,
    *,
    size: tuple[int, int] | None = None,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    method: str = "antialiased",
) -> Array:
    """What a window of a random size, form and place shows of an image, resized.

    Args:
      key: key[].
      image: [H, W, C].
      size: (height, width) of the result; None: the image's.
      scale: the least and the largest share of the image's area, more than 0, at most 1.
      ratio: the least and the largest width over height, more than 0.
      method: as in `resized_crop`.
    Returns:
      [height, width, C]: the image's dtype if nearest, else float32.
    Raises:
      AssertionError: the image has another shape or dtype.
      ValueError: an option out of its range.
    Source: Szegedy et al. 2015 ("Going deeper with convolutions"), section 6; see
      `random_resized_crop_window`.
    """
    sides = check_array("image", image, ("H", "W", "C"), "number").shape[:2]
    size = sides if size is None else size
    window = random_resized_crop_window(key, sides, scale=scale, ratio=ratio)
    if method == "antialiased" and size[0] >= sides[0] and size[1] >= sides[1]:
        method = "bilinear"  # no window shrinks: the same, and on a CPU faster
    return resized_crop(image, window, size=size, method=method)


def rotate(image: Array, angle: Array, *, fill: float = 0) -> Array:
    """Rotates counter-clockwise about the centre, bilinearly.

    Args:
      image: [H, W, C].
      angle: f32[], degrees.
      fill: value outside the image.
    Returns:
      f32[H, W, C].
    """
    chex.assert_rank(image, 3)
    height, width, _ = image.shape
    radians = jnp.deg2rad(angle)
    cos, sin = jnp.cos(radians), jnp.sin(radians)
    y = jnp.arange(height)[:, None] - (height - 1) / 2
    x = jnp.arange(width)[None, :] - (width - 1) / 2
    # Where each pixel of the result comes from; y points down.
    source_y = cos * y + sin * x + (height - 1) / 2
    source_x = cos * x - sin * y + (width - 1) / 2

    def sample(channel: Array) -> Array:
        return map_coordinates(channel, (source_y, source_x), order=1, mode="constant", cval=fill)

    return jax.vmap(sample, in_axes=-1, out_axes=-1)(image.astype(jnp.float32))


def random_rotation(key: Array, image: Array, *, degrees: float, fill: float = 0) -> Array:
    """Rotates by an angle uniform in [-degrees, degrees]; see `rotate`."""
    return rotate(image, jax.random.uniform(key, (), minval=-degrees, maxval=degrees), fill=fill)


def normalize(image: Array, *, mean: tuple[float, ...], std: tuple[float, ...]) -> Array:
    """(image / 255 - mean) / std, channel by channel.

    Args:
      image: [..., C] in 0..255.
      mean: C figures, for values in 0..1.
      std: C figures.
    Returns:
      f32[..., C].
    Raises:
      AssertionError: mean or std has another length than C.
    """
    mean, std = jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32)
    chex.assert_shape([mean, std], image.shape[-1:])
    channels = (1,) * (image.ndim - 1) + (-1,)
    return (image.astype(jnp.float32) / 255 - mean.reshape(channels)) / std.reshape(channels)
