"""Tiles: equal to the whole image's inference, for any size, compiled once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.models import create_model
from jaxvision.predict import predict_in_tiles
from tests.marks import slow_but
from tests.models.variables import random_variables

UNET = {"widths": (2, 3, 4), "num_classes": 3, "dropout": 0.0, "norm": None}
ESPCN = {"factor": 2, "widths": (4, 3)}
# Pixels of the U-Nets depend on those 20 away, of ESPCN on those 4 away.
NETWORKS = {
    "unet_valid": (UNET, "logits", {"tile": 56, "margin": 21, "step": 4}),
    "unet": (UNET, "logits", {"tile": 64, "margin": 22, "step": 4}),
    "dncnn_s": ({"depth": 3, "width": 4}, "image", {"tile": 16, "margin": 3}),
    "espcn": (ESPCN, "image", {"tile": 16, "margin": 4, "factor": 2}),
    "espcn, valid": (
        {**ESPCN, "padding": "valid"},
        "image",
        {"tile": 20, "margin": 5, "factor": 2},
    ),
}


def image_of(height, width, channels=3):
    rng = np.random.default_rng(100 * height + width)
    return rng.normal(size=(height, width, channels)).astype(np.float32)


def network(name):
    """(images -> its map, jitted; options for tiles; shapes that it was traced with)."""
    fields, output, options = NETWORKS[name]
    model = create_model(name.split(",")[0], **fields)
    variables = random_variables(model, np.zeros((1, 64, 64, 3), np.float32))
    traced = []

    @jax.jit
    def predict(images):
        traced.append(images.shape)
        return model.apply(variables, images, train=False)[output]

    return predict, options, traced


def mirrored(index, size):
    """Where in an image a row beyond its border comes from: to and fro, step by step."""
    place, direction = 0, 1
    for _ in range(abs(index) if size > 1 else 0):
        if not 0 <= place + direction < size:
            direction = -direction
        place += direction
    return place


@pytest.mark.parametrize("name", slow_but(NETWORKS, ["dncnn_s", "espcn, valid"]))
def test_tiles_equal_the_whole(name):
    """Everywhere, of networks that pad nothing; of the others, away from the image's border."""
    predict, options, _ = network(name)
    lost = {"unet_valid": 20, "espcn, valid": 4}.get(name, 0)
    height, width = 60, 92
    image = image_of(height, width)
    rows, columns = (
        [mirrored(i, size) for i in range(-lost, size + lost)] for size in (height, width)
    )
    whole = np.asarray(predict(image[np.ix_(rows, columns)][None])[0])
    found = predict_in_tiles(predict, image, batch_size=4, **options)
    assert found.shape == whole.shape
    assert found.dtype == whole.dtype
    factor = options.get("factor", 1)
    assert found.shape[:2] == (factor * height, factor * width)
    edge = 0 if lost else factor * options["margin"]
    inner = slice(edge, factor * height - edge), slice(edge, factor * width - edge)
    assert np.abs(whole[inner]).max() > 0.1
    np.testing.assert_allclose(found[inner], whole[inner], atol=1e-5)


def test_the_margin_is_needed():
    """With one that is too small, tiles differ from the whole: the test above can fail."""
    predict, options, _ = network("dncnn_s")
    image = image_of(40, 40)
    found = predict_in_tiles(predict, image, **{**options, "margin": 2})
    whole = predict(image[None])[0]
    assert np.abs(found - whole)[3:-3, 3:-3].max() > 1e-3


def test_all_sizes_are_compiled_once():
    predict, options, traced = network("dncnn_s")
    for size in ((5, 3), (16, 16), (41, 23), (1, 70)):
        image = image_of(*size)
        assert predict_in_tiles(predict, image, batch_size=3, **options).shape == image.shape
    assert traced == [(3, 16, 16, 3)]


@pytest.mark.parametrize("batch_size", slow_but([1, 5], [5]))
def test_borders_are_mirrored(batch_size):
    """Sums of 5 x 5 pixels, by loops: smaller than a tile and larger, down to a single pixel."""

    @jax.jit
    def predict(images):
        size = images.shape[1] - 4
        moved = [images[:, y : y + size, x : x + size] for y in range(5) for x in range(5)]
        return sum(moved)

    for height, width in ((1, 1), (1, 2), (2, 9), (3, 8), (8, 4), (21, 13)):
        image = image_of(height, width, 2)
        expected = np.zeros((height, width, 2))
        for y in range(height):
            for x in range(width):
                for dy in range(-2, 3):
                    for dx in range(-2, 3):
                        near = image[mirrored(y + dy, height), mirrored(x + dx, width)]
                        expected[y, x] += near
        found = predict_in_tiles(predict, image, tile=8, margin=2, batch_size=batch_size)
        np.testing.assert_allclose(found, expected, atol=1e-4)


@jax.jit
def pooled(images):
    """The largest of each 2 x 2 pixels, in all of them: pixels look 1 away, at a stride of 2."""
    count, height, width, channels = images.shape
    parts = images.reshape(count, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))
    return parts.repeat(2, axis=1).repeat(2, axis=2)


@pytest.mark.parametrize("margin", slow_but([0, 1, 2], [1]))
def test_tiles_start_at_multiples_of_the_step(margin):
    image = image_of(26, 34, 1)
    found = predict_in_tiles(pooled, image, tile=10, margin=margin, step=2)
    for y in range(0, 26, 2):
        for x in range(0, 34, 2):
            assert (found[y : y + 2, x : x + 2] == image[y : y + 2, x : x + 2].max()).all()
    odd = predict_in_tiles(pooled, image, tile=10, margin=1)
    assert (odd != found).any()


KEPT = [(0, 1, (0, 15)), (3, 1, (3, 12)), (3, 4, (4, 11)), (0, 6, (0, 11))]


@pytest.mark.parametrize(("margin", "step", "kept"), slow_but(KEPT, KEPT[2:3]))
def test_what_is_near_the_border_of_a_tile_is_not_used(margin, step, kept):
    @jax.jit
    def places(images):
        """The row and column within its tile of each pixel, int32[B, t, t, 2]."""
        index = jnp.stack(jnp.meshgrid(*2 * [jnp.arange(16)], indexing="ij"), axis=-1)
        return jnp.broadcast_to(index[None], (len(images), 16, 16, 2))

    image = np.zeros((40, 50, 1), np.uint8)
    found = predict_in_tiles(places, image, tile=16, margin=margin, step=step)
    assert found.shape == (40, 50, 2)
    assert found.dtype == np.int32
    first, last = kept
    period = last - first + 1
    np.testing.assert_array_equal(found[:, 0, 0], first + np.arange(40) % period)
    np.testing.assert_array_equal(found[0, :, 1], first + np.arange(50) % period)


@pytest.mark.parametrize("tile", slow_but([((8, 13),), ((13, 8),), ((9, 9),)], [((8, 13),)]))
def test_tiles_of_two_sides(tile):
    """Sums of 3 x 3 pixels, without padding."""

    @jax.jit
    def predict(images):
        height, width = (side - 2 for side in images.shape[1:3])
        return sum(images[:, y : y + height, x : x + width] for y in range(3) for x in range(3))

    image = image_of(30, 21, 2)
    padded = np.pad(image, [(1, 1), (1, 1), (0, 0)], mode="reflect")
    found = predict_in_tiles(predict, image, tile=tile, margin=2, batch_size=2)
    np.testing.assert_allclose(found, predict(padded[None])[0], atol=1e-5)


def test_one_batch_at_a_time_is_on_the_device():
    run = jax.jit(lambda images: images[..., 0] > 0)
    shapes, alive = [], []

    def predict(images):
        shapes.append(images.shape)
        output = run(images)
        shape = (3, 13, 13)
        alive.append(sum(x.shape[:3] == shape for x in jax.live_arrays()))
        return output

    image = image_of(40, 40, 2)
    found = predict_in_tiles(predict, image, tile=13, margin=1, batch_size=3)
    np.testing.assert_array_equal(found, image[..., 0] > 0)
    # 4 x 4 tiles, 3 at a time; before them one look at shapes only.
    assert shapes == 7 * [(3, 13, 13, 2)]
    assert max(alive) <= 2


def test_images_of_bytes_and_arrays_of_jax():
    predict = jax.jit(lambda images: images / 255)
    image = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    for given in (image, jnp.asarray(image), image[::-1, ::-1][::-1, ::-1]):
        found = predict_in_tiles(predict, given, tile=4, margin=1)
        np.testing.assert_allclose(found, image / 255, rtol=1e-6)


def test_tiles_that_end_at_the_border_equal_the_whole_image_everywhere():
    """Of a network that pads its maps with zeros; also where an image is smaller than a tile."""
    predict, options, _ = network("dncnn_s")
    for size in ((37, 20), (16, 9)):
        image = image_of(*size)
        whole = predict(image[None])[0]
        found = predict_in_tiles(predict, image, border="zeros", batch_size=3, **options)
        np.testing.assert_allclose(found, whole, atol=1e-5)
        mirrored = predict_in_tiles(predict, image, batch_size=3, **options)
        assert np.abs(mirrored - whole).max() > 1e-3


@pytest.mark.parametrize("cut", slow_but([0, 1], [1]))
def test_the_results_of_overlapping_tiles_are_averaged(cut):
    """Numbers of the tiles, averaged by loops; the corners of tiles are 4 apart."""
    numbers = iter(range(100))

    def predict(images):
        side = images.shape[1] - 2 * cut
        if isinstance(images, np.ndarray):
            value = next(numbers)
            return jnp.full((1, side, side, 2), value, jnp.float32)
        return jnp.zeros((1, side, side, 2))

    found = predict_in_tiles(predict, np.zeros((9, 6, 1)), tile=8, margin=2, average=True)
    total, count = np.zeros((9, 6)), np.zeros((9, 6))
    corners = [(row - 2, column - 2) for row in range(0, 9, 4) for column in range(0, 6, 4)]
    for number, (top, left) in enumerate(corners):
        rows, columns = (slice(max(at + cut, 0), max(at + 8 - cut, 0)) for at in (top, left))
        total[rows, columns] += number
        count[rows, columns] += 1
    assert count.max() > 1
    np.testing.assert_allclose(found, np.stack(2 * [total / count], axis=-1), rtol=1e-6)
    with pytest.raises(InputError, match=r"^predict gives int32: give floats, which"):
        predict_in_tiles(
            lambda x: jnp.zeros(x.shape, int), image_of(9, 9), tile=8, margin=1, average=True
        )


@pytest.mark.parametrize(
    ("error", "predict", "options", "message"),
    [
        (InputError, None, {"margin": -1}, "^margin is -1: give at least 0$"),
        (InputError, None, {"tile": 0}, "^tile is 0: give at least 1$"),
        (InputError, None, {"step": 0}, "^step is 0: give at least 1$"),
        (InputError, None, {"factor": 0}, "^factor is 0: give at least 1$"),
        (InputError, None, {"batch_size": 0}, "^batch_size is 0: give at least 1$"),
        (
            InputError,
            None,
            {"margin": 4},
            "^tile is 8: with margin 4 and step 1 nothing of it is used: give at least 9$",
        ),
        (InputError, None, {"margin": 1, "step": 4}, "give at least 9$"),
        (
            InputError,
            lambda x: x[:, 2:-2, 2:-2],
            {"margin": 1},
            "^margin is 1: give at least 2$",
        ),
        (InputError, None, {"border": "mirror"}, "^unknown border 'mirror': known"),
        (InputError, None, {"border": "zeros", "step": 2}, "^border is 'zeros', which is for netw"),
        (
            AssertionError,
            lambda x: x[:, 1:, 1:],
            {},
            r"^predict gives float32\[1, 7, 7, 1\] for \[1, 8, 8, 1\]: with factor 1, give 8 rows",
        ),
        (AssertionError, lambda x: x.repeat(2, 1).repeat(2, 2), {}, "with factor 1, give 8 rows"),
        (
            AssertionError,
            lambda x: x[:, 2:],
            {},
            r"float32\[1, 6, 8, 1\].*: with factor 1, give 8 r",
        ),
        (
            AssertionError,
            lambda x: x[0, :, 0],
            {},
            r"float32\[8, 1\] for .*: give \[1, h, w, \.+\]",
        ),
        (AssertionError, lambda x: {"logits": x}, {}, "^predict gives a dict: give one array$"),
    ],
)
def test_what_does_not_fit_is_refused(error, predict, options, message):
    how = {"tile": 8, "margin": 1, **options}
    with pytest.raises(error, match=message):
        predict_in_tiles(predict or (lambda x: x), image_of(9, 9, 1), **how)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4)), r"^image is float64\[4, 4\]: give number\[H, W, C\]$"),
        (np.zeros((4, 0, 3)), r"^image is float64\[4, 0, 3\]: give at least one pixel$"),
        (np.zeros((4, 4, 3), bool), r"^image is bool\[4, 4, 3\]"),
    ],
)
def test_wrong_images_are_named(image, message):
    with pytest.raises(AssertionError, match=message):
        predict_in_tiles(lambda x: x, image, tile=8, margin=1)
