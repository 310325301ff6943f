"""Functions that change the colours of an image by an amount, as torchvision defines them.

Images are uint8 or float [H, W, C] in 0..255, grey (C = 1) or RGB; results are float32, in 0..255,
and not rounded. torchvision and Pillow return uint8 images for uint8 images and cut fractions off,
so that their results are lower by up to one. The amount may be traced, so its value is not checked.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.augment.color import hsv_to_rgb, rgb_to_grey, rgb_to_hsv
from jaxvision.augment.move import change_images, extent_in
from jaxvision.augment.options import check_limits
from jaxvision.augment.sampling import inside_extent
from jaxvision.core import at_least_float32, check_array, check_range

E = TypeVar("E")


@dataclass(frozen=True)
class ColorJitter:
    """Changes brightness, contrast, saturation and hue of the image at random; see `color_jitter`.

    Attributes:
      brightness: limit of the factor, which is in [max(0, 1 - limit), 1 + limit]; at least 0.
      contrast: as for brightness.
      saturation: as for brightness.
      hue: the largest shift, in turns: at least 0, at most 1/2.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    partners: ClassVar[int] = 0

    def __post_init__(self) -> None:
        _check_limits(self.brightness, self.contrast, self.saturation, self.hue)

    def __call__(self, key: Array, example: E) -> E:
        """Changes only the image, which becomes float32.

        Args:
          key: key[].
          example: a batch struct without its leading axis; its image is grey or RGB.
        """
        extent = extent_in(example)

        def change(image: Array) -> Array:
            return color_jitter(
                key,
                image,
                extent=extent,
                brightness=self.brightness,
                contrast=self.contrast,
                saturation=self.saturation,
                hue=self.hue,
            )

        return change_images(example, change)


@dataclass(frozen=True)
class RandomPhotometricDistort:
    """Changes the colours of the image at random, as SSD does.

    In this order: brightness, contrast, saturation, hue, contrast, and a permutation of the
    channels. Each happens with `probability`; the contrast changes once, either before the
    saturation or after the hue, both equally likely. Factors and the hue's shift are uniform, and
    all permutations are equally likely. Liu et al. 2016 ("SSD"), section 3.6, with the figures of
    torchvision's RandomPhotometricDistort. A grey image changes its brightness and contrast only.

    Attributes:
      brightness: the least and the largest factor of `adjust_brightness`, at least 0.
      contrast: likewise, of `adjust_contrast`.
      saturation: likewise, of `adjust_saturation`.
      hue: the largest shift of `adjust_hue`, in turns: at least 0, at most 1/2.
      probability: probability of each change, in [0, 1].
    """

    brightness: tuple[float, float] = (0.875, 1.125)
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: float = 0.05
    probability: float = 0.5
    partners: ClassVar[int] = 0

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            limits = check_limits(name, getattr(self, name), least=0, less_than=math.inf)
            object.__setattr__(self, name, limits)
        check_range("hue", self.hue, least=0, most=0.5)
        check_range("probability", self.probability, least=0, most=1)

    def __call__(self, key: Array, example: E) -> E:
        """Changes only the image, which becomes float32.

        Args:
          key: key[].
          example: a batch struct without its leading axis; its image is grey or RGB.
        """
        extent = extent_in(example)
        choice_key, place_key, amount_key, channel_key = jax.random.split(key, 4)
        happens = jax.random.bernoulli(choice_key, float(self.probability), (5,))
        before = jax.random.bernoulli(place_key)
        hue = (-self.hue, self.hue)
        least, most = jnp.array([self.brightness, self.contrast, self.saturation, hue]).T
        drawn = jax.random.uniform(amount_key, (4,), minval=least, maxval=most)
        drawn = jnp.where(happens[:4], drawn, jnp.array([1.0, 1.0, 1.0, 0.0]))
        brightness, contrast, saturation, shift = drawn

        def change(image: Array) -> Array:
            image = adjust_brightness(image, brightness)
            image = adjust_contrast(image, jnp.where(before, contrast, 1), extent=extent)
            image = adjust_hue(adjust_saturation(image, saturation), shift)
            image = adjust_contrast(image, jnp.where(before, 1, contrast), extent=extent)
            order = jnp.arange(image.shape[-1])
            drawn_order = jax.random.permutation(channel_key, order)
            return image[..., jnp.where(happens[4], drawn_order, order)]

        return change_images(example, change)


def adjust_brightness(image: Array, factor: Array) -> Array:
    """Changes the brightness: multiplies the image by a factor.

    Args:
      image: uint8 or float [H, W, C], in 0..255.
      factor: f32[], at least 0: 0 gives black, 1 the image, more than 1 a brighter image.
    Returns:
      f32[H, W, C], in 0..255.
    """
    image = _floats(image)
    return _blend(image, _black(image), factor)


def adjust_contrast(image: Array, factor: Array, *, extent: Array | None = None) -> Array:
    """Changes the contrast: multiplies the difference of each colour to the mean grey by a factor.

    Args:
      image: uint8 or float [H, W, C], grey or RGB in 0..255.
      factor: f32[], at least 0: 0 gives a uniform grey, 1 the image.
      extent: i32[2], (height, width) of the image without its padding, which does not count for the
        mean; None: there is none.
    Returns:
      f32[H, W, C], in 0..255. Pillow rounds the grey values and their mean.
    """
    image = _floats(image)
    return _blend(image, _mean_grey(image, extent), factor)


def adjust_saturation(image: Array, factor: Array) -> Array:
    """Changes the saturation: multiplies the difference of each colour to its grey by a factor.

    Args:
      image: uint8 or float [H, W, C], grey or RGB in 0..255. A grey image does not change.
      factor: f32[], at least 0: 0 gives a grey image, 1 the image.
    Returns:
      f32[H, W, C], in 0..255. Grey is computed by `rgb_to_grey`, as in Pillow. The weights of red,
      green and blue in torchvision sum to 0.9999.
    """
    image = _floats(image)
    return _blend(image, _grey(image), factor)


def adjust_sharpness(image: Array, factor: Array) -> Array:
    """Changes the sharpness: multiplies the difference of each pixel to its local mean by a factor.

    The mean is over 3 x 3 pixels, where the middle pixel has weight 5. The outermost pixels do not
    change.

    Args:
      image: uint8 or float [H, W, C], in 0..255.
      factor: f32[], at least 0: 0 gives a smooth image, 1 the image, 2 a sharper image.
    Returns:
      f32[H, W, C], in 0..255.
    """
    image = _floats(image)
    return _blend(image, _smooth(image), factor)


def adjust_hue(image: Array, shift: Array) -> Array:
    """Shifts the hue of each colour.

    Args:
      image: uint8 or float [H, W, C], grey or RGB in 0..255. A grey image does not change.
      shift: f32[], in turns: 1/3 changes red to green; -1/2 and 1/2 are the same.
    Returns:
      f32[H, W, C], in 0..255.
    """
    image = _floats(image)
    shift = check_array("shift", shift, (), "number").astype(image.dtype)
    if image.shape[-1] == 1:
        return image
    hue, saturation, value = jnp.moveaxis(rgb_to_hsv(image), -1, 0)
    return hsv_to_rgb(jnp.stack([hue + shift, saturation, value], axis=-1))


def posterize(image: Array, bits: Array) -> Array:
    """Keeps the highest bits of each value and sets the others to 0.

    Args:
      image: uint8 or float [H, W, C], in 0..255.
      bits: i32[], number of bits to keep, in 0..8. With 8 bits, only fractions are cut off.
    Returns:
      f32[H, W, C]: multiples of 2^(8 - bits).
    """
    image = _floats(image)
    bits = check_array("bits", bits, (), "int").astype(jnp.int32)
    step = jnp.left_shift(1, 8 - bits).astype(image.dtype)
    return jnp.floor(image / step) * step


def solarize(image: Array, threshold: Array) -> Array:
    """Inverts the values of at least a threshold: x becomes 255 - x.

    Args:
      image: uint8 or float [H, W, C], in 0..255.
      threshold: f32[]; 0 inverts all values, more than 255 inverts none.
    Returns:
      f32[H, W, C], in 0..255.
    """
    image = _floats(image)
    threshold = check_array("threshold", threshold, (), "number")
    return jnp.where(image >= threshold, 255 - image, image)


def autocontrast(image: Array) -> Array:
    """Stretches each channel, so that its darkest value becomes 0 and its brightest 255.

    A channel with only one value does not change.

    Args:
      image: uint8 or float [H, W, C], in 0..255.
    Returns:
      f32[H, W, C], in 0..255.
    """
    image = _floats(image)
    least = image.min(axis=(0, 1), keepdims=True)
    spread = image.max(axis=(0, 1), keepdims=True) - least
    stretched = (image - least) * 255 / jnp.where(spread > 0, spread, 1)
    return jnp.where(spread > 0, stretched, image)


def equalize(image: Array) -> Array:
    """Equalizes the histogram of each channel.

    Let c(v) be the number of a channel's pixels below v, m the number of all but its brightest
    pixels, and s = floor(m / 255). Then v becomes min(floor((c(v) + floor(s / 2)) / s), 255). If
    s = 0, as in an image with one value, the channel does not change. Fractions of values are
    ignored.

    Args:
      image: uint8 or float [H, W, C], in 0..255.
    Returns:
      f32[H, W, C], integers, unless the channel does not change. The result equals that of Pillow
      and torchvision.
    """
    image = _floats(image)

    def channel(values: Array) -> Array:
        whole = values.astype(jnp.int32)
        counts = jnp.bincount(whole.reshape(-1), length=256)
        below = jnp.cumsum(counts) - counts
        step = below[whole.max()] // 255
        table = jnp.minimum((below + step // 2) // jnp.maximum(step, 1), 255)
        return jnp.where(step > 0, table[whole].astype(values.dtype), values)

    return jax.vmap(channel, in_axes=-1, out_axes=-1)(image)


def color_jitter(
    key: Array,
    image: Array,
    *,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
    extent: Array | None = None,
) -> Array:
    """Changes brightness, contrast, saturation and hue by random amounts, in a random order.

    Factors are uniform in [max(0, 1 - limit), 1 + limit], the hue's shift is uniform in
    [-hue, hue], and all orders are equally likely.

    Args:
      key: key[].
      image: uint8 or float [H, W, C], grey or RGB in 0..255.
      brightness: limit of the factor of `adjust_brightness`, at least 0.
      contrast: limit of the factor of `adjust_contrast`, at least 0.
      saturation: limit of the factor of `adjust_saturation`, at least 0.
      hue: the largest shift of `adjust_hue`, in turns: at least 0, at most 1/2.
      extent: as for `adjust_contrast`.
    Returns:
      f32[H, W, C], in 0..255.
    Raises:
      InputError: a limit is out of range.
    Source: torchvision's ColorJitter.
    """
    limits = _check_limits(brightness, contrast, saturation, hue)
    image = _floats(image)
    order_key, place_key, hue_key, factor_key = jax.random.split(key, 4)
    changed = {name: limit for name, limit in limits.items() if limit}
    count = len(changed)
    order = jax.random.permutation(order_key, count)
    limit = jnp.array([*changed.values()], image.dtype)
    factors = jax.random.uniform(
        factor_key, (count,), image.dtype, minval=jnp.maximum(1 - limit, 0), maxval=1 + limit
    )
    # `place` is the number of changes before the hue. The hue takes longest, so it is computed only
    # once. The other changes are computed before and after it, with a factor of 1 on the side to
    # which they do not belong.
    place = jax.random.randint(place_key, (), 0, count + 1)

    def change_by_factors(image: Array, active: Array) -> Array:
        for n in range(count):
            factor = jnp.where(active[n], factors[order[n]], 1)
            image = adjust_one(image, order[n], factor, names=tuple(changed), extent=extent)
        return image

    number = jnp.arange(count)
    if not hue:
        return change_by_factors(image, number >= 0)
    shift = jax.random.uniform(hue_key, (), image.dtype, minval=-hue, maxval=hue)
    image = adjust_hue(change_by_factors(image, number < place), shift)
    return change_by_factors(image, number >= place)


def _check_limits(
    brightness: float, contrast: float, saturation: float, hue: float
) -> dict[str, float]:
    """Returns the limits of the factors by name, after a check of their ranges."""
    limits = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    for name, limit in limits.items():
        check_range(name, limit, least=0, less_than=math.inf)
    check_range("hue", hue, least=0, most=0.5)
    return limits


def adjust_one(
    image: Array,
    number: Array,
    factor: Array,
    *,
    names: tuple[str, ...],
    extent: Array | None = None,
) -> Array:
    """Applies one of several changes by a factor, at little more than the cost of one.

    Args:
      image: f32[H, W, C], grey or RGB in 0..255.
      number: i32[], index of the change in `names`.
      factor: f32[], at least 0.
      names: the possible changes: brightness, contrast, saturation or sharpness.
      extent: as for `adjust_contrast`.
    Returns:
      f32[H, W, C], in 0..255.
    """
    references = {**_REFERENCES, "contrast": partial(_mean_grey, extent=extent)}
    others = [jnp.broadcast_to(references[name](image), image.shape) for name in names]
    return _blend(image, jax.lax.select_n(number, *others), factor)


def _floats(image: Array) -> Array:
    return at_least_float32(check_array("image", image, ("H", "W", "C"), "number"))


def _blend(image: Array, other: Array, factor: Array) -> Array:
    """Interpolates from `other` (factor 0) to the image (factor 1), or extrapolates beyond it."""
    factor = check_array("factor", factor, (), "number").astype(image.dtype)
    return jnp.clip(factor * image + (1 - factor) * other, 0, 255)


def _black(image: Array) -> Array:
    return jnp.zeros_like(image)


def _grey(image: Array) -> Array:
    return image if image.shape[-1] == 1 else rgb_to_grey(image)


def _mean_grey(image: Array, extent: Array | None = None) -> Array:
    grey = _grey(image)
    if extent is None:
        return grey.mean(keepdims=True)
    return inside_extent(grey, extent, fill=0).sum(keepdims=True) / extent.prod()


def _smooth(image: Array) -> Array:
    rows = image[:-2] + image[1:-1] + image[2:]
    nine = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    inner = (nine + 4 * image[1:-1, 1:-1]) / 13
    return image.at[1:-1, 1:-1].set(inner)


_REFERENCES = {
    "brightness": _black,
    "contrast": _mean_grey,
    "saturation": _grey,
    "sharpness": _smooth,
}
"""Functions that compute the result of each change with the factor 0."""
