"""Drawn labels: what has which colour, and a legend below; and their PNG."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxvision.core import InputError
from jaxvision.data.sources.mask_folders import read_mask
from jaxvision.predict import class_color, draw_labels, label_palette, write_label_png
from tests.predict.test_draw import is_color, plain

NAMES = ["ground", "cat", "dog", "bird"] + [f"class {number}" for number in range(4, 255)]


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def halves(height, width, left, right):
    labels = np.full((height, width), left, np.uint8)
    labels[:, width // 2 :] = right
    return labels


def legend_of(labels, names=NAMES, side=200, **options):
    """What is below a picture of which the labels fill a part."""
    picture = np.zeros((side, side), np.uint8)
    picture.ravel()[: len(labels)] = labels
    return draw_labels(plain(side, side), picture, names, **options)[side:]


def swatches(legend, labels):
    """For each label the corners of its swatch: (x1, y1, x2, y2)."""
    for label in labels:
        rows, columns = np.nonzero(is_color(legend, class_color(label)))
        assert len(rows), label
        yield columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize(("side", "line"), [(20, 1), (96, 1), (640, 3), (1500, 5)])
def test_regions_are_translucent_and_dark_lines_between_them(side, line):
    image = noise(side, side)
    labels = halves(side, side, 1, 2)
    picture = draw_labels(image, labels, NAMES)[:side, :side].astype(float)
    expected = image + 0.45 * (np.array([class_color(1), class_color(2)])[labels - 1] - image)
    across = np.abs(picture - expected).max(axis=(0, 2)) > 2
    (border,) = np.nonzero(across)
    assert len(border) == line
    assert border.mean() + 0.5 == pytest.approx(side / 2, abs=0.5)
    np.testing.assert_allclose(picture[:, border], 0.4 * expected[:, border], atol=3)


def test_the_lines_follow_a_region_all_around():
    labels = np.zeros((30, 30), int)
    labels[10:20, 5:15] = 3
    picture = draw_labels(plain(30, 30), labels, NAMES)[:30, :30]
    outside = (picture == 128).all(axis=-1)
    inside = (picture == picture[15, 10]).all(axis=-1)
    line = ~outside & ~inside
    assert line[10:20].any(axis=1).all()
    assert line[:, 5:15].any(axis=0).all()
    assert line.sum() == 4 * 10 - 1  # one of the corners is nobody's
    assert luminances(picture[line]).max() < luminances(picture[[15, 0], [10, 0]]).min()


def luminances(colors):
    return colors.astype(float) @ [0.2126, 0.7152, 0.0722]


def test_the_background_is_not_changed():
    image = noise(60, 80)
    labels = halves(60, 80, 0, 1)
    picture = draw_labels(image, labels, NAMES)
    np.testing.assert_array_equal(picture[:60, :38], image[:, :38])
    assert not is_color(picture[60:], class_color(0)).any()
    # Nothing else in it: nothing is drawn, and there is no legend.
    alone = draw_labels(image, np.zeros((60, 80), int), NAMES)
    np.testing.assert_array_equal(alone, image)
    assert alone is not image


def test_another_background_or_none():
    image, labels = plain(60, 200), halves(60, 200, 0, 1)
    other = draw_labels(image, labels, NAMES, background=1)
    assert (other[:60, 110:] == 128).all()
    assert is_color(other[60:], class_color(0)).any()
    both = draw_labels(image, labels, NAMES, background=None)
    for label, part in ((0, both[:60, :90]), (1, both[:60, 110:])):
        expected = 128 + 0.45 * (np.array(class_color(label)) - 128.0)
        np.testing.assert_allclose(part, np.broadcast_to(expected, part.shape), atol=2)
        assert is_color(both[60:], class_color(label)).any()


@pytest.mark.parametrize("ground", [0, 128, 255])
def test_ignored_pixels_are_hatched(ground):
    labels = halves(60, 60, 255, 0)
    picture = draw_labels(plain(60, 60, ground), labels, NAMES)
    hatched = picture[:60, :28]
    dark, light = (ground + 0.45 * (end - ground) for end in (0, 255))
    stripes = hatched > (dark + light) / 2
    np.testing.assert_allclose(hatched, np.where(stripes, light, dark), atol=2)
    assert stripes.mean() == pytest.approx(0.5, abs=0.05)
    # Along a diagonal it is one stripe.
    assert len({tuple(hatched[20 - k, 2 + k]) for k in range(20)}) == 1
    # The legend says so.
    assert (picture[60:] == 255).all(axis=-1).any()
    assert (picture[60:] == 0).all(axis=-1).any()


def test_ignored_pixels_have_no_class():
    labels = np.array([[-1, 2], [2, -1]])
    picture = draw_labels(plain(2, 2), labels, NAMES[:3], ignore=-1)
    assert len(picture) > 2
    # Where it has a name too, it is ignored all the same.
    for image in (picture, draw_labels(plain(60, 60), halves(60, 60, 0, 2), NAMES, ignore=2)):
        assert not is_color(image, class_color(1)).any()
    assert not is_color(image, class_color(2)).any()
    # So it is where it would be the background.
    both = draw_labels(plain(60, 60), halves(60, 60, 0, 2), NAMES, ignore=0)
    assert (both[:60, :28] != 128).all()


def test_the_legend_has_the_classes_that_are_present():
    legend = legend_of([0, 2, 2, 5])
    assert is_color(legend, class_color(2)).any()
    assert is_color(legend, class_color(5)).any()
    for label in (0, 1, 3, 4, 6):
        assert not is_color(legend, class_color(label)).any()
    more = legend_of([0, 2, 3, 5])
    assert is_color(more, class_color(3)).any()


def test_a_swatch_has_its_name_beside_it():
    """The name is what changes with it: on the rows of the swatch, to its right."""
    names = [*NAMES]
    names[2] = "cow"
    before, after = legend_of([2]), legend_of([2], names)
    ((_, y1, x2, y2),) = swatches(before, [2])
    changed = (before != after).any(axis=-1)
    assert changed.any()
    rows, columns = np.nonzero(changed)
    assert columns.min() > x2
    assert abs((rows.min() + rows.max()) / 2 - (y1 + y2) / 2) < (y2 - y1) / 2
    names[2] = " do\n g"
    np.testing.assert_array_equal(
        legend_of([2], names), legend_of([2], [*NAMES[:2], "do g", *NAMES[3:]])
    )


def test_many_classes_wrap_over_several_lines():
    labels = list(range(1, 41))
    legend = legend_of(labels, side=300)
    assert legend.shape[1] == 300
    places = list(swatches(legend, labels))
    rows = sorted({y1 for _, y1, _, _ in places})
    lefts = sorted({x1 for x1, _, _, _ in places})
    assert len(rows) > 3
    assert len(lefts) > 2
    assert len(set(places)) == 40
    # In the order of the labels, row by row, within the picture, and apart.
    assert [(y1, x1) for x1, y1, _, _ in places] == sorted((y1, x1) for x1, y1, _, _ in places)
    (side,) = {x2 - x1 for x1, _, x2, _ in places}
    assert min(np.diff(lefts)) > 2 * side
    assert min(np.diff(rows)) > side
    assert rows[0] > 0
    assert rows[-1] + side < len(legend)


@pytest.mark.parametrize("size", [(1, 1), (32, 24), (96, 96), (64, 400)])
def test_the_legend_never_covers_the_picture_and_no_name_overflows(size):
    height, width = size
    labels = np.full(size, 1, np.uint8)
    names = ["", "a name that is much longer than most of these pictures are wide"]
    picture = draw_labels(plain(*size), labels, names)
    bare = draw_labels(plain(*size), labels, ["", ""])
    np.testing.assert_array_equal(picture[:height, :width], bare[:height, :width])
    assert picture.shape[0] > height
    ground = picture[-1, -1]
    assert (picture[:height, width:] == ground).all()
    below = (picture[height:] != ground).any(axis=-1)
    assert below.any()
    assert not below[:, -3:].any()
    assert not below[-3:].any()


def test_the_legend_grows_with_the_picture():
    heights = [len(legend_of([1], side=side)) for side in (96, 640, 2000)]
    assert heights[0] < heights[1] < heights[2]
    assert heights[2] < 200


def test_more_classes_than_colors_start_again():
    labels = halves(20, 20, 0, 0).astype(int)
    labels[:, 10:] = 256 + 2
    names = [f"class {number}" for number in range(300)]
    picture = draw_labels(plain(20, 20), labels, names)
    assert is_color(picture[20:], class_color(2)).any()
    again = draw_labels(plain(20, 20), np.where(labels > 0, 2, 0), [*"ab", "class 258"])
    np.testing.assert_array_equal(picture, again)


def test_arrays_of_jax():
    image, labels = noise(20, 30), halves(20, 30, 1, 2)
    np.testing.assert_array_equal(
        draw_labels(jnp.asarray(image), jnp.asarray(labels, jnp.int32), NAMES),
        draw_labels(image, labels, NAMES),
    )


def test_the_image_is_not_changed():
    image, labels = plain(20, 30), halves(20, 30, 255, 2)
    draw_labels(image, labels, NAMES)
    assert (image == 128).all()
    np.testing.assert_array_equal(labels, halves(20, 30, 255, 2))


@pytest.mark.parametrize(
    ("error", "changed", "message"),
    [
        (AssertionError, {"image": np.zeros((4, 6, 3))}, r"^image is float64\[4, 6, 3\]"),
        (
            AssertionError,
            {"labels": np.zeros((6, 4), int)},
            r"^labels is int64\[6, 4\]: give integer\[4, 6\]$",
        ),
        (AssertionError, {"labels": np.zeros((4, 6))}, r"^labels is float64\[4, 6\]"),
        (
            InputError,
            {"labels": np.arange(24).reshape(4, 6)},
            r"^labels\[0, 2\] is 2, but class_names has 2 names: give a name for it$",
        ),
        (InputError, {"labels": np.full((4, 6), -1)}, r"^labels\[0, 0\] is -1, but class_names"),
        (InputError, {"ignore": 1}, r"^labels\[0, 0\] is 255, but class_names"),
    ],
)
def test_wrong_labels_are_refused(error, changed, message):
    good = {
        "image": plain(4, 6),
        "labels": np.full((4, 6), 255, np.uint8),
        "class_names": ["cat", "dog"],
    }
    draw_labels(**good)
    with pytest.raises(error, match=message):
        draw_labels(**{**good, **changed})


def test_a_palette_by_hand():
    palette = label_palette()
    assert len(palette) == 768
    colors = [tuple(palette[3 * label : 3 * label + 3]) for label in range(256)]
    assert colors[0] == (0, 0, 0)
    assert colors[255] == (255, 255, 255)
    assert colors[1:255] == [class_color(label) for label in range(1, 255)]
    assert len(set(colors)) == 256


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_labels_are_read_back_as_they_were_written(tmp_path, dtype):
    labels = np.arange(256).reshape(8, 32).astype(dtype)
    write_label_png(tmp_path / "a.png", labels)
    found = read_mask(tmp_path / "a.png")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, labels)
    with Image.open(tmp_path / "a.png") as image:
        assert (image.format, image.mode) == ("PNG", "P")
        assert image.convert("RGB").getpixel((2, 0)) == class_color(2)
    write_label_png(str(tmp_path / "a.png"), labels[:1, :1])
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), [[0]])
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("error", "name", "labels", "message"),
    [
        (
            InputError,
            "a.png",
            np.array([[3, 256]]),
            r"^labels\[0, 1\] is 256: give labels from 0 to 255$",
        ),
        (InputError, "a.png", np.array([[3], [-1]]), r"^labels\[1, 0\] is -1"),
        (
            InputError,
            "a.jpg",
            np.array([[3]]),
            r"a\.jpg is written as a PNG: give a name that ends in",
        ),
        (AssertionError, "a.png", np.zeros((2, 2)), r"^labels is float64\[2, 2\]: give integer"),
        (AssertionError, "a.png", np.zeros((2, 2, 1), int), r"^labels is int64\[2, 2, 1\]"),
        (AssertionError, "a.png", np.zeros((0, 2), int), r"^labels is int64\[0, 2\]: .* one pixel"),
    ],
)
def test_what_is_no_label_png_is_refused(tmp_path, error, name, labels, message):
    with pytest.raises(error, match=message):
        write_label_png(tmp_path / name, labels)
    assert not list(tmp_path.iterdir())
