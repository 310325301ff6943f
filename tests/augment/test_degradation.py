"""Noise: normal, of its level, independent; lower resolution: the reference, and Pillow inside."""

import functools
import math
import statistics

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from jaxvision import augment
from jaxvision.core import InputError
from jaxvision.testing import check_op
from tests.augment.test_color import uniform_distance
from tests.marks import slow_but
from tests.reference import augment as reference


def image_of(height=12, width=18, channels=3, dtype=np.uint8):
    image = np.random.default_rng(0).integers(0, 256, (height, width, channels))
    return image.astype(dtype)


def test_noise_is_normal_of_its_level_and_independent():
    image = image_of(50, 40, 2)
    keys = jax.random.split(jax.random.key(0), 2)
    noisy = jax.jit(jax.vmap(augment.gaussian_noise, (0, None, None)))(keys, image, 25.0)
    assert noisy.dtype == jnp.float32
    noise = (np.asarray(noisy) - image) / 25
    shares = np.array([*map(statistics.NormalDist().cdf, noise.ravel())])
    assert uniform_distance(shares, 0, 1) < 1.95
    # Of neighbours, channels and keys none follows from another.
    pairs = [
        (noise[:, 1:], noise[:, :-1]),
        (noise[:, :, 1:], noise[:, :, :-1]),
        (noise[..., 0], noise[..., 1]),
        (noise[0], noise[1]),
    ]
    for a, b in pairs:
        assert abs((a * b).mean()) < 4 / a.size**0.5


@pytest.mark.parametrize("transform", slow_but(["eager", "pmap"], ["pmap"]), indirect=True)
def test_noise_is_a_function_of_its_key_and_not_clipped(transform):
    image = np.zeros((4, 5, 1), np.float32)
    noisy = transform(augment.gaussian_noise)(jax.random.key(1), image, 25.0)
    assert noisy.min() < 0
    normal = jax.jit(lambda key: jax.random.normal(key, image.shape))(jax.random.key(1))
    np.testing.assert_allclose(noisy, 25 * normal, rtol=1e-6)


def test_noise_of_no_level_changes_nothing():
    still = jax.jit(augment.gaussian_noise)(jax.random.key(1), image_of(4, 5), 0)
    np.testing.assert_array_equal(still, image_of(4, 5))


def levels(count, sigma):
    """The standard deviation of the noise of each of many images, in the draw's own units."""
    keys = jax.random.split(jax.random.key(2), count)
    add = functools.partial(augment.random_gaussian_noise, sigma=sigma)
    noisy = jax.jit(jax.vmap(add, (0, None)))(keys, np.full((40, 40, 1), 100, np.uint8))
    return np.asarray(noisy - 100).std(axis=(1, 2, 3))


def test_a_blind_level_is_drawn_uniformly_for_each_image():
    found = levels(300, (10, 50))
    # A deviation estimated from n values is off by 1 / sqrt(2 n): here by 1.8 %.
    assert found.min() > 10 * 0.93
    assert found.max() < 50 * 1.07
    assert uniform_distance(found, 10, 50) < 1.95


@pytest.mark.slow
def test_a_range_of_one_level_is_that_level():
    np.testing.assert_allclose(levels(10, (25, 25)), 25, rtol=0.07)


@pytest.mark.parametrize(
    ("sigma", "message"),
    [
        ((-1, 5), r"sigma is \(-1, 5\): give two numbers that are at least 0"),
        ((6, 5), r"sigma is \(6, 5\): .* the smaller one first"),
        ((0, math.inf), r"sigma is \(0, inf\): .* less than inf"),
    ],
)
def test_a_range_of_levels_that_is_none_is_an_error(sigma, message):
    with pytest.raises(InputError, match=message):
        augment.random_gaussian_noise(jax.random.key(0), image_of(), sigma=sigma)


def test_noise_names_an_argument_of_another_shape():
    with pytest.raises(AssertionError, match=r"image is uint8\[12, 18\]"):
        augment.gaussian_noise(jax.random.key(0), image_of()[..., 0], 25)
    with pytest.raises(AssertionError, match=r"sigma is float32\[2\]"):
        augment.gaussian_noise(jax.random.key(0), image_of(), np.float32([1, 2]))


@pytest.mark.parametrize(
    ("name", "factor", "transform"),
    slow_but(
        [
            ("downscale", 1, "jit"),
            ("downscale", 2, "pmap"),
            ("downscale", 3, "jit"),
            ("downscale_upscale", 1, "jit"),
            ("downscale_upscale", 2, "eager"),
            ("downscale_upscale", 3, "vmap"),
        ],
        [("downscale", 2, "pmap"), ("downscale_upscale", 3, "vmap")],
    ),
)
def test_a_lower_resolution_equals_the_reference(name, factor, transform):
    check_op(
        getattr(augment, name),
        getattr(reference, name),
        image_of(),
        atol=2e-3,
        factor=factor,
        transforms=(transform,),
    )


def resized_by_pillow(channel, size):
    image = PIL.Image.fromarray(channel)
    return np.asarray(image.resize(size[::-1], PIL.Image.Resampling.BICUBIC))


@pytest.mark.parametrize("factor", slow_but([2, 3, 4], [3]))
def test_a_lower_resolution_equals_pillow_away_from_the_border(factor):
    """Beyond the border Pillow has no pixels where MATLAB mirrors them: 4 coarse ones differ."""
    image = image_of(factor * 16, factor * 12, 1, np.float32)
    low = resized_by_pillow(image[..., 0], (16, 12))
    both = {"downscale": low, "downscale_upscale": resized_by_pillow(low, image.shape[:2])}
    for name, expected in both.items():
        margin = 4 if name == "downscale" else 4 * factor
        degrade = jax.jit(functools.partial(getattr(augment, name), factor=factor))
        actual = np.asarray(degrade(image))[..., 0]
        inside = (slice(margin, -margin),) * 2
        np.testing.assert_allclose(actual[inside], expected[inside], atol=2e-3, err_msg=name)


def test_detail_is_lost_and_the_rest_stays():
    ramp = np.broadcast_to(np.arange(24, dtype=np.float32)[:, None, None], (24, 24, 1))
    coarse = jax.jit(functools.partial(augment.downscale_upscale, factor=2))
    same = np.asarray(coarse(ramp))
    np.testing.assert_allclose(same[8:-8], ramp[8:-8], atol=1e-4)
    checks = np.indices((24, 24)).sum(axis=0)[..., None] % 2 * np.float32(200)
    grey = np.asarray(coarse(checks))
    np.testing.assert_allclose(grey[8:-8, 8:-8], 100, atol=3)


@pytest.mark.parametrize("degrade", [augment.downscale, augment.downscale_upscale])
def test_a_factor_that_does_not_divide_the_sides_is_an_error_that_says_so(degrade):
    with pytest.raises(InputError, match=r"is 12x18 pixels: crop it to .* multiples of 4"):
        degrade(image_of(), factor=4)
    with pytest.raises(InputError, match="factor is 0: give at least 1"):
        degrade(image_of(), factor=0)
    with pytest.raises(AssertionError, match=r"image is uint8\[12, 18\]"):
        degrade(image_of()[..., 0], factor=2)
