"""DenseNets: published sizes, every map, what layers see, torchvision's logits."""

import functools
import re

import jax
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.interop import from_state_dict, to_state_dict
from jaxvision.models import create_model
from jaxvision.testing import check_op
from tests.marks import long_but
from tests.models.parity import torchvision_network
from tests.models.structure import check_shapes, check_without_classes, check_without_norm, size_of
from tests.models.training import check_training_step
from tests.models.variables import image_maker, random_variables, shapes_of
from tests.reference import models as reference

TINY = {"blocks": (1, 2), "growth_rate": 2, "stem_channels": 4, "bottleneck": 2, "num_classes": 3}
images_of = image_maker(16)


def tiny(**fields):
    return create_model("densenet121", **{**TINY, **fields})


def tiny_cifar(**fields):
    fields |= {name: TINY[name] for name in ("blocks", "growth_rate", "stem_channels")}
    return create_model("densenet_cifar_40_12", num_classes=3, **fields)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        pytest.param("densenet121", 7_978_856, marks=pytest.mark.slow),
        pytest.param("densenet161", 28_681_000, marks=pytest.mark.long),
        pytest.param("densenet169", 14_149_480, marks=pytest.mark.long),
        pytest.param("densenet201", 20_013_928, marks=pytest.mark.long),
    ],
)
def test_every_densenet_has_its_published_size(name, count):
    # torchvision's numbers; the layers with weights are those of the name.
    params = shapes_of(create_model(name), images_of(1, 32))[1]["params"]
    assert size_of(params) == count
    assert sum("kernel" in x for x in params.values()) == int(name.removeprefix("densenet"))


CIFAR = [
    ("densenet_cifar_40_12", (40, 12, 16, False), 1_019_722),
    ("densenet_cifar_100_12", (100, 12, 16, False), 6_979_642),
    ("densenet_cifar_bc_100_12", (100, 12, 24, True), 769_162),
    ("densenet_cifar_bc_190_40", (190, 40, 80, True), 25_624_430),
]


@pytest.mark.parametrize(("name", "plan", "count"), long_but(CIFAR, [], CIFAR[:1]))
def test_every_densenet_for_cifar_has_its_published_size(name, plan, count):
    # The paper's table 2: 1.0, 7.0, 0.8 and 25.6 million. Before each convolution but the first
    # there is a norm, with two numbers for each channel that it sees.
    depth, growth, channels, compressed = plan
    derived = 27 * channels
    for block in range(3):
        for _ in range((depth - 4) // (6 if compressed else 3)):
            seen = 4 * growth if compressed else channels
            derived += compressed * channels * (2 + seen) + seen * (2 + 9 * growth)
            channels += growth
        if block < 2:
            kept = channels // 2 if compressed else channels
            derived += channels * (2 + kept)
            channels = kept
    derived += 2 * channels + (channels + 1) * 10
    params = shapes_of(create_model(name), images_of(1, 32))[1]["params"]
    assert size_of(params) == derived == count
    assert sum("kernel" in x for x in params.values()) == depth


SHAPES = [
    ((224, 192), ((112, 96), (56, 48), (28, 24), (14, 12), (7, 6))),
    ((29, 61), ((15, 31), (8, 16), (4, 8), (2, 4), (1, 2))),
    ((33, 97), ((17, 49), (9, 25), (4, 12), (2, 6), (1, 3))),
]


@pytest.mark.parametrize(("size", "sizes"), long_but(SHAPES, SHAPES[1:2]))
def test_every_map_in_its_shape(size, sizes):
    model = create_model("densenet121", blocks=(1, 2, 1, 2), num_classes=7)
    maps, _ = shapes_of(model, images_of(2, *size), train=True)
    # A block adds 32 channels a layer, and the transition after it halves them all.
    widths = (64, 96, 48 + 64, 56 + 32, 44 + 64)
    check_shapes(maps, 2, sizes, widths, pooled=108, logits=7)


@pytest.mark.long
@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        ((32, 48), ((32, 48), (32, 48), (16, 24), (8, 12))),
        ((4, 7), ((4, 7), (4, 7), (2, 3), (1, 1))),
    ],
)
def test_every_map_of_a_densenet_for_cifar_in_its_shape(size, sizes):
    model = create_model("densenet_cifar_40_12", blocks=(1, 2, 1), num_classes=7)
    maps, _ = shapes_of(model, images_of(2, *size), train=True)
    check_shapes(maps, 2, sizes, (16, 28, 52, 64), pooled=64, logits=7)


def test_a_densenet_for_cifar_equals_the_reference():
    def network(variables, images):
        params, statistics = variables["params"], variables["batch_stats"]

        def norm_act(x, name):
            return np.maximum(reference.batch_norm(x, params[name], statistics[name]), 0)

        maps = {"c1": reference.conv(images, params["features_conv0"]["kernel"], padding=1)}
        x = maps["c1"]
        for block, layers in enumerate((1, 2), start=1):
            for number in range(1, layers + 1):
                name = f"features_denseblock{block}_denselayer{number}"
                y, kernel = norm_act(x, f"{name}_norm1"), params[f"{name}_conv1"]["kernel"]
                x = np.concatenate([x, reference.conv(y, kernel, padding=1)], axis=-1)
            last = "features_transition1_norm" if block == 1 else "features_norm5"
            y = maps[f"c{block + 1}"] = norm_act(x, last)
            if block == 1:
                kernel = params["features_transition1_conv"]["kernel"]
                x = reference.average_pool(reference.conv(y, kernel))
        pooled = y.mean(axis=(1, 2))
        logits = pooled @ params["classifier"]["kernel"] + params["classifier"]["bias"]
        return {**maps, "pooled": pooled, "logits": logits}

    model, images = tiny_cifar(), images_of(1, 6, 8)
    variables = random_variables(model, images)
    run = functools.partial(model.apply, train=False)
    check_op(run, network, variables, images, rtol=1e-4, atol=1e-5, transforms=("jit",))


def test_without_classes_there_is_no_classifier():
    check_without_classes(tiny(), images_of(), {"c1", "c2", "c3", "pooled"}, "classifier")


def test_without_norms_convolutions_have_a_bias():
    check_without_norm(tiny(), images_of())
    check_without_norm(tiny_cifar(), images_of())


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((28, 40), r"the height of the images is 28: this network takes 29\b"),
        ((64, 3), r"the width of the images is 3: this network takes 29\b"),
    ],
)
def test_images_that_are_too_small_are_refused(size, message):
    with pytest.raises(InputError, match=message):
        shapes_of(create_model("densenet121"), images_of(1, *size))


def test_images_that_are_too_small_for_cifars_are_refused():
    with pytest.raises(InputError, match=r"the height of the images is 3: this network takes 4\b"):
        shapes_of(create_model("densenet_cifar_40_12"), images_of(1, 3, 32))


@pytest.mark.parity
def test_a_step_of_training_equals_torchvisions():
    # As published, but for the number of layers.
    fields = {"growth_rate": 32, "block_config": (3, 2, 2, 3), "num_init_features": 64}
    torch, theirs = torchvision_network("DenseNet", **fields, num_classes=10)
    ours = create_model("densenet121", blocks=(3, 2, 2, 3), num_classes=10)
    check_training_step(torch, theirs, ours, images_of(4, 64, 75))


def test_keys_of_torchvisions_older_files():
    model = tiny()
    variables = random_variables(model, images_of())
    state = to_state_dict(variables, model=model)
    older = {re.sub(r"(denselayer\d+\.\w+?)(\d)\.", r"\1.\2.", key): x for key, x in state.items()}
    assert any(".denselayer1.norm.2." in key for key in older)
    found = from_state_dict(older, variables)
    jax.tree.map(np.testing.assert_array_equal, found, variables)
