"""Resizing: against plain loops, MATLAB's known weights, and torch."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvision.ops import resize
from tests.ops.compiled import Case, check_cases, compiled
from tests.reference.ops import resize as reference

FORMS = {
    "bilinear": ("resize_bilinear", {}),
    "aligned": ("resize_bilinear", {"align_corners": True}),
    "bicubic": ("resize_bicubic", {}),
    "plain": ("resize_bicubic", {"antialias": False}),
    "nearest": ("resize_nearest", {}),
}
SIZES = [(14, 12), (3, 9), 4, (1, 1), (7, 2), (16, 5)]


def images(shape=(2, 7, 6, 3), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def of(form, module=resize):
    name, options = FORMS[form]
    return functools.partial(getattr(module, name), **options)


@pytest.mark.parametrize(
    "sizes", [SIZES[:3], pytest.param(SIZES[3:], marks=pytest.mark.slow)], ids=["quick", "others"]
)
def test_resize_equals_the_reference(sizes):
    cases = {
        f"{form} to {size}": Case(
            of(form), of(form, reference), (images(),), {"size": size}, atol=3e-6
        )
        for form, size in itertools.product(FORMS, sizes)
    }
    check_cases(cases)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_single_cells_and_many_terms(form):
    # The gradient of the first, and the second, have more terms than are summed one by one.
    pairs = {(1, 1, 2): (40, 3), (90, 3, 1): (4, 1), (5, 1, 1): (2, 70)}
    xs = [images(shape) for shape in pairs]
    gradients = [images((*size, shape[2]), seed=1) for shape, size in pairs.items()]

    @jax.jit
    def run(xs, gradients):
        results = []
        for x, gradient in zip(xs, gradients, strict=True):
            y, back = jax.vjp(lambda x, n=gradient.shape[:2]: of(form)(x, n), x)
            results.append((y, back(gradient)[0]))
        return results

    found = jax.device_get(run(xs, gradients))
    for x, gradient, (y, back) in zip(xs, gradients, found, strict=True):
        expected = of(form, reference)(x, gradient.shape[:2])
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=3e-6)
        # The operator is linear: <A x, g> = <x, A^T g>.
        np.testing.assert_allclose(
            (back * x).sum(), (expected * gradient).sum(), rtol=1e-4, atol=1e-4
        )


def test_the_same_size_changes_nothing_and_constants_stay():
    @jax.jit
    def run(x, constant):
        return {
            form: (of(form)(x, (7, 6)), [of(form)(constant, size) for size in SIZES[:2]])
            for form in FORMS
        }

    x = images()
    for same, constants in run(x, np.full((1, 7, 6, 1), 1e6, np.float32)).values():
        np.testing.assert_array_equal(same, x)
        for constant in constants:
            np.testing.assert_allclose(constant, 1e6, rtol=1e-6)


def test_bilinear_by_hand():
    x = np.float32([0, 1, 3]).reshape(1, 3, 1)
    bilinear = compiled(resize.resize_bilinear)
    actual = bilinear(x, (1, 6))[0, :, 0]
    np.testing.assert_allclose(actual, [0, 0.25, 0.75, 1.5, 2.5, 3])
    actual = bilinear(x, (2, 5), align_corners=True)[1, :, 0]
    np.testing.assert_allclose(actual, [0, 0.5, 1, 2, 3])


def test_matlabs_weights_for_one_half():
    # The weights of 8 cells for each output, as they come from the kernel at 1/4, 3/4, 5/4, 7/4.
    half = np.array([-0.01171875, -0.03515625, 0.11328125, 0.43359375])
    weights = np.concatenate([half, half[::-1]])
    impulses = np.eye(16, dtype=np.float32)[:, :, None]
    actual = np.asarray(compiled(resize.resize_bicubic)(impulses, (16, 8)))[:, :, 0]
    for output in range(2, 6):
        expected = np.zeros(16)
        expected[2 * output - 3 : 2 * output + 5] = weights
        np.testing.assert_allclose(actual[:, output], expected, atol=1e-7)
    # The first has 3 of its cells beyond the border: they are mirrored onto the first 3.
    np.testing.assert_allclose(
        actual[:5, 0],
        weights[3:] + np.concatenate([weights[2::-1], [0, 0]]),
        atol=1e-7,
    )


def test_matlabs_weights_for_two():
    # At 1/4 and 3/4 between cells; the kernel at 5/4, 1/4, 3/4 and 7/4.
    weights = np.array([-0.0703125, 0.8671875, 0.2265625, -0.0234375])
    impulses = np.eye(8, dtype=np.float32)[:, :, None]
    actual = np.asarray(compiled(resize.resize_bicubic)(impulses, (8, 16)))[:, :, 0]
    np.testing.assert_allclose(actual[2:6, 7], weights, atol=1e-7)
    np.testing.assert_allclose(actual[2:6, 8], weights[::-1], atol=1e-7)


def test_a_ramp_stays_a_ramp_away_from_the_border():
    margins = {"bilinear": 2, "bicubic": 4, "plain": 4}
    ramp = np.tile(np.arange(16, dtype=np.float32)[:, None, None], (1, 3, 1))
    run = jax.jit(lambda x: {form: of(form)(x, (32, 3))[:, 0, 0] for form in margins})
    expected = (np.arange(32) + 0.5) / 2 - 0.5
    for form, actual in run(ramp).items():
        inside = slice(margins[form], -margins[form])
        np.testing.assert_allclose(actual[inside], expected[inside], atol=1e-5)


_TO_5 = jax.jit(lambda x: {form: of(form)(x, (5, 5)) for form in FORMS})


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=12)
@given(st.sampled_from([(3, 4), (11, 1)]), st.integers(0, 10**6), st.floats(1e-6, 1e6))
def test_any_size_and_magnitude_equal_the_reference(shape, seed, magnitude):
    x = (images((*shape, 2), seed) * magnitude).astype(np.float32)
    for form, actual in _TO_5(x).items():
        expected = of(form, reference)(x, (5, 5))
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5 * np.abs(x).max())


def test_nearest_keeps_labels_and_masks():
    run = jax.jit(lambda x: [resize.resize_nearest(x, size) for size in SIZES[:2]])
    for dtype in (np.int32, np.uint8, np.bool_):
        x = (np.random.default_rng(3).integers(0, 200, (2, 7, 6, 1)) % 200).astype(dtype)
        for size, actual in zip(SIZES, run(x), strict=False):
            assert actual.dtype == dtype
            np.testing.assert_array_equal(actual, reference.resize_nearest(x, size))


@pytest.mark.slow
def test_precision_stays():
    sizes = (14, 4), (3, 11)
    with jax.enable_x64(True):
        x = images((7, 6, 1)).astype(np.float64)
        pairs = {form: (of(form), of(form, reference)) for form in FORMS}
        cases = {
            f"{form} to {size}": Case(*pair, (x,), {"size": size}, rtol=1e-8, atol=1e-9)
            for (form, pair), size in itertools.product(pairs.items(), sizes)
        }
        assert {y.dtype.name for y in check_cases(cases).values()} == {"float64"}
    run = jax.jit(lambda x: {form: of(form)(x, 4) for form in FORMS})
    for dtype in (jnp.float16, jnp.bfloat16):
        half = images().astype(dtype)
        single = run(half.astype("f4"))
        for form, actual in run(half).items():
            np.testing.assert_allclose(  # off by the rounding of the result alone
                np.asarray(actual).astype("f4"),
                single[form],
                rtol=0.5001 * float(jnp.finfo(dtype).eps),
            )


def test_no_images():
    x = np.zeros((0, 7, 6, 3), np.float32)
    results = jax.jit(lambda x: [of(form)(x, 4) for form in FORMS])(x)
    assert {y.shape for y in results} == {(0, 4, 4, 3)}


@pytest.mark.parametrize("form", FORMS)
def test_wrong_arguments_are_named(form):
    op = of(form)
    with pytest.raises(AssertionError, match=r"x is float32\[7, 6\]: give (float|number)\[..., H"):
        op(images((7, 6)), 4)
    with pytest.raises(AssertionError, match=r"x is .* no cells"):
        op(images((7, 0, 3)), 4)
    for size in (0, (1, 2, 3), 2.5, "4"):
        with pytest.raises(ValueError, match="size is "):
            op(images(), size)
    if form != "nearest":
        with pytest.raises(AssertionError, match="x is uint8"):
            op(np.zeros((7, 6, 3), np.uint8), 4)


@pytest.mark.parity
@pytest.mark.parametrize("size", [(7, 6), (14, 12), (3, 9), (4, 4), (1, 1), (23, 5), (56, 48)])
def test_bilinear_and_nearest_equal_torch(size):
    torch = pytest.importorskip("torch")
    x = images()
    there = torch.tensor(x).permute(0, 3, 1, 2)
    for form, options in (
        ("bilinear", {"mode": "bilinear", "align_corners": False}),
        ("aligned", {"mode": "bilinear", "align_corners": True}),
        ("nearest", {"mode": "nearest"}),
    ):
        expected = torch.nn.functional.interpolate(there, size, **options)
        np.testing.assert_allclose(
            of(form)(x, size), expected.permute(0, 2, 3, 1).numpy(), rtol=1e-5, atol=1e-5
        )
