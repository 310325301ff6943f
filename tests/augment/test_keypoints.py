"""Keypoints of objects move with their boxes in every augmentation."""

import functools

import jax
import numpy as np
import pytest

from tests.augment.test_detection import HEIGHT, OPS, WIDTH, many_keys, painted_with_partners
from tests.marks import long_but

ORDER = np.array([[0, 1], [2, 1], [2, 3], [0, 3]])  # the corners of a box
LEVELS = np.array([1, 1, 2, 2])  # how visible they are


def with_corners(example):
    """The corners of each box are its keypoints; NaN in padded rows."""
    corners = example.boxes[..., ORDER]
    levels = np.broadcast_to(LEVELS[:, None], (*corners.shape[:-1], 1))
    keypoints = np.concatenate([corners, levels], axis=-1).astype(np.float32)
    return example.replace(keypoints=np.where(example.box_mask[..., None, None], keypoints, np.nan))


@functools.lru_cache
def compiled(name):
    augmentation = OPS[name](swap=(1, 0, 3, 2)) if name == "RandomFlip" else OPS[name]()
    return jax.jit(jax.vmap(augmentation, in_axes=(0, None)))


@pytest.mark.parametrize(
    "name",
    long_but(OPS, ["RandomFlip", "JitterCrop", "Mosaic"], ["Rotate", "Mixup"]),
)
def test_the_corners_of_a_box_stay_its_corners(name):
    example = painted_with_partners(4, masks=False)
    example = with_corners(example).replace(partners=with_corners(example.partners))
    results = jax.device_get(compiled(name)(many_keys(12), example))
    whole = 0
    for boxes, real, keypoints in zip(
        results.boxes, results.box_mask, results.keypoints, strict=True
    ):
        assert not keypoints[~real].any()
        for box, points in zip(boxes[real], keypoints[real], strict=True):
            there = points[:, 2] > 0
            assert not points[~there].any()
            np.testing.assert_array_equal(points[there, 2], LEVELS[there])
            assert (points[:, :2] <= (WIDTH, HEIGHT)).all()
            assert (points[:, :2] >= 0).all()
            if name != "Rotate":
                np.testing.assert_allclose(points[there, :2], box[ORDER][there], atol=1e-3)
            if there.all():
                whole += 1
                around = [*points[:, :2].min(axis=0), *points[:, :2].max(axis=0)]
                np.testing.assert_allclose(around, box, atol=1e-3)
    assert whole > 5
