"""RegNets: published sizes and widths, every map, what is dropped, torchvision's logits."""

import functools

import jax
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.models import create_model
from jaxvision.models.backbones.regnet import Stage, quantised_stages
from tests.marks import long_but
from tests.models.parity import check_torchvision_logits
from tests.models.structure import (
    check_shapes,
    check_without_classes,
    check_without_norm,
    size_of,
)
from tests.models.training import check_torchvision_step, train
from tests.models.variables import image_maker, random_variables, shapes_of

# The default tests have each of these kinds of checks, of other networks.
pytestmark = pytest.mark.slow

STAGES = (Stage(1, 8, 4), Stage(2, 12, 4))
SHALLOWER = (Stage(1, 8, 4), Stage(1, 12, 4))
images_of = image_maker(17)


def tiny(**fields):
    fields = {"stages": STAGES, "stem_channels": 4, "num_classes": 3, **fields}
    return create_model("regnet_y_400mf", **fields)


SIZES = {
    "regnet_x_400mf": 5_495_976,
    "regnet_x_800mf": 7_259_656,
    "regnet_x_1_6gf": 9_190_136,
    "regnet_x_3_2gf": 15_296_552,
    "regnet_x_8gf": 39_572_648,
    "regnet_x_16gf": 54_278_536,
    "regnet_x_32gf": 107_811_560,
    "regnet_y_400mf": 4_344_144,
    "regnet_y_800mf": 6_432_512,
    "regnet_y_1_6gf": 11_202_430,
    "regnet_y_3_2gf": 19_436_338,
    "regnet_y_8gf": 39_381_472,
    "regnet_y_16gf": 83_590_140,
    "regnet_y_32gf": 145_046_770,
    "regnet_y_128gf": 644_812_894,
}


@pytest.mark.parametrize("name", long_but(SIZES, [], ["regnet_y_800mf"]))
def test_every_regnet_has_its_published_size(name):
    # torchvision's numbers.
    params = shapes_of(create_model(name), images_of(1))[1]["params"]
    assert size_of(params) == SIZES[name]


@pytest.mark.parametrize(
    ("parameters", "blocks", "widths", "group_width"),
    [
        # RegNetX-400MF, whose last width, 392 before the groups, is a tie: 384 in the paper.
        ((22, 24, 24.48, 2.54, 16), (1, 2, 7, 12), (32, 64, 160, 400), 16),
        # RegNetX-3.2GF and RegNetY-32GF, as in the paper's tables.
        ((25, 88, 26.31, 2.25, 48), (2, 6, 15, 2), (96, 192, 432, 1008), 48),
        ((20, 232, 115.89, 2.53, 232), (2, 5, 12, 1), (232, 696, 1392, 3712), 232),
    ],
)
def test_stages_are_those_that_were_published(parameters, blocks, widths, group_width):
    stages = tuple(zip(blocks, widths, (group_width,) * 4, strict=True))
    assert quantised_stages(*parameters) == stages


def test_a_group_is_no_wider_than_its_stage():
    # By hand: u = 8, 16, 24, 32, and s = 0, 1, log2(3) = 1.6, 2.
    assert quantised_stages(4, 8, 8, 2.0, 16) == (
        Stage(1, 8, 8),
        Stage(1, 16, 16),
        Stage(2, 32, 16),
    )


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
    check_shapes(maps, 2, sizes, (4, 8, 12), pooled=12, logits=3)


def test_without_classes_there_is_no_classifier_and_without_norms_there_are_biases():
    check_without_classes(tiny(norm=None), images_of(), {"c1", "c2", "c3", "pooled"}, "fc")
    check_without_norm(tiny(num_classes=None), images_of())


def test_squeeze_excitation_is_narrower_than_what_its_block_takes():
    params = shapes_of(tiny(), images_of())[1]["params"]
    inner = {key: x["bias"].shape for key, x in params.items() if key.endswith("se_fc1")}
    assert inner == {
        "trunk_output_block1_block1-0_f_se_fc1": (1,),
        "trunk_output_block2_block2-0_f_se_fc1": (2,),
        "trunk_output_block2_block2-1_f_se_fc1": (3,),
    }
    plain = shapes_of(tiny(se_ratio=None), images_of())[1]["params"]
    assert plain.keys() == {key for key in params if "_se_" not in key}


def test_groups_that_do_not_divide_a_width():
    with pytest.raises(InputError, match=r"stage 2 has a width of 12: give a multiple of .* 5"):
        shapes_of(tiny(stages=(Stage(1, 8, 4), Stage(1, 12, 5))), images_of())


@pytest.mark.long
def test_blocks_are_dropped_in_proportion_to_their_place():
    # The last block always, those before it as in a network without it: 1/3 and 2/3 of the time.
    deeper, shallower = tiny(drop_path=1.0), tiny(stages=SHALLOWER, drop_path=2 / 3)
    images = images_of(4)
    variables = random_variables(deeper, images)
    jax.eval_shape(functools.partial(deeper.apply, train=False), variables, images)
    fewer = shapes_of(shallower, images)[1]
    kept = {kind: {name: variables[kind][name] for name in fewer[kind]} for kind in fewer}
    run = jax.jit(train, static_argnums=0)
    given, _ = run(deeper, variables, images, jax.random.key(0))
    expected, _ = run(shallower, kept, images, jax.random.key(0))
    np.testing.assert_allclose(given["c3"], expected["c3"], rtol=1e-5, atol=1e-5)
    assert (given["c3"][0] > 0).any()


@pytest.mark.long
@pytest.mark.parity
def test_logits_equal_torchvisions():
    check_torchvision_logits("regnet_x_800mf", images_of(2, 64, 75))


@pytest.mark.long
@pytest.mark.parity
def test_a_step_of_training_equals_torchvisions():
    check_torchvision_step("regnet_y_400mf", images_of(4, 64, 75))
