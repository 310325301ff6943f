"""AlexNet as published: its size, every map, its towers run apart, how it starts."""

import functools

import jax
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.layers import batch_norm
from jaxvision.models import create_model, input_size, summarize
from jaxvision.models.backbones.alexnet_2012 import STAGES, Layer
from tests.models.structure import check_shapes, check_without_classes, size_of
from tests.models.variables import image_maker, random_variables, shapes_of
from tests.reference import models as reference
from tests.reference.ops import normalization, pooling

# The default tests have each of these kinds of checks, of other networks.
pytestmark = pytest.mark.slow

images_of = image_maker(39)


def narrow(stages, divisor):
    """The same with fewer channels."""
    return tuple(
        stage._replace(
            layers=tuple(
                layer._replace(channels=layer.channels // divisor) for layer in stage.layers
            )
        )
        for stage in stages
    )


def tiny(**fields):
    fields = {"stages": narrow(STAGES, 16), "hidden": 16, "num_classes": 3, **fields}
    return create_model("alexnet_2012", **{"dropout": 0.0, **fields})


@pytest.mark.parametrize(
    ("towers", "parameters", "multiply_adds"),
    # 60 million in the paper. A second tower halves what conv2, conv4 and conv5 see.
    [(2, 60_965_224, 724_406_816), (1, 62_378_344, 1_135_256_096)],
)
def test_alexnet_has_its_published_size(towers, parameters, multiply_adds):
    model = create_model("alexnet_2012", towers=towers)
    found = summarize(model, input_size("alexnet_2012"))
    assert (found.params, found.macs) == (parameters, multiply_adds)


def test_layers_have_their_published_sizes():
    _, variables = shapes_of(create_model("alexnet_2012"), images_of(1))
    assert {name: size_of(layer) for name, layer in variables["params"].items()} == {
        "conv1": 96 * (11 * 11 * 3 + 1),
        "conv2": 256 * (5 * 5 * 48 + 1),
        "conv3": 384 * (3 * 3 * 256 + 1),
        "conv4": 384 * (3 * 3 * 192 + 1),
        "conv5": 256 * (3 * 3 * 192 + 1),
        "fc6": 4096 * (6 * 6 * 256 + 1),
        "fc7": 4096 * (4096 + 1),
        "fc8": 1000 * (4096 + 1),
    }


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        ((227, 227), ((55, 55), (27, 27), (13, 13), (6, 6))),
        ((39, 101), ((8, 23), (4, 11), (2, 5), (1, 2))),
    ],
)
def test_every_map_in_its_shape(size, sizes):
    maps, _ = shapes_of(create_model("alexnet_2012", num_classes=7), images_of(2, *size))
    check_shapes(maps, 2, sizes, (96, 256, 256, 256), first=2, pooled=6 * 6 * 256, logits=7)


def in_two_towers(params, images):
    """The maps, of a network whose towers are run one by one, and joined before conv3 and fc6."""

    def half(x, tower):
        return np.split(np.asarray(x), 2, axis=-1)[tower]

    def conv(maps, name, **options):
        kernel, bias = params[name]["kernel"], params[name]["bias"]
        return [
            np.maximum(reference.conv(x, half(kernel, t), bias=half(bias, t), **options), 0)
            for t, x in enumerate(maps)
        ]

    def dense(x, name):
        return x @ params[name]["kernel"] + params[name]["bias"]

    def normed(maps):
        options = {"size": 5, "alpha": 5 * 1e-4, "beta": 0.75, "k": 2}
        return [normalization.local_response_norm(x, **options) for x in maps]

    def pooled(maps):
        return [pooling.max_pool(x, 3, stride=2, ceil_mode=True) for x in maps]

    joined = functools.partial(np.concatenate, axis=-1)
    c2 = normed(conv([images, images], "conv1", stride=4))
    c3 = normed(conv(pooled(c2), "conv2", padding=2))
    both = joined(pooled(c3))
    c4 = conv([both, both], "conv3", padding=1)
    c4 = conv(conv(c4, "conv4", padding=1), "conv5", padding=1)
    maps = {"c2": joined(c2), "c3": joined(c3), "c4": joined(c4), "c5": joined(pooled(c4))}
    x = maps["pooled"] = pooling.adaptive_avg_pool(maps["c5"], 6).transpose(0, 3, 1, 2)
    x = maps["pooled"] = x.reshape(len(x), -1)
    for name in ("fc6", "fc7"):
        x = np.maximum(dense(x, name), 0)
    return {**maps, "logits": dense(x, "fc8")}


def test_two_towers_are_two_networks_that_meet_before_conv3_and_fc6():
    # Bright images, so that the normalisation tells.
    model, images = tiny(), 100 * images_of(2, 39, 63)
    variables = random_variables(model, images)
    maps = jax.jit(functools.partial(model.apply, train=False))(variables, images)
    expected = in_two_towers(variables["params"], images)
    assert maps.keys() == expected.keys()
    for name, x in expected.items():
        np.testing.assert_allclose(maps[name], x, rtol=0, atol=3e-6 * np.abs(x).max(), err_msg=name)


def test_parameters_start_as_published():
    init = jax.jit(functools.partial(tiny(hidden=64).init, train=False))
    params = jax.device_get(init(jax.random.key(0), images_of(1)))["params"]
    starts = {name: np.unique(layer["bias"]).tolist() for name, layer in params.items()}
    ones = {"conv2", "conv4", "conv5", "fc6", "fc7"}
    assert starts == {name: [float(name in ones)] for name in params}
    for name, layer in params.items():
        # Of 192 numbers at least, so that the deviation is right within a sixth.
        assert abs(np.std(layer["kernel"]) / 0.01 - 1) < 1 / 6, name


def test_without_classes_there_are_convolutions_only():
    check_without_classes(tiny(), images_of(), {"c2", "c3", "c4", "c5", "pooled"}, "fc")


def test_a_norm_takes_the_place_of_the_bias():
    _, variables = shapes_of(tiny(norm=batch_norm), images_of())
    numbers = range(1, 6)
    assert variables["batch_stats"].keys() == {f"bn{number}" for number in numbers}
    assert all(variables["params"][f"conv{number}"].keys() == {"kernel"} for number in numbers)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((38, 80), r"the height of the images is 38: this network takes 39\b"),
        ((39, 8), r"the width of the images is 8: this network takes 39\b"),
    ],
)
def test_images_that_are_too_small_are_refused(size, message):
    with pytest.raises(InputError, match=message):
        shapes_of(tiny(), images_of(1, *size))


def test_channels_that_the_towers_cannot_share_are_refused():
    stages = (STAGES[0]._replace(layers=(Layer(7, 11, stride=4),)), *STAGES[1:])
    with pytest.raises(InputError, match="7 channels: give a multiple of the 2 towers"):
        shapes_of(tiny(stages=stages), images_of())
