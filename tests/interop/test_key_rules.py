"""Rules that rename the keys of third-party weights."""

import pytest

from jaxvision.core import InputError
from jaxvision.interop import KeyRules


@pytest.mark.parametrize(
    ("rules", "key", "expected"),
    [
        ([], "a.b", "a.b"),
        ([("a", "b")], "a.aa.a", "b.aa.b"),
        ([("a.b", "c")], "a.b.weight", "c.weight"),
        ([("a.b", "c")], "aa.b.weight", "aa.b.weight"),
        ([("down*.conv.*", "encoder*_conv*")], "net.down2.conv.0.bias", "net.encoder2_conv0.bias"),
        ([("*.x", "x.*")], "a.b.x", "a.x.b"),
        ([("a", "b"), ("b", "c")], "a.b", "c.c"),
        ([("pos*", "")], "pos_ids.weight", None),
        ([("a+b", r"\1")], "a+b.c", r"\1.c"),
    ],
)
def test_a_key(rules, key, expected):
    assert KeyRules(rules)(key) == expected


def test_rules_that_find_nothing_are_known():
    rules = KeyRules([("a", "b"), ("c", "d"), ("e", "")])
    rules("a.weight")
    assert rules.unused == (("c", "d"), ("e", ""))


@pytest.mark.parametrize(
    ("rule", "message"),
    [(("", "a"), "nothing to replace: give old=new"), (("a*", "*b*"), r"more \* on the right")],
)
def test_rules_that_cannot_be(rule, message):
    with pytest.raises(InputError, match=message):
        KeyRules([rule])
