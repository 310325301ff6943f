"""MnasNet: published sizes, every map, what is dropped, torchvision's logits."""

import pytest

from jaxvision.models import create_model
from jaxvision.models.backbones.mnasnet import Stage
from tests.models.parity import check_torchvision_logits
from tests.models.structure import (
    act_channels,
    check_published_size,
    check_shapes,
    check_without_classes,
)
from tests.models.training import (
    check_dropped_block,
    check_torchvision_step,
)
from tests.models.variables import image_maker, shapes_of

# The default tests have each of these kinds of checks, of other networks.
pytestmark = pytest.mark.slow

TINY = (Stage(5, 2, 16, 2, 2),)
images_of = image_maker(17)


def tiny(**fields):
    fields = {"stages": TINY, "width": 0.5, "num_classes": 3, "dropout": 0.0, **fields}
    return create_model("mnasnet1_0", **fields)


@pytest.mark.parametrize(
    ("name", "count", "widths"),
    [
        pytest.param("mnasnet0_5", 2_218_512, (8, 16, 24, 48, 160, 1280), marks=pytest.mark.long),
        pytest.param("mnasnet0_75", 3_170_208, (16, 24, 32, 72, 240, 1280), marks=pytest.mark.long),
        pytest.param("mnasnet1_0", 4_383_312, (16, 24, 40, 96, 320, 1280), marks=pytest.mark.slow),
        pytest.param("mnasnet1_3", 6_282_256, (24, 32, 56, 128, 416, 1280), marks=pytest.mark.long),
    ],
)
def test_every_mnasnet_has_its_published_size(name, count, widths):
    # torchvision's numbers.
    check_published_size(name, count, widths)


@pytest.mark.long
@pytest.mark.parametrize(
    ("size", "sizes"),
    [((65, 31), ((33, 16), (17, 8))), ((1, 1), ((1, 1), (1, 1)))],
)
def test_every_map_in_its_shape(size, sizes):
    maps, _ = shapes_of(tiny(), images_of(2, *size), train=True)
    check_shapes(maps, 2, sizes, (8, 8), pooled=1280, logits=3)


def test_without_classes_there_is_no_classifier():
    check_without_classes(tiny(norm=None), images_of(), {"c1", "c2", "pooled"}, "classifier")


def test_act_is_what_its_docstring_says():
    # The stem's two, two of each block, and the head's.
    assert len(act_channels(tiny(), images_of())) == 7


@pytest.mark.long
def test_a_dropped_block_is_its_shortcut():
    where = {"norm": "layers_8_1_layers_7", "name": "c2"}
    check_dropped_block(tiny(), tiny(drop_path=1.0), images_of(), **where)


@pytest.mark.long
@pytest.mark.parity
def test_logits_equal_torchvisions():
    check_torchvision_logits("mnasnet1_3", images_of(2, 64, 75))


@pytest.mark.long
@pytest.mark.parity
def test_a_step_of_training_equals_torchvisions():
    check_torchvision_step("mnasnet0_5", images_of(4, 64, 75), dropout=0.0, drop_path=0.0)
