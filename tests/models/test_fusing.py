"""Batch norms fused into convolutions: the same maps, for every naming of the two layers."""

import jax
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.layers import batch_norm
from jaxvision.models import create_model, fuse_conv_bn
from jaxvision.models.backbones.squeezenet import Fire
from tests.marks import long_but
from tests.models.variables import random_variables, shapes_of

NETWORKS = [
    ("dncnn_s", {"depth": 4, "width": 5}),
    ("darknet53", {"blocks": (1,), "widths": (3, 4), "num_classes": 2}),
    ("resnet18", {"blocks": (1, 1, 1, 1), "widths": (4, 4, 6, 6), "num_classes": 2}),
    ("mobilenet_v2", {"stages": ((2, 8, 2, 2),), "num_classes": 2}),
    ("squeezenet1_1", {"stem": 4, "stages": ((Fire(3, 4),),), "num_classes": 2}),
]


@pytest.mark.parametrize(("name", "fields"), long_but(NETWORKS, NETWORKS[:1], NETWORKS[3:]))
def test_fused_norms_change_no_map(name, fields):
    images = np.random.default_rng(0).random((2, 24, 24, 3)).astype(np.float32)
    model, fused = (create_model(name, **fields, norm=norm) for norm in (batch_norm, None))
    variables = random_variables(model, images)
    without = jax.eval_shape(fuse_conv_bn, variables)
    assert jax.tree.structure(without) == jax.tree.structure(shapes_of(fused, images)[1])

    @jax.jit
    def both(variables, images):
        without = fuse_conv_bn(variables)
        pairs = ((fused, without), (model, variables))
        return [network.apply(values, images, train=False) for network, values in pairs]

    actual, expected = jax.device_get(both(variables, images))
    for key, value in expected.items():
        scale = np.abs(value).max()
        np.testing.assert_allclose(actual[key], value, atol=1e-5 * scale, err_msg=key)


def test_a_fused_norm_by_hand():
    conv = {"kernel": np.float32([3, 5]).reshape(1, 1, 1, 2), "bias": np.float32([1, 0])}
    norm = {"scale": np.float32([4, 6]), "bias": np.float32([7, 8])}
    statistics = {"mean": np.float32([2, 1]), "var": np.float32([3, 8])}
    fused = fuse_conv_bn(
        {
            "params": {"backbone": {"a_conv1": conv, "a_bn1": norm}},
            "batch_stats": {"backbone": {"a_bn1": statistics}},
        },
        epsilon=1,
    )
    # Factors 4 / sqrt(3 + 1) and 6 / sqrt(8 + 1).
    assert fused.keys() == {"params"}
    assert fused["params"].keys() == {"backbone"}
    assert fused["params"]["backbone"].keys() == {"a_conv1"}
    layer = fused["params"]["backbone"]["a_conv1"]
    np.testing.assert_allclose(layer["kernel"].ravel(), [6, 10])
    np.testing.assert_allclose(layer["bias"], [5, 6])


def test_a_norm_without_a_convolution_is_named():
    model = create_model("lenet5", norm=batch_norm)
    variables = random_variables(model, np.zeros((1, 32, 32, 1), np.float32))
    with pytest.raises(InputError, match="the batch norm bn1 has no convolution to fuse it with"):
        fuse_conv_bn(variables)
