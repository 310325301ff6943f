"""Patterns that choose variables by name."""

import pytest

from jaxvision.core import InputError, name_matches, names_matching

NAMES = (
    "conv1/kernel",
    "bn1/scale",
    "layer1_0_conv1/kernel",
    "layer2_0_conv1/kernel",
    "layer3_0_conv1/kernel",
    "backbone/conv1/kernel",
    "fc/kernel",
    "fc/bias",
)


@pytest.mark.parametrize(
    ("pattern", "indices"),
    [
        ("conv1", [0]),
        ("conv1/kernel", [0]),
        ("layer[12]*", [2, 3]),
        ("layer?_0_conv1", [2, 3, 4]),
        ("backbone", [5]),
        ("backbone/conv1", [5]),
        ("*conv1", [0, 2, 3, 4, 5]),
        ("fc", [6, 7]),
        ("*/bias", [7]),
        ("*", range(len(NAMES))),
    ],
)
def test_a_whole_name_or_a_beginning_of_it(pattern, indices):
    assert [i for i, name in enumerate(NAMES) if name_matches(name, pattern)] == list(indices)


def test_several_choose_what_any_of_them_does():
    assert names_matching(NAMES, ("fc", "bn1", "fc/bias"), what="x") == {
        "bn1/scale",
        "fc/kernel",
        "fc/bias",
    }
    assert names_matching(NAMES, (), what="x") == set()


def test_a_pattern_that_matches_nothing_is_an_error():
    with pytest.raises(InputError, match=r"freeze: 'cnv1' matches nothing: .* 'conv1'"):
        names_matching(NAMES, ("fc", "cnv1"), what="freeze")
    with pytest.raises(InputError, match="'conv' matches nothing"):
        names_matching(NAMES, ("conv",), what="freeze")


@pytest.mark.parametrize("patterns", ["conv1", (1,)])
def test_what_is_no_sequence_of_patterns(patterns):
    with pytest.raises(InputError, match=r"freeze is .*: give a tuple of patterns"):
        names_matching(NAMES, patterns, what="freeze")
