"""What restoration undoes: noise, and resolution that was lost."""

import math
from dataclasses import dataclass
from typing import Protocol

from jax import Array

from jaxvision.augment import downscale, downscale_upscale, random_gaussian_noise
from jaxvision.core import check_range


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
    Raises:
      OptionError: sigma is no such range.
    """

    sigma: tuple[float, float] = (25.0, 25.0)
    factor = 1
    enlarged = False

    def __post_init__(self) -> None:
        least, most = self.sigma
        check_range("sigma", least, least=0)
        check_range("sigma", most, least=least, less_than=math.inf)

    def __call__(self, key: Array, image: Array) -> Array:
        return random_gaussian_noise(key, image, sigma=self.sigma)


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
