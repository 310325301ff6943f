"""The cells of keypoints in their boxes, and keypoints of maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.ops import heatmaps_to_keypoints, keypoint_cells
from tests.ops.compiled import Case, check_cases, compiled
from tests.ops.parity import import_torchvision
from tests.reference.ops import keypoints as reference

IMAGE = (80, 120)


def boxes_of(count=6, seed=0, *, longest=70):
    """Some smaller than a pixel, some with sides that are whole numbers."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(-5, 30, (count, 2))
    sides = np.exp(rng.uniform(-2, np.log(longest), (count, 2)))
    boxes = np.concatenate([low, low + sides], axis=1)
    boxes[::3] = np.ceil(boxes[::3])
    return boxes.astype("f4")


def maps_of(shape, seed=0):
    return np.random.default_rng(seed).normal(scale=3, size=shape).astype("f4")


def points_in(boxes, count=9, seed=0):
    """Keypoints in and around boxes: some on their edges, some not labelled."""
    rng = np.random.default_rng(seed)
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    share = rng.uniform(-0.2, 1.2, (len(boxes), count, 2)).astype("f4")
    points = low + share * (high - low)
    edge = rng.integers(0, 6, points.shape)
    points = np.where(edge == 0, low, np.where(edge == 1, high, points))
    return np.concatenate([points, rng.integers(0, 3, (*points.shape[:2], 1))], -1).astype("f4")


def test_cells_by_hand():
    box = np.float32([[10, 20, 18, 36]])  # four cells of 2 x 4 pixels each way
    points = [[10, 20], [11.9, 24], [12, 35.9], [18, 36], [18.1, 30], [15, 19.9], [18, 20]]
    keypoints = np.float32([[*point, 2] for point in points] + [[11, 21, 0]])[None]
    cells, valid = compiled(keypoint_cells)(keypoints, box, size=4)
    np.testing.assert_array_equal(cells, [[0, 4, 13, 15, 0, 0, 3, 0]])
    np.testing.assert_array_equal(valid, [[True] * 4 + [False, False, True, False]])


def test_a_box_without_area_has_no_cells():
    keypoints = np.full((2, 1, 3), 5, "f4")
    box = np.float32([[5, 0, 5, 9], [0, 9, 9, 0]])
    cells, valid = compiled(keypoint_cells)(keypoints, box, size=4)
    assert not cells.any()
    assert not valid.any()


def test_each_equals_the_reference():
    cases = {}
    boxes = boxes_of()
    for size in (1, 7, 56):
        pair = keypoint_cells, reference.keypoint_cells
        cases[f"cells, {size}"] = Case(*pair, (points_in(boxes), boxes), {"size": size})
    for cells in ((7, 7), (2, 3), (5, 90)):
        arrays = maps_of((6, *cells, 3)), boxes_of(seed=1)
        pair = heatmaps_to_keypoints, reference.heatmaps_to_keypoints
        cases[f"maps of {cells}"] = Case(*pair, arrays, {"image_size": IMAGE})
    found = check_cases(cases)
    assert found["cells, 7"][1].any()


def test_the_first_of_equal_pixels_is_taken():
    """A box of as many pixels as cells has their very values; zeros stay zeros at any size."""
    run = compiled(heatmaps_to_keypoints)
    maps = np.random.default_rng(0).integers(-1, 2, (20, 3, 4, 5)).astype("f4")
    points, scores = run(maps, np.tile(np.float32([3, 4, 7, 7]), (20, 1)), image_size=IMAGE)
    first = maps.reshape(20, 12, 5).argmax(axis=1)
    expected = np.stack([3.5 + first % 4, 4.5 + first // 4], axis=-1)
    np.testing.assert_allclose(points, expected, rtol=1e-6)
    np.testing.assert_array_equal(scores, maps.max(axis=(1, 2)))
    points, _ = run(0 * maps[:4], boxes_of(4), image_size=IMAGE)
    low, sides = boxes_of(4)[:, :2], np.diff(boxes_of(4).reshape(4, 2, 2), axis=1)[:, 0]
    sides = np.maximum(sides, 1)
    half = sides / np.ceil(sides) / 2
    np.testing.assert_allclose(points, np.repeat((low + half)[:, None], 5, axis=1), rtol=1e-5)


def test_a_peak_between_cells_by_hand():
    """Two cells of 1 in a row: enlarged twice, the pixels 1/4 to the inside of both are highest.

    There the weights are 0.8672 and 0.2266 for the two cells, and 0 elsewhere.
    """
    maps = np.zeros((1, 8, 8, 1), "f4")
    maps[0, 2, 3:5] = 1
    points, scores = compiled(heatmaps_to_keypoints)(
        maps, np.float32([[10, 20, 26, 28]]), image_size=IMAGE
    )
    inner, outer = (1.25 * x**3 - 2.25 * x**2 + 1 for x in (0.25, 0.75))
    np.testing.assert_allclose(scores, [[inner + outer]], rtol=1e-6)
    # Column 7 of 16, row 2 of 8: the row is not enlarged.
    np.testing.assert_allclose(points, [[[10 + 7.5, 20 + 2.5]]], rtol=1e-6)


def test_sides_that_are_no_whole_numbers_stretch_the_pixels():
    maps = np.zeros((1, 4, 4, 1), "f4")
    maps[0, 1, 0] = 1
    box = np.float32([[10, 20, 13.5, 20.25]])  # 4 x 1 pixels of 0.875 x 1
    points, _ = compiled(heatmaps_to_keypoints)(maps, box, image_size=IMAGE)
    np.testing.assert_allclose(points[0, 0, 1], 20.5, rtol=1e-6)
    np.testing.assert_allclose(points[0, 0, 0], 10 + 0.5 * 3.5 / 4, rtol=1e-6)


def test_a_box_larger_than_the_image_has_pixels_of_its_own():
    maps = maps_of((1, 7, 7, 2))
    run = compiled(heatmaps_to_keypoints)
    points, scores = run(maps, np.float32([[0, 0, 240, 160]]), image_size=IMAGE)
    fit, same = run(maps, np.float32([[0, 0, 120, 80]]), image_size=IMAGE)
    np.testing.assert_allclose(points, 2 * fit, rtol=1e-6)
    np.testing.assert_array_equal(scores, same)


def test_no_box_and_no_keypoint_are_no_error():
    run = compiled(heatmaps_to_keypoints)
    for boxes, keypoints in ((0, 3), (2, 0)):
        shape = boxes, 4, 4, keypoints
        points, scores = run(np.zeros(shape, "f4"), np.zeros((boxes, 4), "f4"), image_size=IMAGE)
        assert points.shape == (boxes, keypoints, 2)
        assert scores.shape == (boxes, keypoints)


def test_half_precision_is_searched_in_float32():
    maps = jnp.asarray(maps_of((2, 5, 5, 2)), jnp.bfloat16)
    run = compiled(heatmaps_to_keypoints)
    points, scores = run(maps, boxes_of(2), image_size=IMAGE)
    assert points.dtype == scores.dtype == np.float32
    expected = run(np.asarray(maps, "f4"), boxes_of(2), image_size=IMAGE)
    np.testing.assert_array_equal(points, expected[0])


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match="size is 0"):
        keypoint_cells(np.zeros((1, 2, 3), "f4"), np.zeros((1, 4), "f4"), size=0)
    maps, boxes = np.zeros((1, 4, 4, 2), "f4"), np.zeros((1, 4), "f4")
    with pytest.raises(ValueError, match="a side of image_size is 0"):
        heatmaps_to_keypoints(maps, boxes, image_size=(0, 9))
    with pytest.raises(AssertionError, match=r"heatmaps is .*: give at least one cell"):
        heatmaps_to_keypoints(maps[:, :0], boxes, image_size=IMAGE)


@pytest.mark.parity
def test_cells_equal_torchvisions():
    torch, roi_heads = import_torchvision("models.detection.roi_heads")
    for seed in range(10):
        boxes = boxes_of(20, seed).astype("f8")
        # In boxes without area, torchvision counts the points at their corners.
        boxes = boxes[(boxes[:, :2] < boxes[:, 2:]).all(axis=1)]
        keypoints = points_in(boxes, seed=seed).astype("f8")
        expected = roi_heads.keypoints_to_heatmap(torch.tensor(keypoints), torch.tensor(boxes), 56)
        with jax.enable_x64(True):
            cells, valid = compiled(keypoint_cells)(keypoints, boxes, size=56)
        np.testing.assert_array_equal(cells, expected[0].numpy())
        np.testing.assert_array_equal(valid, expected[1].numpy())
        assert 0 < valid.mean() < 1


@pytest.mark.parity
def test_cells_of_points_on_the_edges_of_cells_equal_torchvisions():
    """Of whole pixels, where rounding decides: x S / w, in one division, gives other cells."""
    torch, roi_heads = import_torchvision("models.detection.roi_heads")
    sides = np.arange(1, 131)[:, None]
    boxes = np.float32(np.concatenate([0 * sides, 0 * sides, sides, sides], axis=1))
    keypoints = np.tile(np.arange(130, dtype="f4")[None, :, None], (130, 1, 3))
    keypoints[..., 2] = 2
    for dtype in ("f4", "f8"):
        given = keypoints.astype(dtype), boxes.astype(dtype)
        expected = roi_heads.keypoints_to_heatmap(*map(torch.tensor, given), 56)
        with jax.enable_x64(dtype == "f8"):
            cells, valid = compiled(keypoint_cells)(*given, size=56)
        np.testing.assert_array_equal(cells, expected[0].numpy())
        np.testing.assert_array_equal(valid, expected[1].numpy())


@pytest.mark.parity
@pytest.mark.parametrize("side", [56, 13])
def test_keypoints_of_maps_equal_torchvisions(side, monkeypatch):
    torch, roi_heads = import_torchvision("models.detection.roi_heads")
    monkeypatch.setattr(torch, "float32", torch.float64)  # of what torchvision returns
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    run = compiled(heatmaps_to_keypoints)
    for seed in range(6):
        boxes = boxes_of(12, seed, longest=300).astype("f8")
        maps = maps_of((12, side, side, 5), seed).astype("f8")
        points, scores = roi_heads.heatmaps_to_keypoints(
            torch.tensor(maps.transpose(0, 3, 1, 2)), torch.tensor(boxes)
        )
        with jax.enable_x64(True):
            found = run(maps, boxes, image_size=(300, 300))
        np.testing.assert_allclose(found[0], points.numpy()[..., :2], rtol=0, atol=1e-6)
        np.testing.assert_allclose(found[1], scores.numpy(), rtol=0, atol=1e-9)
