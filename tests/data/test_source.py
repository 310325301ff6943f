"""Sources: parts of others, kept records, and a validation part that is always the same."""

from types import SimpleNamespace

import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.data import CLASSIFICATION_SOURCES, Cached, Splits, Subset, hold_out


class Counting:
    """Record i has the label i; remembers what was read."""

    def __init__(self, count):
        self.count, self.reads = count, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        assert type(index) is int
        self.reads.append(index)
        return {"label": index}

    def where(self, index):
        return f"counting, record {index}"


def labels(part):
    return [part[i]["label"] for i in range(len(part))]


def test_a_subset_has_the_chosen_records_and_their_names():
    part = Subset(Counting(10), [7, 2, 2])
    assert labels(part) == [7, 2, 2]
    assert part.where(0) == "counting, record 7"


def test_cached_reads_each_record_once_and_only_when_asked():
    inner = Counting(10)
    cached = Cached(inner)
    assert len(cached) == 10
    assert inner.reads == []
    assert [cached[i]["label"] for i in (3, 5, 3, 5)] == [3, 5, 3, 5]
    assert inner.reads == [3, 5]
    assert cached.where(3) == "counting, record 3"


@pytest.mark.parametrize(("count", "fraction", "held"), [(1438, 0.1, 144), (10, 0, 0), (7, 0.5, 4)])
def test_hold_out_cuts_the_records_in_two(count, fraction, held):
    rest, part = (labels(p) for p in hold_out(Counting(count), fraction))
    assert len(part) == held
    assert rest == sorted(rest)
    assert part == sorted(part)
    assert sorted(rest + part) == list(range(count))


def test_hold_out_is_random_and_the_same_for_ever():
    """The figures were written down once; no other numpy or machine may change them."""
    for _ in range(2):
        assert labels(hold_out(Counting(20), 0.25)[1]) == [1, 8, 10, 18, 19]


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(
        InputError, match=rf"validation_fraction is {fraction}: give at least 0 and less than 1"
    ):
        hold_out(Counting(10), fraction)


OPENED = {"train": Counting(10), "test": Counting(4)}
SOURCES = {"counting": lambda data, split: OPENED[split]}


def data(**changes):
    return SimpleNamespace(
        **{"source": "counting", "validation_fraction": 0.3, "cache": False, **changes}
    )


def test_train_and_validation_share_the_training_split():
    train, validation = (
        labels(Splits(data(), SOURCES).open(name)) for name in ("train", "validation")
    )
    assert (len(train), len(validation)) == (7, 3)
    assert sorted(train + validation) == list(range(10))
    assert labels(Splits(data(), SOURCES).open("test")) == [0, 1, 2, 3]


class Colored(Counting):
    """Record i has the class i % 3."""

    def __init__(self, count):
        super().__init__(count)
        self.labels = np.arange(count) % 3


def few(count, fraction=0.2, colored=None, **changes):
    """The records to train on."""
    colored = colored or Colored(60)
    settings = data(per_class=count, validation_fraction=fraction, num_classes=3, **changes)
    splits = Splits(settings, {"counting": lambda data, split: colored})
    held = labels(splits.open("validation"))
    assert held == labels(hold_out(colored, fraction)[1])
    found = labels(splits.open("train"))
    assert not {*held} & {*found}
    assert found == sorted(found)
    return found


@pytest.mark.parametrize("count", [1, 5, 10])
def test_as_many_of_each_class_as_asked_for_after_the_validation_part(count):
    assert np.bincount(np.array(few(count)) % 3).tolist() == [count] * 3


def test_fewer_of_each_class_are_among_more_and_0_takes_all():
    nested = [{*few(count)} for count in (1, 5, 10)]
    assert nested[0] < nested[1] < nested[2]
    assert few(0) == labels(hold_out(Colored(60), 0.2)[0])
    assert labels(Splits(data(), SOURCES).open("train")) == labels(hold_out(Counting(10), 0.3)[0])


def test_the_few_are_random_and_the_same_for_ever():
    """The figures were written down once; no other numpy or machine may change them."""
    for _ in range(2):
        assert few(2) == [6, 19, 33, 38, 43, 47]


def test_no_image_is_read_to_find_the_few():
    colored = Colored(60)
    Splits(data(per_class=5, num_classes=3), {"counting": lambda data, split: colored}).open(
        "train"
    )
    assert colored.reads == []


def test_a_class_with_fewer_images_is_named():
    colored = Colored(60)
    colored.labels[1::3] = 0
    colored.labels[1] = 1
    expected = "has 1 images to train on, fewer than config.data.per_class=2: lower that"
    with pytest.raises(InputError, match=f"class 1 {expected}"):
        few(2, fraction=0.0, colored=colored)
    colored.class_names = ("red", "green", "blue")
    with pytest.raises(InputError, match=f"class green {expected}"):
        few(2, fraction=0.0, colored=colored)
    colored.labels[1] = 0
    with pytest.raises(InputError, match="class green has 0 images to train on"):
        few(1, fraction=0.0, colored=colored)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_out_of_range_among_them_is_named(label):
    colored = Colored(60)
    colored.labels[7] = label
    with pytest.raises(InputError, match=rf"record 7: label {label} is out of range 0..2"):
        few(2, fraction=0.0, colored=colored)


def test_a_number_below_0_is_refused():
    with pytest.raises(InputError, match=r"per_class is -1: give at least 0"):
        few(-1)


@pytest.mark.parametrize(("cache", "times"), [(True, 1), (False, 2)])
def test_cache_keeps_records(cache, times):
    OPENED["test"].reads.clear()
    test = Splits(data(cache=cache), SOURCES).open("test")
    assert labels(test) == labels(test) == [0, 1, 2, 3]
    assert OPENED["test"].reads == [0, 1, 2, 3] * times


def test_an_unknown_source_names_those_there_are():
    with pytest.raises(
        InputError, match="unknown data source 'csv': known: digits, folder, idx, npz, tfds"
    ):
        Splits(data(source="csv"), CLASSIFICATION_SOURCES).open("train")
