"""RandAugment: each result is that of one operation, or of one after another; all are as likely."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import augment
from jaxvision.core import InputError
from tests.ops.parity import import_torchvision
from tests.reference import augment as reference

MAGNITUDE = 17  # with it, no place that is sampled is on the border between two pixels
UNSIGNED = ("Identity", "Posterize", "Solarize", "AutoContrast", "Equalize")


def image_of(height=19, width=17, channels=3):
    image = np.random.default_rng(0).integers(30, 220, (height, width, channels))
    return image.astype(np.uint8)


@functools.lru_cache
def compiled(**options):
    op = functools.partial(augment.rand_augment, **options)
    return jax.jit(jax.vmap(op, (0, None)))


COUNT = 1400


def many_keys():
    return jax.random.split(jax.random.key(1), COUNT)


def results_of(image, **options):
    return np.asarray(compiled(magnitude=MAGNITUDE, **options)(many_keys(), image))


def operations(image):
    return reference.rand_augment_operations(MAGNITUDE / 30, *image.shape[:2])


@pytest.mark.slow
def test_each_result_is_that_of_one_operation_and_all_are_as_likely():
    image = image_of()
    results = results_of(image, num_ops=1)
    assert results.dtype == np.float32
    names = operations(image)
    expected = np.stack([op(image) for op in names.values()])
    distance = abs(results[:, None] - expected[None]).max(axis=(2, 3, 4))
    assert ((distance < 2e-3).sum(axis=1) == 1).all(), "one, and no other"
    drawn = np.bincount(distance.argmin(axis=1), minlength=len(names))
    fair = np.array([COUNT / (14 if name in UNSIGNED else 28) for name, _ in names])
    # Chi-squared with 22 degrees of freedom: a fair draw exceeds 49 once in a thousand times.
    assert ((drawn - fair) ** 2 / fair).sum() < 49


@pytest.mark.slow
def test_two_operations_are_one_after_the_other_each_drawn_by_itself():
    image = image_of(17, 18)
    results = results_of(image, num_ops=2)[:12]
    names = operations(image)
    once = {name: op(image) for name, op in names.items()}
    pairs = {(a, b): names[b](once[a]) for a in once for b in names}
    distance = np.array(
        [[abs(result - expected).max() for expected in pairs.values()] for result in results]
    )
    assert (distance.min(axis=1) < 5e-3).all()
    drawn = {[*pairs][n] for n in distance.argmin(axis=1)}
    assert len(drawn) > 8
    assert any(a != b for a, b in drawn)


@pytest.mark.slow
def test_grey_images_are_what_all_channels_of_equal_ones_are():
    image = image_of(channels=1)
    grey = results_of(image, num_ops=1)[:40]
    colour = results_of(np.tile(image, 3), num_ops=1)[:40]
    np.testing.assert_allclose(np.tile(grey, 3), colour, atol=2e-3)


@pytest.mark.slow
def test_bilinear_sampling_and_the_fill():
    image = np.full((19, 17, 3), 90, np.uint8)
    results = results_of(image, num_ops=1, method="bilinear", fill=200.0)[:60]
    sampled = [result for result in results if 200.0 in result]
    assert len(sampled) > 10
    for result in sampled:
        assert set(np.unique(np.round(result, 3))) <= {90.0, 200.0}


@pytest.mark.slow
def test_a_key_gives_the_same_image_on_every_device():
    image = image_of(17, 18)
    op = functools.partial(augment.rand_augment, num_ops=2, magnitude=MAGNITUDE)
    results = jax.pmap(op, in_axes=(0, None))(many_keys()[:4], image)
    assert results.dtype == jnp.float32
    np.testing.assert_allclose(results, results_of(image, num_ops=2)[:4], atol=2e-3)


@pytest.mark.long
def test_a_key_gives_the_same_image_operation_by_operation():
    image = image_of(17, 18)
    result = augment.rand_augment(many_keys()[0], image, num_ops=2, magnitude=MAGNITUDE)
    np.testing.assert_allclose(result, results_of(image, num_ops=2)[0], atol=2e-3)


def test_no_operations_are_the_identity():
    result = augment.rand_augment(jax.random.key(0), image_of(), num_ops=0)
    np.testing.assert_array_equal(result, image_of())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_ops": -1}, "num_ops is -1"),
        ({"magnitude": 31}, "magnitude is 31: give at least 0 and at most 30"),
        ({"num_bins": 1}, "num_bins is 1"),
        ({"method": "cubic"}, "unknown method 'cubic'"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        compiled(**options)(many_keys(), image_of())


def test_an_image_of_another_shape_is_named():
    with pytest.raises(AssertionError, match=r"^image is uint8\[4, 4\]"):
        augment.rand_augment(jax.random.key(0), np.zeros((4, 4), np.uint8))


@pytest.mark.parity
@pytest.mark.parametrize("magnitude", [5, 9, 17, 30])
def test_each_operation_is_torchvisions(magnitude):
    """Of torchvision each operation, with its own magnitudes, on bytes."""
    torch, autoaugment = import_torchvision("transforms.autoaugment")
    modes = autoaugment.InterpolationMode
    image = image_of(40, 36)
    tensor = torch.tensor(image).permute(2, 0, 1)
    space = autoaugment.RandAugment()._augmentation_space(31, image.shape[:2])
    theirs = []
    for name, (magnitudes, signed) in space.items():
        amount = float(magnitudes[magnitude]) if magnitudes.ndim else 0.0
        for sign in (1, -1) if signed else (1,):
            result = autoaugment._apply_op(
                tensor, name, sign * amount, interpolation=modes.NEAREST, fill=[127.0] * 3
            )
            theirs.append(result.permute(1, 2, 0).numpy().astype(np.float32))
    keys = jax.random.split(jax.random.key(1), 300)
    results = np.asarray(compiled(magnitude=magnitude, num_ops=1)(keys, image))
    ours = {result.tobytes(): result for result in results}.values()
    # Of each result there the fraction is cut off, and so it is of the grey that is blended.
    near = np.array([[abs(x - y).max() < 2 for y in theirs] for x in ours])
    assert near.any(axis=1).all()
    assert near.any(axis=0).all()
