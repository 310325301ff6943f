"""Inception-ResNet: sizes from the figures and of the released network, and residual modules."""

import jax
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.models import create_model
from jaxvision.models.backbones.inception_resnet import STAGES_V2
from jaxvision.models.backbones.inception_v4 import Layer, Module
from tests.models.structure import (
    act_channels,
    check_shapes,
    check_summary,
    check_without_norm,
    size_of_chain,
)
from tests.models.variables import image_maker, random_variables, shapes_of
from tests.reference.models import batch_norm

# The default tests have each of these kinds of checks, of other networks.
pytestmark = pytest.mark.slow

BRANCHES = ((Layer(64),), (Layer(64), Layer(128)))
STAGES = (
    *((Module(f"stem{level}", ((Layer(128, 3, stride=2),),)),) for level in (1, 2, 3, 4)),
    (
        Module("inception_resnet_c", BRANCHES, 2, 0.2),
        Module("inception_resnet_c3", BRANCHES, scale=1.0, act=False),
    ),
)
TINY = {"stages": STAGES, "width": 1 / 16, "num_classes": 3, "dropout": 0.0}
images_of = image_maker(75)


def tiny(**fields):
    return create_model("inception_resnet_v2", **{**TINY, **fields})


def residual(before, *branches):
    """The parameters of a residual module, whose last convolution has a bias and no norm."""
    joined = sum(branch[-1][0] for branch in branches)
    return sum(size_of_chain(before, *branch) for branch in branches) + (joined + 1) * before


SIZES = ((147, 147), (71, 71), (35, 35), (17, 17), (8, 8))
STEM = size_of_chain(3, (32, 9), (32, 9), (64, 9), (80, 1), (192, 9))


@pytest.mark.long
def test_inception_resnet_v1_has_the_size_of_its_figures():
    # No number is published.
    a = residual(256, [(32, 1)], [(32, 1), (32, 9)], [(32, 1), (32, 9), (32, 9)])
    reduction_a = size_of_chain(256, (384, 9)) + size_of_chain(256, (192, 1), (192, 9), (256, 9))
    b = residual(896, [(128, 1)], [(128, 1), (128, 7), (128, 7)])
    reduction_b = size_of_chain(896, (256, 1), (384, 9)) + size_of_chain(896, (256, 1), (256, 9))
    reduction_b += size_of_chain(896, (256, 1), (256, 9), (256, 9))
    c = residual(1792, [(192, 1)], [(192, 1), (192, 3), (192, 3)])
    count = STEM + size_of_chain(192, (256, 9)) + 5 * a + reduction_a + 10 * b + reduction_b + 5 * c
    count += 1793 * 1000
    assert count == 22_756_328
    check_summary("inception_resnet_v1", count, 6.2, SIZES, (64, 192, 256, 896, 1792))


def test_inception_resnet_v2_has_the_size_of_the_released_network():
    mixed = size_of_chain(192, (96, 1)) + size_of_chain(192, (48, 1), (64, 25))
    mixed += size_of_chain(192, (64, 1), (96, 9), (96, 9)) + size_of_chain(192, (64, 1))
    a = residual(320, [(32, 1)], [(32, 1), (32, 9)], [(32, 1), (48, 9), (64, 9)])
    reduction_a = size_of_chain(320, (384, 9)) + size_of_chain(320, (256, 1), (256, 9), (384, 9))
    b = residual(1088, [(192, 1)], [(128, 1), (160, 7), (192, 7)])
    reduction_b = size_of_chain(1088, (256, 1), (384, 9)) + size_of_chain(1088, (256, 1), (288, 9))
    reduction_b += size_of_chain(1088, (256, 1), (288, 9), (320, 9))
    c = residual(2080, [(192, 1)], [(192, 1), (224, 3), (256, 3)])
    count = STEM + mixed + 10 * a + reduction_a + 20 * b + reduction_b + 10 * c
    count += size_of_chain(2080, (1536, 1)) + 1537 * 1000
    assert count == 55_843_464
    check_summary("inception_resnet_v2", count, 13.2, SIZES, (64, 192, 320, 1088, 1536))


def test_residual_modules_of_version_2_are_scaled_as_released():
    rows = [module for modules in STAGES_V2 for module in modules if module.scale is not None]
    expected = [(10, 0.17, True), (20, 0.1, True), (9, 0.2, True), (1, 1.0, False)]
    assert [(row.repeats, row.scale, row.act) for row in rows] == expected


@pytest.mark.long
@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        ((107, 75), ((53, 37), (26, 18), (12, 8), (5, 3), (5, 3))),
        ((96, 128), ((47, 63), (23, 31), (11, 15), (5, 7), (5, 7))),
    ],
)
def test_every_map_in_its_shape(size, sizes):
    maps, _ = shapes_of(tiny(num_classes=7), images_of(2, *size), train=True)
    check_shapes(maps, 2, sizes, (8,) * 5, pooled=8, logits=7)


def test_a_residual_module_is_its_shortcut_and_a_scaled_sum_of_its_branches():
    model, images = tiny(), images_of()
    variables = random_variables(model, images)
    params, statistics = variables["params"], variables["batch_stats"]
    maps = jax.jit(lambda: model.apply(variables, images, train=False))()

    def conv(x, name):
        y, norm = x @ params[f"{name}_conv"]["kernel"][0, 0], f"{name}_bn"
        return np.maximum(batch_norm(y, params[norm], statistics[norm], epsilon=1e-3), 0)

    x = np.asarray(maps["c4"], np.float64)
    for number, scale in ((1, 0.2), (2, 0.2), (3, 1.0)):
        name = f"inception_resnet_c{number}"
        second = conv(conv(x, f"{name}_branch2_1"), f"{name}_branch2_2")
        joined = np.concatenate([conv(x, f"{name}_branch1_1"), second], -1)
        linear = params[f"{name}_linear"]
        x = x + scale * (joined @ linear["kernel"][0, 0] + linear["bias"])
        x = x if number == 3 else np.maximum(x, 0)
    assert x.min() < 0
    np.testing.assert_allclose(maps["c5"], x, rtol=1e-4, atol=1e-4)


def test_act_follows_every_convolution_but_the_last_of_a_module_and_most_sums():
    residuals = [4, 4, 8, 8, 4, 4, 8, 8, 4, 4, 8]
    assert act_channels(tiny(), images_of()) == [8, 8, 8, 8, *residuals]


def test_without_a_norm_convolutions_have_a_bias():
    check_without_norm(tiny(), images_of())


def test_images_that_are_too_small_are_refused():
    with pytest.raises(InputError, match=r"the width of the images is 74: this network takes 75\b"):
        shapes_of(tiny(), images_of(1, 75, 74))
