"""Drawn landmarks: dots where the points are, in their colours, with names that can be read."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.predict import class_color, draw_landmarks
from jaxvision.predict.colors import text_color
from tests.predict.test_draw import contrast, draw, is_color, places_of, plain, tag_of


def dots(image, points, visible=None, **options):
    points = np.array(points, np.float64).reshape(-1, 2)
    visible = np.ones(len(points), bool) if visible is None else np.array(visible)
    return draw_landmarks(image, points, visible, **options)


@pytest.mark.parametrize("point", [(30, 20), (30.5, 20.5), (30.25, 20.75), (31.9, 22.1)])
def test_a_dot_is_centred_on_its_point(point):
    """Weighed by blue, of which ring and dot have none: a disc of radius 1.5 and a ring of 1."""
    blue = 1 - dots(plain(90, 120, 255), [point])[..., 2] / 255
    assert class_color(0)[2] == text_color(class_color(0))[2] == 0
    assert blue.sum() == pytest.approx(np.pi * 2.5**2, rel=0.03)
    rows, columns = np.indices(blue.shape) + 0.5
    assert (blue * columns).sum() / blue.sum() == pytest.approx(point[0], abs=0.02)
    assert (blue * rows).sum() / blue.sum() == pytest.approx(point[1], abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("side", "line"), [(96, 1), (640, 3), (3000, 10)])
def test_dots_and_names_grow_with_the_picture(side, line):
    middle = side // 2
    picture = dots(plain(side, side), [[middle, middle]])
    row = picture[middle, middle - side // 8 : middle + side // 8]
    color = is_color(row, class_color(0)).sum()
    assert color == pytest.approx(3 * line, abs=2)
    ring = (row != 128).any(axis=-1).sum() - color
    assert ring / 2 == pytest.approx(max(1, line // 4), abs=1)
    named = dots(plain(side, side), [[middle, middle]], names=["class 0"])
    tag = tag_of(0, side=side)
    height, width = tag.shape[:2]
    near = named[middle - height : middle + height, middle : middle + width + 4 * line + 4]
    assert places_of(tag, near)


@pytest.mark.parametrize("ground", [0, 60, 120, 180, 255])
def test_a_dot_stands_out_from_every_ground(ground):
    """It and its ring differ so much that one of them differs from any ground."""
    points = [[10 + 10 * k, 10] for k in range(20)]
    picture = dots(plain(20, 220, ground), points)
    for k in range(20):
        color, ring = class_color(k), text_color(class_color(k))
        near = picture[5:15, 5 + 10 * k : 15 + 10 * k]
        assert is_color(near, color).any()
        best = max(contrast(color, 3 * [ground]), contrast(ring, 3 * [ground]))
        assert best >= np.sqrt(6.5)


def test_what_is_not_visible_is_not_drawn():
    points = [[10, 10], [30, 10], [np.nan, np.inf], [50, 10]]
    picture = dots(plain(60, 80), points, [True, False, False, True], names=[*"abcd"])
    alone = dots(plain(60, 80), [*points[:1], [-9, 0], [-9, 0], points[3]], names=[*"abcd"])
    np.testing.assert_array_equal(picture, alone)
    assert is_color(picture, class_color(3)).any()
    for k in (1, 2):
        assert not is_color(picture, class_color(k)).any()


@pytest.mark.parametrize("point", [(-0.1, 5), (5, -0.1), (40.1, 5), (5, 30.1), (1e30, -1e30)])
def test_points_outside_are_left_out(point):
    picture = dots(plain(30, 40), [point], names=["nose"])
    assert (picture == 128).all()


@pytest.mark.parametrize("point", [(0, 0), (40, 30), (0, 30), (40, 12)])
def test_points_at_the_border_are_seen(point):
    picture = dots(plain(30, 40), [point])
    column, row = min(point[0], 39), min(point[1], 29)
    assert is_color(picture[row, column], class_color(0))


def test_names_are_beside_their_dots_and_avoid_each_other():
    """Four points close by: all dots are whole, and every name can be read."""
    points = [[150, 150], [158, 150], [150, 160], [158, 170]]
    bare = dots(plain(300, 300), points)
    picture = dots(plain(300, 300), points, names=[f"class {k}" for k in range(4)])
    for k, (x, y) in enumerate(points):
        [(top, left)] = places_of(tag_of(k), picture)
        height, width = tag_of(k).shape[:2]
        away_x = max(left - x, x - (left + width), 0)
        away_y = max(top - y, y - (top + height), 0)
        assert 0 < max(away_x, away_y) < 6
        np.testing.assert_array_equal(
            picture[y - 3 : y + 3, x - 3 : x + 3], bare[y - 3 : y + 3, x - 3 : x + 3]
        )


@pytest.mark.parametrize("x", [0, 5, 60, 119])
@pytest.mark.parametrize("y", [0, 60, 119])
def test_a_name_stays_within_the_picture(x, y):
    assert places_of(tag_of(0), dots(plain(120, 120), [[x, y]], names=["class 0"]))


def test_dots_lie_on_top_of_names():
    """In a crowd no dot is hidden."""
    points = np.stack(np.meshgrid(range(5, 100, 10), range(5, 100, 10)), axis=-1).reshape(-1, 2)
    bare = dots(plain(100, 100), points)
    picture = dots(plain(100, 100), points, names=[f"number {k}" for k in range(100)])
    for x, y in points:
        assert is_color(picture[y, x], bare[y, x])


def test_a_name_of_several_lines_becomes_one():
    one, other = (
        dots(plain(50, 90), [[20, 20]], names=[name]) for name in ("left eye", " left\n eye\t")
    )
    np.testing.assert_array_equal(one, other)


def test_the_smallest_pictures():
    for size in ((1, 1), (1, 300), (300, 1), (3, 2)):
        picture = dots(plain(*size), [[0.5, 0.5], [1, 1]], names=["left eye", "nose"])
        assert picture.shape == (*size, 3)
        assert (picture != 128).any()


def test_no_landmarks_are_the_image():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    picture = dots(image, [], names=[])
    np.testing.assert_array_equal(picture, image)
    assert picture is not image


def test_arrays_of_jax_in_half_precision_and_the_image_is_not_changed():
    image, points = plain(60, 60), [[20, 30.5], [40, 50]]
    picture = draw_landmarks(
        jnp.asarray(image), jnp.array(points, jnp.bfloat16), jnp.array([True, True])
    )
    np.testing.assert_array_equal(picture, dots(image, points))
    assert (image == 128).all()


def test_colors_are_those_of_boxes():
    box = draw(plain(60, 60), [[20, 30, 50, 50]], [4])
    dot = dots(plain(60, 60), 5 * [[30, 30]], [False] * 4 + [True])
    for picture in (box, dot):
        assert is_color(picture, class_color(4)).any()


@pytest.mark.parametrize(
    ("error", "changed", "message"),
    [
        (AssertionError, {"image": plain(4, 6)[..., 0]}, r"^image is uint8\[4, 6\]"),
        (
            AssertionError,
            {"points": np.zeros((2, 3))},
            r"^points is float64\[2, 3\]: give floating",
        ),
        (AssertionError, {"points": np.zeros((2, 2), int)}, r"^points is int64\[2, 2\]"),
        (AssertionError, {"visible": np.ones(3, bool)}, r"^visible is bool\[3\]: give bool\[2\]$"),
        (AssertionError, {"visible": np.ones(2)}, r"^visible is float64\[2\]"),
        (AssertionError, {"names": ["nose"]}, r"^names has 1 elements: give 2$"),
        (
            InputError,
            {"points": np.array([[1, 2], [3, np.nan]])},
            r"^points\[1\] is \[3.0, nan\], not finite: mark it as not visible$",
        ),
        (InputError, {"points": np.array([[np.inf, 2], [3, 4]])}, r"^points\[0\] is \[inf, 2.0\]"),
    ],
)
def test_wrong_landmarks_are_refused(error, changed, message):
    good = {
        "image": plain(4, 6),
        "points": np.array([[1.0, 2], [3, 4]]),
        "visible": np.ones(2, bool),
    }
    draw_landmarks(**good)
    with pytest.raises(error, match=message):
        draw_landmarks(**{**good, **changed})
