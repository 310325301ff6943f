"""DeconvNet: the published size, every map, where maxima go back to, torch's logits."""

import functools

import jax
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.models import create_model
from jaxvision.models.backbones.vgg import Stage
from tests.models.structure import size_of
from tests.models.test_unet import check_logits, images_of
from tests.models.variables import shapes_of

# The default tests have each of these kinds of checks, of other networks.
pytestmark = pytest.mark.slow

STAGES = (Stage(4, 1), Stage(6, 2))


def tiny(**fields):
    fields = {"stages": STAGES, "hidden": 8, "window": 2, "num_classes": 3, **fields}
    return create_model("deconvnet", **fields)


def test_the_papers_deconvnet():
    maps, variables = shapes_of(create_model("deconvnet"), images_of(1, 224))
    params = variables["params"]
    # Section 3.2: 252 million in 13 + 2 convolutions, as many mirrored, and the last 1x1.
    assert round(size_of(params), -6) == 252_000_000
    kernels = [name for name in params if not name.endswith("_bn")]
    assert len(kernels) == 15 + 14 + 1
    assert {key: x.shape[1:] for key, x in maps.items()} == {
        "c0": (224, 224, 64),
        "c1": (112, 112, 128),
        "c2": (56, 56, 256),
        "c3": (28, 28, 512),
        "c4": (14, 14, 512),
        "fc7": (1, 1, 4096),
        "d4": (14, 14, 512),
        "d3": (28, 28, 256),
        "d2": (56, 56, 128),
        "d1": (112, 112, 64),
        "d0": (224, 224, 64),
        "logits": (224, 224, 21),
    }


def test_vggs_weights_fit_the_way_down():
    _, variables = shapes_of(create_model("deconvnet", norm=None), images_of(1, 224))
    down = {name: x for name, x in variables["params"].items() if name.startswith("conv")}
    assert size_of(down) == 14_714_688
    assert size_of(variables["params"]["fc6"]) == 7 * 7 * 512 * 4096 + 4096


def test_larger_images_and_no_classes():
    maps, _ = shapes_of(tiny(num_classes=None), images_of(2, 16, 12))
    assert {key: x.shape for key, x in maps.items()} == {
        "c0": (2, 16, 12, 4),
        "c1": (2, 8, 6, 6),
        "fc7": (2, 3, 2, 8),
        "d1": (2, 8, 6, 4),
        "d0": (2, 16, 12, 4),
    }


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((224, 192), r"the width of the images is 192: this network takes 224\b"),
        ((240, 224), r"the height of the images is 240: this network takes 224 or 256\b"),
    ],
)
def test_sides_that_do_not_fit_are_refused_with_those_that_do(size, message):
    with pytest.raises(InputError, match=message):
        shapes_of(create_model("deconvnet"), images_of(1, *size))


def test_maxima_go_back_to_where_they_were():
    # Every layer passes its one channel on, so that all but the maxima is lost.
    model = tiny(stages=(Stage(1, 1),), hidden=1, window=1, num_classes=None, norm=None)
    images = images_of(2, 8, channels=1)
    centre = np.zeros((3, 3, 1, 1), np.float32)
    centre[1, 1] = 1
    one, zero = np.ones((1, 1, 1, 1), np.float32), np.zeros(1, np.float32)
    params = {
        "conv1_1": {"kernel": centre, "bias": zero},
        "fc6": {"kernel": one, "bias": zero},
        "fc7": {"kernel": one, "bias": zero},
        "fc6_deconv": {"transposed_kernel": one, "bias": zero},
        "deconv1_1": {"transposed_kernel": centre, "bias": zero},
    }
    found = jax.jit(functools.partial(model.apply, train=False))({"params": params}, images)["d0"]
    blocks = np.maximum(images, 0).reshape(2, 4, 2, 4, 2, 1)
    kept = blocks == blocks.max(axis=(2, 4), keepdims=True)
    np.testing.assert_array_equal(found, np.where(kept, blocks, 0).reshape(images.shape))


def torch_deconvnet(torch):
    """The tiny network, layer by layer."""
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            conv, deconv = nn.Conv2d, nn.ConvTranspose2d
            layers = {
                "conv1_1": conv(3, 4, 3, padding=1, bias=False),
                "conv2_1": conv(4, 6, 3, padding=1, bias=False),
                "conv2_2": conv(6, 6, 3, padding=1, bias=False),
                "fc6": conv(6, 8, 2, bias=False),
                "fc7": conv(8, 8, 1, bias=False),
                "fc6_deconv": deconv(8, 6, 2, bias=False),
                "deconv2_1": deconv(6, 6, 3, padding=1, bias=False),
                "deconv2_2": deconv(6, 4, 3, padding=1, bias=False),
                "deconv1_1": deconv(4, 4, 3, padding=1, bias=False),
            }
            for name, layer in layers.items():
                self.add_module(name, layer)
                self.add_module(f"{name}_bn", nn.BatchNorm2d(layer.out_channels))
            self.seg_score = conv(4, 3, 1)

        def forward(self, x):
            def run(x, *names):
                for name in names:
                    x = torch.relu(getattr(self, f"{name}_bn")(getattr(self, name)(x)))
                return x

            pool = functools.partial(nn.functional.max_pool2d, kernel_size=2, return_indices=True)
            unpool = functools.partial(nn.functional.max_unpool2d, kernel_size=2)
            x, first = pool(run(x, "conv1_1"))
            x, second = pool(run(x, "conv2_1", "conv2_2"))
            x = run(x, "fc6", "fc7", "fc6_deconv")
            x = run(unpool(x, second), "deconv2_1", "deconv2_2")
            return self.seg_score(run(unpool(x, first), "deconv1_1"))

    return Net()


@pytest.mark.parity
def test_logits_equal_those_of_a_deconvnet_in_torch():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    check_logits(torch, torch_deconvnet(torch), tiny(), images_of(2, 16, 12))
