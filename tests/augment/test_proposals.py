"""Proposals move and are dropped as boxes are, in every augmentation that moves boxes."""

import jax
import numpy as np
import pytest

from jaxvision import augment
from jaxvision.core import InputError
from tests.augment.test_detection import painted
from tests.marks import slow_but

ROWS = 12
AUGMENTATIONS = {
    "RandomFlip": augment.RandomFlip(1),
    "JitterCrop": augment.JitterCrop(0.3),
    "RandomZoomOut": augment.RandomZoomOut(1),
    "Rotate": augment.Rotate(30.0),
    "Mosaic": augment.Mosaic(),
    "Mixup": augment.Mixup(),
}


def with_proposals(example):
    """The boxes are its proposals as well, in the opposite order; NaN in padded rows."""
    mask = example.box_mask[..., ::-1]
    boxes = np.where(mask[..., None], example.boxes[..., ::-1, :], np.nan)
    return example.replace(proposals=boxes.astype(np.float32), proposal_mask=mask)


def example_of(partners):
    examples = [with_proposals(painted(seed, rows=ROWS, masks=False)) for seed in range(4)]
    others = jax.tree.map(lambda *x: np.stack(x), *examples[1:])
    return examples[0].replace(partners=others if partners else None)


def as_sorted(boxes):
    return boxes[np.lexsort(boxes.T)]


@pytest.mark.parametrize("name", slow_but(AUGMENTATIONS, ["RandomFlip", "Mosaic", "Mixup"]))
def test_proposals_are_where_the_boxes_are(name):
    augmentation = AUGMENTATIONS[name]
    example = example_of(getattr(augmentation, "partners", 0))
    run = jax.jit(jax.vmap(augmentation, (0, None)))
    results = jax.device_get(run(jax.random.split(jax.random.key(0), 8), example))
    before = jax.device_get(run(jax.random.split(jax.random.key(0), 8), without(example)))
    np.testing.assert_array_equal(results.boxes, before.boxes)
    for boxes, real, proposals, given in zip(
        results.boxes, results.box_mask, results.proposals, results.proposal_mask, strict=True
    ):
        assert real.any()
        np.testing.assert_array_equal(as_sorted(proposals[given]), as_sorted(boxes[real]))
        assert not proposals[~given].any()


def without(example):
    partners = example.partners
    if partners is not None:
        partners = partners.replace(proposals=None, proposal_mask=None)
    return example.replace(proposals=None, proposal_mask=None, partners=partners)


def test_the_first_proposals_of_each_image_are_kept():
    first = example_of(0)  # with three, which come last
    many = painted(1, real=ROWS, rows=ROWS, channels=ROWS, masks=False)
    other = with_proposals(many.replace(image=first.image))
    mine, others = first.proposals[-3:], other.proposals
    mixed = [*others[:9], mine[0], others[9], mine[1]]
    result = jax.device_get(augment.blend(first, other, np.float32(0.5)))
    assert result.proposal_mask.all()
    np.testing.assert_array_equal(result.proposals, mixed)
    mixed = [*others[:10], mine[0], others[10]]
    swapped = jax.device_get(augment.blend(other, first, np.float32(0.5)))
    np.testing.assert_array_equal(swapped.proposals, mixed)


def test_proposals_without_a_mask_are_refused():
    example = example_of(0).replace(proposal_mask=None)
    with pytest.raises(InputError, match="has 0 fields of the kind 'proposal_mask': give it one"):
        augment.RandomFlip(1)(jax.random.key(0), example)
