"""Images brought to the size of a network's input, in all four ways."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxvision.core import InputError, Inputs
from jaxvision.data.transforms.placing import (
    fit_image,
    place,
    placed_extent,
    placement_of,
    resize_image,
    with_channels,
)
from jaxvision.ops.placement import Placement, place_mask, to_input

METHODS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("window", [None, (3, 5, 30, 20)])
def test_resizing_is_that_of_pillow_channel_by_channel(method, channels, window):
    image = noise(40, 50, channels)
    found = resize_image(image, (11, 60), method=method, window=window)
    top, left, height, width = window or (0, 0, 40, 50)
    for c in range(channels):
        expected = Image.fromarray(image[:, :, c]).resize(
            (60, 11), METHODS[method], box=(left, top, left + width, top + height)
        )
        np.testing.assert_array_equal(found[:, :, c], np.asarray(expected))
    same = resize_image(image, (height, width), method=method, window=window)
    np.testing.assert_array_equal(same, image[top : top + height, left : left + width])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("method", METHODS)
def test_stretch(channels, method):
    image = noise(20, 40, channels)
    inputs = Inputs((30, 32), channels=channels, resize="stretch", method=method)
    found, placement = fit_image(image, inputs)
    np.testing.assert_array_equal(found, resize_image(image, (30, 32), method=method))
    assert placement == Placement(0.8, 1.5, 0, 0)


@pytest.mark.parametrize("channels", [1, 3])
def test_letterbox(channels):
    image = np.full((20, 40, channels), 200, np.uint8)
    inputs = Inputs((30, 32), channels=channels, resize="letterbox", fill=7)
    found, placement = fit_image(image, inputs)
    assert placement == Placement(0.8, 0.8, 0, 7)
    assert (found[7:23] == 200).all()
    assert (found[:7] == 7).all()
    assert (found[23:] == 7).all()
    assert placed_extent((20, 40), placement, (30, 32)) == (23, 32)


@pytest.mark.parametrize(("shorter", "sides"), [(None, (16, 7)), (8, (18, 8)), (20, (46, 20))])
@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_crop_cuts_out_the_centre(shorter, sides, method):
    """Of a part of a pixel of the longer side nothing is left, as torchvision does."""
    image = noise(23, 10, 3)
    target = (7, 6)
    inputs = Inputs(target, resize="crop", shorter_side=shorter, method=method)
    found, placement = fit_image(image, inputs)
    resized = resize_image(image, sides, method=method)
    top, left = (round((side - size) / 2) for side, size in zip(sides, target, strict=True))
    np.testing.assert_array_equal(found, resized[top : top + 7, left : left + 6])
    assert placement == Placement(sides[1] / 10, sides[0] / 23, -left, -top)
    assert placed_extent((23, 10), placement, target) == target
    # Labels are cut out in the same way.
    labels = image[..., 0]
    whole = place_mask(labels, sides, Placement(*placement[:2], 0, 0))
    cut = place_mask(labels, target, placement)
    np.testing.assert_array_equal(cut, whole[top : top + 7, left : left + 6])


@pytest.mark.parametrize("resize", [None, "stretch", "letterbox", "crop"])
def test_an_image_of_the_right_size_stays_as_it_is(resize):
    image = noise(12, 12, 3)
    found, placement = fit_image(image, Inputs((12, 12), resize=resize))
    np.testing.assert_array_equal(found, image)
    assert placement == Placement(1, 1, 0, 0)


def test_another_size_is_refused():
    inputs = Inputs((9, 12))
    with pytest.raises(InputError) as error:
        fit_image(noise(12, 9, 3), inputs)
    assert str(error.value) == (
        "the image has 9 x 12 pixels, but the network takes 12 x 9: give images of that size, or "
        "set resize to one of stretch, letterbox, crop"
    )


sides = st.integers(1, 60)


@given(st.sampled_from(["stretch", "letterbox", "crop"]), sides, sides, sides, sides)
@settings(max_examples=150, deadline=None)
def test_an_image_lies_where_its_placement_says(resize, height, width, rows, columns):
    inputs = Inputs((rows, columns), resize=resize, fill=0)
    found, placement = fit_image(np.full((height, width, 3), 255, np.uint8), inputs)
    assert found.shape == (rows, columns, 3)
    assert placement == placement_of((height, width), inputs)
    x1, y1, x2, y2 = to_input(np.array([[0.0, 0, width, height]]), placement)[0]
    ys, xs = np.nonzero(found[:, :, 0])
    np.testing.assert_allclose(
        [max(x1, 0), max(y1, 0), min(x2, columns), min(y2, rows)],
        [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1],
        atol=1e-9,
    )
    extent = placed_extent((height, width), placement, inputs.size)
    assert extent == (ys.max() + 1, xs.max() + 1)


def test_place_is_fit_image():
    image = noise(20, 30, 3)
    for method in ("stretch", "letterbox"):
        found, placement = place(image, (9, 9), method=method, fill=3)
        expected, other = fit_image(image, Inputs((9, 9), resize=method, fill=3))
        np.testing.assert_array_equal(found, expected)
        assert placement == other
    with pytest.raises(InputError, match=r"unknown resize 'leterbox'.*'letterbox'"):
        place(image, (4, 4), method="leterbox")


def test_channels():
    grey, color = noise(5, 6), noise(5, 6, 3)
    for given_grey in (grey, grey[..., None]):
        np.testing.assert_array_equal(with_channels(given_grey, 1), grey[..., None])
        np.testing.assert_array_equal(with_channels(given_grey, 3), np.stack([grey] * 3, -1))
    np.testing.assert_array_equal(with_channels(color, 3), color)
    found = with_channels(color, 1)
    assert found.shape == (5, 6, 1)
    pillow = np.asarray(Image.fromarray(color).convert("L")).astype(int)
    assert np.abs(found[..., 0] - pillow).max() <= 1
    # Grey there and back.
    np.testing.assert_array_equal(with_channels(with_channels(grey, 3), 1), grey[..., None])
    for wrong in (noise(5, 6, 4), noise(2, 5, 6, 3), color.astype(float), noise(0, 5)):
        with pytest.raises(InputError, match=r"^the image is .*: give "):
            with_channels(wrong, 3)
