"""The masks of boxes in the image: by hand, by loops, and equal to torchvision."""

import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.ops import decode_mask, encode_mask, paste_masks, paste_run_lengths
from tests.models.torchvision_ops import import_detection
from tests.reference.ops.mask_pasting import pasted

SIZE = 23, 31
# Inside, beyond each edge, outside, without an area, reversed, with corners at whole numbers.
BOXES = np.array(
    [
        [3.3, 4.1, 21.7, 9.9],
        [-20.0, -9, 12, 7],
        [25, 3, 60, 40],
        [-4, -3, 40, 30],
        [40, 2, 50, 8],
        [2, -30, 8, -20],
        [5, 6, 5, 6],
        [9, 9, 4.2, 3.1],
        [8, 6, 12, 10],
        [0, 0, 31, 23],
    ]
)


def random_masks(count, cells=5, seed=0):
    return np.random.default_rng(seed).random((count, cells, cells))


def test_a_mask_by_hand():
    # The box from 2 to 4 is enlarged to 1..5: pixels 1 to 5, on which 4 cells are resized.
    mask = paste_masks(np.ones((1, 2, 2)), np.array([[2.0, 2, 4, 4]]), (8, 8))[0]
    # The middles of five pixels are at -0.1, 0.7, 1.5, 2.3 and 3.1 of the cells 0, 1, 1, 0.
    share = np.array([0, 0.7, 1, 0.7, 0])
    expected = np.zeros((8, 8), bool)
    expected[1:6, 1:6] = np.outer(share, share) > 0.5
    assert expected.sum() == 5
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_masks_equal_the_reference(dtype):
    probabilities = random_masks(len(BOXES)).astype(dtype)
    boxes = BOXES.astype(dtype)
    found = paste_masks(probabilities, boxes, SIZE)
    expected = np.stack([pasted(*pair, SIZE) for pair in zip(probabilities, boxes, strict=True)])
    unsure = np.abs(expected - 0.5) < 1e-6
    assert unsure.sum() < 5
    np.testing.assert_array_equal(found[~unsure], expected[~unsure] > 0.5)
    areas = found.sum(axis=(1, 2))
    assert (areas[[0, 1, 2, 3, 8, 9]] > 0).all()
    assert (areas[[4, 5, 7]] == 0).all()


@pytest.mark.parametrize("threshold", [0.5, 0.0, -1.0])
def test_run_lengths_are_those_of_the_masks(threshold):
    """Below 0 all of an enlarged box is foreground: runs go on from one column to the next."""
    probabilities = random_masks(len(BOXES))
    masks = paste_masks(probabilities, BOXES, SIZE, threshold=threshold)
    table = paste_run_lengths(probabilities, BOXES, SIZE, threshold=threshold)
    assert len(table) == len(masks)
    for found, mask in zip(table, masks, strict=True):
        np.testing.assert_array_equal(decode_mask(found), mask)
        np.testing.assert_array_equal(found.counts, encode_mask(mask).counts)
    if threshold < 0:
        assert masks[-1].all()


def test_a_higher_threshold_leaves_fewer_pixels():
    probabilities = random_masks(len(BOXES))
    low, high = (
        paste_masks(probabilities, BOXES, SIZE, threshold=threshold) for threshold in (0.3, 0.7)
    )
    assert not (high & ~low).any()
    assert high.sum() < low.sum()


def test_no_masks():
    nothing = np.zeros((0, 28, 28)), np.zeros((0, 4)), (4, 6)
    assert paste_masks(*nothing).shape == (0, 4, 6)
    assert len(paste_run_lengths(*nothing)) == 0


@pytest.mark.parametrize(
    ("probabilities", "boxes", "error", "message"),
    [
        (np.ones((1, 2, 3)), np.ones((1, 4)), AssertionError, r"probabilities has shape \(1, 2, 3"),
        (np.ones((1, 2, 2), int), np.ones((1, 4)), AssertionError, "^probabilities is int64"),
        (np.ones((1, 2, 2)), np.ones((2, 4)), AssertionError, r"^boxes is float64\[2, 4\]"),
        (np.ones((1, 2, 2)), np.ones((1, 3)), AssertionError, r"boxes has shape \(1, 3\)"),
        (np.ones((1, 2, 2)), np.full((1, 4), np.nan), InputError, r"boxes\[0\] is \[nan"),
        (np.ones((1, 2, 2)), np.full((1, 4), 1e10), InputError, r"boxes\[0\] is .* magnitude$"),
    ],
)
def test_bad_arguments_are_errors(probabilities, boxes, error, message):
    for function in (paste_masks, paste_run_lengths):
        with pytest.raises(error, match=message):
            function(probabilities, boxes, (4, 6))


@pytest.mark.parity
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_masks_equal_torchvision(dtype):
    torch, roi_heads = import_detection("roi_heads")
    rng = np.random.default_rng(0)
    for height, width in ((480, 640), (61, 37), (1, 9)):
        probabilities = rng.random((40, 28, 28)).astype(dtype)
        corner = rng.uniform(-0.2, 1, (40, 2)) * [width, height]
        sides = np.exp(rng.uniform(-1, np.log(1.2 * max(height, width)), (40, 2)))
        boxes = np.concatenate([corner, corner + sides], axis=1)
        # As detectors give them; half of them have corners at whole numbers.
        boxes = boxes.clip(0, [width, height, width, height])
        boxes[::2] = boxes[::2].round()
        boxes = boxes.astype(dtype)
        theirs = roi_heads.paste_masks_in_image(
            torch.tensor(probabilities)[:, None], torch.tensor(boxes), (height, width)
        ).numpy()[:, 0]
        sure = np.abs(theirs - 0.5) > 1e-6
        assert sure.mean() > 0.999
        ours = paste_masks(probabilities, boxes, (height, width))
        np.testing.assert_array_equal(ours[sure], theirs[sure] > 0.5)
