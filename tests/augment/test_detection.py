"""Augmentation that moves boxes: against the reference, and against what is painted in the boxes.

In `painted` each box is a white rectangle in a channel of its own, the one of its label, or with
masks a white L. So the boxes and masks of a result can be read off its image: the channel is the
mask in all pixels of the image, moved as they are.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import augment
from jaxvision.augment import sampling
from jaxvision.core import DetectionBatch, InputError
from jaxvision.ops import crop_mask, paint_masks
from jaxvision.testing import check_op
from tests.augment.test_color import uniform_distance
from tests.marks import long_but, slow_but
from tests.reference import augment as reference

HEIGHT, WIDTH = 40, 48
CELLS = 24  # of a mask, along each side: at most a pixel each


def example_of(image, boxes, labels=None, box_mask=None, partners=None):
    """An example; flags that tell rows apart; no mask: all rows are real."""
    number = len(boxes)
    return DetectionBatch(
        image=image,
        boxes=np.array(boxes, np.float32).reshape(number, 4),
        labels=np.arange(number, dtype=np.int32) if labels is None else labels,
        box_mask=np.ones(number, bool) if box_mask is None else np.array(box_mask, bool),
        crowd=np.arange(number) % 2 == 1,
        difficult=np.arange(number) % 3 == 1,
        mask=np.array(True),
        partners=partners,
    )


def painted(seed, *, real=3, rows=5, first=0, channels=3, masks=True):
    """An example of `rows` rows, the first `real` real, with labels from `first` on."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, (WIDTH - 12, HEIGHT - 12), (rows, 2))
    opposite = np.minimum(corner + rng.integers(6, 24, (rows, 2)), (WIDTH, HEIGHT))
    boxes = np.concatenate([corner, opposite], axis=1).astype(np.float32)
    image = np.zeros((HEIGHT, WIDTH, channels), np.uint8)
    labels = (first + np.arange(rows)).astype(np.int32)
    shapes = np.zeros((rows, HEIGHT, WIDTH), bool)
    for (x1, y1, x2, y2), label, shape in zip(
        boxes[:real].astype(int), labels, shapes, strict=False
    ):
        shape[y1:y2, x1:x2] = True
        if masks:
            shape[y1 : (y1 + y2) // 2, (x1 + x2) // 2 : x2] = False
        image[shape, label] = 255
    boxes[real:] = 0
    example = example_of(image, boxes, labels, np.arange(rows) < real)
    if not masks:
        return example
    cells, frames = zip(*(crop_mask(shape, CELLS) for shape in shapes), strict=True)
    return example.replace(masks=np.stack(cells), mask_frames=np.float32(frames))


def in_pixels(example):
    """The masks of an example in the pixels of its image, bool[N, H, W]."""
    return np.asarray(painting(example.masks, example.mask_frames)) >= 0.5


painting = jax.jit(functools.partial(paint_masks, size=(HEIGHT, WIDTH)))


def check_mask(mask, channel):
    """Asserts equality with a channel in 0..1 but at its edges; returns the IoU.

    Pixels of which about a half is white are left out of the IoU.
    """
    sure, channel = np.abs(channel - 0.5) > 0.05, channel >= 0.5
    wide = np.pad(channel, 1)
    height, width = channel.shape
    around = [wide[y : y + height, x : x + width] for y, x in np.ndindex(3, 3)]
    assert mask[np.all(around, axis=0)].all()
    assert not mask[~np.any(around, axis=0)].any()
    return (mask & channel & sure).sum() / max(((mask | channel) & sure).sum(), 1)


def with_junk(example, more):
    """NaN and full masks in the padded rows, and some more of them."""
    shape = (*example.box_mask.shape[:-1], more)

    def pad(x):
        return np.concatenate(
            [x, np.ones((*shape, *x.shape[len(shape) :]), x.dtype)], len(shape) - 1
        )

    box_mask = np.concatenate([example.box_mask, np.zeros(shape, bool)], -1)
    boxes = np.where(box_mask[..., None], pad(example.boxes), np.nan)
    rows = {name: pad(getattr(example, name)) for name in ("labels", "crowd", "difficult")}
    if example.masks is not None:
        rows["masks"] = np.where(box_mask[..., None, None], pad(example.masks), np.uint8(255))
        rows["mask_frames"] = np.where(box_mask[..., None], pad(example.mask_frames), np.nan)
    return example.replace(boxes=boxes, box_mask=box_mask, **rows)


def random_masks(rng, boxes):
    """Masks of a few cells in frames near the boxes."""
    masks = rng.integers(0, 256, (len(boxes), 4, 4)).astype(np.uint8)
    frames = boxes + rng.uniform(0, 1, boxes.shape) * np.array([-1, -1, 1, 1])
    return {"masks": masks, "mask_frames": frames.astype(np.float32)}


def stacked(examples):
    return jax.tree.map(lambda *x: np.stack(x), *examples)


def painted_with_partners(seed, *, real=3, channels=15, **options):
    """Five examples of different labels, four of them as partners of the first."""
    first, *others = (
        painted(seed + n, real=real, first=n * real, channels=channels, **options) for n in range(5)
    )
    return first.replace(partners=stacked(others))


def real_boxes(example):
    """label -> box."""
    example = jax.device_get(example)
    return {
        int(label): box
        for label, box, real in zip(example.labels, example.boxes, example.box_mask, strict=True)
        if real
    }


def extent(channel, threshold):
    """The box around all pixels above a threshold."""
    y, x = np.nonzero(np.asarray(channel) > threshold)
    return np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])


def without_masks(example):
    partners = example.partners
    if partners is not None:
        partners = partners.replace(masks=None, mask_frames=None)
    return example.replace(masks=None, mask_frames=None, partners=partners)


def check_painted(example, *, atol, thresholds=(127.5,) * 99):
    """Asserts that each box is around the rectangle in its channel; returns how many there are."""
    boxes = real_boxes(example)
    for label, box in boxes.items():
        around = extent(example.image[..., label], thresholds[label])
        np.testing.assert_allclose(box, around, atol=atol, err_msg=f"label {label}")
    return len(boxes)


def check_close(actual, expected, atol=1e-3):
    """Equality of two examples, of numbers up to rounding."""
    for name in ("labels", "box_mask", "crowd", "difficult"):
        np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name), name)
    np.testing.assert_allclose(actual.boxes, expected.boxes, atol=atol)
    np.testing.assert_allclose(actual.image, expected.image, atol=atol)
    if expected.masks is not None:
        np.testing.assert_array_equal(actual.masks, expected.masks)
        np.testing.assert_allclose(actual.mask_frames, expected.mask_frames, atol=atol)


def many_keys(number):
    return jax.random.split(jax.random.key(0), number)


@functools.lru_cache
def over_keys(augmentation):
    """(keys, example) -> the results of all keys, compiled once."""
    fn = jax.jit(jax.vmap(augmentation, in_axes=(0, None)))
    return lambda keys, example: jax.device_get(fn(keys, example.replace(partners=None)))


PAPER = {"scale": (0.8, 1.2), "translate": 0.2}
OPS = {
    "RandomFlip": augment.RandomFlip,
    "ScaleTranslate": lambda **options: augment.ScaleTranslate(**{**PAPER, **options}),
    "JitterCrop": augment.JitterCrop,
    "RandomCrop": functools.partial(augment.RandomCrop, 6),
    "RandomResizedCrop": functools.partial(augment.RandomResizedCrop, scale=(0.5, 1.0)),
    "Rotate": functools.partial(augment.Rotate, 30.0),
    "Mosaic": augment.Mosaic,
    "Mixup": augment.Mixup,
}


@functools.lru_cache
def compiled(name):
    """(key, examples by name) -> results by the same names, all in one program."""
    augmentation = OPS[name]()
    return jax.jit(lambda key, examples: {k: augmentation(key, x) for k, x in examples.items()})


def run(name, key, example):
    """The results for an example, for more padding with junk in it, and for one without masks."""
    partners = with_junk(example.partners, 4)
    examples = {
        "plain": example,
        "padded": with_junk(example, 4).replace(partners=partners),
        "without masks": without_masks(example),
    }
    return jax.device_get(compiled(name)(key, examples))


@functools.lru_cache
def over_some_keys(name):
    return [run(name, key, painted_with_partners(4)) for key in many_keys(12)]


every_op = pytest.mark.parametrize("name", OPS)
# By default one that mirrors, one that samples, and one that takes partners.
few_ops = pytest.mark.parametrize(
    "name", long_but(OPS, ["RandomFlip", "JitterCrop", "Mosaic"], ["Rotate", "Mixup"])
)


# What all of them promise.


@few_ops
def test_the_same_key_gives_the_same_example_and_others_give_others(name):
    results = over_some_keys(name)
    again = run(name, many_keys(12)[3], painted_with_partners(4))
    jax.tree.map(np.testing.assert_array_equal, again, results[3])
    images = [result["plain"].image for result in results]
    assert any((image != images[0]).any() for image in images)


@few_ops
def test_padded_rows_stay_dead_and_neither_their_number_nor_what_is_in_them_matters(name):
    example = painted_with_partners(0, real=1)
    for key in many_keys(2):
        results = run(name, key, example)
        plain, other = results["plain"], results["padded"]
        np.testing.assert_array_equal(other.image, plain.image)
        expected, actual = real_boxes(plain), real_boxes(other)
        assert set(expected) <= set(range(5))
        assert list(actual) == list(expected)
        for label, box in expected.items():
            np.testing.assert_array_equal(actual[label], box)
        for field in ("masks", "mask_frames"):
            expected, actual = getattr(plain, field), getattr(other, field)
            np.testing.assert_array_equal(actual[other.box_mask], expected[plain.box_mask])
            assert not expected[~plain.box_mask].any()
            assert not actual[~other.box_mask].any()
        for result in (plain, other):
            assert (result.boxes[~result.box_mask] == 0).all()


@few_ops
def test_without_boxes_only_the_image_changes(name):
    nothing = painted_with_partners(0)
    partners = nothing.partners.replace(box_mask=np.zeros((4, 5), bool))
    nothing = nothing.replace(box_mask=np.zeros(5, bool), partners=partners)
    result = run(name, jax.random.key(0), nothing)["plain"]
    assert not result.box_mask.any()
    assert (result.boxes == 0).all()


@every_op
def test_an_example_of_wrong_arrays_is_refused_by_the_name_of_the_array(name):
    example = painted_with_partners(0)
    for field, wrong in (
        ("image", example.image[..., 0]),
        ("boxes", example.boxes[:, :3]),
        ("box_mask", example.labels),
        ("keypoints", np.zeros((5, 2, 2), np.float32)),
        ("extent", np.zeros(2, np.float32)),
        ("masks", np.zeros((5, CELLS, CELLS), bool)),
        ("masks", example.masks[:, 1:]),
        ("mask_frames", example.mask_frames[:4]),
    ):
        with pytest.raises(AssertionError, match=f"^{field} is"):
            OPS[name]()(jax.random.key(0), example.replace(**{field: wrong}))


@few_ops
def test_masks_without_frames_are_refused(name):
    example = painted_with_partners(0).replace(mask_frames=None)
    with pytest.raises(InputError, match=r"^a DetectionBatch has masks without frames"):
        OPS[name]()(jax.random.key(0), example)


@few_ops
def test_masks_move_as_the_pixels_and_lie_in_their_boxes(name):
    ious = []
    for results in over_some_keys(name):
        result = results["plain"]
        rows = zip(result.labels, result.boxes, result.box_mask, in_pixels(result), strict=True)
        for label, box, real, mask in rows:
            if not real:
                assert not mask.any()
                continue
            channel = result.image[..., label] / result.image[..., label].max()
            iou = check_mask(mask, channel)
            if mask.any():
                # A clipped mask may reach beyond its box by less than a cell.
                np.testing.assert_array_less(box[:2] - 1.001, extent(mask, 0)[:2])
                np.testing.assert_array_less(extent(mask, 0)[2:], box[2:] + 1.001)
            if channel.sum() > 50:
                ious.append(iou)
    assert len(ious) > 20
    assert min(ious) > {"Rotate": 0.85, "Mosaic": 0.9}.get(name, 0.95)


@pytest.mark.parametrize("name", slow_but(["Symmetry", "Rotate"], ["Symmetry"]))
def test_turned_masks_are_those_of_the_turned_image(name):
    """A mask of random squares of 8 x 8 pixels, each pixel a cell, that are white in the image."""
    squares = np.random.default_rng(0).integers(0, 2, (3, 3))
    masks = np.uint8(255 * squares.repeat(8, 0).repeat(8, 1))[None]
    image = np.zeros((40, 40, 1), np.uint8)
    image[4:28, 12:36, 0] = masks[0]
    frame = np.float32([[12, 4, 36, 28]])
    example = example_of(image, frame).replace(masks=masks, mask_frames=frame)
    augmentation = augment.Symmetry() if name == "Symmetry" else augment.Rotate(180.0)
    results = over_keys(augmentation)(many_keys(16), example)
    painted = jax.vmap(functools.partial(paint_masks, size=(40, 40)))
    painted = np.asarray(painted(results.masks, results.mask_frames))[:, 0]
    white = results.image[..., 0] / 255
    if name == "Symmetry":
        assert len({x.tobytes() for x in results.image}) > 4
        np.testing.assert_array_equal(painted > 0.5, white > 0.5)
    else:  # the new frames are larger, and so are their cells
        for mask, channel in zip(painted > 0.5, white, strict=True):
            assert check_mask(mask, channel) > 0.9


@few_ops
def test_masks_change_nothing_else(name):
    """Both are in one program: two would round in different places."""
    for results in over_some_keys(name)[:2]:
        expected = results["plain"].replace(masks=None, mask_frames=None)
        check_close(results["without masks"], expected, atol=1e-4)


@few_ops
def test_what_describes_the_original_is_left_out(name):
    def described(example):
        lead = example.mask.shape
        return example.replace(
            area=np.ones((*lead, 5), np.float32),
            placement=np.ones((*lead, 4), np.float32),
            size=np.ones((*lead, 2), np.int32),
            index=np.ones(lead, np.int32),
        )

    example = described(painted_with_partners(0))
    example = example.replace(partners=described(example.partners))
    result = jax.eval_shape(OPS[name](), jax.random.key(0), example)
    assert (result.area, result.placement, result.size) == (None, None, None)
    assert result.index.shape == ()
    # So it is where the function is applied sometimes.
    if name in ("Mosaic", "Mixup"):
        sometimes = OPS[name](probability=0.5)
    else:
        sometimes = functools.partial(
            augment.with_probability, function=OPS[name](), probability=0.5
        )
    result = jax.eval_shape(sometimes, jax.random.key(0), example)
    assert (result.area, result.placement, result.size) == (None, None, None)
    assert result.boxes.shape == (5, 4)


# Flips.


def test_random_flip_mirrors_image_and_boxes_exactly():
    example = painted(0)
    result = jax.device_get(jax.jit(augment.RandomFlip(1.0))(jax.random.key(0), example))
    assert result.image.dtype == np.uint8
    np.testing.assert_array_equal(result.image, reference.flip(example.image))
    assert check_painted(result, atol=0) == 3
    np.testing.assert_array_equal(result.masks, example.masks[:, :, ::-1])
    np.testing.assert_array_equal(in_pixels(result), in_pixels(example)[:, :, ::-1])


def test_random_flip_happens_with_its_probability():
    example = example_of(np.array([[[1], [2]]], np.uint8), [[0, 0, 1, 1]])
    results = over_keys(augment.RandomFlip(probability=0.25))(many_keys(1000), example)
    flipped = results.image[:, 0, 0, 0] == 2
    assert abs(flipped.mean() - 0.25) < 4 * (0.25 * 0.75 / 1000) ** 0.5
    for box, was_flipped in zip(results.boxes[:, 0], flipped, strict=True):
        np.testing.assert_array_equal(box, [1, 0, 2, 1] if was_flipped else [0, 0, 1, 1])


# The rule for boxes.


@pytest.mark.parametrize(
    ("box", "options", "expected"),
    [
        ((2, 3, 6, 8), {}, (2, 3, 6, 8)),
        ((-2, -2, 6, 8), {}, (0, 0, 6, 8)),
        ((-12, 0, 4, 4), {}, (0, 0, 4, 4)),  # a quarter is left
        ((-13, 0, 4, 4), {}, None),
        ((8, 8, 12, 12), {"least_visible": 0.51}, None),
        ((-13, 0, 4, 4), {"least_visible": 0}, (0, 0, 4, 4)),
        ((-10, -10, -2, -2), {"least_visible": 0, "least_side": 0}, None),  # outside
        ((2, 2, 3, 9), {}, (2, 2, 3, 9)),
        ((2, 2, 2.75, 9), {}, None),  # too narrow
        ((2, 2, 2.75, 9), {"least_side": 0.75}, (2, 2, 2.75, 9)),
        ((9.5, 2, 10.5, 9), {}, None),  # too narrow once it is clipped
        ((2, 2, 2, 9), {"least_side": 0}, None),  # no area
        ((6, 8, 2, 3), {"least_side": 0}, None),  # inverted
        ((np.nan, 1, 5, 5), {}, None),
        ((0, 0, 10, 12), {"least_visible": 1}, (0, 0, 10, 12)),
    ],
)
def test_clip_and_drop_by_hand(box, options, expected):
    example = example_of(np.zeros((12, 10, 1), np.uint8), [(1, 1, 4, 4), box])
    result = augment.clip_and_drop(example, **options)
    np.testing.assert_array_equal(result.box_mask, [True, expected is not None])
    np.testing.assert_array_equal(result.boxes, [(1, 1, 4, 4), expected or (0, 0, 0, 0)])


def test_clip_and_drop_equals_the_reference():
    rng = np.random.default_rng(0)
    corner = rng.uniform(-15, 25, (60, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.5, 20, (60, 2))], axis=1)
    example = example_of(np.zeros((20, 24, 3), np.uint8), boxes, box_mask=rng.random(60) < 0.8)
    example = example.replace(**random_masks(rng, boxes))
    options = {"least_visible": 0.4, "least_side": 2.0}
    kept = reference.clip_and_drop(example, **options).box_mask.sum()
    assert 10 < kept < example.box_mask.sum() - 10
    check_op(
        augment.clip_and_drop, reference.clip_and_drop, example, **options, transforms=("jit",)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [({"least_visible": 1.5}, "least_visible is 1.5"), ({"least_side": -1}, "least_side is -1")],
)
def test_clip_and_drop_refuses_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        augment.clip_and_drop(painted(0), **options)


# Crops.

WINDOWS = np.float32(
    [(0, 0, 9, 7), (2, 1, 6, 5), (-3.3, -2.2, 12.1, 8.4), (1.5, -4, 30, 6), (20, 20, 29, 27)]
)


@pytest.mark.parametrize("method", ["bilinear", "nearest"])
def test_resized_crop_equals_the_reference_for_every_window(method):
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 2)).astype(np.uint8)
    crop = functools.partial(augment.resized_crop, method=method, fill=3)
    results = np.asarray(jax.jit(jax.vmap(crop, in_axes=(None, 0)))(image, WINDOWS))
    assert results.dtype == (np.float32 if method == "bilinear" else np.uint8)
    for window, result in zip(WINDOWS, results, strict=True):
        expected = reference.resized_crop(image, window, method=method, fill=3)
        np.testing.assert_allclose(result, expected, atol=1e-3)
    np.testing.assert_array_equal(results[0], image)  # the window is the image
    assert (results[4] == 3).all()  # the window is outside


def test_resized_crop_of_a_taller_image_equals_the_reference_on_every_device():
    image = np.random.default_rng(0).random((40, 9, 2)).astype(np.float32)
    window, how = np.float32([-2, 3, 8, 25]), {"atol": 1e-3, "transforms": ("pmap",)}
    check_op(augment.resized_crop, reference.resized_crop, image, window, **how)


def test_resized_crop_is_the_same_by_products_of_matrices():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (33, 9, 2)).astype(np.uint8)
    y, x = (np.linspace(-0.5, side - 0.5, side, dtype=np.float32) for side in (33, 9))
    by_products, by_gathers = (
        jax.jit(form)(image, y, x) for form in (sampling._by_products, sampling._by_gathers)
    )
    np.testing.assert_allclose(by_products, by_gathers, atol=1e-3)


def test_resized_crop_moves_masks_as_its_boxes():
    mask = np.zeros((HEIGHT, WIDTH, 1), bool)
    mask[10:20, 12:30] = True
    window = np.float32([4.3, -7.1, 44.9, 30.2])
    box = np.float32([[12, 10, 30, 20]])

    @jax.jit
    def both(mask, box, window):
        moved = augment.resized_crop(mask, window, method="nearest", fill=0)
        return moved, augment.resized_crop_boxes(box, window, size=(HEIGHT, WIDTH))

    moved, boxes = jax.device_get(both(mask, box, window))
    assert moved.dtype == bool
    np.testing.assert_allclose(boxes[0], extent(moved[..., 0], 0), atol=0.501)


def test_resized_crop_boxes_by_hand_and_by_the_reference():
    window = np.float32([2, 1, 7, 5])  # twice as large in x, three times in y
    box = np.float32([[3, 2, 5, 4], [0, 0, 10, 12]])
    move = jax.jit(functools.partial(augment.resized_crop_boxes, size=(12, 10)))
    actual = move(box, window)
    np.testing.assert_allclose(actual, [[2, 3, 6, 9], [-4, -3, 16, 33]], atol=1e-5)
    expected = reference.resized_crop_boxes(box, window, size=(12, 10))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_resized_crop_refuses_other_arguments():
    image, window = np.zeros((4, 4, 3), np.uint8), np.float32([0, 0, 4, 4])
    with pytest.raises(ValueError, match="unknown method 'linear'"):
        augment.resized_crop(image, window, method="linear")
    with pytest.raises(AssertionError, match=r"^image is"):
        augment.resized_crop(image[..., 0], window)
    with pytest.raises(AssertionError, match=r"^window is"):
        augment.resized_crop(image, window[:2])


def with_ramps(example):
    """Two more channels: each pixel's x and y, by which a crop's window can be found again."""
    height, width, _ = example.image.shape
    y, x = np.mgrid[:height, :width]
    ramps = np.stack([x, y], axis=-1).astype(np.float32)
    return example.replace(image=np.concatenate([example.image, ramps], axis=-1))


def window_of(image):
    """The window that a result of `with_ramps` shows; its middle half must be inside the image."""
    height, width, _ = image.shape
    ends = []
    for axis, count in ((1, width), (0, height)):
        first, last = count // 4, count - 1 - count // 4
        ramp = image[height // 2, :, -2] if axis else image[:, width // 2, -1]
        slope = (float(ramp[last]) - float(ramp[first])) / (last - first)
        begin = float(ramp[first]) + 0.5 - slope * (first + 0.5)
        ends.append((begin, begin + slope * count))
    (x1, x2), (y1, y2) = ends
    return np.array([x1, y1, x2, y2])


CROPS = {
    "ScaleTranslate": {"scale": (0.7, 1.6), "ratio": (0.8, 1.25), "translate": 0.15},
    "JitterCrop": {"jitter": 0.2},
}


def check_crop(name, run):
    """Asserts that a crop equals the reference at the window that it shows."""
    example = with_ramps(painted(2))
    result = jax.device_get(run(OPS[name](**CROPS[name], fill=30))(jax.random.key(5), example))
    assert result.image.dtype == np.float32
    window = window_of(result.image)
    boxes, frames = (
        reference.resized_crop_boxes(x, window, size=(HEIGHT, WIDTH))
        for x in (example.boxes, example.mask_frames)
    )
    image = reference.resized_crop(example.image, window, fill=30)
    moved = example.replace(image=image, boxes=boxes, mask_frames=frames)
    check_close(result, reference.clip_and_drop(moved), atol=0.02)


@pytest.mark.parametrize("name", slow_but(CROPS, ["ScaleTranslate"]))
def test_a_random_crop_equals_the_reference_at_some_window(name):
    check_crop(name, jax.jit)


@pytest.mark.parametrize("name", slow_but(CROPS, ["JitterCrop"]))
def test_a_crop_moves_boxes_with_what_is_in_them(name):
    example = painted(1, masks=False)
    results = over_keys(OPS[name](**CROPS[name], fill=0))(many_keys(40), example)
    found = sum(
        check_painted(jax.tree.map(lambda x, k=k: x[k], results), atol=0.501) for k in range(40)
    )
    assert 60 < found < 120  # most of them stay, and some are dropped


def windows_drawn(name, count, **options):
    """[count, 4]."""
    example = with_ramps(example_of(np.zeros((16, 12, 0), np.float32), []))
    results = over_keys(OPS[name](**options))(many_keys(count), example)
    return np.array([window_of(image) for image in results.image])


def test_random_jitter_crop_moves_each_border_by_itself():
    windows = windows_drawn("JitterCrop", 400, jitter=0.2)
    moves = (windows / [12, 16, 12, 16] - [0, 0, 1, 1]).T
    for move in moves:
        assert uniform_distance(move, -0.2, 0.2) < 1.95
    assert abs(np.corrcoef(moves) - np.eye(4)).max() < 0.2


def scales_drawn(count, **options):
    """[count, 2] scales and [count, 2] moves as a share of the side, (x, y)."""
    windows = windows_drawn("ScaleTranslate", count, **options)
    scales = np.array([12, 16]) / (windows[:, 2:] - windows[:, :2])
    centre = (windows[:, 2:] + windows[:, :2]) / 2 / [12, 16]
    return scales, scales * (0.5 - centre)


def test_random_scale_and_translate_draws_uniformly():
    scales, moves = scales_drawn(400, scale=(1.0, 1.5), translate=0.1)
    np.testing.assert_allclose(scales[:, 0], scales[:, 1], rtol=1e-4)
    assert uniform_distance(scales[:, 0], 1.0, 1.5) < 1.95
    for move in moves.T:
        assert uniform_distance(move, -0.1, 0.1) < 1.95
    correlation = np.corrcoef([scales[:, 0], *moves.T])
    assert abs(correlation - np.eye(3)).max() < 0.2


def test_random_scale_and_translate_changes_the_form_log_uniformly():
    scales, _ = scales_drawn(400, scale=(1.2, 1.2), ratio=(0.5, 1.5), translate=0.0)
    ratios = np.log(scales[:, 0] / scales[:, 1])
    assert uniform_distance(ratios, np.log(0.5), np.log(1.5)) < 1.95
    np.testing.assert_allclose(np.sqrt(scales.prod(axis=1)), 1.2, rtol=1e-3)


# Mosaic and mixup.


def four_examples():
    """With three more channels, the (number, y, x) of each pixel, by which its place is found."""
    example = painted_with_partners(3, rows=12, masks=False)
    examples = [example.replace(partners=None)]
    examples += [jax.tree.map(lambda x, n=n: x[n], example.partners) for n in range(3)]
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.uint8)
    rng = np.random.default_rng(0)
    return [
        example.replace(
            image=np.concatenate([example.image, np.stack([x * 0 + n, y, x], -1)], -1),
            **random_masks(rng, example.boxes),
        )
        for n, example in enumerate(examples)
    ]


def decoded(image):
    """Of a mosaic of `four_examples`: the centre, and by how much each part moves, all (x, y)."""
    number, from_y, from_x = np.moveaxis(np.asarray(image)[..., -3:].astype(int), -1, 0)
    centre = (number[0] == 0).sum(), (number[:, 0] == 0).sum()
    y, x = np.mgrid[: number.shape[0], : number.shape[1]]
    moves = [
        (np.unique((x - from_x)[number == n]), np.unique((y - from_y)[number == n]))
        for n in range(4)
    ]
    assert all(len(values) == 1 for move in moves for values in move)
    return centre, [(int(dx[0]), int(dy[0])) for dx, dy in moves]


@functools.lru_cache
def mosaics(count=400, **options):
    """Results of `four_examples` for many keys; the partners are no part of them."""
    first, *others = four_examples()
    example = first.replace(partners=stacked(others))

    def run(key, example):
        return augment.mosaic(key, example, **options).replace(partners=None)

    results = jax.jit(jax.vmap(run, (0, None)))(many_keys(count), example)
    results = jax.device_get(results)
    return [jax.tree.map(lambda x, k=k: x[k], results) for k in range(count)]


def test_mosaic_equals_the_reference_at_its_centre():
    for result in mosaics()[:2]:
        assert result.image.dtype == np.uint8
        centre, moves = decoded(result.image)
        expected = reference.mosaic(four_examples(), centre, moves)
        assert 3 <= expected.box_mask.sum() <= 11
        check_close(result, expected)


def test_mosaic_draws_centre_and_offsets_uniformly():
    drawn = [decoded(result.image) for result in mosaics()]
    centres = np.array([centre for centre, _ in drawn])
    for values, side in zip(centres.T, (WIDTH, HEIGHT), strict=True):
        least = int(0.2 * side)
        assert (values.min(), values.max()) == (least, side - least)
        assert uniform_distance(values, least - 0.5, side - least + 0.5) < 1.95
    # Moves as a share of how far a part may move: all of 0..1, -1..0 for those before the centre.
    size = np.array([WIDTH, HEIGHT])
    shares = []
    for n, after in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
        moves = np.array([moves[n] for _, moves in drawn])
        shares += [*np.where(after, moves / centres, moves / (centres - size) * 1.0).T]
    for share in shares:
        assert (share.min(), share.max()) == (0, 1)
        assert uniform_distance(share, 0, 1) < 1.95
    assert abs(np.corrcoef(shares) - np.eye(8)).max() < 0.2


def test_mosaic_moves_boxes_with_what_is_in_them():
    found = 0
    for result in mosaics()[:30]:
        found += check_painted(result, atol=0)
        areas = np.prod(result.boxes[:, 2:] - result.boxes[:, :2], axis=1)
        assert (np.diff(areas) <= 0).all()
        assert (np.diff(result.box_mask.astype(int)) <= 0).all()
    assert 60 < found < 240


@pytest.mark.slow
def test_mosaic_shows_what_is_next_to_the_cut():
    size = np.array([WIDTH, HEIGHT])
    for result in mosaics(20, offset="cut"):
        centre, moves = decoded(result.image)
        # Each image has a corner at the centre.
        for move, after in zip(moves, [(0, 0), (1, 0), (0, 1), (1, 1)], strict=True):
            np.testing.assert_array_equal(move, np.where(after, centre, centre - size))
        check_close(result, reference.mosaic(four_examples(), centre, moves))


@pytest.mark.slow
def test_boxes_that_are_not_bound_reach_into_other_parts_of_a_mosaic():
    for bound in (True, False):
        reaching = 0
        for result in mosaics(20, bound=bound):
            centre, moves = decoded(result.image)
            check_close(result, reference.mosaic(four_examples(), centre, moves, bound=bound))
            boxes = result.boxes[result.box_mask]
            over = (boxes[:, :2] < np.array(centre)) & (boxes[:, 2:] > np.array(centre))
            reaching += over.any(axis=1).sum()
        assert (reaching > 0) != bound


@pytest.mark.slow
def test_mosaic_with_its_centre_in_the_middle_has_equal_parts():
    result = mosaics(3, margin=0.5)[2]
    assert decoded(result.image)[0] == (WIDTH // 2, HEIGHT // 2)


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("Mosaic", 0, "mosaic takes 3 of an example's partners, and there are 0"),
        ("Mosaic", 2, "mosaic takes 3 of an example's partners, and there are 2"),
        ("Mixup", 0, "mixup takes 1 of an example's partners, and there are 0"),
    ],
)
def test_too_few_partners_are_refused(name, count, message):
    example = painted_with_partners(0)
    partners = jax.tree.map(lambda x: x[:count], example.partners) if count else None
    with pytest.raises(InputError, match=message):
        jax.jit(OPS[name]())(jax.random.key(0), example.replace(partners=partners))


@pytest.mark.parametrize("name", ["Mosaic", "Mixup"])
def test_partners_of_other_shapes_are_refused(name):
    example = painted_with_partners(0)
    partners = example.partners.replace(boxes=example.partners.boxes[:, :4])
    with pytest.raises(AssertionError, match=r"^partners\.boxes is"):
        OPS[name]()(jax.random.key(0), example.replace(partners=partners))
    with pytest.raises(AssertionError, match=r"^partners\.masks: give all examples masks, or none"):
        OPS[name]()(jax.random.key(0), example.replace(masks=None, mask_frames=None))


def test_blend_equals_the_reference_and_keeps_the_largest():
    first = painted(0, channels=6)
    second = painted(1, first=3, channels=6)
    blend, arguments = jax.jit(augment.blend), (first, second, np.float32(0.3))
    check_op(blend, reference.blend, *arguments, atol=1e-4, transforms=("eager",))
    result = blend(*arguments)
    assert result.box_mask.all()  # five of the six
    assert result.image.dtype == jnp.float32


def test_blend_puts_rows_of_equal_boxes_in_their_order_and_padding_last():
    image, box = np.zeros((4, 4, 1), np.uint8), (0, 0, 2, 2)
    first = example_of(image, [box, (1, 1, 1, 1), box, box], box_mask=[False, True, True, False])
    second = example_of(image, [box, (0, 0, 4, 4)] * 2, np.arange(4, 8), [True, False, False, True])
    result = jax.jit(augment.blend)(first, second, 0.5)
    np.testing.assert_array_equal(result.labels, [7, 2, 4, 1])
    np.testing.assert_array_equal(result.crowd, [True, False, False, True])
    np.testing.assert_array_equal(result.difficult, [False, False, False, True])
    assert result.box_mask.all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("alpha", "mean", "variance"),
    long_but([(None, 0.03, 0.01), (20.0, 0.015, 0.002)], [(None, 0.03, 0.01)]),
)
def test_mixup_is_the_blend_with_its_partner_at_a_share_from_the_beta_distribution(
    alpha, mean, variance
):
    """alpha, and how far the mean and the variance of 1000 draws may be off."""
    white, grey = (example_of(np.full((1, 1, 1), v, np.uint8), [[0, 0, 1, 1]]) for v in (255, 51))
    example = white.replace(partners=stacked([grey]))
    options = {} if alpha is None else {"alpha": alpha}
    run = jax.vmap(lambda key: augment.mixup(key, example, **options).image[0, 0, 0])
    drawn = (np.asarray(jax.jit(run)(many_keys(1000))) - 51) / (255 - 51)
    assert abs(drawn.mean() - 0.5) < mean
    # By default alpha is 1.5.
    assert abs(drawn.var() - 1 / (8 * (alpha or 1.5) + 4)) < variance


@pytest.mark.slow
def test_mixup_keeps_the_boxes_of_both_in_full():
    example = painted_with_partners(0, real=2)
    result = run("Mixup", jax.random.key(2), example)["plain"]
    thresholds = result.image.max(axis=(0, 1)) / 2
    assert check_painted(result, atol=0, thresholds=thresholds) == 4
    assert set(real_boxes(result)) == set(range(4))
