"""Inception v4: the published size, every map, and all kinds of steps against plain numpy."""

import jax
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.models import create_model
from jaxvision.models.backbones.inception_v4 import AVERAGE, MAXIMUM, Layer, Module
from tests.models.structure import (
    check_shapes,
    check_summary,
    check_without_classes,
    check_without_norm,
    plain,
    size_of_chain,
)
from tests.models.variables import image_maker, random_variables, shapes_of
from tests.reference.models import batch_norm
from tests.reference.ops import convolution, pooling

# The default tests have each of these kinds of checks, of other networks.
pytestmark = pytest.mark.slow

# Few layers, of every kind of step.
STAGES = (
    (Module("stem1", ((Layer(64, 3, stride=2), Layer(64, 3, padded=False)),)),),
    (
        Module("stem2", ((MAXIMUM,), (Layer(64, 3, stride=2),))),
        Module("stem3", ((Layer(64, 3, padded=False),),)),
    ),
    (
        Module("stem4", ((MAXIMUM,),)),
        Module("inception_a", ((Layer(64),), (AVERAGE, Layer(64, (1, 7)))), repeats=2),
    ),
    (Module("reduction_a", ((Layer(64, 3), Layer(64, 3, stride=2)), (MAXIMUM,))),),
    (Module("inception_c", ((MAXIMUM, (Layer(64, (1, 3)), Layer(64, (3, 1)))),)),),
)
TINY = {"stages": STAGES, "width": 1 / 16, "num_classes": 3, "dropout": 0.0}
images_of = image_maker(75)


def tiny(**fields):
    return create_model("inception_v4", **{**TINY, **fields})


def test_inception_v4_has_its_published_size():
    # The paper has no number: this is what its figures make, and that of the released weights.
    stem = size_of_chain(3, (32, 9), (32, 9), (64, 9)) + size_of_chain(64, (96, 9))
    stem += size_of_chain(160, (64, 1), (96, 9)) + size_of_chain(
        160, (64, 1), (64, 7), (64, 7), (96, 9)
    )
    stem += size_of_chain(192, (192, 9))
    a = 2 * size_of_chain(384, (96, 1)) + size_of_chain(384, (64, 1), (96, 9))
    a += size_of_chain(384, (64, 1), (96, 9), (96, 9))
    reduction_a = size_of_chain(384, (384, 9)) + size_of_chain(384, (192, 1), (224, 9), (256, 9))
    b = (
        size_of_chain(1024, (384, 1))
        + size_of_chain(1024, (192, 1), (224, 7), (256, 7))
        + size_of_chain(1024, (128, 1))
    )
    b += size_of_chain(1024, (192, 1), (192, 7), (224, 7), (224, 7), (256, 7))
    reduction_b = size_of_chain(1024, (192, 1), (192, 9))
    reduction_b += size_of_chain(1024, (256, 1), (256, 7), (320, 7), (320, 9))
    c = (
        2 * size_of_chain(1536, (256, 1))
        + size_of_chain(1536, (384, 1))
        + 2 * size_of_chain(384, (256, 3))
    )
    c += size_of_chain(1536, (384, 1), (448, 3), (512, 3)) + 2 * size_of_chain(512, (256, 3))
    count = stem + 4 * a + reduction_a + 7 * b + reduction_b + 3 * c + 1537 * 1000
    assert count == 42_679_816
    sizes = ((147, 147), (71, 71), (35, 35), (17, 17), (8, 8))
    check_summary("inception_v4", count, 12.3, sizes, (64, 192, 384, 1024, 1536))


@pytest.mark.long
@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        ((300, 107), ((147, 51), (71, 23), (35, 11), (17, 5), (8, 2))),
        ((75, 96), ((35, 45), (15, 20), (7, 9), (3, 4), (1, 1))),
    ],
)
def test_maps_of_other_sizes(size, sizes):
    maps, _ = shapes_of(tiny(num_classes=7), images_of(2, *size), train=True)
    check_shapes(maps, 2, sizes, (4, 4, 8, 12, 8), pooled=8, logits=7)


def test_without_classes_there_is_no_classifier_and_without_norms_there_are_biases():
    maps = {"c1", "c2", "c3", "c4", "c5", "pooled"}
    check_without_classes(tiny(norm=None), images_of(), maps, "fc")
    check_without_norm(tiny(num_classes=None), images_of())


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((74, 80), r"the height of the images is 74: this network takes 75\b"),
        ((75, 8), r"the width of the images is 8: this network takes 75\b"),
    ],
)
def test_images_that_are_too_small_are_refused(size, message):
    with pytest.raises(InputError, match=message):
        shapes_of(tiny(), images_of(1, *size))


def test_a_config_may_give_rows_as_plain_tuples():
    assert shapes_of(tiny(stages=plain(STAGES)), images_of()) == shapes_of(tiny(), images_of())


def numpy_maps(variables, images):
    """The maps of the tiny network, written out."""
    params, statistics = variables["params"], variables["batch_stats"]

    def conv(x, name, **options):
        y, norm = convolution.conv2d(x, params[f"{name}_conv"]["kernel"], **options), f"{name}_bn"
        return np.maximum(batch_norm(y, params[norm], statistics[norm], epsilon=1e-3), 0)

    def maximum(x):
        return pooling.max_pool(x, 3, stride=2)

    def average(x):
        return pooling.avg_pool(x, 3, stride=1, padding=1, count_include_pad=False)

    def joined(*ends):
        return np.concatenate(ends, -1)

    x = images.astype(np.float64)
    c1 = conv(conv(x, "stem1_branch1_1", stride=2), "stem1_branch1_2")
    c2 = joined(maximum(c1), conv(c1, "stem2_branch2_1", stride=2))
    c2 = conv(c2, "stem3_branch1_1")
    c3 = maximum(c2)
    for module in ("inception_a1", "inception_a2"):
        second = conv(average(c3), f"{module}_branch2_2", padding=(0, 3))
        c3 = joined(conv(c3, f"{module}_branch1_1"), second)
    c4 = conv(c3, "reduction_a_branch1_1", padding=(1, 1))
    c4 = joined(conv(c4, "reduction_a_branch1_2", stride=2), maximum(c3))
    c5, name = maximum(c4), "inception_c_branch1_2"
    c5 = joined(conv(c5, f"{name}a", padding=(0, 1)), conv(c5, f"{name}b", padding=(1, 0)))
    return {"c1": c1, "c2": c2, "c3": c3, "c4": c4, "c5": c5, "pooled": c5.mean((1, 2))}


def test_maps_are_those_of_plain_numpy():
    model, images = tiny(num_classes=None), images_of(1, 75, 83)
    variables = random_variables(model, images)
    maps = jax.jit(lambda: model.apply(variables, images, train=False))()
    expected = numpy_maps(variables, images)
    assert maps.keys() == expected.keys()
    for name, x in maps.items():
        np.testing.assert_allclose(x, expected[name], rtol=1e-4, atol=1e-4, err_msg=name)
