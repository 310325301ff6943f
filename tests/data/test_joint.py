"""Images with labels alone beside images with boxes: their records and examples."""

import numpy as np
import pytest

from jaxvision import augment as aug
from jaxvision.core import InputError, Inputs, OptionError
from jaxvision.data import Joined, LabelsOnly, ToDetection
from tests.data.test_detection import RECORD


class Boxed:
    """Three records of two objects."""

    class_names = ("a", "b")

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return {**RECORD, "image": np.full((20, 40, 3), index, np.uint8), "size": (20, 40)}

    def where(self, index):
        return f"boxed {index}"

    def target(self, index):
        return {name: x for name, x in self[index].items() if name != "image"}


class Plain:
    """Two records for classification."""

    class_names = ("a", "b")

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return {"image": np.full((8, 6, 3), index, np.uint8), "label": 1}

    def where(self, index):
        return f"plain {index}"

    def target(self, index):
        return {"label": 1}


def test_labels_without_boxes_are_of_the_whole_image():
    source = LabelsOnly(Boxed())
    assert (len(source), source.class_names, source.where(2)) == (3, ("a", "b"), "boxed 2")
    record = source[1]
    assert (record["image"] == 1).all()
    assert record["labels_only"] is True
    np.testing.assert_array_equal(record["boxes"], [[0, 0, 40, 20]] * 2)
    np.testing.assert_array_equal(record["labels"], RECORD["labels"])
    np.testing.assert_array_equal(record["crowd"], RECORD["crowd"])
    target = source.target(1)
    assert "image" not in target
    np.testing.assert_array_equal(target["boxes"], record["boxes"])
    one = LabelsOnly(Plain())[0]
    np.testing.assert_array_equal(one["boxes"], [[0, 0, 6, 8]])
    assert one["labels"].tolist() == [1]
    assert not one["crowd"].any()
    assert LabelsOnly(Plain()).target(1)["size"] == (8, 6)


def test_joined_sources_follow_each_other():
    source = Joined([Boxed(), LabelsOnly(Plain())])
    assert len(source) == 5
    assert [source.where(n) for n in (0, 2, 3, 4)] == ["boxed 0", "boxed 2", "plain 0", "plain 1"]
    assert [bool(source[n].get("labels_only")) for n in range(5)] == [False] * 3 + [True] * 2
    assert [source.size(n) for n in (2, 3)] == [(20, 40), (8, 6)]
    assert source.target(4)["labels"].tolist() == [1]
    for index in (-1, 5):
        with pytest.raises(IndexError, match=f"there is no record {index} of 5"):
            source[index]


def test_sources_of_other_classes_are_not_joined():
    other = Boxed()
    other.class_names = ("a", "c")
    with pytest.raises(InputError, match=r"source 1 has the classes \(.*c.*\), but source 0 has"):
        Joined([Boxed(), other])
    with pytest.raises(OptionError, match=r"^sources is empty"):
        Joined([])


def test_examples_say_which_kind_they_are():
    source = Joined([Boxed(), LabelsOnly(Plain())])
    inputs = Inputs((32, 32), resize="stretch")
    transform = ToDetection(inputs, 2, max_boxes=3, labels_only=True)
    both = [transform(source[index], source.where(index)) for index in (0, 3)]
    assert [bool(example.labels_only) for example in both] == [False, True]
    assert both[0].labels_only.dtype == bool
    np.testing.assert_array_equal(both[1].boxes[0], [0, 0, 32, 32])
    assert both[1].box_mask.tolist() == [True, False, False]
    plain = ToDetection(inputs, 2)
    assert plain(source[0], "x").labels_only is None
    with pytest.raises(InputError, match=r"^plain 0: its objects have labels but no boxes: set "):
        plain(source[3], source.where(3))


def test_images_of_labels_alone_are_not_combined():
    transform = ToDetection(Inputs((32, 32), resize="stretch"), 2, labels_only=True)
    example = transform(Boxed()[0], "x")
    with pytest.raises(InputError, match=r"^mosaic needs the boxes of all images"):
        aug.Mosaic()(None, example)
