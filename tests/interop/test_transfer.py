"""Weights of one network in another."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.interop.transfer import transfer


def variables_of(number, *, classes=3, backbone=False):
    layers = {"conv1": {"kernel": np.full((3, 3, 1, 4), number, "f4")}}
    statistics = {"bn1": {"mean": np.full(4, number, "f4")}}
    if backbone:
        layers, statistics = {"backbone": layers}, {"backbone": statistics}
    layers["head"] = {"kernel": np.full((4, classes), number, "f4")}
    return {"params": layers, "batch_stats": statistics}


def test_the_same_network_is_taken_whole():
    result = transfer(variables_of(1), variables_of(2))
    assert result.own == result.recolored == []
    assert sorted(result.taken) == ["bn1/mean", "conv1/kernel", "head/kernel"]
    assert (result.variables["params"]["head"]["kernel"] == 2).all()
    assert (result.variables["batch_stats"]["bn1"]["mean"] == 2).all()


def test_another_number_of_classes_leaves_the_head_as_it_is():
    result = transfer(variables_of(1), variables_of(2, classes=7))
    assert result.own == ["head/kernel"]
    assert (result.variables["params"]["head"]["kernel"] == 1).all()
    assert (result.variables["params"]["conv1"]["kernel"] == 2).all()


def test_what_is_reinitialised_stays_as_it_is():
    result = transfer(variables_of(1), variables_of(2), reinit=("head", "bn1"))
    assert (result.taken, sorted(result.own)) == (["conv1/kernel"], ["bn1/mean", "head/kernel"])
    assert (result.variables["params"]["head"]["kernel"] == 1).all()
    assert (result.variables["batch_stats"]["bn1"]["mean"] == 1).all()
    with pytest.raises(InputError, match=r"reinit: 'haed' matches nothing: .*'head'"):
        transfer(variables_of(1), variables_of(2), reinit=("haed",))
    with pytest.raises(InputError, match="no weight in common"):
        transfer(variables_of(1), variables_of(2), reinit=("*",))


def test_a_classifier_becomes_the_backbone_of_a_detector():
    result = transfer(variables_of(1, backbone=True), variables_of(2))
    assert result.own == ["head/kernel"]
    assert sorted(result.taken) == ["backbone/bn1/mean", "backbone/conv1/kernel"]
    assert (result.variables["params"]["backbone"]["conv1"]["kernel"] == 2).all()
    detector = transfer(variables_of(1, backbone=True), variables_of(2, backbone=True))
    assert detector.own == []


def test_the_dtype_stays_that_of_the_network():
    own = variables_of(1)
    own["params"]["conv1"]["kernel"] = jnp.ones((3, 3, 1, 4), jnp.bfloat16)
    result = transfer(own, variables_of(2))
    assert result.variables["params"]["conv1"]["kernel"].dtype == jnp.bfloat16


@pytest.mark.parametrize(("given", "own"), [(1, 3), (3, 1)])
def test_a_kernel_of_other_channels_does_the_same_to_grey_images(given, own):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 3, given, 4)).astype("f4")
    new = {"params": {"conv1": {"kernel": np.zeros((3, 3, own, 4), "f4")}}}
    result = transfer(new, {"params": {"conv1": {"kernel": kernel}}})
    assert result.taken == result.recolored == ["conv1/kernel"]
    window = rng.normal(size=(3, 3, 1)).astype("f4")
    expected, found = (
        np.einsum("hwc,hwcd->d", window.repeat(channels, axis=2), k)
        for channels, k in ((given, kernel), (own, result.variables["params"]["conv1"]["kernel"]))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 3, 2, 4), (3, 3, 3, 5), (5, 5, 3, 4), (3, 4)])
def test_a_kernel_of_another_shape_is_not_taken(shape):
    result = transfer(
        {"params": {"conv1": {"kernel": np.zeros(shape, "f4")}, "fc": {"bias": np.zeros(1, "f4")}}},
        {
            "params": {
                "conv1": {"kernel": np.ones((3, 3, 1, 4), "f4")},
                "fc": {"bias": np.ones(1, "f4")},
            }
        },
    )
    assert result.own == ["conv1/kernel"]


def test_networks_with_nothing_in_common_are_refused():
    other = {"params": {"dense": {"kernel": np.ones((4, 3), "f4")}}}
    with pytest.raises(InputError, match="no weight in common, by name and shape"):
        transfer(variables_of(1), other)
    only_statistics = {"params": {}, "batch_stats": variables_of(2)["batch_stats"]}
    with pytest.raises(InputError, match="no weight in common"):
        transfer(variables_of(1), only_statistics)
