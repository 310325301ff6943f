"""ResNet-9: its published size, every map, its equality with a slow reference."""

import functools

import pytest

from jaxvision.core import InputError
from jaxvision.models import create_model
from jaxvision.testing import check_op
from tests.models.structure import check_shapes, check_without_classes, size_of
from tests.models.variables import image_maker, random_variables, shapes_of
from tests.reference import models as reference

TINY = {"widths": (4, 5, 6, 7)}
images_of = image_maker(9)


def tiny(**fields):
    return create_model("resnet9", **{"num_classes": 3, **TINY, **fields})


def test_the_network_has_its_published_size():
    maps, variables = shapes_of(create_model("resnet9"), images_of(2, 32, 40))
    assert size_of(variables["params"]) == 6_573_120
    assert sum("kernel" in layer for layer in variables["params"].values()) == 9
    sizes = ((32, 40), (16, 20), (8, 10), (4, 5))
    check_shapes(maps, 2, sizes, (64, 128, 256, 512), first=0, pooled=512, logits=10)


def test_without_classes_there_is_no_classifier():
    check_without_classes(tiny(), images_of(), {"c0", "c1", "c2", "c3", "pooled"}, "linear")


def test_images_that_are_too_small_are_refused():
    with pytest.raises(InputError, match=r"the width of the images is 7: this network takes 8\b"):
        shapes_of(tiny(), images_of(1, 9, 7))


def test_logits_equal_the_reference():
    model, images = tiny(), images_of(2, 17, 24)
    check_op(
        functools.partial(model.apply, train=False),
        reference.resnet9,
        random_variables(model, images),
        images,
        rtol=1e-4,
        atol=1e-5,
        transforms=("jit",),
    )
