"""Derivatives of whole networks, in training, in every mode, and one form for each platform."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.models import create_model
from jaxvision.models.backbones.darknet import Darknet53, PlainDarknet, Stage
from jaxvision.models.detection.yolov3 import Scale
from tests.derivatives import check_derivatives, lower_for_each_platform
from tests.marks import long_but
from tests.models.variables import random_variables

STAGES = tuple(Stage(level, ((3, 3 if level == 1 else 1),)) for level in (1, 2, 3, 4, 5))
NETWORKS = {
    "preact_resnet110": {"blocks": (1,), "widths": (3,), "stem": 2},
    "resnet50": {"blocks": (1, 1, 1, 1), "widths": (2, 2, 3, 4), "bottleneck": False},
    "vit_b_16": {"blocks": 1, "width": 4, "heads": 2, "image_size": 64},
    "unet": {"widths": (3, 4)},
    "yolov2": {
        "backbone": partial(PlainDarknet, STAGES),
        "convolutions": (3,),
        "passthrough": 2,
        "num_anchors": 1,
    },
    "yolov3_spp": {
        "backbone": partial(Darknet53, blocks=(0, 0, 0, 0, 1), widths=(2,) * 6),
        "scales": (Scale(5, None, ((2, 1), (3, 3)), 3), Scale(4, 2, (), 3)),
    },
}


def network(name):
    """(params, images) -> maps in training, and such arguments."""
    model = create_model(name, num_classes=2, **NETWORKS[name])
    side = 6 if name == "preact_resnet110" else 64
    images = np.random.default_rng(1).normal(size=(2, side, side, 3))
    variables = random_variables(model, images)

    def outputs(params, images):
        now = {**variables, "params": params}
        return model.apply(now, images, train=True, mutable=["batch_stats"])[0]

    return outputs, jax.tree.map(np.float64, variables["params"]), images


@pytest.mark.parametrize("name", long_but(NETWORKS, [], ["preact_resnet110"]))
def test_all_derivatives_agree(name):
    with jax.enable_x64(True):
        check_derivatives(*network(name))


def test_hessian_vector_products_of_a_network_are_symmetric():
    with jax.enable_x64(True):
        outputs, params, images = network("preact_resnet110")
        rng = np.random.default_rng(2)
        u, v = (jax.tree.map(lambda x: rng.normal(size=x.shape), params) for _ in range(2))

        def product(params, direction):
            gradient = jax.grad(lambda params: jnp.sin(outputs(params, images)["logits"]).sum())
            return jax.jvp(gradient, (params,), (direction,))[1]

        traced = jax.jit(product).trace(params, u)
        run = lower_for_each_platform(traced)["cpu"].compile()
        of_u, of_v = run(params, u), run(params, v)
        one, other = (
            sum(np.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, pair), strict=True))
            for pair in ((of_u, v), (u, of_v))
        )
        assert abs(one) > 1e-3
        np.testing.assert_allclose(one, other, rtol=1e-9)
