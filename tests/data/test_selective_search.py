"""Selective search: finds what is there, always the same, and says what is missing."""

import builtins

import numpy as np
import pytest

from jaxvision.core import InputError, OptionError
from jaxvision.data import selective_search
from jaxvision.data.selective_search import _order

BOXES = np.array([[8, 10, 30, 40], [40, 20, 70, 50]])


def scene(seed=0):
    """Two rectangles of one color each, on noise that is weak beside them."""
    image = np.random.default_rng(seed).integers(90, 110, (60, 80, 3)).astype(np.uint8)
    for (x1, y1, x2, y2), color in zip(BOXES, ([220, 30, 30], [20, 40, 210]), strict=True):
        image[y1:y2, x1:x2] = color
    return image


@pytest.mark.parametrize("mode", ["fast", "quality"])
def test_it_finds_what_is_there_in_the_image_and_each_box_once(mode):
    pytest.importorskip("cv2.ximgproc")
    found = selective_search(scene(), mode=mode)
    assert (found.dtype, found.shape[1]) == (np.float32, 4)
    assert len(np.unique(found, axis=0)) == len(found)
    assert found.min() >= 0
    assert (found[:, 2:] > found[:, :2]).all()
    assert (found.max(axis=0)[2:] == [80, 60]).all()
    for box in BOXES:
        assert np.abs(found - box).max(axis=1).min() <= 1, box


def test_an_image_always_has_the_same_proposals_and_fewer_are_the_first_ones():
    pytest.importorskip("cv2.ximgproc")
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8)
    first = selective_search(image, scale=20)
    assert len(first) > 20
    np.testing.assert_array_equal(selective_search(image, scale=20), first)
    few = selective_search(image, scale=20, max_proposals=5)
    np.testing.assert_array_equal(few, first[:5])


def test_a_smaller_scale_gives_more_proposals_and_a_flat_image_has_one():
    pytest.importorskip("cv2.ximgproc")
    rough = np.random.default_rng(1).integers(0, 255, (40, 50, 3)).astype(np.uint8)
    assert len(selective_search(rough, scale=20)) > len(selective_search(rough, scale=2000))
    flat = selective_search(np.full((20, 30, 3), 7, np.uint8))
    assert flat.tolist() == [[0, 0, 30, 20]]


def test_the_order_does_not_depend_on_that_of_the_boxes_and_prefers_large_ones():
    rng = np.random.default_rng(0)
    corner = rng.integers(0, 50, (400, 2))
    boxes = np.concatenate([corner, corner + rng.integers(1, 50, (400, 2))], axis=1)
    boxes = np.unique(boxes, axis=0).astype(np.float32)
    shuffled = rng.permutation(boxes)
    ordered = boxes[_order(boxes)]
    np.testing.assert_array_equal(shuffled[_order(shuffled)], ordered)
    area = (ordered[:, 2:] - ordered[:, :2]).prod(axis=1)
    assert area[:100].mean() > 1.5 * area[-100:].mean()
    assert not (np.diff(area) <= 0).all()


@pytest.mark.parametrize(
    ("image", "options", "error", "message"),
    [
        (scene(), {"mode": "slow"}, OptionError, "mode is 'slow': choose one of fast, quality"),
        (scene(), {"max_proposals": 0}, OptionError, "max_proposals is 0"),
        (scene(), {"scale": 0}, OptionError, "scale is 0"),
        (scene()[:, :, 0], {}, InputError, r"image is uint8\[60, 80\]: give uint8 \[H, W, 3\]"),
        (np.float32(scene()), {}, InputError, "image is float32"),
        (scene()[:0], {}, InputError, r"image is uint8\[0, 80, 3\]"),
    ],
)
def test_what_cannot_be_searched_is_refused(image, options, error, message):
    with pytest.raises(error, match=message):
        selective_search(image, **options)


def test_without_opencv_the_message_says_how_to_install_it(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **keywords):
        if name.startswith("cv2"):
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install 'jaxvision\[proposals\]'"):
        selective_search(scene())
