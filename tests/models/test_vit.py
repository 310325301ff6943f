"""Vision transformers: published sizes, tokens, what is dropped, torchvision's logits."""

import jax
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.models import create_model
from tests.marks import long_but
from tests.models.parity import check_maps, torchvision_network
from tests.models.structure import check_without_classes, size_of
from tests.models.training import (
    check_dropped_last_block,
)
from tests.models.variables import image_maker, random_variables, shapes_of

TINY = {"patch_size": 4, "blocks": 2, "width": 8, "heads": 2, "image_size": 12, "num_classes": 3}
images_of = image_maker(12)


def tiny(**fields):
    return create_model("vit_b_16", **{**TINY, **fields})


@pytest.mark.parametrize(
    ("name", "count"),
    [
        pytest.param("vit_b_16", 86_567_656, marks=pytest.mark.slow),
        pytest.param("vit_b_32", 88_224_232, marks=pytest.mark.long),
        pytest.param("vit_l_16", 304_326_632, marks=pytest.mark.long),
        pytest.param("vit_l_32", 306_535_400, marks=pytest.mark.long),
        pytest.param("vit_h_14", 632_045_800, marks=pytest.mark.long),
    ],
)
def test_every_vit_has_its_published_size(name, count):
    _, variables = shapes_of(create_model(name), images_of(1, 224))
    assert size_of(variables) == count


def test_every_map_in_its_shape():
    maps, variables = shapes_of(tiny(), images_of(), train=True)
    shapes = {name: x.shape for name, x in maps.items()}
    assert shapes == {"tokens": (2, 10, 8), "pooled": (2, 8), "logits": (2, 3)}
    assert variables["params"]["encoder_pos_embedding"].shape == (1, 10, 8)


def test_without_classes_there_is_no_classifier():
    check_without_classes(tiny(), images_of(), {"tokens", "pooled"}, "heads_head")


def test_without_a_norm_there_is_none():
    _, variables = shapes_of(tiny(norm=None), images_of())
    assert "scale" not in {path[-1].key for path, _ in jax.tree.leaves_with_path(variables)}


@pytest.mark.parametrize(
    ("fields", "images", "message"),
    [
        ({}, images_of(1, 12, 16), "the images are 12x16: this network takes 12x12"),
        (
            {"patch_size": 5},
            images_of(),
            "patch_size is 5, which does not divide",
        ),
        ({"heads": 3}, images_of(), "heads is 3, which does not divide the 8 channels"),
    ],
)
def test_images_and_fields_that_do_not_fit(fields, images, message):
    with pytest.raises(InputError, match=message):
        shapes_of(tiny(**fields), images)


@pytest.mark.slow
def test_classes_begin_alike():
    model = tiny(blocks=1)

    @jax.jit
    def start(key):
        maps, variables = model.init_with_output(key, images_of(), train=False)
        names = ("class_token", "encoder_pos_embedding")
        return maps["logits"], *(variables["params"][name] for name in names)

    logits, token, places = jax.device_get(start(jax.random.key(0)))
    assert (logits == 0).all()
    assert (token == 0).all()
    assert 0.01 < places.std() < 0.03


def test_the_pooled_token_is_the_first_and_knows_where_patches_are():
    model, images = tiny(), images_of()
    variables = random_variables(model, images)
    run = jax.jit(lambda images: model.apply(variables, images, train=False))
    maps, swapped = run(images), run(np.roll(images, 4, axis=2))
    np.testing.assert_array_equal(maps["pooled"], maps["tokens"][:, 0])
    assert np.abs(maps["pooled"] - swapped["pooled"]).max() > 0.01


def test_a_block_that_is_dropped_is_its_shortcuts():
    check_dropped_last_block(tiny(drop_path=1.0), tiny(blocks=1), images_of(), "tokens")


@pytest.mark.parity
@pytest.mark.parametrize("name", long_but(["vit_b_16", "vit_b_32"], ["vit_b_32"]))
def test_logits_equal_torchvisions(name):
    fields = {"num_classes": 10, "image_size": 64}
    torch, theirs = torchvision_network(name, **fields)
    check_maps(torch, theirs, create_model(name, **fields), images_of(2, 64), {"logits": None})
