"""MobileNetV2: the published size, every map, gradients, dropout, dtypes, torchvision's logits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.interop import from_state_dict
from jaxvision.models import create_model
from jaxvision.models.backbones.mobilenet_v2 import Stage, scaled
from tests.models.variables import check_network_learns, random_variables, shapes_of
from tests.ops.parity import import_torchvision

TINY = (Stage(1, 8, 1, 1, "c1"), Stage(2, 8, 2, 2, "c2"), Stage(2, 16, 1, 1, "c3"))


def tiny(**fields):
    return create_model("mobilenet_v2", stages=TINY, width=0.5, num_classes=3, **fields)


def images_of(batch=2, size=32):
    return np.random.default_rng(0).normal(size=(batch, size, size, 3)).astype(np.float32)


@pytest.mark.parametrize(("width", "count"), [(1.0, 3_504_872), (1.4, 6_108_776), (0.5, 1_968_680)])
def test_mobilenet_v2_has_its_published_size(width, count):
    # The paper's table 4: 3.4 and 6.9 million; the exact numbers are torchvision's and Keras's.
    _, variables = shapes_of(create_model("mobilenet_v2", width=width), images_of(1))
    assert sum(x.size for x in jax.tree.leaves(variables["params"])) == count


@pytest.mark.parametrize(
    ("size", "sizes"), [(224, (112, 56, 28, 14, 7)), (65, (33, 17, 9, 5, 3)), (1, (1,) * 5)]
)
@pytest.mark.parametrize("train", [False, True])
def test_mobilenet_v2_gives_every_map_in_its_shape(size, sizes, train):
    model = create_model("mobilenet_v2", num_classes=7, dropout=0.0)
    maps, _ = shapes_of(model, images_of(2, size), train=train)
    widths = (16, 24, 32, 96, 320)
    expected = {
        f"c{i}": (2, s, s, w) for i, (s, w) in enumerate(zip(sizes, widths, strict=True), start=1)
    }
    assert {name: x.shape for name, x in maps.items()} == {
        **expected,
        "pooled": (2, 1280),
        "logits": (2, 7),
    }


def test_without_classes_there_is_no_classifier():
    maps, variables = shapes_of(create_model("mobilenet_v2", num_classes=None), images_of())
    assert "logits" not in maps
    assert "classifier_1" not in variables["params"]


@pytest.mark.parametrize(
    ("channels", "width", "expected"),
    [(32, 1.0, 32), (16, 0.35, 8), (24, 0.5, 16), (96, 0.35, 32), (1280, 1.4, 1792), (8, 0.1, 8)],
)
def test_scaled_channels_are_multiples_of_8(channels, width, expected):
    assert scaled(channels, width) == expected


def test_every_parameter_gets_a_finite_gradient_that_is_not_zero():
    check_network_learns(tiny(dropout=0.0), images_of(4))


def test_dropout_needs_a_key_in_training_only():
    model, images = tiny(dropout=0.5), images_of()
    variables = random_variables(model, images)
    run = functools.partial(model.apply, variables, images, mutable=["batch_stats"])
    evaluated = [run(train=False)[0]["logits"] for _ in range(2)]
    np.testing.assert_array_equal(*evaluated)
    with pytest.raises(Exception, match="dropout"):
        run(train=True)
    trained = [
        run(train=True, rngs={"dropout": jax.random.key(seed)})[0]["logits"] for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(trained[0], trained[1])
    assert (trained[0] != trained[2]).any()


@pytest.mark.parametrize("train", [False, True])
def test_bfloat16_computes_in_bfloat16_on_float32_variables(train):
    model, images = tiny(dtype=jnp.bfloat16, dropout=0.0), images_of()
    variables = random_variables(model, images)
    run = jax.jit(functools.partial(model.apply, train=train, mutable=["batch_stats"]))
    maps, statistics = run(variables, images)
    assert {x.dtype for x in jax.tree.leaves((variables, statistics))} == {jnp.dtype("f4")}
    for name, x in maps.items():
        assert x.dtype == jnp.bfloat16, name
        assert np.isfinite(x).all(), name


@pytest.mark.parity
def test_logits_equal_torchvisions():
    torch, models = import_torchvision("models")
    torch.manual_seed(0)
    theirs = models.mobilenet_v2(num_classes=10, width_mult=0.75).eval()
    with torch.no_grad():
        for module in theirs.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 2)
    ours, images = create_model("mobilenet_v2", num_classes=10, width=0.75), images_of(2, 96)
    state = {key: value.numpy().copy() for key, value in theirs.state_dict().items()}
    variables = from_state_dict(state, shapes_of(ours, images)[1])
    with torch.no_grad():
        expected = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    logits = ours.apply(variables, images, train=False)["logits"]
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()
