"""U-Nets: published sizes, every map, what does not fit, tiles, torch's logits."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.interop import from_state_dict
from jaxvision.layers import batch_norm, group_norm
from jaxvision.models import create_model, fuse_conv_bn
from jaxvision.models.backbones.darknet import Stage
from jaxvision.ops import resize_bilinear
from tests.marks import long_but
from tests.models.structure import size_of
from tests.models.variables import random_variables, shapes_of

STAGES = (Stage(0, ((4, 3),)), Stage(1, ((6, 3),)))
BACKBONE = {"name": "plain_darknet", "stages": STAGES}
TINY = {
    "unet": {"widths": (4, 6)},
    "unet_valid": {"widths": (4, 6), "up": "bilinear", "dropout": 0.0},
    "unet_backbone": {"backbone": BACKBONE, "widths": (4,), "norm": group_norm, "aux": True},
    "resunet": {"widths": (4, 6)},
    "resunet, other ways": {"widths": (4, 6), "down": "bilinear", "norm": None},
}


def tiny(name, **fields):
    return create_model(name.split(",")[0], **{"num_classes": 3, **TINY[name], **fields})


def images_of(batch=1, height=32, width=None, channels=3):
    shape = (batch, height, width or height, channels)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def sizes_of(name, images, **fields):
    maps, _ = shapes_of(create_model(name, **fields), images)
    return {key: x.shape[1:] for key, x in maps.items()}


def test_the_papers_unet():
    maps, variables = shapes_of(create_model("unet_valid"), images_of(1, 572, channels=1))
    assert variables.keys() == {"params"}
    # 23 convolutional layers; figure 1's sizes of maps. The number is that of other libraries.
    assert len(variables["params"]) == 23
    assert size_of(variables) == 31_030_658
    assert {key: x.shape[1:] for key, x in maps.items()} == {
        "c0": (568, 568, 64),
        "c1": (280, 280, 128),
        "c2": (136, 136, 256),
        "c3": (64, 64, 512),
        "c4": (28, 28, 1024),
        "d3": (52, 52, 512),
        "d2": (100, 100, 256),
        "d1": (196, 196, 128),
        "d0": (388, 388, 64),
        "logits": (388, 388, 2),
    }


@pytest.mark.slow
def test_the_papers_resunet():
    maps, variables = shapes_of(create_model("resunet"), images_of(1, 224))
    shortcuts = {name: x for name, x in variables["params"].items() if "shortcut" in name}
    assert len(shortcuts) == 7
    # Table 1's sizes, and 7.8 million parameters in the units; projections are not in that number.
    assert round(size_of(variables["params"]) - size_of(shortcuts), -5) == 7_800_000
    assert {key: x.shape[1:] for key, x in maps.items()} == {
        "c0": (224, 224, 64),
        "c1": (112, 112, 128),
        "c2": (56, 56, 256),
        "c3": (28, 28, 512),
        "d2": (56, 56, 256),
        "d1": (112, 112, 128),
        "d0": (224, 224, 64),
        "logits": (224, 224, 1),
    }
    assert sizes_of("resunet", images_of(1, 224), down="bilinear") == {
        key: x.shape[1:] for key, x in maps.items()
    }


@pytest.mark.parametrize("up", long_but(["transposed", "bilinear"], ["transposed"]))
def test_options_of_a_unet(up):
    fields = {"widths": (4, 8, 16), "up": up, "num_classes": 5}
    same = sizes_of("unet", images_of(2, 16, 20), **fields)
    assert same == {
        "c0": (16, 20, 4),
        "c1": (8, 10, 8),
        "c2": (4, 5, 16),
        "d1": (8, 10, 8),
        "d0": (16, 20, 4),
        "logits": (16, 20, 5),
    }
    valid = sizes_of("unet", images_of(2, 44, 48), padding="valid", **fields)
    assert valid["c1"] == (16, 18, 8)
    assert valid["logits"] == (4, 8, 5)
    fields["num_classes"] = None
    assert "logits" not in sizes_of("unet", images_of(2, 16), **fields)
    for norm in (batch_norm, group_norm, None):
        _, variables = shapes_of(create_model("unet", norm=norm, **fields), images_of())
        params = variables["params"]
        assert ("batch_stats" in variables) == (norm is batch_norm)
        assert ("encoder0_bn1" in params) == (norm is not None)
        assert ("bias" in params["decoder0_conv2"]) == (norm is None)


@pytest.mark.slow
def test_cells_may_be_repeated_and_come_first():
    """Without a layer on the way up; the input of the convolution after it is [up, skip]."""
    fields = {"widths": (4, 6), "up": "nearest", "num_classes": 3, "norm": None}
    model, images = create_model("unet", **fields), images_of(1, 8)
    variables = random_variables(model, images)
    params = variables["params"]
    assert "decoder0_up" not in params
    kernel = params["decoder0_conv1"]["kernel"]
    assert kernel.shape == (3, 3, 4 + 6, 4)
    expected = jax.jit(functools.partial(model.apply, train=False))(variables, images)
    other = create_model("unet", **fields, up_first=True)
    kernel = np.concatenate([kernel[:, :, 4:], kernel[:, :, :4]], axis=2)
    params = {**params, "decoder0_conv1": {**params["decoder0_conv1"], "kernel": kernel}}
    found = jax.jit(functools.partial(other.apply, train=False))({"params": params}, images)
    np.testing.assert_allclose(found["logits"], expected["logits"], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_any_backbone_is_a_way_down():
    fields = {"widths": (8, 7, 6, 5, 4), "num_classes": 2}

    def decoded(backbone, size, **others):
        sizes = sizes_of("unet_backbone", images_of(1, size), backbone=backbone, **fields | others)
        return {key: value for key, value in sizes.items() if key[0] != "c"}

    # With a map of the images' size; without one, and with sizes that are rounded up.
    for backbone, size in (("darknet19", 64), ("mobilenet_v2", 70)):
        sides = (-(-size // 16), -(-size // 8), -(-size // 4), -(-size // 2), size)
        maps = zip("43210", sides, fields["widths"], strict=True)
        assert decoded({"name": backbone}, size) == {
            **{f"d{level}": (side, side, width) for level, side, width in maps},
            "logits": (size, size, 2),
        }
    for backbone in ("resnet18", "resnet50", "vgg16"):  # from level 1 or 0 on
        assert decoded({"name": backbone}, 64)["d0"] == (64, 64, 4)
    resnet = {"name": "resnet20", "blocks": 1}  # with two maps of one size
    assert decoded(resnet, 28, widths=(6, 5, 4)) == {
        "d3": (14, 14, 6),
        "d2": (28, 28, 5),
        "d1": (28, 28, 4),
        "logits": (28, 28, 2),
    }
    for widths in (fields["widths"], ()):
        message = f"widths has {len(widths)} entries: give at least one and at most 3"
        with pytest.raises(InputError, match=message):
            decoded(resnet, 32, widths=widths)


def test_a_way_up_may_end_early_and_the_backbone_have_logits_of_its_own():
    """Both are what 1x1 convolutions give of a map, interpolated; the first is their sum."""
    backbone = {**BACKBONE, "stages": (*STAGES, Stage(2, ((8, 3),)))}
    fields = {"backbone": backbone, "widths": (4,), "num_classes": 3, "aux": True}
    images = images_of(1, 32)
    model = create_model("unet_backbone", **fields)
    variables = random_variables(model, images)
    maps = jax.jit(functools.partial(model.apply, train=False))(variables, images)
    assert maps.keys() == {"c0", "c1", "c2", "d1", "logits", "aux"}

    def grown(source, head):
        layer = variables["params"][head]
        small = np.asarray(maps[source]) @ layer["kernel"][0, 0] + np.asarray(layer["bias"])
        return resize_bilinear(small, (32, 32))

    last = grown("c2", "aux_head")
    np.testing.assert_allclose(maps["aux"], last, atol=1e-4)
    np.testing.assert_allclose(maps["logits"], grown("d1", "head") + last, atol=1e-4)


def test_a_head_may_give_all_pixels_under_a_cell():
    backbone = {**BACKBONE, "stages": (*STAGES, Stage(2, ((8, 3),)))}
    fields = {"backbone": backbone, "widths": (4,), "num_classes": 3, "grow": "subpixel"}
    images = images_of(1, 32, 24)
    model = create_model("unet_backbone", **fields)
    variables = random_variables(model, images)
    maps = jax.jit(functools.partial(model.apply, train=False))(variables, images)
    layer = variables["params"]["head"]
    cells = np.asarray(maps["d1"]) @ layer["kernel"][0, 0] + np.asarray(layer["bias"])
    assert cells.shape == (1, 16, 12, 2 * 2 * 3)
    for row, column in itertools.product(range(2), repeat=2):
        of_pixel = cells.reshape(1, 16, 12, 2, 2, 3)[:, :, :, row, column]
        np.testing.assert_allclose(maps["logits"][:, row::2, column::2], of_pixel, atol=1e-4)
    with pytest.raises(InputError, match="images are 33x24 and the last map is 16x12: with grow"):
        sizes_of("unet_backbone", images_of(1, 33, 24), **fields)


@pytest.mark.slow
def test_norm_and_dtypes_of_a_unet_are_those_of_its_backbone():
    backbone = {"name": "resnet34"}
    for norm, collections in ((batch_norm, {"params", "batch_stats"}), (group_norm, {"params"})):
        fields = {"backbone": backbone, "norm": norm, "dtype": jnp.bfloat16}
        maps, variables = shapes_of(create_model("unet_backbone", **fields), images_of(1, 70, 64))
        assert variables.keys() == collections
        assert {x.dtype for x in jax.tree.leaves(maps)} == {jnp.dtype(jnp.bfloat16)}
        assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
        levels = {name for level in range(5) for name in (f"c{level + 1}", f"d{level}")}
        assert maps.keys() == levels | {"logits"}
        assert maps["logits"].shape == (1, 70, 64, 2)
        # 21.8 million in a ResNet-34 with its classifier.
        assert size_of(variables["params"]["backbone"]) == 21_797_672 - (512 + 1) * 1000


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("unet", (32, 500), r"the width of the images is 500: this network takes 496 or 512\b"),
        ("unet", (3, 16), r"the height of the images is 3: this network takes 16\b"),
        ("unet_valid", (574, 572), r"the height of the images is 574: .* takes 572 or 588\b"),
        ("unet_valid", (188, 172), r"the width of the images is 172: this network takes 188\b"),
        ("resunet", (60, 64), r"the height of the images is 60: this network takes 56 or 64\b"),
    ],
)
def test_sides_that_do_not_fit_are_refused_with_those_that_do(name, size, message):
    with pytest.raises(InputError, match=message):
        shapes_of(create_model(name), images_of(1, *size))


@pytest.mark.slow
def test_the_smallest_images_that_are_taken():
    assert sizes_of("unet_valid", images_of(1, 188, 204))["logits"] == (4, 20, 2)
    assert sizes_of("unet", images_of(1, 16, 32))["logits"] == (16, 32, 2)
    assert sizes_of("resunet", images_of(1, 8, 16))["logits"] == (8, 16, 1)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("unet", {"padding": "full"}, "unknown padding 'full': known: same, valid"),
        ("unet", {"up": "bilinar"}, "unknown up 'bilinar': did you mean 'bilinear'"),
        ("resunet", {"down": "pool"}, "unknown down 'pool': known: bilinear, stride"),
    ],
)
def test_unknown_options(name, fields, message):
    with pytest.raises(InputError, match=message):
        shapes_of(create_model(name, **fields), images_of())


def test_tiles_of_valid_convolutions_are_exact():
    # The paper's strategy for large images: what one tile gives is what the whole image gives.
    model, images = tiny("unet_valid", up="transposed"), images_of(1, 24)
    variables = random_variables(model, images)
    run = jax.jit(functools.partial(model.apply, train=False))
    whole = run(variables, images)["logits"]
    tile = run(variables, images[:, 2:22, 4:24])["logits"]
    assert tile.shape == (1, 4, 4, 3)
    np.testing.assert_allclose(tile, whole[:, 2:6, 4:8], rtol=1e-5, atol=1e-5)


@pytest.mark.long
def test_batch_norms_fuse_into_the_convolutions():
    images = images_of(1, 8)
    variables = random_variables(tiny("unet"), images)
    fused = fuse_conv_bn(variables)
    logits, expected = (
        jax.jit(functools.partial(model.apply, train=False))(values, images)["logits"]
        for model, values in ((tiny("unet", norm=None), fused), (tiny("unet"), variables))
    )
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def torch_unet(torch, widths, *, padding, norm, up):
    """A U-Net as others write it, with names of its own."""
    nn = torch.nn

    def double(before, width):
        layers = []
        for channels in (before, width):
            layers.append(nn.Conv2d(channels, width, 3, padding=padding, bias=not norm))
            layers += [nn.BatchNorm2d(width)] if norm else []
            layers.append(nn.ReLU())
        return nn.Sequential(*layers)

    def growing(width):
        if up == "transposed":
            return nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        if up == "nearest":
            return nn.Upsample(scale_factor=2)
        grow = nn.Upsample(scale_factor=2, mode="bilinear")
        return nn.Sequential(grow, nn.Conv2d(2 * width, width, 1))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            pairs = itertools.pairwise((3, *widths))
            self.down = nn.ModuleList(double(*pair) for pair in pairs)
            self.grow = nn.ModuleList(growing(width) for width in widths[:-1])
            self.up = nn.ModuleList(
                double(width + (below if up == "nearest" else width), width)
                for width, below in itertools.pairwise(widths)
            )
            self.last = nn.Conv2d(widths[0], 3, 1)

        def forward(self, x):
            kept = []
            for number, block in enumerate(self.down):
                x = block(nn.functional.max_pool2d(x, 2) if number else x)
                kept.append(x)
            for level in reversed(range(len(widths) - 1)):
                x = self.grow[level](x)
                cut = (kept[level].shape[2] - x.shape[2]) // 2
                middle = nn.functional.pad(kept[level], 4 * [-cut])
                both = [middle, x]
                x = self.up[level](torch.cat(both[::-1] if up == "nearest" else both, dim=1))
            return self.last(x)

    return Net()


def from_torch_unet(key, *, norm):
    """Its keys in our names."""
    kind, *numbers, leaf = key.split(".")
    if kind == "last":
        return f"head.{leaf}"
    if kind == "grow":
        return f"decoder{numbers[0]}.up.{leaf}"
    level, place = map(int, numbers)
    number, part = divmod(place, 3 if norm else 2)
    layer = ("conv", "bn")[part]
    return f"{'encoder' if kind == 'down' else 'decoder'}{level}.{layer}{number + 1}.{leaf}"


def torch_resunet(torch, widths):
    nn = torch.nn

    class Unit(nn.Module):
        def __init__(self, before, width, stride, first):
            super().__init__()
            self.norm1 = nn.Identity() if first else nn.BatchNorm2d(before)
            self.first = first
            self.conv1 = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
            self.norm2 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
            self.shortcut = nn.Conv2d(before, width, 1, stride, bias=False)

        def forward(self, x):
            y = self.conv1(x if self.first else torch.relu(self.norm1(x)))
            return self.conv2(torch.relu(self.norm2(y))) + self.shortcut(x)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            for level, (before, width) in enumerate(itertools.pairwise((3, *widths))):
                first = level == 0
                self.add_module(f"encoder{level}", Unit(before, width, 1 if first else 2, first))
            for level, (width, below) in enumerate(itertools.pairwise(widths)):
                self.add_module(f"decoder{level}", Unit(width + below, width, 1, False))
            self.head = nn.Conv2d(widths[0], 3, 1)

        def forward(self, x):
            kept = []
            for level in range(len(widths)):
                x = getattr(self, f"encoder{level}")(x)
                kept.append(x)
            for level in reversed(range(len(widths) - 1)):
                x = nn.functional.interpolate(x, scale_factor=2, mode="bilinear")
                x = getattr(self, f"decoder{level}")(torch.cat([kept[level], x], dim=1))
            return self.head(x)

    return Net()


def check_logits(torch, theirs, ours, images, key_map=None):
    """Equal to 1e-4 of the largest, with norms that do something."""
    with torch.no_grad():
        for module in theirs.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 2)
        expected = theirs.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    state = {key: value.numpy().copy() for key, value in theirs.state_dict().items()}
    variables = from_state_dict(state, shapes_of(ours, images)[1], key_map=key_map)
    logits = ours.apply(variables, images, train=False)["logits"].transpose(0, 3, 1, 2)
    assert logits.shape == expected.shape
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "up", "size"),
    [
        ("unet", "transposed", 32),
        ("unet", "bilinear", 32),
        ("unet", "nearest", 32),
        ("unet_valid", "transposed", 60),
    ],
)
def test_logits_equal_those_of_a_unet_in_torch(name, up, size):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    widths, norm = (4, 8, 16), name == "unet"
    theirs = torch_unet(torch, widths, padding=int(norm), norm=norm, up=up)
    ours = create_model(name, widths=widths, up=up, up_first=up == "nearest", num_classes=3)

    def key_map(key):
        key = re.sub(r"^(grow\.\d)\.1", r"\1", key)  # the interpolation is no layer of ours
        return from_torch_unet(key, norm=norm)

    check_logits(torch, theirs, ours, images_of(2, size, size + 8), key_map)


@pytest.mark.parity
def test_logits_equal_those_of_a_resunet_in_torch():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    widths = (4, 8, 16)
    ours = create_model("resunet", widths=widths, num_classes=3)
    check_logits(torch, torch_resunet(torch, widths), ours, images_of(2, 32, 24))
