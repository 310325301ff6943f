"""Windows of other sizes, antialiased, and drawn at random: against the reference and Pillow."""

import functools

import jax
import numpy as np
import PIL.Image
import pytest
import scipy.stats

from jaxvision import augment
from jaxvision.core import InputError
from jaxvision.testing import check_op
from tests.marks import slow_but
from tests.reference import augment as reference


def image_of(height=23, width=31):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


WINDOWS = np.float32([(0, 0, 31, 23), (2, 1, 28.5, 22.25), (3, 4, 9, 8), (0, 5, 31, 11.5)])


def by_pillow(image, window, size):
    """On floats, so that nothing is rounded."""
    channels = [
        np.asarray(
            PIL.Image.fromarray(channel.astype(np.float32)).resize(
                size[::-1], PIL.Image.Resampling.BILINEAR, box=tuple(map(float, window))
            )
        )
        for channel in np.moveaxis(image, -1, 0)
    ]
    return np.stack(channels, axis=-1)


@pytest.mark.parametrize("size", [(7, 9), (40, 5), (1, 1)], ids=str)
def test_antialiased_windows_equal_pillows(size):
    crop = functools.partial(augment.resized_crop, size=size, method="antialiased")
    results = jax.jit(jax.vmap(crop, (None, 0)))(image_of(), WINDOWS)
    assert results.dtype == np.float32
    expected = [by_pillow(image_of(), window, size) for window in WINDOWS]
    np.testing.assert_allclose(results, expected, atol=2e-3)


def test_antialiased_windows_beyond_the_image_are_filled_and_finite():
    window = np.float32([-200, -2.5, 300, 50])
    crop = functools.partial(augment.resized_crop, method="antialiased", fill=3)
    result = np.asarray(jax.jit(crop)(image_of(), window))
    x = -200 + (np.arange(31) + 0.5) * 500 / 31
    y = -2.5 + (np.arange(23) + 0.5) * 52.5 / 23
    inside = ((y > 0) & (y < 23))[:, None] & ((x > 0) & (x < 31))[None]
    assert 10 < inside.sum() < 60
    assert (result[~inside] == 3).all()
    assert (abs(result[inside] - 127) < 90).all()


@pytest.mark.parametrize(
    ("method", "size"),
    slow_but(
        [(method, size) for method in ("bilinear", "nearest") for size in ((7, 40), (30, 1))],
        [("bilinear", (7, 40)), ("nearest", (30, 1))],
    ),
    ids=str,
)
def test_windows_of_another_size_equal_the_reference(method, size):
    check_op(
        augment.resized_crop,
        reference.resized_crop,
        image_of(),
        np.float32([-3.3, 2.2, 25.1, 24.4]),
        size=size,
        method=method,
        atol=2e-3,
        transforms=("vmap",),
    )


def test_where_nothing_shrinks_antialiased_is_bilinear():
    crop = functools.partial(augment.resized_crop, size=(30, 33))

    def both(image, window):
        return [crop(image, window, method=method) for method in ("bilinear", "antialiased")]

    results = jax.jit(both)(image_of(), WINDOWS[2])
    np.testing.assert_allclose(*results, atol=2e-3)


def test_a_result_without_pixels_is_refused():
    with pytest.raises(InputError, match="a side of the result is 0: give at least 1"):
        augment.resized_crop(image_of(), WINDOWS[0], size=(0, 5))


def windows_of(count, size, **options):
    keys = jax.random.split(jax.random.key(0), count)
    draw = functools.partial(augment.random_resized_crop_window, size=size, **options)
    return np.asarray(jax.jit(jax.vmap(draw))(keys))


@pytest.mark.parametrize(
    ("size", "options"),
    [
        pytest.param((48, 64), {"scale": (0.08, 1.0)}, marks=pytest.mark.slow),
        # Of these most draws do not fit.
        ((16, 60), {"scale": (0.3, 0.9), "ratio": (0.5, 1.0)}),
    ],
    ids=str,
)
def test_random_windows_are_drawn_as_the_reference(size, options):
    """Two-sample Kolmogorov-Smirnov, on area, form and place."""
    count = 1500
    ours = windows_of(count, size, **options)
    rng = np.random.RandomState(0)
    drawn = np.array([reference.random_window(size, rng, **options) for _ in range(count)])
    top, left, height, width = drawn.T
    theirs = np.stack([left, top, left + width, top + height], axis=1)

    def figures(windows):
        x1, y1, x2, y2 = windows.T.astype(float)
        width, height = x2 - x1, y2 - y1
        room_x, room_y = size[1] - width, size[0] - height
        places = x1 / np.maximum(room_x, 1), y1 / np.maximum(room_y, 1)
        return [width * height, width / height, x1, y1, *places]

    assert (ours == np.round(ours)).all()
    assert ours.min() >= 0
    assert (ours[:, 2:] <= size[::-1]).all()
    for x, y in zip(figures(ours), figures(theirs), strict=True):
        assert scipy.stats.ks_2samp(x, y, method="asymp").statistic * (count / 2) ** 0.5 < 1.95


@pytest.mark.parametrize(
    "size", [(100, 10), *(pytest.param(x, marks=pytest.mark.slow) for x in ((10, 100), (10, 10)))]
)
def test_if_no_draw_fits_the_window_is_the_largest_in_the_middle(size):
    (window,) = windows_of(1, size, scale=(1.0, 1.0), ratio=(0.7, 0.8))
    top, left, height, width = reference.random_window(
        size, np.random.RandomState(0), scale=(1.0, 1.0), ratio=(0.7, 0.8)
    )
    np.testing.assert_array_equal(window, [left, top, left + width, top + height])


@pytest.mark.slow
def test_a_random_window_is_a_function_of_its_key_on_every_device():
    options = {"size": (30, 40)}
    keys = jax.random.split(jax.random.key(0), 4)
    windows = jax.pmap(functools.partial(augment.random_resized_crop_window, **options))(keys)
    np.testing.assert_array_equal(windows, windows_of(4, **options))
    assert (windows[0] != windows[1]).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"scale": (0.0, 1.0)},
            r"scale is \(0.0, 1.0\): give two numbers that are more than 0",
        ),
        ({"scale": (0.5, 1.1)}, r"scale is \(0.5, 1.1\): .* at most 1"),
        ({"ratio": (2.0, 1.0)}, r"ratio is \(2.0, 1.0\): .* the smaller one first"),
    ],
)
def test_limits_of_a_random_window_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        augment.random_resized_crop_window(jax.random.key(0), (8, 8), **options)
