"""Registries: merged with an error on a clash, looked up with a hint."""

import pytest

from jaxvision.core import InputError, close_names, lookup, merge

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
