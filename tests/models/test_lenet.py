"""LeNet-5: the published size, every map, gradients, dtypes, and what it refuses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.layers import batch_norm
from jaxvision.models import create_model
from jaxvision.testing import check_op
from tests.models.variables import check_network_learns, random_variables, shapes_of
from tests.reference import models as reference


def images_of(batch=2, channels=1, size=32):
    shape = (batch, size, size, channels)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def applied(model, variables, images):
    return jax.jit(functools.partial(model.apply, train=False))(variables, images)


def test_lenet5_has_61706_parameters():
    _, variables = shapes_of(create_model("lenet5"), images_of())
    assert variables.keys() == {"params"}
    assert sum(x.size for x in jax.tree.leaves(variables)) == 61_706


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_lenet5_gives_every_map_in_its_shape(channels, train):
    maps, _ = shapes_of(create_model("lenet5", num_classes=7), images_of(2, channels), train=train)
    assert {name: x.shape for name, x in maps.items()} == {
        "c1": (2, 28, 28, 6),
        "c3": (2, 10, 10, 16),
        "pooled": (2, 84),
        "logits": (2, 7),
    }


def test_lenet5_without_classes_has_no_classifier():
    maps, variables = shapes_of(create_model("lenet5", num_classes=None), images_of())
    assert maps.keys() == {"c1", "c3", "pooled"}
    assert variables["params"].keys() == {"c1", "c3", "c5", "f6"}


def test_lenet5_equals_the_reference():
    model, images = create_model("lenet5"), images_of(2, 3)
    variables = random_variables(model, images)
    check_op(
        functools.partial(model.apply, train=False),
        reference.lenet5,
        variables,
        images,
        rtol=1e-4,
        atol=1e-5,
        transforms=("jit",),
    )


def test_without_a_norm_training_and_evaluation_are_the_same():
    model, images = create_model("lenet5"), images_of()
    variables = random_variables(model, images)
    training, evaluation = jax.jit(
        lambda: [model.apply(variables, images, train=train)["logits"] for train in (True, False)]
    )()
    np.testing.assert_array_equal(training, evaluation)


def test_every_parameter_gets_a_finite_gradient_that_is_not_zero():
    check_network_learns(create_model("lenet5"), images_of(4))


def test_bfloat16_computes_in_bfloat16_on_float32_parameters():
    model, images = create_model("lenet5", dtype=jnp.bfloat16), images_of()
    variables = random_variables(model, images)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    maps = applied(model, variables, images)
    assert {x.dtype for x in maps.values()} == {jnp.dtype(jnp.bfloat16)}
    expected = applied(create_model("lenet5"), variables, images)["logits"]
    np.testing.assert_allclose(maps["logits"], expected, atol=0.03)


def test_param_dtype_is_the_dtype_of_every_parameter():
    _, variables = shapes_of(create_model("lenet5", param_dtype=jnp.bfloat16), images_of())
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype(jnp.bfloat16)}


def test_the_activation_can_be_changed():
    model, images = create_model("lenet5", activation=jax.nn.relu), images_of()
    maps = applied(model, random_variables(model, images), images)
    assert maps["c1"].max() > 1
    assert maps["c1"].min() == maps["pooled"].min() == 0


def test_a_batch_norm_learns_its_statistics_in_training_only():
    model, images = create_model("lenet5", norm=batch_norm), images_of()
    variables = random_variables(model, images)
    assert variables["batch_stats"].keys() == {"bn1", "bn3"}

    @jax.jit
    def statistics():
        apply = functools.partial(model.apply, variables, images, mutable=["batch_stats"])
        return [apply(train=train)[1]["batch_stats"] for train in (True, False)]

    trees = (variables["batch_stats"], *statistics())
    for old, new, same in zip(*map(jax.tree.leaves, trees), strict=True):
        assert (new != old).all()
        np.testing.assert_array_equal(same, old)


@pytest.mark.parametrize(("height", "width"), [(28, 28), (32, 28), (28, 32), (64, 64)])
def test_images_of_another_size_are_refused_with_the_fix(height, width):
    images = jnp.zeros((1, height, width, 1))
    with pytest.raises(InputError, match=f"32x32 images, got {height}x{width}: .*image_size=32"):
        create_model("lenet5").init(jax.random.key(0), images, train=False)


def test_one_image_without_a_batch_is_refused():
    with pytest.raises(AssertionError, match="rank"):
        create_model("lenet5").init(jax.random.key(0), jnp.zeros((32, 32, 1)), train=False)
