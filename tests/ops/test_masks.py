"""Masks cropped to frames of their own: cells on the host, pixels again, and cells cut away."""

import jax
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.ops import clip_masks, crop_mask, mean_in_cells, paint_masks
from jaxvision.testing import check_op
from tests.reference.ops import masks as reference

SIZE = (20, 24)


def disc(rng, *, size=SIZE):
    """An ellipse of any size, somewhere in an image, perhaps partly outside."""
    height, width = size
    y, x = np.mgrid[:height, :width] + 0.5
    centre, axes = rng.uniform(0, (height, width)), rng.uniform(2, (height, width))
    return ((y - centre[0]) / axes[0]) ** 2 + ((x - centre[1]) / axes[1]) ** 2 < 1


def cropped(rng, count=4, cells=7):
    """Masks and frames, the frames in fractions of pixels, one of them empty."""
    masks, frames = zip(*(crop_mask(disc(rng), cells) for _ in range(count)), strict=True)
    frames = np.float32(frames) + rng.uniform(-3, 3, (count, 4)).astype("f4")
    frames[0] = 0
    return np.stack(masks), frames


@pytest.mark.parametrize("cells", [1, 5, 28])
def test_cells_are_means_over_their_areas(cells):
    for seed in range(6):
        mask = disc(np.random.default_rng(seed))
        actual, expected = crop_mask(mask, cells), reference.crop_mask(mask, cells)
        assert actual[0].dtype == np.uint8
        assert np.abs(actual[0] - expected[0]).max() <= 0.501  # by rounding
        np.testing.assert_array_equal(actual[1], expected[1])


def test_an_empty_mask_has_an_empty_frame():
    cells, frame = crop_mask(np.zeros(SIZE, bool), 3)
    assert not cells.any()
    assert not frame.any()


def test_painting_gives_back_a_mask_whose_cells_are_pixels_or_parts_of_pixels():
    """A pixel's centre is a cell's centre, or lies among cells of the same pixel."""
    for seed, parts in ((0, 1), (1, 2), (2, 3)):
        mask = np.zeros(SIZE, bool)
        mask[4:14, 7:17] = np.random.default_rng(seed).random((10, 10)) < 0.5
        mask[4, 7] = mask[13, 16] = True  # so that the frame is square
        cells, frame = crop_mask(mask, 10 * parts)
        painted = paint_masks(cells[None], frame[None].astype("f4"), size=SIZE)
        np.testing.assert_allclose(painted[0], mask, atol=1e-5)


def test_a_painted_mask_is_off_by_less_than_half_a_cell():
    """Cells of a third of a pixel to three pixels."""
    for seed in range(8):
        mask = disc(np.random.default_rng(seed), size=(60, 80))
        cells, frame = crop_mask(mask, 28)
        painted = np.asarray(paint_masks(cells[None], frame[None].astype("f4"), size=(60, 80)))[0]
        step = np.ceil((frame[2:] - frame[:2]) / 28 / 2).astype(int) + 1
        wide = np.pad(mask, 4, mode="edge")
        near = [
            np.roll(wide, (dy, dx), (0, 1))[4:-4, 4:-4]
            for dy in range(-step[1], step[1] + 1)
            for dx in range(-step[0], step[0] + 1)
        ]
        away = np.all(near, axis=0) | ~np.any(near, axis=0)
        assert away.mean() > 0.5
        np.testing.assert_array_equal((painted >= 0.5)[away], mask[away])
        both, either = ((painted >= 0.5) & mask).sum(), ((painted >= 0.5) | mask).sum()
        assert both / either > 0.97


def test_painting_equals_the_reference():
    masks, frames = cropped(np.random.default_rng(0))
    check_op(paint_masks, reference.paint_masks, masks, frames, size=SIZE)


def test_means_in_cells_equal_the_reference_and_the_cropped_mask():
    rng = np.random.default_rng(3)
    _, frames = cropped(rng)
    x = rng.normal(size=SIZE).astype("f4")
    check_op(mean_in_cells, reference.mean_in_cells, x, frames, cells=5, atol=1e-5)
    mask = disc(rng)
    cells, frame = crop_mask(mask, 5)
    means = mean_in_cells(mask.astype("f4"), frame[None].astype("f4"), cells=5)
    np.testing.assert_allclose(means[0], cells / 255, atol=0.501 / 255)


def test_clipping_equals_the_reference_and_repeated_changes_nothing():
    masks, frames = cropped(np.random.default_rng(1))
    window = np.float32([3.2, 5, 14.5, 15])
    check_op(clip_masks, reference.clip_masks, masks, frames, window)
    once = clip_masks(masks, frames, window)
    assert 0 < np.count_nonzero(once) < np.count_nonzero(masks)
    np.testing.assert_array_equal(clip_masks(once, frames, window), once)


def test_a_clipped_mask_is_whole_inside_the_window_and_ends_within_a_cell_of_it():
    masks, frames = np.full((1, 8, 8), 255, np.uint8), np.float32([[0, 0, 16, 16]])
    window = np.float32([3, 0, 10.5, 16])
    painted = np.asarray(paint_masks(clip_masks(masks, frames, window), frames, size=(16, 16)))[0]
    assert (painted[:, 3:10] > 0.7).all()
    assert not painted[:, :1].any()
    assert not painted[:, 13:].any()


def test_wrong_arguments_are_refused():
    masks, frames = np.zeros((2, 3, 3), np.uint8), np.zeros((2, 4), np.float32)
    with pytest.raises(AssertionError, match=r"^masks is uint8\[2, 3, 2\]"):
        paint_masks(masks[..., :2], frames, size=SIZE)
    with pytest.raises(AssertionError, match=r"^frames is float32\[1, 4\]"):
        jax.eval_shape(clip_masks, masks, frames[:1], frames[0])
    with pytest.raises(InputError, match=r"^a side of the image is 0"):
        paint_masks(masks, frames, size=(0, 3))
    with pytest.raises(InputError, match=r"^size is 0"):
        crop_mask(np.zeros(SIZE, bool), 0)
    with pytest.raises(AssertionError, match=r"^mask is float64\[2, 3\]"):
        crop_mask(np.zeros((2, 3)), 2)
