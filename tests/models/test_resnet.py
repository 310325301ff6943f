"""ResNets: published sizes, every map, dilation for strides, gradients, torchvision's logits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.layers import group_norm
from jaxvision.models import create_model
from tests.marks import slow_but
from tests.models.parity import check_torchvision_logits
from tests.models.structure import check_shapes, check_without_classes, size_of
from tests.models.training import check_bfloat16
from tests.models.variables import check_network_learns, image_maker, random_variables, shapes_of

TINY = {"blocks": (1, 1, 1, 1), "widths": (4, 4, 6, 8), "num_classes": 3}
BASIC = {"bottleneck": False}
GROUPED = {"groups": 2, "width_per_group": 32}
every_block = pytest.mark.parametrize("fields", [BASIC, GROUPED], ids=["basic", "grouped"])
images_of = image_maker(33)


def tiny(**fields):
    return create_model("resnet50", **{**TINY, **fields})


def params_of(name, **fields):
    return shapes_of(create_model(name, **fields), images_of(1))[1]["params"]


SIZES = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x8d": 88_791_336,
    "resnext101_64x4d": 83_455_272,
    "wide_resnet50_2": 68_883_240,
    "wide_resnet101_2": 126_886_696,
}


@pytest.mark.parametrize("name", slow_but(SIZES, ["resnet18", "resnet50", "resnext50_32x4d"]))
def test_every_resnet_has_its_published_size(name):
    # torchvision's numbers; the layers with weights are those of the name.
    params = params_of(name)
    assert size_of(params) == SIZES[name]
    kernels = [key for key, x in params.items() if "kernel" in x and "downsample" not in key]
    depth = name.split("_")[0 if name.startswith("res") else 1].lstrip("resnxt")
    assert len(kernels) == int(depth)


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        ((224, 192), ((112, 96), (56, 48), (28, 24), (14, 12), (7, 6))),
        ((65, 97), ((33, 49), (17, 25), (9, 13), (5, 7), (3, 4))),
        ((1, 1), ((1, 1),) * 5),
    ],
)
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_every_map_in_its_shape(name, size, sizes):
    model = create_model(name, blocks=(1, 1, 1, 1), num_classes=7)
    maps, _ = shapes_of(model, images_of(2, *size), train=True)
    times = {"resnet18": 1, "resnet50": 4}[name]
    widths = (64, *(times * width for width in (64, 128, 256, 512)))
    check_shapes(maps, 2, sizes, widths, pooled=widths[-1], logits=7)


def test_without_classes_there_is_no_classifier():
    check_without_classes(tiny(), images_of(), {"c1", "c2", "c3", "c4", "c5", "pooled"}, "fc")


@pytest.mark.parametrize(("name", "first"), [("resnet34", 2), ("resnet50", 1)])
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


@pytest.mark.slow
@every_block
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


@pytest.mark.parametrize(
    ("fields", "last"), [(BASIC, "bn2"), ({**GROUPED, "norm": group_norm}, "bn3")]
)
def test_blocks_may_begin_as_their_shortcuts(fields, last):
    model, images = tiny(**fields, zero_init_residual=True), images_of(1, 16)

    @jax.jit
    def scales(key):
        params = model.init(key, images, train=False)["params"]
        return {name: layer["scale"] for name, layer in params.items() if "scale" in layer}

    for name, scale in scales(jax.random.key(0)).items():
        expected = 0 if name.startswith("layer") and name.endswith(last) else 1
        assert (scale == expected).all(), name


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bottleneck": False, "groups": 2}, "groups and width_per_group are of bottlenecks"),
        ({"bottleneck": False, "width_per_group": 128}, "set bottleneck=True"),
        ({"norm": None, "zero_init_residual": True}, "zero_init_residual is of norms"),
    ],
)
def test_fields_that_do_not_fit(fields, message):
    with pytest.raises(InputError, match=message):
        shapes_of(tiny(**fields), images_of())


@every_block
def test_every_parameter_gets_a_finite_gradient_that_is_not_zero(fields):
    check_network_learns(tiny(**fields), images_of(4))


def test_bfloat16_computes_in_bfloat16_on_float32_variables():
    check_bfloat16(tiny(**BASIC, dtype=jnp.bfloat16), images_of())


@pytest.mark.parity
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d"])
def test_logits_equal_torchvisions(name):
    check_torchvision_logits(name, images_of(2, 64, 75))
