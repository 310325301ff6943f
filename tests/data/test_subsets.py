"""Parts of sources: kept records, few of each class, a validation part that is always the same."""

import pickle

import numpy as np
import pytest

from jaxvision.core import InputError, OptionError
from jaxvision.data import (
    Arrays,
    Cached,
    Skeleton,
    Subset,
    check_box_counts,
    check_class_count,
    check_class_names,
    check_labels,
    few_of_each,
    hold_out,
)


class Counting:
    """Record i has the label i; remembers what was read."""

    class_names = ()

    def __init__(self, count):
        self.count, self.reads = count, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        assert type(index) is int
        self.reads.append(index)
        return {"image": index, "label": index}

    def where(self, index):
        return f"counting, record {index}"

    def target(self, index):
        assert type(index) is int
        return {"label": index}


def labels(part):
    return [part[i]["label"] for i in range(len(part))]


def test_a_subset_has_the_chosen_records_and_their_names():
    part = Subset(Counting(10), [7, 2, 2])
    assert labels(part) == [7, 2, 2]
    assert part.where(0) == "counting, record 7"
    assert part.target(1) == {"label": 2}
    assert part._source.reads == [7, 2, 2]
    assert len(Subset(Counting(10), [])) == 0


def test_cached_reads_each_record_once_and_only_when_asked():
    inner = Counting(10)
    cached = Cached(inner)
    assert len(cached) == 10
    assert inner.reads == []
    assert [cached[i]["label"] for i in (3, 5, 3, 5)] == [3, 5, 3, 5]
    assert inner.reads == [3, 5]
    assert cached.where(3) == "counting, record 3"
    assert cached.target(3) == cached.target(4) | {"label": 3} == {"label": 3}
    assert inner.reads == [3, 5]


def test_cached_keeps_no_more_than_asked():
    inner = Counting(10)
    cached = Cached(inner, most=2)
    for index in (0, 1, 2, 1, 2, 0):
        cached[index]
    assert inner.reads == [0, 1, 2, 0]


@pytest.mark.parametrize("wrap", [lambda x: Subset(x, [2, 0]), lambda x: Subset(Cached(x), [2, 0])])
def test_wrappers_have_what_their_source_has(wrap):
    named = Counting(3)
    named.class_names, named.labels, named.box_counts = ("a", "b"), np.array([0, 1, 1]), [5, 6, 7]
    named.skeleton = Skeleton(("a",))
    part = wrap(named)
    assert part.class_names == ("a", "b")
    assert part.labels.tolist() == [1, 0]
    assert part.box_counts == [7, 5]
    assert part.skeleton is named.skeleton
    plain = wrap(Counting(3))
    assert plain.class_names == ()
    assert not hasattr(plain, "labels")
    assert not hasattr(plain, "box_counts")
    assert not hasattr(plain, "skeleton")
    check_box_counts(plain, 0)
    assert labels(pickle.loads(pickle.dumps(part))) == [2, 0]


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
        OptionError, match=rf"^fraction is {fraction}: give at least 0 and less than 1"
    ):
        hold_out(Counting(10), fraction)


class Colored(Counting):
    """Record i has the class i % 3."""

    def __init__(self, count):
        super().__init__(count)
        self.labels = np.arange(count) % 3


def few(count, fraction=0.2, colored=None):
    """The records to train on."""
    rest, held = hold_out(Colored(60) if colored is None else colored, fraction)
    found = labels(few_of_each(rest, count))
    assert not {*labels(held)} & {*found}
    assert found == sorted(found)
    return found


@pytest.mark.parametrize("count", [1, 5, 10])
def test_as_many_of_each_class_as_asked_for_after_the_validation_part(count):
    assert np.bincount(np.array(few(count)) % 3).tolist() == [count] * 3


def test_fewer_of_each_class_are_among_more():
    nested = [{*few(count)} for count in (1, 5, 10)]
    assert nested[0] < nested[1] < nested[2]


def test_the_few_are_random_and_the_same_for_ever():
    """The figures were written down once; no other numpy or machine may change them."""
    for _ in range(2):
        assert few(2) == [6, 19, 33, 38, 43, 47]


def test_no_image_is_read_to_find_the_few():
    colored = Colored(60)
    few_of_each(hold_out(colored, 0.2)[0], 5)
    assert colored.reads == []


def test_a_class_with_fewer_images_is_named():
    colored = Colored(60)
    colored.labels[1::3] = 0
    colored.labels[1] = 1
    expected = "has 1 images: lower it, or add images$"
    with pytest.raises(OptionError, match=f"^count is 2, but class 1 {expected}") as error:
        few(2, fraction=0.0, colored=colored)
    assert error.value.option == "count"
    colored.class_names = ("red", "green", "blue")
    with pytest.raises(OptionError, match=f"^count is 2, but class green {expected}"):
        few(2, fraction=0.0, colored=colored)
    colored.labels[1] = 0
    with pytest.raises(OptionError, match=r"^count is 1, but class green has 0 images"):
        few(1, fraction=0.0, colored=colored)
    colored.class_names = ("red", "green", "blue", "grey")
    colored.labels[1::3] = 1
    with pytest.raises(OptionError, match=r"^count is 1, but class grey has 0 images"):
        few(1, fraction=0.0, colored=colored)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_out_of_range_among_them_is_named(label):
    colored = Colored(60)
    colored.labels[7] = label
    colored.class_names = ("red", "green", "blue")
    with pytest.raises(InputError, match=rf"record 7: label {label} is out of range 0..2"):
        few(2, fraction=0.0, colored=colored)


@pytest.mark.parametrize("count", [0, -1])
def test_a_number_below_1_is_refused(count):
    with pytest.raises(OptionError, match=rf"^count is {count}: give at least 1"):
        few(count)


def test_labels_are_checked_against_the_number_of_classes():
    colored = Colored(6)
    check_labels(colored, 3)
    with pytest.raises(
        InputError,
        match=r"^counting, record 2: label 2 is out of range 0..1: correct the record or set num",
    ):
        check_labels(colored, 2)
    assert colored.reads == []


def test_classes_are_compared():
    source = Counting(1)
    check_class_count(source, 7)  # not known
    source.class_names = tuple(f"class {number}" for number in range(12))
    check_class_count(source, 12)
    with pytest.raises(
        OptionError, match=r"^num_classes is 7, but the data has 12 classes: class 0, .* and 4 more"
    ) as error:
        check_class_count(source, 7)
    assert error.value.option == "num_classes"
    for right in ((), ("cat", "dog")):
        check_class_names(("cat", "dog"), right)
        check_class_names(right, ("cat", "dog"))
    for wrong in (("dog", "cat"), ("cat",)):
        with pytest.raises(
            OptionError, match=rf"^class_names is {', '.join(wrong)}, but the classes of the data"
        ) as error:
            check_class_names(("cat", "dog"), wrong)
        assert error.value.option == "class_names"


IMAGES = np.random.default_rng(0).integers(0, 256, (4, 5, 6), np.uint8)


def test_arrays_are_records():
    source = Arrays(IMAGES, [0, 2, 1, 2], class_names=["a", "b", "c"])
    assert (len(source), source.class_names) == (4, ("a", "b", "c"))
    np.testing.assert_array_equal(source[1]["image"], IMAGES[1][..., None])
    assert source[1]["label"] == 2
    assert source.target(1) == {"label": 2}
    assert source.labels.tolist() == [0, 2, 1, 2]
    assert source.where(3) == "images, record 3"
    assert labels(few_of_each(source, 1)) == labels(few_of_each(Arrays(IMAGES, [0, 2, 1, 2]), 1))


def test_arrays_may_lack_labels():
    source = Arrays(np.repeat(IMAGES[..., None], 3, axis=3))
    assert source[0].keys() == {"image"}
    assert (source.target(0), source.class_names) == ({}, ())
    assert source[0]["image"].shape == (5, 6, 3)
    assert not hasattr(source, "labels")


@pytest.mark.parametrize(
    ("images", "given", "message"),
    [
        (IMAGES / 255, None, r"^images is float64\[4, 5, 6\]: give the images as uint8"),
        (IMAGES[0], None, r"^images is uint8\[5, 6\]"),
        (IMAGES[..., None].repeat(4, axis=3), None, r"^images is uint8\[4, 5, 6, 4\]"),
        (IMAGES, [0, 1, 2], "^images has 4 images, but labels has 3 labels: they belong to diff"),
        (IMAGES, [0.0, 1, 2, 2], r"^labels is float64\[4\]: give the number of each image's class"),
        (IMAGES, [0, 1, 2, 3], "^images, record 3: label 3 is out of range 0..2: correct the rec"),
        (IMAGES, [0, 1, -1, 2], "^images, record 2: label -1 is out of range"),
    ],
)
def test_what_is_wrong_with_arrays(images, given, message):
    with pytest.raises(InputError, match=message):
        Arrays(images, given, class_names=("a", "b", "c"))


def test_a_label_below_0_needs_no_names_to_be_wrong():
    with pytest.raises(InputError, match=r"^images, record 2: label -1 is out of range"):
        Arrays(IMAGES, [0, 1, -1, 2])
