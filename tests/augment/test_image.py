"""Augmentation: against the reference, what is random is fair, keys decide everything."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import augment
from jaxvision.core import ImageBatch, InputError
from jaxvision.testing import TRANSFORMS, check_op
from tests.marks import slow_but
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


RANDOM = {
    "RandomFlip": random_flip,
    "RandomCrop": functools.partial(random_crop, padding=2),
    "RandomResizedCrop": random_resized_crop,
    "Rotate": functools.partial(random_rotation, degrees=30.0),
}
random_ops = pytest.mark.parametrize("op", RANDOM.values(), ids=RANDOM.keys())


@random_ops
def test_the_same_key_gives_the_same_image_and_others_give_others(op):
    image, op = image_of(6, 5), jax.jit(op)
    results = [np.asarray(op(key, image)) for key in many_keys(12)]
    np.testing.assert_array_equal(op(many_keys(12)[3], image), results[3])
    assert any((result != results[0]).any() for result in results)


@random_ops
def test_vmap_over_keys_equals_a_loop_over_them(op):
    images = np.stack([image_of(5, 6), image_of(5, 6)[::-1]] * 4)
    keys, compiled = many_keys(8), jax.jit(op)
    looped = np.stack([compiled(key, image) for key, image in zip(keys, images, strict=True)])
    np.testing.assert_allclose(jax.jit(jax.vmap(op))(keys, images), looped, atol=1e-6)


@random_ops
def test_an_image_without_channels_is_refused(op):
    with pytest.raises(AssertionError, match=r"^image is float32\[4, 4\]"):
        op(jax.random.key(0), np.zeros((4, 4), "f4"))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_random_flip_equals_the_reference_or_the_image(transform, dtype):
    image = image_of(3, 4, 2, dtype)
    results = transform(over_keys(random_flip))(many_keys(8), image)
    assert results.dtype == dtype
    flipped = [bool((result != image).any()) for result in results]
    assert set(flipped) == {False, True}
    for result, was_flipped in zip(results, flipped, strict=True):
        np.testing.assert_array_equal(result, reference.flip(image) if was_flipped else image)


@pytest.mark.parametrize("probability", slow_but([0.0, 0.25, 0.5, 1.0], [0.0, 0.25, 1.0]))
def test_random_flip_happens_with_its_probability(probability):
    image = image_of(1, 2, 1)
    flip = jax.jit(over_keys(random_flip, probability=probability))
    results = flip(many_keys(2000), image)
    share = (results[:, 0, 0, 0] == image[0, 1, 0]).mean()
    deviation = (probability * (1 - probability) / 2000) ** 0.5
    assert abs(share - probability) <= 4 * deviation


def test_random_flip_happens_half_the_time_by_default():
    image = image_of(1, 2, 1)
    results = jax.jit(over_keys(random_flip))(many_keys(2000), image)
    assert abs((results[:, 0, 0, 0] == image[0, 1, 0]).sum() - 1000) <= 90


def crops(image, padding, fill):
    size = 2 * padding + 1
    return {
        (top, left): reference.pad_and_crop(image, top, left, padding=padding, fill=fill)
        for top in range(size)
        for left in range(size)
    }


@pytest.mark.parametrize(("dtype", "fill"), [(np.uint8, 0), (np.float32, 7)])
def test_random_crop_equals_the_reference_at_some_offset(transform, dtype, fill):
    image = image_of(4, 5, 2, dtype)
    possible = crops(image, 3, fill)
    crop = over_keys(random_crop, padding=3, fill=fill)
    results = transform(crop)(many_keys(4), image)
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


@pytest.mark.parametrize("transform", slow_but(TRANSFORMS, ["jit"]), indirect=True)
def test_random_crop_without_padding_is_the_identity(transform):
    image = image_of(3, 4)
    actual = transform(random_crop)(jax.random.key(0), image, padding=0)
    np.testing.assert_array_equal(actual, image)


@pytest.mark.parametrize("shape", [(5, 5, 1), (4, 7, 2), (6, 4, 3)], ids=str)
def test_rotate_equals_the_reference_at_every_angle(shape):
    image = image_of(*shape)
    angles = np.float32([0, 17, -17, 45, 90, 133.5, 180, 270, 400])
    rotated = jax.jit(jax.vmap(augment.rotate, in_axes=(None, 0)))(image, angles)
    expected = [reference.rotate(image, angle) for angle in angles]
    np.testing.assert_allclose(rotated, expected, atol=1e-5)


def test_rotate_equals_the_reference_and_fills_what_comes_from_outside():
    image = image_of(5, 4, 2)
    check_op(augment.rotate, reference.rotate, image, np.float32(30), fill=0.5, atol=1e-5)


def test_rotate_takes_bytes_and_gives_floats_of_the_same_range():
    image = np.full((4, 4, 3), 255, np.uint8)
    rotated = augment.rotate(image, np.float32(10), fill=255)
    assert rotated.dtype == jnp.float32
    np.testing.assert_allclose(rotated, 255, rtol=1e-6)


@pytest.mark.parametrize("size", [1, 4, 5])
def test_rotate_by_nothing_is_the_identity(size):
    image = image_of(size, size)
    np.testing.assert_array_equal(augment.rotate(image, np.float32(0)), image)


@pytest.mark.parametrize("size", slow_but([4, 5, 32, 33], [4, 33]))
def test_rotate_by_quarters_equals_rot90(size):
    image = image_of(size, size)
    rotate = jax.jit(augment.rotate)
    for quarters in (1, 2, 3, -1):
        rotated = rotate(image, np.float32(90 * quarters))
        np.testing.assert_allclose(rotated, np.rot90(image, quarters), atol=1e-4)


def test_rotate_turns_counter_clockwise():
    image = np.zeros((9, 9, 1), np.float32)
    image[4, 8] = 1  # on the right
    rotated = augment.rotate(image, np.float32(45))
    row, column = np.unravel_index(rotated.argmax(), (9, 9))
    assert (row, column) == (1, 7)  # above, on the right


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


@pytest.mark.parametrize("transform", slow_but(TRANSFORMS, ["pmap"]), indirect=True)
def test_a_random_rotation_equals_the_reference_at_some_angle(transform):
    image = ramp_and_noise()
    rotate = over_keys(random_rotation, degrees=40.0, fill=3)
    for result in transform(rotate)(many_keys(3), image):
        expected = reference.rotate(image, angle_of(result), fill=3)
        np.testing.assert_allclose(result, expected, atol=1e-4)


def test_a_random_rotation_draws_its_angle_uniformly():
    rotate = jax.jit(over_keys(random_rotation, degrees=40.0))
    results = rotate(many_keys(400), ramp_and_noise()[..., :1])
    angles = np.sort([angle_of(result) for result in np.asarray(results)])
    assert abs(angles).max() < 40.001
    # Kolmogorov-Smirnov: a fair draw exceeds 1.95 / sqrt(400) once in a thousand times.
    distance = abs((angles + 40) / 80 - (np.arange(400) + 0.5) / 400).max()
    assert distance < 1.95 / 400**0.5


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((4, 5, 3), np.uint8), ((2, 4, 5, 3), np.float32), ((3,), np.uint8)],
    ids=["image", "batch", "pixel"],
)
def test_normalize_equals_the_reference(shape, dtype):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    check_op(augment.normalize, reference.normalize, image, mean=mean, std=std, atol=1e-5)
    assert augment.normalize(image, mean=mean, std=std).dtype == jnp.float32


def test_normalize_takes_black_and_white_to_minus_one_and_one():
    image = np.array([[[0], [255]]], np.uint8)
    actual = augment.normalize(image, mean=(0.5,), std=(0.5,))
    np.testing.assert_array_equal(actual, [[[-1], [1]]])


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (1.0,) * 3), ((0.5,) * 3, (1.0,) * 2)])
def test_normalize_names_the_wrong_number_of_figures(mean, std):
    with pytest.raises(AssertionError, match=r"shape \([12],\) but expected \(3\)"):
        augment.normalize(np.zeros((2, 2, 3), np.uint8), mean=mean, std=std)


def test_random_resized_crop_shows_its_random_window():
    image, keys = image_of(20, 17, dtype=np.uint8), many_keys(6)
    options = {"scale": (0.2, 0.9), "ratio": (0.5, 1.5)}
    results = jax.jit(over_keys(random_resized_crop, **options))(keys, image)
    draw = functools.partial(augment.random_resized_crop_window, size=(20, 17), **options)
    windows = jax.jit(jax.vmap(draw))(keys)
    assert len({tuple(window) for window in np.asarray(windows)}) == 6
    expected = [reference.resized_crop(image, window) for window in np.asarray(windows)]
    assert results.dtype == np.float32
    np.testing.assert_allclose(results, expected, atol=1e-3)


@pytest.mark.parametrize("transform", slow_but(TRANSFORMS, ["vmap"]), indirect=True)
def test_random_resized_crop_is_a_function_of_its_key(transform):
    image = image_of(9, 12)
    result = transform(random_resized_crop)(jax.random.key(2), image)
    np.testing.assert_allclose(
        result, jax.jit(random_resized_crop)(jax.random.key(2), image), atol=1e-5
    )
    assert (result != transform(random_resized_crop)(jax.random.key(3), image)).any()


@pytest.mark.parametrize("dtype", slow_but([np.uint8, np.float32], [np.uint8]))
def test_the_eight_symmetries_are_all_as_likely(dtype):
    image = image_of(5, 5, 2, dtype)
    results = jax.jit(over_keys(random_symmetry))(many_keys(1600), image)
    assert results.dtype == dtype
    turned = [np.rot90(image, quarters) for quarters in range(4)]
    symmetries = np.stack([*turned, *(x[:, ::-1] for x in turned)])
    drawn = (np.asarray(results)[:, None] == symmetries[None]).all(axis=(2, 3, 4))
    assert (drawn.sum(axis=1) == 1).all()
    # Chi-squared with 7 degrees of freedom: a fair draw exceeds 24.4 once in a thousand times.
    assert ((drawn.sum(axis=0) - 200) ** 2 / 200).sum() < 24.4


def test_symmetry_refuses_images_that_are_not_square():
    with pytest.raises(InputError, match="the images are 4 x 5 pixels: Symmetry needs square ones"):
        random_symmetry(jax.random.key(0), image_of(4, 5))
