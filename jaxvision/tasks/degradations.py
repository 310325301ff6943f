"""What restoration undoes, noise and resolution that was lost, and how papers measure it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import jax.numpy as jnp
from jax import Array

from jaxvision.augment import downscale, downscale_upscale, random_gaussian_noise
from jaxvision.core import OptionError, check_range, lookup


class Degradation(Protocol):
    """Degrades an image: (key, image f32[H, W, C] in 0..255) -> f32[h, w, C].

    Attributes:
      factor: by which the resolution is lower, 1 for noise.
      enlarged: whether the result has the size of the image all the same.
    """

    factor: int
    enlarged: bool

    def __call__(self, key: Array, image: Array) -> Array: ...


@dataclass(frozen=True)
class GaussianNoise:
    """Adds white Gaussian noise, of a level that is drawn once for each image.

    Attributes:
      sigma: the least and the largest standard deviation, of values in 0..255.
      quantize: whether the noisy image is rounded and clipped to 0..255, as in a file of 8 bits.
        Papers on denoising mostly do neither.
    Raises:
      OptionError: sigma is no such range.
    """

    sigma: tuple[float, float] = (25.0, 25.0)
    quantize: bool = False
    factor = 1
    enlarged = False

    def __post_init__(self) -> None:
        least, most = self.sigma
        check_range("sigma", least, least=0)
        check_range("sigma", most, least=least, less_than=math.inf)

    def __call__(self, key: Array, image: Array) -> Array:
        noisy = random_gaussian_noise(key, image, sigma=self.sigma)
        return jnp.clip(jnp.round(noisy), 0, 255) if self.quantize else noisy


@dataclass(frozen=True)
class Downscale:
    """Lowers the resolution by MATLAB's bicubic downscaling; the network enlarges the image.

    Attributes:
      factor: of the resolution, at least 2; it divides the sides of the images.
    Raises:
      OptionError: the factor is out of range.
    """

    factor: int = 3
    enlarged = False

    def __post_init__(self) -> None:
        check_range("factor", self.factor, least=2)

    def __call__(self, key: Array, image: Array) -> Array:
        del key
        return downscale(image, factor=self.factor)


@dataclass(frozen=True)
class DownscaleUpscale:
    """Lowers the resolution and enlarges the image again, both by MATLAB's bicubic resizing.

    Attributes:
      factor: of the resolution, at least 2; it divides the sides of the images.
    Raises:
      OptionError: the factor is out of range.
    """

    factor: int = 3
    enlarged = True

    def __post_init__(self) -> None:
        check_range("factor", self.factor, least=2)

    def __call__(self, key: Array, image: Array) -> Array:
        del key
        return downscale_upscale(image, factor=self.factor)


DEGRADATIONS = {
    "gaussian_noise": GaussianNoise,
    "downscale": Downscale,
    "downscale_upscale": DownscaleUpscale,
}
"""Degradations by name."""


@dataclass(frozen=True)
class Measurement:
    """How the figures of a paper are measured.

    Attributes:
      degradations: those that it is for; the first is the usual one.
      color: what is restored.
      border: what tiles have beyond the border of an image.
      by_factor: whether images are cropped to multiples of the factor before they are degraded
        ("modcrop"), and their borders are left out of the figures, as many pixels as the factor.
    """

    degradations: tuple[Callable[..., Degradation], ...]
    color: str
    border: str
    by_factor: bool = False


PROTOCOLS = {
    "dncnn": Measurement((GaussianNoise,), color="grey", border="zeros"),
    "srcnn": Measurement(
        (DownscaleUpscale, Downscale), color="luminance", border="symmetric", by_factor=True
    ),
}
"""Name -> how it is measured. "dncnn": grey images in 0..255 with Gaussian noise that is neither
clipped nor rounded, whole images, whose maps the network pads with zeros (Zhang et al. 2017,
"Beyond a Gaussian denoiser", section IV). "srcnn": MATLAB's bicubic resizing with antialiasing, of
the luminance, without rounding in between; images are cropped to multiples of the factor, and the
figures leave out as many pixels along the border (Dong et al. 2016, "Image super-resolution using
deep convolutional networks", section 4, and its code)."""


def protocol(name: str, degradation: Degradation | None = None) -> dict[str, Any]:
    """Returns the options of `restoration` that measure as a paper does.

    They are passed on: `restoration(model, inputs, **protocol("srcnn", DownscaleUpscale(2)))`.

    Args:
      name: a key of `PROTOCOLS`.
      degradation: what is undone; None: the usual one, with its defaults.
    Returns:
      "degradation", "color", "crop_border", "modcrop" and "border".
    Raises:
      InputError: the name is unknown, or the protocol is for other degradations.
    """
    how = lookup(PROTOCOLS, name, "protocol")
    degradation = how.degradations[0]() if degradation is None else degradation
    if not isinstance(degradation, how.degradations):
        wanted = [key for key, entry in DEGRADATIONS.items() if entry in how.degradations]
        raise OptionError(
            "protocol",
            f"protocol is {name!r}, which is not for {type(degradation).__name__}: make the "
            f"degradation {' or '.join(wanted)}",
        )
    factor = degradation.factor
    return {
        "degradation": degradation,
        "color": how.color,
        "crop_border": factor if how.by_factor else 0,
        "modcrop": factor if how.by_factor else 1,
        "border": how.border,
    }
