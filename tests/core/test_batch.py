"""Batch structs declare the kinds of their fields."""

import flax.struct
import numpy as np
import pytest
from jax import Array

from jaxvision import core
from jaxvision.core import KINDS, InputError, annotation, annotations_of

STRUCTS = [value for name, value in vars(core).items() if name.endswith("Batch")]


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)
def test_every_field_of_every_batch_struct_has_a_kind(struct):
    kinds = annotations_of(struct)
    assert list(kinds) == list(struct.__dataclass_fields__)
    assert set(kinds.values()) <= set(KINDS)
    assert kinds["image"] == "image"
    assert kinds["extent"] == "extent"
    assert kinds["mask"] == "fixed"


def test_the_kinds_are_not_those_of_the_names():
    assert annotations_of(core.DetectionBatch)["labels"] == "fixed"
    assert annotations_of(core.SegmentationBatch)["labels"] == "pixels"
    assert annotations_of(core.DetectionBatch)["size"] == "placement"


def test_an_example_has_the_kinds_of_its_struct():
    example = core.ImageBatch(image=np.zeros((2, 2, 3)), mask=np.True_)
    assert annotations_of(example) == annotations_of(core.ImageBatch)


def test_the_names_of_kinds_are_checked():
    with pytest.raises(InputError, match="unknown kind of annotation 'box': did you mean 'boxes'"):
        annotation("box")


def test_what_declares_no_kind_is_refused_by_its_name():
    @flax.struct.dataclass
    class Mine:
        image: Array = annotation("image")
        depth: Array = None

    with pytest.raises(InputError, match="the field depth of Mine declares no kind: write depth:"):
        annotations_of(Mine)
    with pytest.raises(
        InputError, match=r"dict is not a batch struct: give a flax.struct.dataclass"
    ):
        annotations_of({"image": 0})
