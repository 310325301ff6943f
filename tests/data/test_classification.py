"""From records to examples: checked, resized, and named where they cannot be used."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from jaxvision.core import InputError
from jaxvision.data.transforms.classification import RESIZE, ToClassificationExample, random_window

TRANSFORM = ToClassificationExample(image_size=6, channels=1, num_classes=10)
WHERE = "a/file.gz, record 7"


def record(height=6, width=6, channels=1, label=3, dtype=np.uint8, **others):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels)).astype(dtype)
    return {"image": pixels, "label": label, **others}


def changed(**fields):
    return dataclasses.replace(TRANSFORM, **fields)


def error_of(transform, bad):
    with pytest.raises(InputError) as error:
        transform(bad, WHERE)
    message = str(error.value)
    assert message.startswith(f"{WHERE}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resize", [None, "bilinear"])
def test_an_image_of_the_right_size_is_left_alone(channels, resize):
    good = record(channels=channels)
    example = changed(channels=channels, resize=resize)(good, WHERE)
    np.testing.assert_array_equal(example.image, good["image"])
    assert example.image.dtype == np.uint8
    assert (example.label, example.weight, example.mask) == (3, 1, True)
    assert [x.dtype for x in (example.label, example.weight, example.mask)] == ["i4", "f4", "?"]
    assert example.partners is None


@pytest.mark.parametrize("label", [0, 9, np.int64(4)])
def test_labels_run_from_0_to_one_below_the_number_of_classes(label):
    example = TRANSFORM(record(label=label), WHERE)
    assert example.label == label
    assert example.label.dtype == np.int32


def test_a_record_may_bring_a_weight():
    assert TRANSFORM(record(weight=0.25), WHERE).weight == np.float32(0.25)


@pytest.mark.parametrize("method", RESIZE)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(6, 5), (3, 9), (60, 60)])
def test_resizing_is_that_of_pillow_channel_by_channel(method, channels, height, width):
    big = record(height, width, channels)
    example = changed(channels=channels, resize=method)(big, WHERE)
    assert example.image.shape == (6, 6, channels)
    assert example.image.dtype == np.uint8
    for c in range(channels):
        expected = Image.fromarray(big["image"][:, :, c]).resize((6, 6), RESIZE[method])
        np.testing.assert_array_equal(example.image[:, :, c], np.asarray(expected))


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_shrinking_is_antialiased(method):
    """A checkerboard becomes grey; picking single pixels would keep it black and white."""
    checkers = np.indices((48, 48)).sum(axis=0)[:, :, None] % 2 * np.uint8(255)
    image = changed(resize=method)({"image": checkers.astype(np.uint8), "label": 0}, WHERE).image
    assert np.abs(image.astype(int) - 127).max() < 10


@pytest.mark.parametrize(("height", "width"), [(6, 8), (8, 6), (3, 3)])
def test_another_size_is_refused_with_the_fix(height, width):
    message = error_of(TRANSFORM, record(height, width))
    assert f"is {height}x{width} instead of 6x6: set config.data.image_size" in message
    assert message.endswith("config.data.resize to one of nearest, bilinear, bicubic")


@pytest.mark.parametrize(("has", "wants"), [(3, 1), (1, 3), (4, 3)])
def test_other_channels_are_refused_with_the_fix(has, wants):
    message = error_of(changed(channels=wants), record(channels=has))
    assert f"has {has} channels instead of {wants}: set config.data.channels={has}" in message


@pytest.mark.parametrize("label", [-1, 10, 255])
def test_a_label_out_of_range_is_refused_with_the_fix(label):
    message = error_of(TRANSFORM, record(label=label))
    assert f"label {label} is out of range 0..9: mend the record or set" in message
    assert message.endswith("config.data.num_classes")


@pytest.mark.parametrize("dtype", [np.float32, np.uint16, bool])
def test_another_dtype_is_refused(dtype):
    message = error_of(TRANSFORM, record(dtype=dtype))
    assert f"the image is {np.dtype(dtype)}[6, 6, 1], not uint8 [H, W, C]" in message


def test_another_rank_is_refused():
    flat = {"image": np.zeros((6, 6), np.uint8), "label": 0}
    assert "the image is uint8[6, 6], not uint8 [H, W, C]" in error_of(TRANSFORM, flat)


@pytest.mark.parametrize("field", ["image_size", "num_classes"])
@pytest.mark.parametrize("value", [0, -1])
def test_settings_below_1_are_refused(field, value):
    with pytest.raises(InputError, match=rf"^config.data.{field} is {value}: give at least 1$"):
        changed(**{field: value})


def test_an_unknown_way_to_resize_names_the_close_one():
    with pytest.raises(InputError, match=r"unknown config.data.resize 'cubic': did you mean 'bic"):
        changed(resize="cubic")


def test_the_middle_of_a_resized_image():
    tall = changed(resize="bilinear", shorter_side=8)(record(height=21, width=10), WHERE).image
    pixels = Image.fromarray(record(height=21, width=10)["image"][..., 0])
    resized = np.asarray(pixels.resize((8, 16), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(tall[..., 0], resized[5:11, 1:7])


def test_the_middle_of_an_image_of_its_size_is_that_image():
    good = record()
    example = changed(resize="bilinear", shorter_side=6)(good, WHERE)
    np.testing.assert_array_equal(example.image, good["image"])


@pytest.mark.parametrize("size", [(40, 60), (7, 300), (300, 7), (1, 1)])
def test_random_windows_lie_within_the_image_and_have_its_share(size):
    rng, shares = np.random.RandomState(0), []
    for _ in range(300):
        top, left, height, width = random_window(size, rng, scale=(0.1, 0.5))
        assert height > 0
        assert width > 0
        assert 0 <= top <= size[0] - height
        assert 0 <= left <= size[1] - width
        if min(size) > 30:
            assert 0.7 < width / height < 1.45  # 3/4 to 4/3, up to the pixel
        shares.append(height * width / (size[0] * size[1]))
    if min(size) > 30:
        assert min(shares) > 0.09
        assert max(shares) < 0.52
        assert 0.28 < np.mean(shares) < 0.32


def test_an_image_too_long_for_any_window_gives_the_largest_in_its_middle():
    window = random_window((10, 100), np.random.RandomState(0), scale=(0.9, 1.0))
    assert window == (0, 43, 10, 13)
    window = random_window((100, 10), np.random.RandomState(0), scale=(0.9, 1.0))
    assert window == (43, 0, 13, 10)


def test_a_window_is_drawn_in_training_only():
    transform = changed(resize="bilinear", crop_scale=(0.1, 0.5))
    big = record(height=30, width=30)
    whole = transform(big, WHERE).image
    np.testing.assert_array_equal(whole, changed(resize="bilinear")(big, WHERE).image)
    first, again, other = (
        transform(big, WHERE, np.random.RandomState(seed)).image for seed in (0, 0, 1)
    )
    assert first.shape == (6, 6, 1)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    top, left, height, width = random_window((30, 30), np.random.RandomState(0), scale=(0.1, 0.5))
    part = Image.fromarray(big["image"][..., 0]).crop((left, top, left + width, top + height))
    # Resized by itself the part does not see its neighbours, so only the middle is the same.
    expected = np.asarray(part.resize((6, 6), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(first[2:4, 2:4, 0], expected[2:4, 2:4], atol=1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shorter_side": 8}, "set config.data.resize to one of nearest, bilinear, bicubic"),
        ({"crop_scale": (0.1, 1.0)}, "set config.data.resize to one of"),
        ({"resize": "bilinear", "shorter_side": 5}, "config.data.shorter_side is 5"),
        ({"resize": "bilinear", "crop_scale": (0.5, 1.1)}, "config.augment.crop_scale is 1.1"),
        (
            {"resize": "bilinear", "crop_scale": (0.5, 0.4)},
            "least config.augment.crop_scale is 0.5",
        ),
    ],
)
def test_windows_that_cannot_be(fields, message):
    with pytest.raises(InputError, match=message):
        changed(**fields)
