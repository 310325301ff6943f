"""Runs on a folder of images by class: they know what their classes are called."""

import shutil

import pytest

from jaxvision.engine import read_run
from tests.cli.test_errors import error_of


@pytest.mark.slow
def test_other_classes_are_refused(trained, evaluated, command, tmp_path):
    folder, arguments, data, result, _ = trained("colors")
    assert read_run(folder)["config"]["data"]["class_names"] == ["blue", "red"]
    assert evaluated("colors")[0]["accuracy"] == result["accuracy"]
    other = shutil.copytree(data, tmp_path / "data")
    for split in ("train", "test"):
        (other / split / "blue").rename(other / split / "yellow")
    error = error_of(command("eval", f"--workdir={folder}", f"--data={other}"))
    assert "test has classes that are not among the 2 of class_names: yellow: remove" in error
    given = [*arguments, f"--config.data.dir={other}", f"--workdir={folder}"]
    error = error_of(command("train", *given))
    assert "run has another run (" in error
    assert "class_names: " in error
