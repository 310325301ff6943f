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
    SEGMENTERS,
    create_model,
    input_size,
)
from tests.marks import slow_but

FIELDS = {"norm", "axis_name", "dtype", "param_dtype"}


# Quick to trace; of the others it takes seconds.
QUICK = {
    "alexnet",
    "darknet19",
    "lenet5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "resnet18",
    "resnet20",
    "shufflenet_v2_x0_5",
    "squeezenet1_0",
    "vgg11",
    *DETECTORS,
    *RESTORERS,
    *SEGMENTERS,
} - {"yolov3", "yolov3_spp", "fcn_resnet50", "fcn_resnet101"}


every_model = pytest.mark.parametrize("name", slow_but(MODELS, QUICK))
every_classifier = pytest.mark.parametrize(
    "name", slow_but(CLASSIFIERS, QUICK & CLASSIFIERS.keys())
)
SIZES = {
    **dict.fromkeys(DETECTORS, 64),
    **{name: input_size(name)[0] for name in CLASSIFIERS if name.startswith(("vit", "maxvit"))},
    "alexnet": 63,
    "deconvnet": 224,
    "inception_v3": 75,
    "unet_valid": 188,
}


def shapes_of(name, size=32, **fields):
    model = create_model(name, **fields)
    run = functools.partial(model.init_with_output, train=False)
    return jax.eval_shape(run, jax.random.key(0), jnp.zeros((2, size, size, 3)))


@every_model
def test_every_model_is_a_module_with_the_common_fields(name):
    model = create_model(name, norm=batch_norm, axis_name="batch", dtype=jnp.bfloat16)
    assert isinstance(model, nn.Module)
    assert model.__dataclass_fields__.keys() >= FIELDS
    assert ("num_classes" in model.__dataclass_fields__) == (name not in RESTORERS)
    assert (model.axis_name, model.dtype) == ("batch", jnp.bfloat16)


@every_classifier
def test_every_classifier_gives_logits_for_its_classes_and_none_without(name):
    size = SIZES.get(name, 32)
    maps, _ = shapes_of(name, size=size, num_classes=3)
    assert maps["logits"].shape == (2, 3)
    assert maps["pooled"].ndim == 2
    assert "logits" not in shapes_of(name, size=size, num_classes=None)[0]


@every_model
def test_no_two_variables_of_a_model_share_a_key_in_torchs_naming(name):
    _, variables = shapes_of(name, size=SIZES.get(name, 32), norm=batch_norm)
    paths = flax.traverse_util.flatten_dict(variables)
    torch_leaf = dict.fromkeys(("kernel", "transposed_kernel", "scale"), "weight")
    keys = {"_".join([*path[1:-1], torch_leaf.get(path[-1], path[-1])]) for path in paths}
    assert len(keys) == len(paths)


@pytest.mark.parametrize(("name", "close"), [("lenet", "lenet5"), ("resnet21", "resnet20")])
def test_an_unknown_model_is_an_error_that_names_the_close_one(name, close):
    with pytest.raises(InputError, match=f"unknown model '{name}': did you mean.*'{close}'"):
        create_model(name)


@every_model
def test_an_unknown_field_is_an_error_that_names_the_close_one(name):
    with pytest.raises(InputError, match=f"{name} has no field 'param_dtyp'.*'param_dtype'"):
        create_model(name, param_dtyp=jnp.float32)


@pytest.mark.parametrize("field", ["parent", "nonsense"])
def test_what_belongs_to_linen_is_no_field_of_a_model(field):
    with pytest.raises(InputError, match=f"lenet5 has no field '{field}'") as error:
        create_model("lenet5", **{field: None})
    assert "'parent'" not in str(error.value).removeprefix("lenet5 has no field 'parent'")


def plain(rows):
    return tuple(map(plain, rows)) if isinstance(rows, tuple) else rows


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("efficientnet_b0", "stages"),
        ("googlenet", "stages"),
        ("mnasnet1_0", "stages"),
        ("mobilenet_v2", "stages"),
        ("mobilenet_v3_small", "blocks"),
        ("regnet_x_400mf", "stages"),
        ("squeezenet1_1", "stages"),
        ("vgg11", "stages"),
    ],
)
def test_a_config_may_give_rows_as_plain_tuples(name, field):
    rows = getattr(create_model(name), field)[:2]
    named, given = (
        shapes_of(name, num_classes=None, **{field: value}) for value in (rows, plain(rows))
    )
    assert given == named
