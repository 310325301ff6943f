"""Xception: the published size, every map, and its blocks against plain numpy."""

import jax
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.models import create_model, input_size, summarize
from jaxvision.models.backbones.xception import Block
from tests.models.structure import act_channels, check_shapes, check_without_classes
from tests.models.variables import image_maker, random_variables, shapes_of
from tests.reference.models import batch_norm
from tests.reference.ops import convolution, pooling

# The default tests have each of these kinds of checks, of other networks.
pytestmark = pytest.mark.slow

STAGES = (Block((128, 64), stride=2), Block((64, 64), repeats=2), Block((64,), stride=2))
TINY = {"stages": STAGES, "width": 1 / 16, "num_classes": 3, "dropout": 0.0}
images_of = image_maker(31)


def tiny(**fields):
    return create_model("xception", **{**TINY, **fields})


def conv(before, channels, taps):
    """The parameters of a convolution and its norm."""
    return before * channels * taps + 2 * channels


def separable(before, *widths):
    """The parameters of separable convolutions one after the other, and of their norms."""
    total = 0
    for channels in widths:
        total += 9 * before + conv(before, channels, 1)
        before = channels
    return total


def test_xception_has_its_published_size():
    # The paper's table 3; the exact number is the author's, and so are 54,528 moving statistics.
    count = conv(3, 32, 9) + conv(32, 64, 9)
    for before, first, last in ((64, 128, 128), (128, 256, 256), (256, 728, 728), (728, 728, 1024)):
        count += separable(before, first, last) + conv(before, last, 1)
    count += 8 * separable(728, 728, 728, 728) + separable(1024, 1536, 2048) + 2049 * 1000
    model = create_model("xception")
    summary = summarize(model, input_size("xception"))
    assert summary.params == count == 22_855_952
    assert round(summary.macs / 1e9, 1) == 8.4
    sizes = ((147, 147), (74, 74), (37, 37), (19, 19), (10, 10))
    maps = {name: jax.ShapeDtypeStruct(shape, "f4") for name, shape in summary.maps.items()}
    check_shapes(maps, 1, sizes, (64, 128, 256, 728, 2048), pooled=2048, logits=1000)
    _, variables = shapes_of(model, images_of(1))
    assert sum(x.size for x in jax.tree.leaves(variables["batch_stats"])) == 54_528


@pytest.mark.long
@pytest.mark.parametrize(
    ("size", "sizes"),
    [((31, 48), ((13, 21), (7, 11), (4, 6))), ((7, 65), ((1, 30), (1, 15), (1, 8)))],
)
def test_every_map_in_its_shape(size, sizes):
    maps, _ = shapes_of(tiny(num_classes=7), images_of(2, *size), train=True)
    check_shapes(maps, 2, sizes, (4, 4, 128), pooled=128, logits=7)


def test_without_classes_there_is_no_classifier():
    check_without_classes(tiny(), images_of(), {"c1", "c2", "c3", "pooled"}, "fc")


def test_without_a_norm_all_but_depthwise_convolutions_have_a_bias():
    _, variables = shapes_of(tiny(norm=None), images_of())
    assert variables.keys() == {"params"}
    for name, layer in variables["params"].items():
        depthwise = name.endswith("depthwise")
        assert layer.keys() == ({"kernel"} if depthwise else {"kernel", "bias"}), name


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((6, 20), r"the height of the images is 6: this network takes 7\b"),
        ((7, 2), r"the width of the images is 2: this network takes 7\b"),
    ],
)
def test_images_that_are_too_small_are_refused(size, message):
    with pytest.raises(InputError, match=message):
        shapes_of(tiny(), images_of(1, *size))


def numpy_maps(variables, x):
    """The last two maps of the tiny network, of its first."""
    params, statistics = variables["params"], variables["batch_stats"]

    def norm(x, name):
        return batch_norm(x, params[name], statistics[name], epsilon=1e-3)

    def separable(x, name):
        kernel = params[f"{name}_depthwise"]["kernel"]
        x = convolution.conv2d(x, kernel, padding=1, groups=x.shape[-1])
        x = x @ params[f"{name}_pointwise"]["kernel"][0, 0]
        return norm(x, f"{name}_pointwise_bn")

    def shrunk(y, x, name):
        shortcut = x[:, ::2, ::2] @ params[name]["kernel"][0, 0]
        return pooling.max_pool(y, 3, stride=2, padding=1) + norm(shortcut, f"{name}_bn")

    def relu(x):
        return np.maximum(x, 0)

    y = separable(relu(separable(x, "block2_sepconv1")), "block2_sepconv2")
    x = shrunk(y, x, "block2_shortcut")
    for block in ("block3", "block4"):
        y = separable(relu(x), f"{block}_sepconv1")
        x = x + separable(relu(y), f"{block}_sepconv2")
    c2 = x
    x = shrunk(separable(relu(x), "block5_sepconv1"), x, "block5_shortcut")
    for place in (1, 2):
        x = relu(separable(x, f"block6_sepconv{place}"))
    return {"c2": c2, "c3": x}


def test_blocks_are_those_of_plain_numpy():
    model, images = tiny(), images_of(1, 31, 35)
    variables = random_variables(model, images)
    maps = jax.jit(lambda: model.apply(variables, images, train=False))()
    for name, x in numpy_maps(variables, np.asarray(maps["c1"], np.float64)).items():
        np.testing.assert_allclose(maps[name], x, rtol=1e-4, atol=1e-4, err_msg=name)


def test_the_first_block_begins_with_a_map_that_has_been_activated():
    blocks = [8, *(4,) * 4, 4]
    assert act_channels(tiny(), images_of()) == [2, 4, *blocks, 96, 128]
