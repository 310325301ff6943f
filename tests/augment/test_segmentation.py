"""Augmentation of labelled pixels: what is painted moves as its label does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.augment import (
    Elastic,
    RandomCrop,
    RandomFlip,
    RandomResizedCrop,
    Rotate,
    ScaleTranslate,
    warp,
)
from jaxvision.core import SegmentationBatch
from tests.marks import slow_but

HEIGHT, WIDTH = 24, 32


def example_of(dtype=np.uint8):
    """Three stripes and a disc, whose colours are 80 times their label."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    labels = (x // 12 % 3).astype(np.uint8)
    labels[(y - 12) ** 2 + (x - 16) ** 2 < 30] = 2
    image = np.repeat(80 * labels[..., None], 3, axis=2).astype(dtype)
    return SegmentationBatch(image=image, labels=labels, mask=np.True_)


def keys(count):
    return jax.random.split(jax.random.key(0), count)


FUNCTIONS = {
    "flip": RandomFlip(),
    "scale": ScaleTranslate(scale=(0.8, 1.2), translate=0.2),
    "elastic": Elastic(sigma=3.0),
    "crop": RandomCrop(4, fill=127),
    "resized": RandomResizedCrop(scale=(0.5, 1.0)),
    "rotate": Rotate(20, fill=127),
}


@pytest.mark.parametrize("name", slow_but(FUNCTIONS, ["elastic", "rotate"]))
def test_colours_and_labels_move_together(name):
    example = example_of()
    result = jax.jit(jax.vmap(FUNCTIONS[name], (0, None)))(keys(6), example)
    image, labels = np.asarray(result.image)[..., 0], np.asarray(result.labels)
    assert labels.dtype == example.labels.dtype
    assert image.shape == labels.shape == (6, HEIGHT, WIDTH)
    assert len({x.tobytes() for x in labels}) > 1
    counted = labels != 255
    # Far from the borders of what is painted, the colour says the label.
    near = np.abs(image - 80.0 * labels) < 1
    assert (near | ~counted).mean() > 0.8
    assert name in ("flip", "resized") or not counted.all()
    filled = np.abs(image[~counted] - 127) < 1e-3
    # A rotation blends the outermost half of a pixel with what is outside.
    assert filled.all() or (name == "rotate" and filled.mean() > 0.5)
    for label in range(3):
        assert ((labels == label) & near).any()


def test_with_probability_one_the_flip_is_exact():
    example = example_of()
    result = jax.jit(RandomFlip(1.0))(jax.random.key(0), example)
    np.testing.assert_array_equal(result.image, example.image[:, ::-1])
    np.testing.assert_array_equal(result.labels, example.labels[:, ::-1])


def test_without_moves_nothing_changes():
    example = example_of(np.float32)

    @jax.jit
    def both(key, example):
        return Elastic(sigma=0.0)(key, example), ScaleTranslate()(key, example)

    for result in both(jax.random.key(0), example):
        np.testing.assert_allclose(result.image, example.image, atol=1e-3)
        np.testing.assert_array_equal(result.labels, example.labels)


def test_the_bend_at_a_point_of_the_grid_is_its_draw_and_smooth_in_between():
    y, x = np.mgrid[:60, :60] + 0.5
    image = np.stack([x, y], axis=-1).astype(np.float32)
    example = SegmentationBatch(image=image, labels=np.zeros((60, 60), np.uint8), mask=np.True_)

    @jax.jit
    def both(key):
        return Elastic(sigma=2.0)(key, example).image, 2.0 * jax.random.normal(key, (3, 3, 2))

    result, draws = jax.device_get(both(jax.random.key(3)))
    moves = result - image
    # The middle point of the grid is the image's middle, between four pixels.
    middle = moves[29:31, 29:31].mean(axis=(0, 1))
    np.testing.assert_allclose(middle, draws[1, 1], atol=0.05)
    inner = moves[8:-8, 8:-8]
    assert np.abs(np.diff(inner, axis=0)).max() < 0.4
    assert np.abs(np.diff(inner, axis=1)).max() < 0.4


def test_warp_against_loops():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(5, 7, 2)).astype(np.float32)
    places = rng.uniform(-1, 8, (30, 2)).astype(np.float32)
    expected = np.full((30, 2), -9.0)
    nearest = np.full((30, 2), -9.0)
    for k, (x, y) in enumerate(places.astype(float)):
        if not (0 <= x <= 7 and 0 <= y <= 5):
            continue
        nearest[k] = image[min(int(y), 4), min(int(x), 6)]
        total = np.zeros(2)
        for row in range(-1, 7):
            for column in range(-1, 9):
                share = max(0, 1 - abs(y - 0.5 - row)) * max(0, 1 - abs(x - 0.5 - column))
                total += share * image[min(max(row, 0), 4), min(max(column, 0), 6)]
        expected[k] = total

    @jax.jit
    def both(image, places):
        return [warp(image, places, method=x, fill=-9.0) for x in ("bilinear", "nearest")]

    smooth, found = both(image, places)
    np.testing.assert_allclose(smooth, expected, atol=1e-5)
    np.testing.assert_array_equal(found, nearest.astype(np.float32))
    with pytest.raises(ValueError, match="unknown method 'cubic'"):
        warp(image, places, method="cubic")


def test_labels_of_another_shape_or_kind_are_refused():
    example = example_of()
    for labels in (example.labels[1:], example.labels.astype(np.float32)):
        with pytest.raises(AssertionError, match="labels"):
            RandomFlip()(jax.random.key(0), example.replace(labels=jnp.asarray(labels)))
