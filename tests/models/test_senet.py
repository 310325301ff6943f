"""SENet-154: its published size, every map, its equality with the network in torch."""

import functools

import jax
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.models import create_model
from tests.models.parity import to_torch
from tests.models.structure import check_shapes, check_without_classes, size_of
from tests.models.variables import image_maker, random_variables, shapes_of

TINY = {"blocks": (1, 2, 1, 1), "widths": (4, 4, 6, 6), "groups": 2, "squeeze": 2}
images_of = image_maker(20)


def tiny(**fields):
    return create_model("senet154", **{"dropout": 0.0, "num_classes": 3, **TINY, **fields})


@pytest.mark.slow
def test_the_network_has_its_published_size():
    maps, variables = shapes_of(create_model("senet154"), images_of(1, 224, 193))
    params = variables["params"]
    # The number of the authors' definition; 154 layers have weights, of those in the trunk and of
    # the classifier.
    assert size_of(params) == 115_088_984
    layers = [key for key, x in params.items() if "kernel" in x and "_se_" not in key]
    assert sum("downsample" not in key for key in layers) == 154
    sizes = ((112, 97), (56, 48), (28, 24), (14, 12), (7, 6))
    check_shapes(maps, 1, sizes, (128, 256, 512, 1024, 2048), first=1, pooled=2048, logits=1000)


def test_without_classes_there_is_no_classifier():
    check_without_classes(
        tiny(), images_of(), {"c1", "c2", "c3", "c4", "c5", "pooled"}, "last_linear"
    )


def test_images_that_are_too_small_are_refused():
    with pytest.raises(InputError, match=r"the height of the images is 2: this network takes 3\b"):
        shapes_of(tiny(), images_of(1, 2, 9))


def in_torch(torch, variables, images):
    """The logits, written out in torch's functions from the description of the network."""
    functional = torch.nn.functional
    params, statistics = variables["params"], variables["batch_stats"]

    def tensor(x):
        return torch.from_numpy(np.array(x))

    def conv(x, name, norm=None, **options):
        kernel = tensor(params[name]["kernel"]).permute(3, 2, 0, 1)
        bias = None if norm else tensor(params[name]["bias"])
        padding = kernel.shape[-1] // 2
        x = functional.conv2d(x, kernel, bias, padding=padding, **options)
        if norm is None:
            return x
        scale, shift = (tensor(params[norm][key]) for key in ("scale", "bias"))
        mean, var = (tensor(statistics[norm][key]) for key in ("mean", "var"))
        return functional.batch_norm(x, mean, var, scale, shift, eps=1e-5)

    def block(x, name, stride):
        y = conv(x, f"{name}_conv1", f"{name}_bn1").relu()
        y = conv(y, f"{name}_conv2", f"{name}_bn2", stride=stride, groups=TINY["groups"]).relu()
        y = conv(y, f"{name}_conv3", f"{name}_bn3")
        gate = conv(y.mean((2, 3), keepdim=True), f"{name}_se_fc1").relu()
        y = y * conv(gate, f"{name}_se_fc2").sigmoid()
        if f"{name}_downsample_0" in params:
            x = conv(x, f"{name}_downsample_0", f"{name}_downsample_1", stride=stride)
        return (x + y).relu()

    x = to_torch(torch, images)
    for number, stride in ((1, 2), (2, 1), (3, 1)):
        x = conv(x, f"layer0_conv{number}", f"layer0_bn{number}", stride=stride).relu()
    x = functional.max_pool2d(x, 3, stride=2, ceil_mode=True)
    for stage, blocks in enumerate(TINY["blocks"], start=1):
        for number in range(blocks):
            x = block(x, f"layer{stage}_{number}", 2 if stage > 1 and number == 0 else 1)
    dense = params["last_linear"]
    return x.mean((2, 3)) @ tensor(dense["kernel"]) + tensor(dense["bias"])


@pytest.mark.parity
@pytest.mark.parametrize("size", [(20, 20), (23, 30)])
def test_logits_equal_torchs(size):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    model, images = tiny(), images_of(2, *size)
    variables = random_variables(model, images)
    expected = in_torch(torch, variables, images).numpy()
    logits = jax.jit(functools.partial(model.apply, train=False))(variables, images)["logits"]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(logits, expected, atol=1e-5 * scale, rtol=0)
