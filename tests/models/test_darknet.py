"""Extraction, Darknet-19, Darknet-53 and CSPDarknet-53: published sizes, every map."""

from functools import partial

import jax
import numpy as np
import pytest

from jaxvision.models import create_model
from jaxvision.models.backbones.cspdarknet import TinyCSPDarknet
from jaxvision.models.backbones.darknet import PlainDarknet, Stage
from tests.marks import long_but
from tests.models.structure import size_of
from tests.models.variables import shapes_of

# A pooling of stride 2, one of stride 1, and a 1x1 convolution.
PLAIN = (Stage(0, ((4, 3),)), Stage(1, ((6, 3), (4, 1))), Stage(1, ((8, 3),)))
TINY = {
    "conv": PlainDarknet(PLAIN, num_classes=3),
    "fc": PlainDarknet((Stage(1, ((4, 7),)), *PLAIN[1:]), classifier="fc", num_classes=3),
    "residual": create_model("darknet53", blocks=(1, 2), widths=(4, 6, 8), num_classes=3),
    "partial": create_model("cspdarknet53", blocks=(1, 2), widths=(4, 6, 8), num_classes=3),
    "tiny partial": TinyCSPDarknet((4, 6, 8), num_classes=3),
}


IDENTITY = {"kernel": np.ones((1, 1, 1, 1), np.float32), "bias": np.zeros(1, np.float32)}


def images_of(batch=2, size=32):
    return np.random.default_rng(0).normal(size=(batch, size, size, 3)).astype(np.float32)


# The floats of the published darknet19.weights (83,427,104 bytes and a header) and of
# darknet53.weights (166,582,560); Extraction's 20 convolutions and 1,024 x 1,000 connections.
PUBLISHED = [
    ("darknet19", 20_842_376, 14_400),
    ("darknet53", 41_609_928, 35_712),
    ("extraction", 23_437_224, 18_176),
]


@pytest.mark.parametrize(
    ("name", "parameters", "statistics"), long_but(PUBLISHED, PUBLISHED[2:], PUBLISHED[1:2])
)
def test_published_sizes(name, parameters, statistics):
    _, variables = shapes_of(create_model(name), images_of(1, 64))
    assert size_of(variables["params"]) == parameters
    assert size_of(variables["batch_stats"]) == statistics


WIDTHS = [
    ("darknet19", (32, 64, 128, 256, 512, 1024)),
    ("cspdarknet53", (None, 64, 128, 256, 512, 1024)),
    ("darknet53", (None, 64, 128, 256, 512, 1024)),
    ("extraction", (None, 64, 192, 512, 1024, 1024)),
]


@pytest.mark.parametrize(("name", "widths"), long_but(WIDTHS, WIDTHS[2:]))
def test_every_map_in_its_shape(name, widths):
    maps, variables = shapes_of(create_model(name, num_classes=7), images_of(2, 96))
    assert {key: x.shape for key, x in maps.items()} == {
        **{f"c{i}": (2, 96 >> i, 96 >> i, w) for i, w in enumerate(widths) if w},
        "pooled": (2, 1024),
        "logits": (2, 7),
    }
    headless, fewer = shapes_of(create_model(name, num_classes=None), images_of(2, 96))
    assert headless.keys() == maps.keys() - {"logits"}
    assert len(variables["params"].keys() - fewer["params"].keys()) == 1


def test_without_a_norm_convolutions_have_a_bias():
    _, variables = shapes_of(create_model("extraction", norm=None), images_of(1))
    assert "batch_stats" not in variables
    assert all("bias" in layer for layer in variables["params"].values())
    assert len(variables["params"]) == 21


def test_the_slope_below_zero_is_a_tenth():
    model = PlainDarknet((Stage(0, ((1, 1),)),), num_classes=None, norm=None)
    variables = {"params": {"conv1": IDENTITY}}
    images = np.float32([-3, 2]).reshape(1, 1, 2, 1)
    maps = jax.jit(partial(model.apply, train=False))(variables, images)
    np.testing.assert_allclose(maps["c0"].ravel(), [-0.3, 2])


def test_between_stages_of_one_level_the_size_stays():
    stages = (Stage(0, ((1, 1),)), Stage(0, ((1, 1),)))
    model = PlainDarknet(stages, num_classes=None, norm=None)
    variables = {"params": {"conv1": IDENTITY, "conv2": IDENTITY}}
    x = np.float32([[1, 2, 0], [5, 0, 0], [0, 0, 7]])
    maps = jax.jit(partial(model.apply, train=False))(variables, x[None, :, :, None])
    # Each pixel and those to the right and below.
    np.testing.assert_array_equal(maps["c0"][0, :, :, 0], [[5, 2, 0], [5, 7, 7], [0, 7, 7]])
