"""MobileNetV3: published sizes, every map, what is dropped, torchvision's logits."""

import pytest

from jaxvision.models import create_model
from jaxvision.models.backbones.mobilenet_v3 import Block
from tests.marks import long_but
from tests.models.parity import check_maps, torchvision_network
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

# With and without an expansion, recalibration, hard swishes and a shortcut.
TINY = (Block(3, 16, 16, True, False, 2), Block(5, 32, 16, False, True, 1))
images_of = image_maker(17)


def tiny(**fields):
    fields = {
        "blocks": TINY,
        "hidden": 16,
        "width": 0.5,
        "num_classes": 3,
        "dropout": 0.0,
        **fields,
    }
    return create_model("mobilenet_v3_small", **fields)


SIZES = [
    ("mobilenet_v3_large", 5_483_032, (16, 24, 40, 112, 160, 960)),
    ("mobilenet_v3_small", 2_542_856, (16, 16, 24, 48, 96, 576)),
]


@pytest.mark.parametrize(("name", "count", "widths"), long_but(SIZES, [], SIZES[1:]))
def test_every_mobilenet_v3_has_its_published_size(name, count, widths):
    # torchvision's numbers.
    check_published_size(name, count, widths)


@pytest.mark.long
@pytest.mark.parametrize(
    ("size", "sizes"),
    [((65, 31), ((33, 16), (17, 8))), ((1, 1), ((1, 1), (1, 1)))],
)
def test_every_map_in_its_shape(size, sizes):
    maps, _ = shapes_of(tiny(), images_of(2, *size), train=True)
    check_shapes(maps, 2, sizes, (8, 8), pooled=48, logits=3)


def test_without_classes_there_is_no_classifier():
    check_without_classes(tiny(norm=None), images_of(), {"c1", "c2", "pooled"}, "classifier")


def test_act_is_what_its_docstring_says():
    # The stem's, two of the second block, the head's and the hidden layer's.
    assert len(act_channels(tiny(), images_of())) == 5


@pytest.mark.slow
def test_a_dropped_block_is_its_shortcut():
    where = {"norm": "features_2_block_2_1", "name": "c2"}
    check_dropped_block(tiny(), tiny(drop_path=1.0), images_of(), **where)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "dilated", "width"),
    [
        ("mobilenet_v3_small", True, 0.75),
        ("mobilenet_v3_large", False, 1.0),
    ],
)
def test_logits_equal_torchvisions(name, dilated, width):
    fields = {"num_classes": 10, "dilated": dilated}
    torch, theirs = torchvision_network(name, **fields, width_mult=width)
    ours = create_model(name, **fields, width=width)
    check_maps(torch, theirs, ours, images_of(2, 64, 75), {"logits": None})


@pytest.mark.long
@pytest.mark.parity
def test_a_step_of_training_equals_torchvisions():
    check_torchvision_step("mobilenet_v3_small", images_of(4, 64, 75), dropout=0.0, drop_path=0.0)
