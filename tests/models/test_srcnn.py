"""SRCNN and ESPCN: published sizes, the references, and a third party's weights."""

import functools

import jax
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.interop import from_state_dict
from jaxvision.models import create_model
from jaxvision.testing import check_op
from tests.models.variables import random_variables, shapes_of
from tests.reference import models as reference

TINY = {"widths": (4, 3)}


def images_of(batch=2, channels=1, height=17, width=16):
    return np.random.default_rng(0).random((batch, height, width, channels)).astype(np.float32)


def count(tree, leaf):
    return sum(x.size for path, x in jax.tree.leaves_with_path(tree) if path[-1].key == leaf)


@pytest.mark.parametrize(
    ("name", "weights", "biases"),
    [
        ("srcnn_915", 8_032, 97),
        ("srcnn_935", 24_416, 97),
        ("srcnn_955", 57_184, 97),
        # 25 * 64 + 9 * 64 * 32 + 9 * 32 * 9
        ("espcn", 22_624, 105),
    ],
)
def test_published_sizes(name, weights, biases):
    _, variables = shapes_of(create_model(name), images_of())
    assert variables.keys() == {"params"}
    assert count(variables, "kernel") == weights
    assert count(variables, "bias") == biases


@pytest.mark.parametrize(
    ("name", "fields", "size"),
    [
        ("srcnn_915", {}, (33, 40)),
        ("srcnn_915", {"padding": "valid"}, (21, 28)),
        ("srcnn_935", {"padding": "valid"}, (19, 26)),
        ("srcnn_955", {"padding": "valid"}, (17, 24)),
        ("espcn", {}, (99, 120)),
        ("espcn", {"factor": 4}, (132, 160)),
        ("espcn", {"factor": 2, "padding": "valid"}, (50, 64)),
    ],
)
def test_sizes_of_images(name, fields, size):
    images = images_of(channels=3, height=33, width=40)
    maps, _ = shapes_of(create_model(name, **fields), images)
    assert {key: x.shape for key, x in maps.items()} == {"image": (2, *size, 3)}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "fields", "slow"),
    [
        ("srcnn_935", {"padding": "same"}, reference.srcnn),
        ("srcnn_935", {"padding": "valid"}, reference.srcnn),
        ("espcn", {"factor": 2}, reference.espcn),
    ],
)
def test_the_network_equals_the_reference(name, fields, slow, channels):
    model, images = create_model(name, **TINY, **fields), images_of(channels=channels)
    check_op(
        functools.partial(model.apply, train=False),
        functools.partial(slow, **fields),
        random_variables(model, images),
        images,
        rtol=1e-4,
        atol=1e-5,
        transforms=("jit",),
    )


@pytest.mark.parametrize("name", ["srcnn_915", "espcn"])
def test_an_unknown_padding_is_named(name):
    with pytest.raises(InputError, match="unknown padding 'vald': did you mean 'valid'"):
        shapes_of(create_model(name, padding="vald"), images_of())


@pytest.mark.parametrize(("name", "lost"), [("srcnn_915", 12), ("espcn", 8)])
def test_valid_padding_refuses_images_of_which_nothing_is_left(name, lost):
    model = create_model(name, padding="valid")
    maps, _ = shapes_of(model, images_of(height=lost + 1))
    assert maps["image"].size
    with pytest.raises(InputError, match=f"images is {lost}: give more than {lost}"):
        shapes_of(model, images_of(height=lost))


def third_party_srcnn(torch):
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch_extraction = nn.Conv2d(1, 64, 9, padding=4)
            self.nonlinear_map = nn.Conv2d(64, 32, 1)
            self.reconstruct = nn.Conv2d(32, 1, 5, padding=2)

        def forward(self, x):
            return self.reconstruct(self.nonlinear_map(self.patch_extraction(x).relu()).relu())

    names = {"patch_extraction": "conv1", "nonlinear_map": "conv2", "reconstruct": "conv3"}
    return Net(), "srcnn_915", names


def third_party_espcn(torch):
    nn = torch.nn
    first = nn.Sequential(
        nn.Conv2d(3, 64, 5, padding=2), nn.Tanh(), nn.Conv2d(64, 32, 3, padding=1), nn.Tanh()
    )
    last = nn.Sequential(nn.Conv2d(32, 27, 3, padding=1), nn.PixelShuffle(3))
    return nn.Sequential(first, last), "espcn", {"0.0": "conv1", "0.2": "conv2", "1.0": "conv3"}


@pytest.mark.parity
@pytest.mark.parametrize("build", [third_party_srcnn, third_party_espcn])
def test_third_party_weights_give_the_same_images(build):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs, name, names = build(torch)
    state_dict = {key: value.detach().numpy() for key, value in theirs.state_dict().items()}

    def key_map(key):
        layer, leaf = key.rsplit(".", 1)
        return f"{names[layer]}.{leaf}"

    model, images = create_model(name), images_of(channels=1 if name == "srcnn_915" else 3)
    variables = from_state_dict(state_dict, shapes_of(model, images)[1], key_map=key_map)
    actual = jax.jit(functools.partial(model.apply, train=False))(variables, images)["image"]
    with torch.no_grad():
        expected = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    expected = expected.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(actual, expected, atol=1e-5 * np.abs(expected).max())
