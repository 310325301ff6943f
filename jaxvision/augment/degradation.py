"""Degradations for image restoration, on the device: noise and loss of resolution."""

import math

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.augment.options import check_limits
from jaxvision.core import InputError, at_least_float32, check_array, check_range
from jaxvision.ops import resize_bicubic


def gaussian_noise(key: Array, image: Array, sigma: Array) -> Array:
    """Adds white Gaussian noise: y = x + sigma n, with n standard normal in each pixel and channel.

    Args:
      key: key[].
      image: uint8 or float [..., H, W, C], in 0..255.
      sigma: f32[], standard deviation in the image's units.
    Returns:
      f32[..., H, W, C], not clipped.
    """
    image = at_least_float32(check_array("image", image, ("...", "H", "W", "C"), "number"))
    sigma = check_array("sigma", sigma, (), "number").astype(image.dtype)
    return image + sigma * jax.random.normal(key, image.shape, image.dtype)


def random_gaussian_noise(key: Array, image: Array, *, sigma: tuple[float, float]) -> Array:
    """Adds white Gaussian noise with a standard deviation that is drawn once for the whole image.

    Args:
      key: key[].
      image: uint8 or float [..., H, W, C], in 0..255.
      sigma: the least and the largest standard deviation, in the image's units; the value is
        uniform in between. Use (25, 25) for a known level, (0, 55) for a blind denoiser.
    Returns:
      f32[..., H, W, C], not clipped.
    Raises:
      InputError: sigma is not a range of numbers of at least 0.
    Source: Zhang et al. 2017 ("Beyond a Gaussian denoiser"), section IV.A.
    """
    least, most = check_limits("sigma", sigma, least=0, less_than=math.inf)
    sigma_key, noise_key = jax.random.split(key)
    return gaussian_noise(
        noise_key, image, jax.random.uniform(sigma_key, minval=least, maxval=most)
    )


def downscale(image: Array, *, factor: int) -> Array:
    """Reduces the resolution, as MATLAB's imresize(image, 1 / factor) does on floats.

    Args:
      image: uint8 or float [..., H, W, C].
      factor: an integer that divides H and W.
    Returns:
      f32[..., H / factor, W / factor, C], bicubic with antialiasing, not rounded.
    Raises:
      InputError: factor is less than 1 or does not divide H and W.
    Source: see `jaxvision.ops.resize_bicubic`.
    """
    image = at_least_float32(check_array("image", image, ("...", "H", "W", "C"), "number"))
    check_range("factor", factor, least=1)
    height, width = image.shape[-3:-1]
    if height % factor or width % factor:
        raise InputError(
            f"the image is {height}x{width} pixels: crop it to sides that are multiples of {factor}"
        )
    return resize_bicubic(image, (height // factor, width // factor))


def downscale_upscale(image: Array, *, factor: int) -> Array:
    """Removes detail: downscales the image and enlarges it again with bicubic interpolation.

    Args:
      image: uint8 or float [..., H, W, C].
      factor: an integer that divides H and W.
    Returns:
      f32[..., H, W, C], not rounded.
    Raises:
      InputError: factor is less than 1 or does not divide H and W.
    Source: Dong et al. 2016 ("Image super-resolution using deep convolutional networks"),
      section 4; see `jaxvision.ops.resize_bicubic`.
    """
    return resize_bicubic(downscale(image, factor=factor), jnp.shape(image)[-3:-1])
