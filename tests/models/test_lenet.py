"""LeNet-5, of today and as published: sizes, every map, dtypes, what they refuse."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.layers import batch_norm
from jaxvision.models import create_model
from jaxvision.models.backbones.lenet import CONNECTIONS, PROTOTYPES
from jaxvision.testing import check_op
from tests.models.structure import size_of
from tests.models.variables import random_variables, shapes_of
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


@pytest.mark.long
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


# The paper's table I: a row for each map of S2, a column for each of C3.
TABLE = (
    "X...XXX..XXXX.XX",
    "XX...XXX..XXXX.X",
    "XXX...XXX..X.XXX",
    ".XXX..XXXX..X.XX",
    "..XXX..XXXX.XX.X",
    "...XXX..XXXX.XXX",
)


def test_lenet5_of_1998_has_60000_parameters():
    # Those of section II.B, and their sum there.
    _, variables = shapes_of(create_model("lenet5_1998"), images_of())
    assert {name: size_of(layer) for name, layer in variables["params"].items()} == {
        "c1": 156,
        "s2": 12,
        "c3": 1_516,
        "s4": 32,
        "c5": 48_120,
        "f6": 10_164,
    }
    assert size_of(variables) == 60_000


def test_the_maps_of_c3_see_those_of_s2_that_the_paper_tells():
    seen = tuple(
        tuple(row for row in range(6) if TABLE[row][column] == "X") for column in range(16)
    )
    assert seen == CONNECTIONS
    assert sum(map(len, seen)) == 60


def test_prototypes_are_pictures_of_ten_digits():
    assert PROTOTYPES.shape == (10, 7 * 12)
    assert set(PROTOTYPES.ravel().tolist()) == {-1, 1}
    pictures = PROTOTYPES.reshape(10, 12, 7)
    # A one leans on its middle column, and a zero is the same from both sides.
    assert (pictures[1, :, 3] == 1).all()
    np.testing.assert_array_equal(pictures[0], pictures[0, :, ::-1])
    different = (PROTOTYPES[:, None] != PROTOTYPES).sum(-1)
    assert (different + 84 * np.eye(10)).min() >= 8


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_lenet5_of_1998_gives_every_map_in_its_shape(channels, train):
    maps, _ = shapes_of(create_model("lenet5_1998"), images_of(2, channels), train=train)
    assert {name: x.shape for name, x in maps.items()} == {
        "c1": (2, 28, 28, 6),
        "c3": (2, 10, 10, 16),
        "pooled": (2, 84),
        "logits": (2, 10),
    }


def lenet5_of_1998(variables, images):
    """Map by map."""
    params = jax.tree.map(np.float64, variables["params"])

    def squashed(x):
        return 1.7159 * np.tanh(2 / 3 * x)

    def subsampled(x, name):
        total = 4 * reference.average_pool(x)
        return squashed(total * params[name]["scale"] + params[name]["bias"])

    c1 = squashed(reference.conv(images, params["c1"]["kernel"], bias=params["c1"]["bias"]))
    s2 = subsampled(c1, "s2")
    c3 = np.zeros((len(images), 10, 10, 16)) + params["c3"]["bias"]
    connection = 0
    for column in range(16):
        for row in range(6):
            if TABLE[row][column] == "X":
                kernel = params["c3"]["kernel"][:, :, connection]
                seen = s2[..., row : row + 1]
                c3[..., column] += reference.conv(seen, kernel[:, :, None, None])[..., 0]
                connection += 1
    c3 = squashed(c3)
    s4 = subsampled(c3, "s4")
    c5 = squashed(reference.conv(s4, params["c5"]["kernel"], bias=params["c5"]["bias"]))[:, 0, 0]
    f6 = squashed(c5 @ params["f6"]["kernel"] + params["f6"]["bias"])
    logits = np.zeros((len(images), 10))
    for digit in range(10):
        logits[:, digit] = -((f6 - PROTOTYPES[digit]) ** 2).sum(1)
    return {"c1": c1, "c3": c3, "pooled": f6, "logits": logits}


def test_lenet5_of_1998_equals_the_reference():
    model, images = create_model("lenet5_1998"), images_of()
    variables = random_variables(model, images)
    check_op(
        functools.partial(model.apply, train=False),
        lenet5_of_1998,
        variables,
        images,
        rtol=1e-4,
        atol=1e-5,
        transforms=("jit",),
    )


def test_weights_of_1998_start_within_what_the_inputs_of_their_unit_allow():
    init = functools.partial(create_model("lenet5_1998").init, train=False)
    params = jax.jit(init)(jax.random.key(0), images_of())["params"]
    inputs = 25 * np.repeat([3, 4, 6], [6 * 3, 9 * 4, 6])
    bounds = {"c1": 25, "s2": 4, "c3": inputs, "s4": 4, "c5": 400, "f6": 120}
    for name, layer in params.items():
        weights = layer["scale" if name in ("s2", "s4") else "kernel"]
        shares = np.abs(weights) * bounds[name] / 2.4
        assert 0.7 < shares.max() <= 1 + 1e-6, name
        # The mean of 6 numbers at least.
        assert 0.2 < shares.mean() < 0.8, name
        assert not layer["bias"].any()


def test_lenet5_of_1998_without_classes_has_no_distances():
    maps, variables = shapes_of(create_model("lenet5_1998", num_classes=None), images_of())
    assert maps.keys() == {"c1", "c3", "pooled"}
    assert size_of(variables) == 60_000


def test_classes_without_a_picture_are_refused():
    with pytest.raises(InputError, match=r"num_classes is 7, .* 10 digits.*lenet5"):
        shapes_of(create_model("lenet5_1998", num_classes=7), images_of())


def test_a_norm_of_1998_is_where_todays_is():
    _, variables = shapes_of(create_model("lenet5_1998", norm=batch_norm), images_of())
    assert {name: len(layer["mean"]) for name, layer in variables["batch_stats"].items()} == {
        "bn1": 6,
        "bn3": 16,
    }


@pytest.mark.long
def test_half_precision_of_1998_is_near():
    images = images_of()
    models = [create_model("lenet5_1998", dtype=dtype) for dtype in (jnp.bfloat16, None)]
    variables = random_variables(models[0], images)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    half, single = (applied(model, variables, images) for model in models)
    assert {x.dtype for x in half.values()} == {jnp.dtype(jnp.bfloat16)}
    np.testing.assert_allclose(half["logits"], single["logits"], rtol=0.05)


def test_images_of_another_size_are_refused_in_1998_too():
    with pytest.raises(InputError, match="32x32 images, got 28x32"):
        shapes_of(create_model("lenet5_1998"), jnp.zeros((1, 28, 32, 1)))
