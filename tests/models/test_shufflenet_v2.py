"""ShuffleNetV2: published sizes, every map, kept channels, torchvision's logits."""

import jax
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.models import create_model
from tests.marks import long_but
from tests.models.parity import check_torchvision_logits
from tests.models.structure import check_shapes, check_without_classes, check_without_norm, size_of
from tests.models.training import check_torchvision_step
from tests.models.variables import image_maker, random_variables, shapes_of

# The default tests have each of these kinds of checks, of other networks.
pytestmark = pytest.mark.slow

TINY = {"blocks": (2,), "widths": (4, 8, 6), "num_classes": 3}
images_of = image_maker(17)


def tiny(**fields):
    return create_model("shufflenet_v2_x1_0", **{**TINY, **fields})


SIZES = [
    ("shufflenet_v2_x0_5", 1_366_792, (24, 24, 48, 96, 192, 1024)),
    ("shufflenet_v2_x1_0", 2_278_604, (24, 24, 116, 232, 464, 1024)),
    ("shufflenet_v2_x1_5", 3_503_624, (24, 24, 176, 352, 704, 1024)),
    ("shufflenet_v2_x2_0", 7_393_996, (24, 24, 244, 488, 976, 2048)),
]


@pytest.mark.parametrize(("name", "count", "widths"), long_but(SIZES, [], SIZES[1:2]))
def test_every_shufflenet_has_its_published_size(name, count, widths):
    # The paper's table 5; the exact numbers are torchvision's.
    maps, variables = shapes_of(create_model(name), images_of(1))
    assert size_of(variables["params"]) == count
    assert tuple(x.shape[-1] for key, x in maps.items() if key != "logits") == widths


@pytest.mark.long
@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        ((224, 192), ((112, 96), (56, 48), (28, 24))),
        ((65, 97), ((33, 49), (17, 25), (9, 13))),
        ((1, 1), ((1, 1),) * 3),
    ],
)
def test_every_map_in_its_shape(size, sizes):
    maps, _ = shapes_of(tiny(), images_of(2, *size), train=True)
    check_shapes(maps, 2, sizes, (4, 4, 8), pooled=6, logits=3)


def test_without_classes_there_is_no_classifier_and_without_norms_there_are_biases():
    check_without_classes(tiny(norm=None), images_of(), {"c1", "c2", "c3", "pooled"}, "fc")
    check_without_norm(tiny(num_classes=None), images_of())


def test_a_unit_keeps_half_of_the_channels():
    # They are the first half of what it sees, and every other channel of what it gives.
    images = images_of()
    deeper, shallower = tiny(), tiny(blocks=(1,))
    variables = random_variables(deeper, images)
    fewer = jax.tree.map(lambda _: None, shapes_of(shallower, images)[1])
    without = {kind: {name: variables[kind][name] for name in fewer[kind]} for kind in fewer}
    run = jax.jit(
        lambda model, variables: model.apply(variables, images, train=False)["c3"],
        static_argnums=0,
    )
    given, seen = run(deeper, variables), run(shallower, without)
    np.testing.assert_allclose(given[..., ::2], seen[..., :4], rtol=1e-5, atol=1e-6)
    assert (given[..., 1::2] >= 0).all()
    assert np.abs(given[..., 1::2] - seen[..., 4:]).max() > 0.1


@pytest.mark.parametrize("widths", [(4, 6), (4, 8, 12, 6), (4, 7, 6)])
def test_widths_that_do_not_fit(widths):
    message = "an even one for each of the 1 stages, and one for the last"
    with pytest.raises(InputError, match=message):
        shapes_of(tiny(widths=widths), images_of())


@pytest.mark.long
@pytest.mark.parity
def test_logits_equal_torchvisions():
    check_torchvision_logits("shufflenet_v2_x1_0", images_of(2, 64, 75))


@pytest.mark.long
@pytest.mark.parity
def test_a_step_of_training_equals_torchvisions():
    check_torchvision_step("shufflenet_v2_x0_5", images_of(4, 64, 75))
