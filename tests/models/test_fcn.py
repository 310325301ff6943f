"""FCNs: published sizes, logits of any image's size and in its place, torch's logits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.layers import batch_norm
from jaxvision.models import create_model
from jaxvision.models.backbones import darknet
from jaxvision.models.backbones.vgg import Stage
from jaxvision.models.segmentation.fcn import Step, bilinear
from jaxvision.ops import conv_transpose2d, resize_bilinear
from tests.marks import long_but
from tests.models.parity import check_maps
from tests.models.structure import size_of
from tests.models.variables import shapes_of
from tests.ops.parity import import_torchvision

STAGES = (Stage(4, 1), Stage(6, 1), Stage(8, 1))
STEPS = {
    "8s": (Step("upscore", 0),),
    "4s": (Step("upscore2", 2), Step("upscore4", 0)),
    "2s": (Step("upscore2", 2), Step("upscore_pool2", 1), Step("upscore_last", 0)),
}
BACKBONE = {
    "name": "plain_darknet",
    "stages": (darknet.Stage(1, ((8, 3),)), darknet.Stage(2, ((16, 3),))),
}
TINY = {
    "fcn_resnet50": {"backbone": BACKBONE, "level": 2, "aux": True},
    "fcn8s_vgg16": {"stages": STAGES, "steps": STEPS["2s"], "hidden": 8, "window": 3, "padding": 9},
}
every_kind = pytest.mark.parametrize("name", TINY)


def tiny(name, **fields):
    return create_model(name, **{"num_classes": 3, "dropout": 0.0, **TINY[name], **fields})


def images_of(batch=1, height=32, width=None, channels=3):
    shape = (batch, height, width or height, channels)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


PUBLISHED = [
    ("fcn_resnet50", True, 35_322_218),  # torchvision's numbers, with 21 classes
    ("fcn_resnet50", False, 32_957_013),
    ("fcn_resnet101", True, 54_314_346),
]


@pytest.mark.parametrize(("name", "aux", "published"), long_but(PUBLISHED, [], PUBLISHED[:1]))
def test_the_size_and_the_maps_of_torchvisions(name, aux, published):
    maps, variables = shapes_of(create_model(name, aux=aux), images_of(1, 65, 97))
    assert size_of(variables["params"]) == published
    heads = {key for key in variables["params"] if key != "backbone"}
    assert heads == {
        f"{head}_{place}"
        for head in ("classifier", *["aux_classifier"] * aux)
        for place in (0, 1, 4)
    }
    assert {key: x.shape[1:] for key, x in maps.items()} == {
        "c1": (33, 49, 64),
        "c2": (17, 25, 256),
        "c3": (9, 13, 512),
        "c4": (9, 13, 1024),
        "c5": (9, 13, 2048),
        **dict.fromkeys(("logits", *["aux"] * aux), (65, 97, 21)),
    }


VGG_FCN = {
    # What the paper's table 1 rounds to 134 million: VGG-16's convolutions, fc6, fc7, score_fr.
    "score_fr": 14_714_688 + 512 * 7**2 * 4096 + 4096 + 4096**2 + 4096 + 4096 * 21 + 21,
    "upscore": 64**2 * 21**2,
    "upscore2": 4**2 * 21**2,
    "score_pool4": 512 * 21 + 21,
    "upscore16": 32**2 * 21**2,
    "upscore_pool4": 4**2 * 21**2,
    "score_pool3": 256 * 21 + 21,
    "upscore8": 16**2 * 21**2,
}


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("fcn32s_vgg16", ("upscore",)),
        ("fcn16s_vgg16", ("upscore2", "score_pool4", "upscore16")),
        (
            "fcn8s_vgg16",
            ("upscore2", "score_pool4", "upscore_pool4", "score_pool3", "upscore8"),
        ),
    ],
)
def test_the_size_and_the_maps_of_the_papers(name, layers):
    maps, variables = shapes_of(create_model(name), images_of(1, 500, 375))
    params = variables["params"]
    assert params.keys() == {"backbone", "fc6", "fc7", "score_fr", *layers}
    assert size_of(params) == sum(VGG_FCN[layer] for layer in ("score_fr", *layers))
    assert round(VGG_FCN["score_fr"], -6) == 134_000_000
    # The release's sizes: 698, and halves of it rounded up.
    assert {key: x.shape[1:] for key, x in maps.items()} == {
        "c0": (698, 573, 64),
        "c1": (349, 287, 128),
        "c2": (175, 144, 256),
        "c3": (88, 72, 512),
        "c4": (44, 36, 512),
        "c5": (22, 18, 512),
        "fc7": (16, 12, 4096),
        "logits": (500, 375, 21),
    }


def test_a_trained_vggs_convolutions_are_the_backbone():
    vgg = shapes_of(create_model("vgg16", num_classes=None, norm=batch_norm), images_of())[1]
    fcn = shapes_of(create_model("fcn16s_vgg16", norm=batch_norm), images_of())[1]
    for collection, layers in vgg.items():
        like = fcn[collection]["backbone"]
        assert jax.tree.map(jnp.shape, layers) == jax.tree.map(jnp.shape, like)


PADDED = [
    ("fcn32s_vgg16", 81, (33, 45)),
    ("fcn16s_vgg16", 100, (1, 1)),
    ("fcn8s_vgg16", 117, (32, 95)),
    ("fcn8s_vgg16", 30, (225, 135)),
]


@pytest.mark.parametrize(("name", "padding", "size"), long_but(PADDED, PADDED[1:2]))
def test_logits_have_the_size_of_any_image(name, padding, size):
    maps, _ = shapes_of(create_model(name, padding=padding, num_classes=5), images_of(1, *size))
    assert maps["logits"].shape == (1, *size, 5)


def as_it_stands(variables):
    """One channel goes through unchanged, but for poolings; scores are averaged."""

    def passing(path, like):
        if path[-1].key == "bias":
            return np.zeros(like.shape, np.float32)
        if path[-1].key == "transposed_kernel":
            return bilinear(None, like.shape)
        kernel = np.zeros(like.shape, np.float32)
        kernel[like.shape[0] // 2, like.shape[1] // 2] = 1 / scores if "score" in str(path) else 1
        return kernel

    scores = sum(name.startswith("score") for name in variables["params"])
    return jax.tree.map_with_path(passing, variables)


STEPPED = [
    ("8s", 3, 12, (64, 71)),
    ("4s", 3, 6, (57, 64)),
    ("2s", 3, 31, (61, 66)),
    ("2s", 1, 1, 64),
]


@pytest.mark.parametrize(("steps", "window", "padding", "size"), long_but(STEPPED, STEPPED[2:3]))
def test_logits_lie_where_the_image_does(steps, window, padding, size):
    # A plane stays a plane: the maximum of a cell of n pixels is (n - 1) / 2 steps from its centre.
    height, width = (size, size) if isinstance(size, int) else size
    rows, columns = np.mgrid[:height, :width]
    down, right = 0.25, 0.5
    plane = 1 + down * rows + right * columns
    model = tiny(
        "fcn8s_vgg16",
        stages=(Stage(1, 1),) * 3,
        steps=STEPS[steps],
        hidden=1,
        window=window,
        padding=padding,
        num_classes=1,
    )
    images = plane[None, :, :, None].astype(np.float32)
    variables = as_it_stands(shapes_of(model, images)[1])
    run = jax.jit(functools.partial(model.apply, train=False))
    logits = np.asarray(run(variables, images)["logits"])[0, :, :, 0]
    assert logits.shape == plane.shape
    levels = [3, *(step.level for step in STEPS[steps] if step.level)]
    expected = plane + (down + right) * np.mean([(2**level - 1) / 2 for level in levels])
    inner = np.s_[16:-16, 16:-16]
    np.testing.assert_allclose(logits[inner], expected[inner], rtol=1e-5)


def test_logits_that_no_window_reaches_are_zero():
    # A window of fc6 has 24 pixels, and the kernel of upscore, about the same centre, 16.
    fields = {"stages": (Stage(1, 1),) * 3, "steps": STEPS["8s"], "hidden": 1, "num_classes": 1}
    model, images = tiny("fcn8s_vgg16", padding=1, **fields), np.ones((1, 64, 64, 1), np.float32)
    variables = as_it_stands(shapes_of(model, images)[1])
    run = jax.jit(functools.partial(model.apply, train=False))
    logits = np.asarray(run(variables, images)["logits"])[0, :, :, 0]
    reached = np.zeros((64, 64), bool)
    reached[4:-4, 4:-4] = True
    np.testing.assert_array_equal(logits > 0, reached)
    np.testing.assert_allclose(logits[12:-12, 12:-12], 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "size", "message"),
    [
        ({"padding": 0}, (500, 500), "padding is 0: give at least 1"),
        ({"padding": 1}, (192, 200), r"the height of the images is 192: this network takes 193\b"),
        ({"padding": 40}, (115, 60), r"the width of the images is 60: this network takes 115\b"),
    ],
)
def test_images_in_which_no_window_fits_are_refused(fields, size, message):
    with pytest.raises(InputError, match=message):
        shapes_of(create_model("fcn8s_vgg16", **fields), images_of(1, *size))


@pytest.mark.parametrize(("padding", "size"), [(1, 193), (40, 115)])
def test_the_smallest_images_that_are_taken(padding, size):
    maps, _ = shapes_of(create_model("fcn8s_vgg16", padding=padding), images_of(1, size))
    assert maps["fc7"].shape[1:3] == (1, 1)
    assert maps["logits"].shape[1:3] == (size, size)


def test_a_backbone_without_the_level_is_an_error_that_names_it():
    resnet = {"name": "resnet20", "blocks": 1}
    message = "unknown map of the backbone 'c5': did you mean.*'c4'"
    with pytest.raises(InputError, match=message):
        shapes_of(create_model("fcn_resnet50", backbone=resnet), images_of())
    maps, _ = shapes_of(create_model("fcn_resnet50", backbone=resnet, level=4), images_of())
    assert maps["logits"].shape == (1, 32, 32, 21)


@every_kind
def test_without_classes_there_is_no_head(name):
    maps, variables = shapes_of(tiny(name, num_classes=None), images_of())
    assert not {"logits", "aux", "pooled"} & maps.keys()
    layers = {"fcn_resnet50": {"backbone"}, "fcn8s_vgg16": {"backbone", "fc6", "fc7"}}
    assert variables["params"].keys() == layers[name]


def test_a_bilinear_kernel_by_hand():
    kernel = jax.jit(lambda: bilinear(None, (4, 4, 2, 2), jnp.float32))()
    kernel = jax.device_get(kernel)
    taps = np.array([1, 3, 3, 1]) / 4
    for channel in range(2):
        np.testing.assert_allclose(kernel[:, :, channel, channel], np.outer(taps, taps))
    assert not kernel[:, :, 0, 1].any()
    assert not kernel[:, :, 1, 0].any()


@pytest.mark.parametrize("factor", long_but([2, 8], [2]))
def test_a_bilinear_kernel_interpolates(factor):
    x = images_of(2, 5, 6, 3)

    @jax.jit
    def both(x):
        kernel = bilinear(None, (2 * factor, 2 * factor, 3, 3))
        grown = conv_transpose2d(x, kernel, stride=factor, padding=factor // 2)
        return grown, resize_bilinear(x, (5 * factor, 6 * factor))

    grown, expected = jax.device_get(both(x))
    inner = np.s_[:, factor:-factor, factor:-factor]
    np.testing.assert_allclose(grown[inner], expected[inner], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_scores_begin_at_zero_and_transposed_convolutions_bilinear():
    model, images = tiny("fcn8s_vgg16"), images_of()

    @jax.jit
    def start(key):
        maps, variables = model.init_with_output(key, images, train=False)
        params = variables["params"]
        scores = [layer["kernel"] for name, layer in params.items() if name.startswith("score")]
        kernels = {
            name: (layer["transposed_kernel"], bilinear(None, layer["transposed_kernel"].shape))
            for name, layer in params.items()
            if name.startswith("upscore")
        }
        return (maps["logits"], *scores), kernels

    zeros, kernels = jax.device_get(start(jax.random.key(0)))
    assert len(zeros) > 1
    assert not any(x.any() for x in zeros)
    assert kernels
    for kernel, expected in kernels.values():
        np.testing.assert_allclose(kernel, expected, rtol=1e-6)


@pytest.mark.parity
def test_logits_equal_torchvisions():
    torch, segmentation = import_torchvision("models.segmentation")
    torch.manual_seed(0)
    options = {"weights": None, "weights_backbone": None, "aux_loss": True, "num_classes": 5}
    theirs = segmentation.fcn_resnet50(**options)
    ours = create_model("fcn_resnet50", num_classes=5, aux=True)
    check_maps(torch, theirs, ours, images_of(2, 65, 97), {"logits": "out", "aux": "aux"})


def torch_fcn(torch, name, widths, hidden, classes):
    """The release's layers, with its numbers of rows and columns that are cut off."""
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            layers, before = [], 3
            for width, convolutions in zip(widths, (2, 2, 3, 3, 3), strict=True):
                for _ in range(convolutions):
                    padding = 1 if layers else 100
                    layers += [nn.Conv2d(before, width, 3, padding=padding), nn.ReLU()]
                    before = width
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
            self.backbone = nn.Module()
            self.backbone.features = nn.Sequential(*layers)
            self.fc6 = nn.Conv2d(before, hidden, 7)
            self.fc7 = nn.Conv2d(hidden, hidden, 1)
            self.score_fr = nn.Conv2d(hidden, classes, 1)

            def grow(factor):
                return nn.ConvTranspose2d(classes, classes, 2 * factor, factor, bias=False)

            if name == "fcn32s_vgg16":
                self.upscore = grow(32)
            else:
                self.upscore2 = grow(2)
                self.score_pool4 = nn.Conv2d(widths[3], classes, 1)
            if name == "fcn16s_vgg16":
                self.upscore16 = grow(16)
            if name == "fcn8s_vgg16":
                self.upscore_pool4 = grow(2)
                self.score_pool3 = nn.Conv2d(widths[2], classes, 1)
                self.upscore8 = grow(8)

        def forward(self, images):
            def cut(x, offset, like):
                return x[:, :, offset:, offset:][:, :, : like.shape[2], : like.shape[3]]

            x, pools = images, []
            for layer in self.backbone.features:
                x = layer(x)
                if isinstance(layer, nn.MaxPool2d):
                    pools.append(x)
            x = self.score_fr(torch.relu(self.fc7(torch.relu(self.fc6(x)))))
            if name == "fcn32s_vgg16":
                return cut(self.upscore(x), 19, images)
            x = self.upscore2(x)
            x = x + cut(self.score_pool4(pools[3]), 5, x)
            if name == "fcn16s_vgg16":
                return cut(self.upscore16(x), 27, images)
            x = self.upscore_pool4(x)
            x = x + cut(self.score_pool3(pools[2]), 9, x)
            return cut(self.upscore8(x), 31, images)

    network = Net()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    return network


@pytest.mark.parity
@pytest.mark.parametrize("name", ["fcn32s_vgg16", "fcn16s_vgg16", "fcn8s_vgg16"])
def test_logits_equal_those_of_the_release_in_torch(name):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    widths, hidden, classes = (4, 6, 8, 8, 8), 16, 3
    theirs = torch_fcn(torch, name, widths, hidden, classes)
    stages = tuple(map(Stage, widths, (2, 2, 3, 3, 3)))
    ours = create_model(name, stages=stages, hidden=hidden, num_classes=classes)
    check_maps(torch, theirs, ours, images_of(2, 63, 90), {"logits": None}, round_trip=False)
