"""Drawn detections: what is where, in which colours, and legible on any picture."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.ops import MaskTable, encode_mask
from jaxvision.predict import class_color, draw_detections, picture_grid
from jaxvision.predict.colors import text_color
from tests.marks import slow_but

NAMES = [f"class {number}" for number in range(256)]
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


def plain(height, width, color=128):
    return np.full((height, width, 3), color, np.uint8)


def draw(image, boxes, labels=None, scores=None, names=NAMES, **options):
    boxes = np.array(boxes, np.float64).reshape(-1, 4)
    labels = np.arange(len(boxes)) if labels is None else np.array(labels)
    scores = None if scores is None else np.array(scores)
    return draw_detections(image, boxes, labels, scores, names, **options)


def is_color(picture, color):
    return (picture == np.array(color, np.uint8)).all(axis=-1)


def drawn_pixels(height, width, *args, **options):
    """Where something was drawn: what black and white grounds do not show through."""
    black, white = (draw(plain(height, width, c), *args, **options) for c in (0, 255))
    return (black == white).all(axis=-1), black


def tag_of(label, score=None, *, names=NAMES, side=120):
    """A tag alone: the rows of what is drawn to the right of a tiny box, which it is wider than."""
    middle = side // 2
    box = [[middle, middle, middle + 5, middle + 5]]
    scores = None if score is None else [score]
    where, picture = drawn_pixels(side, side, box, [label], scores, names)
    rows = np.flatnonzero(where[:, middle + max(20, side // 25)])
    tag = slice(rows[0], rows[-1] + 1)
    columns = np.flatnonzero(where[tag].any(axis=0))
    return picture[tag, columns[0] : columns[-1] + 1]


def places_of(part, picture):
    """(y, x) of everywhere that a picture has a part."""
    windows = np.lib.stride_tricks.sliding_window_view(picture, part.shape)[:, :, 0]
    return np.argwhere((windows == part).all(axis=(2, 3, 4))).tolist()


def luminance(color):
    shares = [c / 255 for c in color]
    light = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2]


def contrast(a, b):
    low, high = sorted(luminance(c) + 0.05 for c in (a, b))
    return high / low


def cielab(color):
    """CIE 1976 L*a*b* of an sRGB colour under D65."""
    light = [
        s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in np.array(color) / 255
    ]
    rows = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
    xyz = [sum(m * c for m, c in zip(row, light, strict=True)) for row in rows]
    x, y, z = (v / w for v, w in zip(xyz, (0.9505, 1.0, 1.089), strict=True))
    f = [t ** (1 / 3) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116 for t in (x, y, z)]
    return 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])


def test_colors_are_the_same_every_time():
    assert [class_color(label) for label in range(3)] == [(255, 90, 0), (30, 60, 255), (0, 255, 0)]
    assert class_color(256 + 2) == class_color(2)
    assert class_color(np.int32(2)) == class_color(2)


@pytest.mark.parametrize(("count", "least"), [(10, 40), (20, 20), (80, 8), (256, 2)])
def test_colors_of_classes_are_far_apart(count, least):
    """In CIELAB, in which they were not chosen; 2.3 is the smallest difference that most notice."""
    colors = [cielab(class_color(label)) for label in range(count)]
    closest = min(math.dist(a, b) for a, b in itertools.combinations(colors, 2))
    assert closest >= least


def test_text_has_contrast_on_every_class_color():
    for label in range(256):
        ground = class_color(label)
        assert text_color(ground) in (BLACK, WHITE)
        assert contrast(ground, text_color(ground)) >= 6.5


def test_text_has_contrast_on_every_ground():
    for ground in itertools.product(range(0, 256, 51), repeat=3):
        best = max(contrast(ground, BLACK), contrast(ground, WHITE))
        assert contrast(ground, text_color(ground)) == pytest.approx(best)
        assert best >= math.sqrt(21)


def test_a_box_by_hand():
    """A line of 1 pixel along the box's outermost pixels, and an outline of 1 on both sides."""
    picture = draw(plain(200, 300), [[50, 60, 150, 140]])
    color, ink = class_color(0), text_color(class_color(0))
    for ring, expected in ((59, ink), (60, color), (61, ink)):
        inset = ring - 60
        x1, y1, x2, y2 = 50 + inset, 60 + inset, 150 - inset, 140 - inset
        for side in (
            picture[y1, x1:x2],
            picture[y2 - 1, x1:x2],
            picture[y1:y2, x1],
            picture[y1:y2, x2 - 1],
        ):
            assert is_color(side, expected).all()
    assert (picture[62:138, 52:148] == 128).all()
    assert (picture[141:] == 128).all()
    assert (picture[59:, :49] == 128).all()
    assert (picture[59:, 151:] == 128).all()


@pytest.mark.parametrize(
    ("side", "line"), slow_but([(96, 1), (640, 3), (1500, 5), (4000, 14)], [(96, 1), (1500, 5)])
)
def test_lines_and_tags_grow_with_the_picture(side, line):
    low, high = side // 4, side - side // 4
    picture = draw(plain(side, side), [[low, low, high, high]])
    across = np.flatnonzero(is_color(picture[side // 2], class_color(0)))
    left, right = across[across < side // 2], across[across > side // 2]
    assert len(left) == len(right) == line
    assert left.mean() + 0.5 == pytest.approx(low, abs=0.5)
    assert right.mean() + 0.5 == pytest.approx(high, abs=0.5)
    height = len(tag_of(0, side=side))
    assert height >= 12
    assert side / 60 < height < max(18, side / 25)


def test_a_box_around_the_whole_picture_is_seen_whole():
    picture = draw(plain(100, 120), [[-50, -1e30, 120.4, 1e30]], [3])
    color = class_color(3)
    assert is_color(picture[-1], color).all()
    assert is_color(picture[20:, 0], color).all()
    assert is_color(picture[20:, -1], color).all()
    # The tag covers part of the top.
    assert is_color(picture[0, 60:], color).all()


@pytest.mark.parametrize("box", [[7, 8, 7, 8], [-90, -90, -20, -20], [400, 20, 500, 30]])
def test_a_box_without_area_or_outside_is_a_spot(box):
    picture = draw(plain(100, 120), [box], names=[""])
    x, y = min(max(box[0], 0), 119), min(max(box[1], 0), 99)
    assert is_color(picture, class_color(0)).any()
    near = picture[max(0, y - 20) : y + 20, max(0, x - 10) : x + 10]
    assert is_color(near, class_color(0)).any()


def test_a_spot_is_no_larger_than_its_line_and_outline():
    """With a line of 3 pixels: 1 beyond the box on each side, and the outline's 1."""
    picture = draw(plain(900, 900), [[450, 450, 451, 451]])
    rows, columns = np.nonzero((picture != 128).any(axis=-1))
    assert columns.min() == 448
    assert rows.max() == 452
    assert is_color(picture[449:452, 449:452], class_color(0)).all()


def test_different_classes_have_different_colors():
    boxes = [[10 + 90 * k, 50, 80 + 90 * k, 100] for k in range(10)]
    picture = draw(plain(200, 920), boxes)
    row = picture[98]
    assert {class_color(k) for k in range(10)} <= {tuple(pixel) for pixel in row.tolist()}
    assert len({class_color(k) for k in range(10)}) == 10


@pytest.mark.parametrize("label", [0, 1, 5, 6])
def test_a_tag_has_text_on_a_ground_of_the_class_color(label):
    tag, ground = tag_of(label), class_color(label)
    ink = text_color(ground)
    inner = tag[1:-1, 1:-1]
    assert is_color(inner, ground).mean() > 0.4
    assert 0.03 < is_color(inner, ink).mean() < 0.4
    assert contrast(ground, ink) >= 4.5
    assert is_color(inner[:, 0], ground).all()
    assert is_color(inner[:, -1], ground).all()
    assert is_color(tag[0], ink).all()


def test_a_tag_shows_class_and_score():
    with_score, without = tag_of(3, 0.871), tag_of(3)
    assert with_score.shape[0] == without.shape[0]
    assert with_score.shape[1] > without.shape[1]
    named = [*NAMES]
    named[3] = "class 3 0.87"
    assert places_of(with_score, draw(plain(120, 120), [[9, 99, 20, 110]], [3], names=named))
    assert not places_of(tag_of(3, 0.88), draw(plain(120, 120), [[9, 99, 20, 110]], [3], [0.871]))


@pytest.mark.parametrize("size", slow_but([1, 10, 110], [1, 110]))
@pytest.mark.parametrize("x", slow_but([-40, 0, 2, 60, 110, 119], [-40, 60, 119]))
def test_a_tag_stays_within_the_picture(x, size):
    tag = tag_of(4, 0.5)
    for y in (-40, 0, 1, 9, 60, 100, 119):
        assert places_of(tag, draw(plain(120, 120), [[x, y, x + size, y + size]], [4], [0.5]))


def test_a_tag_fits_into_a_tiny_picture():
    names = ["", "", "motorcycle"]
    picture = draw(plain(96, 96), [[60, 2, 95, 40]], [2], [0.5], names)
    assert places_of(tag_of(2, 0.5, names=names, side=200), picture)


def test_a_tag_too_wide_shows_its_beginning():
    picture = draw(plain(96, 96), [[60, 50, 95, 90]], names=["class 0" + 30 * " and more"])
    assert places_of(tag_of(0)[:, :-4], picture)[0][1] == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (3, 2)])
def test_the_smallest_pictures(size):
    picture = draw(plain(*size), [[0, 0, 1, 1], [0, 0, 400, 400]], None, [0.5, 0.4])
    assert picture.shape == (*size, 3)
    assert (picture != 128).any()


def test_names_of_several_lines_become_one():
    expected = draw(plain(99, 99), [[9, 50, 30, 90]], names=["a b"])
    np.testing.assert_array_equal(
        draw(plain(99, 99), [[9, 50, 30, 90]], names=[" a\n b\t"]), expected
    )


def test_tags_avoid_those_before():
    """Four boxes with one corner: every tag can be read whole."""
    boxes = [[100, 100, 200 + 10 * k, 200 + 10 * k] for k in range(4)]
    picture = draw(plain(300, 300), boxes, [0, 1, 2, 3])
    for label in range(4):
        assert places_of(tag_of(label), picture)


def test_the_first_lies_on_top():
    box = [20, 50, 90, 90]
    picture = draw(plain(100, 100), [box, box], [5, 6])
    assert is_color(picture[60:80, 20], class_color(5)).all()
    crowd = [[1, 1, 4, 4]] * 60
    picture = draw(plain(40, 60), crowd, [8] + 59 * [9], names=10 * ["class 8"])
    assert places_of(tag_of(8), picture)


@pytest.mark.parametrize("ground", [0, 60, 120, 180, 255])
def test_a_box_stands_out_from_every_ground(ground):
    """The line and its outline differ so much that one of them differs from any ground."""
    for label in range(20):
        picture = draw(plain(100, 100, ground), [[20, 40, 80, 90]], [label])
        line, outline = picture[60, 20].tolist(), picture[60, 21].tolist()
        best = max(contrast(line, 3 * [ground]), contrast(outline, 3 * [ground]))
        assert best >= math.sqrt(6.5)


def test_masks_are_translucent_with_an_outline():
    """The outline is as wide as a line, here one pixel, and inside the mask."""
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    masks, inner = np.zeros((2, 2, 60, 80), bool)
    masks[0, 30:40, 20:50] = masks[1, 35:50, 40:80] = True
    # The second mask goes on at the right edge of the image, where it has no outline.
    inner[0, 31:39, 21:49] = inner[1, 36:49, 41:80] = True
    boxes = [[0, 0, 3, 3], [0, 0, 3, 3]]
    names = ["", ""]
    bare, picture = draw(image, boxes, names=names), draw(image, boxes, names=names, masks=masks)
    expected = bare.astype(float)
    for label in (1, 0):
        color = np.array(class_color(label))
        expected[inner[label]] += 0.45 * (color - expected[inner[label]])
        expected[masks[label] & ~inner[label]] = color
    np.testing.assert_allclose(picture, expected, atol=2)
    np.testing.assert_array_equal(picture[~masks.any(axis=0)], bare[~masks.any(axis=0)])


def test_the_outline_of_a_mask_is_wider_in_a_larger_picture():
    """In 600 x 700 pixels a line has three; a hole and a part that is narrow are outlined too."""
    mask = np.zeros((1, 600, 700), bool)
    mask[0, 100:400, 100:400] = True
    mask[0, 200:300, 200:300] = False
    mask[0, 500:504, 100:400] = True
    picture = draw(plain(600, 700), [[0, 0, 3, 3]], names=[""], masks=mask)
    solid = (picture == class_color(0)).all(axis=2)
    assert (solid & mask[0])[150].nonzero()[0].tolist() == [100, 101, 102, 397, 398, 399]
    places = [100, 101, 102, 197, 198, 199, 300, 301, 302, 397, 398, 399]
    assert solid[250].nonzero()[0].tolist() == places
    assert solid[500:504, 100:400].all()


def test_masks_may_be_run_lengths():
    masks = np.random.default_rng(0).random((2, 50, 60)) < 0.5
    masks[1] = False
    boxes = [[0, 0, 30, 30], [20, 10, 50, 40]]
    expected = draw(plain(50, 60), boxes, [0, 1], masks=masks)
    for given in ([*map(encode_mask, masks)], MaskTable.of([*map(encode_mask, masks)])):
        np.testing.assert_array_equal(draw(plain(50, 60), boxes, [0, 1], masks=given), expected)


def test_the_image_is_not_changed():
    image = plain(50, 60)
    draw(image, [[5, 5, 50, 40]], masks=np.ones((1, 50, 60), bool))
    assert (image == 128).all()


def test_nothing_found_is_the_image():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    empty = np.zeros((0,), np.int32)
    picture = draw_detections(image, np.zeros((0, 4)), empty, np.zeros(0), [])
    np.testing.assert_array_equal(picture, image)
    assert picture is not image


def test_arrays_of_jax_in_half_precision():
    boxes, scores = [[10, 40, 60, 80]], [0.5]
    image = plain(100, 100)
    picture = draw_detections(
        jnp.asarray(image),
        jnp.array(boxes, jnp.bfloat16),
        jnp.array([1], jnp.uint8),
        jnp.array(scores, jnp.bfloat16),
        NAMES,
    )
    np.testing.assert_array_equal(picture, draw(image, boxes, [1], scores))


GOOD = {
    "image": plain(20, 30),
    "boxes": np.array([[1.0, 2, 9, 8], [3, 4, 5, 6]]),
    "labels": np.array([0, 1]),
    "scores": np.array([0.9, 0.8]),
    "class_names": ["cat", "dog"],
}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"image": np.zeros((20, 30, 3))},
            r"^image is float64\[20, 30, 3\]: give uint8\[H, W, 3\]$",
        ),
        ({"image": np.zeros((20, 30, 3), bool)}, r"^image is bool\[20, 30, 3\]"),
        ({"image": plain(20, 30)[:, :, 0]}, r"^image is uint8\[20, 30\]"),
        ({"image": plain(20, 30)[:, :, :1]}, r"^image is uint8\[20, 30, 1\]"),
        ({"image": plain(0, 30)}, r"^image is uint8\[0, 30, 3\]: give at least one pixel$"),
        ({"boxes": np.zeros((2, 5))}, r"^boxes is float64\[2, 5\]: give floating\[K, 4\]$"),
        ({"boxes": np.zeros((2, 4), int)}, r"^boxes is int64\[2, 4\]"),
        ({"labels": np.zeros(3, int)}, r"^labels is int64\[3\]: give integer\[2\]$"),
        ({"labels": np.zeros(2)}, r"^labels is float64\[2\]"),
        ({"scores": np.zeros((2, 1))}, r"^scores is float64\[2, 1\]"),
        ({"masks": np.zeros((2, 30, 20), bool)}, r"^masks is bool\[2, 30, 20\].*\[2, 20, 30\]$"),
        ({"masks": np.zeros((2, 20, 30))}, r"^masks is float64\[2, 20, 30\]"),
        ({"masks": [encode_mask(np.zeros((20, 30), bool))]}, "^masks has 1 elements: give 2$"),
        ({"masks": [None, None]}, r"^masks\[0\] is NoneType: give RunLengths$"),
    ],
)
def test_wrong_arrays_are_named(changed, message):
    with pytest.raises(AssertionError, match=message):
        draw_detections(**{**GOOD, **changed})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"labels": np.array([1, 2])},
            r"^labels\[1\] is 2, but class_names has 2 names: give a name for it$",
        ),
        ({"labels": np.array([-1, 0])}, r"^labels\[0\] is -1"),
        (
            {"boxes": np.array([[1, 2, 9, 8], [3, 4, np.nan, 6]])},
            r"^boxes\[1\] is \[3.0, 4.0, nan, 6.0\], not finite: leave it out$",
        ),
        (
            {"boxes": np.array([[1, 2, 9, 8], [3, 4, 2, 6.0]])},
            r"^boxes\[1\] .*with x2 < x1 or y2 < y1: l",
        ),
        ({"boxes": np.array([[1, 9, 9, 8], [3, 4, 5, 6.0]])}, r"^boxes\[0\] .*with x2 < x1"),
        (
            {"masks": [encode_mask(np.zeros((30, 20), bool))] * 2},
            r"^masks\[0\] is \(30, 20\) in size: give masks of \(20, 30\)$",
        ),
    ],
)
def test_wrong_values_are_named(changed, message):
    with pytest.raises(InputError, match=message):
        draw_detections(**{**GOOD, **changed})


def test_a_grid_by_hand():
    """Gaps of 6, half the smallest text: columns 3 and 5 wide, rows 4 and 2 high."""
    rng = np.random.default_rng(0)
    sizes = [(4, 3), (2, 5), (2, 2)]
    pictures = [rng.integers(100, 256, (*size, 3), np.uint8) for size in sizes]
    grid = picture_grid(pictures, columns=2)
    assert grid.dtype == np.uint8
    expected = np.broadcast_to(grid[0, 0], (6 + 4 + 6 + 2 + 6, 6 + 3 + 6 + 5 + 6, 3)).copy()
    assert len(set(grid[0, 0].tolist())) == 1
    expected[6:10, 6:9], expected[6:8, 15:20], expected[16:18, 6:8] = pictures
    np.testing.assert_array_equal(grid, expected)


def test_a_grid_has_no_empty_columns():
    pictures = [plain(4, 3), plain(4, 3)]
    np.testing.assert_array_equal(
        picture_grid(pictures, columns=9), picture_grid(pictures, columns=2)
    )


def test_captions_stand_above_their_pictures():
    pictures = [plain(40, 30, 200), plain(40, 80, 100)]
    bare = picture_grid(pictures, columns=2)
    grid = picture_grid(pictures, columns=2, captions=["found by far", "truth"])
    ground = grid[0, 0].tolist()
    ink = (grid != grid[0, 0]).any(axis=-1)
    for picture in pictures:
        [(top, left)] = places_of(picture, grid)
        assert top > 12
        assert ink[top - 12 : top, left : left + 20].any()
    brightest = max(grid[6:18].reshape(-1, 3).tolist(), key=luminance)
    assert contrast(ground, brightest) >= 4.5
    # The first caption is wider than its picture and gets the space.
    assert grid.shape[1] > bare.shape[1]
    assert not ink[:, -6:].any()


def test_captions_grow_with_the_pictures():
    heights = [
        len(picture_grid([plain(side, side)], columns=1, captions=["a"])) - side
        for side in (96, 640, 2000)
    ]
    assert heights[0] < heights[1] < heights[2]


@pytest.mark.parametrize(
    ("error", "pictures", "options", "message"),
    [
        (InputError, [], {"columns": 1}, "^pictures has no elements: give at least one$"),
        (InputError, [plain(2, 2)], {"columns": 0}, "^columns is 0: give at least 1$"),
        (
            AssertionError,
            [plain(2, 2), np.zeros((2, 2, 3))],
            {"columns": 1},
            r"^pictures\[1\] is fl",
        ),
        (
            AssertionError,
            [plain(2, 2)],
            {"columns": 1, "captions": ["a", "b"]},
            "^captions has 2 elements: give 1$",
        ),
    ],
)
def test_wrong_grids_are_refused(error, pictures, options, message):
    with pytest.raises(error, match=message):
        picture_grid(pictures, **options)
