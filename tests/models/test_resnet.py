"""ResNets: published sizes, every map, dilation for strides, what plain networks lack and what
squeeze-and-excitation adds, torchvision's logits."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.layers import group_norm
from jaxvision.models import create_model
from tests.marks import long_but
from tests.models.parity import check_torchvision_logits
from tests.models.structure import check_shapes, check_without_classes, size_of
from tests.models.variables import image_maker, random_variables, shapes_of

TINY = {"blocks": (1, 1, 1, 1), "widths": (4, 4, 6, 8), "num_classes": 3}
BASIC = {"bottleneck": False}
GROUPED = {"groups": 2, "width_per_group": 32}
PLAIN = {"bottleneck": False, "shortcuts": False}
SQUEEZED = {"squeeze": 2}
STRIDED_FIRST = {"stride_in_1x1": True}
BLOCKS = [BASIC, GROUPED, STRIDED_FIRST]
images_of = image_maker(33)


def tiny(**fields):
    return create_model("resnet50", **{**TINY, **fields})


def params_of(name, **fields):
    return shapes_of(create_model(name, **fields), images_of(1))[1]["params"]


SIZES = {
    "plain18": 11_515_688,
    "plain34": 21_623_848,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x8d": 88_791_336,
    "resnext101_64x4d": 83_455_272,
    "se_resnet50": 28_088_024,
    "se_resnet101": 49_326_872,
    "se_resnet152": 66_821_848,
    "se_resnext50_32x4d": 27_559_896,
    "se_resnext101_32x4d": 48_955_416,
    "wide_resnet50_2": 68_883_240,
    "wide_resnet101_2": 126_886_696,
}


QUICK = ["plain18", "resnet18"]
SLOW = ["resnet50", "se_resnet50"]


@pytest.mark.parametrize("name", long_but(SIZES, QUICK, SLOW))
def test_every_resnet_has_its_published_size(name):
    # torchvision's numbers, where it has the network; the layers with weights are those of the
    # name.
    params = params_of(name)
    assert size_of(params) == SIZES[name]
    layers = [
        key for key, x in params.items() if "kernel" in x and not re.search("downsam|_se_", key)
    ]
    assert len(layers) == int(re.search(r"\d+", name)[0])


@pytest.mark.parametrize("name", long_but(["18", "34"], ["18"]))
def test_a_plain_network_lacks_the_projections_alone(name):
    # The first three stages' channels meet those of the next in one 1x1 convolution and its norm.
    projections = sum(64 * 2**i * 128 * 2**i + 2 * 128 * 2**i for i in range(3))
    assert SIZES[f"resnet{name}"] - SIZES[f"plain{name}"] == projections
    lacking = params_of(f"resnet{name}").keys() - params_of(f"plain{name}").keys()
    assert all("downsample" in key for key in lacking)
    assert len(lacking) == 2 * 3


@pytest.mark.parametrize(
    ("name", "blocks", "millions"),
    long_but(
        [
            ("se_resnet50", (3, 4, 6, 3), 28.09),
            ("se_resnet101", (3, 4, 23, 3), 49.33),
            ("se_resnet152", (3, 8, 36, 3), 66.82),
            ("se_resnext50_32x4d", (3, 4, 6, 3), 27.56),
            ("se_resnext101_32x4d", (3, 4, 23, 3), 48.96),
        ],
        [],
        [("se_resnet50", (3, 4, 6, 3), 28.09)],
    ),
)
def test_squeeze_and_excitation_adds_two_layers_to_each_block(name, blocks, millions):
    added = 0
    for count, channels in zip(blocks, (256, 512, 1024, 2048), strict=True):
        inner = channels // 16
        added += count * (channels * inner + inner + inner * channels + channels)
    assert size_of(params_of(name, squeeze=None)) + added == SIZES[name]
    assert round(SIZES[name] / 1e6, 2) == millions


SHAPES = [
    ((224, 192), ((112, 96), (56, 48), (28, 24), (14, 12), (7, 6))),
    ((65, 97), ((33, 49), (17, 25), (9, 13), (5, 7), (3, 4))),
    ((1, 1), ((1, 1),) * 5),
]


@pytest.mark.parametrize(("size", "sizes"), long_but(SHAPES, SHAPES[1:2]))
@pytest.mark.parametrize("name", long_but(["resnet18", "resnet50"], ["resnet50"]))
def test_every_map_in_its_shape(name, size, sizes):
    model = create_model(name, blocks=(1, 1, 1, 1), num_classes=7)
    maps, _ = shapes_of(model, images_of(2, *size), train=True)
    times = {"resnet18": 1, "resnet50": 4}[name]
    widths = (64, *(times * width for width in (64, 128, 256, 512)))
    check_shapes(maps, 2, sizes, widths, pooled=widths[-1], logits=7)


def test_without_classes_there_is_no_classifier():
    check_without_classes(tiny(), images_of(), {"c1", "c2", "c3", "c4", "c5", "pooled"}, "fc")


FIRST = [("resnet18", 2), ("resnet50", 1)]


@pytest.mark.parametrize(("name", "first"), long_but(FIRST, FIRST[:1], FIRST[1:]))
def test_there_is_a_projection_where_the_shape_changes_only(name, first):
    projections = {key for key in params_of(name) if "downsample" in key}
    assert projections == {
        f"layer{stage}_0_downsample_{part}" for stage in range(first, 5) for part in (0, 1)
    }


def test_a_projection_does_not_depend_on_the_images():
    # At one pixel a stride leaves the size, and with equal widths the channels stay too.
    fields = {**BASIC, "widths": (4, 4, 4, 4)}
    one, many = (shapes_of(tiny(**fields), images_of(1, size))[1] for size in (1, 64))
    assert jax.tree.map(jnp.shape, one) == jax.tree.map(jnp.shape, many)
    assert "layer4_0_downsample_0" in one["params"]


@pytest.mark.parametrize("fields", long_but(BLOCKS, [], BLOCKS[:1]))
def test_dilation_for_strides_computes_the_same_on_a_finer_grid(fields):
    fields, images = {**fields, "blocks": (1, 1, 2, 2)}, images_of(1, 65, 94)
    variables = random_variables(tiny(**fields), images)

    @functools.partial(jax.jit, static_argnums=1)
    def maps_of(variables, replaced):
        model = tiny(**fields, replace_stride_with_dilation=replaced)
        return model.apply(variables, images, train=False)

    coarse = maps_of(variables, (False, False, False))
    for replaced, steps in (((False, True, True), (1, 2, 4)), ((True, False, True), (2, 2, 4))):
        fine = maps_of(variables, replaced)
        for name, step in zip(("c3", "c4", "c5"), steps, strict=True):
            np.testing.assert_allclose(
                fine[name][:, ::step, ::step], coarse[name], rtol=1e-3, atol=1e-4
            )


LAST = [(BASIC, "bn2"), ({**GROUPED, "norm": group_norm}, "bn3")]


@pytest.mark.parametrize(("fields", "last"), long_but(LAST, LAST[:1]))
def test_blocks_may_begin_as_their_shortcuts(fields, last):
    model, images = tiny(**fields, zero_init_residual=True), images_of(1, 16)

    @jax.jit
    def scales(key):
        params = model.init(key, images, train=False)["params"]
        return {name: layer["scale"] for name, layer in params.items() if "scale" in layer}

    for name, scale in jax.device_get(scales(jax.random.key(0))).items():
        expected = 0 if name.startswith("layer") and name.endswith(last) else 1
        assert (scale == expected).all(), name


def changed(variables, last, change):
    """Variables in which what change gives stands for the layers whose names end so."""
    params = variables["params"].items()
    params = {key: change(layer) if key.endswith(last) else layer for key, layer in params}
    return {**variables, "params": params}


def times(share):
    return functools.partial(jax.tree.map, lambda x: share * x)


@functools.partial(jax.jit, static_argnums=0)
def after_first_block(model, variables, images):
    return model.apply(variables, images, train=False)["c2"]


def test_blocks_of_a_plain_network_give_nothing_but_what_they_compute():
    # Where that is zero, a residual network still sees the images.
    images = images_of()
    for fields, sees in ((PLAIN, False), (BASIC, True)):
        model = tiny(**fields)
        variables = random_variables(model, images)
        zero = changed(variables, "layer1_0_bn2", times(0))
        assert (np.ptp(after_first_block(model, zero, images)) > 0.1) == sees
        assert np.ptp(after_first_block(model, variables, images)) > 0.1


SCALED = [(BASIC, "bn2"), (GROUPED, "bn3")]


@pytest.mark.parametrize(("fields", "last"), long_but(SCALED, SCALED[:1]))
def test_squeeze_and_excitation_scales_a_block_before_the_shortcut_is_added(fields, last):
    model, without, images = tiny(**fields, **SQUEEZED), tiny(**fields), images_of()
    variables = random_variables(model, images)
    fewer = {key: layer for key, layer in variables["params"].items() if "_se_" not in key}
    for bias, gate in ((100, 1), (0, 0.5), (-200, 0)):

        def constant(layer, bias=bias):
            return {"kernel": 0 * layer["kernel"], "bias": 0 * layer["bias"] + bias}

        gated = changed(variables, "layer1_0_se_fc2", constant)
        scaled = changed({**variables, "params": fewer}, f"layer1_0_{last}", times(gate))
        found, expected = (
            after_first_block(*network, images) for network in ((model, gated), (without, scaled))
        )
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        # Else the gates depend on the images.
        assert np.abs(after_first_block(model, variables, images) - found).max() > 0.1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bottleneck": False, "groups": 2}, "groups, width_per_group and stride_in_1x1 need"),
        ({"bottleneck": False, "stride_in_1x1": True}, "set bottleneck=True"),
        ({"bottleneck": False, "width_per_group": 128}, "set bottleneck=True"),
        ({"norm": None, "zero_init_residual": True}, "zero_init_residual needs norms"),
        (
            {"shortcuts": False, "zero_init_residual": True},
            "need shortcuts: set shortcuts=True",
        ),
        ({"shortcuts": False, "drop_path": 0.1}, "need shortcuts: set shortcuts=True"),
        ({"squeeze": 32}, "squeeze is 32: give at least 1 and at most 16"),
        ({"squeeze": 0}, "squeeze is 0: give at least 1 and at most 16"),
    ],
)
def test_fields_that_do_not_fit(fields, message):
    with pytest.raises(InputError, match=message):
        shapes_of(tiny(**fields), images_of())


@pytest.mark.parity
@pytest.mark.parametrize("name", long_but(["resnet50", "resnext50_32x4d"], ["resnet50"]))
def test_logits_equal_torchvisions(name):
    check_torchvision_logits(name, images_of(2, 64, 75))
