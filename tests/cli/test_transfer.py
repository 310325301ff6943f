"""Fine-tuning by the commands: runs that start from others' weights and train some parts."""

import contextlib
import io
import json
import re

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxvision.cli import setup
from jaxvision.cli.config import find_config, load_config
from jaxvision.cli.main import run
from jaxvision.cli.pretrained import Weights, pretrained_variables, read_pretrained
from jaxvision.core import Inputs
from jaxvision.engine import restore_weights
from jaxvision.models import create_model
from jaxvision.tasks import detection, detectors
from tests.cli.conftest import result_of

TINY = [
    "--config=digits_resnet20",
    "--config.model={'name': 'resnet20', 'blocks': 1, 'widths': (4,)}",
    "--config.data.image_size=8",
    "--config.augment.padding=0",
    "--config.augment.degrees=0",
    "--config.batch_size=32",
    "--config.steps=4",
    "--config.eval_every=2",
]


@pytest.fixture
def tiny(digits):
    return [*TINY, f"--config.data.dir={digits}"]


def variables_of(workdir):
    return jax.device_get(restore_weights(workdir).variables)


@pytest.fixture(scope="module")
def old(digits, tmp_path_factory):
    """A run with a warm-up of the head and an average: its folder, result and messages."""
    workdir = tmp_path_factory.mktemp("old") / "old"
    arguments = [
        *TINY,
        f"--config.data.dir={digits}",
        "--config.head_warmup.steps=2",
        "--config.head_warmup.only=('fc',)",
        "--config.optimizer.ema_decay=0.9",
        f"--workdir={workdir}",
    ]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert run("train", ["train", *arguments]) == 0
    return workdir, json.loads(out.getvalue().splitlines()[-1]), err.getvalue()


@pytest.mark.slow
def test_the_warm_up_of_the_head_and_the_ema(old, command):
    workdir, result, err = old
    assert "from step 1 on 50 of 398 parameters are trained: fc\n" in err
    assert "from step 3 on all 398 parameters are trained\n" in err
    # Of the checkpoints of both phases, the best is found again, with the average.
    again, _ = result_of(command, "eval", f"--workdir={workdir}")
    assert again["accuracy"] == result["accuracy"]


@pytest.mark.slow
def test_a_part_is_trained_of_a_run_that_starts_from_another(old, tiny, command, tmp_path):
    few = ["--config.data.per_class=5", f"--config.init_from={old[0]}", "--workdir=new"]
    again = ["--config.reinit=('fc',)", "--config.seed=1"]
    frozen = ["--config.freeze=('conv1', 'bn1', 'layer*')", "--config.freeze_statistics=('*',)"]
    result, err = result_of(command, "train", *tiny, *few, *again, *frozen)
    assert re.search("arrays are initialised from .*old, step .; new: fc/bias, fc/kernel\n", err)
    assert "\n50 of 398 parameters are trained: fc\n" in err
    assert "at random" not in err
    assert result["steps"] == 4
    before, after = variables_of(old[0]), variables_of(tmp_path / "new")
    # After 4 steps of 0.1 a head that was not initialised again would still be like the old one.
    heads = [variables["params"].pop("fc")["kernel"].ravel() for variables in (before, after)]
    assert abs(np.corrcoef(heads)[0, 1]) < 0.5
    jax.tree.map(np.testing.assert_array_equal, after, before)


@pytest.mark.long
def test_what_is_frozen_at_random_is_said(tiny, command):
    frozen = "--config.freeze=('conv1', 'layer1*')"
    one_step = ["--config.steps=1", "--config.eval_every=1"]
    norms = "--config.freeze_statistics=('bn1',)"
    two_stages = "--config.model={'name': 'resnet20', 'blocks': 1, 'widths': (4, 8)}"
    first = [two_stages, frozen, norms, "--workdir=old"]
    code, _, err = command("train", *tiny, *one_step, *first)
    assert code == 0, err
    for key in ("freeze", "freeze_statistics"):
        assert f"config.{key} is set without config.init_from: the initial values are frozen" in err
    deeper = "--config.model={'name': 'resnet20', 'blocks': 2, 'widths': (4, 8)}"
    start = ["--config.init_from=old", "--workdir=new"]
    code, _, err = command("train", *tiny, *one_step, deeper, frozen, *start)
    assert code == 0, err
    assert "without config.init_from" not in err
    assert re.search("frozen, though new and at random: .*layer1_1_conv1/kernel", err)
    assert "layer2_1_conv1" not in err.partition("at random: ")[2].partition("\n")[0]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.freeze=('convl',)", r"config.freeze: 'convl' matches nothing: .*'conv1'"),
        ("--config.freeze_statistics=('fc',)", r"config.freeze_statistics: 'fc' matches nothing"),
        (
            "--config.optimizer.lr_multipliers=(('head', 2.0),)",
            r"config.optimizer.lr_multipliers: 'head' matches nothing",
        ),
        (
            "--config.optimizer.lr_multipliers=('head', 2.0)",
            r"config.optimizer.lr_multipliers has 'head': give pairs of a pattern and a factor",
        ),
        ("--config.head_warmup.steps=2", r"config.head_warmup.only is empty: name the parameters"),
        ("--config.head_warmup.steps=9", r"config.head_warmup.(steps is 9|only is empty)"),
        (
            "--config.head_warmup={'steps': 4, 'only': ('fc',), 'learning_rate': 0.1}",
            r"config.head_warmup.steps is 4: give at least 0 and less than 4",
        ),
        (
            "--config.data.class_names=('zero',)",
            "^error: config.data.class_names is zero, but the classes .* are 0, 1, .* more: leave",
        ),
    ],
)
def test_patterns_that_do_not_fit(tiny, command, argument, message, tmp_path):
    code, _, err = command("train", *tiny, argument, "--workdir=run")
    assert code == 2
    assert re.search(message, err), err
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.long
def test_a_classifier_of_fashion_starts_a_detector_and_a_unet(real_data, command, tmp_path):
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
        task = setup.build(config).task
        own = jax.jit(task.init)(jax.random.key(0))
        variables = pretrained_variables(
            task, read_pretrained(str(tmp_path / "old")), variables=own, log=said.append
        )
        count = len(jax.tree.leaves(old)) - 2
        assert re.match(rf"{count} arrays are initialised from .*; new: ", said[0])
        for collection, layers in old.items():
            for layer, values in layers.items():
                for leaf, x in values.items():
                    if layer == "fc":
                        continue
                    found = variables[collection]["backbone"][layer][leaf]
                    # The photographs have three channels, the garments one.
                    expected = np.repeat(x, 3, axis=2) / 3 if layer == "conv1" else x
                    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_stages_that_a_detector_freezes_at_random_are_said():
    stages = ((1, ((4, 3),)), (2, ((4, 3),)))
    model = create_model(
        "retinanet",
        backbone={"name": "plain_darknet", "stages": stages},
        levels=("c2",),
        p6_from=None,
        features=4,
        depth=1,
        num_classes=2,
    )
    detector = detectors.retinanet(model, sizes=(16,), trainable_backbone_layers=1)
    task = detection(detector, Inputs((32, 32)), class_names=2)
    variables = jax.tree.map(
        lambda x: np.zeros(x.shape, x.dtype), jax.eval_shape(task.init, jax.random.key(0))
    )
    first = task.freeze[0].removeprefix("backbone_body/")
    layers = dict(variables["params"]["backbone_body"])
    del layers[first]
    weights = {**variables, "params": {**variables["params"], "backbone_body": layers}}
    lines = []
    pretrained_variables(
        task, Weights("an old run", {}, weights), variables=variables, log=lines.append
    )
    assert any(x.startswith(f"frozen, though new and at random: {task.freeze[0]}/") for x in lines)
