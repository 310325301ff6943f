"""Commands run in this process, on digits that are prepared once."""

import pytest

from jaxvision.cli.main import run
from jaxvision.data import Digits


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """The folder of the embedded digits, as --config.data.dir."""
    folder = tmp_path_factory.mktemp("digits")
    Digits("train", dir=folder)
    return folder


@pytest.fixture
def command(capsys, tmp_path, monkeypatch):
    """Runs a command in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(name, *arguments):
        capsys.readouterr()
        code = run(name, [name, *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return call
