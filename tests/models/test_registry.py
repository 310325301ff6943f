"""The table of networks, and what holds for every one of them."""

import functools

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import pytest

from jaxvision.core import InputError
from jaxvision.layers import batch_norm
from jaxvision.models import (
    CLASSIFIERS,
    DETECTORS,
    MODELS,
    RESTORERS,
    create_model,
    input_size,
)
from tests.marks import long_but
from tests.models.structure import plain

FIELDS = {"norm", "axis_name", "dtype", "param_dtype"}


# Quick to trace; of others it takes seconds.
QUICK = ["alexnet", "lenet5_1998", "nin_cifar", "resnet20", "vgg11"]
QUICK_OTHERS = ["dncnn_s", "espcn", "fast_yolov1", "unet", "yolov3_tiny", "yolov4_tiny"]
OTHERS = [name for name in MODELS if name not in CLASSIFIERS]
SIZES = {
    **dict.fromkeys(DETECTORS, 64),
    "ssd300_vgg16": 300,
    "ssd512_vgg16": 512,
    **{name: 75 for name in CLASSIFIERS if name.startswith("inception")},
    **{name: input_size(name)[0] for name in CLASSIFIERS if name.startswith(("vit", "maxvit"))},
    "alexnet": 63,
    "alexnet_2012": 39,
    "deconvnet": 224,
    "nin": 39,
    "unet_valid": 188,
    "zfnet": 47,
    "zfnet_512": 47,
}
CLASSES = {"lenet5_1998": 10}
# Traced with few blocks.
SHALLOW = {"resnet1202": {"blocks": 2}, "preact_resnet1001": {"blocks": (2, 2, 2)}}


def shapes_of(name, size=32, **fields):
    model = create_model(name, **SHALLOW.get(name, {}), **fields)
    run = functools.partial(model.init_with_output, train=False)
    return jax.eval_shape(run, jax.random.key(0), jnp.zeros((2, size, size, 3)))


def test_every_model_is_a_module_with_the_common_fields():
    for name in MODELS:
        model = create_model(name, norm=batch_norm, axis_name="batch", dtype=jnp.bfloat16)
        assert isinstance(model, nn.Module), name
        assert model.__dataclass_fields__.keys() >= FIELDS, name
        assert ("num_classes" in model.__dataclass_fields__) == (name not in RESTORERS), name
        assert (model.axis_name, model.dtype) == ("batch", jnp.bfloat16), name


def check_keys(variables):
    """No two variables share a key in torch's naming."""
    paths = flax.traverse_util.flatten_dict(variables)
    torch_leaf = dict.fromkeys(("kernel", "transposed_kernel", "scale"), "weight")
    keys = {"_".join([*path[1:-1], torch_leaf.get(path[-1], path[-1])]) for path in paths}
    assert len(keys) == len(paths)


@pytest.mark.parametrize("name", long_but(CLASSIFIERS, QUICK))
def test_every_classifier_gives_logits_for_its_classes_and_none_without(name):
    size, classes = SIZES.get(name, 32), CLASSES.get(name, 3)
    maps, variables = shapes_of(name, size=size, num_classes=classes, norm=batch_norm)
    assert maps["logits"].shape == (2, classes)
    assert maps["pooled"].ndim == 2
    check_keys(variables)
    assert "logits" not in shapes_of(name, size=size, num_classes=None)[0]


@pytest.mark.parametrize("name", long_but(OTHERS, QUICK_OTHERS))
def test_no_two_variables_of_another_model_share_a_key_in_torchs_naming(name):
    _, variables = shapes_of(name, size=SIZES.get(name, 32), norm=batch_norm)
    check_keys(variables)


def test_an_unknown_field_is_an_error_that_names_the_close_one():
    for name in MODELS:
        with pytest.raises(InputError, match=f"{name} has no field 'param_dtyp'.*'param_dtype'"):
            create_model(name, param_dtyp=jnp.float32)


@pytest.mark.parametrize("field", ["parent", "nonsense"])
def test_what_belongs_to_linen_is_no_field_of_a_model(field):
    with pytest.raises(InputError, match=f"lenet5 has no field '{field}'") as error:
        create_model("lenet5", **{field: None})
    assert "'parent'" not in str(error.value).removeprefix("lenet5 has no field 'parent'")


ROWS = [
    ("alexnet_2012", "stages"),
    ("efficientnet_b0", "stages"),
    ("googlenet", "stages"),
    ("mnasnet1_0", "stages"),
    ("mobilenet_v2", "stages"),
    ("mobilenet_v3_small", "blocks"),
    ("nin", "stages"),
    ("regnet_x_400mf", "stages"),
    ("squeezenet1_1", "stages"),
    ("vgg11", "stages"),
    ("xception", "stages"),
]
QUICK_ROWS = [("alexnet_2012", "stages"), ("mobilenet_v3_small", "blocks"), ("vgg11", "stages")]


@pytest.mark.parametrize(("name", "field"), long_but(ROWS, QUICK_ROWS))
def test_a_config_may_give_rows_as_plain_tuples(name, field):
    rows = getattr(create_model(name), field)[:2]
    named, given = (
        shapes_of(name, num_classes=None, **{field: value}) for value in (rows, plain(rows))
    )
    assert given == named
