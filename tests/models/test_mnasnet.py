"""MnasNet: published sizes, every map, gradients, chance, dtypes, torchvision's logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.models import create_model
from jaxvision.models.backbones.mnasnet import Stage
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

TINY = (Stage(5, 2, 16, 2, 2),)


def tiny(**fields):
    fields = {"stages": TINY, "width": 0.5, "num_classes": 3, "dropout": 0.0, **fields}
    return create_model("mnasnet1_0", **fields)


def images_of(batch=2, height=17, width=None):
    shape = (batch, height, width or height, 3)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "count", "widths"),
    [
        pytest.param("mnasnet0_5", 2_218_512, (8, 16, 24, 48, 160, 1280), marks=pytest.mark.slow),
        pytest.param("mnasnet0_75", 3_170_208, (16, 24, 32, 72, 240, 1280), marks=pytest.mark.slow),
        ("mnasnet1_0", 4_383_312, (16, 24, 40, 96, 320, 1280)),
        pytest.param("mnasnet1_3", 6_282_256, (24, 32, 56, 128, 416, 1280), marks=pytest.mark.slow),
    ],
)
def test_every_mnasnet_has_its_published_size(name, count, widths):
    # torchvision's numbers.
    maps, variables = shapes_of(create_model(name), images_of(1, 224, 193))
    assert sum(x.size for x in jax.tree.leaves(variables["params"])) == count
    sizes = ((112, 97), (56, 49), (28, 25), (14, 13), (7, 7))
    expected = {
        f"c{i}": (1, *s, w)
        for i, (s, w) in enumerate(zip(sizes, widths[:-1], strict=True), start=1)
    }
    pooled = {"pooled": (1, widths[-1]), "logits": (1, 1000)}
    assert {key: x.shape for key, x in maps.items()} == {**expected, **pooled}


@pytest.mark.parametrize(
    ("size", "sizes"),
    [((65, 31), ((33, 16), (17, 8))), ((1, 1), ((1, 1), (1, 1)))],
)
def test_every_map_in_its_shape(size, sizes):
    maps, _ = shapes_of(tiny(), images_of(2, *size), train=True)
    assert {name: x.shape for name, x in maps.items()} == {
        "c1": (2, *sizes[0], 8),
        "c2": (2, *sizes[1], 8),
        "pooled": (2, 1280),
        "logits": (2, 3),
    }


def test_without_classes_there_is_no_classifier():
    maps, variables = shapes_of(tiny(num_classes=None, norm=None), images_of())
    assert maps.keys() == {"c1", "c2", "pooled"}
    assert not any(name.startswith("classifier") for name in variables["params"])


def test_act_is_what_its_docstring_says():
    calls = []

    def act(x):
        calls.append(x.shape)
        return x

    shapes_of(tiny(act=act), images_of())
    # The stem's two, two of each block, and the head's.
    assert len(calls) == 7


def test_every_parameter_gets_a_finite_gradient_that_is_not_zero():
    check_network_learns(tiny(), images_of(4))


@pytest.mark.slow
def test_recomputed_blocks_give_the_same():
    check_remat(tiny(), tiny(remat=True), images_of(4))


def test_dropout_is_random_in_training_only():
    check_dropout(tiny(dropout=0.5), images_of())


def test_a_dropped_block_is_its_shortcut():
    where = {"norm": "layers_8_1_layers_7", "name": "c2"}
    check_dropped_block(tiny(), tiny(drop_path=1.0), images_of(), **where)


def test_bfloat16_computes_in_bfloat16_on_float32_variables():
    check_bfloat16(tiny(dtype=jnp.bfloat16), images_of())


@pytest.mark.parity
@pytest.mark.parametrize("name", ["mnasnet0_5", "mnasnet1_3"])
def test_logits_equal_torchvisions(name):
    torch, models = import_torchvision("models")
    torch.manual_seed(0)
    theirs = getattr(models, name)(num_classes=10)
    ours = create_model(name, num_classes=10)
    check_maps(torch, theirs, ours, images_of(2, 64, 75), {"logits": None})


@pytest.mark.parity
def test_a_step_of_training_equals_torchvisions():
    torch, models = import_torchvision("models")
    torch.manual_seed(0)
    theirs = models.mnasnet0_5(num_classes=10)
    ours = create_model("mnasnet0_5", num_classes=10, dropout=0.0, drop_path=0.0)
    check_training_step(torch, theirs, ours, images_of(4, 64, 75))
