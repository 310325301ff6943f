"""Functions by name: of a table, of a module, of a file of one's own."""

import json
import os
import pickle
import sys

import pytest

from jaxvision.cli.code import Code
from jaxvision.core import InputError


def test_a_function_is_found_in_the_table_in_a_module_and_in_a_file(tmp_path, monkeypatch):
    file = tmp_path / "a:b" / "json.py"
    file.parent.mkdir()
    file.write_text(OWN)
    assert Code().find({"f": len}, "f", "loss") is len
    assert Code().find({}, "os.path:join", "loss") is os.path.join
    function = Code().find({}, f"{file}:of_a_point", "loss")
    assert function() == 3
    assert pickle.loads(pickle.dumps(function)) is function
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Code().find({}, "~/a:b/json.py:of_a_point", "loss")() == 3
    assert sys.modules["json"] is json


def test_a_file_runs_once_for_all_that_is_taken_from_it(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    code, name = Code(), f"{tmp_path / 'own.py'}:Point"
    assert code.find({}, name, "loss") is code.find({}, name, "loss")
    assert code.find({}, name, "loss") is not Code().find({}, name, "loss")


# Dataclasses with such annotations look their module up.
OWN = """
from __future__ import annotations
import dataclasses

@dataclasses.dataclass
class Point:
    x: int = 3

number = 4

def of_a_point():
    return Point().x
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lenn", "unknown loss 'lenn': did you mean 'len'"),
        (None, "loss is None: give its name"),
        (":f", "loss ':f': give 'file.py:function' or 'package.module:function'"),
        ("..os:f", "loss '..os:f': give 'file.py:function'"),
        ("no_such_module:f", "loss 'no_such_module:f': No module named 'no_such_module'"),
        ("os.path:joined", "unknown loss of os.path 'joined': did you mean 'join'"),
        ("FILE:number", "unknown loss of .* 'number': known: .*of_a_point"),
        ("none.py:f", "there is no file .*none.py"),
    ],
)
def test_a_function_that_is_not_there_says_why(tmp_path, name, message):
    file = tmp_path / "own.py"
    file.write_text(OWN)
    with pytest.raises(InputError, match=message):
        Code().find({"len": len}, name and name.replace("FILE", str(file)), "loss")
