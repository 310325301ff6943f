"""Images brought to a network's input, on the host."""

import numpy as np
import pytest
from PIL import Image

from jaxvision.core import InputError, Inputs
from jaxvision.data import place, place_image, resize_image
from jaxvision.data.transforms import placing
from jaxvision.data.transforms.placing import METHODS
from jaxvision.ops.placement import PLACEMENTS, Placement, place_mask, to_input

WHERE = "a.png"


def noise(height, width, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


def placed(image, size, **options):
    inputs = Inputs(size, channels=image.shape[2], **options)
    return place_image({"image": image}, WHERE, inputs)


def test_letterbox_by_hand():
    image = np.full((20, 40, 3), 200, np.uint8)
    for found, placement in (
        place(image, (30, 32), method="letterbox", fill=7),
        placed(image, (30, 32), resize="letterbox", fill=7),
    ):
        assert placement == Placement(0.8, 0.8, 0, 7)
        assert (found[7:23] == 200).all()
        assert (found[:7] == 7).all()
        assert (found[23:] == 7).all()


def test_stretch_by_hand():
    image = np.full((20, 40, 3), 200, np.uint8)
    found, placement = place(image, (30, 32), method="stretch")
    assert placement == Placement(0.8, 1.5, 0, 0)
    assert (found == 200).all()
    assert found.shape == (30, 32, 3)


def test_crop_is_the_middle_of_the_resized_image():
    image = noise(21, 10)
    found, placement = placed(image, (6, 4), resize="crop", shorter_side=8)
    resized = np.asarray(Image.fromarray(image).resize((8, 16), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(found, resized[5:11, 2:6])
    assert placement == Placement(0.8, 16 / 21, -2, -5)
    without, _ = placed(image, (6, 4), resize="crop")
    assert without.shape == (6, 4, 3)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resize", [None, "stretch", "letterbox", "crop"])
def test_an_image_of_the_right_size_stays_as_it_is(resize, channels):
    image = noise(9, 9, channels)
    found, placement = placed(image, (9, 9), resize=resize)
    np.testing.assert_array_equal(found, image)
    assert placement == Placement(1, 1, 0, 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(6, 5), (3, 9), (60, 60)])
def test_resizing_is_that_of_pillow_channel_by_channel(method, channels, height, width):
    image = noise(height, width, channels)
    found, _ = placed(image, (6, 6), resize="stretch", method=method)
    assert found.shape == (6, 6, channels)
    assert found.dtype == np.uint8
    for c in range(channels):
        expected = Image.fromarray(image[:, :, c]).resize((6, 6), METHODS[method])
        np.testing.assert_array_equal(found[:, :, c], np.asarray(expected))
    if (height, width) != (6, 6):
        np.testing.assert_array_equal(resize_image(image, (6, 6), method=method), found)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("channels", [1, 3])
def test_windows_are_resized_as_pillow_does(method, channels, monkeypatch):
    """By cykooz-resizer to values at most 1 off, if it is installed; and without it exactly."""
    rng = np.random.default_rng(0)
    for sides in ((90, 120), (5, 300), (200, 7)):
        image = noise(*sides, channels)
        # Also black and white: there the filter rounds least often.
        for pixels in (image, np.where(image < 128, 0, 255).astype(np.uint8)):
            height, width = (int(rng.integers(1, side + 1)) for side in sides)
            top, left = int(rng.integers(sides[0] - height + 1)), sides[1] - width
            box = (left, top, left + width, top + height)
            options = {"method": method, "window": (top, left, height, width)}
            found = resize_image(pixels, (40, 30), **options)
            with monkeypatch.context() as without:
                without.setattr(placing, "cykooz_resizer", None)
                exact = resize_image(pixels, (40, 30), **options)
            expected = [
                np.asarray(Image.fromarray(pixels[:, :, c]).resize((30, 40), METHODS[method], box))
                for c in range(channels)
            ]
            np.testing.assert_array_equal(exact, np.stack(expected, axis=-1))
            assert found.dtype == np.uint8
            off = np.abs(found.astype(int) - exact).max()
            assert off <= (1 if method == "bilinear" and placing.cykooz_resizer else 0)


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_shrinking_is_antialiased(method):
    """A checkerboard becomes grey; picking single pixels would keep it black and white."""
    checkers = np.indices((48, 48)).sum(axis=0)[:, :, None] % 2 * 255
    found, _ = placed(checkers.astype(np.uint8), (6, 6), resize="stretch", method=method)
    assert np.abs(found.astype(int) - 127).max() < 10


@pytest.mark.parametrize("method", PLACEMENTS)
def test_the_image_is_just_where_its_box_is(method):
    for height, width, rows, columns in ((5, 7, 30, 20), (61, 13, 32, 32), (8, 64, 9, 10)):
        image = np.full((height, width, 3), 255, np.uint8)
        found, placement = place(image, (rows, columns), method=method, fill=0)
        assert found.shape == (rows, columns, 3)
        whole = to_input(np.array([[0.0, 0, width, height]]), placement)[0]
        ys, xs = np.nonzero(found[:, :, 0] > 0)
        np.testing.assert_allclose(
            np.clip(whole, 0, [columns, rows, columns, rows]),
            [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1],
            atol=1e-9,
        )


@pytest.mark.parametrize("method", PLACEMENTS)
def test_a_painted_box_is_found_where_it_should_be(method):
    image = np.zeros((60, 100, 3), np.uint8)
    image[20:40, 30:60] = 255
    found, placement = place(image, (96, 96), method=method, fill=0)
    x1, y1, x2, y2 = to_input(np.array([[30.0, 20, 60, 40]]), placement)[0]
    ys, xs = np.nonzero(found[:, :, 0] >= 128)
    np.testing.assert_allclose(
        [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], [x1, y1, x2, y2], atol=0.5
    )


def test_a_painted_mask_is_its_image():
    y, x = np.mgrid[:60, :100]
    mask = (x - 50) ** 2 / 900 + (y - 25) ** 2 / 200 < 1
    image = np.repeat(np.uint8(255) * mask[:, :, None], 3, axis=2)
    # In an enlarged image a corner's pixel may have a quarter of the colour, or lack one; more in
    # one that is shrunk, which is antialiased.
    for target, share in (((200, 150), 0.25), ((96, 96), 0.05)):
        found, placement = place(image, target, method="letterbox", fill=0)
        moved = place_mask(mask, target, placement)
        inside, outside = found[:, :, 0] > 256 * (1 - share), found[:, :, 0] < 254 * share
        assert inside.sum() > 1000
        assert moved[inside].all()
        assert not moved[outside].any()


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match=r"unknown resize 'leterbox'.*'letterbox'"):
        place(np.zeros((2, 2, 3), np.uint8), (4, 4), method="leterbox")
    with pytest.raises(InputError, match=r"^fill is 256: give at least 0 and at most 255"):
        place(np.zeros((2, 2, 3), np.uint8), (4, 4), method="stretch", fill=256)


def error_of(image, inputs):
    with pytest.raises(InputError) as error:
        place_image({"image": image}, WHERE, inputs)
    message = str(error.value)
    assert message.startswith(f"{WHERE}: the image ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(("height", "width"), [(6, 8), (8, 6), (3, 3)])
def test_another_size_is_refused_with_the_fix(height, width):
    message = error_of(noise(height, width), Inputs((6, 6)))
    assert (
        f"has {width} x {height} pixels instead of 6 x 6: make the size ({height}, {width})"
        in message
    )
    assert message.endswith("or set resize to one of stretch, letterbox, crop, shorter_side, fit")


@pytest.mark.parametrize(
    ("has", "wants", "fix"),
    [(3, 1, "set channels=3"), (1, 3, "set channels=1"), (4, 3, "store it as grey or RGB")],
)
def test_other_channels_are_refused_with_the_fix(has, wants, fix):
    message = error_of(noise(6, 6, has), Inputs((6, 6), channels=wants))
    assert message.endswith(f"has {has} channels instead of {wants}: {fix}")


@pytest.mark.parametrize("dtype", [np.float32, np.uint16, bool])
def test_another_dtype_is_refused(dtype):
    message = error_of(noise(6, 6, 1).astype(dtype), Inputs((6, 6), channels=1))
    assert f"is {np.dtype(dtype)}[6, 6, 1]: give uint8 [H, W, C]" in message


def test_another_rank_is_refused():
    message = error_of(np.zeros((6, 6), np.uint8), Inputs((6, 6)))
    assert "is uint8[6, 6]: give uint8 [H, W, C]" in message
