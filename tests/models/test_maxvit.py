"""MaxViT: published size, every map, what is dropped, torchvision's logits."""

import jax
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.models import create_model
from tests.models.parity import torchvision_network
from tests.models.structure import check_shapes, check_without_classes, size_of
from tests.models.training import (
    check_training_step,
    train,
)
from tests.models.variables import image_maker, random_variables, shapes_of

# The default tests have each of these kinds of checks, of other networks.
pytestmark = pytest.mark.slow

TINY = {"blocks": (1, 1), "widths": (4, 8), "stem": 4, "window": 2, "head_width": 4}
ONE_STAGE = {"blocks": (1,), "widths": (4,)}
images_of = image_maker(16)


def tiny(**fields):
    return create_model("maxvit_t", **{**TINY, "drop_path": 0.0, "num_classes": 3, **fields})


def test_maxvit_has_its_published_size():
    _, variables = shapes_of(create_model("maxvit_t"), images_of(1, 224))
    assert size_of(variables["params"]) == 30_919_624


@pytest.mark.long
def test_every_map_in_its_shape():
    maps, _ = shapes_of(tiny(), images_of(2, 16, 32), train=True)
    check_shapes(maps, 2, ((8, 16), (4, 8), (2, 4)), (4, 4, 8), pooled=8, logits=3)


def test_without_classes_there_is_no_classifier():
    check_without_classes(tiny(**ONE_STAGE), images_of(), {"c1", "c2", "pooled"}, "classifier")


def test_without_a_norm_convolutions_have_none():
    _, variables = shapes_of(tiny(**ONE_STAGE, norm=None), images_of())
    assert variables.keys() == {"params"}
    assert "bias" in variables["params"]["stem_0_0"]


@pytest.mark.parametrize(
    ("fields", "images", "message"),
    [
        ({}, images_of(1, 16, 24), "the width of the images is 24: this network takes 16 or 32"),
        ({"head_width": 8}, images_of(), "head_width is 8, which does not divide"),
    ],
)
def test_images_and_fields_that_do_not_fit(fields, images, message):
    with pytest.raises(InputError, match=message):
        shapes_of(tiny(**fields), images)


@pytest.mark.long
def test_a_block_that_is_dropped_is_its_shortcuts():
    model, images = tiny(**{**ONE_STAGE, "blocks": (2,)}, drop_path=1.0), images_of(2, 8)
    variables = random_variables(model, images)
    dropped, _ = jax.jit(lambda key: train(model, variables, images, key))(jax.random.key(0))
    expected, _ = jax.jit(lambda: train(tiny(**ONE_STAGE), variables, images))()
    np.testing.assert_allclose(dropped["c2"], expected["c2"], rtol=1e-5, atol=1e-6)
    kept = jax.jit(lambda: train(tiny(**{**ONE_STAGE, "blocks": (2,)}), variables, images))()[0]
    assert np.abs(kept["c2"] - expected["c2"]).max() > 0.01


@pytest.mark.long
@pytest.mark.parity
def test_a_training_step_equals_torchvisions():
    torch, theirs = torchvision_network(
        "MaxVit",
        input_size=(32, 32),
        stem_channels=8,
        partition_size=2,
        block_channels=[8, 12],
        block_layers=[1, 2],
        head_dim=4,
        stochastic_depth_prob=0.0,
        num_classes=10,
    )
    fields = {"blocks": (1, 2), "widths": (8, 12), "stem": 8, "num_classes": 10}
    check_training_step(torch, theirs, tiny(**fields), images_of(4, 32))
