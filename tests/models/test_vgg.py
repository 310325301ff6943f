"""VGG: published sizes, every map, names, torchvision's logits."""

import functools

import jax
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.layers import batch_norm
from jaxvision.models import create_model
from jaxvision.models.backbones.vgg import Stage
from tests.marks import long_but
from tests.models.parity import check_torchvision_logits
from tests.models.structure import act_channels, check_shapes, size_of
from tests.models.variables import (
    check_learns,
    image_maker,
    random_variables,
    shapes_of,
)

STAGES = (Stage(4, 1), Stage(6, 2))
images_of = image_maker(9)


def tiny(**fields):
    fields = {"stages": STAGES, "hidden": 16, "num_classes": 3, "dropout": 0.0, **fields}
    return create_model("vgg16", **fields)


SIZES = [
    ("vgg11", 132_863_336),
    ("vgg11_bn", 132_868_840),
    ("vgg13", 133_047_848),
    ("vgg13_bn", 133_053_736),
    ("vgg16", 138_357_544),
    ("vgg16_bn", 138_365_992),
    ("vgg19", 143_667_240),
    ("vgg19_bn", 143_678_248),
]


@pytest.mark.parametrize(("name", "count"), long_but(SIZES, SIZES[:2]))
def test_every_vgg_has_its_published_size(name, count):
    # The paper's table 2 in millions: 133, 133, 138, 144; the exact numbers are torchvision's.
    _, variables = shapes_of(create_model(name), images_of(1, 224))
    assert size_of(variables["params"]) == count
    kernels = [key for key, x in variables["params"].items() if x["bias"].shape and "kernel" in x]
    assert len(kernels) == int(name[3:5])
    assert ("batch_stats" in variables) == name.endswith("_bn")


def test_layers_are_named_by_their_place():
    def names(**fields):
        return set(shapes_of(tiny(**fields), images_of())[1]["params"])

    classifier = {"classifier_0", "classifier_3", "classifier_6"}
    # Convolution, ReLU, pooling, and convolution, ReLU twice.
    assert names() == {"features_0", "features_3", "features_5"} | classifier
    # With a norm after each convolution.
    convolutions, norms = (0, 4, 7), (1, 5, 8)
    assert names(norm=batch_norm, num_classes=None) == {
        f"features_{place}" for place in convolutions + norms
    }


SHAPES = [
    ((224, 192), False, ((224, 192), (112, 96), (56, 48), (28, 24), (14, 12), (7, 6))),
    ((35, 65), False, ((35, 65), (17, 32), (8, 16), (4, 8), (2, 4), (1, 2))),
    ((35, 65), True, ((35, 65), (18, 33), (9, 17), (5, 9), (3, 5), (2, 3))),
    ((1, 1), True, ((1, 1),) * 6),
]


@pytest.mark.parametrize("name", long_but(["vgg11", "vgg16_bn"], ["vgg11"]))
@pytest.mark.parametrize(("size", "ceil_mode", "sizes"), long_but(SHAPES, SHAPES[1:3]))
def test_every_map_in_its_shape(name, size, ceil_mode, sizes):
    model = create_model(name, num_classes=7, ceil_mode=ceil_mode)
    maps, _ = shapes_of(model, images_of(2, *size))
    widths = (64, 128, 256, 512, 512, 512)
    check_shapes(maps, 2, sizes, widths, first=0, pooled=7 * 7 * 512, logits=7)


def test_the_last_map_is_averaged_and_flattened_channel_by_channel():
    model, images = tiny(num_classes=None), images_of(2, 56, 28)
    variables = random_variables(model, images)
    maps = jax.jit(functools.partial(model.apply, train=False))(variables, images)
    assert maps["c2"].shape == (2, 14, 7, 6)
    means = np.asarray(maps["c2"]).reshape(2, 7, 2, 7, 6).mean(axis=2)
    expected = [[means[b, i, j, c] for c, i, j in np.ndindex(6, 7, 7)] for b in range(2)]
    np.testing.assert_allclose(maps["pooled"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((31, 40), r"the height of the images is 31: this network takes 32\b"),
        ((32, 8), r"the width of the images is 8: this network takes 32\b"),
    ],
)
def test_images_that_are_too_small_are_refused(size, message):
    with pytest.raises(InputError, match=message):
        shapes_of(create_model("vgg16"), images_of(1, *size))
    shapes_of(create_model("vgg16"), images_of(1, 32))


def test_act_follows_every_convolution_and_hidden_layer():
    assert act_channels(tiny(), images_of()) == [4, 6, 6, 16, 16]


def test_every_parameter_counts_with_a_norm():
    # In evaluation: in training a norm takes away what the bias before it adds.
    model, images = tiny(norm=batch_norm), images_of(4)
    variables = random_variables(model, images)

    def objective(params):
        maps = model.apply({**variables, "params": params}, images, train=False)
        return -jax.nn.log_softmax(maps["logits"])[:, 1].sum()

    check_learns(objective, variables["params"])


@pytest.mark.long
@pytest.mark.parity
def test_logits_equal_torchvisions():
    check_torchvision_logits("vgg16", images_of(2, 64))
