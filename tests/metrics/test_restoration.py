"""PSNR and SSIM: by hand, against the references and scikit-image, flat and broken images."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.datasets
from jax.test_util import check_grads

from jaxvision import metrics
from tests.reference import metrics as reference

# Each as one program: operation by operation everything is compiled by itself.
psnr = jax.jit(metrics.psnr, static_argnames=("data_range", "max_db"))
ssim = jax.jit(metrics.ssim, static_argnames="data_range")


@functools.cache
def slope(metric):
    """(predicted, target) -> (value, gradient by the first)."""

    def value(x, y):
        return metric(x, y, data_range=1)[0]

    return jax.jit(jax.value_and_grad(value))


def images(seed=0, shape=(14, 13, 2)):
    """A smooth image and a noisy one, in [0, 1]."""
    rng = np.random.default_rng(seed)
    waves = np.sin(np.arange(math.prod(shape)).reshape(shape) / 40)
    target = 0.5 + 0.3 * waves
    return np.clip([target + rng.normal(scale=0.1, size=shape), target], 0, 1).astype("f4")


def test_psnr_by_hand():
    # The mean squared error is 400 / 4.
    predicted, target = np.uint8([[10, 20], [30, 60]]), np.uint8([[10, 20], [30, 40]])
    decibels, weight = psnr(predicted, target, data_range=255)
    np.testing.assert_allclose(decibels, 20 * math.log10(25.5), rtol=1e-6)
    assert weight == 1


def test_ssim_of_flat_images_by_hand():
    # Without variance only the means differ: (2 * 0.2 * 0.6 + C1) / (0.2^2 + 0.6^2 + C1).
    similarity, weight = ssim(np.full((11, 11, 3), 0.2), np.full((11, 11, 3), 0.6), data_range=1)
    np.testing.assert_allclose(similarity, 0.2401 / 0.4001, rtol=1e-6)
    assert weight == 1


def test_ssim_of_an_image_with_its_negative_by_hand():
    # Of one window of x and -x: minus (2 mu^2 - C1) / (2 mu^2 + C1) times the same of variances.
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    weights = np.outer(line, line) / line.sum() ** 2
    x = np.random.default_rng(0).normal(size=(11, 11))
    mean = (weights * x).sum()
    variance = (weights * (x - mean) ** 2).sum()
    c1, c2 = 1e-4, 9e-4
    expected = (c1 - 2 * mean**2) / (c1 + 2 * mean**2) * (c2 - 2 * variance) / (c2 + 2 * variance)
    similarity, _ = ssim(x[..., None], -x[..., None], data_range=1)
    np.testing.assert_allclose(similarity, expected, rtol=1e-5)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_real_images_equal_the_reference(metric):
    slow = getattr(reference, metric.__name__)
    for given, data_range in ((images(), 1.0), (np.uint8(images(1) * 255), 255)):
        expected = slow(*given, data_range=data_range)
        actual = metric(*given, data_range=data_range)
        np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)


def test_ssim_of_small_contrasts_on_a_high_level_equals_the_reference():
    predicted, target = (np.float32(1000 + x) for x in images())
    expected, _ = reference.ssim(predicted, target, data_range=1)
    np.testing.assert_allclose(ssim(predicted, target, data_range=1)[0], expected, atol=1e-4)


def test_ssim_stays_in_its_range_far_beyond_that_of_the_values():
    step = np.where(np.arange(30)[:, None, None] < 15, np.float32(-1000), np.float32(1000))
    step = np.broadcast_to(step, (30, 20, 1))
    noise = np.random.default_rng(0).normal(scale=0.01, size=step.shape).astype("f4")
    assert -1 <= ssim(step + noise, step, data_range=1)[0] <= 1


def test_identical_images_reach_the_limits():
    x, _ = images()
    for image, data_range in ((x, 1), (np.uint8(x * 255), 255), (np.zeros_like(x), 1)):
        assert psnr(image, image, data_range=data_range) == (100, 1)
        assert ssim(image, image, data_range=data_range) == (1, 1)
    # Nearly identical ones are not better than identical ones.
    assert psnr(x, x + np.float32(1e-6), data_range=1) == (100, 1)
    assert psnr(x, x, data_range=1, max_db=48.5) == (48.5, 1)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_a_broken_image_is_no_good_one(metric):
    predicted, target = images()
    predicted[3, 4, 0] = np.nan
    assert jnp.isnan(metric(predicted, target, data_range=1)[0])


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_half_precision_is_computed_in_float32(metric):
    given = [jnp.asarray(x, jnp.bfloat16) for x in images()]
    value, weight = metric(*given, data_range=1)
    assert (value.dtype, weight.dtype) == (jnp.float32, jnp.float32)
    expected, _ = getattr(reference, metric.__name__)(
        *(np.asarray(x, np.float64) for x in given), data_range=1
    )
    np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_gradients_equal_finite_differences(metric):
    with jax.enable_x64(True):
        predicted, target = (np.float64(x) for x in images(shape=(12, 11, 2)))
        value = jax.jit(lambda x: metric(x, target, data_range=1)[0])
        check_grads(value, (predicted,), order=1, modes=["rev"])


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_gradients_of_identical_and_flat_images_are_finite(metric):
    predicted, _ = images()
    flat = np.full_like(predicted, 0.7)
    for x, y in ((predicted, predicted), (flat, flat), (flat, np.zeros_like(flat))):
        assert np.isfinite(slope(metric)(x, y)[1]).all()


def test_values_far_outside_of_the_range_stay_finite():
    rng = np.random.default_rng(0)
    x, y = rng.choice(np.float32([-1e6, 0, 1e6]), (2, 14, 13, 2))
    for metric in (psnr, ssim):
        value, gradient = slope(metric)(x, y)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
    assert abs(ssim(x, y, data_range=1)[0]) <= 1


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_on_accelerators_ssim_asks_for_full_precision(platform):
    def score(predicted, target):
        return ssim(predicted, target, data_range=1)[0]

    # The gradient needs the two transposes of the convolutions as well.
    for fn, convolutions in ((score, 2), (jax.value_and_grad(score), 4)):
        program = jax.jit(fn).trace(*images())
        text = program.lower(lowering_platforms=(platform,)).as_text()
        assert text.count("stablehlo.convolution") == convolutions
        assert text.count("precision HIGHEST") == 2 * convolutions  # of both operands


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_wrong_arguments_are_named(metric):
    x, y = images()
    with pytest.raises(AssertionError, match=r"predicted is bool\[14, 13, 2\]: give number"):
        metric(x > 0, y, data_range=1)
    with pytest.raises(AssertionError, match=r"target is float32\[14, 13, 1\]: give number"):
        metric(x, y[..., :1], data_range=1)
    for data_range in (0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"data_range is {data_range}: give more than 0"):
            metric(x, y, data_range=data_range)


def test_images_below_the_window_are_named():
    x = np.zeros((11, 10, 3), np.float32)
    with pytest.raises(
        ValueError, match="the width of predicted and target is 10: give at least 11"
    ):
        ssim(x, x, data_range=1)
    with pytest.raises(ValueError, match="the height of predicted and target is 10"):
        ssim(x.swapaxes(0, 1), x.swapaxes(0, 1), data_range=1)
    with pytest.raises(AssertionError, match=r"predicted is float32\[11, 10\]: give number\[H, W"):
        ssim(x[..., 0], x[..., 0], data_range=1)


def test_an_unbounded_limit_is_named():
    with pytest.raises(ValueError, match="max_db is inf"):
        psnr(*images(), data_range=1, max_db=math.inf)


def hard_pairs():
    """(predicted, target, data_range): photographs with noise, flat and nearly equal images."""
    rng = np.random.default_rng(0)
    for name in ("china.jpg", "flower.jpg"):
        photo = sklearn.datasets.load_sample_image(name)
        for scale in (1, 10, 80):
            noisy = np.clip(photo + rng.normal(scale=scale, size=photo.shape), 0, 255)
            yield noisy.astype(np.uint8), photo, 255
            yield np.float32(noisy / 255), np.float32(photo / 255), 1
        grey = photo.mean(axis=-1, keepdims=True)
        yield np.float32(np.clip(grey * 1.2, 0, 255)), np.float32(grey), 255
        yield 255 - photo, photo, 255
        pixel = photo.copy()
        pixel[200, 300] ^= 255
        yield pixel, photo, 255
    for low, high, data_range in ((0.9, 1.0, 1), (254, 255, 255), (0.0, 1.0, 1), (0.3, 0.3001, 1)):
        flat = np.full((64, 48, 3), low, np.float32)
        yield flat, np.full_like(flat, high), data_range
        pixel = flat.copy()
        pixel[30, 20, 1] = high
        yield pixel, flat, data_range
        halves = np.where(np.arange(48)[:, None] < 24, np.float32(low), flat * 0)
        yield (
            halves,
            np.float32(halves + rng.normal(scale=data_range / 1e3, size=flat.shape)),
            (data_range),
        )


@pytest.mark.parity
def test_psnr_and_ssim_equal_scikit_image():
    skimage = pytest.importorskip("skimage.metrics")
    for number, (predicted, target, data_range) in enumerate(hard_pairs()):
        exact = np.float64(predicted), np.float64(target)
        similarity = skimage.structural_similarity(
            *exact,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=data_range,
            channel_axis=-1,
        )
        decibels = skimage.peak_signal_noise_ratio(*exact, data_range=data_range)
        np.testing.assert_allclose(
            jax.jit(functools.partial(ssim, data_range=data_range))(predicted, target)[0],
            similarity,
            rtol=0,
            atol=1e-6,
            err_msg=f"pair {number}",
        )
        np.testing.assert_allclose(
            jax.jit(functools.partial(psnr, data_range=data_range))(predicted, target)[0],
            min(decibels, 100),
            rtol=1e-6,
            err_msg=f"pair {number}",
        )
