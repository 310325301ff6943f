"""Runs that begin with the weights of others, of which parts train, by the commands."""

import json
import re

import jax
import numpy as np
import pytest
from jaxvision.cli.beginning import starting_from
from ml_collections import ConfigDict

from jaxvision.cli import assemble
from jaxvision.cli.config import find_config, load_config

TINY = [
    "--config=digits_resnet20",
    "--config.model={'name': 'resnet20', 'blocks': 1, 'widths': (4, 8, 8)}",
    "--config.data.image_size=8",
    "--config.batch_size=32",
    "--config.steps=4",
    "--config.eval_every=2",
]


@pytest.fixture
def tiny(digits):
    return [*TINY, f"--config.data.dir={digits}"]


def variables_of(workdir):
    return jax.device_get(assemble.open_run(workdir)[1].state.variables)


def test_a_part_trains_of_a_run_that_begins_with_another(tiny, command, tmp_path):
    code, _, err = command("train", *tiny, "--workdir=old")
    assert code == 0, err
    assert "all 2,518 parameters train" in err
    few = ["--config.data.per_class=5", "--config.init_from=old", "--workdir=new"]
    anew = ["--config.init_except=('fc',)", "--config.seed=1"]
    frozen = ["--config.freeze=('conv1', 'bn1', 'layer*')", "--config.freeze_statistics=('*',)"]
    code, out, err = command("train", *tiny, *few, *anew, *frozen)
    assert code == 0, err
    assert re.search("arrays begin as in old, step .; new: fc/bias, fc/kernel\n", err)
    assert "90 of 2,518 parameters train: fc" in err
    assert "at random" not in err
    assert json.loads(out.splitlines()[-1])["steps"] == 4
    before, after = variables_of(tmp_path / "old"), variables_of(tmp_path / "new")
    # After 4 steps of 0.1 a head that did not begin anew would still be like the old one.
    heads = [variables["params"].pop("fc")["kernel"].ravel() for variables in (before, after)]
    assert abs(np.corrcoef(heads)[0, 1]) < 0.5
    jax.tree.map(np.testing.assert_array_equal, after, before)


def test_what_is_frozen_at_random_is_told(tiny, command):
    frozen = "--config.freeze=('conv1', 'layer1*')"
    one_step = ["--config.steps=1", "--config.eval_every=1"]
    norms = "--config.freeze_statistics=('bn1',)"
    code, _, err = command("train", *tiny, *one_step, frozen, norms, "--workdir=old")
    assert code == 0, err
    for key in ("freeze", "freeze_statistics"):
        assert f"config.{key} without config.init_from: what it names stays as it begins" in err
    deeper = "--config.model={'name': 'resnet20', 'blocks': 2, 'widths': (4, 8, 8)}"
    begins = ["--config.init_from=old", "--workdir=new"]
    code, _, err = command("train", *tiny, *one_step, deeper, frozen, *begins)
    assert code == 0, err
    assert "without config.init_from" not in err
    assert re.search("frozen, though new and at random: .*layer1_1_conv1/kernel", err)
    assert "layer2_1_conv1" not in err.partition("at random: ")[2].partition("\n")[0]


def test_the_head_first_and_means_of_the_weights(tiny, command):
    first = ["--config.head_first.steps=2", "--config.head_first.train=('fc',)"]
    means = ["--config.optimizer.ema_decay=0.9", "--workdir=run"]
    code, out, err = command("train", *tiny, *first, *means)
    assert code == 0, err
    assert "from step 1 on 90 of 2,518 parameters train: fc" in err
    assert "from step 3 on all 2,518 parameters train" in err
    # Of the checkpoints of both phases, the best is found again, with the means.
    code, again, err = command("eval", "--workdir=run")
    assert code == 0, err
    assert json.loads(again)["accuracy"] == json.loads(out.splitlines()[-1])["accuracy"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.freeze=('convl',)", r"config.freeze: 'convl' matches nothing: .*'conv1'"),
        ("--config.freeze_statistics=('fc',)", r"config.freeze_statistics: 'fc' matches nothing"),
        ("--config.optimizer.rates=(('head', 2.0),)", r"config.optimizer.rates: 'head' matches"),
        ("--config.head_first.steps=2", r"config.head_first.train is empty"),
        ("--config.data.class_names=('zero',)", "class_names has 1 names, but .*num_classes is 10"),
    ],
)
def test_patterns_that_do_not_fit(tiny, command, argument, message, tmp_path):
    code, _, err = command("train", *tiny, argument, "--workdir=run")
    assert code == 2
    assert re.search(message, err), err
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.slow
def test_a_classifier_of_fashion_begins_a_detector_and_a_unet(real_data, command, tmp_path):
    small = ["--config.steps=1", "--config.data.validation_fraction=0.01", "--workdir=old"]
    folder = f"--config.data.dir={real_data / 'fashion_mnist'}"
    code, _, err = command("train", "--config=fashion_mnist_resnet20", folder, *small)
    assert code == 0, err
    old = variables_of(tmp_path / "old")
    fields = {
        "scenes_yolov2_tiny": {"name": "yolov2", "level": 4, "passthrough": None},
        "scenes_unet": {"name": "unet_backbone", "widths": (64, 32, 16), "aux": True},
    }
    for name, model in fields.items():
        config, said = load_config(find_config(name)), []
        config.model = ConfigDict({**model, "backbone": "resnet20"})
        task = assemble.make_task(config)
        started = starting_from(task, str(tmp_path / "old"), say=said.append)
        assert re.match(rf"{len(jax.tree.leaves(old)) - 2} arrays begin as in .*; new: ", said[0])
        variables = jax.jit(started.init)(jax.random.key(0))
        for collection, layers in old.items():
            for layer, values in layers.items():
                for leaf, x in values.items():
                    if layer == "fc":
                        continue
                    found = variables[collection]["backbone"][layer][leaf]
                    # The photographs have three channels, the garments one.
                    expected = np.repeat(x, 3, axis=2) / 3 if layer == "conv1" else x
                    np.testing.assert_array_equal(found, expected)
