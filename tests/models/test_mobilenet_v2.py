"""MobileNetV2: the published size, every map, what is dropped, torchvision's logits."""

import pytest

from jaxvision.layers import make_divisible
from jaxvision.models import create_model
from jaxvision.models.backbones.mobilenet_v2 import Stage
from tests.marks import long_but
from tests.models.parity import check_maps, torchvision_network
from tests.models.structure import act_channels, check_shapes, check_without_classes, size_of
from tests.models.training import (
    check_dropped_block,
    check_training_step,
)
from tests.models.variables import image_maker, shapes_of

TINY = (Stage(1, 8, 1, 1), Stage(2, 16, 2, 2))
images_of = image_maker(17)


def tiny(**fields):
    fields = {"stages": TINY, "width": 0.5, "num_classes": 3, "dropout": 0.0, **fields}
    return create_model("mobilenet_v2", **fields)


@pytest.mark.parametrize(
    ("width", "count", "widths"),
    [
        (1.0, 3_504_872, (16, 24, 32, 96, 320, 1280)),
        pytest.param(1.4, 6_108_776, (24, 32, 48, 136, 448, 1792), marks=pytest.mark.long),
        pytest.param(0.5, 1_968_680, (8, 16, 16, 48, 160, 1280), marks=pytest.mark.long),
    ],
)
def test_mobilenet_v2_has_its_published_size(width, count, widths):
    # The paper's table 4: 3.4 and 6.9 million; the exact numbers are torchvision's and Keras's.
    model = create_model("mobilenet_v2", width=width)
    maps, variables = shapes_of(model, images_of(1, 224))
    assert size_of(variables["params"]) == count
    assert tuple(x.shape[-1] for name, x in maps.items() if name != "logits") == widths


SHAPES = [
    ((224, 192), ((112, 96), (56, 48))),
    ((65, 31), ((33, 16), (17, 8))),
    ((1, 1), ((1, 1),) * 2),
]


@pytest.mark.parametrize(("size", "sizes"), long_but(SHAPES, SHAPES[2:]))
def test_every_map_in_its_shape(size, sizes):
    maps, _ = shapes_of(tiny(), images_of(2, *size), train=True)
    check_shapes(maps, 2, sizes, (8, 8), pooled=1280, logits=3)
    images = images_of(2, *size)
    check_without_classes(tiny(norm=None), images, {"c1", "c2", "pooled"}, "classifier")


def test_act_follows_every_convolution_but_the_linear_ones():
    assert act_channels(tiny(), images_of()) == [16, 16, 16, 16, 16, 16, 1280]


@pytest.mark.parametrize(
    ("channels", "width", "expected"),
    [(32, 1.0, 32), (16, 0.35, 8), (24, 0.5, 16), (96, 0.35, 32), (1280, 1.4, 1792), (8, 0.1, 8)],
)
def test_scaled_channels_are_multiples_of_8(channels, width, expected):
    assert make_divisible(channels * width) == expected


@pytest.mark.long
def test_a_dropped_block_is_its_shortcut():
    where = {"norm": "features_3_conv_3", "name": "c2"}
    check_dropped_block(tiny(), tiny(drop_path=1.0), images_of(), **where)


@pytest.mark.parity
@pytest.mark.parametrize("width", long_but([0.35, 0.75], [0.75]))
def test_logits_equal_torchvisions(width):
    # At 0.35 a block with a stride has as many channels out as in, and no shortcut.
    torch, theirs = torchvision_network("mobilenet_v2", num_classes=10, width_mult=width)
    ours = create_model("mobilenet_v2", num_classes=10, width=width)
    check_maps(torch, theirs, ours, images_of(2, 64, 75), {"logits": None})


@pytest.mark.long
@pytest.mark.parity
def test_a_step_of_training_equals_torchvisions():
    torch, theirs = torchvision_network("mobilenet_v2", num_classes=10, width_mult=0.5)
    ours = create_model("mobilenet_v2", num_classes=10, width=0.5, dropout=0.0)
    check_training_step(torch, theirs, ours, images_of(4, 64, 75))
