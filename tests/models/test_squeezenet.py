"""SqueezeNet: published sizes, every map, memory, torchvision's logits."""

import functools

import jax
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.layers import batch_norm
from jaxvision.models import create_model
from jaxvision.models.backbones.squeezenet import Fire
from tests.marks import long_but
from tests.models.parity import check_torchvision_logits
from tests.models.structure import check_shapes, check_without_classes, size_of
from tests.models.variables import image_maker, random_variables, shapes_of

STAGES = ((Fire(4, 6),), (Fire(4, 8),))
images_of = image_maker(33)


def tiny(**fields):
    fields = {"stem": 6, "stages": STAGES, "num_classes": 3, "dropout": 0.0, **fields}
    return create_model("squeezenet1_1", **fields)


SIZES = [("squeezenet1_0", 1_248_424), ("squeezenet1_1", 1_235_496)]


@pytest.mark.parametrize(("name", "count"), long_but(SIZES, SIZES[1:], SIZES[:1]))
def test_every_squeezenet_has_its_published_size(name, count):
    # The paper's table 1 has 1,248,424; the other number is torchvision's.
    _, variables = shapes_of(create_model(name), images_of(1))
    assert size_of(variables) == count


PLACES = [
    ("squeezenet1_0", (3, 4, 5, 7, 8, 9, 10, 12)),
    ("squeezenet1_1", (3, 4, 6, 7, 9, 10, 11, 12)),
]


@pytest.mark.parametrize(("name", "places"), long_but(PLACES, PLACES[1:], PLACES[:1]))
def test_layers_are_named_by_their_place(name, places):
    _, variables = shapes_of(create_model(name), images_of(1))
    assert variables["params"].keys() == {
        "features_0",
        "classifier_1",
        *(
            f"features_{at}_{part}"
            for at in places
            for part in ("squeeze", "expand1x1", "expand3x3")
        ),
    }


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "stem", "widths", "size", "sizes"),
    [
        (
            "squeezenet1_0",
            96,
            (256, 512, 512),
            (224, 192),
            ((109, 93), (54, 46), (27, 23), (13, 11)),
        ),
        ("squeezenet1_0", 96, (256, 512, 512), (21, 40), ((8, 17), (4, 8), (2, 4), (1, 2))),
        (
            "squeezenet1_1",
            64,
            (128, 256, 512),
            (224, 192),
            ((111, 95), (55, 47), (27, 23), (13, 11)),
        ),
        ("squeezenet1_1", 64, (128, 256, 512), (17, 40), ((8, 19), (4, 9), (2, 4), (1, 2))),
    ],
)
def test_every_map_in_its_shape(name, stem, widths, size, sizes):
    maps, _ = shapes_of(create_model(name, num_classes=7), images_of(2, *size))
    check_shapes(maps, 2, sizes, (stem, *widths), pooled=512, logits=7)


def test_without_classes_there_is_no_classifier():
    check_without_classes(tiny(), images_of(), {"c1", "c2", "c3", "pooled"}, "classifier")


def test_a_norm_takes_the_place_of_the_bias_but_in_the_classifier():
    _, variables = shapes_of(tiny(norm=batch_norm), images_of())
    params, norms = variables["params"], variables["batch_stats"].keys()
    with_bias = {name for name, layer in params.items() if "bias" in layer}
    assert with_bias == norms | {"classifier_1"}
    assert norms == {f"{name}_bn" for name in params.keys() - with_bias}


@pytest.mark.slow
def test_the_classifier_may_be_padded():
    """The logits are means of a map, and its padded cells have the ReLU of the bias."""
    images = images_of(1)
    variables = random_variables(tiny(), images)
    plain, padded = (
        jax.jit(functools.partial(model.apply, train=False))(variables, images)
        for model in (tiny(), tiny(classifier_padding=1))
    )
    height, width = plain["c3"].shape[1:3]
    cells, larger = height * width, (height + 2) * (width + 2)
    bias = np.maximum(variables["params"]["classifier_1"]["bias"], 0)
    expected = (cells * np.asarray(plain["logits"]) + (larger - cells) * bias) / larger
    np.testing.assert_allclose(padded["logits"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("squeezenet1_0", (20, 40), r"the height of the images is 20: this network takes 21\b"),
        ("squeezenet1_1", (17, 16), r"the width of the images is 16: this network takes 17\b"),
    ],
)
def test_images_that_are_too_small_are_refused(name, size, message):
    with pytest.raises(InputError, match=message):
        shapes_of(create_model(name), images_of(1, *size))


@pytest.mark.parity
def test_logits_equal_torchvisions():
    check_torchvision_logits("squeezenet1_0", images_of(2, 64, 75))
