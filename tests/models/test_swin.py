"""Swins of both versions: published sizes, every map, shifts, torchvision's logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.models import create_model
from jaxvision.models.backbones.swin import log_offsets, shifted_regions
from tests.marks import long_but
from tests.models.parity import check_maps, torchvision_network
from tests.models.structure import check_shapes, check_without_classes, size_of
from tests.models.training import (
    check_dropped_last_block,
)
from tests.models.variables import shapes_of

# The default tests have each of these kinds of checks, of other networks.
pytestmark = pytest.mark.slow

TINY = {"blocks": (2, 1), "width": 4, "window": 2, "head_width": 2, "drop_path": 0.0}


def tiny(**fields):
    return create_model("swin_t", **{**TINY, "num_classes": 3, **fields})


def images_of(batch=2, height=15, width=21):
    shape = (batch, height, width, 3)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


SIZES = {
    "swin_t": 28_288_354,
    "swin_s": 49_606_258,
    "swin_b": 87_768_224,
    "swin_v2_t": 28_351_570,
    "swin_v2_s": 49_737_442,
    "swin_v2_b": 87_930_848,
}


@pytest.mark.parametrize("name", long_but(SIZES, [], ["swin_t"]))
def test_every_swin_has_its_published_size(name):
    _, variables = shapes_of(create_model(name), images_of(1, 32, 32))
    assert size_of(variables) == SIZES[name]


SHAPES = [
    ((224, 192), ((56, 48), (28, 24), (14, 12), (7, 6))),
    ((65, 103), ((16, 25), (8, 13), (4, 7), (2, 4))),
    ((4, 4), ((1, 1),) * 4),
]


@pytest.mark.parametrize(("size", "sizes"), long_but(SHAPES, SHAPES[1:2]))
def test_every_map_in_its_shape(size, sizes):
    model = tiny(blocks=(1, 1, 1, 1), window=7)
    maps, _ = shapes_of(model, images_of(2, *size), train=True)
    check_shapes(maps, 2, sizes, (4, 8, 16, 32), first=2, pooled=32, logits=3)


def test_parameters_do_not_depend_on_the_size_of_the_images():
    one, many = (shapes_of(tiny(), images_of(1, size, size))[1] for size in (4, 30))
    assert jax.tree.map(jnp.shape, one) == jax.tree.map(jnp.shape, many)


def test_without_classes_there_is_no_classifier():
    check_without_classes(tiny(), images_of(), {"c2", "c3", "pooled"}, "head")


def test_without_a_norm_there_is_none():
    _, variables = shapes_of(tiny(norm=None), images_of())
    assert "scale" not in {path[-1].key for path, _ in jax.tree.leaves_with_path(variables)}


@pytest.mark.parametrize(
    ("fields", "images", "message"),
    [
        ({}, images_of(1, 3, 8), "the height of the images is 3: this network takes 4"),
        ({"version": 3}, images_of(), "version is 3: give 1 or 2"),
        ({"window": 1}, images_of(), "window"),
        ({"head_width": 3}, images_of(), "head_width is 3, which does not divide the width 4"),
    ],
)
def test_images_and_fields_that_do_not_fit(fields, images, message):
    with pytest.raises(InputError, match=message):
        shapes_of(tiny(**fields), images)


@pytest.mark.parametrize("shifts", [(1, 1), (0, 1), (1, 0)])
def test_cells_are_apart_that_a_shift_has_brought_together(shifts):
    height, width, window = 6, 9, 3
    given = shifted_regions(height, width, window, shifts)
    number = 0
    for top in range(0, height, window):
        for left in range(0, width, window):
            cells = [(top + y, left + x) for y in range(window) for x in range(window)]
            before = [((y + shifts[0]) % height, (x + shifts[1]) % width) for y, x in cells]
            for i, j in np.ndindex(len(cells), len(cells)):
                moved = np.subtract(before[i], before[j]) != np.subtract(cells[i], cells[j])
                assert given[number, i, j] == (-100 if moved.any() else 0)
            number += 1
    assert len(given) == number


def test_offsets_on_a_scale_of_logarithms():
    # 8 is a whole window away: log2(9) / 3; half of that is 4: log2(5) / 3.
    given = log_offsets(3).reshape(5, 5, 2)
    scale = np.array([-1.0566417, -0.7739760, 0, 0.7739760, 1.0566417])
    np.testing.assert_allclose(given[:, :, 0], np.repeat(scale[:, None], 5, axis=1), rtol=1e-6)
    np.testing.assert_allclose(given[:, :, 1], np.repeat(scale[None], 5, axis=0), rtol=1e-6)


@pytest.mark.long
def test_a_block_that_is_dropped_is_its_shortcuts():
    dropping, shallower = tiny(blocks=(2,), drop_path=1.0), tiny(blocks=(1,))
    check_dropped_last_block(dropping, shallower, images_of(), "c2")


@pytest.mark.parity
@pytest.mark.parametrize("name", long_but(["swin_t", "swin_v2_t"], ["swin_t"]))
def test_logits_equal_torchvisions(name):
    # At this size maps are larger than a window in both directions, in one, and in none.
    torch, theirs = torchvision_network(name, num_classes=10)
    if name == "swin_v2_t":
        theirs.features[1][0].attn.logit_scale.data += 4  # More than its bound.
    ours = create_model(name, num_classes=10)
    check_maps(torch, theirs, ours, images_of(2, 37, 75), {"logits": None})
