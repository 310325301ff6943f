"""ConvNeXts: published sizes, every map, what is dropped, torchvision's logits."""

import jax
import pytest

from jaxvision.core import InputError
from jaxvision.models import create_model
from tests.marks import long_but
from tests.models.structure import check_shapes, check_without_classes, size_of
from tests.models.training import check_dropped_last_block
from tests.models.variables import image_maker, shapes_of

TINY = {"blocks": (1, 1), "widths": (4, 6), "drop_path": 0.0, "num_classes": 3}
images_of = image_maker(16)


def tiny(**fields):
    return create_model("convnext_tiny", **{**TINY, **fields})


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("convnext_tiny", 28_589_128),
        pytest.param("convnext_small", 50_223_688, marks=pytest.mark.long),
        pytest.param("convnext_base", 88_591_464, marks=pytest.mark.long),
        pytest.param("convnext_large", 197_767_336, marks=pytest.mark.long),
    ],
)
def test_every_convnext_has_its_published_size(name, count):
    _, variables = shapes_of(create_model(name), images_of(1, 32))
    assert size_of(variables) == count


SHAPES = [
    ((224, 192), ((56, 48), (28, 24), (14, 12), (7, 6))),
    ((65, 127), ((16, 31), (8, 15), (4, 7), (2, 3))),
    ((32, 32), ((8, 8), (4, 4), (2, 2), (1, 1))),
]


@pytest.mark.parametrize(("size", "sizes"), long_but(SHAPES, SHAPES[1:2]))
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

    @jax.jit
    def scales_of(key):
        params = model.init(key, images, train=False)["params"]
        return {name: x for name, x in params.items() if name.endswith("layer_scale")}

    scales = jax.device_get(scales_of(jax.random.key(0)))
    assert scales.keys() == {"features_1_0_layer_scale", "features_3_0_layer_scale"}
    for scale in scales.values():
        assert (scale == 0.25).all()


@pytest.mark.long
def test_a_block_that_is_dropped_is_its_shortcut():
    dropping = tiny(blocks=(2,), widths=(4,), drop_path=1.0)
    shallower = tiny(blocks=(1,), widths=(4,))
    check_dropped_last_block(dropping, shallower, images_of(2, 8), "c2")
