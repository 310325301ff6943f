"""Lite R-ASPP: the published size, maps, the head by hand, torchvision's logits."""

import jax
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.models import create_model
from jaxvision.models.backbones import darknet
from jaxvision.ops import resize_bilinear
from tests.models.parity import check_maps, torchvision_network
from tests.models.structure import size_of
from tests.models.training import check_training_step
from tests.models.variables import image_maker, random_variables, shapes_of

NAME = "lraspp_mobilenet_v3_large"
BACKBONE = {
    "name": "plain_darknet",
    "stages": (darknet.Stage(1, ((8, 3),)), darknet.Stage(2, ((16, 3),))),
}
images_of = image_maker(32)


def tiny(**fields):
    usual = {"backbone": BACKBONE, "low": 1, "high": 2, "width": 8, "num_classes": 3}
    return create_model(NAME, **{**usual, **fields})


@pytest.mark.slow
def test_the_size_and_the_maps_of_torchvisions():
    maps, variables = shapes_of(create_model(NAME), images_of(1, 65, 97))
    assert size_of(variables["params"]) == 3_221_538  # torchvision's number, with 21 classes
    assert {key: x.shape[1:] for key, x in maps.items()} == {
        "c1": (33, 49, 16),
        "c2": (17, 25, 24),
        "c3": (9, 13, 40),
        "c4": (5, 7, 960),
        "logits": (65, 97, 21),
    }


def test_without_classes_there_is_no_head():
    maps, variables = shapes_of(tiny(num_classes=None), images_of())
    assert maps.keys() == {"c1", "c2"}
    assert variables["params"].keys() == {"backbone"}


@pytest.mark.parametrize("field", ["low", "high"])
def test_a_backbone_without_the_level_is_an_error_that_names_it(field):
    with pytest.raises(InputError, match="unknown map of the backbone 'c4'"):
        shapes_of(tiny(**{field: 4}), images_of())


def test_the_head_by_hand():
    """A gate for each channel of an image, and logits of two maps."""
    model, images = tiny(head_norm=None), images_of(2, 32, 40)
    variables = random_variables(model, images)
    maps = jax.device_get(jax.jit(lambda x: model.apply(variables, x, train=False))(images))
    params = {
        name.removeprefix("classifier_"): layer
        for name, layer in variables["params"].items()
        if name != "backbone"
    }
    assert params.keys() == {"cbr_0", "scale_1", "low_classifier", "high_classifier"}

    def layer(name, x):
        return x @ params[name]["kernel"][0, 0] + params[name].get("bias", 0)

    gates = 1 / (1 + np.exp(-layer("scale_1", maps["c2"].mean((1, 2)))))
    x = np.maximum(layer("cbr_0", maps["c2"]), 0) * gates[:, None, None]
    x = layer("high_classifier", np.asarray(resize_bilinear(x, (16, 20))))
    x += layer("low_classifier", maps["c1"])
    expected = resize_bilinear(x, (32, 40))
    np.testing.assert_allclose(maps["logits"], expected, rtol=1e-4, atol=1e-4)


def pair():
    how = {"weights": None, "weights_backbone": None, "num_classes": 5}
    torch, theirs = torchvision_network(NAME, **how)
    return torch, theirs, create_model(NAME, num_classes=5)


@pytest.mark.parity
def test_logits_equal_torchvisions():
    check_maps(*pair(), images_of(2, 65, 97), {"logits": "out"})


@pytest.mark.parity
@pytest.mark.long
def test_a_step_of_training_equals_torchvisions():
    check_training_step(*pair(), images_of(4, 65, 97), {"logits": "out"})
