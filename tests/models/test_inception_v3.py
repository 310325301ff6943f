"""Inception v3: the published size, every map, the auxiliary classifier, torchvision's logits."""

import jax
import jax.numpy as jnp
import pytest

from jaxvision.core import InputError
from jaxvision.models import create_model
from jaxvision.models.backbones.inception_v3 import AVERAGE, MAXIMUM, Layer, Module
from tests.models.parity import check_maps, torchvision_network
from tests.models.structure import check_shapes, check_without_norm, size_of
from tests.models.training import check_training_step
from tests.models.variables import image_maker, shapes_of

# The default tests have each of these kinds of checks, of other networks.
pytestmark = pytest.mark.slow

# Few layers, of every kind of step.
POOLED = Module("Mixed_5b", ((Layer("branch1x1", 64),), (AVERAGE, Layer("branch_pool", 64))))
REDUCTION = Module("Mixed_6a", ((Layer("branch3x3", 64, 3, stride=2),), (MAXIMUM,)))
SPLIT = Module(
    "Mixed_7a", ((MAXIMUM, (Layer("branch_a", 64, (1, 3)), Layer("branch_b", 64, (3, 1)))),)
)
TINY = {
    "stages": ((POOLED,), (REDUCTION,), (SPLIT,)),
    "width": 1 / 16,
    "num_classes": 3,
    "dropout": 0.0,
}
images_of = image_maker(75)


def tiny(**fields):
    return create_model("inception_v3", **{**TINY, **fields})


def test_inception_v3_has_its_published_size():
    # torchvision's number; Keras has no auxiliary classifier, and no scales of norms.
    _, variables = shapes_of(create_model("inception_v3", aux=True), images_of(1, 299))
    params = variables["params"]
    assert size_of(params) == 27_161_264
    rest = {name: layer for name, layer in params.items() if not name.startswith("Aux")}
    scales = sum(layer["scale"].size for layer in rest.values() if "scale" in layer)
    assert size_of(rest) - scales == 23_817_352


@pytest.mark.long
def test_every_map_in_its_shape():
    maps, _ = shapes_of(create_model("inception_v3", num_classes=7), images_of(2, 299, 224))
    sizes = ((147, 109), (71, 52), (35, 25), (17, 12), (8, 5))
    check_shapes(maps, 2, sizes, (64, 192, 288, 768, 2048), pooled=2048, logits=7)


@pytest.mark.long
@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        ((300, 107), ((147, 51), (71, 23), (35, 11), (17, 5), (8, 2))),
        ((75, 96), ((35, 45), (15, 20), (7, 9), (3, 4), (1, 1))),
    ],
)
def test_maps_of_other_sizes(size, sizes):
    maps, _ = shapes_of(tiny(num_classes=7), images_of(2, *size))
    check_shapes(maps, 2, sizes, (4, 12, 8, 12, 8), pooled=8, logits=7)


@pytest.mark.long
def test_the_auxiliary_classifier_gives_logits_in_training_only():
    evaluated, trained = (
        shapes_of(tiny(aux=True), images_of(2, 299), train=train) for train in (False, True)
    )
    assert jax.tree.map(jnp.shape, evaluated[1]) == jax.tree.map(jnp.shape, trained[1])
    assert "aux" not in evaluated[0]
    assert trained[0]["aux"].shape == (2, 3)


def test_without_classes_there_is_no_classifier():
    maps, variables = shapes_of(tiny(num_classes=None, aux=True), images_of(), train=True)
    assert maps.keys() == {"c1", "c2", "c3", "c4", "c5", "pooled"}
    assert not any("fc" in key or "Aux" in key for key in variables["params"])


def test_without_a_norm_convolutions_have_a_bias():
    check_without_norm(tiny(aux=True), images_of(1, 299))


@pytest.mark.parametrize(
    ("fields", "size", "message"),
    [
        ({}, (74, 80), r"the height of the images is 74: this network takes 75\b"),
        ({}, (75, 8), r"the width of the images is 8: this network takes 75\b"),
        ({"aux": True}, (299, 298), r"the width of the images is 298: this network takes 299\b"),
    ],
)
def test_images_that_are_too_small_are_refused(fields, size, message):
    with pytest.raises(InputError, match=message):
        shapes_of(tiny(**fields), images_of(1, *size))


def test_an_auxiliary_classifier_lets_smaller_images_be_evaluated():
    model = tiny(aux=True)
    _, variables = shapes_of(model, images_of(1, 299))
    maps = jax.eval_shape(lambda v: model.apply(v, images_of(1, 75), train=False), variables)
    assert maps["logits"].shape == (1, 3)


@pytest.mark.long
@pytest.mark.parity
@pytest.mark.parametrize("transform_input", [False, True])
def test_logits_equal_torchvisions(transform_input):
    options = {"num_classes": 10, "transform_input": transform_input}
    theirs_only = {"aux_logits": False, "init_weights": False}
    torch, theirs = torchvision_network("inception_v3", **options, **theirs_only)
    ours = create_model("inception_v3", **options)
    check_maps(torch, theirs, ours, images_of(8, 75, 96), {"logits": None})


@pytest.mark.long
@pytest.mark.parity
def test_a_training_step_equals_torchvisions():
    torch, theirs = torchvision_network("inception_v3", num_classes=10, init_weights=False)
    ours = create_model("inception_v3", num_classes=10, aux=True, dropout=0.0)
    names = {"logits": "logits", "aux": "aux_logits"}
    check_training_step(torch, theirs, ours, images_of(4, 299), names)
