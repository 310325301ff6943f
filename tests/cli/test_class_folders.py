"""Runs on a folder of images by class: they know what their classes are called."""

import json
import pathlib

import pytest

from jaxvision.engine import read_run
from tests.data.folders import write_colors

TINY = pathlib.Path(__file__).parents[1] / "tiny_config.py"


@pytest.fixture
def train(tmp_path):
    """The arguments of a training on red and blue."""
    folder = write_colors(tmp_path / "data", size=8)
    return [
        "train",
        f"--config={TINY}",
        "--config.data.source=folder",
        f"--config.data.dir={folder}",
        "--config.batch_size=4",
        "--config.steps=2",
        "--config.eval_every=2",
        "--workdir=run",
    ]


def test_other_classes_are_refused(train, command, tmp_path):
    code, out, err = command(*train)
    assert code == 0, err
    config = read_run(tmp_path / "run")["config"]
    assert config["data"]["class_names"] == ["blue", "red"]
    code, again, err = command("eval", "--workdir=run")
    assert code == 0, err
    assert json.loads(again)["accuracy"] == json.loads(out.splitlines()[-1])["accuracy"]
    for split in ("train", "test"):
        (tmp_path / "data" / split / "blue").rename(tmp_path / "data" / split / "yellow")
    code, _, err = command("eval", "--workdir=run")
    assert code == 2
    assert (
        "test has classes that are not among the 2 of class_names: yellow: remove their folders"
        in err
    )
    code, _, err = command(*train)
    assert code == 2
    assert "run has another run (" in err
    assert "class_names: " in err
