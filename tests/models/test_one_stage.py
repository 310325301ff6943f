"""RetinaNet, FCOS and SSD: published sizes, shapes, torchvision's outputs and spellings of keys."""

import functools

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxvision.core import InputError, OptionError
from jaxvision.interop import (
    KeyRules,
    from_state_dict,
    load_weights,
    named_alike,
    to_state_dict,
    transfer,
)
from jaxvision.layers import (
    FPN,
    FrozenBatchNorm,
    batch_norm,
    frozen_batch_norm,
    group_norm,
)
from jaxvision.models import create_model, feature_info, fuse_conv_bn, input_size
from jaxvision.models.backbones.vgg import Stage
from jaxvision.models.detection.ssd import MOBILENET_RULES, VGG_RULES, DilatedVGG, Extra
from tests.marks import long_but
from tests.models.parity import check_round_trip, state_of, to_torch
from tests.models.structure import size_of
from tests.models.variables import random_values, random_variables, shapes_of
from tests.ops.parity import import_torchvision

BACKBONE = {"name": "resnet18", "blocks": (1, 1, 1, 1), "widths": (4, 4, 6, 8)}
PYRAMID = {"backbone": BACKBONE, "features": 8, "depth": 1}
VGG = functools.partial(DilatedVGG, stages=(Stage(4, 1),) * 4, last=Stage(4, 1), hidden=6)
TINY = {
    "retinanet": {**PYRAMID, "num_anchors": 2},
    # The last map has one cell: a group of one channel would be constant there.
    "fcos": {**PYRAMID, "head_norm": functools.partial(group_norm, num_groups=2)},
    "ssd300_vgg16": {
        "backbone": VGG,
        "extras": (Extra(3, 4), Extra(3, 4, stride=1, padding=0)),
        "num_anchors": (2, 3, 2, 1),
    },
    "ssdlite": {
        "backbone": BACKBONE,
        "extras": (Extra(3, 4),),
        "num_anchors": (2, 3, 1),
    },
}


def tiny(name, **fields):
    return create_model(name, **{"num_classes": 3, **TINY[name], **fields})


def images_of(batch=2, height=64, width=96):
    return np.random.default_rng(0).normal(size=(batch, height, width, 3)).astype(np.float32)


def shapes(name, size, **fields):
    images = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    maps, variables = shapes_of(create_model(name, **fields), images)
    return {key: x.shape[1:] for key, x in maps.items()}, size_of(variables["params"])


# Torchvision's numbers: published, and with batch norms.
SIZES = [
    ("retinanet_resnet50_fpn", 34_014_999, 34_068_119),
    ("retinanet_resnet50_fpn_v2", 38_198_935, 38_198_935),
    ("fcos_resnet50_fpn", 32_269_600, 32_322_720),
]
ROWS = ((100, 136), (50, 68), (25, 34), (13, 17), (7, 9))


@pytest.mark.parametrize(("name", "published", "plain"), long_but(SIZES, [], SIZES))
def test_the_size_and_the_maps_of_pyramid_detectors(name, published, plain):
    maps, count = shapes(name, (800, 1088))
    assert count == published
    assert shapes(name, (64, 64), norm=batch_norm)[1] == plain
    classes, boxes = ((91,), (4,)) if "fcos" in name else ((9, 91), (9, 4))
    expected = {f"cls_logits{i}": (*row, *classes) for i, row in enumerate(ROWS)}
    expected |= {f"bbox_regression{i}": (*row, *boxes) for i, row in enumerate(ROWS)}
    if "fcos" in name:
        expected |= {f"bbox_ctrness{i}": row for i, row in enumerate(ROWS)}
    assert maps == expected


SSDS = [
    ("ssd300_vgg16", 35_641_826, (38, 19, 10, 5, 3, 1), (4, 6, 6, 6, 4, 4), 8_732),
    ("ssd512_vgg16", 37_513_116, (64, 32, 16, 8, 4, 2, 1), (4, 6, 6, 6, 6, 4, 4), 24_564),
    ("ssdlite320_mobilenet_v3_large", 3_440_060, (20, 10, 5, 3, 2, 1), (6,) * 6, 3_234),
]


@pytest.mark.parametrize(("name", "count", "sides", "anchors", "boxes"), long_but(SSDS, [], SSDS))
def test_the_size_and_the_maps_of_ssds(name, count, sides, anchors, boxes):
    maps, params = shapes(name, input_size(name)[:2])
    assert params == count
    expected = {}
    for i, (side, number) in enumerate(zip(sides, anchors, strict=True)):
        expected[f"cls_logits{i}"] = (side, side, number, 91)
        expected[f"bbox_regression{i}"] = (side, side, number, 4)
    assert maps == expected
    assert sum(s * s * a for s, a in zip(sides, anchors, strict=True)) == boxes


@pytest.mark.parametrize("name", long_but(TINY, [], ["fcos", "ssd300_vgg16"]))
def test_detectors_learn_in_bfloat16(name):
    model = tiny(name, dtype=jnp.bfloat16)
    images = images_of(2, 96, 128)
    variables = random_variables(model, images)

    @jax.jit
    def run(params):
        def loss(params):
            now = {**variables, "params": params}
            maps, changed = model.apply(now, images, train=True, mutable=["batch_stats"])
            return sum(jnp.sin(x.astype(jnp.float32)).sum() for x in maps.values()), (maps, changed)

        return jax.grad(loss, has_aux=True)(params)

    gradients, (maps, _) = run(variables["params"])
    for path, x in jax.tree.leaves_with_path(gradients):
        assert x.dtype == jnp.float32, path
        assert np.isfinite(x).all(), path
        assert np.abs(x).max() > 0, path
    for key, x in maps.items():
        assert x.dtype == jnp.bfloat16, key
        assert np.isfinite(x.astype(np.float32)).all(), key


@pytest.mark.parametrize(
    ("name", "fields", "error", "message"),
    [
        (
            "retinanet",
            {"levels": ("c4", "c9")},
            InputError,
            r"no map 'c9': it has c1 \(4 channels\).*feature_info",
        ),
        ("retinanet", {"num_anchors": 0}, OptionError, "num_anchors is 0"),
        ("retinanet", {"p6_from": "p4"}, OptionError, "extra is 'p6p7_from_p4'"),
        ("fcos", {"head_norm": "group"}, InputError, "unknown head_norm 'group': .*group_norm"),
        ("ssdlite", {"num_anchors": (6, 6)}, InputError, r"num_anchors is \(6, 6\): give 3"),
        (
            "ssd300_vgg16",
            {"extras": (Extra(3, 4, 9),) * 2},
            InputError,
            "too small for backbone_ex",
        ),
    ],
)
def test_what_does_not_fit_is_one_clear_line(name, fields, error, message):
    with pytest.raises(error, match=message) as raised:
        shapes_of(tiny(name, **fields), images_of(1))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
def test_a_pyramid_without_extra_maps_and_a_norm_by_its_name(name):
    fields = {"levels": ("c2", "c4"), "p6_from": None, "head_norm": "batch_norm"}
    maps, variables = shapes_of(tiny(name, **fields), images_of(1, 64, 96))
    logits = {key: x.shape[1:3] for key, x in maps.items() if "logits" in key}
    assert logits == {"cls_logits0": (16, 24), "cls_logits1": (4, 6)}
    assert any("classification_head" in key for key in variables["batch_stats"])


def test_weights_for_other_classes_say_what_to_do():
    images = images_of(1, 96, 96)
    state = to_state_dict(random_values(shapes_of(tiny("ssd300_vgg16"), images)[1]))
    with pytest.raises(InputError, match=r"^[^\n]*num_classes=3 .*has num_classes=2: .*new_head"):
        load_weights(tiny("ssd300_vgg16", num_classes=2), state, input_size=(96, 96, 3))


# Channels of the maps c1, c2, ...; those of the papers and of torchvision.
CHANNELS = {
    "resnet18": (64, 64, 128, 256, 512),
    "resnet50": (64, 256, 512, 1024, 2048),
    "mobilenet_v2": (16, 24, 32, 96, 320),
    "mobilenet_v3_large": (16, 24, 40, 112, 160),
    "efficientnet_b0": (16, 24, 40, 112, 320),
    "convnext_tiny": (None, 96, 192, 384, 768),
    "swin_t": (None, 96, 192, 384, 768),
    "densenet121": (64, 256, 512, 1024, 1024),
    "regnet_y_400mf": (32, 48, 104, 208, 440),
    "shufflenet_v2_x1_0": (24, 24, 116, 232, 464),
    "mnasnet1_0": (16, 24, 40, 96, 320),
    "googlenet": (64, 192, 480, 832, 1024),
    "squeezenet1_1": (64, 128, 256, 512),
    "darknet53": (64, 128, 256, 512, 1024),
    "cspdarknet53": (64, 128, 256, 512, 1024),
}


@pytest.mark.parametrize("name", long_but(CHANNELS, [], ["convnext_tiny", "googlenet"]))
def test_feature_info_of_classifiers(name):
    found = feature_info(create_model(name, num_classes=None), (224, 224, 3))
    assert found == tuple(
        (f"c{level}", channels, 2**level)
        for level, channels in enumerate(CHANNELS[name], start=1)
        if channels is not None
    )


def test_feature_info_of_maps():
    found = feature_info(create_model(**BACKBONE, num_classes=None), (64, 64, 3))
    assert found == (("c1", 4, 2), ("c2", 4, 4), ("c3", 4, 8), ("c4", 6, 16), ("c5", 8, 32))
    with pytest.raises(InputError, match="returns no map"):
        feature_info(create_model("vit_b_16", blocks=1, width=4, heads=2), (224, 224, 3))


class OneOfFixedSize(nn.Module):
    """A network with a map of stride 2, and one of 6x6 cells for images of any size."""

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Conv(4, (3, 3), strides=2)(images)
        return {"c1": x, "grid": jnp.broadcast_to(x.mean((1, 2), keepdims=True), (1, 6, 6, 4))}


def test_feature_info_leaves_out_maps_of_a_fixed_size():
    assert feature_info(OneOfFixedSize(), (64, 64, 3)) == (("c1", 4, 2),)


def test_a_frozen_norm_by_hand():
    x = np.float32([[[[3, 1]]]])
    vectors = {"mean": [1, 1], "var": [4, 0.25], "scale": [2, 3], "bias": [5, 7]}
    statistics = {"batch_stats": {key: np.float32(value) for key, value in vectors.items()}}
    for epsilon, expected in ((0.0, [7, 7]), (12.0, [6, 7])):
        found = FrozenBatchNorm(epsilon=epsilon).apply(statistics, x)
        np.testing.assert_allclose(found, [[[expected]]], rtol=1e-6)
    assert create_model("retinanet_resnet50_fpn").norm.keywords == {"epsilon": 0.0}
    assert create_model("fcos_resnet50_fpn").norm is frozen_batch_norm


def test_frozen_norms_take_the_arrays_of_a_classifier_and_are_fused():
    images = images_of(1, 32, 32)
    classifier = create_model(**BACKBONE, num_classes=2)
    given = random_values(shapes_of(classifier, images)[1])
    model = tiny("retinanet", norm="frozen_batch_norm")
    own = random_values(shapes_of(model, images)[1])
    assert not any("bn" in "/".join(p) for p in flax.traverse_util.flatten_dict(own["params"]))
    taken = transfer(own, given).variables
    for leaf, collection in (("scale", "params"), ("mean", "batch_stats")):
        np.testing.assert_array_equal(
            taken["batch_stats"]["backbone_body"]["layer1_0_bn1"][leaf],
            given[collection]["layer1_0_bn1"][leaf],
        )
    state = to_state_dict(taken)
    assert not any(key.endswith("num_batches_tracked") for key in state)
    back = from_state_dict(state, shapes_of(model, images)[1])
    jax.tree.map(np.testing.assert_array_equal, back, jax.device_get(taken))
    without = jax.eval_shape(fuse_conv_bn, taken)
    plain = shapes_of(tiny("retinanet", norm=None), images)[1]
    assert jax.tree.structure(without) == jax.tree.structure(plain)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("detector", "classifier", "rules"),
    [
        ("ssd300_vgg16", "vgg16", VGG_RULES),
        ("ssdlite320_mobilenet_v3_large", "mobilenet_v3_large", MOBILENET_RULES),
    ],
)
def test_rules_bring_a_classifiers_keys_to_the_backbone(detector, classifier, rules):
    side = input_size(detector)[0]
    _, own = shapes_of(create_model(detector), images_of(1, side, side))
    _, other = shapes_of(create_model(classifier, num_classes=None), images_of(1, 64, 64))
    state = to_state_dict(jax.tree.map(lambda x: np.broadcast_to(np.float32(0), x.shape), other))
    backbone = {name: tree["backbone"] for name, tree in own.items() if "backbone" in tree}
    found, left = named_alike(state, backbone, key_map=KeyRules(rules))
    assert not left
    missing = flax.traverse_util.flatten_dict(backbone).keys()
    missing -= flax.traverse_util.flatten_dict(found).keys()
    added = {"scale_weight", "extra_0_7_1", "extra_0_7_3"} if "vgg" in classifier else set()
    assert {path[1] for path in missing} == added


@pytest.mark.parametrize("extra", [None, "pool", "p6p7_from_c5"])
def test_a_pyramid_adds_maps(extra):
    maps = [jax.ShapeDtypeStruct((1, *size, 3), jnp.float32) for size in ((13, 10), (7, 5))]
    run = functools.partial(FPN(4, extra=extra).init_with_output, train=False)
    found, _ = jax.eval_shape(run, jax.random.key(0), maps)
    more = {None: [], "pool": [(4, 3)], "p6p7_from_c5": [(4, 3), (2, 2)]}[extra]
    assert [x.shape for x in found] == [(1, *size, 4) for size in ((13, 10), (7, 5), *more)]


def theirs(name, frozen=None):
    """(torch, torchvision's detector with random weights, in evaluation)."""
    torch, detection = import_torchvision("models.detection")
    torch.manual_seed(0)
    network = getattr(detection, name)(weights=None, weights_backbone=None).eval()
    with torch.no_grad():
        for values in network.parameters():
            if values.ndim == 4:
                fan = values[0].numel()
                values.normal_(std=(2 / fan) ** 0.5)
    if "ssd300" not in name:
        settle_body(torch, network)
    if frozen is not None:
        freeze(torch, network.backbone.body, frozen)
    return torch, network


def settle_body(torch, network):
    """Statistics near those of what the layers see."""
    size = 320 if hasattr(network.backbone, "features") else 128
    images = np.random.default_rng(1).normal(size=(2, size, size, 3)).astype(np.float32)
    norms = [m for m in network.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    with torch.no_grad():
        network.backbone.train()(to_torch(torch, images))
    network.eval()


def freeze(torch, module, epsilon):
    from torchvision.ops.misc import FrozenBatchNorm2d

    for name, child in module.named_children():
        if isinstance(child, torch.nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(child.num_features, eps=epsilon)
            frozen.load_state_dict(child.state_dict())
            setattr(module, name, frozen)
        else:
            freeze(torch, child, epsilon)


def outputs_of(torch, network, images):
    """The head's outputs: all maps in one, [B, N, ...]."""
    with torch.no_grad():
        maps = list(network.backbone(to_torch(torch, images)).values())
        return {key: x.numpy() for key, x in network.head(maps).items()}


def joined(maps, name):
    """Ours as torchvision has them."""
    parts = [maps[f"{name}{i}"] for i in range(sum(key.startswith(name) for key in maps))]
    last = {"cls_logits": parts[0].shape[-1], "bbox_regression": 4, "bbox_ctrness": 1}[name]
    return np.concatenate([np.asarray(x).reshape(len(x), -1, last) for x in parts], axis=1)


def old_spelling(name, state):
    """The keys of torchvision's files of 2019 to 2021."""

    def old(key):
        parts = key.split(".")
        if "inner_blocks" in parts or "layer_blocks" in parts:
            del parts[-2]
        elif "retinanet" in name and parts[2] == "conv":
            parts[3:5] = [str(2 * int(parts[3]))]
        return ".".join(parts)

    renamed = {old(key): x for key, x in state.items() if "num_batches" not in key}
    assert "backbone.fpn.inner_blocks.0.weight" in renamed
    assert ("head.regression_head.conv.6.weight" in renamed) or "fcos" in name
    return renamed


# Size of the images, epsilon of frozen norms, dtype and tolerance.
SMALL = {
    "retinanet_resnet50_fpn": ((128, 160), 0.0, jnp.float32, 1e-3),
    "retinanet_resnet50_fpn_v2": ((128, 160), None, jnp.float32, 1e-3),
    "fcos_resnet50_fpn": ((128, 160), 1e-5, jnp.float32, 1e-3),
    "ssd300_vgg16": ((300, 300), None, jnp.float32, 1e-3),
    "ssdlite320_mobilenet_v3_large": ((320, 320), None, jnp.float64, 1e-9),
}


@pytest.mark.parity
@pytest.mark.parametrize("name", SMALL)
def test_outputs_equal_torchvisions(name):
    size, frozen, dtype, bound = SMALL[name]
    torch, network = theirs(name, frozen)
    wide = dtype == jnp.float64
    network = network.double() if wide else network
    images = np.random.default_rng(0).normal(size=(1, *size, 3)).astype(dtype)
    expected, state = outputs_of(torch, network, images), state_of(network)
    with jax.enable_x64(wide):
        ours = create_model(name, dtype=dtype, param_dtype=dtype)
        like = jax.tree.map(lambda x: x.update(dtype=dtype), shapes_of(ours, images)[1])
        variables = from_state_dict(state, like)
        check_round_trip(state, to_state_dict(variables, model=ours))
        if name in ("retinanet_resnet50_fpn", "fcos_resnet50_fpn"):
            older = from_state_dict(old_spelling(name, state), like)
            jax.tree.map(np.testing.assert_array_equal, older, variables)
        run = jax.jit(
            functools.partial(ours.apply, train=False),
            compiler_options={"xla_backend_optimization_level": 0},
        )
        maps = jax.device_get(run(variables, images))
    for key, value in expected.items():
        found = joined(maps, key)
        assert (found.shape, found.dtype) == (value.shape, dtype), key
        assert value.std() > 1e-2 * np.abs(value).max(), key
        assert np.abs(found - value).max() <= bound * np.abs(value).max(), key
