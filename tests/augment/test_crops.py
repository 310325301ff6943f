"""SSD's and large-scale jitter's augmentations: references, statistics, and what is painted."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import augment
from jaxvision.core import ImageBatch, InputError
from tests.augment.test_color import uniform_distance
from tests.augment.test_detection import (
    HEIGHT,
    WIDTH,
    check_painted,
    example_of,
    in_pixels,
    many_keys,
    over_keys,
    painted,
    real_boxes,
)
from tests.marks import slow_but
from tests.ops.parity import import_torchvision
from tests.reference import augment as reference

BOXES = np.float32([[10, 10, 30, 30], [50, 20, 58, 50], [0, 0, 0, 0]])
REAL = np.array([True, True, False])
SIZE = (60, 64)
OPTIONS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


def at(results, k):
    return jax.tree.map(lambda x: x[k], results)


@functools.lru_cache
def crops(count=2000, **options):
    """The crops, f32[count, 4], and which boxes stay, bool[count, N]."""
    draw = augment.RandomIoUCrop(**options).crop
    run = jax.jit(jax.vmap(lambda key: draw(key, jnp.array(SIZE), BOXES, REAL)))
    return jax.device_get(run(many_keys(count)))


def same_shares(ours, theirs):
    """The largest distance of two shares in units of its standard deviation."""
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    mean = (ours.sum(0) + theirs.sum(0)) / (len(ours) + len(theirs))
    deviation = np.sqrt(mean * (1 - mean) * (1 / len(ours) + 1 / len(theirs)))
    return np.max(np.abs(ours.mean(0) - theirs.mean(0)) / np.maximum(deviation, 1e-9))


def drawn_one_by_one(count=600, options=OPTIONS):
    rng = np.random.default_rng(0)
    drawn = [reference.iou_crop(BOXES[:2], SIZE, rng, options=options) for _ in range(count)]
    return np.float64([crop for _, crop, _ in drawn]), np.array([stay for *_, stay in drawn])


def check_same_crops(ours, theirs):
    """Shares of whole images and of boxes that stay, and the mean area, of two samples of crops."""
    (crop, stays), (other, other_stays) = ours, theirs
    height, width = SIZE
    whole, other_whole = ((x == [0, 0, width, height]).all(1) for x in (crop, other))
    assert 0.15 < whole.mean() < 0.5
    assert same_shares(whole[:, None], other_whole[:, None]) < 4
    assert same_shares(stays[:, :2], other_stays[:, :2]) < 4
    areas, other_areas = (np.prod(x[:, 2:] - x[:, :2], axis=1) for x in (crop, other))
    deviation = np.sqrt(areas.var() / len(areas) + other_areas.var() / len(other_areas))
    assert abs(areas.mean() - other_areas.mean()) < 4 * deviation


@pytest.mark.slow
def test_iou_crops_have_the_distribution_of_the_rule_one_after_the_other():
    check_same_crops(crops(), drawn_one_by_one())


@pytest.mark.slow
def test_iou_crops_keep_their_promises():
    crop, stays = crops(300, options=(0.3,))
    assert not stays[:, 2].any()
    for window, kept in zip(crop, stays, strict=True):
        if (window == [0, 0, SIZE[1], SIZE[0]]).all():
            continue
        (width, height), inside = window[2:] - window[:2], []
        assert 0.5 <= width / height <= 2
        assert 0.3 * SIZE[1] - 1 < width <= SIZE[1]
        assert 0.3 * SIZE[0] - 1 < height <= SIZE[0]
        inside = [reference.centre_inside(box, window) for box in BOXES[:2]]
        assert kept[:2].tolist() == inside
        pairs = zip(BOXES, inside, strict=False)
        assert max(reference.iou(box, window) for box, there in pairs if there) >= 0.3


@pytest.mark.slow
def test_an_image_without_a_crop_that_fits_is_kept_whole_with_all_boxes():
    crop, stays = crops(20, options=(0.99,))
    assert (crop == [0, 0, SIZE[1], SIZE[0]]).all()
    assert (stays == REAL).all()


ZOOM = augment.RandomZoomOut(1.0, fill=(0.0, 0.0, 0.0))
PAINTED = {
    "zoom": ZOOM,
    "crop": augment.RandomIoUCrop((0.1, 0.3)),
    "both": augment.RandomIoUCrop((0.1, 0.3), zoom_out=dataclasses.replace(ZOOM, side=(1, 2))),
    "jitter": augment.ScaleJitter((0.3, 2.0), fill=(0, 0, 0)),
}


@pytest.mark.parametrize("name", slow_but(PAINTED, ["jitter"]))
def test_boxes_and_masks_move_with_what_is_in_them(name):
    example = painted(1).replace(keypoints=np.zeros((5, 1, 3), np.float32))
    image = np.zeros_like(example.image)
    for (x1, y1, x2, y2), label in zip(example.boxes[:3].astype(int), (0, 1, 2), strict=True):
        image[y1:y2, x1:x2, label] = 255
    middle = (example.boxes[:, :2] + example.boxes[:, 2:]) / 2
    keypoints = np.concatenate([middle, np.full((5, 1), 2)], axis=1)[:, None].astype(np.float32)
    example = example.replace(image=image, keypoints=keypoints, extent=np.int32([HEIGHT, WIDTH]))
    results = over_keys(PAINTED[name])(many_keys(30), example)
    found = 0
    for k in range(30):
        result = at(results, k)
        masks = in_pixels(result)
        found += check_painted(result, atol=0.55)
        for label in real_boxes(result):
            # A corner's pixel may have a quarter of the colour.
            assert (result.image[..., label][masks[label]] > 0.2499 * 255).all()
            x, y, visible = result.keypoints[label, 0]
            x1, y1, x2, y2 = result.boxes[label]
            if visible and name in ("crop", "both"):
                assert x1 <= x <= x2
                assert y1 <= y <= y2
        gone = ~result.box_mask
        assert not result.boxes[gone].any()
        assert not result.masks[gone].any()
        assert not result.mask_frames[gone].any()
        assert not result.keypoints[gone].any()
        np.testing.assert_array_equal(result.labels, example.labels)
    assert found > 30


@pytest.mark.slow
def test_an_image_without_boxes_is_kept_whole_by_the_crop_and_zoomed_as_the_others():
    nothing = painted(0, real=0).replace(box_mask=np.zeros(5, bool))
    result = over_keys(augment.RandomIoUCrop())(many_keys(8), nothing)
    np.testing.assert_array_equal(result.image, np.broadcast_to(nothing.image, result.image.shape))
    empty = example_of(np.zeros((8, 8, 3), np.uint8), [])
    for step in augment.detection_preset("ssd", fill=0):
        assert jax.eval_shape(step, jax.random.key(0), empty).boxes.shape == (0, 4)
    with pytest.raises(InputError, match=r"^RandomIoUCrop crops around boxes, and a ImageB"):
        augment.RandomIoUCrop()(jax.random.key(0), ImageBatch(empty.image, np.True_))


@pytest.mark.slow
def test_zoom_out_draws_the_side_and_the_place_uniformly():
    extent = jnp.array([300, 400])
    zoom = augment.RandomZoomOut(0.4)
    windows = jax.device_get(jax.vmap(zoom.window, (0, None))(many_keys(2000), extent))
    sides = windows[:, 2:] - windows[:, :2]
    happens = (windows != [0, 0, 400, 300]).any(axis=1)
    assert abs(happens.mean() - 0.4) < 4 * (0.24 / 2000) ** 0.5
    ratio, place = sides[happens] / [400, 300], -windows[happens, :2]
    np.testing.assert_allclose(ratio[:, 0], ratio[:, 1], atol=0.005)
    assert uniform_distance(ratio[:, 0], 1, 4) < 1.95
    for share in (place / (sides[happens] - [400, 300])).T:
        assert uniform_distance(share, 0, 1) < 1.95


@pytest.mark.slow
def test_a_zoom_before_the_crop_resamples_once():
    """Where the crop undoes the zoom, the image is what it was."""
    zoom = augment.RandomZoomOut(1.0, (2.0, 2.0))
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, ::2] = 255
    example = example_of(stripes, [[4, 4, 12, 12]])
    crop = augment.RandomIoUCrop((0.0,), scale=(0.5, 0.5), ratio=(1, 1), zoom_out=zoom)
    results = over_keys(crop)(many_keys(20), example)
    inside = results.image[results.image != 127]
    assert np.isin(inside, [0, 255]).mean() > 0.99


def jittered(extent, count=300, **options):
    """The results of an image with ramps of x and y, and a channel of 200."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    image = np.stack([x, y, np.full_like(x, 200)], axis=-1).astype(np.float32)
    example = example_of(image, []).replace(extent=np.int32(extent))
    return over_keys(augment.ScaleJitter(**options))(many_keys(count), example)


def test_scale_jitter_scales_the_fit_of_the_image_without_padding():
    """40 x 48 pixels; the image is 20 x 40, so that a factor of 1 gives 24 x 48."""
    results = jittered((20, 40), scale=(0.5, 0.9))
    rows, columns = results.extent.T
    for k in range(20):
        image = results.image[k]
        assert (image[rows[k] :] == [123, 117, 104]).all()
        assert (image[:, columns[k] :] == [123, 117, 104]).all()
        assert (image[: rows[k], : columns[k], 2] == 200).all()
        np.testing.assert_allclose(image[0, columns[k] - 1, 0], 39.5 - 20 / columns[k], atol=0.6)
    assert uniform_distance(columns + 0.5, 24, 43.2) < 1.95
    assert set(rows - np.floor(columns / 2)) <= {0, 1}


@pytest.mark.slow
def test_scale_jitter_crops_uniformly_what_is_too_large():
    results = jittered((20, 24), scale=(2.0, 2.0))  # 80 x 96: a quarter is left
    assert (results.extent == [HEIGHT, WIDTH]).all()
    left, top = results.image[:, 0, 0, :2].T
    assert (left.min(), top.min()) == (0, 0)
    for corner, most in ((left, 12), (top, 10)):
        assert corner.max() < most
        assert uniform_distance(corner, 0, most) < 2.6  # steps of a quarter of a pixel
    assert abs(np.corrcoef(left, top)[0, 1]) < 0.2


@pytest.mark.slow
def test_photometric_distortion_does_each_change_with_its_probability():
    """By four pixels: a grey one shows brightness, two greys contrast, colours all the rest."""
    image = np.float32([[[100] * 3, [140] * 3], [[120, 80, 100], [110, 120, 130]]])
    example = example_of(image, [])
    only = {"brightness": (1, 1), "contrast": (1, 1), "saturation": (1, 1), "hue": 0.0}

    def run(**options):
        distort = augment.RandomPhotometricDistort(**{**only, **options})
        return over_keys(distort)(many_keys(1000), example).image

    bright = run(brightness=(0.875, 1.125))[:, 0, 0, 0] / 100
    changed = np.abs(bright - 1) > 1e-6
    assert abs(changed.mean() - 0.5) < 0.07
    assert uniform_distance(bright[changed], 0.875, 1.125) < 1.95
    contrast = run(contrast=(0.5, 1.5))
    contrast = (contrast[:, 0, 1, 0] - contrast[:, 0, 0, 0]) / 40
    changed = np.abs(contrast - 1) > 1e-6
    assert abs(changed.mean() - 0.5) < 0.07  # once, before or after
    assert uniform_distance(contrast[changed], 0.5, 1.5) < 1.95
    spread = np.ptp(run(saturation=(0.5, 1.5))[:, 1, 0], axis=-1) / 40
    changed = np.abs(spread - 1) > 1e-5
    assert abs(changed.mean() - 0.5) < 0.07
    assert uniform_distance(spread[changed], 0.5, 1.5) < 1.95
    orders = {tuple(np.argsort(pixel)) for pixel in run()[:, 1, 0]}
    assert len(orders) == 6
    same = (np.argsort(run()[:, 1, 0]) == [1, 2, 0]).all(axis=1).mean()
    assert abs(same - (0.5 + 0.5 / 6)) < 0.07
    assert (run(probability=0.0) == image).all()


@pytest.mark.slow
@pytest.mark.parametrize("before", [True, False])
def test_photometric_distortion_changes_in_torchvisions_order(before):
    """All changes happen, with one factor each, against the reference."""
    image = np.random.default_rng(0).integers(0, 256, (6, 5, 3)).astype(np.uint8)
    limits = {"brightness": (1.1, 1.1), "contrast": (1.4, 1.4), "saturation": (0.6, 0.6)}
    distort = augment.RandomPhotometricDistort(**limits, hue=0.0, probability=1.0)
    results = over_keys(distort)(many_keys(40), example_of(image, [])).image
    names = ["brightness", "contrast", "saturation"]
    names = names if before else ["brightness", "saturation", "contrast"]
    expected = reference.color_jitter(image, [(name, limits[name][0]) for name in names])
    orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
    hits = [any(np.allclose(x, expected[..., o], atol=2e-3) for o in orders) for x in results]
    assert 8 < sum(hits) < 32


@pytest.mark.slow
def test_a_grey_image_is_distorted_in_brightness_and_contrast():
    image = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    result = augment.RandomPhotometricDistort()(jax.random.key(0), example_of(image, []))
    assert result.image.shape == (4, 4, 1)


def test_presets_have_torchvisions_names_and_steps():
    names = ("hflip", "ssd", "ssdlite", "lsj", "multiscale")
    presets = {name: augment.detection_preset(name) for name in names}
    flip = augment.RandomFlip(0.5)
    assert all(steps[-1] == flip for steps in presets.values())
    assert presets["hflip"] == presets["multiscale"] == (flip,)
    assert presets["ssdlite"] == (augment.RandomIoUCrop(), flip)
    assert presets["lsj"] == (augment.ScaleJitter(), flip)
    (flip,) = augment.detection_preset("hflip", swap=[1, 0])
    assert flip == augment.RandomFlip(swap=(1, 0))
    zoom_out = augment.RandomZoomOut(fill=(123, 117, 104))
    first, crop, _ = presets["ssd"]
    assert (first, crop.zoom_out) == (augment.RandomPhotometricDistort(), zoom_out)
    with pytest.raises(InputError, match="unknown preset 'sdd': did you mean 'ssd'"):
        augment.detection_preset("sdd")
    with pytest.raises(InputError, match="fill has 3 numbers and the image 1 channels: give one"):
        augment.ScaleJitter()(jax.random.key(0), example_of(np.zeros((4, 4, 1)), []))


@pytest.mark.parity
def test_iou_crops_are_distributed_as_torchvisions():
    torch, transforms = import_torchvision("transforms.v2")
    tensors = pytest.importorskip("torchvision.tv_tensors")
    torch.manual_seed(0)
    boxes = tensors.BoundingBoxes(torch.tensor(BOXES[:2]), format="XYXY", canvas_size=SIZE)
    crop, drawn = transforms.RandomIoUCrop(), []
    image = torch.zeros(3, *SIZE)
    for _ in range(600):
        params = crop.make_params([image, boxes])
        if not params:
            drawn.append(((0, 0, SIZE[1], SIZE[0]), [True, True]))
            continue
        left, top = params["left"], params["top"]
        window = (left, top, left + params["width"], top + params["height"])
        drawn.append((window, params["is_within_crop_area"].tolist()))
    theirs = np.float64([window for window, _ in drawn]), np.array([stay for _, stay in drawn])
    check_same_crops(crops(), theirs)


@pytest.mark.parity
def test_photometric_distortion_has_torchvisions_mean_and_spread():
    torch, transforms = import_torchvision("transforms.v2")
    torch.manual_seed(0)
    image = np.random.default_rng(0).integers(40, 200, (6, 5, 3)).astype(np.uint8)
    tensor = torch.tensor(image).permute(2, 0, 1) / 255
    distort = transforms.RandomPhotometricDistort()
    theirs = np.array([255 * distort(tensor).permute(1, 2, 0).numpy() for _ in range(1500)])
    ours = augment.RandomPhotometricDistort()
    ours = over_keys(ours)(many_keys(1500), example_of(image, [])).image
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), atol=8)
    np.testing.assert_allclose(ours.std(0), theirs.std(0), atol=6)
    assert abs(ours.mean() - theirs.mean()) < 1.5
    assert abs(ours.std(0).mean() - theirs.std(0).mean()) < 1.0
