"""Runs on a folder of images by class: they know what their classes are called."""

import json
import pathlib

import pytest

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
        "--config.data.num_classes=2",
        "--config.batch_size=4",
        "--config.steps=2",
        "--config.eval_every=2",
        "--workdir=run",
    ]


def test_other_classes_are_refused(train, command, tmp_path):
    code, out, err = command(*train)
    assert code == 0, err
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["data"]["class_names"] == ["blue", "red"]
    code, again, err = command("eval", "--workdir=run")
    assert code == 0, err
    assert json.loads(again)["accuracy"] == json.loads(out.splitlines()[-1])["accuracy"]
    for split in ("train", "test"):
        (tmp_path / "data" / split / "blue").rename(tmp_path / "data" / split / "yellow")
    code, _, err = command("eval", "--workdir=run")
    assert code == 2
    assert "none of the 2 to train on: yellow" in err
    code, _, err = command(*train)
    assert code == 2
    assert "run has a run with another config (data.class_names: " in err


def test_a_run_from_before_they_were_kept_goes_on(train, command, tmp_path):
    code, out, err = command(*train)
    assert code == 0, err
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    del config["data"]["class_names"]
    path.write_text(json.dumps(config))
    for again in (train, ["eval", "--workdir=run"]):
        code, found, err = command(*again)
        assert code == 0, err
        figures = [json.loads(text.splitlines()[-1])["accuracy"] for text in (found, out)]
        assert figures[0] == figures[1]
