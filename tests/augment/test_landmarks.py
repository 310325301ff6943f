"""Augmentation of landmarks: a dot that is painted moves as its point does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.augment import RandomFlip, RandomResizedCrop, Rotate, ScaleTranslate
from jaxvision.core import InputError, LandmarkBatch
from tests.marks import slow_but

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


MOVES = {
    "scale": ScaleTranslate(scale=(0.7, 1.0), ratio=(0.9, 1.1), translate=0.05, fill=0),
    "rotate": Rotate(20.0),
    "flip": RandomFlip(),
    "resized": RandomResizedCrop(scale=(0.9, 1.0)),
}


@pytest.mark.parametrize("name", slow_but(MOVES, ["rotate"]))
def test_dots_and_points_move_together(name):
    keys = jax.random.split(jax.random.key(0), 8)
    example = example_of()
    results = jax.jit(jax.vmap(MOVES[name], (0, None)))(keys, example)
    assert results.placement is None
    assert results.image.shape == (8, HEIGHT, WIDTH, 3)
    for k in range(8):
        result = jax.tree.map(lambda x, k=k: np.asarray(x[k]), results)
        if name != "resized":
            assert result.visible[:2].tolist() == VISIBLE[:2].tolist()
        assert not result.points[~result.visible].any()
        # The third dot may lose a part beyond the border.
        seen = result.visible[:2]
        np.testing.assert_allclose(
            result.points[:2][seen], centres(result.image)[:2][seen], atol=0.3
        )
    assert len({x.tobytes() for x in np.asarray(results.points)}) >= (2 if name == "flip" else 6)


def test_what_leaves_the_image_becomes_invisible():
    key = jax.random.key(1)
    example = example_of(points=np.float32([[16, 12], [2, 12], [16, 23], [32, 24]]))
    result = jax.jit(ScaleTranslate(scale=(2, 2)))(key, example)
    assert result.visible.tolist() == [True, False, False, False]
    np.testing.assert_allclose(result.points, [[16, 12], [0, 0], [0, 0], [0, 0]], atol=1e-4)
    # On the border it is still inside.
    example = example.replace(visible=np.ones(4, bool))
    result = jax.jit(ScaleTranslate())(key, example)
    assert np.asarray(result.visible).all()
    np.testing.assert_allclose(result.points, example.points, atol=1e-4)
    np.testing.assert_allclose(result.image, example.image, atol=1e-3)


def test_the_flip_is_exact_and_swaps_names():
    example, key = example_of(np.uint8), jax.random.key(0)
    visible = np.array([True, False, True, False])
    example = example.replace(visible=visible, points=np.where(visible[:, None], POINTS, np.nan))
    flip = jax.jit(RandomFlip(1.0, swap=SWAP))
    result = flip(key, example)
    np.testing.assert_array_equal(result.image, example.image[:, ::-1])
    assert result.image.dtype == np.uint8
    assert result.visible.tolist() == [True, True, False, False]
    expected = [[WIDTH - 5.5, 8.5], [WIDTH - 28.5, 20.5], [0, 0], [0, 0]]
    np.testing.assert_array_equal(result.points, expected)
    again = flip(key, result)
    np.testing.assert_array_equal(again.image, example.image)
    np.testing.assert_array_equal(again.points, np.where(visible[:, None], POINTS, 0))
    np.testing.assert_array_equal(again.visible, visible)


def test_a_swap_of_another_length_is_refused():
    with pytest.raises(InputError, match="swap has 2 numbers: give 4, one for each point"):
        jax.eval_shape(RandomFlip(swap=(1, 0)), jax.random.key(0), example_of())


@pytest.mark.parametrize(
    "wrong",
    [
        {"points": POINTS[:, :1]},
        {"visible": VISIBLE[:3]},
        {"visible": VISIBLE.astype("f4")},
        {"image": np.zeros((HEIGHT, WIDTH), "u1")},
        {"extent": np.zeros(3, "i4")},
    ],
)
def test_parts_of_another_shape_or_kind_are_refused(wrong):
    example = example_of().replace(**{name: jnp.asarray(x) for name, x in wrong.items()})
    (name,) = wrong
    for augmentation in (ScaleTranslate(), RandomFlip(swap=SWAP)):
        with pytest.raises(AssertionError, match=f"^{name} is "):
            augmentation(jax.random.key(0), example)
