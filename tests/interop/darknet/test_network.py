"""Networks from descriptions, against an interpreter by loops."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.interop import DarknetNetwork, parse_cfg, read_cfg, write_weights
from jaxvision.interop.darknet.activations import ACTIVATIONS
from jaxvision.tasks.detectors import darknet
from tests.interop.darknet.cfgs import FORK, MAPS, VECTORS
from tests.models.variables import random_variables
from tests.reference import darknet as reference

NET = "[net]\nheight=4\nwidth=4\nchannels=2\n"
CLASSIFIER = NET + "[conv]\nfilters=3\nbatch_normalize=1\n[dropout]\n[avg]\n[softmax]\n"


def floats_of(path, description, variables):
    write_weights(path, description, variables)
    return np.fromfile(path, "<f4", offset=20)


def check_against_reference(text, path, *, batch):
    """Every layer's map, and the maps that the network returns: these are given back."""
    description = parse_cfg(text)
    network = DarknetNetwork(description)
    images = np.random.default_rng(0).uniform(size=(batch, *description.image)).astype("f4")
    variables = random_variables(network, images)

    @jax.jit
    def run(variables, images):
        return network.apply(variables, images, train=False, mutable=["intermediates"])

    maps, updated = run(variables, images)
    without_sigmoid = {
        layer.inputs[0] for layer in description.layers if getattr(layer, "logistic_before", False)
    }
    floats = floats_of(path, description, variables)
    fork = description.dialect == "alexeyab"
    expected = [reference.run(text, x.transpose(2, 0, 1), floats, fork) for x in images]
    expected = [np.stack(x).transpose(0, 2, 3, 1) for x in zip(*expected, strict=True)]
    for layer, (x,) in updated["intermediates"].items():
        number = int(layer.removeprefix("layer"))
        if number in without_sigmoid:
            x = jax.nn.sigmoid(x)
        np.testing.assert_allclose(x, expected[number], rtol=1e-4, atol=1e-5, err_msg=layer)
    assert len(updated["intermediates"]) + len(description.heads()) == len(description.layers)
    return maps, expected


def test_maps_equal_the_reference(tmp_path):
    maps, expected = check_against_reference(MAPS, tmp_path / "weights", batch=2)
    assert maps.keys() == {"yolo12", "region18", "logits"}
    for name, anchors, x in (("yolo12", 2, expected[12]), ("region18", 1, expected[18])):
        head = np.stack([reference.anchored(one.transpose(2, 0, 1), anchors) for one in x])
        assert maps[name].shape == (2, 3, 4, anchors, 7)
        np.testing.assert_allclose(maps[name], head, rtol=1e-4, atol=1e-5)
    # Before the softmax, and in its groups.
    np.testing.assert_allclose(maps["logits"], expected[22].reshape(2, 2, 3), rtol=1e-4, atol=1e-5)


def test_layers_of_the_fork_equal_the_reference(tmp_path):
    maps, expected = check_against_reference(FORK, tmp_path / "weights", batch=2)
    assert maps.keys() == {"Gaussian_yolo13", "yolo16", "logits"}
    probabilities = jax.nn.sigmoid(maps["yolo16"])  # the network gives their logits
    pairs = (maps["Gaussian_yolo13"], expected[13]), (probabilities, expected[16])
    for found, x in pairs:
        head = np.stack([reference.anchored(one.transpose(2, 0, 1), 2) for one in x])
        np.testing.assert_allclose(found, head, rtol=1e-4, atol=1e-5)


def test_a_sigmoid_that_others_need_stays():
    """So that the maps of [yolo] are probabilities, which have no loss."""
    conv = "[convolutional]\nfilters=6\nactivation=logistic\n"
    yolo = "[yolo]\nanchors=4,5\nclasses=1\nnew_coords=1\n"
    text = "[net]\nheight=8\nwidth=8\nchannels=3\n" + conv + yolo
    alone, needed = parse_cfg(text), parse_cfg(text + "[route]\nlayers=-2\n")
    assert [layer.activation for layer in (alone.layers[0], needed.layers[0])] == [
        "linear",
        "logistic",
    ]
    assert [x.heads()[0].activated for x in (alone, needed)] == [False, True]
    assert all(x.heads()[0].squared for x in (alone, needed))
    with pytest.raises(InputError, match=r"no loss for a .yolo. with new_coords whose input is no"):
        darknet(DarknetNetwork(needed))


@pytest.mark.parametrize(
    ("options", "size"),
    [("", 7), ("dropblock_size_abs=3\n", 3), ("dropblock_size_rel=.25\n", 2)],
)
def test_dropblock_drops_blocks_in_training(options, size):
    text = "[net]\nheight=8\nwidth=10\nchannels=2\n[dropout]\ndropblock=1\nprobability=.2\n"
    network = DarknetNetwork(parse_cfg(text + options))
    images = np.ones((3, 8, 10, 2), "f4")
    same = network.apply({}, images, train=False)["features"]
    np.testing.assert_array_equal(same, images)
    key = jax.random.key(0)
    dropped = network.apply({}, images, train=True, rngs={"dropout": key})["features"] == 0
    assert 0 < dropped.mean() < 0.6
    # Each dropped pixel lies in a whole block.
    for one in np.moveaxis(np.asarray(dropped), -1, 1).reshape(-1, 8, 10):
        blocks = np.lib.stride_tricks.sliding_window_view(one, (size, size)).all(axis=(2, 3))
        covered = np.zeros_like(one)
        for row, column in np.argwhere(blocks):
            covered[row : row + size, column : column + size] = True
        np.testing.assert_array_equal(covered, one)


def test_vectors_equal_the_reference(tmp_path):
    maps, expected = check_against_reference(VECTORS, tmp_path / "weights", batch=1)
    parts = reference.yolov1(expected[7][0], side=2, boxes=2, classes=1)
    assert maps.keys() == {"coordinates", "confidence", "class_scores"}
    for name, part in zip(("coordinates", "confidence", "class_scores"), parts, strict=True):
        np.testing.assert_allclose(maps[name], part[None], rtol=1e-4, atol=1e-5, err_msg=name)


def test_activations_equal_the_reference():
    assert ACTIVATIONS.keys() == reference.ACTIVATIONS.keys()
    x = np.concatenate([np.linspace(-6, 6, 25), np.linspace(-5.9, 5.9, 22)]).astype("f4")
    values = jax.jit(lambda x: {name: act(x) for name, act in ACTIVATIONS.items()})(x)
    for name, value in values.items():
        np.testing.assert_allclose(
            value, reference.activate(x, name), rtol=1e-5, atol=1e-6, err_msg=name
        )


def test_activations_have_finite_gradients():
    x = np.array([-300, -4, -1, 0, 1, 4, 300], "f4")
    slopes = jax.jit(
        lambda x: {name: jax.vmap(jax.grad(act))(x) for name, act in ACTIVATIONS.items()}
    )(x)
    for name, slope in slopes.items():
        assert np.isfinite(slope).all(), name


def test_names_dtypes_and_defaults():
    network = DarknetNetwork(parse_cfg(MAPS), dtype=jnp.bfloat16, param_dtype=jnp.float16)
    maps, variables = jax.eval_shape(
        functools.partial(network.init_with_output, train=False),
        jax.random.key(0),
        jnp.zeros((1, 12, 16, 3)),
    )
    assert {x.dtype for x in maps.values()} == {jnp.dtype(jnp.bfloat16)}
    assert {x.dtype for x in jax.tree.leaves(variables["params"])} == {jnp.dtype(jnp.float16)}
    assert {name: set(leaves) for name, leaves in variables["params"].items()} == {
        "conv0": {"kernel"},
        "bn0": {"scale", "bias"},
        "conv2": {"kernel", "bias"},
        "conv6": {"kernel"},
        "bn6": {"scale", "bias"},
        "conv11": {"kernel", "bias"},
        "conv17": {"kernel", "bias"},
        "conv22": {"kernel", "bias"},
    }
    assert {name: set(leaves) for name, leaves in variables["batch_stats"].items()} == {
        "bn0": {"mean", "var"},
        "bn6": {"mean", "var"},
    }


def test_a_network_without_a_head_returns_its_last_map():
    network = DarknetNetwork(parse_cfg(NET + "[max]\nsize=2\nstride=2\n[route]\nlayers=0\n"))
    images = jnp.arange(32.0).reshape(1, 4, 4, 2)
    maps = network.apply({}, images, train=False)
    assert maps.keys() == {"features"}
    np.testing.assert_array_equal(maps["features"], images[:, 1::2, 1::2])


def test_statistics_move_by_a_hundredth_and_are_those_of_all_shards():
    network = DarknetNetwork(parse_cfg(CLASSIFIER), axis_name="batch")
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 4, 2)).astype("f4")
    variables = random_variables(DarknetNetwork(parse_cfg(CLASSIFIER)), images[0])

    @jax.jit
    @functools.partial(jax.vmap, axis_name="batch")
    def step(images):
        key = jax.random.fold_in(jax.random.key(0), jax.lax.axis_index("batch"))
        maps, updated = network.apply(
            variables, images, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
        )
        return maps["logits"], updated["batch_stats"]["bn0"]["mean"]

    logits, means = step(images)
    assert logits.shape == (2, 4, 3)
    mapped = np.einsum("sbhwc,co->sbhwo", images, variables["params"]["conv0"]["kernel"][0, 0])
    before = variables["batch_stats"]["bn0"]["mean"]
    expected = 0.99 * before + 0.01 * mapped.mean(axis=(0, 1, 2, 3))
    np.testing.assert_allclose(means, [expected, expected], rtol=1e-4)


def test_wrong_images_are_named():
    network = DarknetNetwork(parse_cfg(MAPS))
    init = functools.partial(network.init, jax.random.key(0), train=False)
    with pytest.raises(AssertionError, match=r"images is float32\[1, 12, 16, 1\]: give float\[B"):
        init(jnp.zeros((1, 12, 16, 1)))
    with pytest.raises(InputError, match=r"line 46: \[shortcut\] adds layer 6, 3 x 4 x 12, to 5 x"):
        init(jnp.zeros((1, 10, 16, 3)))


def published(real_data):
    """The paths of all descriptions."""
    paths = sorted((real_data / "darknet").glob("cfg*/*.cfg"))
    assert len(paths) == 30
    return paths


@pytest.mark.slow
def test_all_published_descriptions_build_with_the_formats_sizes_and_counts(real_data):
    for path in published(real_data):
        description = read_cfg(path)
        network = DarknetNetwork(description)

        def run(images, network=network):
            maps, variables = network.init_with_output(
                jax.random.key(0), images, train=False, mutable=True
            )
            return variables, maps, variables.pop("intermediates")

        images = jax.ShapeDtypeStruct((2, *description.image), jnp.float32)
        variables, maps, intermediates = jax.eval_shape(run, images)
        for index, size in enumerate(description.sizes()):
            if f"layer{index}" in intermediates:
                assert intermediates[f"layer{index}"][0].shape == (2, *size), (path.name, index)
        names = {name for head in description.heads() for name in head.maps} or {
            "logits" if "[softmax]" in path.read_text() else "features"
        }
        assert maps.keys() == names, path.name
        for head in description.heads():
            for name in head.maps:
                assert maps[name].shape[1:3] == head.grid_size, path.name
            if head.anchors:
                others = 9 if head.kind == "Gaussian_yolo" else 5
                expected = (len(head.anchors), others + head.num_classes)
                assert maps[head.maps[0]].shape[3:] == expected, path.name
        counts = [
            sum(x.size for x in jax.tree.leaves(variables.get(collection, {})))
            for collection in ("params", "batch_stats")
        ]
        assert counts == [description.num_parameters, description.num_statistics], path.name


@pytest.mark.long
def test_all_published_descriptions_run(real_data):
    """At their own size if they have connected or local layers, otherwise at a small one."""
    for path in published(real_data):
        description = read_cfg(path)
        fixed = re.search(r"\[(connected|local|crop)\]", path.read_text())
        size = description.image if fixed else (128, 128, 3)
        network = DarknetNetwork(description)
        images = np.random.default_rng(0).uniform(size=(1, *size)).astype("f4")
        variables = random_variables(network, images)
        maps = jax.jit(functools.partial(network.apply, train=False))(variables, images)
        for name, x in maps.items():
            assert np.isfinite(x).all(), (path.name, name)
            assert np.ptp(x) > 0, (path.name, name)


@pytest.mark.slow
def test_yolov3_tiny_equals_the_reference(real_data, tmp_path):
    path = real_data / "darknet" / "cfg" / "yolov3-tiny.cfg"
    text = re.sub(r"#.*|[ \t]", "", path.read_text())
    description = read_cfg(path)
    network = DarknetNetwork(description)
    images = np.random.default_rng(0).uniform(size=(1, 64, 96, 3)).astype("f4")
    variables = random_variables(network, images)
    maps = jax.jit(functools.partial(network.apply, train=False))(variables, images)
    floats = floats_of(tmp_path / "weights", description, variables)
    expected = reference.run(text, images[0].transpose(2, 0, 1), floats)
    assert maps.keys() == {"yolo16", "yolo23"}
    for number in (16, 23):
        head = reference.anchored(expected[number], 3)
        scale = np.abs(head).max()
        np.testing.assert_allclose(maps[f"yolo{number}"][0], head, rtol=0, atol=1e-4 * scale)


@pytest.mark.slow
def test_gradients_of_every_layer_are_finite_and_not_zero():
    for text in (MAPS, VECTORS, FORK):
        description = parse_cfg(text)
        network = DarknetNetwork(description)
        images = np.random.default_rng(0).uniform(size=(2, *description.image)).astype("f4")
        variables = random_variables(network, images)

        def total(params, network=network, variables=variables, images=images):
            maps, _ = network.apply(
                variables | {"params": params},
                images,
                train=True,
                rngs={"dropout": jax.random.key(1)},
                mutable=["batch_stats"],
            )
            return sum((x**2).sum() for x in maps.values())

        gradients = jax.jit(jax.grad(total))(variables["params"])
        for path, gradient in jax.tree.leaves_with_path(gradients):
            assert np.isfinite(gradient).all(), path
            assert np.abs(gradient).max() > 0, path
