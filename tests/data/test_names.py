"""The names of `jaxvision.data`, some of which are imported when they are first asked for."""

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
    from jaxvision.data.sources.splits import Splits

    assert data.TrainLoader is TrainLoader
    assert data.Splits is Splits


def test_a_wrong_name_says_which_are_close():
    with pytest.raises(AttributeError, match="data has no 'read_cocoa': did you mean 'read_co"):
        _ = data.read_cocoa
    assert not hasattr(data, "nothing_like_it")
