"""AlexNet: the published size, every map, torchvision's logits."""

import pytest

from jaxvision.core import InputError
from jaxvision.layers import batch_norm
from jaxvision.models import create_model
from jaxvision.models.backbones.alexnet import Layer
from tests.models.parity import check_torchvision_logits
from tests.models.structure import check_shapes, size_of
from tests.models.variables import image_maker, shapes_of

STAGES = (
    (Layer(0, 4, 11, stride=4, padding=2),),
    (Layer(3, 4, 5, padding=2),),
    (Layer(6, 6, 3), Layer(8, 6, 3), Layer(10, 8, 3)),
)
TINY = {"stages": STAGES, "hidden": 16, "num_classes": 3, "dropout": 0.0}
images_of = image_maker(63)


def tiny(**fields):
    return create_model("alexnet", **{**TINY, **fields})


def test_alexnet_has_its_published_size():
    # "One weird trick" has no number; this is torchvision's.
    _, variables = shapes_of(create_model("alexnet"), images_of(1))
    assert size_of(variables) == 61_100_840
    assert variables["params"].keys() == {
        *(f"features_{place}" for place in (0, 3, 6, 8, 10)),
        *(f"classifier_{place}" for place in (1, 4, 6)),
    }


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        ((224, 192), ((55, 47), (27, 23), (13, 11), (6, 5))),
        ((63, 101), ((15, 24), (7, 11), (3, 5), (1, 2))),
    ],
)
def test_every_map_in_its_shape(size, sizes):
    maps, _ = shapes_of(create_model("alexnet", num_classes=7), images_of(2, *size))
    widths = (64, 192, 256, 256)
    check_shapes(maps, 2, sizes, widths, first=2, pooled=6 * 6 * 256, logits=7)


def test_without_classes_there_are_convolutions_only():
    maps, variables = shapes_of(tiny(num_classes=None), images_of())
    assert maps.keys() == {"c2", "c3", "c4", "c5", "pooled"}
    assert all(key.startswith("features") for key in variables["params"])


def test_a_norm_takes_the_place_of_the_bias():
    _, variables = shapes_of(tiny(norm=batch_norm), images_of())
    places = {f"features_{place}" for place in (0, 3, 6, 8, 10)}
    assert variables["batch_stats"].keys() == {f"{place}_bn" for place in places}
    assert all(variables["params"][place].keys() == {"kernel"} for place in places)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((62, 80), r"the height of the images is 62: this network takes 63\b"),
        ((63, 8), r"the width of the images is 8: this network takes 63\b"),
    ],
)
def test_images_that_are_too_small_are_refused(size, message):
    with pytest.raises(InputError, match=message):
        shapes_of(tiny(), images_of(1, *size))


@pytest.mark.parity
def test_logits_equal_torchvisions():
    check_torchvision_logits("alexnet", images_of(2, 224, 192))
