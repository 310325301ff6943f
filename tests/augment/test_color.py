"""Colours: against colorsys; what is drawn is within its limits and uniform."""

import colorsys
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import augment
from jaxvision.testing import check_op
from tests.marks import long_but
from tests.reference import augment as reference

COLOURS = np.array(
    [
        *np.ndindex(2, 2, 2),  # black, white, and all between with a ramp's ends
        (0.5, 0.5, 0.5),
        (0.5, 0.5, 0.2),
        (0.2, 0.5, 0.5),
        (0.5, 0.2, 0.5),
        *np.random.default_rng(0).random((30, 3)),
    ],
    np.float32,
)


def uniform_distance(values, least, most):
    """Kolmogorov-Smirnov: times sqrt(count), a fair draw exceeds 1.95 once in a thousand times."""
    shares = (np.sort(values) - least) / (most - least)
    count = len(values)
    return abs(shares - (np.arange(count) + 0.5) / count).max() * count**0.5


def test_rgb_to_hsv_equals_colorsys():
    check_op(
        augment.rgb_to_hsv, reference.rgb_to_hsv, COLOURS.reshape(6, 7, 3), transforms=("jit",)
    )


def test_hsv_to_rgb_equals_colorsys():
    turns = COLOURS + np.float32([[0.25, 0, 0]])  # hues of more than one turn too
    image = turns.reshape(6, 7, 3)
    check_op(augment.hsv_to_rgb, reference.hsv_to_rgb, image, atol=2e-6, transforms=("jit",))


def test_the_colours_of_the_circle_by_hand():
    rgb = np.float32([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1]])
    hsv = np.stack([np.arange(6) / 6, np.ones(6), np.ones(6)], axis=-1)
    np.testing.assert_allclose(jax.jit(augment.rgb_to_hsv)(rgb), hsv, atol=1e-7)


@pytest.mark.parametrize("scale", [1, 255])
def test_there_and_back_is_the_identity(scale):
    there = jax.jit(augment.rgb_to_hsv)(COLOURS * scale)
    assert (there[:, :2] >= 0).all()
    assert (there[:, :2] <= 1).all()
    back = jax.jit(augment.hsv_to_rgb)(there)
    np.testing.assert_allclose(back, COLOURS * scale, atol=2e-6 * scale)


YCBCR = 3e-3  # MATLAB's figures have three digits after the point


def test_rgb_to_ycbcr_equals_matlabs_figures():
    image = 255 * COLOURS.reshape(6, 7, 3)
    check_op(augment.rgb_to_ycbcr, reference.rgb_to_ycbcr, image, atol=YCBCR, transforms=("pmap",))


def test_ycbcr_to_rgb_equals_the_inverse_of_matlabs_figures():
    image = 255 * COLOURS.reshape(6, 7, 3)  # most of which is no colour
    check_op(
        augment.ycbcr_to_rgb, reference.ycbcr_to_rgb, image, atol=2 * YCBCR, transforms=("jit",)
    )


def test_black_white_and_the_primaries_in_ycbcr_by_hand():
    rgb = np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 0, 255]], np.uint8)
    expected = [[16, 128, 128], [235, 128, 128], [81.481, 90.203, 240], [40.966, 240, 109.786]]
    actual = jax.jit(augment.rgb_to_ycbcr)(rgb)
    assert actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, expected, atol=1e-3)


def test_to_ycbcr_and_back_is_the_identity():
    image = 255 * COLOURS
    back = jax.jit(lambda x: augment.ycbcr_to_rgb(augment.rgb_to_ycbcr(x)))(image)
    np.testing.assert_allclose(back, image, atol=1e-4)


@pytest.mark.parity
def test_rgb_to_ycbcr_equals_scikit_image():
    color = pytest.importorskip("skimage.color")
    image = np.random.default_rng(0).integers(0, 256, (9, 8, 3)).astype(np.uint8)
    np.testing.assert_allclose(augment.rgb_to_ycbcr(image), color.rgb2ycbcr(image), atol=YCBCR)


@pytest.mark.parametrize("convert", [augment.rgb_to_ycbcr, augment.ycbcr_to_rgb])
def test_ycbcr_of_what_has_not_three_channels_is_an_error_that_names_it(convert):
    with pytest.raises(AssertionError, match=r"image is float32\[2, 2, 1\]"):
        convert(np.zeros((2, 2, 1), np.float32))


def drawn(count, **options):
    """[count] shifts, factors of saturation, factors of value."""
    image = np.full((1, 1, 3), (100, 80, 70), np.uint8)
    keys = jax.random.split(jax.random.key(0), count)
    random = functools.partial(augment.random_hsv, **options)
    results = np.asarray(jax.jit(jax.vmap(random, in_axes=(0, None)))(keys, image))[:, 0, 0]
    before = np.array(colorsys.rgb_to_hsv(100, 80, 70))
    after = np.array([colorsys.rgb_to_hsv(*map(float, colour)) for colour in results])
    shift = (after[:, 0] - before[0] + 0.5) % 1 - 0.5
    return shift, after[:, 1] / before[1], after[:, 2] / before[2]


def test_random_hsv_draws_shifts_uniformly_and_factors_or_their_inverses():
    shift, *factors = drawn(600, hue=0.2, saturation=1.6, value=1.4)
    assert uniform_distance(shift, -0.2, 0.2) < 1.95
    for factor, limit in zip(factors, (1.6, 1.4), strict=True):
        assert abs((factor > 1).sum() - 300) < 50
        size = np.maximum(factor, 1 / factor)
        assert size.max() < limit + 1e-4
        assert uniform_distance(size, 1, limit) < 1.95
    assert abs(np.corrcoef([shift, *factors]) - np.eye(3)).max() < 0.15  # they are independent


@pytest.mark.slow
def test_random_hsv_has_the_limits_of_darknet_by_default():
    shift, saturation, value = drawn(300)
    for size, limit in ((shift, 0.1), (saturation - 1, 0.5), (value - 1, 0.5)):
        assert 0.97 * limit < size.max() < limit + 1e-4


@pytest.mark.parametrize("transform", long_but(["eager", "pmap"], ["pmap"]), indirect=True)
def test_random_hsv_equals_colorsys_at_some_change(transform):
    image = np.random.default_rng(0).integers(0, 256, (5, 6, 3)).astype(np.uint8)
    image[0, 0] = (100, 80, 70)
    result = transform(augment.random_hsv)(jax.random.key(3), image, hue=0.3)
    assert result.dtype == jnp.float32
    before = np.array(colorsys.rgb_to_hsv(100, 80, 70))
    after = np.array(colorsys.rgb_to_hsv(*map(float, result[0, 0])))
    hsv = reference.rgb_to_hsv(image)
    hsv = (hsv + np.array([after[0] - before[0], 0, 0])) * [1, *after[1:] / before[1:]]
    expected = np.clip(reference.hsv_to_rgb(hsv), 0, 255)
    np.testing.assert_allclose(result, expected, atol=2e-3)


def test_random_hsv_without_a_change_is_the_identity_on_bytes():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    still = functools.partial(augment.random_hsv, hue=0, saturation=1, value=1)
    same = jax.jit(still)(jax.random.key(0), image)
    np.testing.assert_allclose(same, image, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hue": 0.6}, "hue is 0.6"),
        ({"saturation": 0.5}, "saturation is 0.5"),
        ({"value": float("nan")}, "value is nan"),
    ],
)
def test_random_hsv_refuses_limits_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        augment.random_hsv(jax.random.key(0), np.zeros((2, 2, 3), np.uint8), **options)


@pytest.mark.parametrize("shape", [(3,), (2, 2, 4), (1, 2, 2, 3)], ids=str)
def test_random_hsv_names_an_image_of_another_shape(shape):
    with pytest.raises(AssertionError, match="image is uint8"):
        augment.random_hsv(jax.random.key(0), np.zeros(shape, np.uint8))
