"""ZFNet: published sizes, every map, where the normalisation is, how it starts."""

import functools

import jax
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.models import create_model
from jaxvision.ops import local_response_norm, max_pool
from tests.marks import long_but
from tests.models.structure import check_shapes, size_of
from tests.models.test_alexnet_2012 import narrow
from tests.models.variables import image_maker, random_variables, shapes_of

# The default tests have each of these kinds of checks, of other networks.
pytestmark = pytest.mark.slow

images_of = image_maker(47)


def tiny(**fields):
    stages = narrow(create_model("zfnet").stages, 16)
    fields = {"stages": stages, "hidden": 16, "dropout": 0.0, "num_classes": 3, **fields}
    return create_model("zfnet", **fields)


SIZES = [("zfnet", (384, 384, 256), 62_357_608), ("zfnet_512", (512, 1024, 512), 107_627_624)]


@pytest.mark.parametrize(("name", "channels", "count"), long_but(SIZES, SIZES[:1]))
def test_every_zfnet_has_the_size_of_the_papers_layers(name, channels, count):
    # The paper has no number.
    third, fourth, fifth = channels
    _, variables = shapes_of(create_model(name), images_of(1))
    assert size_of(variables) == count
    assert {name: size_of(layer) for name, layer in variables["params"].items()} == {
        "conv1": 96 * (7 * 7 * 3 + 1),
        "conv2": 256 * (5 * 5 * 96 + 1),
        "conv3": third * (3 * 3 * 256 + 1),
        "conv4": fourth * (3 * 3 * third + 1),
        "conv5": fifth * (3 * 3 * fourth + 1),
        "fc6": 4096 * (6 * 6 * fifth + 1),
        "fc7": 4096 * (4096 + 1),
        "fc8": 1000 * (4096 + 1),
    }


SHAPES = [
    # The paper's figure 3.
    ((224, 224), ((110, 110), (55, 55), (26, 26), (13, 13), (6, 6))),
    ((47, 101), ((22, 49), (11, 24), (4, 10), (2, 5), (1, 2))),
]
LAST = [("zfnet", 256), ("zfnet_512", 512)]


@pytest.mark.parametrize(("name", "last"), long_but(LAST, LAST[:1]))
@pytest.mark.parametrize(("size", "sizes"), SHAPES)
def test_every_map_in_its_shape(name, last, size, sizes):
    maps, _ = shapes_of(create_model(name, num_classes=7), images_of(2, *size))
    check_shapes(maps, 2, sizes, (96, 96, 256, last, last), pooled=36 * last, logits=7)


def test_a_normalisation_of_all_maps_follows_the_first_pooling():
    model, images = tiny(num_classes=None), 100 * images_of()
    variables = random_variables(model, images)
    maps = jax.jit(functools.partial(model.apply, train=False))(variables, images)

    @jax.jit
    def normed(c1):
        x = max_pool(c1, 3, stride=2, ceil_mode=True)
        return x, local_response_norm(x, size=5, alpha=5e-4, beta=0.75, k=2.0)

    pooled, expected = jax.device_get(normed(maps["c1"]))
    np.testing.assert_allclose(maps["c2"], expected, rtol=1e-5)
    assert np.abs(maps["c2"] - 2**-0.75 * pooled).max() > 0.1 * np.abs(expected).max()


def test_biases_start_at_zero():
    @jax.jit
    def biases(key):
        params = tiny().init(key, images_of(1), train=False)["params"]
        return [layer["bias"] for layer in params.values()]

    assert not any(bias.any() for bias in jax.device_get(biases(jax.random.key(0))))


def test_images_that_are_too_small_are_refused():
    message = "the height of the images is 46: this network takes 47"
    with pytest.raises(InputError, match=message):
        shapes_of(tiny(), images_of(1, 46, 47))
