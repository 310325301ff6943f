"""DnCNN: published sizes, the reference, fused norms, and a third party's weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.interop import from_state_dict
from jaxvision.layers import batch_norm
from jaxvision.models import create_model, fuse_conv_bn
from jaxvision.testing import check_op
from tests.models.variables import random_variables, shapes_of
from tests.reference import models as reference

TINY = {"depth": 4, "width": 5}


def tiny(**fields):
    return create_model("dncnn_s", **TINY, **fields)


def images_of(batch=2, channels=1, height=7, width=6):
    return np.random.default_rng(0).random((batch, height, width, channels)).astype(np.float32)


def run(model):
    return jax.jit(functools.partial(model.apply, train=False))


@pytest.mark.parametrize(
    ("name", "depth", "channels", "parameters"),
    # 9 * 64 * 64 weights and 2 * 64 of the norm for each layer between the first and the last.
    [("dncnn_s", 17, 1, 556_097), ("dncnn_b", 20, 1, 667_073), ("dncnn_b", 20, 3, 669_379)],
)
def test_published_sizes(name, depth, channels, parameters):
    maps, variables = shapes_of(create_model(name), images_of(channels=channels))
    assert sum(x.size for x in jax.tree.leaves(variables["params"])) == parameters
    kernels = [p for p, _ in jax.tree.leaves_with_path(variables) if "kernel" in str(p)]
    assert len(kernels) == depth
    assert {key: x.shape for key, x in maps.items()} == {
        "residual": (2, 7, 6, channels),
        "image": (2, 7, 6, channels),
    }


def test_the_network_equals_the_reference():
    model, images = tiny(), images_of(channels=3)
    check_op(
        functools.partial(model.apply, train=False),
        functools.partial(reference.dncnn, depth=TINY["depth"]),
        random_variables(model, images),
        images,
        rtol=1e-4,
        atol=1e-5,
        transforms=("jit",),
    )


def test_in_bfloat16_what_is_left_of_the_image_keeps_its_digits():
    maps, variables = shapes_of(tiny(dtype=jnp.bfloat16), images_of())
    assert {key: x.dtype for key, x in maps.items()} == {
        "residual": jnp.bfloat16,
        "image": jnp.float32,
    }
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


def third_party_dncnn(torch, bias, *, depth, width, channels=1):
    """A DnCNN as many write it: numbered layers in a row, wrapped once more, another epsilon."""
    nn = torch.nn
    layers = [nn.Conv2d(channels, width, 3, padding=1, bias=bias), nn.ReLU()]
    for _ in range(depth - 2):
        layers += [nn.Conv2d(width, width, 3, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(width, eps=1e-4), nn.ReLU()]
    layers += [nn.Conv2d(width, channels, 3, padding=1, bias=bias)]
    with torch.no_grad():
        for layer in layers:
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.uniform_(-0.5, 0.5)
                layer.running_mean.uniform_(-0.5, 0.5)
                layer.running_var.uniform_(0.5, 2)
    return nn.Sequential(nn.Sequential(*layers)).eval()


@pytest.mark.parity
@pytest.mark.parametrize("bias", [True, False])
def test_third_party_weights_give_the_same_images(bias):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs, images = third_party_dncnn(torch, bias, **TINY), images_of()
    with torch.no_grad():
        noise = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    noise = noise.transpose(0, 2, 3, 1)
    state_dict = {key: value.numpy() for key, value in theirs.state_dict().items()}
    if not bias:  # of the first and the last: ours have one
        state_dict |= {"0.0.bias": np.zeros(TINY["width"]), "0.8.bias": np.zeros(1)}

    def key_map(key):
        """0.0 conv1, 0.1 ReLU, 0.2 conv2, 0.3 bn2, 0.4 ReLU, 0.5 conv3, ..."""
        _, index, leaf = key.split(".")
        layer, place = divmod(int(index) + 1, 3)
        kind = "bn" if layer and place else "conv"
        return f"{kind}{layer + 1}.{leaf}"

    model = tiny(norm=functools.partial(batch_norm, epsilon=1e-4))
    variables = from_state_dict(state_dict, shapes_of(model, images)[1], key_map=key_map)
    maps = run(model)(variables, images)
    np.testing.assert_allclose(maps["residual"], noise, atol=1e-5 * np.abs(noise).max())
    np.testing.assert_allclose(maps["image"], images - noise, atol=1e-5)

    merged = fuse_conv_bn(variables, epsilon=1e-4)
    residual = run(tiny(norm=None))(merged, images)["residual"]
    np.testing.assert_allclose(residual, noise, atol=1e-5 * np.abs(noise).max())
