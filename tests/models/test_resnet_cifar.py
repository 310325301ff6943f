"""CIFAR ResNets: published sizes, every map, batch norm alone and over devices."""

import functools
import re

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxvision.layers import batch_norm
from jaxvision.models import create_model
from jaxvision.models.backbones.resnet_cifar import option_a_shortcut
from jaxvision.testing import check_op
from tests.marks import long_but
from tests.models.structure import check_without_norm, size_of
from tests.models.variables import random_variables, shapes_of
from tests.reference import models as reference

TINY = {"blocks": 1, "widths": (4, 6, 9)}


def tiny(**fields):
    return create_model("resnet20", num_classes=3, **TINY, **fields)


def images_of(batch=2, size=8):
    return np.random.default_rng(0).normal(size=(batch, size, size, 3)).astype(np.float32)


SIZES = {
    "plain20": 269_722,
    "plain32": 464_154,
    "plain44": 658_586,
    "plain56": 853_018,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "resnet1202": 19_421_274,
}


@pytest.mark.parametrize("name", long_but(SIZES, ["resnet20"], ["plain20"]))
def test_every_network_has_its_published_size(name):
    # The paper's table 6: 0.27, 0.46, 0.66, 0.85, 1.7 and 19.4 million.
    params = shapes_of(create_model(name), images_of(1, 32))[1]["params"]
    assert size_of(params) == SIZES[name]
    assert sum("kernel" in layer for layer in params.values()) == int(re.search(r"\d+", name)[0])


SHAPES = [(32, (32, 32, 16, 8)), (9, (9, 9, 5, 3)), (1, (1, 1, 1, 1))]


@pytest.mark.parametrize(("size", "sizes"), long_but(SHAPES, SHAPES[1:2]))
@pytest.mark.parametrize("train", long_but([False, True], [True]))
def test_resnet20_gives_every_map_in_its_shape(size, sizes, train):
    maps, _ = shapes_of(create_model("resnet20", num_classes=7), images_of(2, size), train=train)
    widths = (16, 16, 32, 64)
    expected = {
        f"c{i}": (2, s, s, w) for i, (s, w) in enumerate(zip(sizes, widths, strict=True), start=1)
    }
    assert {name: x.shape for name, x in maps.items()} == {
        **expected,
        "pooled": (2, 64),
        "logits": (2, 7),
    }


def test_without_classes_there_is_no_classifier():
    maps, variables = shapes_of(create_model("resnet20", num_classes=None), images_of(2, 8))
    assert maps.keys() == {"c1", "c2", "c3", "c4", "pooled"}
    assert "fc" not in variables["params"]


def test_without_norms_convolutions_have_a_bias():
    check_without_norm(tiny(norm=None), images_of())


REFERENCE = [(8, True), (7, True), (7, False)]


@pytest.mark.parametrize(("size", "shortcuts"), long_but(REFERENCE, REFERENCE[1:]))
def test_the_network_equals_the_reference(size, shortcuts):
    model, images = tiny(shortcuts=shortcuts), images_of(2, size)
    check_op(
        functools.partial(model.apply, train=False),
        functools.partial(reference.resnet_cifar, shortcuts=shortcuts, **TINY),
        random_variables(model, images),
        images,
        rtol=1e-4,
        atol=1e-5,
        transforms=("jit",),
    )


@pytest.mark.parametrize(
    ("height", "width", "stride", "features"),
    [(4, 6, 1, 3), (4, 6, 2, 3), (4, 6, 2, 4), (5, 3, 2, 8), (7, 7, 3, 5)],
)
def test_option_a_shortcut_equals_the_reference(transform, height, width, stride, features):
    x = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype(np.float32)
    actual = transform(functools.partial(option_a_shortcut, features=features, stride=stride))(x)
    np.testing.assert_array_equal(actual, reference.option_a_shortcut(x, features, stride))


def test_training_updates_every_statistic_and_evaluation_none():
    model, images = tiny(), images_of()
    variables = random_variables(model, images)

    @jax.jit
    def statistics():
        apply = functools.partial(model.apply, variables, images, mutable=["batch_stats"])
        return [apply(train=train)[1]["batch_stats"] for train in (True, False)]

    before = jax.tree.leaves_with_path(variables["batch_stats"])
    after, evaluated = map(jax.tree.leaves, statistics())
    for (path, old), new, same in zip(before, after, evaluated, strict=True):
        assert np.abs(np.asarray(new) - old).max() > 1e-3, path
        np.testing.assert_array_equal(same, old)


def test_convolutions_start_as_in_he_et_al_and_norms_as_the_identity():
    model = create_model("resnet20", blocks=1, widths=(8, 8, 8))
    init = jax.jit(functools.partial(model.init, train=False))
    variables = jax.device_get(init(jax.random.key(0), images_of()))
    start = {"bias": 0, "mean": 0, "scale": 1, "var": 1}
    for path, value in jax.tree.leaves_with_path(variables):
        leaf = path[-1].key
        if leaf == "kernel" and value.ndim == 4:
            fan_out = value[..., 0, :].size
            # A standard deviation estimated from n values is off by 1 / sqrt(2 n).
            deviations = (value.std() / (2 / fan_out) ** 0.5 - 1) * (2 * value.size) ** 0.5
            assert abs(deviations) < 4, path
        elif leaf != "kernel":
            np.testing.assert_array_equal(value, start[leaf])


class Normed(nn.Module):
    """A batch norm and nothing else."""

    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, *, train):
        return batch_norm(x, name="bn", train=train, axis_name=self.axis_name)


def trained(model, variables, x):
    return model.apply(variables, x, train=True, mutable=["batch_stats"])


def on_four_devices(model, variables, x):
    """Outputs put together again, and the statistics of each device."""
    run = jax.pmap(functools.partial(trained, model), axis_name="batch", in_axes=(None, 0))
    out, statistics = run(variables, x.reshape(4, -1, *x.shape[1:]))
    return jax.tree.map(lambda y: y.reshape(-1, *y.shape[2:]), out), statistics


def largest_difference(trees, others):
    differences = jax.tree.map(
        lambda a, b: np.abs(np.asarray(a) - np.asarray(b)).max(), trees, others
    )
    return max(jax.tree.leaves(differences))


def test_a_batch_norm_synchronised_over_devices_equals_the_whole_batch():
    rng = np.random.default_rng(0)
    # Every device sees another mean, so that unsynchronised statistics are far off.
    x = (rng.normal(size=(16, 3, 3, 2)) + np.arange(16)[:, None, None, None] / 8).astype("f4")
    init = jax.jit(functools.partial(Normed().init, train=False))
    variables = jax.device_get(init(jax.random.key(0), x))
    whole, whole_statistics = jax.jit(functools.partial(trained, Normed()))(variables, x)

    out, statistics = on_four_devices(Normed("batch"), variables, x)
    assert largest_difference(out, whole) < 1e-6
    for device in range(4):
        of_device = jax.tree.map(lambda y, i=device: y[i], statistics)
        assert largest_difference(of_device, whole_statistics) < 1e-6

    alone, _ = on_four_devices(Normed(), variables, x)
    assert largest_difference(alone, whole) > 0.1


def test_batch_norm_normalises_and_keeps_nine_tenths_of_its_statistics():
    x = np.random.default_rng(0).normal(3, 2, (16, 4, 4, 2)).astype(np.float32)

    @jax.jit
    def run(key):
        return trained(Normed(), Normed().init(key, x, train=False), x)

    out, statistics = run(jax.random.key(0))
    mean, var = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
    np.testing.assert_allclose(out, (x - mean) / np.sqrt(var + 1e-5), atol=1e-5)
    bn = statistics["batch_stats"]["bn"]
    np.testing.assert_allclose(bn["mean"], 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(bn["var"], 0.9 + 0.1 * var, rtol=1e-5)


@pytest.mark.slow
def test_the_network_on_four_devices_equals_the_whole_batch():
    images = images_of(8)
    variables = random_variables(tiny(), images)
    whole, whole_statistics = jax.jit(functools.partial(trained, tiny()))(variables, images)
    maps, statistics = on_four_devices(tiny(axis_name="batch"), variables, images)
    assert largest_difference(maps, whole) < 1e-5
    first = jax.tree.map(lambda y: y[0], statistics)
    assert largest_difference(first, whole_statistics) < 1e-5
