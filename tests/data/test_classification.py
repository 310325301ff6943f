"""From records to examples: checked, resized, and named where they cannot be used."""

import numpy as np
import pytest
from PIL import Image

from jaxvision.core import InputError, Inputs, OptionError
from jaxvision.data import Arrays, ToClassification, random_window

INPUTS = Inputs((6, 6), channels=1)
TRANSFORM = ToClassification(INPUTS, 10)
WHERE = "a/file.gz, record 7"


def record(height=6, width=6, channels=1, label=3, dtype=np.uint8, **others):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels)).astype(dtype)
    return {"image": pixels, "label": label, **others}


def resizing(crop_scale=None, **fields):
    inputs = Inputs(**{"size": (6, 6), "channels": 1, "resize": "stretch", **fields})
    return ToClassification(inputs, 10, crop_scale=crop_scale)


def error_of(transform, bad):
    with pytest.raises(InputError) as error:
        transform(bad, WHERE)
    message = str(error.value)
    assert message.startswith(f"{WHERE}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resize", [None, "stretch"])
def test_an_image_of_the_right_size_is_left_alone(channels, resize):
    good = record(channels=channels)
    example = resizing(channels=channels, resize=resize)(good, WHERE)
    np.testing.assert_array_equal(example.image, good["image"])
    assert example.image.dtype == np.uint8
    assert (example.label, example.weight, example.mask) == (3, 1, True)
    assert [x.dtype for x in (example.label, example.weight, example.mask)] == ["i4", "f4", "?"]
    assert example.partners is None
    assert (example.extent.dtype, example.extent.tolist()) == ("i4", [6, 6])


@pytest.mark.parametrize("label", [0, 9, np.int64(4)])
def test_labels_run_from_0_to_one_below_the_number_of_classes(label):
    example = TRANSFORM(record(label=label), WHERE)
    assert example.label == label
    assert example.label.dtype == np.int32


def test_a_record_may_bring_a_weight():
    assert TRANSFORM(record(weight=0.25), WHERE).weight == np.float32(0.25)


def test_inputs_may_be_rectangular():
    example = resizing(size=(4, 8))(record(10, 10), WHERE)
    assert example.image.shape == (4, 8, 1)
    assert example.extent.tolist() == [4, 8]


@pytest.mark.parametrize("label", [-1, 10, 255])
def test_a_label_out_of_range_is_refused_with_the_fix(label):
    message = error_of(TRANSFORM, record(label=label))
    assert message.endswith(
        f"label {label} is out of range 0..9: correct the record or set num_classes"
    )


def test_images_that_do_not_fit_are_refused():
    assert "has 8 x 6 pixels instead of 6 x 6" in error_of(TRANSFORM, record(width=8))
    assert "has 3 channels instead of 1" in error_of(TRANSFORM, record(channels=3))
    assert "is float32[6, 6, 1]" in error_of(TRANSFORM, record(dtype=np.float32))


@pytest.mark.parametrize("value", [0, -1])
def test_settings_below_1_are_refused(value):
    with pytest.raises(OptionError, match=rf"^num_classes is {value}: give at least 1$"):
        ToClassification(INPUTS, value)


def test_a_source_with_other_classes_is_refused_before_an_image_is_read():
    images = np.zeros((3, 6, 6, 1), np.uint8)
    named = Arrays(images, [0, 1, 2], class_names=("cat", "dog", "fox"))
    with pytest.raises(
        OptionError, match=r"^num_classes is 10, but the data has 3 classes: cat, dog, fox$"
    ) as error:
        TRANSFORM.check_source(named)
    assert error.value.option == "num_classes"
    ToClassification(INPUTS, 3).check_source(named)
    nameless = Arrays(images, [0, 10, 2])
    with pytest.raises(InputError, match=r"^images, record 1: label 10 is out of range 0..9"):
        TRANSFORM.check_source(nameless)
    ToClassification(INPUTS, 11).check_source(nameless)
    TRANSFORM.check_source(Arrays(images))


def test_the_middle_of_a_resized_image():
    tall = resizing(resize="crop", shorter_side=8)(record(height=21, width=10), WHERE).image
    pixels = Image.fromarray(record(height=21, width=10)["image"][..., 0])
    resized = np.asarray(pixels.resize((8, 16), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(tall[..., 0], resized[5:11, 1:7])


def test_the_middle_of_an_image_of_its_size_is_that_image():
    good = record()
    example = resizing(resize="crop", shorter_side=6)(good, WHERE)
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


@pytest.mark.parametrize("resize", ["stretch", "crop"])
def test_a_window_is_drawn_in_training_only(resize):
    transform = resizing(crop_scale=(0.1, 0.5), resize=resize)
    big = record(height=30, width=30)
    whole = transform(big, WHERE).image
    np.testing.assert_array_equal(whole, resizing(resize=resize)(big, WHERE).image)
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
    with pytest.raises(InputError, match="has 3 channels instead of 1"):
        transform(record(channels=3), WHERE, np.random.RandomState(0))


@pytest.mark.parametrize(
    ("resize", "crop_scale", "message"),
    [
        (None, (0.1, 1.0), "set resize to one of stretch, letterbox, crop$"),
        ("stretch", (0.5, 1.1), "give the least and the largest part of the area"),
        ("stretch", (0.5, 0.4), "give the least and the largest"),
        ("stretch", (0.0, 0.4), "give the least and the largest"),
        ("stretch", (0.5,), "give the least and the largest"),
    ],
)
def test_windows_that_cannot_be(resize, crop_scale, message):
    with pytest.raises(OptionError, match=rf"^crop_scale is \({crop_scale[0]}.*{message}") as error:
        resizing(crop_scale=crop_scale, resize=resize)
    assert error.value.option == "crop_scale"
