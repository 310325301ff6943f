"""MobileNet: published sizes and costs, every map, what a block computes."""

import functools
import itertools

import numpy as np
import pytest

from jaxvision.layers import batch_norm
from jaxvision.models import create_model, summarize
from jaxvision.models.backbones.mobilenet_v1 import Stage
from jaxvision.testing import check_op
from tests.models.structure import (
    act_channels,
    check_published_size,
    check_shapes,
    check_without_classes,
    check_without_norm,
)
from tests.models.variables import image_maker, random_variables, shapes_of
from tests.reference import models as reference
from tests.reference.ops import convolution

TINY = (Stage(16, 1, 1), Stage(32, 2, 2))
images_of = image_maker(17)


def tiny(**fields):
    return create_model("mobilenet_v1", **{"stages": TINY, "width": 0.5, "num_classes": 3} | fields)


@pytest.mark.parametrize(
    ("name", "width", "millions"),
    [
        pytest.param("mobilenet_v1", 1, 569, marks=pytest.mark.slow),
        pytest.param("mobilenet_v1_0_75", 0.75, 325, marks=pytest.mark.long),
        pytest.param("mobilenet_v1_0_5", 0.5, 149, marks=pytest.mark.long),
        pytest.param("mobilenet_v1_0_25", 0.25, 41, marks=pytest.mark.long),
    ],
)
def test_every_mobilenet_has_its_published_size_and_cost(name, width, millions):
    # The paper's table 6: 4.2, 2.6, 1.3 and 0.5 million parameters. A block has 9 numbers a channel
    # that it sees, and one for each pair; each convolution's norm has two a channel.
    channels = [int(width * n) for n in (32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)]
    count = channels[0] * (27 + 2) + (channels[-1] + 1) * 1000
    for seen, given in itertools.pairwise(channels):
        count += seen * (9 + 2) + given * (seen + 2)
    if width == 1:
        assert count == 4_231_976
    check_published_size(name, count, [channels[n] for n in (1, 3, 5, 11, 13, 13)])
    assert round(summarize(create_model(name), (224, 224, 3)).macs / 1e6) == millions


@pytest.mark.long
@pytest.mark.parametrize(
    ("size", "sizes"),
    [((65, 31), ((33, 16), (17, 8))), ((1, 1), ((1, 1), (1, 1)))],
)
def test_every_map_in_its_shape(size, sizes):
    maps, _ = shapes_of(tiny(), images_of(2, *size), train=True)
    check_shapes(maps, 2, sizes, (8, 16), pooled=16, logits=3)


def test_without_classes_there_is_no_classifier_and_without_norms_there_are_biases():
    check_without_classes(tiny(), images_of(), {"c1", "c2", "pooled"}, "classifier")
    check_without_norm(tiny(), images_of())


def test_act_follows_every_convolution():
    # The stem's, and in each block both.
    assert act_channels(tiny(), images_of()) == [16, 16, 8, 8, 16, 16, 16]


def test_the_network_equals_the_reference():
    def network(variables, images):
        params, statistics = variables["params"], variables["batch_stats"]

        def layer(x, name, place, **how):
            norm = f"{name}_{place + 1}"
            x = convolution.conv2d(x, params[f"{name}_{place}"]["kernel"], **how)
            return np.maximum(reference.batch_norm(x, params[norm], statistics[norm]), 0)

        x = layer(images, "features_0", 0, stride=2, padding=1)
        strides, blocks = (1, 2, 1), []
        for block, stride in enumerate(strides, start=1):
            filters = {"stride": stride, "padding": 1, "groups": x.shape[-1]}
            x = layer(layer(x, f"features_{block}", 0, **filters), f"features_{block}", 3)
            blocks.append(x)
        pooled = x.mean(axis=(1, 2))
        logits = pooled @ params["classifier"]["kernel"] + params["classifier"]["bias"]
        return {"c1": blocks[0], "c2": x, "pooled": pooled, "logits": logits}

    images = images_of(1, 8, 7)
    run = functools.partial(tiny().apply, train=False)
    variables = random_variables(tiny(), images)
    check_op(run, network, variables, images, rtol=1e-4, atol=1e-5, transforms=("jit",))


def test_a_config_may_give_rows_as_plain_tuples_and_another_norm():
    model = tiny(stages=tuple(map(tuple, TINY)), norm=functools.partial(batch_norm, epsilon=1e-3))
    assert shapes_of(model, images_of()) == shapes_of(tiny(), images_of())
