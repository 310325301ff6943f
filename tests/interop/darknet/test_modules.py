"""Our modules are the networks of the published descriptions: the same weights, the same maps."""

import dataclasses
import re
from functools import partial

import flax.traverse_util
import jax
import numpy as np
import pytest

from jaxvision.core import ImageBatch, InputError, Inputs
from jaxvision.interop import (
    DarknetNetwork,
    darknet_norm,
    from_module,
    parse_cfg,
    read_cfg,
    to_module,
    transfer,
)
from jaxvision.interop.darknet.network import alexeyab_norm
from jaxvision.models import create_model
from jaxvision.predict import darknet_task
from jaxvision.tasks import DetectOptions, detection
from jaxvision.tasks.detectors import DETECTORS
from jaxvision.tasks.inference import predictions_of
from tests.marks import long_but
from tests.models.variables import random_values, random_variables

SIZE = 64

# A small YOLOv2 with a passthrough.
CONV = "[conv]\nbatch_normalize=1\nfilters={}\nsize={}\npad=1\nactivation=leaky\n"
POOL = "[maxpool]\nsize=2\nstride=2\n"
SMALL_V2 = (
    "[net]\nheight=64\nwidth=64\nchannels=3\n"
    + CONV.format(4, 3)
    + POOL
    + CONV.format(8, 3)
    + POOL
    + CONV.format(8, 3)
    + CONV.format(6, 3)
    + "[route]\nlayers=-4\n"
    + CONV.format(4, 1)
    + "[reorg]\nstride=2\n[route]\nlayers=-1,-4\n"
    + CONV.format(6, 3)
    + "[conv]\nfilters=16\nsize=1\npad=1\nactivation=linear\n"
    + "[region]\nanchors=1,2,3,4\nnum=2\nclasses=3\ncoords=4\nsoftmax=1\n"
)


def small_v2(**fields):
    stages = ((0, ((4, 3),)), (1, ((8, 3),)), (2, ((8, 3),)))
    return create_model(
        "yolov2",
        backbone={"name": "plain_darknet", "stages": stages},
        level=2,
        convolutions=(6, 6),
        passthrough=4,
        num_classes=3,
        num_anchors=2,
        norm=darknet_norm,
        **{"reorg_order": "darknet", **fields},
    )


def check_same(description, model, names, size=SIZE, dtype="f4", tolerance=2e-4):
    """Random weights of the description give the same maps in the module, and come back."""
    network = DarknetNetwork(description)
    images = np.random.default_rng(0).uniform(size=(1, size, size, 3)).astype(dtype)
    of_dtype = partial(jax.tree.map, lambda x: np.asarray(x, dtype))
    variables = of_dtype(random_variables(network, images))
    like = of_dtype(random_variables(model, images))
    ours = to_module(variables, like)

    @jax.jit
    def run(variables, ours):
        maps = model.apply(ours, images, train=False)
        return network.apply(variables, images, train=False), maps

    expected, maps = run(variables, ours)
    for name, other in names.items():
        np.testing.assert_allclose(maps[name], expected[other], rtol=tolerance, atol=tolerance)
    back = from_module(ours, jax.tree.map(np.zeros_like, variables))
    back = flax.traverse_util.flatten_dict(back)
    for path, value in flax.traverse_util.flatten_dict(variables).items():
        np.testing.assert_array_equal(back[path], value, err_msg="/".join(path))
    return ours


def test_a_small_yolov2_equals_its_description():
    check_same(parse_cfg(SMALL_V2), small_v2(), {"logits": "region12"})


def test_the_order_of_the_passthroughs_channels_matters():
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_same(parse_cfg(SMALL_V2), small_v2(reorg_order="space_first"), {"logits": "region12"})


def test_a_trunk_fills_the_first_layers_and_leaves_the_others():
    images = np.zeros((1, SIZE, SIZE, 3), "f4")
    variables = random_variables(DarknetNetwork(parse_cfg(SMALL_V2)), images)
    like = random_variables(small_v2(), images)
    trunk = {
        collection: {name: x for name, x in layers.items() if int(re.search(r"\d+", name)[0]) < 5}
        for collection, layers in variables.items()
    }
    ours = to_module(trunk, like)
    np.testing.assert_array_equal(
        ours["params"]["backbone"]["conv3"]["kernel"], variables["params"]["conv4"]["kernel"]
    )
    np.testing.assert_array_equal(
        ours["batch_stats"]["backbone"]["bn3"]["var"], variables["batch_stats"]["bn4"]["var"]
    )
    np.testing.assert_array_equal(
        ours["params"]["conv1"]["kernel"], like["params"]["conv1"]["kernel"]
    )


def test_arrays_of_another_shape_are_kept_for_a_transfer():
    images = np.zeros((1, SIZE, SIZE, 3), "f4")
    variables = random_variables(DarknetNetwork(parse_cfg(SMALL_V2)), images)
    like = random_variables(small_v2().clone(num_classes=5), images)
    ours = to_module(variables, like, keep_shapes=True)
    assert ours["params"]["conv4"]["kernel"].shape[-1] == 16
    taken = transfer(like, ours)
    assert taken.own == ["conv4/bias", "conv4/kernel"]
    np.testing.assert_array_equal(
        taken.variables["params"]["conv3"]["kernel"], variables["params"]["conv10"]["kernel"]
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_classes": 4}, r"conv11: .* has the shape .*16.*, but the module's conv4/.* is .*18"),
        (
            {"norm": None},
            "conv0 has layer kernel, .*, but this layer of the module has layer bias, layer kernel",
        ),
        ({"convolutions": (6,)}, r"conv7|there are 7 layers with weights, but the module has 6"),
    ],
)
def test_other_networks_are_refused(fields, message):
    images = np.zeros((1, SIZE, SIZE, 3), "f4")
    variables = random_variables(DarknetNetwork(parse_cfg(SMALL_V2)), images)
    model = small_v2().clone(**fields)
    like = random_variables(model, images)
    with pytest.raises(InputError, match=message):
        to_module(variables, like)


PUBLISHED = {
    "yolov2": ("yolov2", {"num_classes": 80, "reorg_order": "darknet"}, {"logits": "region31"}),
    "yolov2-tiny-voc": ("yolov2_tiny", {}, {"logits": "region15"}),
    "yolo9000": ("yolo9000", {}, {"logits": "region24"}),
    "yolov3": (
        "yolov3",
        {},
        {"logits5": "yolo82", "logits4": "yolo94", "logits3": "yolo106"},
    ),
    "yolov3-spp": (
        "yolov3_spp",
        {},
        {"logits5": "yolo89", "logits4": "yolo101", "logits3": "yolo113"},
    ),
    "yolov3-tiny": ("yolov3_tiny", {}, {"logits5": "yolo16", "logits4": "yolo23"}),
    "yolov4": (
        "yolov4",
        {},
        {"logits3": "yolo139", "logits4": "yolo150", "logits5": "yolo161"},
    ),
    "yolov4-tiny": ("yolov4_tiny", {}, {"logits5": "yolo30", "logits4": "yolo37"}),
    "yolov4-tiny-3l": (
        "yolov4_tiny_3l",
        {},
        {"logits5": "yolo30", "logits4": "yolo37", "logits3": "yolo44"},
    ),
    "yolov4-csp": (
        "yolov4_csp",
        {},
        {"logits3": "yolo144", "logits4": "yolo159", "logits5": "yolo174"},
    ),
    "darknet19": ("darknet19", {}, {"logits": "logits"}),
    "darknet53": ("darknet53", {}, {"logits": "logits"}),
}


QUICK = ["yolov3-tiny", "yolov4-tiny", "yolov4-tiny-3l"]


def described(name, real_data):
    """The path of a published description, and the norm of the program that it is for."""
    if name.startswith("yolov4"):
        return real_data / "darknet" / "cfg_alexeyab" / f"{name}.cfg", alexeyab_norm
    return real_data / "darknet" / "cfg" / f"{name}.cfg", darknet_norm


@pytest.mark.parametrize("name", long_but(PUBLISHED, [], QUICK))
def test_a_published_description_and_our_module_give_the_same(name, real_data):
    model, fields, names = PUBLISHED[name]
    path, norm = described(name, real_data)
    check_same(read_cfg(path), create_model(model, norm=norm, **fields), names)


@pytest.mark.slow
def test_yolov4_tiny_equals_its_description_in_float64(real_data):
    path, norm = described("yolov4-tiny", real_data)
    model, _, names = PUBLISHED["yolov4-tiny"]
    with jax.enable_x64(True):
        check_same(
            read_cfg(path), create_model(model, norm=norm), names, dtype="f8", tolerance=1e-9
        )


@pytest.mark.long
def test_yolov4_and_csp_equal_their_descriptions_in_float64(real_data):
    for name in ("yolov4", "yolov4-csp"):
        path, norm = described(name, real_data)
        description = read_cfg(path)
        heads = [name for head in description.heads() for name in head.maps]
        names = {f"logits{level}": head for level, head in zip((3, 4, 5), heads, strict=True)}
        model = create_model(name.replace("-", "_"), norm=norm)
        with jax.enable_x64(True):
            check_same(description, model, names, dtype="f8", tolerance=1e-9)


SMALLER = {"yolov3": 0.5, "yolov4": 0.8, "yolov4-csp": 0.8}
"""Factors of random kernels, with which maps would grow until all scores are 1."""
DETECTING = ["yolov2", "yolov3", "yolov3-tiny", "yolov4", "yolov4-csp", "yolov4-tiny"]


@pytest.mark.parametrize("name", long_but(DETECTING, [], ["yolov3-tiny", "yolov4-tiny"]))
def test_darknets_weights_find_the_same_in_our_task(name, real_data):
    """Maps, anchors, decoding and suppression: what `jaxvision predict` finds with either."""
    model, fields, _ = PUBLISHED.get(name, (name.replace("-", "_"), {}, {}))
    path, norm = described(name, real_data)
    text = path.read_text()
    text = re.sub(r"(?m)^(width|height)=\d+", rf"\1={SIZE}", text)
    description = parse_cfg(text)
    (first, *_) = heads = sorted(description.heads(), key=lambda head: -head.stride)
    options = {"score_threshold": 0.005, "iou_threshold": 0.45, "max_detections": 100}
    fields = {**fields, "num_classes": first.num_classes}
    anchors, masks, decode = [], [], DetectOptions(**options)
    for head in heads:
        masks.append(range(len(anchors), len(anchors) + len(head.anchors)))
        anchors += head.anchors
    more = {"decode": decode}
    if norm is alexeyab_norm:
        more = {"masks": masks, "decode": dataclasses.replace(decode, distance_power=0.6)}
    detector = DETECTORS[model if model in DETECTORS else model[:6]](
        create_model(model, norm=norm, **fields), anchors, **more
    )
    task = detection(detector, Inputs((SIZE, SIZE)), class_names=first.num_classes)
    images = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)
    network = DarknetNetwork(description)
    variables = random_variables(network, images / np.float32(255))
    factor = SMALLER.get(name, 1.0)
    variables["params"] = jax.tree.map_with_path(
        lambda path, x: factor * x if path[-1].key == "kernel" else x, variables["params"]
    )
    like = random_values(jax.eval_shape(task.init, jax.random.key(0)))
    batch = ImageBatch(image=images, mask=np.ones(1, bool))
    expected = jax.jit(partial(predictions_of, darknet_task(description, **options)))(
        variables, batch
    )
    found = jax.jit(partial(predictions_of, task))(to_module(variables, like), batch)
    assert len(np.unique(expected.scores[expected.valid])) > 10
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-3, atol=1e-4)
    same = (np.asarray(found.labels) == np.asarray(expected.labels)).mean()
    assert same > 0.95, "but for ties"
    close = np.abs(np.asarray(found.boxes) - np.asarray(expected.boxes)).max(axis=-1) < 0.1
    assert close.mean() > 0.95
