"""The table of networks, and what holds for every one of them."""

import functools

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import pytest

from jaxvision.core import InputError
from jaxvision.layers import batch_norm
from jaxvision.models import CLASSIFIERS, DETECTORS, MODELS, RESTORERS, create_model

FIELDS = {"norm", "axis_name", "dtype", "param_dtype"}


def each(names):
    """The deepest take seconds to trace."""
    deep = ("101", "152", "yolov3")
    slow = [pytest.mark.slow if any(part in name for part in deep) else () for name in names]
    return [pytest.param(name, marks=marks) for name, marks in zip(names, slow, strict=True)]


every_model = pytest.mark.parametrize("name", each(MODELS))
every_classifier = pytest.mark.parametrize("name", each(CLASSIFIERS))
SIZES = dict.fromkeys(DETECTORS, 64) | {"deconvnet": 224, "unet_valid": 188}


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
    maps, _ = shapes_of(name, num_classes=3)
    assert maps["logits"].shape == (2, 3)
    assert maps["pooled"].ndim == 2
    assert "logits" not in shapes_of(name, num_classes=None)[0]


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
