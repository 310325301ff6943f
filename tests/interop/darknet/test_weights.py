"""Weights files: a round trip, both headers, what does not fit."""

import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.interop import (
    DarknetNetwork,
    WeightsHeader,
    parse_cfg,
    read_cfg,
    read_header,
    read_weights,
    write_weights,
)
from tests.interop.darknet.cfgs import FORK, MAPS, VECTORS
from tests.models.variables import random_variables

SMALL = """
[net]
height=2
width=1
channels=2
[convolutional]
filters=3
batch_normalize=1
[maxpool]
[connected]
output=2
"""
# Of the [convolutional]: biases, scales, means, variances and 3 x 2 of the kernel. Of the
# [connected]: biases and 2 x 6 of the matrix.
CONVOLUTIONAL, CONNECTED = 18, 14
NEW_HEADER = struct.pack("<iiiQ", 0, 2, 0, 0)


def variables_of(text):
    description = parse_cfg(text)
    images = jnp.zeros((1, *description.image))
    return description, random_variables(DarknetNetwork(description), images)


def write_floats(path, values, header=NEW_HEADER):
    path.write_bytes(header + np.asarray(values, "<f4").tobytes())
    return path


@pytest.mark.parametrize("version", [(0, 1, 0), (0, 2, 0), (1, 0, 7), (0, 1001, 0)])
@pytest.mark.parametrize("text", [MAPS, VECTORS, FORK])
def test_a_round_trip_keeps_every_bit(text, version, tmp_path):
    description, variables = variables_of(text)
    path = tmp_path / "net.weights"
    write_weights(path, description, variables, seen=3_000_000_000, version=version)
    jax.tree.map(np.testing.assert_array_equal, read_weights(path, description), variables)
    assert read_header(path) == WeightsHeader(*version, seen=3_000_000_000)
    counter = 8 if version in [(0, 2, 0), (1, 0, 7)] else 4
    count = description.num_parameters + description.num_statistics
    assert path.stat().st_size == 12 + counter + 4 * count
    assert [file.name for file in tmp_path.iterdir()] == ["net.weights"]


def test_the_order_in_a_file(tmp_path):
    path = write_floats(tmp_path / "net.weights", range(CONVOLUTIONAL + CONNECTED))
    variables = read_weights(path, parse_cfg(SMALL))
    conv, norm = variables["params"]["conv0"], variables["params"]["bn0"]
    statistics, connected = variables["batch_stats"]["bn0"], variables["params"]["connected2"]
    np.testing.assert_array_equal(norm["bias"], [0, 1, 2])
    np.testing.assert_array_equal(norm["scale"], [3, 4, 5])
    np.testing.assert_array_equal(statistics["mean"], [6, 7, 8])
    np.testing.assert_array_equal(statistics["var"], [9, 10, 11])
    np.testing.assert_array_equal(conv["kernel"][0, 0], [[12, 14, 16], [13, 15, 17]])
    np.testing.assert_array_equal(connected["bias"], [18, 19])
    np.testing.assert_array_equal(connected["kernel"].T, [range(20, 26), range(26, 32)])


@pytest.mark.parametrize("version", [(0, 1001, 0), (1001, 0, 0)])
def test_old_matrices_are_transposed_and_the_counter_has_32_bits(version, tmp_path):
    path = tmp_path / "net.weights"
    header = struct.pack("<iiiI", *version, 9)
    write_floats(path, range(CONVOLUTIONAL + CONNECTED), header)
    kernel = read_weights(path, parse_cfg(SMALL))["params"]["connected2"]["kernel"]
    np.testing.assert_array_equal(kernel, np.arange(20, 32).reshape(6, 2))
    assert read_header(path).seen == 9


WRONG = {
    "a float less": (
        lambda data: data[:-4],
        "has 31 floats, but the 3 layers of <cfg> have 32: 1 are missing, from layer 2 on, the "
        r"\[connected\] of line 10$",
    ),
    "a byte less": (
        lambda data: data[:-1],
        "has 31 floats and 3 more bytes, but the 3 layers of <cfg> have 32: 1 are missing, from "
        r"layer 2 on, the \[connected\] of line 10$",
    ),
    "a float more": (
        lambda data: data + bytes(4),
        "has 33 floats, but the 3 layers of <cfg> have 32: 1 floats and 0 bytes are left over$",
    ),
    "a byte more": (
        lambda data: data + bytes(1),
        "has 32 floats and 1 more bytes, but the 3 layers of <cfg> have 32: 0 floats and 1 bytes "
        "are left over$",
    ),
    "the first layers": (
        lambda data: data[: 20 + 4 * CONVOLUTIONAL],
        "14 are missing, from layer 2 on, .*; if the file only has the first 2 layers, give "
        "until=2$",
    ),
    "header only": (lambda data: data[:20], "has 0 floats, .*: 32 are missing, from layer 0 on, "),
    "no header": (lambda data: data[:19], "ends within its header: it is not a weights file$"),
    "empty": (lambda data: b"", "ends within its header: it is not a weights file$"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG.keys())
def test_files_of_another_length_are_refused(change, message, tmp_path):
    path = write_floats(tmp_path / "net.weights", range(CONVOLUTIONAL + CONNECTED))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=f"net.weights .*{message}") as error:
        read_weights(path, parse_cfg(SMALL))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none.weights cannot be read.*No such"):
        read_weights(tmp_path / "none.weights", parse_cfg(SMALL))


def test_a_trunk_is_read_into_the_variables_of_a_network(tmp_path):
    description, variables = variables_of(SMALL)
    path = tmp_path / "small.conv.2"
    write_weights(path, description, variables, until=2)
    assert path.stat().st_size == 20 + 4 * CONVOLUTIONAL
    trunk = read_weights(path, description, until=2)
    assert trunk.keys() == {"params", "batch_stats"}
    assert trunk["params"].keys() == {"conv0", "bn0"}

    # A network that begins with the same layers, in another dtype.
    longer = parse_cfg(SMALL.replace("output=2", "output=5"))
    shapes = {"params": {}, "batch_stats": variables["batch_stats"]}
    shapes["params"] = variables["params"] | {
        "connected2": {"bias": np.ones(5, "f4"), "kernel": np.ones((6, 5), "f4")}
    }
    fresh = jax.tree.map(lambda x: jnp.zeros_like(x, jnp.bfloat16), shapes)
    merged = read_weights(path, longer, until=2, into=fresh)
    assert jax.tree.structure(merged) == jax.tree.structure(fresh)
    assert {x.dtype for x in jax.tree.leaves(merged)} == {jnp.dtype(jnp.bfloat16)}
    np.testing.assert_array_equal(
        merged["params"]["conv0"]["kernel"], trunk["params"]["conv0"]["kernel"].astype("bfloat16")
    )
    np.testing.assert_array_equal(merged["params"]["connected2"]["bias"], np.zeros(5))

    with pytest.raises(InputError, match=r"has 18 floats, but the 3 layers of <cfg> have 32"):
        read_weights(path, description, into=fresh)
    with pytest.raises(InputError, match=r"until is 4, but <cfg> has 3 layers: give 1 to 3"):
        read_weights(path, description, until=4)


def test_variables_of_another_network_are_refused(tmp_path):
    description, variables = variables_of(SMALL)
    path = tmp_path / "net.weights"
    write_weights(path, description, variables)
    written = path.read_bytes()
    other = parse_cfg(SMALL.replace("filters=3", "filters=4"))
    with pytest.raises(
        InputError, match=r"params/bn0/bias has the shape \(3,\), but .* needs \(4,\)"
    ):
        write_weights(path, other, variables)
    plain = parse_cfg(SMALL.replace("batch_normalize=1", ""))
    with pytest.raises(InputError, match="the variables have no params/conv0/bias"):
        write_weights(path, plain, variables)
    more = {**variables, "params": variables["params"] | {"conv9": {"bias": np.zeros(1)}}}
    with pytest.raises(InputError, match="the variables have params/conv9/bias, which"):
        write_weights(path, description, more)
    with pytest.raises(InputError, match=r"seen is 4294967296: .* allows 0 to 2\^32 - 1"):
        write_weights(path, description, variables, seen=2**32, version=(0, 1, 0))
    assert path.read_bytes() == written
    with pytest.raises(InputError, match="the variables have no params/bn0/bias"):
        read_weights(path, description, into={"params": {}})


def test_the_trunk_of_darknet53_is_that_of_yolov3(real_data, tmp_path):
    cfgs = real_data / "darknet" / "cfg"
    darknet53, yolov3 = read_cfg(cfgs / "darknet53.cfg"), read_cfg(cfgs / "yolov3.cfg")
    trunks = [sum(description.stored()[:75], ()) for description in (darknet53, yolov3)]
    assert trunks[0] == trunks[1]
    # darknet53.conv.74 as it is published: 162,482,580 bytes.
    assert 20 + 4 * sum(array.count for array in trunks[0]) == 162_482_580
