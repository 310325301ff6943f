"""ConvNeXts: published sizes, every map, what is dropped, gradients, torchvision's logits."""

import jax
import jax.numpy as jnp
import pytest

from jaxvision.core import InputError
from jaxvision.models import create_model
from tests.models.parity import check_torchvision_logits
from tests.models.structure import check_shapes, check_without_classes, size_of
from tests.models.training import check_bfloat16, check_dropped_last_block, check_remat
from tests.models.variables import check_network_learns, image_maker, shapes_of

TINY = {"blocks": (1, 1), "widths": (4, 6), "drop_path": 0.0, "num_classes": 3}
images_of = image_maker(16)


def tiny(**fields):
    return create_model("convnext_tiny", **{**TINY, **fields})


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("convnext_tiny", 28_589_128),
        pytest.param("convnext_small", 50_223_688, marks=pytest.mark.slow),
        pytest.param("convnext_base", 88_591_464, marks=pytest.mark.slow),
        pytest.param("convnext_large", 197_767_336, marks=pytest.mark.slow),
    ],
)
def test_every_convnext_has_its_published_size(name, count):
    _, variables = shapes_of(create_model(name), images_of(1, 32))
    assert size_of(variables) == count


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        ((224, 192), ((56, 48), (28, 24), (14, 12), (7, 6))),
        ((65, 127), ((16, 31), (8, 15), (4, 7), (2, 3))),
        ((32, 32), ((8, 8), (4, 4), (2, 2), (1, 1))),
    ],
)
def test_every_map_in_its_shape(size, sizes):
    widths = (4, 6, 8, 10)
    model = tiny(blocks=(1, 1, 1, 1), widths=widths)
    maps, _ = shapes_of(model, images_of(2, *size), train=True)
    check_shapes(maps, 2, sizes, widths, first=2, pooled=10, logits=3)


def test_without_classes_there_is_no_classifier():
    check_without_classes(tiny(), images_of(), {"c2", "c3", "pooled"}, "classifier")


def test_without_a_norm_there_is_none():
    _, variables = shapes_of(tiny(norm=None), images_of())
    assert "scale" not in {path[-1].key for path, _ in jax.tree.leaves_with_path(variables)}


def test_images_that_are_too_small():
    with pytest.raises(InputError, match="the width of the images is 31: this network takes 32"):
        shapes_of(create_model("convnext_tiny"), images_of(1, 32, 31))


def test_blocks_begin_near_their_shortcuts():
    model, images = tiny(layer_scale=0.25, num_classes=None), images_of(1, 8)
    params = jax.jit(lambda key: model.init(key, images, train=False))(jax.random.key(0))["params"]
    scales = {name: x for name, x in params.items() if name.endswith("layer_scale")}
    assert scales.keys() == {"features_1_0_layer_scale", "features_3_0_layer_scale"}
    for scale in scales.values():
        assert (scale == 0.25).all()


def test_every_parameter_gets_a_finite_gradient_that_is_not_zero():
    check_network_learns(tiny(), images_of())


def test_a_block_that_is_dropped_is_its_shortcut():
    dropping = tiny(blocks=(2,), widths=(4,), drop_path=1.0)
    shallower = tiny(blocks=(1,), widths=(4,))
    check_dropped_last_block(dropping, shallower, images_of(2, 8), "c2")


@pytest.mark.slow
def test_recomputed_blocks_are_equal():
    check_remat(
        tiny(blocks=(1,), widths=(4,)), tiny(blocks=(1,), widths=(4,), remat=True), images_of(2, 8)
    )


def test_bfloat16_computes_in_bfloat16_on_float32_variables():
    check_bfloat16(tiny(dtype=jnp.bfloat16), images_of())


@pytest.mark.parity
def test_logits_equal_torchvisions():
    check_torchvision_logits("convnext_tiny", images_of(2, 64, 75))
