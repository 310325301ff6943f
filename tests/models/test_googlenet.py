"""GoogLeNet: published sizes, every map, auxiliary classifiers, torchvision's logits; what is
otherwise in the paper's form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.models import create_model
from jaxvision.models.backbones.googlenet import Inception, renormalize
from jaxvision.ops import avg_pool, local_response_norm, max_pool
from tests.marks import long_but
from tests.models.parity import check_maps, torchvision_network
from tests.models.structure import check_shapes, check_without_norm, size_of
from tests.models.training import check_training_step, train
from tests.models.variables import image_maker, random_variables, shapes_of
from tests.reference import models as reference

# The default tests have each of these kinds of checks, of other networks.
pytestmark = pytest.mark.slow

# Two stages of one module, each with an auxiliary classifier.
STAGES = (
    (Inception(64, (96, 128), (64, 64), 64, aux="aux1"),),
    (Inception(64, (64, 96), (64, 64), 64, aux="aux2"),),
)
TINY = {"stages": STAGES, "width": 1 / 16, "num_classes": 3, "dropout": 0.0, "dropout_aux": 0.0}
images_of = image_maker(31)


def tiny(name="googlenet", **fields):
    return create_model(name, **{**TINY, **fields})


def test_googlenet_has_its_published_size():
    # torchvision's numbers; the published one is without the auxiliary classifiers.
    _, variables = shapes_of(create_model("googlenet", aux=True), images_of(1))
    sizes = {
        name: sum(x.size for x in layer.values()) for name, layer in variables["params"].items()
    }
    assert sum(sizes.values()) == 13_004_888
    assert sum(n for name, n in sizes.items() if not name.startswith("aux")) == 6_624_904


@pytest.mark.long
def test_every_map_in_its_shape():
    model = create_model("googlenet", num_classes=7, aux=True)
    maps, _ = shapes_of(model, images_of(2, 224, 192), train=True)
    sizes = ((112, 96), (56, 48), (28, 24), (14, 12), (7, 6))
    widths = (64, 192, 480, 832, 1024)
    check_shapes(maps, 2, sizes, widths, pooled=1024, logits=7, aux1=7, aux2=7)


@pytest.mark.long
@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        ((15, 65), ((8, 33), (4, 16), (2, 8), (1, 4), (1, 2))),
        ((101, 16), ((51, 8), (25, 4), (12, 2), (6, 1), (3, 1))),
    ],
)
def test_maps_of_other_sizes(size, sizes):
    stages = (*STAGES, (STAGES[0][0]._replace(aux=None),))
    model = tiny(num_classes=7, aux=True, stages=stages)
    maps, _ = shapes_of(model, images_of(2, *size), train=True)
    widths = (4, 12, 20, 18, 20)
    check_shapes(maps, 2, sizes, widths, pooled=20, logits=7, aux1=7, aux2=7)


def test_auxiliary_logits_depend_on_training_and_the_variables_do_not():
    model = tiny(aux=True)
    (maps, evaluated), (_, trained) = (
        shapes_of(model, images_of(1, size), train=train)
        for size, train in ((15, False), (64, True))
    )
    assert jax.tree.map(jnp.shape, evaluated) == jax.tree.map(jnp.shape, trained)
    assert not any(key.startswith("aux") for key in maps)
    assert "aux2_fc2" in evaluated["params"]


def test_without_classes_there_is_no_classifier():
    maps, variables = shapes_of(tiny(num_classes=None, aux=True), images_of(), train=True)
    assert maps.keys() == {"c1", "c2", "c3", "c4", "pooled"}
    assert not any("fc" in key or "aux" in key for key in variables["params"])


def test_without_a_norm_convolutions_have_a_bias():
    check_without_norm(tiny(aux=True), images_of())


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((14, 20), r"the height of the images is 14: this network takes 15\b"),
        ((15, 8), r"the width of the images is 8: this network takes 15\b"),
    ],
)
def test_images_that_are_too_small_are_refused(size, message):
    with pytest.raises(InputError, match=message):
        shapes_of(tiny(), images_of(1, *size))


def test_renormalized_images_have_a_mean_and_deviation_of_half():
    mean, deviation = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    images = np.random.default_rng(0).uniform(size=(2, 15, 15, 3)).astype(np.float32)
    normalized = (images - mean) / deviation
    np.testing.assert_allclose(renormalize(normalized), (images - 0.5) / 0.5, atol=1e-6)
    variables = random_variables(tiny(), images)

    @functools.partial(jax.jit, static_argnums=1)
    def first_map(images, transform_input):
        model = tiny(transform_input=transform_input)
        return model.apply(variables, images, train=False)["c1"]

    expected = first_map(2 * images - 1, False)
    np.testing.assert_allclose(first_map(normalized, True), expected, rtol=1e-4, atol=1e-5)


DROPPED = [("dropout", {"logits"}), ("dropout_aux", {"aux1", "aux2"})]


@pytest.mark.parametrize(("field", "dropped"), long_but(DROPPED, [], DROPPED[1:]))
def test_each_classifier_has_dropout_of_its_own_in_training_only(field, dropped):
    model, images = tiny(aux=True, **{field: 0.5}), images_of()
    variables = random_variables(model, images)
    run = jax.jit(lambda key: train(model, variables, images, key)[0])
    first, second = (run(jax.random.key(seed)) for seed in (0, 1))
    assert {name for name in first if (first[name] != second[name]).any()} == dropped
    with pytest.raises(Exception, match="dropout"):
        jax.eval_shape(functools.partial(train, model), variables, images)
    jax.eval_shape(functools.partial(model.apply, train=False), variables, images)


@pytest.mark.long
def test_the_papers_network_has_its_published_size():
    # That of the channels of its table 1, whose own counts are rounded.
    model = create_model("googlenet_2014", aux=True)
    params = shapes_of(model, images_of(1, 79))[1]["params"]
    assert all(layer.keys() == {"kernel", "bias"} for layer in params.values())
    aux = {key: layer for key, layer in params.items() if key.startswith("aux")}
    assert (size_of(params), size_of(params) - size_of(aux)) == (13_378_280, 6_998_552)
    assert params["inception3a_branch2_1_conv"]["kernel"].shape == (3, 3, 96, 128)
    assert params["inception3a_branch3_1_conv"]["kernel"].shape == (5, 5, 16, 32)
    assert size_of(aux) == sum(
        128 * (channels + 1) + 1024 * (4 * 4 * 128 + 1) + 1000 * (1024 + 1)
        for channels in (512, 528)
    )


@pytest.mark.long
def test_every_map_of_the_papers_network_in_its_shape():
    model = create_model("googlenet_2014", num_classes=7, aux=True)
    maps, _ = shapes_of(model, images_of(2, 224, 79), train=True)
    sizes = ((112, 40), (56, 20), (28, 10), (14, 5), (7, 2))
    widths = (64, 192, 480, 832, 1024)
    check_shapes(maps, 2, sizes, widths, pooled=1024, logits=7, aux1=7, aux2=7)


def test_in_the_paper_a_normalisation_follows_the_first_pooling_and_conv3():
    model, images = tiny("googlenet_2014"), 100 * images_of()
    variables = random_variables(model, images)
    maps = jax.jit(functools.partial(model.apply, train=False))(variables, images)

    def conv(x, name, padding):
        layer = variables["params"][name]
        y = reference.conv(np.asarray(x), layer["kernel"], padding=padding, bias=layer["bias"])
        return np.maximum(y, 0).astype(np.float32)

    normed = functools.partial(local_response_norm, size=5, alpha=5e-4, beta=0.75, k=2.0)
    x = normed(max_pool(maps["c1"], 3, stride=2, ceil_mode=True))
    x = conv(conv(x, "conv2_conv", 0), "conv3_conv", 1)
    np.testing.assert_allclose(maps["c2"], normed(x), rtol=1e-4, atol=1e-4)
    assert np.abs(normed(x) - 2**-0.75 * x).max() > 0.1


def test_in_the_paper_auxiliary_classifiers_see_windows_of_5x5():
    # 14x14 cells have 4x4 windows of stride 3, which are not those of an even division.
    model, images = tiny("googlenet_2014", width=1 / 32, aux=True), images_of(1, 224)
    variables = random_variables(model, images)
    maps, _ = jax.jit(functools.partial(train, model, variables))(images)

    def dense(x, name):
        layer = variables["params"][name]
        return x @ layer["kernel"].reshape(x.shape[-1], -1) + layer["bias"]

    x = np.asarray(avg_pool(maps["c4"], 5, stride=3))
    assert x.shape[1:3] == (4, 4)
    x = np.maximum(dense(x, "aux2_conv_conv"), 0).transpose(0, 3, 1, 2).reshape(1, -1)
    expected = dense(np.maximum(dense(x, "aux2_fc1"), 0), "aux2_fc2")
    np.testing.assert_allclose(maps["aux2"], expected, rtol=1e-4, atol=1e-5)


def test_the_last_pooling_is_larger_in_the_paper():
    stages = (*STAGES, (STAGES[0][0]._replace(aux=None),))
    model, images = tiny("googlenet_2014", stages=stages), images_of(1, 64)
    variables = random_variables(model, images)
    run = jax.jit(
        lambda size: model.clone(last_pool=size).apply(variables, images, train=False),
        static_argnums=0,
    )
    published, other = run(3), run(2)
    assert model.last_pool == 3
    np.testing.assert_array_equal(published["c4"], other["c4"])
    assert published["c5"].shape == other["c5"].shape
    assert (published["c5"] != other["c5"]).any()


@pytest.mark.parametrize(("aux", "least"), [(False, 31), (True, 79)])
def test_images_that_are_too_small_for_the_paper_are_refused(aux, least):
    images = images_of(1, least - 1, least)
    with pytest.raises(InputError, match=f"height of the images is {least - 1}: .* {least}"):
        shapes_of(tiny("googlenet_2014", aux=aux), images)


@pytest.mark.long
@pytest.mark.parity
@pytest.mark.parametrize("transform_input", [False, True])
def test_logits_equal_torchvisions(transform_input):
    options = {"num_classes": 10, "transform_input": transform_input}
    torch, theirs = torchvision_network("googlenet", **options, init_weights=False)
    ours = create_model("googlenet", **options, aux=True)
    check_maps(torch, theirs, ours, images_of(2, 64, 75), {"logits": None})


@pytest.mark.parity
def test_a_training_step_equals_torchvisions():
    torch, theirs = torchvision_network("googlenet", num_classes=10, init_weights=False)
    ours = create_model("googlenet", num_classes=10, aux=True, dropout=0.0, dropout_aux=0.0)
    names = {"logits": "logits", "aux1": "aux_logits1", "aux2": "aux_logits2"}
    check_training_step(torch, theirs, ours, images_of(4, 96, 107), names)
