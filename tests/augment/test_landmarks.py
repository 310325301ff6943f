"""Augmentation of landmarks: a dot that is painted moves as its point does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.augment import random_flip_landmarks, random_scale_and_translate_landmarks
from jaxvision.core import LandmarkBatch
from jaxvision.data import to_original

HEIGHT, WIDTH = 24, 32
POINTS = np.float32([[5.5, 8.5], [20.5, 12.5], [28.5, 20.5], [0, 0]])
VISIBLE = np.array([True, True, True, False])
PLACEMENT = np.float32([2, 3, 4, -1])
SWAP = (0, 2, 1, 3)


def example_of(dtype=np.float32, **changes):
    """Smooth dots, landmark k bright in channel k."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    dots = [np.exp(-((x - px) ** 2 + (y - py) ** 2) / 8) for px, py in POINTS[:3]]
    fields = {
        "image": (255 * np.stack(dots, axis=-1)).astype(dtype),
        "points": POINTS,
        "visible": VISIBLE,
        "mask": np.True_,
        "placement": PLACEMENT,
    }
    return LandmarkBatch(**{**fields, **changes})


def centres(image):
    """Centres of mass of the channels, [C, 2]."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    mass = np.asarray(image, np.float64)
    return np.stack([(mass * axis[..., None]).sum((0, 1)) / mass.sum((0, 1)) for axis in (x, y)], 1)


def test_dots_and_points_move_together():
    keys = jax.random.split(jax.random.key(0), 8)
    example = example_of()

    def move(key):
        how = {"scale": (0.7, 1.0), "ratio": (0.9, 1.1), "translate": 0.05, "fill": 0.0}
        return random_scale_and_translate_landmarks(key, example, **how)

    results = jax.jit(jax.vmap(move))(keys)
    assert results.image.shape == (8, HEIGHT, WIDTH, 3)
    for k in range(8):
        result = jax.tree.map(lambda x, k=k: np.asarray(x[k]), results)
        assert result.visible.tolist() == VISIBLE.tolist()
        assert not result.points[3].any()
        # The third dot may lose a part beyond the border.
        np.testing.assert_allclose(result.points[:2], centres(result.image)[:2], atol=0.1)
        original, moved = (
            to_original(np.tile(x.points, 2), x.placement)[:3, :2] for x in (example, result)
        )
        np.testing.assert_allclose(moved, original, rtol=1e-4)
    assert len({x.tobytes() for x in np.asarray(results.points)}) == 8


def test_what_leaves_the_image_becomes_invisible():
    key = jax.random.key(1)
    example = example_of(points=np.float32([[16, 12], [2, 12], [16, 23], [32, 24]]))
    how = {"scale": (2, 2), "translate": 0.0}
    result = random_scale_and_translate_landmarks(key, example, **how)
    assert result.visible.tolist() == [True, False, False, False]
    np.testing.assert_allclose(result.points, [[16, 12], [0, 0], [0, 0], [0, 0]], atol=1e-4)
    # On the border it is still inside.
    example = example.replace(visible=np.ones(4, bool))
    how["scale"] = (1, 1)
    result = random_scale_and_translate_landmarks(key, example, **how)
    assert np.asarray(result.visible).all()
    np.testing.assert_allclose(result.points, example.points, atol=1e-4)
    np.testing.assert_allclose(result.image, example.image, atol=1e-3)


def test_the_flip_is_exact_and_swaps_names():
    example, key = example_of(np.uint8), jax.random.key(0)
    visible = np.array([True, False, True, False])
    example = example.replace(visible=visible, points=np.where(visible[:, None], POINTS, np.nan))
    result = random_flip_landmarks(key, example, swap=SWAP, probability=1.0)
    np.testing.assert_array_equal(result.image, example.image[:, ::-1])
    assert result.image.dtype == np.uint8
    assert result.visible.tolist() == [True, True, False, False]
    expected = [[WIDTH - 5.5, 8.5], [WIDTH - 28.5, 20.5], [0, 0], [0, 0]]
    np.testing.assert_array_equal(result.points, expected)
    np.testing.assert_array_equal(result.placement, [-2, 3, WIDTH - 4, -1])
    again = random_flip_landmarks(key, result, swap=SWAP, probability=1.0)
    np.testing.assert_array_equal(again.image, example.image)
    np.testing.assert_array_equal(again.points, np.where(visible[:, None], POINTS, 0))
    np.testing.assert_array_equal(again.placement, PLACEMENT)
    np.testing.assert_array_equal(again.visible, visible)


def test_the_flip_happens_now_and_then():
    keys = jax.random.split(jax.random.key(0), 50)
    example = example_of(placement=None)
    flip = jax.jit(jax.vmap(lambda key: random_flip_landmarks(key, example, swap=SWAP)))
    result = flip(keys)
    mirrored = np.asarray(result.points)[:, 0, 0] == WIDTH - 5.5
    assert 10 < mirrored.sum() < 40
    unchanged = np.asarray(result.image)[~mirrored] == example.image[None]
    assert unchanged.all()
    assert result.placement is None


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (random_flip_landmarks, {"swap": SWAP, "probability": 1.5}, "probability is 1.5"),
        (random_flip_landmarks, {"swap": (1, 0)}, r"swap is \(1, 0\): give for each of the 4"),
        (random_flip_landmarks, {"swap": (1, 2, 0, 3)}, r"swap is \(1, 2, 0, 3\)"),
        (random_flip_landmarks, {"swap": (4, 1, 2, 3)}, r"swap is \(4, 1, 2, 3\)"),
        (random_scale_and_translate_landmarks, {"scale": (0, 1)}, "first of scale is 0"),
        (random_scale_and_translate_landmarks, {"translate": -1}, "translate is -1"),
    ],
)
def test_options_out_of_range_are_refused(function, options, message):
    with pytest.raises(ValueError, match=message):
        function(jax.random.key(0), example_of(), **options)


@pytest.mark.parametrize(
    "wrong",
    [
        {"points": POINTS[:, :1]},
        {"visible": VISIBLE[:3]},
        {"visible": VISIBLE.astype("f4")},
        {"placement": PLACEMENT[:3]},
        {"image": np.zeros((HEIGHT, WIDTH), "u1")},
    ],
)
def test_parts_of_another_shape_or_kind_are_refused(wrong):
    example = example_of().replace(**{name: jnp.asarray(x) for name, x in wrong.items()})
    (name,) = wrong
    for function in (
        random_scale_and_translate_landmarks,
        lambda *given: random_flip_landmarks(*given, swap=SWAP),
    ):
        with pytest.raises(AssertionError, match=f"^{name} is "):
            function(jax.random.key(0), example)
