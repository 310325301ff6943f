"""Every augmentation with every struct: what it does follows from the kinds of the fields alone."""

import dataclasses
import functools
import inspect
import json
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from jaxvision import augment
from jaxvision.core import (
    ClassificationBatch,
    DetectionBatch,
    ImageBatch,
    InputError,
    LandmarkBatch,
    OptionError,
    RestorationBatch,
    SegmentationBatch,
    annotation,
    annotations_of,
)
from jaxvision.ops import paint_masks
from tests.marks import long_but, slow_but
from tests.reference import augment as reference

SIDE, ROWS, POINTS = 32, 4, 3
CORNERS = np.float32([[0, 0], [1, 0], [0, 1]])


@flax.struct.dataclass
class EverythingBatch:
    """A struct of the user's own, with every kind under another name."""

    photo: Array = annotation("image")
    depth: Array = annotation("image")
    classes: Array = annotation("pixels")
    places: Array = annotation("boxes")
    real: Array = annotation("box_mask")
    regions: Array = annotation("proposals")
    given: Array = annotation("proposal_mask")
    shapes: Array = annotation("masks")
    frames: Array = annotation("mask_frames")
    joints: Array = annotation("keypoints")
    corners: Array = annotation("points")
    seen: Array = annotation("visible")
    size: Array = annotation("placement")
    extent: Array = annotation("extent")
    label: Array = annotation("fixed")
    partners: Any = annotation("fixed", default=None)


def arrays(side=SIDE):
    """An array for each kind; labels, masks, boxes and points mark the same 4 x 4 blocks."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    blocks = (y // 4 * 8 + x // 4).astype(np.uint8)
    boxes = np.float32([[4, 8, 16, 20], [0, 0, 32, 32], [20, 4, 28, 12], [np.nan] * 4])
    points = np.float32([[10, 14], [22, 6], [2, 30]])
    keypoints = np.stack(
        [np.concatenate([points + 4 * n, [[2], [1], [0]]], 1) for n in range(ROWS)]
    )
    return {
        "image": rng.integers(0, 256, (side, side, 3)).astype(np.uint8),
        "pixels": blocks,
        "boxes": boxes,
        "box_mask": np.array([True, True, True, False]),
        "proposals": boxes[[3, 1, 0, 2, 2]],
        "proposal_mask": np.array([False, True, True, True, False]),
        "masks": np.full((ROWS, 8, 8), 255, np.uint8),
        "mask_frames": boxes,
        "keypoints": keypoints.astype(np.float32),
        "points": points,
        "visible": np.array([True, True, False]),
        "placement": np.float32([1, 1, 0, 0]),
        "extent": np.int32([24, 28]),
        "fixed": np.int32(3),
    }


def example_of(struct, **changes):
    given = arrays()
    fields = {name: given[kind] for name, kind in annotations_of(struct).items()}
    if struct is DetectionBatch:
        rows = {"labels": np.arange(ROWS, dtype=np.int32)}
        fields |= rows | dict.fromkeys(("crowd", "difficult"), np.zeros(ROWS, bool))
    if "mask" in fields:
        fields["mask"] = np.True_
    if "partners" in fields:
        fields["partners"] = None
    return struct(**{**fields, **changes})


STRUCTS = (
    ClassificationBatch,
    DetectionBatch,
    SegmentationBatch,
    LandmarkBatch,
    RestorationBatch,
    ImageBatch,
    EverythingBatch,
)
BENT = (ClassificationBatch, SegmentationBatch, RestorationBatch, ImageBatch)
UNPLACED = (ClassificationBatch, RestorationBatch, ImageBatch)
SWAP = (1, 0, 2)
GEOMETRIC = {
    "RandomFlip": augment.RandomFlip(1, swap=SWAP),
    "ScaleTranslate": augment.ScaleTranslate((0.8, 1.2), (0.9, 1.1), 0.1),
    "JitterCrop": augment.JitterCrop(0.2),
    "RandomCrop": augment.RandomCrop(4),
    "RandomResizedCrop": augment.RandomResizedCrop((0.5, 1.0)),
    "Rotate": augment.Rotate(30.0),
    "Elastic": augment.Elastic(2.0),
    "Symmetry": augment.Symmetry(swap=SWAP),
    "RandomZoomOut": augment.RandomZoomOut(1, (1.0, 1.5)),
}
COLOR = {
    "Cutout": augment.Cutout(3),
    "RandomPhotometricDistort": augment.RandomPhotometricDistort(),
    "ColorJitter": augment.ColorJitter(0.4, 0.4, 0.4, 0.1),
    "RandomHsv": augment.RandomHsv(),
    "RandAugment": augment.RandAugment(),
}
ALL = GEOMETRIC | COLOR
TABLE = [(name, struct) for name in ALL for struct in STRUCTS]


# By default one of each kind: a mirror, a window, a turn, a bend, colours.
QUICK = ["RandomFlip", "JitterCrop", "Rotate", "Elastic", "RandomHsv"]


def moves(names):
    """Those that take long to compile are slow."""
    names = [*names]
    return pytest.mark.parametrize("name", slow_but(names, [x for x in QUICK if x in names]))


def takes(name, struct):
    limited = {"Elastic": BENT, "RandAugment": UNPLACED}
    return struct in limited.get(name, STRUCTS)


def tried(name):
    """The structs of the default tests: one of the most kinds; the cheapest has every struct."""
    if name == "RandomFlip":
        return STRUCTS
    most = {"Elastic": SegmentationBatch, "RandAugment": ClassificationBatch}
    return (ImageBatch, most.get(name, EverythingBatch))


def is_quick(name, struct):
    return not takes(name, struct) or (name in QUICK and struct in tried(name))


every_pair = pytest.mark.parametrize(
    ("name", "struct"),
    long_but(
        TABLE,
        [pair for pair in TABLE if is_quick(*pair)],
        [pair for pair in TABLE if not is_quick(*pair) and pair[1] in tried(pair[0])],
    ),
    ids=[f"{name}-{struct.__name__}" for name, struct in TABLE],
)
# All but one move points.
every_move = moves(name for name in GEOMETRIC if name != "Elastic")


def forty_boxes():
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 26, (40, 2))
    boxes = np.concatenate([corner, np.minimum(corner + rng.uniform(1, 20, (40, 2)), SIDE)], axis=1)
    return DetectionBatch(
        image=arrays()["image"],
        boxes=boxes.astype(np.float32),
        labels=np.arange(40),
        box_mask=rng.random(40) < 0.8,
        crowd=np.zeros(40, bool),
        difficult=np.zeros(40, bool),
        mask=np.True_,
    )


def examples_for(name, structs):
    examples = {struct.__name__: example_of(struct) for struct in structs}
    if name in GEOMETRIC:
        examples["whole"] = example_of(ImageBatch, extent=np.int32([SIDE, SIDE]))
        if takes(name, DetectionBatch):
            examples["boxes"] = forty_boxes()
    return examples


@functools.lru_cache
def compiled(name):
    """(key, examples by name) -> results by the same names, and the draw, all in one program."""
    augmentation = ALL[name]

    def run(key, examples):
        results = {what: augmentation(key, example) for what, example in examples.items()}
        if name in GEOMETRIC:
            move = augmentation.draw(key, (SIDE, SIDE), jnp.array([SIDE, SIDE]))
            results["mirrored"] = move.mirrored
            if move.points is not None:
                results["corners"] = move.points(CORNERS)
        return results

    compiled_run = jax.jit(run)
    return lambda key, examples: jax.device_get(compiled_run(jax.random.key(key), examples))


@functools.lru_cache
def results_of(name, key=0, *, structs=()):
    structs = structs or tried(name)
    return compiled(name)(key, examples_for(name, structs))


def result_of(name, struct, key=0):
    structs = tried(name) if struct in tried(name) else (struct, ImageBatch)
    return results_of(name, key, structs=structs)[struct.__name__]


@every_pair
def test_every_augmentation_does_to_every_struct_what_its_kinds_say(name, struct):
    example = example_of(struct)
    if not takes(name, struct):
        with pytest.raises(InputError, match=rf"^{name} cannot move the .* of a {struct.__name__}"):
            ALL[name](jax.random.key(0), example)
        return
    result, kinds = result_of(name, struct), annotations_of(struct)
    plain = result_of(name, ImageBatch)
    for field, kind in kinds.items():
        before, after = getattr(example, field), getattr(result, field)
        if kind == "image":  # one draw for all, and the same one for all structs
            np.testing.assert_allclose(after, plain.image, atol=1e-3)
            assert after.dtype == plain.image.dtype
        elif (kind == "placement" and name in (*GEOMETRIC, "RandAugment")) or before is None:
            assert after is None
        elif kind == "fixed" or (kind != "extent" and name in COLOR):
            np.testing.assert_array_equal(after, before)
        else:
            assert after.shape == before.shape
            assert after.dtype == before.dtype


@every_move
def test_labels_masks_boxes_and_points_move_as_one(name):
    """What is at a point before is there after: by the labels of pixels, in plain numpy."""
    example, left = example_of(EverythingBatch), 0
    for key in range(3):
        result = result_of(name, EverythingBatch, key)
        shapes = paint_masks(result.shapes, result.frames, size=(SIDE, SIDE))
        names = SWAP if results_of(name, key)["mirrored"] else (0, 1, 2)
        for point, source in enumerate(names):
            for row, place, seen in (
                (None, result.corners[point], result.seen[point]),
                *((n, result.joints[n, point, :2], result.joints[n, point, 2]) for n in range(3)),
            ):
                if not seen:
                    assert not place.any()
                    continue
                start = example.corners[source] if row is None else example.joints[row, source, :2]
                x, y = np.minimum(place.astype(int), result.extent[::-1] - 1)
                from_x, from_y = start.astype(int)
                if from_x >= 28 or from_y >= 24:  # in the padding, where no image has a point
                    continue
                assert result.classes[y, x] == example.classes[from_y, from_x]
                left += 1
                x1, y1, x2, y2 = np.zeros(4) if row is None else example.places[row]
                if x1 <= from_x < x2 and y1 <= from_y < y2:
                    assert shapes[row, y, x] >= 0.5
                    x1, y1, x2, y2 = result.places[row]
                    assert x1 <= place[0] <= x2
                    assert y1 <= place[1] <= y2
                assert not seen or row is None or result.real[row]
        assert not result.real[3]
        assert not result.places[~result.real].any()
        assert not result.shapes[~result.real].any()
        assert not result.frames[~result.real].any()
        assert not result.joints[~result.real].any()
        # No label, and no pixel of the photo, comes from beyond the old extent to beyond the new.
        of_image = np.isin(result.classes, example.classes[:24, :28])
        rows, columns = np.nonzero(of_image)
        assert rows.max() < result.extent[0]
        assert columns.max() < result.extent[1]
    assert left > 8


@every_move
def test_boxes_are_around_their_moved_corners_clipped_and_dropped_as_the_reference(name):
    augmentation, example = ALL[name], forty_boxes()
    results = results_of(name, 5)
    result = results["boxes"]
    # The move is read off three points.
    origin, right, down = np.float64(results["corners"])
    moved = reference.around(
        example.boxes, lambda p: origin + p[0] * (right - origin) + p[1] * (down - origin)
    )
    rule = {"least_visible": augmentation.least_visible, "least_side": augmentation.least_side}
    expected, kept = reference.clip(moved, example.box_mask, (0, 0, SIDE, SIDE), **rule)
    np.testing.assert_array_equal(result.box_mask, kept)
    np.testing.assert_allclose(result.boxes, expected, atol=2e-3)


@moves(ALL)
def test_the_same_key_gives_the_same_and_others_give_others(name):
    image = results_of(name)["ImageBatch"].image
    again = compiled(name)(0, examples_for(name, tried(name)))
    jax.tree.map(np.testing.assert_array_equal, again, results_of(name))
    if name != "RandomFlip":  # with probability 1
        others = [results_of(name, key)["ImageBatch"].image for key in (1, 2, 3, 5)]
        assert any((other != image).any() for other in others)


def check_same(results, expected):
    for x, y in zip(jax.tree.leaves(results), jax.tree.leaves(expected), strict=True):
        if jnp.issubdtype(x.dtype, jnp.floating):
            np.testing.assert_allclose(x, y, atol=1e-3)
        else:
            assert (np.asarray(x) == y).mean() > 0.99


@pytest.mark.parametrize("name", slow_but(ALL, ["RandomFlip", "RandomHsv"]))
def test_the_same_key_gives_the_same_under_vmap_and_on_every_device(name):
    """Four devices with two keys each, against the keys one after another."""
    struct = tried(name)[-1]
    keys = jnp.stack([jax.random.key(n) for n in range(8)]).reshape(4, 2)
    over_keys = jax.vmap(ALL[name], in_axes=(0, None))
    results = jax.pmap(over_keys, in_axes=(0, None))(keys, example_of(struct))
    results = jax.tree.map(lambda x: x.reshape(8, *x.shape[2:]), jax.device_get(results))
    for key in (0, 1, 2, 3, 5):
        check_same(jax.tree.map(lambda x, k=key: x[k], results), result_of(name, struct, key))


@pytest.mark.parametrize("name", long_but(ALL, [], ["RandomFlip"]))
def test_the_same_key_gives_the_same_operation_by_operation(name):
    struct = tried(name)[-1]
    check_same(ALL[name](jax.random.key(0), example_of(struct)), result_of(name, struct))


@moves(GEOMETRIC)
def test_extents_that_are_the_whole_image_stay_so(name):
    for key in (0, 1, 2, 3, 5):
        results = results_of(name, key)
        assert results["whole"].extent.dtype == jnp.int32
        assert results["whole"].extent.tolist() == [SIDE, SIDE]
        extent = results["ImageBatch"].extent.tolist()
        assert extent == [24, 28] or (name == "Symmetry" and extent == [28, 24])


def test_a_flip_of_a_padded_image_leaves_its_padding_where_it_is():
    example, result = example_of(EverythingBatch), result_of("RandomFlip", EverythingBatch)
    assert result.extent.tolist() == [24, 28]
    for before, after in ((example.photo, result.photo), (example.classes, result.classes)):
        np.testing.assert_array_equal(after[:, :28], before[:, :28][:, ::-1])
        np.testing.assert_array_equal(after[:, 28:], before[:, 28:])
    np.testing.assert_array_equal(result.places[0], [12, 8, 24, 20])
    np.testing.assert_array_equal(result.corners[0], [28 - 22, 6])


def test_a_move_of_the_users_own_moves_everything():
    window, outside = np.float32([[8, 8, 24, 24], [-16, -16, 16, 16]])
    example = example_of(EverythingBatch)

    @jax.jit
    def both(example):
        move = augment.window_move(window, size=(SIDE, SIDE), fill=0)
        other = augment.window_move(outside, size=(SIDE, SIDE))
        moved = augment.apply_move(example, move, least_visible=0.0)
        return moved, augment.apply_move(example, other)

    result, other = jax.device_get(both(example))
    np.testing.assert_allclose(result.corners, [[4, 12], [0, 0], [0, 0]], atol=1e-4)
    assert result.seen.tolist() == [True, False, False]
    np.testing.assert_allclose(
        result.places, [[0, 0, 16, 24], [0, 0, 32, 32], [24, 0, 32, 8], [0, 0, 0, 0]], atol=1e-4
    )
    np.testing.assert_array_equal(result.classes[::2, ::2], example.classes[8:24, 8:24])
    assert result.extent.tolist() == [32, 32]
    assert (other.classes[:16] == 255).all()
    assert (other.photo[:16] == 127).all()
    # Frames are not clipped; cells of 3 pixels that are wholly outside become 0.
    np.testing.assert_allclose(
        result.frames, [[-8, 0, 16, 24], [-16, -16, 48, 48], [24, -8, 40, 8], [0] * 4], atol=1e-4
    )
    assert (result.shapes[0] == 255 * (np.arange(8) >= 2)).all()


def test_boxes_without_an_area_are_dropped_by_every_move():
    boxes = np.float32([[4, 4, 8, 8], [8, 8, 4, 4], [5, 5, 5, 9], [np.nan, 1, 5, 5]])
    example = example_of(DetectionBatch, boxes=boxes, box_mask=np.ones(ROWS, bool))
    examples = {**examples_for("RandomFlip", STRUCTS), "DetectionBatch": example}
    result = compiled("RandomFlip")(0, examples)["DetectionBatch"]
    assert result.box_mask.tolist() == [True, False, False, False]
    np.testing.assert_array_equal(result.boxes[0], [20, 4, 24, 8])


def test_keypoints_are_exchanged_in_the_mirror_and_keep_how_visible_they_are():
    example = example_of(DetectionBatch)
    result = result_of("RandomFlip", DetectionBatch)
    first = example.keypoints[0]
    width = example.extent[1]
    expected = [[width - first[1, 0], first[1, 1], 1], [width - first[0, 0], first[0, 1], 2]]
    expected.append([0] * 3)
    np.testing.assert_array_equal(result.keypoints[0], expected)


def test_structs_that_cannot_be_augmented_are_refused():
    @flax.struct.dataclass
    class NoMask:
        image: Array = annotation("image")
        boxes: Array = annotation("boxes")

    @flax.struct.dataclass
    class NoImage:
        label: Array = annotation("fixed")

    @flax.struct.dataclass
    class Undeclared:
        image: Array

    flip, key = augment.RandomFlip(), jax.random.key(0)
    given = arrays()
    with pytest.raises(InputError, match="has 0 fields of the kind 'box_mask': give it one"):
        flip(key, NoMask(image=given["image"], boxes=given["boxes"]))
    with pytest.raises(InputError, match="a NoImage has no image to augment"):
        flip(key, NoImage(label=np.int32(0)))
    with pytest.raises(InputError, match="the field image of Undeclared declares no kind"):
        flip(key, Undeclared(image=given["image"]))
    with pytest.raises(AssertionError, match=r"^depth is uint8\[8, 8, 1\]: give number\[32, 32, C"):
        flip(key, example_of(EverythingBatch, depth=np.zeros((8, 8, 1), np.uint8)))
    bend = augment.Move(lambda x: x, lambda x, fill: x, None, jnp.bool_(False))
    with pytest.raises(InputError, match="this augmentation cannot move the points of a Landmark"):
        augment.apply_move(example_of(LandmarkBatch), bend)


EVERY = {
    **GEOMETRIC,
    "RandomIoUCrop": augment.RandomIoUCrop(zoom_out=augment.RandomZoomOut()),
    "ScaleJitter": augment.ScaleJitter(),
    **COLOR,
    "Mosaic": augment.Mosaic(0.5),
    "Mixup": augment.Mixup(0.5),
    "ClassMixup": augment.ClassMixup(10, mixup=0.5),
    "Compose": augment.Compose((augment.RandomFlip(), augment.RandomHsv())),
}


@pytest.mark.parametrize("name", EVERY)
def test_augmentations_are_compared_hashed_and_written_by_their_fields(name):
    augmentation = EVERY[name]
    assert type(augmentation).__name__ == name
    fields = {
        field.name: getattr(augmentation, field.name) for field in dataclasses.fields(augmentation)
    }
    assert "partners" not in fields
    assert type(augmentation)(**fields) == augmentation
    assert hash(type(augmentation)(**fields)) == hash(augmentation)
    # Lists, as JSON and configs have them, are taken as tuples.
    lists = {key: list(x) if isinstance(x, tuple) else x for key, x in fields.items()}
    assert type(augmentation)(**lists) == augmentation
    assert hash(type(augmentation)(**lists)) == hash(augmentation)
    if name not in ("Compose", "RandomIoUCrop"):
        json.dumps(fields)
    with pytest.raises(dataclasses.FrozenInstanceError):
        augmentation.probability = 0.0


@pytest.mark.parametrize("name", EVERY)
def test_each_field_is_documented(name):
    _, _, text = inspect.getdoc(type(EVERY[name])).partition("Attributes:")
    documented = [
        line.split(":")[0].strip()
        for line in text.splitlines()
        if line.startswith("  ") and line[2:3] > " "
    ]
    assert documented == [field.name for field in dataclasses.fields(EVERY[name])]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("RandomFlip", {"probability": 0.5, "swap": ()}),
        ("ScaleTranslate", {"scale": (1, 1), "ratio": (1, 1), "translate": 0, "fill": 127}),
        ("ScaleTranslate", {"least_visible": 0.25, "least_side": 1.0}),
        ("JitterCrop", {"jitter": 0.3, "fill": 127, "least_visible": 0.25, "least_side": 1.0}),
        ("RandomResizedCrop", {"scale": (0.08, 1.0), "ratio": (3 / 4, 4 / 3)}),
        ("Elastic", {"sigma": 10.0, "cells": 2, "fill": 127}),
        ("RandomZoomOut", {"probability": 0.5, "side": (1, 4), "fill": 127}),
        ("RandomIoUCrop", {"options": (0, 0.1, 0.3, 0.5, 0.7, 0.9, 1), "scale": (0.3, 1)}),
        ("RandomIoUCrop", {"ratio": (0.5, 2), "trials": 40, "zoom_out": None}),
        ("ScaleJitter", {"scale": (0.1, 2.0), "fill": (123, 117, 104)}),
        ("RandomPhotometricDistort", {"brightness": (0.875, 1.125), "contrast": (0.5, 1.5)}),
        ("RandomPhotometricDistort", {"saturation": (0.5, 1.5), "hue": 0.05, "probability": 0.5}),
        ("RandomHsv", {"hue": 0.1, "saturation": 1.5, "value": 1.5}),
        ("RandAugment", {"num_ops": 2, "magnitude": 9}),
        ("Mosaic", {"probability": 1.0, "margin": 0.2, "least_visible": 0.25, "least_side": 1.0}),
        ("Mixup", {"probability": 1.0, "alpha": 1.5}),
    ],
)
def test_the_defaults(name, options):
    assert getattr(augment, name)(**options) == getattr(augment, name)()


@pytest.mark.parametrize(
    ("name", "options", "option", "message"),
    [
        ("RandomFlip", {"probability": 1.5}, "probability", "probability is 1.5: give at least 0"),
        ("RandomFlip", {"swap": (1, 2, 0)}, "swap", r"swap is \(1, 2, 0\): give for each point"),
        ("RandomFlip", {"swap": (3, 1, 2)}, "swap", r"swap is \(3, 1, 2\)"),
        ("Symmetry", {"swap": (1,)}, "swap", r"swap is \(1,\)"),
        ("ScaleTranslate", {"scale": (0, 1)}, "scale", r"scale is \(0, 1\): give two numbers"),
        ("ScaleTranslate", {"scale": 1.0}, "scale", "scale is 1.0: give two numbers"),
        ("ScaleTranslate", {"ratio": (2, 1)}, "ratio", r"ratio is \(2, 1\): .* smaller one first"),
        ("ScaleTranslate", {"translate": -1}, "translate", "translate is -1: give at least 0"),
        ("ScaleTranslate", {"fill": 300}, "fill", "fill is 300"),
        ("RandomCrop", {"padding": 1, "fill": (0, 0, 9)}, "fill", r"fill is \(0, 0, 9\): give"),
        ("Rotate", {"degrees": 1, "fill": (0, 0, 9)}, "fill", r"fill is \(0, 0, 9\): give"),
        ("JitterCrop", {"jitter": 0.5}, "jitter", "jitter is 0.5: .* less than 0.5"),
        ("JitterCrop", {"least_side": -1}, "least_side", "least_side is -1"),
        ("RandomCrop", {"padding": -1}, "padding", "padding is -1"),
        ("RandomCrop", {"padding": 2.5}, "padding", "padding is 2.5: give a whole number"),
        ("RandomResizedCrop", {"scale": (0.5, 1.1)}, "scale", r"scale is \(0.5, 1.1\): .* most 1"),
        ("RandomResizedCrop", {"least_visible": 2}, "least_visible", "least_visible is 2"),
        ("Cutout", {"size": 0}, "size", "size is 0: give"),
        ("Cutout", {"size": 3, "fill": 256}, "fill", "fill is 256"),
        ("Rotate", {"degrees": float("nan")}, "degrees", "degrees is nan"),
        ("Elastic", {"sigma": -1}, "sigma", "sigma is -1"),
        ("Elastic", {"cells": 0}, "cells", "cells is 0"),
        ("RandomZoomOut", {"side": (0.5, 2)}, "side", r"side is \(0.5, 2\): .* at least 1"),
        ("RandomZoomOut", {"fill": (0, 0, 256)}, "fill", "fill is 256"),
        ("RandomIoUCrop", {"options": ()}, "options", "options is empty"),
        ("RandomIoUCrop", {"options": (-1,)}, "options", "options is -1"),
        ("RandomIoUCrop", {"scale": (0.5, 1.5)}, "scale", r"scale is \(0.5, 1.5\)"),
        ("RandomIoUCrop", {"trials": 0}, "trials", "trials is 0"),
        ("ScaleJitter", {"scale": (0, 2)}, "scale", r"scale is \(0, 2\)"),
        ("RandomPhotometricDistort", {"contrast": (1, 0.5)}, "contrast", "smaller one first"),
        ("ColorJitter", {"hue": 0.6}, "hue", "hue is 0.6"),
        ("RandomHsv", {"value": 0.5}, "value", "value is 0.5"),
        ("RandAugment", {"magnitude": 31}, "magnitude", "magnitude is 31: .* at most 30"),
        ("RandAugment", {"num_ops": -1}, "num_ops", "num_ops is -1"),
        ("Mosaic", {"margin": 0.6}, "margin", "margin is 0.6"),
        ("Mosaic", {"least_visible": 2}, "least_visible", "least_visible is 2"),
        ("Mosaic", {"probability": -1}, "probability", "probability is -1"),
        ("Mixup", {"alpha": 0}, "alpha", "alpha is 0: give more than 0"),
        ("ClassMixup", {"num_classes": 0}, "num_classes", "num_classes is 0"),
        ("ClassMixup", {"num_classes": 3, "mixup": 1.5}, "mixup", "mixup is 1.5"),
        ("ClassMixup", {"num_classes": 3, "mixup_alpha": 0}, "mixup_alpha", "mixup_alpha is 0"),
        (
            "ClassMixup",
            {"num_classes": 3, "mixup": 0.6, "cutmix": 0.6},
            "cutmix",
            "cutmix is 0.6 and mixup is 0.6: give a sum of at most 1",
        ),
        ("Compose", {"steps": (3,)}, "steps", r"steps is \(3,\): give a tuple of functions"),
        ("Compose", {"steps": augment.RandomHsv()}, "steps", "steps is RandomHsv"),
    ],
)
def test_options_out_of_range_are_refused_by_the_name_of_the_field(name, options, option, message):
    with pytest.raises(OptionError, match=message) as error:
        getattr(augment, name)(**options)
    assert error.value.option == option
