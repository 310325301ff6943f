"""Images without a record: brought to a network's input, and to its channels."""

import numpy as np
import pytest
from PIL import Image

from jaxvision.core import InputError, Inputs
from jaxvision.data import place_image
from jaxvision.data.transforms.placing import fit_image, with_channels
from jaxvision.ops.placement import Placement, place_mask


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("resize", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_placed_as_that_of_a_record(resize, channels):
    inputs = Inputs((12, 17), channels=channels, resize=resize, method="bicubic", fill=3)
    for size in ((12, 17), (30, 20), (5, 60)):
        image = noise(*size, channels)
        found, placement = fit_image(image, inputs)
        expected, other = place_image({"image": image}, "a.png", inputs)
        np.testing.assert_array_equal(found, expected)
        assert found.shape == (12, 17, channels)
        assert placement == other


def test_another_size_is_refused():
    inputs = Inputs((9, 12))
    found, placement = fit_image(noise(9, 12, 3), inputs)
    np.testing.assert_array_equal(found, noise(9, 12, 3))
    assert placement == Placement(1, 1, 0, 0)
    message = (
        "the image has 9 x 12 pixels instead of 12 x 9: make the size (12, 9), or set resize "
        "to one of stretch, letterbox, crop, shorter_side, fit"
    )
    with pytest.raises(InputError) as error:
        fit_image(noise(12, 9, 3), inputs)
    assert str(error.value) == message
    with pytest.raises(InputError) as error:
        place_image({"image": noise(12, 9, 3)}, "a.png", inputs)
    assert str(error.value) == f"a.png: {message}"


def test_labels_are_cut_out_as_their_image_is():
    image = noise(23, 10, 3)
    inputs = Inputs((7, 6), resize="crop", shorter_side=20, method="nearest")
    found, placement = fit_image(image, inputs)
    np.testing.assert_array_equal(place_mask(image[..., 0], (7, 6), placement), found[..., 0])


def test_channels():
    grey, color = noise(5, 6), noise(5, 6, 3)
    for given in (grey, grey[..., None]):
        np.testing.assert_array_equal(with_channels(given, 1), grey[..., None])
        np.testing.assert_array_equal(with_channels(given, 3), np.stack([grey] * 3, -1))
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
