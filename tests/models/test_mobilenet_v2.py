"""MobileNetV2: the published size, every map, gradients, chance, dtypes, torchvision's logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.layers import make_divisible
from jaxvision.models import create_model
from jaxvision.models.backbones.mobilenet_v2 import Stage
from tests.models.parity import check_maps
from tests.models.training import (
    check_bfloat16,
    check_dropout,
    check_dropped_block,
    check_remat,
    check_training_step,
)
from tests.models.variables import check_network_learns, shapes_of
from tests.ops.parity import import_torchvision

TINY = (Stage(1, 8, 1, 1), Stage(2, 16, 2, 2))


def tiny(**fields):
    fields = {"stages": TINY, "width": 0.5, "num_classes": 3, "dropout": 0.0, **fields}
    return create_model("mobilenet_v2", **fields)


def images_of(batch=2, height=17, width=None):
    shape = (batch, height, width or height, 3)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("width", "count", "widths"),
    [
        (1.0, 3_504_872, (16, 24, 32, 96, 320, 1280)),
        pytest.param(1.4, 6_108_776, (24, 32, 48, 136, 448, 1792), marks=pytest.mark.slow),
        pytest.param(0.5, 1_968_680, (8, 16, 16, 48, 160, 1280), marks=pytest.mark.slow),
    ],
)
def test_mobilenet_v2_has_its_published_size(width, count, widths):
    # The paper's table 4: 3.4 and 6.9 million; the exact numbers are torchvision's and Keras's.
    model = create_model("mobilenet_v2", width=width)
    maps, variables = shapes_of(model, images_of(1, 224))
    assert sum(x.size for x in jax.tree.leaves(variables["params"])) == count
    assert tuple(x.shape[-1] for name, x in maps.items() if name != "logits") == widths


@pytest.mark.parametrize(
    ("size", "sizes"),
    [((224, 192), ((112, 96), (56, 48))), ((65, 31), ((33, 16), (17, 8))), ((1, 1), ((1, 1),) * 2)],
)
def test_every_map_in_its_shape(size, sizes):
    maps, variables = shapes_of(tiny(), images_of(2, *size), train=True)
    assert {name: x.shape for name, x in maps.items()} == {
        "c1": (2, *sizes[0], 8),
        "c2": (2, *sizes[1], 8),
        "pooled": (2, 1280),
        "logits": (2, 3),
    }
    maps, variables = shapes_of(tiny(num_classes=None, norm=None), images_of(2, *size))
    assert maps.keys() == {"c1", "c2", "pooled"}
    assert "classifier_1" not in variables["params"]


def test_act_follows_every_convolution_but_the_linear_ones():
    calls = []

    def act(x):
        calls.append(x.shape[-1])
        return x

    shapes_of(tiny(act=act), images_of())
    assert calls == [16, 16, 16, 16, 16, 16, 1280]


@pytest.mark.parametrize(
    ("channels", "width", "expected"),
    [(32, 1.0, 32), (16, 0.35, 8), (24, 0.5, 16), (96, 0.35, 32), (1280, 1.4, 1792), (8, 0.1, 8)],
)
def test_scaled_channels_are_multiples_of_8(channels, width, expected):
    assert make_divisible(channels * width) == expected


def test_every_parameter_gets_a_finite_gradient_that_is_not_zero():
    check_network_learns(tiny(), images_of(4))


def test_recomputed_blocks_give_the_same():
    check_remat(tiny(), tiny(remat=True), images_of(4))


def test_dropout_is_random_in_training_only():
    check_dropout(tiny(dropout=0.5), images_of())


def test_a_dropped_block_is_its_shortcut():
    where = {"norm": "features_3_conv_3", "name": "c2"}
    check_dropped_block(tiny(), tiny(drop_path=1.0), images_of(), **where)


def test_bfloat16_computes_in_bfloat16_on_float32_variables():
    check_bfloat16(tiny(dtype=jnp.bfloat16), images_of())


@pytest.mark.parity
@pytest.mark.parametrize("width", [0.35, 0.75])
def test_logits_equal_torchvisions(width):
    # At 0.35 a block with a stride has as many channels out as in, and no shortcut.
    torch, models = import_torchvision("models")
    torch.manual_seed(0)
    theirs = models.mobilenet_v2(num_classes=10, width_mult=width)
    ours = create_model("mobilenet_v2", num_classes=10, width=width)
    check_maps(torch, theirs, ours, images_of(2, 64, 75), {"logits": None})


@pytest.mark.parity
def test_a_step_of_training_equals_torchvisions():
    torch, models = import_torchvision("models")
    torch.manual_seed(0)
    ours = create_model("mobilenet_v2", num_classes=10, width=0.5, dropout=0.0)
    theirs = models.mobilenet_v2(num_classes=10, width_mult=0.5)
    check_training_step(torch, theirs, ours, images_of(4, 64, 75))
