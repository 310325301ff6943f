"""Run-lengths: by hand, there and back, and equal to pycocotools."""

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from pycocotools import mask as pycocotools

from jaxvision import ops
from jaxvision.core import InputError
from jaxvision.ops import (
    MaskTable,
    Polygons,
    RunLengths,
    compress_counts,
    decode_mask,
    decompress_counts,
    decompress_masks,
    encode_mask,
    encode_polygons,
    mask_area,
    mask_to_box,
    paired_run_length_iou,
    polygons_have_pixels,
    run_length_iou,
    run_lengths,
)
from tests.reference.ops.run_lengths import polygon_mask

masks = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=9))


def as_pycocotools(mask):
    return pycocotools.encode(np.asfortranarray(mask.astype(np.uint8)))


def random_mask(rng, height, width):
    kind = rng.integers(0, 4)
    if kind < 2:
        return np.full((height, width), bool(kind))
    mask = rng.random((height, width)) < rng.random()
    if kind == 3:
        top, left = rng.integers(0, height), rng.integers(0, width)
        mask[:] = False
        mask[top : top + rng.integers(1, 9), left : left + rng.integers(1, 9)] = True
    return mask


def test_an_example_by_hand():
    mask = np.array([[0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], bool)
    run_lengths = encode_mask(mask)
    assert run_lengths.size == (3, 4)
    np.testing.assert_array_equal(run_lengths.counts, [3, 2, 1, 1, 4, 1])
    assert mask_area(run_lengths) == 4
    np.testing.assert_array_equal(mask_to_box(run_lengths), [1, 0, 4, 3])
    np.testing.assert_array_equal(encode_mask(~mask).counts, [0, 3, 2, 1, 1, 4, 1])
    other = np.zeros((3, 4), bool)
    other[0, 1:] = True
    first, second = [run_lengths], [encode_mask(other), encode_mask(np.zeros((3, 4), bool))]
    np.testing.assert_array_equal(run_length_iou(first, second), [[2 / 5, 0]])
    np.testing.assert_array_equal(
        run_length_iou(first, second, np.array([True, True])), [[2 / 4, 0]]
    )


def test_compressed_by_hand():
    # 3; -1 is the digit 31; 16 takes two digits, as one of 5 bits would be negative; then 5 - (-1).
    counts = np.array([3, -1, 16, 5])
    assert compress_counts(counts) == bytes([48 + 3, 48 + 31, 48 + 32 + 16, 48, 48 + 6])
    np.testing.assert_array_equal(decompress_counts("3O`006"), [3, -1, 16, -1, 22])


@given(masks)
@settings(max_examples=60, deadline=None)
def test_there_and_back(mask):
    run_lengths = encode_mask(mask)
    np.testing.assert_array_equal(decode_mask(run_lengths), mask)
    assert (run_lengths.counts[1:] > 0).all()
    np.testing.assert_array_equal(
        decompress_counts(compress_counts(run_lengths.counts)), run_lengths.counts
    )
    assert mask_area(run_lengths) == mask.sum()


@given(arrays.arrays(np.int64, st.integers(0, 8), elements=st.integers(-(2**40), 2**40)))
@settings(max_examples=60, deadline=None)
def test_compressed_there_and_back(counts):
    np.testing.assert_array_equal(decompress_counts(compress_counts(counts)), counts)
    assert compress_counts(counts).isascii()


def check_against_pycocotools(repetitions, seed):
    rng = np.random.default_rng(seed)
    for _ in range(repetitions):
        size = rng.integers(1, 40, 2)
        groups = [[random_mask(rng, *size) for _ in range(n)] for n in rng.integers(1, 5, 2)]
        ours = [[encode_mask(mask) for mask in group] for group in groups]
        theirs = [[as_pycocotools(mask) for mask in group] for group in groups]
        for mask, one, other in zip(groups[0], ours[0], theirs[0], strict=True):
            assert compress_counts(one.counts) == other["counts"]
            assert list(one.size) == other["size"]
            np.testing.assert_array_equal(decompress_counts(other["counts"]), one.counts)
            np.testing.assert_array_equal(decode_mask(one), mask)
            assert mask_area(one) == pycocotools.area(other)
            x, y, width, height = pycocotools.toBbox(other)
            np.testing.assert_array_equal(mask_to_box(one), [x, y, x + width, y + height])
        crowd = rng.random(len(groups[1])) < 0.3
        np.testing.assert_array_equal(
            run_length_iou(*ours, crowd), pycocotools.iou(*theirs, crowd.astype(int).tolist())
        )


def test_random_empty_and_full_masks_equal_pycocotools():
    check_against_pycocotools(60, seed=0)


@pytest.mark.long
def test_many_masks_equal_pycocotools():
    check_against_pycocotools(1000, seed=1)


@pytest.mark.parametrize(
    ("polygons", "rows"),
    [
        # Whole pixels.
        ([[(1, 1), (3, 1), (3, 3), (1, 3)]], ["....", ".##.", ".##.", "...."]),
        # Turning the other way round, and a corner twice.
        ([[(1, 1), (1, 3), (1, 3), (3, 3), (3, 1)]], ["....", ".##.", ".##.", "...."]),
        # From the image's border to border, and beyond.
        ([[(0, 0), (4, 0), (4, 4), (0, 4)]], ["####"] * 4),
        ([[(-9, -9), (9, -9), (9, 3), (-9, 3)]], ["####"] * 3 + ["...."]),
        ([[(5, 0), (9, 0), (9, 4)]], ["...."] * 4),
        # Middles on the long side stay outside.
        ([[(0, 0), (4, 0), (0, 4)]], ["###.", "##..", "#...", "...."]),
        # Left of a middle, at 7 and a half fifths, and right of it: 1.3 and 1.7 are 7 and 9 fifths.
        ([[(1.3, 0), (3, 0), (3, 4), (1.3, 4)]], [".##."] * 4),
        ([[(1.7, 0), (3, 0), (3, 4), (1.7, 4)]], ["..#."] * 4),
        # Without area.
        ([[(1, 1), (3, 3), (1, 1)]], ["...."] * 4),
        ([[(2, 2), (2, 2), (2, 2)]], ["...."] * 4),
        # What one polygon holds twice is outside, what two hold is inside.
        (
            [[(0, 0), (4, 0), (4, 4), (0, 4), (0, 0), (3, 0), (3, 3), (0, 3)]],
            ["...#", "...#", "...#", "####"],
        ),
        (
            [[(0, 0), (3, 0), (3, 3), (0, 3)], [(1, 1), (4, 1), (4, 4), (1, 4)]],
            ["###.", "####", "####", ".###"],
        ),
        # Runs that touch, from polygon to polygon and from column to column.
        (
            [[(0, 2), (2, 2), (2, 4), (0, 4)], [(1, 0), (2, 0), (2, 2), (1, 2)]],
            [".#..", ".#..", "##..", "##.."],
        ),
    ],
)
def test_polygons_by_hand(polygons, rows):
    mask = np.array([[pixel == "#" for pixel in row] for row in rows])
    found = encode_polygons(Polygons(tuple(np.array(x, float) for x in polygons)), (4, 4))
    np.testing.assert_array_equal(decode_mask(found), mask)
    np.testing.assert_array_equal(found.counts, encode_mask(mask).counts)


def random_polygon(rng, height, width):
    """Tiny and large ones, partly outside, of whole, half and any coordinates, without area."""
    corners = rng.integers(3, 9)
    side = max(height, width)
    centre = rng.uniform(-0.3, 1.3, 2) * (width, height)
    spread = rng.choice([0, 0.3, 1, 3, side, 2 * side, 10 * side])
    polygon = centre + rng.uniform(-0.5, 0.5, (corners, 2)) * spread
    kind = rng.integers(0, 5)
    if kind == 0:
        polygon = polygon.round()
    elif kind == 1:
        polygon = (2 * polygon).round() / 2
    elif kind == 2:
        polygon = polygon[rng.integers(0, corners, corners)]  # corners that come again
    elif kind == 3:
        polygon[:, rng.integers(0, 2)] = centre[0]  # a line
    return polygon


def random_polygons(rng):
    height, width = rng.integers(1, 40, 2).tolist()
    number = rng.integers(1, 4)
    return [random_polygon(rng, height, width) for _ in range(number)], (height, width)


@pytest.mark.parametrize("count", [30, pytest.param(2000, marks=pytest.mark.slow)])
def test_masks_without_a_pixel_are_found(count):
    rng, empty = np.random.default_rng(5), 0
    for _ in range(count):
        size = tuple(rng.integers(1, 40, 2).tolist())
        masks = [
            Polygons(tuple(random_polygon(rng, *size) for _ in range(rng.integers(1, 3))))
            for _ in range(rng.integers(1, 5))
        ]
        # The same outline twice leaves nothing, and a middle column may be empty.
        twice = random_polygon(rng, *size)
        masks.append(Polygons((np.concatenate([twice, twice]),)))
        expected = [mask_area(encode_polygons(mask, size)) > 0 for mask in masks]
        np.testing.assert_array_equal(polygons_have_pixels(masks, size), expected)
        empty += len(expected) - sum(expected)
    assert empty > count
    assert polygons_have_pixels([], (4, 4)).shape == (0,)
    assert not polygons_have_pixels(masks, (0, 4)).any()


@pytest.mark.slow
def test_random_polygons_equal_the_reference():
    rng = np.random.default_rng(3)
    for _ in range(200):
        polygons, size = random_polygons(rng)
        found = encode_polygons(Polygons(tuple(polygons)), size)
        expected = np.any([polygon_mask(polygon, size) for polygon in polygons], axis=0)
        np.testing.assert_array_equal(decode_mask(found), expected)
        np.testing.assert_array_equal(found.counts, encode_mask(expected).counts)


@pytest.mark.long
@pytest.mark.parity
def test_many_polygons_equal_pycocotools():
    rng = np.random.default_rng(4)
    for _ in range(20_000):
        polygons, (height, width) = random_polygons(rng)
        flat = [polygon.ravel().tolist() for polygon in polygons]
        theirs = pycocotools.merge(pycocotools.frPyObjects(flat, height, width))
        ours = encode_polygons(Polygons(tuple(polygons)), (height, width))
        assert compress_counts(ours.counts) == theirs["counts"]


@pytest.mark.parametrize(
    ("corners", "message"),
    [
        ((), "corners is empty"),
        ((np.zeros((3, 2)), np.zeros((2, 2))), r"corners\[1\] has 2 corners: give at least 3"),
        ((np.array([[0, 0], [1, 1], [np.nan, 1]]),), r"corners\[0\] has a coordinate that is not"),
        ((np.array([[0, 0], [1, 1], [1, 65537]]),), "more than 65536 in magnitude"),
    ],
)
def test_bad_polygons_are_errors(corners, message):
    with pytest.raises(InputError, match=message):
        Polygons(corners)


def test_counts_need_not_be_the_shortest():
    mask = RunLengths((2, 3), [1, 0, 0, 2, 0, 1, 2, 0])
    np.testing.assert_array_equal(decode_mask(mask), [[False, True, False], [True, True, False]])
    assert mask_area(mask) == 3
    np.testing.assert_array_equal(mask_to_box(mask), [0, 0, 2, 2])
    same = encode_mask(decode_mask(mask))
    np.testing.assert_array_equal(run_length_iou([mask, same], [mask, same]), np.ones((2, 2)))


def test_pairs_are_those_of_the_matrix(monkeypatch):
    rng = np.random.default_rng(2)
    first, second = ([encode_mask(random_mask(rng, 20, 30)) for _ in range(9)] for _ in range(2))
    crowd = rng.random(9) < 0.5
    expected = run_length_iou(first, second, crowd)
    i, j = rng.integers(0, 9, (2, 60))
    np.testing.assert_array_equal(paired_run_length_iou(first, second, i, j, crowd), expected[i, j])
    # A limit on the least leaves the others as they are.
    limited = paired_run_length_iou(first, second, i, j, crowd, least=0.3)
    high = expected[i, j] >= 0.3
    assert 0 < high.sum() < 60
    np.testing.assert_array_equal(limited[high], expected[i, j][high])
    assert (limited[~high] < 0.3).all()
    # In many steps as in one.
    monkeypatch.setattr(run_lengths, "_ENDS_AT_ONCE", 50)
    np.testing.assert_array_equal(run_length_iou(first, second, crowd), expected)


def test_masks_of_different_images_go_into_one_call():
    small, large = (encode_mask(np.ones(size, bool)) for size in ((2, 3), (50, 70)))
    pairs = paired_run_length_iou(
        [small, large], [large, small], np.array([0, 1]), np.array([1, 0])
    )
    np.testing.assert_array_equal(pairs, [1, 1])


def test_a_table_of_masks_equals_its_masks(monkeypatch):
    monkeypatch.setattr(run_lengths, "_CHARACTERS_AT_ONCE", 20)
    rng = np.random.default_rng(6)
    masks = [
        RunLengths((0, 3), np.zeros(0, int)),
        RunLengths((2, 2), np.array([4])),
        RunLengths((1, 5), np.array([0, 0, 2, 3, 0])),
        *(encode_mask(random_mask(rng, *rng.integers(1, 40, 2))) for _ in range(40)),
        RunLengths((0, 0), np.zeros(0, int)),
    ]
    whole = MaskTable.of(masks)
    texts = [compress_counts(mask.counts) for mask in masks]
    texts[1::2] = [text.decode() for text in texts[1::2]]
    tables = [
        whole,
        MaskTable.of(whole),
        MaskTable.concatenate([MaskTable.of(masks[:4]), MaskTable.of([]), MaskTable.of(masks[4:])]),
        MaskTable.of(masks[::-1]).take(np.arange(len(masks))[::-1]),
        decompress_masks(whole.sizes, texts),
    ]
    for table in tables:
        assert len(table) == len(masks)
        for mine, mask in zip(table, masks, strict=True):
            assert mine.size == mask.size
            np.testing.assert_array_equal(mine.counts, mask.counts)
        np.testing.assert_array_equal(table.areas(), [mask_area(mask) for mask in masks])
        np.testing.assert_array_equal(table.boxes(), [mask_to_box(mask) for mask in masks])
    np.testing.assert_array_equal(whole[-2].counts, masks[-2].counts)
    with pytest.raises(IndexError, match=f"there is no mask {len(masks)}"):
        whole[len(masks)]
    assert len(decompress_masks(np.zeros((0, 2), int), [])) == 0


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([[2, 3]], [3, 2], [0, 2]), "counts of mask 0 sum to 5: a mask of 2 x 3 has 6 pixels"),
        (([[2, 3]], [9, -3], [0, 2]), "counts: -3 is among them"),
        (([[-2, -3]], [6], [0, 1]), "sizes: -3 is among them"),
        (([[2, 3]], [6, 6], [0, 1]), "splits: give numbers that ascend from 0 to 2"),
        (([[2, 3], [2, 3], [2, 3]], [6, 6], [0, 2, 1, 2]), "splits: give numbers that ascend"),
    ],
)
def test_a_wrong_table_of_masks_is_an_error(columns, message):
    with pytest.raises(InputError, match=message):
        MaskTable(*map(np.array, columns))


def test_without_masks_there_are_no_pairs():
    one = [encode_mask(np.ones((2, 3), bool))]
    assert run_length_iou([], one).shape == (0, 1)
    assert run_length_iou(one, []).shape == (1, 0)
    assert run_length_iou([], []).shape == (0, 0)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([3, 2], "counts sum to 5: a mask of 2 x 3 has 6 pixels"),
        ([9, -3], r"counts\[1\] is -3: give at least 0"),
        ([], "counts sum to 0: a mask"),
    ],
)
def test_bad_counts_are_errors(counts, message):
    with pytest.raises(InputError, match=message):
        RunLengths((2, 3), np.array(counts, int))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"3O!", r"character 2 of the compressed counts is '!'"),
        ("3Oé", "character 2 of the compressed counts is"),
        (b"3`", "end within a number"),
        (b"`" * 20 + b"0", "more than 60 bits"),
    ],
)
def test_bad_text_is_an_error(text, message):
    with pytest.raises(InputError, match=message):
        decompress_counts(text)
    with pytest.raises(InputError, match=message):
        decompress_masks(np.full((2, 2), 1), ["01", text])


def test_wrong_arguments_are_named():
    mask = encode_mask(np.ones((2, 3), bool))
    other = encode_mask(np.ones((3, 2), bool))
    with pytest.raises(InputError, match=r"masks1\[0\] is \(2, 3\) and masks2\[1\] is \(3, 2\)"):
        run_length_iou([mask], [mask, other])
    for wrong in (np.ones(3, bool), np.ones((2, 3))):
        with pytest.raises(AssertionError, match=r"^mask is "):
            encode_mask(wrong)
    for wrong in (np.ones((2, 3), int), np.ones(6)):
        with pytest.raises(AssertionError, match=r"^counts is "):
            RunLengths((2, 3), wrong)
        with pytest.raises(AssertionError, match=r"^counts is "):
            compress_counts(wrong)
    with pytest.raises(AssertionError, match=r"^masks\[1\] is ndarray"):
        MaskTable.of([mask, np.ones((2, 3), bool)])
    with pytest.raises(AssertionError, match=r"^sizes is int64\[1, 2\]: give int\[2, 2\]"):
        decompress_masks(np.array([[2, 3]]), [b"06", b"06"])
    for columns in (([[6]], [6], [0, 1]), ([[2, 3]], [6], [0]), ([[2, 3]], [6.0], [0, 1])):
        with pytest.raises(AssertionError, match=r"^(sizes|splits|counts) "):
            MaskTable(*map(np.array, columns))
    for name in ("decode_mask", "mask_area", "mask_to_box"):
        with pytest.raises(AssertionError, match=r"^run_lengths is ndarray"):
            getattr(ops, name)(np.ones((2, 3), bool))
    for wrong in (np.zeros(6), np.zeros((3, 2), bool), np.zeros((3, 3))):
        with pytest.raises(AssertionError, match=r"^corners\[0\] "):
            Polygons((wrong,))
    with pytest.raises(AssertionError, match=r"^polygons is tuple"):
        encode_polygons((np.zeros((3, 2)),), (2, 3))
    with pytest.raises(AssertionError, match=r"^masks2\[0\] is ndarray"):
        run_length_iou([mask], [np.ones((2, 3), bool)])
    for wrong in (np.array([True, False]), np.array([1])):
        with pytest.raises(AssertionError, match=r"^crowd is .* give bool\[1\]"):
            run_length_iou([mask], [mask], wrong)
    with pytest.raises(AssertionError, match=r"^second is "):
        paired_run_length_iou([mask], [mask], np.array([0]), np.array([0.0]))
