"""Inputs: the sizes of images that are resized by the shorter side or into a box, and padded."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxvision.core import Inputs, OptionError

SIDES = {"resize": "shorter_side", "shorter_side": 800, "longer_side": 1333}
FIT = {"size": (416, 416), "resize": "fit"}


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({**SIDES, "shapes": "buckets"}, ((800, 1344), (800, 1088), (1088, 800), (1344, 800))),
        (SIDES, ((1344, 1344),)),
        ({**FIT, "shapes": "buckets"}, ((320, 416), (416, 416), (416, 320))),
        (FIT, ((416, 416),)),
        (
            {"size": (480, 640), "resize": "fit", "shapes": "buckets"},
            ((480, 640), (480, 480), (480, 384)),
        ),
        ({"size": (500, 300), "resize": "fit", "multiple_of": 1}, ((500, 300),)),
        ({"size": (9, 7), "resize": "stretch"}, ((9, 7),)),
    ],
)
def test_the_shapes_of_an_input(options, sizes):
    inputs = Inputs(**options)
    assert inputs.sizes == sizes
    assert inputs.shape == (*max(sizes, key=math.prod), 3)
    assert dataclasses.replace(inputs, std=(1, 1, 2)).sizes == sizes


@pytest.mark.parametrize(
    ("size", "resized", "padded"),
    [
        ((427, 640), (800, 1199), (800, 1216)),
        ((500, 333), (1201, 800), (1216, 800)),
        ((97, 100), (799, 824), (800, 832)),  # 97 * (800 / 97) is below 800
        ((100, 1000), (133, 1333), (160, 1344)),
        ((1, 10000), (1, 1333), (32, 1344)),
    ],
)
def test_sides_are_rounded_down_as_in_torchvision(size, resized, padded):
    inputs = Inputs(**SIDES, shapes="exact")
    assert inputs.resized(size) == resized
    assert inputs.size_of(size) == padded


side = st.integers(1, 3000)
ways = st.one_of(
    st.tuples(st.just("fit"), st.integers(1, 900), st.integers(1, 900)),
    st.tuples(st.just("shorter_side"), st.integers(1, 900), st.integers(0, 900)),
)


@given(ways, side, side, st.sampled_from([1, 8, 32]))
def test_every_image_fits_into_one_of_at_most_four_shapes(way, height, width, multiple_of):
    name, first, second = way
    if name == "fit":
        options = {"size": (first, second), "resize": name}
    else:
        options = {"resize": name, "shorter_side": first, "longer_side": first + second}
    resized = set()
    for shapes in ("fixed", "buckets", "exact"):
        inputs = Inputs(**options, shapes=shapes, multiple_of=multiple_of)
        shape, image = inputs.size_of((height, width)), inputs.resized((height, width))
        resized.add(image)
        assert all(x <= side for x, side in zip(image, shape, strict=True))
        assert not any(side % multiple_of for side in shape)
        assert all(x <= y for x, y in zip(inputs.size_of((height, width)), shape, strict=True))
        if shapes != "exact":
            assert shape in inputs.sizes
            assert len(inputs.sizes) <= (1 if shapes == "fixed" else 4)
            for within in inputs.sizes:  # a partner, in the shape of another
                small = inputs.resized((height, width), within)
                assert all(1 <= x <= side for x, side in zip(small, within, strict=True))
        else:
            assert all(y - x < multiple_of for x, y in zip(image, shape, strict=True))
    assert len(resized) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "size is None: give (height, width)"),
        ({"resize": "shorter_side", "longer_side": 9}, "shorter_side is not set: give a number"),
        ({"resize": "shorter_side", "shorter_side": 9}, "longer_side is not set: give a number"),
        ({**SIDES, "longer_side": 799}, "longer_side is 799: give at least 800"),
        ({**SIDES, "size": (9, 9)}, "size is (9, 9), but (1344, 1344) follows from shorter_side"),
        ({**FIT, "shorter_side": 9}, "shorter_side is set: set resize to 'shorter_side' or 'crop'"),
        ({**FIT, "longer_side": 9}, "longer_side is set: set resize to 'shorter_side', or leave"),
        ({**FIT, "multiple_of": 0}, "multiple_of is 0: give at least 1"),
        ({**FIT, "shapes": "bucket"}, "shapes is 'bucket': did you mean 'buckets'"),
        ({"size": (9, 9), "shapes": "exact"}, "shapes is set: set resize to 'shorter_side' or"),
        ({"size": (9, 9), "multiple_of": 9}, "multiple_of is set: set resize to 'shorter_side' or"),
        ({"size": (9, 9), "resampling": "float32"}, "resampling is set: set resize to"),
        ({**FIT, "resampling": "float32", "method": "nearest"}, "method is 'nearest', but resamp"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(OptionError) as error:
        Inputs(**options)
    assert str(error.value).startswith(message)
