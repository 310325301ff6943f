"""Options as dataclasses, as groups of a config, and in messages."""

from dataclasses import dataclass, field

import pytest
from ml_collections import ConfigDict

from jaxvision.cli.config import default_config, groups_of
from jaxvision.cli.kinds import KINDS
from jaxvision.cli.options import (
    documentation,
    flag_errors,
    group_of,
    keys_of,
    option_paths,
    plain,
    read_group,
)
from jaxvision.core import InputError, OptionError, check_range


@dataclass(frozen=True)
class Inner:
    """What is inside.

    Attributes:
      share: of something,
        which takes two lines.
      names: of others: ("a", "b").
    """

    share: float = 0.5
    names: tuple[str, ...] = ()

    def __post_init__(self):
        check_range("share", self.share, least=0, most=1)


@dataclass(frozen=True)
class Base:
    """What others have too.

    Attributes:
      steps: in all.
      seed: of all
        randomness.

    Raises:
      OptionError: never.
    """

    steps: int = 3
    seed: int = 0


@dataclass(frozen=True)
class Outer(Base):
    """What is outside.

    Attributes:
      seed: of this one.
      size: or None.
      inner: the inside.
    """

    size: int | None = None
    sizes: tuple[float, float] | None = None
    inner: Inner = field(default_factory=Inner)


def test_the_documentation_is_that_of_the_attributes():
    assert documentation(Inner) == {
        "share": "of something, which takes two lines.",
        "names": 'of others: ("a", "b").',
    }
    assert documentation(Outer) == {
        "steps": "in all.",
        "seed": "of this one.",
        "size": "or None.",
        "inner": "the inside.",
    }


def test_a_group_has_the_fields_of_a_dataclass_and_of_those_in_it():
    group = group_of(Outer, {"steps": 7})
    assert group.to_dict() == {
        "steps": 7,
        "seed": 0,
        "size": None,
        "sizes": None,
        "inner": {"share": 0.5, "names": ()},
    }
    with pytest.raises(TypeError):
        group.size = "large"
    group.size, group.sizes = 3, (1.0, 2.0)
    assert keys_of(Outer, "a.") == {
        "a.steps": "in all.",
        "a.seed": "of this one.",
        "a.size": "or None.",
        "a.sizes": "",
        "a.inner.share": "of something, which takes two lines.",
        "a.inner.names": 'of others: ("a", "b").',
    }


def test_a_group_becomes_the_dataclass_again():
    group = group_of(Outer)
    assert read_group(Outer, group, "config.outer") == Outer()
    group.inner.names = ["x", "y"]
    group.size = 4
    group.another = 1  # as options of a function that a key names
    read = read_group(Outer, group, "config.outer")
    assert read == Outer(size=4, inner=Inner(names=("x", "y")))
    group.inner.share = 2.0
    with pytest.raises(OptionError) as error:
        read_group(Outer, group, "config.outer")
    assert str(error.value) == "config.outer.inner.share is 2.0: give at least 0 and at most 1"
    assert error.value.option == "config.outer.inner.share"


def test_plain_values_have_neither_configs_nor_lists():
    config = ConfigDict({"a": [1, [2, 3]], "b": {"c": (4,), "d": {"e": None}}})
    assert plain(config) == {"a": (1, (2, 3)), "b": {"c": (4,), "d": {"e": None}}}


@pytest.mark.parametrize(
    ("option", "message", "expected"),
    [
        ("size", "size is 0: give more", "config.data.image_size is 0: give more"),
        ("mean", "mean is 0: give more", "config.data.mean is 0: give more"),
        ("size", "the size is 0: give more", "config.data: the size is 0: give more"),
        ("a.size", "a.size is 0: give more", "config.data.a.size is 0: give more"),
    ],
)
def test_an_error_names_the_key_of_its_option(option, message, expected):
    with pytest.raises(OptionError) as error, option_paths("config.data", size="image_size"):
        raise OptionError(option, message)
    assert str(error.value) == expected


def test_an_error_names_the_flag_of_its_option():
    with pytest.raises(OptionError, match=r"^--source is not given$"), flag_errors(form="source"):
        raise OptionError("form", "form is not given")
    with pytest.raises(OptionError, match=r"^--form: there is none$"), flag_errors():
        raise OptionError("form", "there is none")
    with pytest.raises(InputError, match=r"^no option$"), flag_errors():
        raise InputError("no option")


@pytest.mark.parametrize("task", KINDS)
def test_every_option_of_every_task_is_documented_and_read_again(task):
    config = default_config(task)
    for path, options in groups_of(task).items():
        meaning = keys_of(options, f"{path}." if path else "")
        assert [key for key, text in meaning.items() if not text] == []
        assert documentation(options).keys() >= {key.split(".")[-1] for key in meaning} - {
            key.split(".")[-1] for key in meaning if key.count(".") > path.count(".") + 1
        }
        group = config[path] if path else config
        read_group(options, group, f"config.{path}" if path else "config")
