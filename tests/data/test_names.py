"""The names of `jaxvision.data`, some of which are imported when they are first asked for.

tests/test_api.py checks in a new process that the libraries behind them are not loaded before.
"""

import ast
import pathlib

import pytest

from jaxvision import data


def test_every_name_is_there():
    namespace = {}
    exec("from jaxvision.data import *", namespace)
    assert namespace.keys() >= {*data.__all__}
    assert {*dir(data)} >= {*data.__all__}
    assert sorted({*data.__all__}) == sorted(data.__all__)
    assert {*data._LATER} < {*data.__all__}


def test_names_are_those_of_their_modules():
    from jaxvision.data.loading.loader import TrainLoader
    from jaxvision.data.sources.tfds_source import Tfds

    assert data.TrainLoader is TrainLoader
    assert data.Tfds is Tfds


def test_a_wrong_name_says_which_are_close():
    with pytest.raises(AttributeError, match="data has no 'read_cocoa': did you mean 'read_co"):
        _ = data.read_cocoa
    assert not hasattr(data, "nothing_like_it")


BELOW = {
    "sources": set(),
    "transforms": {"sources"},
    "loading": {"sources"},
    "caching.py": {"sources", "transforms"},
}


def test_sub_packages_import_downward():
    """Sources know no transforms; loading knows the contract of a source and nothing else."""
    folder = pathlib.Path(data.__file__).parent
    for file in folder.rglob("*.py"):
        own = file.relative_to(folder).parts[0]
        if own == "__init__.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            names = [x.name for x in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                parts = name.split(".")
                if parts[:2] == ["jaxvision", "data"] and parts[2] != own:
                    assert parts[2] in BELOW[own], f"{file} imports {name}"
                    if own == "loading":
                        assert name == "jaxvision.data.sources.source"


def test_nothing_here_knows_of_configs():
    folder = pathlib.Path(data.__file__).parent
    for file in folder.rglob("*.py"):
        text = file.read_text()
        assert "config." not in text.replace("builder_config.name", ""), file
        assert "ConfigDict" not in text, file
