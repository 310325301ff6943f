"""Changes of colour by an amount: against the reference, Pillow and torchvision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import PIL.ImageEnhance
import PIL.ImageOps
import pytest

from jaxvision import augment
from jaxvision.testing import check_finite_gradients, check_op
from tests.augment.test_color import uniform_distance
from tests.marks import slow_but
from tests.ops.parity import import_torchvision
from tests.reference import augment as reference


def image_of(height=19, width=17, channels=3, dtype=np.uint8):
    """Colours of 30..219, so that there is something to stretch; the last row is grey."""
    image = np.random.default_rng(0).integers(30, 220, (height, width, channels))
    image[-1] = image[-1, :, :1]
    return image.astype(dtype)


AMOUNTS = {
    "adjust_brightness": (0.0, 0.7, 1.0, 1.8),
    "adjust_contrast": (0.0, 0.7, 1.0, 2.5),
    "adjust_saturation": (0.0, 0.7, 1.0, 2.5),
    "adjust_sharpness": (0.0, 0.7, 1.0, 2.5),
    "adjust_hue": (-0.5, -0.2, 0.0, 0.35, 0.5),
    "posterize": (8, 7, 4, 1, 0),
    "solarize": (0.0, 99.5, 128.0, 256.0),
}
WITHOUT = ("autocontrast", "equalize")


@pytest.mark.parametrize(
    ("name", "channels"),
    slow_but(
        [(name, channels) for name in AMOUNTS for channels in (1, 3)],
        [*((name, 3) for name in AMOUNTS), ("adjust_contrast", 1)],
    ),
)
def test_each_change_equals_the_reference_for_every_amount(name, channels):
    image = image_of(channels=channels)
    amounts = np.array(AMOUNTS[name])
    amounts = amounts.astype(np.float32 if amounts.dtype == float else np.int32)
    results = jax.jit(jax.vmap(getattr(augment, name), (None, 0)))(image, amounts)
    assert results.dtype == jnp.float32
    expected = [getattr(reference, name)(image, amount) for amount in amounts]
    np.testing.assert_allclose(results, expected, atol=2e-3)


@pytest.mark.parametrize("name", WITHOUT)
def test_stretching_and_equalizing_equal_the_reference_and_leave_one_value_as_it_is(name):
    flat = np.full((19, 17, 3), 77, np.uint8)
    two = np.where(np.arange(17) < 8, 3, 250)[None, :, None] + np.zeros((19, 17, 3), int)
    mixed = np.concatenate([image_of()[..., :2], flat[..., :1]], axis=-1)
    images = np.stack([image_of(), flat, two.astype(np.uint8), mixed])
    results = jax.jit(jax.vmap(getattr(augment, name)))(images)
    assert results.dtype == jnp.float32
    expected = [getattr(reference, name)(image) for image in images]
    np.testing.assert_allclose(results, expected, atol=1e-3)
    np.testing.assert_array_equal(results[1], flat)


@pytest.mark.parametrize(
    "name", slow_but([*AMOUNTS, *WITHOUT], ["adjust_contrast", "adjust_hue", "equalize"])
)
def test_each_change_equals_the_reference_on_every_device(name):
    amount = [np.array(x)[()] for x in AMOUNTS.get(name, ())][1:2]
    amount = [np.int32(x) if name == "posterize" else np.float32(x) for x in amount]
    image = image_of(dtype=np.float32) + np.float32(0.25)
    check_op(
        getattr(augment, name),
        getattr(reference, name),
        image,
        *amount,
        atol=2e-3,
        transforms=("pmap",),
    )


PILLOW = {
    "posterize": lambda image: PIL.ImageOps.posterize(image, 3),
    "solarize": lambda image: PIL.ImageOps.solarize(image, 120),
    "equalize": PIL.ImageOps.equalize,
    "autocontrast": PIL.ImageOps.autocontrast,
    "adjust_brightness": lambda image: PIL.ImageEnhance.Brightness(image).enhance(1.4),
    "adjust_contrast": lambda image: PIL.ImageEnhance.Contrast(image).enhance(1.4),
    "adjust_saturation": lambda image: PIL.ImageEnhance.Color(image).enhance(1.4),
    "adjust_sharpness": lambda image: PIL.ImageEnhance.Sharpness(image).enhance(1.4),
}
OF_PILLOW = {"posterize": 3, "solarize": 120}


@pytest.mark.parametrize("name", PILLOW)
def test_each_change_equals_pillows_of_bytes_but_for_fractions(name):
    image = image_of(40, 30)
    amount = () if name in WITHOUT else (OF_PILLOW.get(name, 1.4),)
    result = np.asarray(jax.jit(getattr(augment, name))(image, *amount))
    expected = np.asarray(PILLOW[name](PIL.Image.fromarray(image))).astype(np.float32)
    if name in ("posterize", "solarize", "equalize"):
        np.testing.assert_array_equal(result, expected)
    elif name == "autocontrast":  # Pillow cuts off what is behind the point
        np.testing.assert_array_equal(np.floor(result + 1e-3), expected)
    else:  # Pillow also rounds what 0.4 of is taken off: the mean grey, each grey, what is smooth
        assert -0.21 < (result - expected).min() <= (result - expected).max() < 1.21


def test_an_image_of_two_pixels_a_side_has_nothing_to_sharpen():
    images = [
        np.ones(shape, np.uint8) * np.arange(shape[1], dtype=np.uint8)[None, :, None]
        for shape in ((2, 5, 3), (5, 1, 3), (1, 1, 1))
    ]
    results = jax.jit(lambda images: [augment.adjust_sharpness(x, 3.0) for x in images])(images)
    for result, image in zip(results, images, strict=True):
        np.testing.assert_allclose(result, image, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    slow_but(
        [name for name in AMOUNTS if name.startswith("adjust")],
        ["adjust_contrast", "adjust_saturation", "adjust_hue"],
    ),
)
def test_gradients_are_finite_also_at_grey_black_and_white(name):
    image = np.concatenate([image_of(4, 5), np.zeros((2, 5, 3)), np.full((2, 5, 3), 255)])
    check_finite_gradients(
        getattr(augment, name), image.astype(np.float32), np.float32(0.4), argnums=(0, 1)
    )


@pytest.mark.parity
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [*AMOUNTS, *WITHOUT])
def test_each_change_equals_torchvisions(name, channels):
    torch, functional = import_torchvision("transforms.functional")
    image = image_of(40, 30, channels)
    tensor = torch.tensor(image).permute(2, 0, 1)
    # Bytes where torchvision has nothing else, or where no fractions arise.
    exact = name in ("posterize", "solarize", "equalize")
    for amount in AMOUNTS.get(name, (None,)):
        given = [] if amount is None else [amount]
        if not exact:
            theirs = 255 * getattr(functional, name)(tensor / 255, *given)
        elif amount == 256.0:
            continue  # refused there
        else:
            theirs = getattr(functional, name)(tensor, *given)
        ours = getattr(augment, name)(image, *given)
        # Its shares of red, green and blue sum to 0.9999.
        atol = 0.04 if name in ("adjust_contrast", "adjust_saturation") else 2e-3
        np.testing.assert_allclose(ours, theirs.permute(1, 2, 0), atol=0 if exact else atol)


FOUR_COLOURS = np.array([[[250, 40, 90], [3, 120, 200]], [[128, 128, 255], [60, 0, 10]]], np.uint8)
JITTER = {"brightness": 1.0, "contrast": 1.5, "saturation": 2.0, "hue": 0.4}
STRONG = {"brightness": 4.0, "contrast": 4.0, "saturation": 4.0}


def jittered(count, image, **limits):
    keys = jax.random.split(jax.random.key(0), count)
    op = functools.partial(augment.color_jitter, **limits)
    return np.asarray(jax.jit(jax.vmap(op, (0, None)))(keys, image))


@pytest.mark.parametrize(
    ("name", "limit", "least"),
    slow_but(
        [
            (name, *limits)
            for name in ("brightness", "contrast", "saturation")
            for limits in ((0.4, 0.6), (1.5, 0.0))
        ],
        [("brightness", 1.5, 0.0), ("contrast", 0.4, 0.6)],
    ),
)
def test_color_jitter_draws_factors_uniformly(name, limit, least):
    image = np.array([[[20, 20, 30], [10, 30, 20]]], np.uint8)
    results = jittered(400, image, **{name: limit})[:, 0, 0, 2].astype(np.float64)
    other = getattr(reference, f"adjust_{name}")(image, 0.0)[0, 0, 2]
    factors = (results - other) / (30 - other)
    if name != "brightness":  # a little above: not 0 for the smallest factors
        assert other > 15
    assert uniform_distance(factors, least, 1 + limit) < 1.95


def test_color_jitter_draws_shifts_of_the_hue_uniformly():
    image = np.array([[[200, 100, 100]]], np.uint8)
    hue = np.array([reference.rgb_to_hsv(x)[0, 0, 0] for x in jittered(300, image, hue=0.2)])
    assert uniform_distance((hue + 0.5) % 1 - 0.5, -0.2, 0.2) < 1.95


@pytest.mark.slow
@pytest.mark.parametrize("limits", [JITTER, STRONG], ids=["hue", "factors"])
def test_color_jitter_has_all_orders_alike(limits):
    """Two-sample Kolmogorov-Smirnov, on what depends on the order: what was cut at 0 or 255."""
    image, count = FOUR_COLOURS, 1500
    results = jittered(count, image, **limits)
    assert results.min() >= 0
    assert results.max() <= 255
    rng = np.random.default_rng(0)

    def expected():
        draws = [
            (name, rng.uniform(-limit, limit) if name == "hue" else rng.uniform(0, 1 + limit))
            for name, limit in limits.items()
        ]
        return reference.color_jitter(image, [draws[n] for n in rng.permutation(len(draws))])

    others = np.stack([expected() for _ in range(count)])
    for ours, theirs in zip(
        np.moveaxis(results, 0, -1).reshape(-1, count),
        np.moveaxis(others, 0, -1).reshape(-1, count),
        strict=True,
    ):
        # In steps of a few values, as what is cut at a border is on it or next to it by rounding.
        steps = np.linspace(-0.5, 255.5, 200)
        shares = [np.searchsorted(np.sort(x), steps) / count for x in (ours, theirs)]
        # Twelve values: one in 1e4 fair draws exceeds 2.23.
        assert abs(shares[0] - shares[1]).max() * (count / 2) ** 0.5 < 2.23


@pytest.mark.slow
def test_color_jitter_of_grey_is_a_function_of_its_key_on_every_device():
    image, keys = FOUR_COLOURS[..., :1], jax.random.split(jax.random.key(0), 1500)
    op = functools.partial(augment.color_jitter, **JITTER)
    over_keys = jax.pmap(jax.vmap(op, (0, None)), in_axes=(0, None))
    results = np.asarray(over_keys(keys[:8].reshape(4, 2), image)).reshape(8, *image.shape)
    assert results.dtype == np.float32
    np.testing.assert_allclose(results, jittered(1500, image, **JITTER)[:8], atol=1e-3)
    assert abs(results[0] - results[1]).max() > 1


@pytest.mark.long
def test_color_jitter_is_the_same_operation_by_operation():
    keys = jax.random.split(jax.random.key(0), 1500)
    result = augment.color_jitter(keys[0], FOUR_COLOURS, **JITTER)
    np.testing.assert_allclose(result, jittered(1500, FOUR_COLOURS, **JITTER)[0], atol=1e-3)


def test_color_jitter_without_limits_is_the_identity():
    result = jax.jit(augment.color_jitter)(jax.random.key(0), image_of())
    np.testing.assert_array_equal(result, image_of())


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"hue": 0.6}, "hue is 0.6"),
        ({"saturation": -0.5}, "saturation is -0.5"),
        ({"contrast": float("nan")}, "contrast is nan"),
        ({"brightness": float("inf")}, "brightness is inf"),
    ],
)
def test_color_jitter_refuses_limits_out_of_range(limits, message):
    with pytest.raises(ValueError, match=message):
        augment.color_jitter(jax.random.key(0), image_of(), **limits)


@pytest.mark.parametrize("name", [*AMOUNTS, *WITHOUT])
def test_another_shape_or_dtype_is_named(name):
    op = getattr(augment, name)
    amount = () if name in WITHOUT else (1,)
    for image in (np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3), bool)):
        with pytest.raises(AssertionError, match=r"^image is"):
            op(image, *amount)
    if amount:
        with pytest.raises(AssertionError, match=r"^(factor|shift|bits|threshold) is"):
            op(image_of(), np.zeros(2, np.int32))


@pytest.mark.parametrize("name", ["adjust_contrast", "adjust_saturation", "adjust_hue"])
def test_what_is_neither_grey_nor_rgb_is_named(name):
    with pytest.raises(AssertionError, match=r"^image is float32\[2, 2, 4\]"):
        getattr(augment, name)(np.zeros((2, 2, 4), np.uint8), 0.5)
