"""Copy-paste: against the reference, by hand, and against what is painted in the image."""

import functools

import jax
import numpy as np
import pytest

from jaxvision import augment
from jaxvision.core import InputError
from jaxvision.ops import crop_mask
from tests.augment.test_detection import (
    HEIGHT,
    WIDTH,
    check_mask,
    example_of,
    extent,
    in_pixels,
    many_keys,
    painted_with_partners,
    real_boxes,
    stacked,
    with_junk,
    without_masks,
)
from tests.reference import augment as reference


@functools.lru_cache
def compiled(**options):
    return jax.jit(jax.vmap(functools.partial(augment.copy_paste, **options), (0, None)))


def over_keys(example, count=12, **options):
    results = jax.device_get(compiled(**options)(many_keys(count), example))
    results = results.replace(partners=None)
    return [jax.tree.map(lambda x, k=k: x[k], results) for k in range(count)]


def test_masks_and_boxes_of_both_images_are_what_is_seen():
    """Each object is white in a channel of its own, and cells are at most a pixel."""
    example, ious, cut = painted_with_partners(4), [], 0
    for result in over_keys(example):
        assert result.image.dtype == np.uint8
        masks = in_pixels(result)
        for row in np.flatnonzero(result.box_mask):
            label = result.labels[row]
            channel = result.image[..., label] / 255
            ious.append(check_mask(masks[row], channel))
            np.testing.assert_allclose(result.boxes[row], extent(channel, 0.5), atol=1.001)
            before = (example if label < 3 else example.partners).image
            before = before if label < 3 else before[0]
            cut += label < 3 and (before[..., label] > result.image[..., label]).any()
    assert len(ious) > 40
    assert cut > 5
    assert min(ious) > 0.9


def test_the_share_of_objects_that_are_pasted():
    example = painted_with_partners(4, rows=8)  # there is room for all
    crowded, crowd = example, np.zeros_like(example.partners.crowd)
    example = example.replace(partners=example.partners.replace(crowd=crowd))
    for share, labels in ((0.0, {0, 1, 2}), (1.0, {3, 4, 5})):
        for result in over_keys(example, 3, share=share):
            found = set(real_boxes(result))
            assert labels <= found
            assert found <= labels | {0, 1, 2}
    pasted = [set(real_boxes(result)) & {3, 4, 5} for result in over_keys(example, 200)]
    for label in (3, 4, 5):
        assert abs(np.mean([label in found for found in pasted]) - 0.5) < 4 * (0.25 / 200) ** 0.5
    assert crowded.partners.crowd[0].tolist() == [False, True] * 4
    for result in over_keys(crowded, 3, share=1.0):
        assert set(real_boxes(result)) & {3, 4, 5} == {3, 5}


def test_copy_paste_equals_the_reference():
    example = painted_with_partners(7)
    other = jax.tree.map(lambda x: x[0], example.partners)
    (result,) = over_keys(example, 1, share=1.0)
    image, masks, dropped = reference.copy_paste(example, other)
    np.testing.assert_array_equal(result.image, image)
    left = {int(label): mask for label, mask in zip(example.labels, masks, strict=True)}
    found = dict(zip(result.labels.tolist(), result.masks, strict=True))
    assert {x for x in real_boxes(result) if x < 3} == {0, 1, 2} - dropped
    for label in set(real_boxes(result)) & {0, 1, 2}:
        np.testing.assert_allclose(found[label].astype(int), left[label], atol=1)


def by_hand(masks, boxes, image, **changes):
    cells, frames = zip(*(crop_mask(mask, 8) for mask in masks), strict=True)
    example = example_of(image, boxes)
    return example.replace(masks=np.stack(cells), mask_frames=np.float32(frames), **changes)


def block(x1, y1, x2, y2):
    mask = np.zeros((16, 16), bool)
    mask[y1:y2, x1:x2] = True
    return mask


def test_boxes_are_cut_hidden_objects_dropped_and_keypoints_hidden():
    boxes = [(0, 0, 8, 8), (6, 6, 10, 10), (1, 9, 9, 15)]
    keypoints = np.zeros((3, 2, 3), np.float32)
    keypoints[0] = [[1, 1, 2], [6.5, 7.5, 2]]
    grey = np.full((16, 16, 1), 50, np.uint8)
    masks = [block(0, 0, 8, 8), block(6, 6, 10, 10), block(1, 9, 9, 15)]
    example = by_hand(masks, boxes, grey, keypoints=keypoints, extent=np.int32([16, 13]))
    # Of the pasted object, columns from 13 on are in the padding.
    others = [block(6, 0, 14, 12), block(0, 0, 0, 0), block(15, 15, 16, 16)]
    white = np.full((16, 16, 1), 200, np.uint8)
    other = by_hand(others, [(6, 0, 14, 12), (0, 0, 0, 0), (15, 15, 16, 16)], white)
    other = other.replace(
        box_mask=np.array([True, False, True]),
        keypoints=np.zeros((3, 2, 3), np.float32),
        extent=np.int32([16, 16]),
        labels=np.int32([7, 8, 9]),
    )
    example = example.replace(partners=stacked([other]))
    (result,) = over_keys(example, 1, share=1.0)
    # The largest first: the pasted box, and what is left of two; the hidden one is gone.
    assert result.labels.tolist() == [7, 0, 2]
    assert result.box_mask.all()
    found = real_boxes(result)
    np.testing.assert_allclose(found[7], [6, 0, 13, 12], atol=1e-5)
    np.testing.assert_allclose(found[0], [0, 0, 6, 8], atol=1e-5)
    np.testing.assert_allclose(found[2], [1, 9, 9, 15], atol=1e-5)  # it loses a corner alone
    row = result.labels.tolist().index(0)
    assert (result.masks[row] == 255 * (np.arange(8) < 6)).all()
    np.testing.assert_array_equal(result.keypoints[row], [[1, 1, 2], [6.5, 7.5, 1]])
    expected = np.full((16, 16), 50)
    expected[:12, 6:13] = 200
    np.testing.assert_array_equal(result.image[..., 0], expected)
    (strict,) = over_keys(example, 1, share=1.0, least_visible=0.8)
    assert sorted(real_boxes(strict)) == [2, 7]  # three quarters of the first are left
    assert result.extent.tolist() == [16, 13]


def test_padding_and_junk_in_it_have_no_effect():
    example = painted_with_partners(4)
    junk = with_junk(example, 4).replace(partners=with_junk(example.partners, 4))
    for plain, other in zip(over_keys(example, 3), over_keys(junk, 3), strict=True):
        np.testing.assert_array_equal(other.image, plain.image)
        expected, actual = real_boxes(plain), real_boxes(other)
        assert set(expected) <= set(actual)  # there is room for more
        for label, box in expected.items():
            np.testing.assert_array_equal(actual[label], box)
        for field in ("boxes", "masks", "mask_frames"):
            assert not getattr(other, field)[~other.box_mask].any()


def test_the_class_takes_a_partner_and_is_applied_with_its_probability():
    example = painted_with_partners(4)
    step = augment.CopyPaste(probability=0.5, share=1.0)
    run = jax.jit(jax.vmap(step, (0, None)))
    results = jax.device_get(run(many_keys(100), example))
    assert results.partners.image.shape[1] == 3
    pasted = (results.image != example.image).any(axis=(1, 2, 3))
    assert abs(pasted.mean() - 0.5) < 0.2
    (same,) = over_keys(example, 1, share=1.0)
    np.testing.assert_array_equal(results.image[pasted][0], same.image)


def test_what_cannot_be_pasted_is_refused():
    example, key = painted_with_partners(0), jax.random.key(0)
    with pytest.raises(InputError, match=r"^copy-paste pastes objects along their masks"):
        jax.eval_shape(augment.CopyPaste(), key, without_masks(example))
    with pytest.raises(InputError, match=r"^copy-paste takes 1 of an example's partners"):
        jax.eval_shape(augment.CopyPaste(), key, example.replace(partners=None))
    for option, value in (("share", 1.5), ("probability", -1), ("least_visible", 2)):
        with pytest.raises(ValueError, match=f"^{option} is {value}"):
            augment.CopyPaste(**{option: value})


def test_after_a_scale_jitter_and_a_flip_of_both_images():
    """As in the paper; masks are still what is seen."""
    steps = augment.Compose(
        (
            augment.ScaleJitter((0.6, 1.4), fill=(0.0,) * 15),
            augment.RandomFlip(),
            augment.CopyPaste(),
        )
    )
    example = painted_with_partners(4).replace(extent=np.int32([HEIGHT, WIDTH]))
    partners = example.partners.replace(extent=np.tile(np.int32([HEIGHT, WIDTH]), (4, 1)))
    example = example.replace(partners=jax.tree.map(lambda x: x[:1], partners))
    results = jax.device_get(jax.jit(jax.vmap(steps, (0, None)))(many_keys(12), example))
    found = 0
    for k in range(12):
        result = jax.tree.map(lambda x, k=k: x[k], results)
        for label, mask, real in zip(
            result.labels, in_pixels(result), result.box_mask, strict=True
        ):
            if real:
                channel = result.image[..., label] / 255
                if channel.sum() > 60:
                    found += 1
                    assert check_mask(mask, channel) > 0.85
    assert found > 20
