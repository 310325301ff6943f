"""Network in Network: published sizes, every map, its classifier, memory."""

import functools

import jax
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.layers import batch_norm
from jaxvision.models import create_model
from jaxvision.models.backbones.nin import Mlpconv
from tests.models.structure import check_shapes, check_without_classes, size_of
from tests.models.variables import image_maker, random_variables, shapes_of

# The default tests have each of these kinds of checks, of other networks.
pytestmark = pytest.mark.slow

STAGES = (Mlpconv((6, 5, 4), 5, padding=2), Mlpconv((7, 8), 3, drop=True))
images_of = image_maker(16)


def tiny(**fields):
    fields = {"stages": STAGES, "dropout": 0.0, "num_classes": 3, **fields}
    return create_model("nin_cifar", **fields)


@pytest.mark.parametrize(
    ("name", "count", "layers"),
    # The paper has no numbers; these are those of its authors' definitions.
    [("nin", 7_595_176, 12), ("nin_cifar", 966_986, 9)],
)
def test_every_network_has_its_published_size(name, count, layers):
    _, variables = shapes_of(create_model(name), images_of(1, 64))
    assert size_of(variables) == count
    assert variables["params"].keys() == {
        f"mlpconv{i}_{j}" for i in range(1, layers // 3 + 1) for j in (1, 2, 3)
    }


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        ((224, 227), ((54, 55), (27, 27), (13, 13), (6, 6))),
        ((39, 101), ((8, 23), (4, 11), (2, 5), (1, 2))),
    ],
)
def test_every_map_of_the_one_for_imagenet(size, sizes):
    maps, _ = shapes_of(create_model("nin", num_classes=7), images_of(2, *size))
    check_shapes(maps, 2, sizes, (96, 256, 384, 1024), first=2, pooled=1024, logits=7)


@pytest.mark.parametrize(
    ("size", "sizes"),
    [((32, 32), ((32, 32), (16, 16), (8, 8))), ((4, 37), ((4, 37), (2, 18), (1, 9)))],
)
def test_every_map_of_the_one_for_cifar(size, sizes):
    maps, _ = shapes_of(create_model("nin_cifar"), images_of(2, *size))
    check_shapes(maps, 2, sizes, (96, 192, 192), first=0, pooled=192, logits=10)


def test_logits_are_the_means_of_a_map_for_each_class():
    model, images = tiny(), images_of()
    variables = random_variables(model, images)
    maps = jax.jit(functools.partial(model.apply, train=False))(variables, images)
    last = variables["params"]["mlpconv2_3"]
    classes = np.maximum(np.asarray(maps["c1"]) @ last["kernel"][0, 0] + last["bias"], 0)
    np.testing.assert_allclose(maps["logits"], classes.mean((1, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(maps["pooled"], maps["c1"].mean((1, 2)), rtol=1e-5, atol=1e-6)


def test_without_classes_there_is_no_classifier():
    check_without_classes(tiny(), images_of(), {"c0", "c1", "pooled"}, "mlpconv2_3")


def test_a_norm_takes_the_place_of_the_bias_but_in_the_classifier():
    _, variables = shapes_of(tiny(norm=batch_norm), images_of())
    params, norms = variables["params"], variables["batch_stats"].keys()
    with_bias = {name for name, layer in params.items() if "bias" in layer}
    assert with_bias == norms | {"mlpconv2_3"}
    assert norms == {f"{name}_bn" for name in params.keys() - with_bias}


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("nin", (38, 40), r"the height of the images is 38: this network takes 39\b"),
        ("nin_cifar", (32, 3), r"the width of the images is 3: this network takes 4\b"),
    ],
)
def test_images_that_are_too_small_are_refused(name, size, message):
    with pytest.raises(InputError, match=message):
        shapes_of(create_model(name), images_of(1, *size))


@pytest.mark.parametrize(
    ("name", "dropping"), [("nin", [False, False, False, True]), ("nin_cifar", [False, True, True])]
)
def test_which_stages_have_dropout(name, dropping):
    assert [stage.drop for stage in create_model(name).stages] == dropping
