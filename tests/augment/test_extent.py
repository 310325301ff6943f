"""Padded images: every augmentation does with the part without padding what it does without it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import augment
from jaxvision.core import ClassificationBatch, DetectionBatch, annotations_of
from tests.augment.test_move import (
    GEOMETRIC,
    SIDE,
    EverythingBatch,
    arrays,
    example_of,
    takes,
)
from tests.marks import slow_but

CUT = ("image", "pixels")


@functools.lru_cache
def compiled(augmentation):
    return jax.jit(jax.vmap(augmentation, in_axes=(0, None)))


def over_keys(augmentation, example, count=6):
    keys = jax.random.split(jax.random.key(0), count)
    return jax.device_get(compiled(augmentation)(keys, example))


def cut(kind, x, extent):
    """An array without the padding of its image."""
    return x[: extent[0], : extent[1]] if kind in CUT else x


def padded_and_cut(struct, extent):
    """An example with junk in its padding, and the same one without padding."""
    example = example_of(struct, extent=np.int32(extent))
    kinds = annotations_of(struct)
    bare = {name: cut(kind, getattr(example, name), extent) for name, kind in kinds.items()}
    return example, example.replace(**bare)


@pytest.mark.parametrize("name", slow_but(GEOMETRIC, ["RandomFlip"]))
def test_an_augmentation_treats_a_padded_image_as_the_image_without_padding(name):
    extent = (24, 24) if name == "Symmetry" else (24, 28)
    augmentation = GEOMETRIC[name]
    struct = EverythingBatch if takes(name, EverythingBatch) else ClassificationBatch
    padded, bare = padded_and_cut(struct, extent)
    result, expected = over_keys(augmentation, padded), over_keys(augmentation, bare)
    kinds = annotations_of(struct)
    for field, kind in kinds.items():
        actual, wanted = getattr(result, field), getattr(expected, field)
        if wanted is None:
            assert actual is None
            continue
        if kind in CUT:
            actual = np.stack([cut(kind, x, extent) for x in actual])
        if kind == "pixels":  # a pixel on the border of two may be rounded otherwise
            assert (actual == wanted).mean() > 0.99
        else:
            np.testing.assert_allclose(actual, wanted, atol=0.02, err_msg=field)
    assert (result.extent == extent).all()


@pytest.mark.slow
def test_a_mosaic_of_padded_images_shows_their_parts_without_padding():
    """The padding is 255 here; each image has its own value, and its box is all of it."""
    rows = {"crowd": np.zeros(2, bool), "difficult": np.zeros(2, bool), "mask": np.True_}
    extents = np.int32([[20, 32], [32, 8], [9, 9], [32, 32]])

    def example(number):
        height, width = extents[number]
        image = np.full((SIDE, SIDE, 1), 255, np.uint8)
        image[:height, :width] = 10 * (number + 1)
        boxes = np.float32([[0, 0, width, height], [np.nan] * 4])
        return DetectionBatch(
            image=image,
            boxes=boxes,
            labels=np.int32([number, 9]),
            box_mask=np.array([True, False]),
            extent=extents[number],
            **rows,
        )

    partners = jax.tree.map(lambda *x: np.stack(x), *map(example, (1, 2, 3)))
    result = over_keys(augment.Mosaic(least_visible=0), example(0).replace(partners=partners), 30)
    assert set(np.unique(result.image)) == {10, 20, 30, 40, 127}
    assert (result.extent == SIDE).all()
    for image, boxes, labels, real in zip(
        result.image, result.boxes, result.labels, result.box_mask, strict=True
    ):
        for (x1, y1, x2, y2), label in zip(boxes[real].astype(int), labels[real], strict=True):
            assert (image[y1:y2, x1:x2] == 10 * (label + 1)).all()
            assert (image == 10 * (label + 1)).sum() == (y2 - y1) * (x2 - x1)


@pytest.mark.slow
def test_blends_take_the_padding_of_one_image_for_grey():
    image = np.full((4, 4, 1), 200, np.uint8)
    given = {"image": image, "label": np.int32(0), "weight": np.float32(1), "mask": np.True_}
    partners = ClassificationBatch(**given, extent=np.int32([4, 2]))
    partners = jax.tree.map(lambda x: x[None], partners)
    example = ClassificationBatch(**given, extent=np.int32([2, 4]), partners=partners)
    mixup = augment.ClassMixup(2, mixup=1.0, mixup_alpha=1e6)
    result = jax.jit(mixup)(jax.random.key(0), example)
    expected = np.full((4, 4), 163.5)
    expected[:2, :2], expected[2:, 2:] = 200, 127
    np.testing.assert_allclose(result.image[..., 0], expected, atol=0.2)
    assert result.extent.tolist() == [4, 4]


def test_colours_of_a_padded_image_change_as_those_of_its_part_without_padding():
    """The contrast refers to a mean."""
    padded, bare = padded_and_cut(ClassificationBatch, (24, 28))
    colours = augment.ColorJitter(contrast=0.9), augment.RandomPhotometricDistort(probability=1)
    for augmentation in colours:
        result, expected = (over_keys(augmentation, x).image for x in (padded, bare))
        np.testing.assert_allclose(result[:, :24, :28], expected, atol=1e-2)
        assert np.abs(expected - bare.image).max() > 10


@pytest.mark.parametrize("method", ["bilinear", "nearest", "antialiased"])
def test_resized_crop_does_not_see_the_padding(method):
    image = arrays()["image"]
    for window in np.float32([[-3, 2, 30, 26], [4, 4, 28, 24], [0, 0, 28, 24]]):
        how = {"size": (16, 16), "method": method, "fill": (1, 2, 3)}
        result = augment.resized_crop(image, window, extent=jnp.array([24, 28]), **how)
        expected = augment.resized_crop(image[:24, :28], window, **how)
        np.testing.assert_allclose(result, expected, atol=1e-3)
