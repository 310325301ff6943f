"""Colour spaces and random changes of colour on the device: pure functions for `jax.vmap`."""

import math
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.augment.move import change_images
from jaxvision.core import at_least_float32, check_array, check_range

E = TypeVar("E")

# ITU-R BT.601: the weights of red and blue in the luminance, and the ranges of the luminance and of
# the colour differences as fractions of 255.
_RED, _BLUE = 0.299, 0.114
_LUMINANCE, _DIFFERENCE = 219 / 255, 224 / 255


@dataclass(frozen=True)
class RandomHsv:
    """Changes hue, saturation and value of the image at random, as Darknet does; see `random_hsv`.

    Attributes:
      hue: the largest shift, in turns: at least 0, at most 1/2.
      saturation: the largest factor of the saturation, at least 1.
      value: the largest factor of the value ("exposure" in Darknet), at least 1.
    """

    hue: float = 0.1
    saturation: float = 1.5
    value: float = 1.5
    partners: ClassVar[int] = 0

    def __post_init__(self) -> None:
        _check_hsv(self.hue, self.saturation, self.value)

    def __call__(self, key: Array, example: E) -> E:
        """Changes only the image, which becomes float32.

        Args:
          key: key[].
          example: a batch struct without its leading axis; its image is RGB.
        """

        def change(image: Array) -> Array:
            return random_hsv(
                key, image, hue=self.hue, saturation=self.saturation, value=self.value
            )

        return change_images(example, change)


def rgb_to_hsv(image: Array) -> Array:
    """Computes hue, saturation and value of each colour.

    With M the largest and m the smallest of R, G, B: V = M, S = (M - m) / M, and H is the position
    on the colour circle: red 0, green 1/3, blue 2/3, and linear in between. H is 0 for grey, and S
    is 0 for black.

    Args:
      image: f32[..., 3], RGB in [0, 1]. For RGB in 0..255, V is in 0..255, H and S in [0, 1].
    Returns:
      f32[..., 3], each in [0, 1]; half precision is computed in float32.
    Source: Smith 1978 ("Color gamut transform pairs"), the hexcone model.
    """
    image = check_array("image", image, ("...", 3))
    red, green, blue = jnp.moveaxis(at_least_float32(image), -1, 0)
    value = jnp.maximum(jnp.maximum(red, green), blue)
    spread = value - jnp.minimum(jnp.minimum(red, green), blue)
    unit = jnp.where(spread > 0, spread, 1)
    sixth = jnp.where(
        value == red,
        (green - blue) / unit,
        jnp.where(value == green, 2 + (blue - red) / unit, 4 + (red - green) / unit),
    )
    hue = jnp.where(sixth < 0, sixth + 6, sixth) / 6
    saturation = spread / jnp.where(value > 0, value, 1)
    return jnp.stack([hue, saturation, value], axis=-1)


def hsv_to_rgb(image: Array) -> Array:
    """Inverts `rgb_to_hsv`, up to rounding.

    With k = (n + 6 H) mod 6, for n = 5, 3, 1: R, G, B = V - V S max(0, min(k, 4 - k, 1)).

    Args:
      image: f32[..., 3], HSV: S and V in [0, 1], H any number of turns. Larger S or V give colours
        outside [0, 1] by the same equation.
    Returns:
      f32[..., 3], RGB in [0, 1]; half precision is computed in float32.
    Source: Smith 1978 ("Color gamut transform pairs"), the hexcone model.
    """
    image = check_array("image", image, ("...", 3))
    hue, saturation, value = jnp.moveaxis(at_least_float32(image), -1, 0)

    def channel(n: int) -> Array:
        k = n + 6 * hue
        k = k - 6 * jnp.floor(k / 6)  # jnp.mod takes five times as long as all the rest
        return value - value * saturation * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)

    return jnp.stack([channel(n) for n in (5, 3, 1)], axis=-1)


def rgb_to_grey(image: Array) -> Array:
    """Computes the grey value of each colour: 0.299 R + 0.587 G + 0.114 B.

    Args:
      image: uint8 or float [..., 3], RGB.
    Returns:
      f32[..., 1], in the image's units, not rounded; half precision is computed in float32.
    Source: Recommendation ITU-R BT.601-7, section 2.5.1.
    """
    image = check_array("image", image, ("...", 3), "number")
    return _light(*jnp.moveaxis(at_least_float32(image), -1, 0))[..., None]


def _light(red: Array, green: Array, blue: Array) -> Array:
    return _RED * red + (1 - _RED - _BLUE) * green + _BLUE * blue


def rgb_to_ycbcr(image: Array) -> Array:
    """Computes luminance and colour differences, as MATLAB's rgb2ycbcr does for 8-bit images.

    With L = 0.299 R + 0.587 G + 0.114 B: Y = 16 + 219/255 L,
    Cb = 128 + 224/255 (B - L) / (2 (1 - 0.114)), Cr = 128 + 224/255 (R - L) / (2 (1 - 0.299)).
    MATLAB rounds 8-bit images afterwards; this function does not round.

    Args:
      image: uint8 or float [..., 3], RGB in 0..255.
    Returns:
      f32[..., 3], Y in 16..235, Cb and Cr in 16..240; half precision is computed in float32.
    Source: Recommendation ITU-R BT.601-7, section 2.5.
    """
    image = check_array("image", image, ("...", 3), "number")
    red, green, blue = jnp.moveaxis(at_least_float32(image), -1, 0)
    light = _light(red, green, blue)
    y = 16 + _LUMINANCE * light
    cb = 128 + _DIFFERENCE / (2 - 2 * _BLUE) * (blue - light)
    cr = 128 + _DIFFERENCE / (2 - 2 * _RED) * (red - light)
    return jnp.stack([y, cb, cr], axis=-1)


def ycbcr_to_rgb(image: Array) -> Array:
    """Inverts `rgb_to_ycbcr`, up to rounding.

    Args:
      image: uint8 or float [..., 3]: Y, Cb and Cr as from `rgb_to_ycbcr`.
    Returns:
      f32[..., 3], RGB in 0..255, not clipped: some values of YCbCr lie outside the range of RGB.
      Half precision is computed in float32.
    Source: Recommendation ITU-R BT.601-7, section 2.5.
    """
    image = check_array("image", image, ("...", 3), "number")
    y, cb, cr = jnp.moveaxis(at_least_float32(image), -1, 0)
    light = (y - 16) / _LUMINANCE
    blue = light + (2 - 2 * _BLUE) / _DIFFERENCE * (cb - 128)
    red = light + (2 - 2 * _RED) / _DIFFERENCE * (cr - 128)
    green = (light - _RED * red - _BLUE * blue) / (1 - _RED - _BLUE)
    return jnp.stack([red, green, blue], axis=-1)


def random_hsv(
    key: Array,
    image: Array,
    *,
    hue: float = 0.1,
    saturation: float = 1.5,
    value: float = 1.5,
) -> Array:
    """Shifts the hue and multiplies saturation and value at random, as Darknet does.

    The whole image has the same shift and factors. The hue's shift is uniform in [-hue, hue] of the
    circle; a factor is uniform in [1, limit] or, with probability 1/2, the inverse of such a
    number. Only the final result is clipped to 0..255.

    Args:
      key: key[].
      image: uint8 or float [H, W, 3], RGB in 0..255.
      hue: the largest shift, in turns: at least 0, at most 1/2.
      saturation: the largest factor of the saturation, at least 1.
      value: the largest factor of the value ("exposure" in Darknet), at least 1.
    Returns:
      f32[H, W, 3], in 0..255.
    Raises:
      InputError: a limit is out of range.
    Source: Redmon et al. 2016 ("You only look once"), section 2.2; Darknet's `hue`, `saturation`
      and `exposure`.
    """
    image = check_array("image", image, ("H", "W", 3), "number")
    _check_hsv(hue, saturation, value)
    hue_key, *factor_keys = jax.random.split(key, 3)
    shift = jax.random.uniform(hue_key, minval=-hue, maxval=hue)
    factors = [
        _factor(key, limit) for key, limit in zip(factor_keys, (saturation, value), strict=True)
    ]
    h, s, v = jnp.moveaxis(rgb_to_hsv(image.astype(jnp.float32)), -1, 0)
    changed = jnp.stack([h + shift, s * factors[0], v * factors[1]], axis=-1)
    return jnp.clip(hsv_to_rgb(changed), 0, 255)


def _check_hsv(hue: float, saturation: float, value: float) -> None:
    check_range("hue", hue, least=0, most=0.5)
    check_range("saturation", saturation, least=1, less_than=math.inf)
    check_range("value", value, least=1, less_than=math.inf)


def _factor(key: Array, limit: float) -> Array:
    size, side = jax.random.split(key)
    factor = jax.random.uniform(size, minval=1, maxval=limit)
    return jnp.where(jax.random.bernoulli(side), factor, 1 / factor)
