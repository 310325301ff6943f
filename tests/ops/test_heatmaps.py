"""Heatmaps of landmarks, and landmarks of heatmaps."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvision.ops import gaussian_heatmaps, heatmap_argmax, soft_argmax
from tests.ops.compiled import Case, check_cases, compiled
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
    found = compiled(gaussian_heatmaps)(np.float32([[1.5, 0.5], [1, 1]]), size=(2, 3), sigma=2.0)
    one, two, five = (math.exp(-square / 8) for square in (1, 2, 2.5))
    np.testing.assert_allclose(found[..., 0], [[one, 1, one], [two, one, two]], rtol=1e-6)
    half = math.exp(-0.5 / 8)
    np.testing.assert_allclose(found[..., 1], [[half, half, five]] * 2, rtol=1e-6)


def test_each_equals_the_reference():
    """In one program: of pixels with and without ties, with every option."""
    cases = {}
    for sigma in (0.3, 1.0, 40.0):
        pair = gaussian_heatmaps, reference.gaussian_heatmaps
        cases[f"sigma {sigma}"] = Case(*pair, (points_of(),), {"size": SIZE, "sigma": sigma})
    for ties in (False, True):
        maps = maps_of(ties=ties)
        maps[..., 0] = np.abs(maps[..., 0])
        maps[..., 1] = 1  # a plateau
        for how in ({}, {"subpixel": False}):
            pair = heatmap_argmax, reference.heatmap_argmax
            cases[f"ties: {ties}, {how}"] = Case(*pair, (maps,), how)
    for how in ({}, {"radius": 2}, {"temperature": 0.3}, {"radius": 1.5, "temperature": 4.0}):
        cases[f"soft, {how}"] = Case(soft_argmax, reference.soft_argmax, (maps_of(),), how)
    check_cases(cases)


def test_the_highest_pixel_by_hand():
    heatmap = np.float32([[0, 1, 0], [2, 4, 1], [0, 1, 0], [0, 0, 0]])[..., None]
    highest = compiled(heatmap_argmax)
    points, scores = highest(heatmap)
    # Along x the logarithms are (1, 2, 0) ln 2: a vertex 1/6 before the middle.
    np.testing.assert_allclose(points, [[1.5 - 1 / 6, 1.5]], rtol=1e-6)
    np.testing.assert_array_equal(scores, [4])
    centres, _ = highest(heatmap, subpixel=False)
    np.testing.assert_array_equal(centres, [[1.5, 1.5]])


_back_and_forth = jax.jit(
    lambda points, sigma: heatmap_argmax(_gaussians(points, sigma)), static_argnums=1
)


def _gaussians(points, sigma):
    return gaussian_heatmaps(points, size=SIZE, sigma=sigma)


INSIDE = st.tuples(
    st.floats(1.125, SIZE[1] - 1.125, width=32),
    st.floats(1.125, SIZE[0] - 1.125, width=32),
)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.lists(INSIDE, min_size=4, max_size=4), st.sampled_from([0.6, 1.5]))
def test_the_highest_place_of_a_gaussian_is_exact(points, sigma):
    points = np.array(points, "f4")
    found, scores = _back_and_forth(points, sigma)
    np.testing.assert_allclose(found, points, atol=1e-5)
    assert (np.asarray(scores) > 0.4).all()


def test_a_point_of_a_map_of_one_pixel_is_its_centre():
    one = np.ones((1, 1, 2), "f4")
    points, soft_points = jax.jit(lambda x: (heatmap_argmax(x)[0], soft_argmax(x)))(one)
    np.testing.assert_array_equal(points, [[0.5, 0.5]] * 2)
    np.testing.assert_array_equal(soft_points, [[0.5, 0.5]] * 2)


def test_soft_argmax_by_hand():
    @jax.jit
    def run(logits, far):
        ways = {}, {"temperature": 0.5}, {"radius": 0}
        return [soft_argmax(logits, **how) for how in ways], soft_argmax(far, radius=1)

    logits = np.log(np.float32([[1, 2], [4, 1]]))[..., None]
    far = np.log(np.float32([[8, 1, 4, 1, 2]]))[..., None]
    (plain, sharper, alone), near = run(logits, far)
    np.testing.assert_allclose(plain, [[7 / 8, 9 / 8]], rtol=1e-6)
    # (1, 4, 16, 1) / 22, and of the lower row (4, 1) / 5.
    np.testing.assert_allclose(sharper, [[0.5 + 5 / 22, 0.5 + 17 / 22]], rtol=1e-6)
    np.testing.assert_allclose(alone, [[0.5, 1.5]], rtol=1e-6)
    np.testing.assert_allclose(near, [[0.5 + 1 / 9, 0.5]], rtol=1e-6)


def test_what_is_far_away_draws_only_without_a_radius():
    @jax.jit
    def run(points):
        maps = _gaussians(points, 0.7)
        more = maps.at[6, 8].set(0.9)
        near = soft_argmax(10 * maps, radius=2), soft_argmax(10 * more, radius=2)
        return *near, soft_argmax(10 * more)

    expected, near, drawn = jax.device_get(run(np.float32([[3.4, 3.6]])))
    np.testing.assert_array_equal(near, expected)
    assert np.abs(drawn - expected).max() > 1


def test_a_pixel_that_may_not_be_has_no_share():
    maps = maps_of(1)
    maps[0] = -np.inf
    run = jax.jit(jax.value_and_grad(lambda x: soft_argmax(x)[0, 1]))
    y, slope = run(maps)
    np.testing.assert_allclose(y, 1 + reference.soft_argmax(maps[1:])[0, 1], rtol=1e-5)
    assert np.isfinite(slope).all()
    assert not np.asarray(slope)[0].any()


def test_half_precision_is_computed_in_float32():
    @jax.jit
    def run(maps, points):
        return soft_argmax(maps), heatmap_argmax(maps), _gaussians(points, 1.0)

    half = maps_of().astype(jnp.bfloat16), points_of().astype(jnp.bfloat16)
    actual, expected = run(*half), run(*(x.astype("f4") for x in half))
    assert {x.dtype.name for x in jax.tree.leaves(actual)} == {"float32"}
    chex.assert_trees_all_equal(actual, expected)


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
        jax.eval_shape(call)


@pytest.mark.parametrize("op", [heatmap_argmax, soft_argmax])
def test_maps_without_a_pixel_are_refused(op):
    with pytest.raises(AssertionError, match=r"is float32\[0, 3, 2\]: give at least one pixel"):
        jax.eval_shape(op, np.zeros((0, 3, 2), "f4"))
