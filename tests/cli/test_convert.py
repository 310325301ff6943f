"""`jaxvision convert`: to an Orbax checkpoint and back, and training from pretrained weights."""

import json
import re

import jax
import numpy as np
import pytest

from jaxvision.cli import setup
from jaxvision.cli.config import default_config
from jaxvision.cli.pretrained import pretrained_variables, read_pretrained
from jaxvision.engine import restore_weights
from jaxvision.interop import (
    load_weights,
    read_state_dict,
    restore_variables,
    to_state_dict,
    write_state_dict,
)
from jaxvision.models import create_model
from tests.models.variables import random_values, random_variables

NAME = "resnet20"
CONVERT = "convert", f"--model={NAME}"
FIELDS = {"blocks": 1, "widths": (4,)}
SMALL = f"--config.model={ {'name': NAME, **FIELDS} }"


def state_of(**fields):
    model = create_model(NAME, **fields)
    return to_state_dict(random_variables(model, np.zeros((1, 32, 32, 3), "f4")))


@pytest.fixture(scope="module")
def state():
    """The weights of ResNet-20."""
    return state_of()


@pytest.fixture
def small():
    """The weights of a smaller one."""
    return state_of(**FIELDS)


def test_to_a_checkpoint_and_back(command, tmp_path, state):
    prefixed = {f"module.{key}": value for key, value in state.items()}
    write_state_dict(tmp_path / "given.safetensors", prefixed)
    code, out, err = command(*CONVERT, "--weights=given.safetensors", "weights", "--prefix=module.")
    assert code == 0, err
    result = json.loads(out)
    variables = restore_variables(tmp_path / "weights")
    arrays = jax.tree.leaves(variables)
    assert result == {
        "model": NAME,
        "arrays": len(arrays),
        "elements": sum(x.size for x in arrays),
        "out": "weights",
    }
    code, _, err = command(*CONVERT, "--weights=weights", "back.npz")
    assert code == 0, err
    back = read_state_dict(tmp_path / "back.npz")
    assert back.keys() == state.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(back[key], value)
    found = load_weights(create_model(NAME), tmp_path / "weights", input_size=(32, 32, 3))
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    code, _, err = command(*CONVERT, "--weights=given.safetensors", "weights", "--prefix=module.")
    assert code == 2
    assert "weights already exists" in err
    code, _, err = command(*CONVERT, "--weights=given.safetensors", "other")
    assert code == 2
    assert err.endswith("the keys differ by a prefix: give --prefix=module.\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([f"--model={NAME}"], "give one file or folder to write, and the network by --model"),
        (["out"], "give --model=NAME or --config=NAME with --weights=FILE"),
        ([f"--model={NAME}", "out"], "no --weights: give the file or folder with those of the"),
        (["--model=resnet21", "--weights=given.npz", "out"], "unknown model 'resnet21'"),
        ([f"--model={NAME}", "--weights=gone.npz", "out"], "there is no file gone.npz"),
        (
            ["--model=resnet18", "--weights=given.npz", "out"],
            "the weights do not fit the network:\n  missing: ",
        ),
        (
            [f"--model={NAME}", "--weights=given.npz", "out", "--config.model.num_classes=3"],
            "the weights are for num_classes=10",
        ),
        ([f"--model={NAME}", "--weights=nothing", "out.npz"], "no run in nothing"),
        (
            [f"--model={NAME}", "--weights=given.npz", "out", "--key-map=conv=c,fc=head"],
            "--key-map: no key of the weights fits conv=c: correct it or leave it out",
        ),
    ],
)
def test_what_cannot_be_converted(command, tmp_path, state, arguments, message):
    write_state_dict(tmp_path / "given.npz", state)
    code, _, err = command("convert", *arguments)
    assert code == 2
    assert message in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("task", "name", "fields", "prefix"),
    [
        ("classification", "vgg11_bn", {"hidden": 4}, "module."),
        pytest.param(
            *("detection", "yolov2", {"backbone": {"name": "vgg11_bn"}}, "backbone.body."),
            marks=pytest.mark.slow,
        ),
        ("segmentation", "unet_backbone", {"backbone": {"name": "vgg11_bn"}, "widths": (4,)}, ""),
    ],
)
def test_a_classifiers_file_is_taken_by_a_network(tmp_path, task, name, fields, prefix):
    stages = {"stages": ((4, 1), (8, 1), (8, 1), (8, 1), (8, 1))}
    classifier = create_model("vgg11_bn", num_classes=3, hidden=4, **stages)
    variables = random_variables(classifier, np.zeros((1, 32, 32, 3), "f4"))
    given = {prefix + key: value for key, value in to_state_dict(variables).items()}
    write_state_dict(tmp_path / "given.npz", given)
    config = default_config(task)
    config.model.name, config.data.image_size = name, 64
    with config.unlocked():
        config.model.update(fields)
        config.model.get("backbone", config.model).update(stages)
    if task == "classification":
        config.data.update({"channels": 3, "mean": (0.5,) * 3, "std": (0.5,) * 3})
    config.data.class_names = ("one", "two", "three")
    if task == "detection":
        config.anchors = ((10, 13), (16, 30))
    lines = []
    built = setup.build(config).task
    own = random_values(jax.eval_shape(built.init, jax.random.key(0)))
    how = {"variables": own, "prefix": prefix, "log": lines.append}
    weights = read_pretrained(str(tmp_path / "given.npz"))
    params = pretrained_variables(built, weights, **how)["params"]
    for layer, values in variables["params"].items():
        if layer.startswith("features") or task == "classification":
            found = params.get("backbone", params)[layer]
            jax.tree.map(np.testing.assert_array_equal, found, values)
    if task == "classification":
        assert "new:" not in lines[0]
        assert not lines[1:]
    else:
        assert "new: " in lines[0]
        assert f"{prefix}classifier.0.weight" in lines[1]


@pytest.mark.slow
def test_a_file_that_does_not_fit_says_what_it_has(command, tmp_path, digits, small):
    usual = ["train", "--config=digits_resnet20", f"--config.data.dir={digits}", SMALL]
    write_state_dict(tmp_path / "given.npz", {f"module.{key}": x for key, x in small.items()})
    code, _, err = command(*usual, "--config.init_from=given.npz")
    assert code == 2
    found = re.search(
        r"its keys are (.*) and \d+ more, the network's (.*) and \d+ more: .*init_prefix or", err
    )
    theirs, ours = (keys.split(", ") for keys in found.groups())
    assert theirs == [f"module.{key}" for key in list(small)[:3]]
    assert set(ours) < small.keys()
    (tmp_path / "given.npz").rename(tmp_path / "given.weight")
    code, _, err = command(*usual, "--config.init_from=given.weight")
    assert code == 2
    assert "given.weight is not a file of weights: they end in .safetensors, .npz" in err


@pytest.mark.long
def test_training_starts_from_a_file(command, tmp_path, digits, small):
    write_state_dict(tmp_path / "given.npz", {**small, "extra.weight": np.zeros(2)})
    train = [
        "train",
        "--config=digits_lenet5",
        f"--config.data.dir={digits}",
        SMALL,
        "--config.steps=1",
        "--config.batch_size=4",
        "--config.optimizer.learning_rate=1e-12",
    ]
    code, _, err = command(*train, "--config.init_from=given.npz", "--workdir=one")
    assert code == 0, err
    assert "are initialised from given.npz" in err
    assert "not taken from there: extra.weight" in err
    assert "; new: " not in err
    assert "from grey to RGB, or back: conv1/kernel" in err  # digits are grey
    after = to_state_dict(restore_weights(tmp_path / "one").variables)
    assert after.keys() == small.keys()
    small["conv1.weight"] = small["conv1.weight"].sum(axis=1, keepdims=True)
    for key in small:
        if not key.endswith(("running_mean", "running_var")):
            np.testing.assert_allclose(after[key], small[key], atol=1e-6)
