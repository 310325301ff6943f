"""The shipped configs on real data, as far as a CPU goes."""

import json

import numpy as np
import pytest

from jaxvision.cli.main import run


def train(capsys, *arguments):
    """The closing JSON line of `jaxvision train`."""
    assert run("train", ["jaxvision train", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def losses_of(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return np.array([json.loads(line)["loss"] for line in lines])


@pytest.mark.long
def test_digits_lenet5_reaches_its_accuracy(tmp_path, capsys, record_property):
    result = train(capsys, "--config=digits_lenet5", f"--workdir={tmp_path}")
    record_property("accuracy", result["accuracy"])
    assert result["accuracy"] >= 0.985
    assert result["steps"] == 1200
    assert run("eval", ["jaxvision eval", f"--workdir={tmp_path}"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == result["accuracy"]


@pytest.mark.long
def test_fashion_mnist_learns(tmp_path, capsys, real_data, record_property):
    result = train(
        capsys,
        "--config=fashion_mnist_resnet20",
        f"--workdir={tmp_path}",
        f"--config.data.dir={real_data / 'fashion_mnist'}",
        "--config.steps=200",
        "--config.eval_every=200",
        "--config.batch_size=32",
        "--config.data.validation_fraction=0.02",
    )
    record_property("accuracy", result["accuracy"])
    losses = losses_of(tmp_path)
    assert len(losses) == 200
    assert losses[-20:].mean() < 0.6 * losses[:20].mean()
    assert result["accuracy"] > 0.7
