"""The localiser's network: where it looks, its gradients, and backbones that do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.models import create_model
from jaxvision.models.detection.localizer import _attended
from tests.marks import slow_but
from tests.models.structure import size_of
from tests.models.test_darknet import images_of
from tests.models.variables import check_gradients, random_variables, shapes_of

BACKBONE = {"name": "plain_darknet", "stages": ((1, ((4, 3),)), (2, ((6, 3),)))}


def test_the_size_is_that_of_the_classifier_and_of_the_two_other_heads():
    _, classifier = shapes_of(create_model("resnet18", num_classes=10), images_of(1, 64))
    for attention, more in ((True, 513 + 4 * 513), (False, 4 * 513)):
        model = create_model("localizer", num_classes=10, attention=attention)
        _, variables = shapes_of(model, images_of(1, 64))
        assert size_of(variables["params"]) == size_of(classifier["params"]) + more


def test_it_looks_at_the_cell_with_the_highest_score():
    x = np.arange(2 * 3 * 4 * 5, dtype="f4").reshape(2, 3, 4, 5)
    scores = np.full((2, 3, 4, 1), -100, "f4")
    scores[0, 1, 3] = scores[1, 0, 0] = scores[1, 2, 0] = 0
    features, place = jax.jit(_attended)(x, scores)
    np.testing.assert_allclose(features, [x[0, 1, 3], (x[1, 0, 0] + x[1, 2, 0]) / 2], rtol=1e-6)
    np.testing.assert_allclose(place, [[3.5 / 4, 1.5 / 3], [0.5 / 4, 1 / 2]], rtol=1e-6)


@pytest.mark.parametrize("attention", slow_but([True, False], [True]))
def test_every_parameter_learns_and_half_precision_gives_boxes_in_float32(attention):
    fields = {"num_classes": 3, "backbone": BACKBONE, "attention": attention, "norm": None}
    model, images = create_model("localizer", **fields), images_of(2, 16)
    variables = random_variables(model, images)

    @jax.jit
    def run(params):
        def objective(params):
            maps = model.apply({"params": params}, images, train=True)
            return jax.nn.log_softmax(maps["logits"])[:, 1].sum() + (maps["box"] ** 2).sum()

        half = model.clone(dtype=jnp.bfloat16).apply({"params": params}, images, train=False)
        return jax.grad(objective)(params), half

    gradients, half = jax.device_get(run(variables["params"]))
    check_gradients(gradients)
    assert half["logits"].shape == (2, 3)
    assert (half["box"].shape, half["box"].dtype) == ((2, 4), np.float32)
    assert np.isfinite(half["box"]).all()


def test_a_backbone_without_maps_needs_no_attention():
    backbone = {"name": "vit_b_16", "blocks": 1, "image_size": 32}
    with pytest.raises(
        InputError, match=r"gives no map c1, c2, ..., but tokens, pooled: .* set attention to False"
    ):
        shapes_of(create_model("localizer", backbone=backbone), images_of(1, 32))
    maps, _ = shapes_of(
        create_model("localizer", backbone=backbone, attention=False), images_of(1, 32)
    )
    assert maps["box"].shape == (1, 4)
