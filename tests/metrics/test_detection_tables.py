"""The tables and what fills them: columns are checked, padding and filler are dropped."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.core import DetectionBatch, Detections, InputError
from jaxvision.metrics import (
    DetectionAccumulator,
    DetectionTable,
    ObjectTable,
    coco_average_precision,
    voc_average_precision,
)
from jaxvision.ops import encode_mask
from tests.metrics.detection_cases import hard_keypoint_tables, hard_tables

MASK = encode_mask(np.eye(4, dtype=bool))
DETECTIONS = {
    "image": np.int32([4, 4]),
    "boxes": np.float32([[0, 0, 1, 2], [3, 3, 5, 5]]),
    "scores": np.float32([0.5, -1]),
    "labels": np.uint8([0, 3]),
    "keypoints": np.float32([[[0, 1, 2]] * 5, [[3, 3, 0]] * 5]),
}
OBJECTS = {
    "image": np.int32([4, 4]),
    "boxes": np.float32([[0, 0, 1, 2], [3, 3, 5, 5]]),
    "labels": np.int64([0, 3]),
    "crowd": np.array([False, True]),
    "difficult": np.array([True, False]),
    "area": np.float32([1.5, 4]),
    "keypoints": np.float32([[[0, 1, 2]] * 5, [[3, 3, 0]] * 5]),
}


@pytest.mark.parametrize(
    ("table", "columns"), [(DetectionTable, DETECTIONS), (ObjectTable, OBJECTS)]
)
def test_columns_become_64_bits_wide(table, columns):
    result = table(**columns, masks=[MASK, MASK])
    assert len(result) == 2
    for mask in result.masks:
        np.testing.assert_array_equal(mask.counts, MASK.counts)
    assert len(result.masks) == 2
    for name, column in columns.items():
        stored = getattr(result, name)
        np.testing.assert_array_equal(stored, column)
        assert stored.dtype in (np.int64, np.float64, np.bool_)
    assert table(**columns).masks is None


@pytest.mark.parametrize(
    ("table", "columns"), [(DetectionTable, DETECTIONS), (ObjectTable, OBJECTS)]
)
def test_a_wrong_shape_or_dtype_names_the_column(table, columns):
    for name, column in columns.items():
        wrong_dtype = column.astype(float) if column.dtype.kind != "f" else column > 0
        # Of the first column, the length is the table's.
        for wrong in (
            wrong_dtype,
            column[0],
            column[:, None],
            column[: 1 if name != "image" else 2, None],
        ):
            with pytest.raises(AssertionError, match=f"^{name} is "):
                table(**{**columns, name: wrong})
    with pytest.raises(AssertionError, match="masks has 1 elements: give 2"):
        table(**columns, masks=[MASK])
    with pytest.raises(AssertionError, match=r"masks\[1\] is ndarray: give RunLengths"):
        table(**columns, masks=[MASK, np.eye(4)])


@pytest.mark.parametrize(
    ("table", "columns", "name", "value", "message"),
    [
        (DetectionTable, DETECTIONS, "boxes", np.nan, r"boxes of row 1 \(image 4\) is .*finite"),
        (DetectionTable, DETECTIONS, "scores", np.inf, "scores of row 1 .* is inf: .*finite"),
        (DetectionTable, DETECTIONS, "labels", -1, "labels of row 1 .* is -1: give at least 0"),
        (ObjectTable, OBJECTS, "boxes", -np.inf, "boxes of row 1 .*finite"),
        (
            ObjectTable,
            OBJECTS,
            "boxes",
            (3, 5, 5, 3),
            "boxes of row 1 .*give x1 <= x2 and y1 <= y2",
        ),
        (ObjectTable, OBJECTS, "labels", -2, "labels of row 1 .* is -2: give at least 0"),
        (ObjectTable, OBJECTS, "area", -0.5, "area of row 1 .* is -0.5: give at least 0"),
        (ObjectTable, OBJECTS, "keypoints", np.nan, "keypoints of row 1 .*give a finite number"),
        (DetectionTable, DETECTIONS, "keypoints", np.inf, "keypoints of row 1 .*a finite number"),
        (ObjectTable, OBJECTS, "area", np.nan, "area of row 1 .* is nan: give a finite number"),
    ],
)
def test_a_wrong_value_names_column_and_row(table, columns, name, value, message):
    column = columns[name].astype(int) if name == "labels" else columns[name].copy()
    column[1] = value
    with pytest.raises(InputError, match=message):
        table(**{**columns, name: column})


def rounded(table):
    """The table with floats that single precision holds."""
    floats = {
        name: column.astype(np.float32)
        for name, column in vars(table).items()
        if isinstance(column, np.ndarray) and column.dtype == float
    }
    return dataclasses.replace(table, **floats)


def padded(tables, ids, *, detections, objects, filler, rng, masks):
    """Arguments for `add`: images `ids` of the tables, and so many filler images between them."""
    slots = len(ids) + filler
    place = np.sort(rng.permutation(slots)[: len(ids)])
    image_ids = np.full(slots, ids[0] if len(ids) else 0)
    image_ids[place] = ids

    def laid_out(table, width):
        valid = np.zeros((slots, width), bool)
        rows = np.zeros((slots, width), int)
        for slot, image in zip(place, ids, strict=True):
            here = np.flatnonzero(table.image == image)
            # Padding may lie between what is valid.
            where = np.sort(rng.permutation(width)[: here.size])
            valid[slot, where], rows[slot, where] = True, here

        def column(x, rubbish):
            mask = valid.reshape(*valid.shape, *[1] * (x.ndim - 1))
            values = x[rows] if len(x) else np.zeros((*rows.shape, *x.shape[1:]), x.dtype)
            return np.where(mask, values, rubbish).astype(x.dtype)

        chosen = None
        if masks:
            chosen = [
                [table.masks[row] if ok else None for row, ok in zip(r, v, strict=True)]
                for r, v in zip(rows, valid, strict=True)
            ]
        # In filler images everything looks real.
        real = valid.copy()
        real[np.setdiff1d(np.arange(slots), place)] = True
        return real, column, chosen

    found_valid, found, found_masks = laid_out(tables[0], detections)
    truth_valid, truth, truth_masks = laid_out(tables[1], objects)
    struct = Detections(
        boxes=jnp.asarray(found(tables[0].boxes, np.nan)),
        scores=jnp.asarray(found(tables[0].scores, np.inf)),
        labels=jnp.asarray(found(tables[0].labels, -1)),
        valid=jnp.asarray(found_valid),
        keypoints=None if tables[0].keypoints is None else found(tables[0].keypoints, np.nan),
    )
    batch = DetectionBatch(
        image=np.zeros((slots, 2, 2, 3), np.uint8),
        boxes=truth(tables[1].boxes, np.nan),
        labels=truth(tables[1].labels, -1),
        box_mask=truth_valid,
        crowd=truth(tables[1].crowd, True),
        difficult=truth(tables[1].difficult, True),
        mask=np.isin(np.arange(slots), place),
        keypoints=None if tables[1].keypoints is None else truth(tables[1].keypoints, np.nan),
    )
    options = {"detection_masks": found_masks, "object_masks": truth_masks} if masks else {}
    if tables[1].area is not None:
        options["area"] = truth(tables[1].area, np.nan)
    return (struct, batch, image_ids), options


@pytest.mark.parametrize("iou_type", ["bbox", "segm", "keypoints"])
def test_padding_and_filler_change_nothing(iou_type):
    masks = iou_type == "segm"
    for seed in range(8):
        rng = np.random.default_rng([5, seed])
        if iou_type == "keypoints":
            *tables, num_classes = hard_keypoint_tables(rng, most=20)
        else:
            *tables, num_classes = hard_tables(rng, masks=masks, most=20)
        tables = [rounded(table) for table in tables]
        expected = coco_average_precision(*tables, num_classes=num_classes, iou_type=iou_type)
        voc = voc_average_precision(*tables, num_classes=num_classes)
        ids = np.union1d(tables[0].image, tables[1].image)
        accumulator = DetectionAccumulator()
        for part in np.array_split(rng.permutation(ids), 2):
            arguments, options = padded(
                tables, part, detections=20, objects=20, filler=2, rng=rng, masks=masks
            )
            accumulator.add(*arguments, **options)
        collected = accumulator.tables()
        assert [len(table) for table in collected] == [len(table) for table in tables]
        result = coco_average_precision(*collected, num_classes=num_classes, iou_type=iou_type)
        np.testing.assert_array_equal(result.precision, expected.precision)
        np.testing.assert_array_equal(result.recall, expected.recall)
        np.testing.assert_array_equal(
            voc_average_precision(*collected, num_classes=num_classes).class_ap, voc.class_ap
        )


def one_batch(images=2):
    detections = Detections(
        boxes=jnp.asarray(np.ones((images, 3, 4), jnp.bfloat16)),
        scores=jnp.asarray(np.ones((images, 3), jnp.bfloat16)),
        labels=jnp.asarray(np.zeros((images, 3), np.int32)),
        valid=jnp.asarray(np.ones((images, 3), bool)),
    )
    batch = DetectionBatch(
        image=np.zeros((images, 2, 2, 3), np.uint8),
        boxes=np.ones((images, 5, 4), np.float32),
        labels=np.zeros((images, 5), np.int32),
        box_mask=np.ones((images, 5), bool),
        crowd=np.zeros((images, 5), bool),
        difficult=np.zeros((images, 5), bool),
        mask=np.ones(images, bool),
    )
    return detections, batch


def test_the_order_of_adding_is_kept():
    accumulator = DetectionAccumulator()
    detections, batch = one_batch()
    accumulator.add(detections, batch, [5, 2])
    accumulator.add(detections, batch.replace(mask=np.array([False, True])), jnp.array([5, 3]))
    found, objects = accumulator.tables()
    np.testing.assert_array_equal(found.image, np.repeat([5, 2, 3], 3))
    np.testing.assert_array_equal(objects.image, np.repeat([5, 2, 3], 5))


def test_nothing_added_gives_empty_tables():
    found, objects = DetectionAccumulator().tables()
    assert len(found) == len(objects) == 0
    assert np.isnan(coco_average_precision(found, objects, num_classes=1).stats["AP"])


def test_an_image_is_added_once():
    accumulator = DetectionAccumulator()
    detections, batch = one_batch()
    with pytest.raises(InputError, match="image id 7 is given twice"):
        accumulator.add(detections, batch, np.array([7, 7]))
    accumulator.add(detections, batch, np.array([1, 2]))
    with pytest.raises(InputError, match="image id 2 is given twice"):
        accumulator.add(detections, batch, np.array([3, 2]))
    # What failed left nothing behind.
    accumulator.add(detections, batch, np.array([3, 4]))
    np.testing.assert_array_equal(np.unique(accumulator.tables()[0].image), [1, 2, 3, 4])


def test_a_failed_batch_leaves_nothing_behind():
    accumulator = DetectionAccumulator()
    detections, batch = one_batch()
    wrong = batch.replace(labels=batch.labels - 1)
    with pytest.raises(InputError, match=r"labels of row 0 .image 1. is -1"):
        accumulator.add(detections, wrong, np.array([1, 2]))
    accumulator.add(detections, batch, np.array([1, 2]))
    assert [len(table) for table in accumulator.tables()] == [6, 10]


def test_masks_and_areas_come_with_all_batches_or_none():
    detections, batch = one_batch()
    for name, options in {
        "area": {"area": np.ones((2, 5), np.float32)},
        "masks": {"object_masks": [[MASK] * 5] * 2},
    }.items():
        accumulator = DetectionAccumulator()
        accumulator.add(detections, batch, np.array([1, 2]), **options)
        accumulator.add(detections, batch, np.array([3, 4]))
        with pytest.raises(InputError, match=f"{name} was given with some batches only"):
            accumulator.tables()


def test_keypoints_come_with_all_batches_or_none():
    detections, batch = one_batch()
    accumulator = DetectionAccumulator()
    keypoints = np.zeros((2, 3, 4, 3), np.float32)
    accumulator.add(detections.replace(keypoints=keypoints), batch, np.array([1, 2]))
    accumulator.add(detections, batch, np.array([3, 4]))
    with pytest.raises(InputError, match="keypoints was given with some batches only"):
        accumulator.tables()
    with pytest.raises(AssertionError, match=r"^detections.keypoints is "):
        accumulator.add(detections.replace(keypoints=keypoints[:, 1:]), batch, np.array([5, 6]))


@pytest.mark.parametrize("part", ["detections", "batch", "other"])
def test_a_wrong_batch_names_the_argument(part):
    detections, batch = one_batch()
    ids = np.array([1, 2])

    def add(detections=detections, batch=batch, ids=ids, **options):
        DetectionAccumulator().add(detections, batch, ids, **options)

    if part == "other":
        with pytest.raises(AssertionError, match=r"^image_ids is "):
            add(ids=np.array([1, 2, 3]))
        with pytest.raises(AssertionError, match=r"^image_ids is "):
            add(ids=np.array([1.0, 2.0]))
        with pytest.raises(AssertionError, match=r"^area is "):
            add(area=np.ones((2, 4), np.float32))
        with pytest.raises(AssertionError, match=r"^object_masks: give 2 sequences of 5"):
            add(object_masks=[[MASK] * 4] * 2)
        with pytest.raises(AssertionError, match=r"^detection_masks: give 2 sequences of 3"):
            add(detection_masks=[[MASK] * 3])
        return
    struct = {"detections": detections, "batch": batch}[part]
    names = {
        "detections": ["boxes", "scores", "labels", "valid"],
        "batch": ["boxes", "labels", "box_mask", "crowd", "difficult", "mask"],
    }[part]
    for name in names:
        right = np.asarray(getattr(struct, name))
        wrong_dtype = right > 0 if right.dtype != bool else right.astype(np.float32)
        for wrong in (right[0], right[..., None], wrong_dtype):
            with pytest.raises(AssertionError, match=f"^{part}.{name} is "):
                add(**{part: struct.replace(**{name: wrong})})
