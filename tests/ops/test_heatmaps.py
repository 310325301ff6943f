"""Heatmaps of landmarks, and landmarks of heatmaps."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from jaxvision.ops import gaussian_heatmaps, heatmap_argmax, soft_argmax
from jaxvision.testing import TRANSFORMS, check_op
from tests.reference.ops import heatmaps as reference

SIZE = (7, 9)


def points_of(count=5, seed=0):
    """Some of them outside maps of SIZE."""
    return np.random.default_rng(seed).uniform(-2, 11, (count, 2)).astype("f4")


def maps_of(count=5, seed=0, *, ties=False):
    rng, shape = np.random.default_rng(seed), (*SIZE, count)
    maps = rng.integers(-1, 2, shape) if ties else rng.normal(scale=3, size=shape)
    return maps.astype("f4")


def test_a_gaussian_by_hand():
    found = gaussian_heatmaps(np.float32([[1.5, 0.5], [1, 1]]), size=(2, 3), sigma=2.0)
    one, two, five = (math.exp(-square / 8) for square in (1, 2, 2.5))
    np.testing.assert_allclose(found[..., 0], [[one, 1, one], [two, one, two]], rtol=1e-6)
    half = math.exp(-0.5 / 8)
    np.testing.assert_allclose(found[..., 1], [[half, half, five]] * 2, rtol=1e-6)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 40.0])
def test_gaussians_equal_the_reference(sigma):
    how = {"size": SIZE, "sigma": sigma, "transforms": TRANSFORMS if sigma == 1 else ["jit"]}
    check_op(gaussian_heatmaps, reference.gaussian_heatmaps, points_of(), **how)


def test_the_highest_pixel_by_hand():
    heatmap = np.float32([[0, 1, 0], [2, 4, 1], [0, 1, 0], [0, 0, 0]])[..., None]
    points, scores = heatmap_argmax(heatmap)
    # Along x the logarithms are (1, 2, 0) ln 2: a vertex 1/6 before the middle.
    np.testing.assert_allclose(points, [[1.5 - 1 / 6, 1.5]], rtol=1e-6)
    np.testing.assert_array_equal(scores, [4])
    centres, _ = heatmap_argmax(heatmap, subpixel=False)
    np.testing.assert_array_equal(centres, [[1.5, 1.5]])


@pytest.mark.parametrize("ties", [False, True])
def test_the_highest_pixel_equals_the_reference(ties):
    maps = maps_of(ties=ties)
    maps[..., 0] = np.abs(maps[..., 0])
    maps[..., 1] = 1  # a plateau
    transforms = ["jit"] if ties else TRANSFORMS
    check_op(heatmap_argmax, reference.heatmap_argmax, maps, transforms=transforms)
    check_op(heatmap_argmax, reference.heatmap_argmax, maps, subpixel=False, transforms=["jit"])


_back_and_forth = jax.jit(
    lambda points, sigma: heatmap_argmax(_gaussians(points, sigma)), static_argnums=1
)


def _gaussians(points, sigma):
    return gaussian_heatmaps(points, size=SIZE, sigma=sigma)


INSIDE = st.tuples(
    st.floats(1.125, SIZE[1] - 1.125, width=32),
    st.floats(1.125, SIZE[0] - 1.125, width=32),
)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.lists(INSIDE, min_size=4, max_size=4), st.sampled_from([0.6, 1.5]))
def test_the_highest_place_of_a_gaussian_is_exact(points, sigma):
    points = np.array(points, "f4")
    found, scores = _back_and_forth(points, sigma)
    np.testing.assert_allclose(found, points, atol=1e-5)
    assert (np.asarray(scores) > 0.4).all()


def test_a_point_of_a_map_of_one_pixel_is_its_centre():
    one = np.ones((1, 1, 2), "f4")
    np.testing.assert_array_equal(heatmap_argmax(one)[0], [[0.5, 0.5]] * 2)
    np.testing.assert_array_equal(soft_argmax(one), [[0.5, 0.5]] * 2)


def test_soft_argmax_by_hand():
    logits = np.log(np.float32([[1, 2], [4, 1]]))[..., None]
    np.testing.assert_allclose(soft_argmax(logits), [[7 / 8, 9 / 8]], rtol=1e-6)
    # (1, 4, 16, 1) / 22, and of the lower row (4, 1) / 5.
    sharper = [[0.5 + 5 / 22, 0.5 + 17 / 22]]
    np.testing.assert_allclose(soft_argmax(logits, temperature=0.5), sharper, rtol=1e-6)
    np.testing.assert_allclose(soft_argmax(logits, radius=0), [[0.5, 1.5]], rtol=1e-6)
    far = np.log(np.float32([[8, 1, 4, 1, 2]]))[..., None]
    np.testing.assert_allclose(soft_argmax(far, radius=1), [[0.5 + 1 / 9, 0.5]], rtol=1e-6)


@pytest.mark.parametrize(
    "how",
    [
        {"radius": 2},
        {"temperature": 0.3},
        *(
            pytest.param(x, marks=pytest.mark.slow)
            for x in ({}, {"radius": 1.5, "temperature": 4.0})
        ),
    ],
)
def test_soft_argmax_equals_the_reference(how):
    transforms = TRANSFORMS if how == {"radius": 2} else ["jit"]
    check_op(soft_argmax, reference.soft_argmax, maps_of(), transforms=transforms, **how)


def test_what_is_far_away_draws_only_without_a_radius():
    maps = np.array(_gaussians(np.float32([[3.4, 3.6]]), 0.7))
    expected = soft_argmax(10 * maps, radius=2)
    maps[6, 8] = 0.9
    np.testing.assert_array_equal(soft_argmax(10 * maps, radius=2), expected)
    assert np.abs(np.asarray(soft_argmax(10 * maps)) - expected).max() > 1


@pytest.mark.slow
@pytest.mark.parametrize("radius", [None, 2])
def test_soft_argmax_has_the_gradient_of_finite_differences(radius):
    with jax.enable_x64():
        maps = maps_of(2).astype("f8")
        check_grads(jax.jit(partial(soft_argmax, radius=radius)), (maps,), order=1, modes=["rev"])


def test_a_pixel_that_may_not_be_has_no_share():
    maps = maps_of(1)
    maps[0] = -np.inf
    run = jax.jit(jax.value_and_grad(lambda x: soft_argmax(x)[0, 1]))
    y, slope = run(maps)
    np.testing.assert_allclose(y, 1 + reference.soft_argmax(maps[1:])[0, 1], rtol=1e-5)
    assert np.isfinite(slope).all()
    assert not np.asarray(slope)[0].any()


def test_half_precision_is_computed_in_float32():
    maps = jnp.asarray(maps_of(), jnp.bfloat16)
    single = maps.astype(jnp.float32)
    for op in (soft_argmax, heatmap_argmax):
        half, full = (jax.tree.leaves(op(x)) for x in (maps, single))
        for a, b in zip(half, full, strict=True):
            assert a.dtype == jnp.float32
            np.testing.assert_array_equal(a, b)
    assert gaussian_heatmaps(jnp.ones((1, 2), jnp.float16), size=SIZE, sigma=1.0).dtype == "f4"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gaussian_heatmaps(points_of(), size=SIZE, sigma=0), "sigma is 0"),
        (lambda: gaussian_heatmaps(points_of(), size=(0, 3), sigma=1), "a side of size is 0"),
        (lambda: soft_argmax(maps_of(), temperature=0), "temperature is 0"),
        (lambda: soft_argmax(maps_of(), radius=-1), "radius is -1"),
    ],
)
def test_options_out_of_range_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("op", [heatmap_argmax, soft_argmax])
def test_maps_without_a_pixel_are_refused(op):
    with pytest.raises(AssertionError, match=r"is float32\[0, 3, 2\]: give at least one pixel"):
        op(np.zeros((0, 3, 2), "f4"))
