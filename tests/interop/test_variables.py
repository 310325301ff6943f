"""Variables on disk, and a network's from any file of weights."""

import functools
import os

import flax.linen as nn
import jax
import numpy as np
import pytest

import jaxvision
from jaxvision.core import InputError, OptionError
from jaxvision.interop import (
    class_count,
    load_weights,
    restore_variables,
    save_variables,
    to_state_dict,
    write_state_dict,
)
from jaxvision.layers import batch_norm
from jaxvision.models import create_model
from tests.models.variables import random_values

SIZE = (32, 32, 3)


def network(num_classes=4):
    return create_model("lenet5", num_classes=num_classes, norm=batch_norm)


@functools.cache
def variables():
    init = functools.partial(network().init, train=False)
    return random_values(jax.eval_shape(init, jax.random.key(0), np.zeros((1, *SIZE))))


@pytest.fixture
def folder(tmp_path):
    save_variables(tmp_path / "weights", variables())
    return tmp_path / "weights"


def check_equal(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_variables_come_back(folder):
    check_equal(restore_variables(folder), variables())
    check_equal(load_weights(network(), folder, input_size=SIZE), variables())


def test_a_folder_that_is_there_is_not_overwritten(folder):
    with pytest.raises(InputError, match="weights already exists"):
        save_variables(folder, variables())


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(InputError, match="contains no variables: give a folder that `jaxvision"):
        restore_variables(tmp_path)


def outcome(folder):
    """What restoring says; None if it gives the right arrays."""
    try:
        check_equal(restore_variables(folder), variables())
    except InputError as error:
        return str(error)
    return None


def test_a_damaged_folder_is_refused(folder):
    """Orbax itself restores arrays with a bit that is wrong, or fails in ways of its own."""
    said = []
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        whole = path.read_bytes()
        for place in (len(whole) // 2, -9):
            damaged = bytearray(whole)
            damaged[place] ^= 1
            path.write_bytes(damaged)
            said.append(outcome(folder))
        path.write_bytes(whole)
    noticed = [line for line in said if line is not None]
    assert len(noticed) >= 2
    assert all("is damaged" in line for line in noticed)
    assert outcome(folder) is None


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_file_with_a_prefix_and_other_names(tmp_path, suffix):
    state = {f"module.{k}": v for k, v in to_state_dict(variables()).items()}
    state["module.last.weight"] = state.pop("module.output.weight")
    state["optimizer.step"] = np.zeros(1)
    write_state_dict(tmp_path / f"a{suffix}", state)

    def key_map(key):
        return None if key.startswith("optimizer") else key.replace("last", "output")

    found = jaxvision.load_weights(
        network(), tmp_path / f"a{suffix}", prefix="module.", key_map=key_map, input_size=SIZE
    )
    check_equal(found, variables())
    with pytest.raises(
        InputError, match=r"missing: output.weight\n  left over: .*module\.last\.weight"
    ):
        load_weights(network(), tmp_path / f"a{suffix}", prefix="module.", input_size=SIZE)


def test_a_head_of_other_classes_begins_anew_only_if_asked():
    state, three = to_state_dict(variables()), network(3)
    with pytest.raises(InputError, match=r"^the weights are for num_classes=4 .*new_head") as one:
        load_weights(three, state, input_size=SIZE)
    assert "\n" not in str(one.value)
    part = {key: x for key, x in state.items() if key != "c1.bias"}
    with pytest.raises(InputError, match=r"missing: c1.bias\n(.*\n)+.*num_classes=4 .*new_head"):
        load_weights(three, part, input_size=SIZE)
    found = load_weights(three, state, input_size=SIZE, new_head=jax.random.key(1))
    assert found["params"]["output"]["kernel"].shape == (84, 3)
    assert np.asarray(found["params"]["output"]["kernel"]).any()
    for part in ("params", "batch_stats"):
        for name in found[part].keys() - {"output"}:
            check_equal(found[part][name], variables()[part][name])
    headless = load_weights(network(None), state, input_size=SIZE, new_head=jax.random.key(1))
    assert "output" not in headless["params"]
    with pytest.raises(InputError, match=r"num_classes=4 .*num_classes=None: .*new_head"):
        load_weights(network(None), state, input_size=SIZE)


def test_how_many_classes_weights_have():
    state_dict = {f"net.{key}": x for key, x in to_state_dict(variables()).items()}
    how = {"input_size": SIZE, "prefix": "net."}
    assert class_count(network(num_classes=7), state_dict, **how) == 4
    assert class_count(network(), state_dict, input_size=SIZE) is None
    without = {key: x for key, x in state_dict.items() if "output" not in key}
    assert class_count(network(), without, **how) is None
    assert class_count(create_model("espcn"), state_dict, **how) is None


def test_the_size_of_the_images_is_that_of_the_network(folder):
    """LeNet's images are grey ones: the weights of its first layer have one channel."""
    own = create_model("lenet5", num_classes=4)
    state = to_state_dict(
        random_values(
            jax.eval_shape(
                functools.partial(own.init, train=False),
                jax.random.key(0),
                np.zeros((1, 32, 32, 1)),
            )
        )
    )
    check_equal(to_state_dict(load_weights(own, state))["c1.weight"], state["c1.weight"])

    class Mine(nn.Module):
        num_classes: int = 4

    with pytest.raises(OptionError, match=r"^input_size is not given, and Mine is not a network"):
        load_weights(Mine(), state)


def test_a_pipe_in_a_folder_is_refused(folder):
    os.mkfifo(folder / "variables" / "pipe")
    with pytest.raises(InputError, match=r"weights is damaged .*not a regular file"):
        restore_variables(folder)
