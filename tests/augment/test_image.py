"""Augmentation: against the reference, what is random is fair, keys decide everything."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import augment
from jaxvision.core import ImageBatch, InputError
from jaxvision.testing import TRANSFORMS, check_op
from tests.marks import long_but, slow_but
from tests.reference import augment as reference


def image_of(height, width, channels=3, dtype=np.float32):
    """An image without two equal pixels (but uint8 wraps around at 256)."""
    values = np.arange(1, height * width * channels + 1).reshape(height, width, channels)
    values = values if np.issubdtype(dtype, np.integer) else values / values.size
    return values.astype(dtype)


def changed_by(augmentation):
    """(key, image, options) -> what the augmentation makes of the image."""

    def change(key, image, **options):
        return augmentation(**options)(key, ImageBatch(image=image, mask=np.True_)).image

    return change


random_flip = changed_by(augment.RandomFlip)
random_crop = changed_by(augment.RandomCrop)
random_rotation = changed_by(augment.Rotate)
random_resized_crop = changed_by(augment.RandomResizedCrop)
random_symmetry = changed_by(augment.Symmetry)


def many_keys(number):
    return jax.random.split(jax.random.key(0), number)


def over_keys(op, **static):
    """(keys, image) -> the image changed with every key."""
    return jax.vmap(functools.partial(op, **static), in_axes=(0, None))


@pytest.mark.parametrize(
    "op",
    [
        random_flip,
        functools.partial(random_crop, padding=2),
        random_resized_crop,
        functools.partial(random_rotation, degrees=30.0),
    ],
    ids=["RandomFlip", "RandomCrop", "RandomResizedCrop", "Rotate"],
)
def test_an_image_without_channels_is_refused(op):
    with pytest.raises(AssertionError, match=r"^image is float32\[4, 4\]"):
        op(jax.random.key(0), np.zeros((4, 4), "f4"))


some_dtypes = pytest.mark.parametrize(
    ("transform", "dtype"),
    long_but(
        [(transform, dtype) for transform in TRANSFORMS for dtype in (np.uint8, np.float32)],
        [("jit", np.float32), ("pmap", np.uint8)],
        [("eager", np.uint8)],
    ),
    indirect=["transform"],
)


@some_dtypes
def test_random_flip_equals_the_reference_or_the_image(transform, dtype):
    image = image_of(3, 4, 2, dtype)
    results = np.asarray(transform(over_keys(random_flip))(many_keys(8), image))
    assert results.dtype == dtype
    flipped = [bool((result != image).any()) for result in results]
    assert set(flipped) == {False, True}
    for result, was_flipped in zip(results, flipped, strict=True):
        np.testing.assert_array_equal(result, reference.flip(image) if was_flipped else image)


def crops(image, padding, fill):
    size = 2 * padding + 1
    return {
        (top, left): reference.pad_and_crop(image, top, left, padding=padding, fill=fill)
        for top in range(size)
        for left in range(size)
    }


@some_dtypes
def test_random_crop_equals_the_reference_at_some_offset(transform, dtype):
    image, fill = image_of(4, 5, 2, dtype), 0 if dtype == np.uint8 else 7
    possible = crops(image, 3, fill)
    crop = over_keys(random_crop, padding=3, fill=fill)
    results = np.asarray(transform(crop)(many_keys(4), image))
    assert results.dtype == dtype
    for result in results:
        assert sum(np.array_equal(result, expected) for expected in possible.values()) == 1


def test_random_crop_covers_all_offsets_uniformly():
    image = image_of(5, 6, 1)
    crop = jax.jit(over_keys(random_crop, padding=2))
    results = np.asarray(crop(many_keys(2500), image))
    counts = {
        at: (results == expected).all(axis=(1, 2, 3)).sum()
        for at, expected in crops(image, 2, 0).items()
    }
    assert sum(counts.values()) == 2500
    # Chi-squared with 24 degrees of freedom; a fair draw exceeds 52 once in a thousand times, and
    # an offset that never comes adds 100.
    assert sum((count - 100) ** 2 / 100 for count in counts.values()) < 52


def test_random_crop_without_padding_is_the_identity():
    image = image_of(3, 4)
    actual = jax.jit(functools.partial(random_crop, padding=0))(jax.random.key(0), image)
    np.testing.assert_array_equal(actual, image)


@functools.lru_cache
def compiled_rotate(fill=0.0):
    return jax.jit(jax.vmap(functools.partial(augment.rotate, fill=fill), in_axes=(None, 0)))


ANGLES = np.float32([0, 17, -17, 45, 90, 180, 270, -90, 133.5, 400])


def test_rotate_equals_the_reference_at_every_angle_and_by_nothing_is_the_identity():
    image = image_of(6, 4, 3)
    rotated = np.asarray(compiled_rotate()(image, ANGLES))
    expected = [reference.rotate(image, angle) for angle in ANGLES]
    np.testing.assert_allclose(rotated, expected, atol=1e-5)
    np.testing.assert_array_equal(rotated[0], image)


def test_rotate_of_one_pixel_is_the_identity():
    np.testing.assert_array_equal(jax.jit(augment.rotate)(image_of(1, 1), 0.0), image_of(1, 1))


def test_rotate_fills_what_comes_from_outside_and_gives_floats_of_the_range_of_bytes():
    image = image_of(5, 4, 2, np.uint8)
    rotated = np.asarray(compiled_rotate(fill=255.0)(image, np.float32([30, 10])))
    assert rotated.dtype == np.float32
    expected = [reference.rotate(image, angle, fill=255.0) for angle in (30, 10)]
    np.testing.assert_allclose(rotated, expected, rtol=1e-6, atol=1e-4)
    white = np.full_like(image, 255)
    rotated = compiled_rotate(fill=255.0)(white, np.float32([30, 10]))
    np.testing.assert_allclose(rotated, np.float32([white, white]), rtol=1e-6)


@pytest.mark.parametrize("size", slow_but([4, 5, 32, 33], [33]))
def test_rotate_by_quarters_equals_rot90_and_turns_counter_clockwise(size):
    image = image_of(size, size)
    rotated = compiled_rotate()(image, ANGLES)
    for quarters, at in ((1, 4), (2, 5), (3, 6), (-1, 7)):
        np.testing.assert_allclose(rotated[at], np.rot90(image, quarters), atol=1e-4)


def angle_of(rotated):
    """By how many degrees a ramp of slope 1 in x was turned, from the centre's two slopes.

    Bilinear sampling of a ramp is exact, and no pixel around the centre comes from outside.
    """
    slope_x = rotated[5, 6, 0] - rotated[5, 5, 0]
    slope_y = rotated[6, 5, 0] - rotated[5, 5, 0]
    return np.degrees(np.arctan2(-slope_y, slope_x))


def ramp_and_noise():
    ramp = np.broadcast_to(np.arange(11.0), (11, 11))
    noise = np.random.default_rng(0).uniform(size=(11, 11))
    return np.stack([ramp, noise], axis=-1).astype(np.float32)


def test_a_random_rotation_equals_the_reference_at_angles_drawn_uniformly():
    image = ramp_and_noise()
    rotate = jax.jit(over_keys(random_rotation, degrees=40.0, fill=3))
    results = np.asarray(rotate(many_keys(400), image))
    for result in results[:3]:
        expected = reference.rotate(image, angle_of(result), fill=3)
        np.testing.assert_allclose(result, expected, atol=1e-4)
    angles = np.sort([angle_of(result) for result in results])
    assert abs(angles).max() < 40.001
    # Kolmogorov-Smirnov: a fair draw exceeds 1.95 / sqrt(400) once in a thousand times.
    distance = abs((angles + 40) / 80 - (np.arange(400) + 0.5) / 400).max()
    assert distance < 1.95 / 400**0.5


@pytest.mark.parametrize(
    ("shape", "dtype", "transform"),
    [((4, 5, 3), np.uint8, "eager"), ((2, 4, 5, 3), np.float32, "pmap"), ((3,), np.uint8, "vmap")],
    ids=["image", "batch", "pixel"],
)
def test_normalize_equals_the_reference(shape, dtype, transform):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    options = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    check_op(
        augment.normalize, reference.normalize, image, **options, atol=1e-5, transforms=(transform,)
    )
    run = functools.partial(augment.normalize, **options)
    assert jax.eval_shape(run, image).dtype == jnp.float32


def test_normalize_takes_black_and_white_to_minus_one_and_one():
    image = np.array([[[0], [255]]], np.uint8)
    actual = augment.normalize(image, mean=(0.5,), std=(0.5,))
    np.testing.assert_array_equal(actual, [[[-1], [1]]])


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (1.0,) * 3), ((0.5,) * 3, (1.0,) * 2)])
def test_normalize_names_the_wrong_number_of_figures(mean, std):
    with pytest.raises(AssertionError, match=r"shape \([12],\) but expected \(3\)"):
        augment.normalize(np.zeros((2, 2, 3), np.uint8), mean=mean, std=std)


@pytest.mark.slow
def test_random_resized_crop_shows_its_random_window():
    image, keys = image_of(20, 17, dtype=np.uint8), many_keys(6)
    options = {"scale": (0.2, 0.9), "ratio": (0.5, 1.5)}

    def run(key, image):
        window = augment.random_resized_crop_window(key, size=(20, 17), **options)
        return random_resized_crop(key, image, **options), window

    results, windows = jax.device_get(jax.jit(over_keys(run))(keys, image))
    assert len({tuple(window) for window in windows}) == 6
    expected = [reference.resized_crop(image, window) for window in windows]
    assert results.dtype == np.float32
    np.testing.assert_allclose(results, expected, atol=1e-3)


def test_the_eight_symmetries_are_all_as_likely():
    image = image_of(5, 5, 2, np.uint8)
    results = jax.jit(over_keys(random_symmetry))(many_keys(1600), image)
    assert results.dtype == np.uint8
    turned = [np.rot90(image, quarters) for quarters in range(4)]
    symmetries = np.stack([*turned, *(x[:, ::-1] for x in turned)])
    drawn = (np.asarray(results)[:, None] == symmetries[None]).all(axis=(2, 3, 4))
    assert (drawn.sum(axis=1) == 1).all()
    # Chi-squared with 7 degrees of freedom: a fair draw exceeds 24.4 once in a thousand times.
    assert ((drawn.sum(axis=0) - 200) ** 2 / 200).sum() < 24.4


def test_symmetry_refuses_images_that_are_not_square():
    with pytest.raises(InputError, match="the images are 4 x 5 pixels: Symmetry needs square ones"):
        random_symmetry(jax.random.key(0), image_of(4, 5))
