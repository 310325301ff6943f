"""Registries: merged with an error on a clash, looked up with a hint."""

import json
import os
import pickle
import sys

import pytest

from jaxvision.core import InputError, close_names, find_function, lookup, merge

TABLE = {"resnet18": 18, "resnet20": 20, "yolov2": 2}


def test_merge_keeps_every_entry_in_order():
    assert list(merge({"b": 1}, {}, {"a": 2}).items()) == [("b", 1), ("a", 2)]


def test_merge_names_every_clash():
    with pytest.raises(ValueError, match=r"registered twice: a, b$"):
        merge({"b": 1, "a": 1, "c": 1}, {"a": 1, "b": 1})


def test_merge_finds_a_clash_with_a_table_before_the_last():
    with pytest.raises(ValueError, match=r"registered twice: a$"):
        merge({"a": 1}, {"b": 1}, {"a": 1})


def test_merge_leaves_its_arguments_alone():
    first = {"a": 1}
    merge(first, {"b": 2})
    assert first == {"a": 1}


def test_lookup_gives_the_entry():
    assert lookup(TABLE, "resnet20", "model") == 20


def test_lookup_of_a_near_miss_lists_only_close_names():
    with pytest.raises(InputError) as error:
        lookup(TABLE, "resnet21", "model")
    message = str(error.value)
    assert message.startswith("unknown model 'resnet21': did you mean ")
    assert "'resnet20'" in message
    assert "'resnet18'" in message
    assert "yolov2" not in message


def test_lookup_of_something_else_lists_all_names():
    with pytest.raises(InputError, match=r"unknown task 'qqq': known: resnet18, resnet20, yolov2$"):
        lookup(TABLE, "qqq", "task")


def test_close_names_puts_the_closest_first():
    assert close_names("resnet200", TABLE).startswith("did you mean 'resnet20' or ")


def test_an_input_error_is_one_line_and_a_value_error():
    with pytest.raises(ValueError) as error:
        lookup(TABLE, "resnet", "model")
    assert "\n" not in str(error.value)


def test_a_function_is_found_in_the_table_in_a_module_and_in_a_file(tmp_path, monkeypatch):
    file = tmp_path / "a:b" / "json.py"
    file.parent.mkdir()
    file.write_text(OWN)
    assert find_function({"f": len}, "f", "loss") is len
    assert find_function({}, "os.path:join", "loss") is os.path.join
    function = find_function({}, f"{file}:of_a_point", "loss")
    assert function() == 3
    assert pickle.loads(pickle.dumps(function)) is function
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_function({}, "~/a:b/json.py:of_a_point", "loss")() == 3
    assert sys.modules["json"] is json


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
        find_function({"len": len}, name and name.replace("FILE", str(file)), "loss")
