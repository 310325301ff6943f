"""The detection task: what is trained, what is found, and what it is worth."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import augment as aug
from jaxvision.core import (
    DetectionBatch,
    Detections,
    ImageBatch,
    InputError,
    Inputs,
    Keys,
    OptionError,
)
from jaxvision.losses import yolov2_loss
from jaxvision.metrics import (
    DetectionTable,
    ObjectTable,
    coco_average_precision,
    count_confusions,
    matched_classes,
)
from jaxvision.models import create_model
from jaxvision.ops import box_area, encode_mask
from jaxvision.tasks import (
    RESTORE,
    DetectOptions,
    Detector,
    detection,
    detectors,
    with_frozen_statistics,
)
from jaxvision.tasks.detection_metrics import detection_table, object_table
from jaxvision.tasks.inference import predictions_of
from tests.marks import long_but, slow_but
from tests.models.variables import random_values
from tests.tasks.loop import as_json, evaluate, with_filler

STAGES = ((0, ((4, 3),)), (1, ((4, 3),)), (2, ((4, 3),)), (3, ((4, 3),)))
BACKBONE = {"name": "plain_darknet", "stages": STAGES}
SIZE = 32
ANCHORS = ((4, 4), (8, 8), (16, 16), (24, 24))
NAMES = ("cat", "dog", "cow")
INPUTS = Inputs((SIZE, SIZE), resize="letterbox")


def model_of(version, **fields):
    given = {"num_classes": 3}
    if version == "yolov1":
        given |= {"stages": STAGES, "convolutions": ((4, 1),), "hidden": (8,)}
    else:
        given["backbone"] = BACKBONE
    if version == "yolov2":
        given |= {"level": 3, "convolutions": (4,), "passthrough": 4}
    if version in ("yolov3", "yolov4"):
        given["scales"] = ((3, None, ((4, 1),), 4), (2, 4, (), 4))
    name = "yolov3" if version == "yolov4" else version
    return create_model(name, **{**given, **fields})


def detector_of(version="yolov2", *, fields=(), anchors=ANCHORS, **options):
    model = model_of(version, **dict(fields))
    if version == "yolov4":
        options = {"scale_x_y": (1.05, 1.2), **options}
    arguments = (model,) if version == "yolov1" else (model, anchors)
    return getattr(detectors, version)(*arguments, **options)


def make(version="yolov2", *augment, inputs=INPUTS, train_difficult=False, **options):
    return detection(
        detector_of(version, **options),
        inputs,
        class_names=NAMES,
        augment=augment,
        train_difficult=train_difficult,
    )


VERSIONS = ("yolov1", "yolov2", "yolov3", "yolov4")
every_version = pytest.mark.parametrize("version", slow_but(VERSIONS, ["yolov2"]))
task_of = functools.cache(make)  # as compiling takes longer than all the rest


def batch_of(size=2, boxes=4, seed=0, **changes):
    """Images with 1 or 2 objects, padded with nonsense."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, SIZE - 12, (size, boxes, 2))
    sides = rng.uniform(4, 12, (size, boxes, 2))
    fields = {
        "image": rng.integers(0, 256, (size, SIZE, SIZE, 3), np.uint8),
        "boxes": np.concatenate([corners, corners + sides], -1).astype("f4"),
        "labels": rng.integers(0, 3, (size, boxes)).astype("i4"),
        "box_mask": np.arange(boxes)[None] < rng.integers(1, 3, (size, 1)),
        "crowd": np.zeros((size, boxes), bool),
        "difficult": np.zeros((size, boxes), bool),
        "mask": np.ones(size, bool),
        "extent": np.full((size, 2), SIZE, np.int32),
        "placement": np.tile(np.float32([0.5, 0.25, 2, 0]), (size, 1)),
        "size": np.tile(np.int32([100, 50]), (size, 1)),
        "area": np.ones((size, boxes), "f4"),
    }
    return DetectionBatch(**{**fields, **changes})


def records_of(batch, **changes):
    """The objects of a batch as a source has them: in pixels of the original, without padding."""
    scale, offset = np.float32([0.5, 0.25] * 2), np.float32([2, 0] * 2)
    records = []
    for index in range(len(batch.mask)):
        real = np.asarray(batch.box_mask[index])
        record = {
            "boxes": (np.asarray(batch.boxes[index], np.float64)[real] - offset) / scale,
            "labels": np.asarray(batch.labels[index])[real],
            "crowd": np.asarray(batch.crowd[index])[real],
            "difficult": np.asarray(batch.difficult[index])[real],
            "area": None,
            "masks": None,
            "size": (100, 50),
        }
        records.append({**record, **changes})
    return records


def outputs_of(task, variables, batch):
    def run(variables, batch):
        batch = jax.vmap(task.prepare)(batch)
        outputs, _ = task.forward(variables, batch, keys=None, step=0, train=False)
        return outputs

    return jax.jit(run)(variables, batch)


@functools.cache
def losses(task_loss, prepare, forward):
    def run(variables, batch):
        batch = jax.vmap(prepare)(batch)
        outputs, _ = forward(variables, batch, keys=None, step=0, train=False)
        one = functools.partial(task_loss, key=None, step=jnp.int32(0))
        return jax.vmap(one)(outputs, batch)

    return jax.jit(run)


def terms_of(task, variables, batch):
    return losses(task.loss, task.prepare, task.forward)(variables, batch)


@functools.cache
def variables_of(version):
    return random_values(jax.eval_shape(task_of(version).init, jax.random.key(0)))


@functools.cache
def program_of(version):
    task = task_of(version)

    @jax.jit
    def run(variables, batch):
        batch = jax.vmap(task.prepare)(batch)
        outputs, _ = task.forward(variables, batch, keys=None, step=0, train=False)
        loss = functools.partial(task.loss, key=None, step=jnp.int32(0))
        return outputs, jax.vmap(loss)(outputs, batch), jax.vmap(task.decode)(outputs, batch)

    return run


def results_of(version, batch):
    """(outputs, terms of the loss, what is found), of one program for each version."""
    return jax.device_get(program_of(version)(variables_of(version), batch))


def terms_of_maps(task, outputs, batch):
    """Terms of the loss, without running the network."""

    def loss(outputs, example):
        return task.loss(outputs, task.prepare(example), key=None, step=jnp.int32(0))

    return jax.device_get(jax.jit(jax.vmap(loss))(outputs, batch))


def padded(batch, extra):
    """With rows of nonsense at the end that are no boxes."""

    def more(x, value):
        shape = (len(x), extra, *x.shape[2:])
        return np.concatenate([x, np.full(shape, value, x.dtype)], axis=1)

    return batch.replace(
        boxes=more(batch.boxes, np.nan),
        labels=more(batch.labels, 99),
        box_mask=more(batch.box_mask, False),
        crowd=more(batch.crowd, True),
        difficult=more(batch.difficult, True),
        area=more(batch.area, np.nan),
    )


@every_version
def test_every_version_finds_as_many_as_it_may_and_padding_changes_nothing(version):
    task, batch = task_of(version), batch_of()
    outputs, terms, found = results_of(version, batch)
    assert {weight.tolist() == [1, 1] for _, weight in terms.values()} == {True}

    more = terms_of_maps(task, outputs, padded(batch, 3))
    for name, (total, _) in terms.items():
        np.testing.assert_allclose(more[name][0], total, rtol=1e-6, err_msg=name)
    assert found.boxes.shape == (2, 100, 4)
    assert found.valid.any()
    assert (found.boxes >= 0).all()
    assert (found.boxes <= SIZE).all()
    assert (np.diff(found.scores, axis=1) <= 0).all()


@every_version
def test_crowds_and_difficult_objects_are_not_trained_on(version):
    batch = batch_of().replace(box_mask=np.arange(4)[None] < np.array([[2], [2]]))
    second = np.arange(4)[None] == np.array([[1], [1]])
    _, without, _ = results_of(version, batch.replace(box_mask=batch.box_mask & ~second))
    for flag in ("crowd", "difficult"):
        _, terms, _ = results_of(version, batch.replace(**{flag: second}))
        for name, (total, _) in without.items():
            np.testing.assert_allclose(terms[name][0], total, rtol=1e-6)
    _, all_of_them, _ = results_of(version, batch)
    assert any(
        not np.allclose(all_of_them[name][0], total, rtol=1e-4)
        for name, (total, _) in without.items()
    )


def test_difficult_objects_are_trained_on_if_the_task_is_told_so():
    task = task_of("yolov2", train_difficult=True)
    batch = batch_of()
    outputs, plain, _ = results_of("yolov2", batch)

    run = jax.jit(jax.vmap(functools.partial(task.loss, key=None, step=0)))
    flagged = run(outputs, batch.replace(difficult=batch.box_mask))
    crowd = run(outputs, batch.replace(crowd=batch.box_mask))
    np.testing.assert_array_equal(flagged["class"][0], plain["class"][0])
    assert (crowd["class"][0] == 0).all()


@pytest.mark.slow
def test_the_anchors_of_yolov3_go_by_size_the_largest_to_the_coarsest_map():
    task = task_of("yolov3")
    shuffled = make("yolov3", anchors=tuple(ANCHORS[i] for i in (2, 0, 3, 1)))
    batch = batch_of()
    outputs, _, _ = results_of("yolov3", batch)
    # A box as large as its anchor in the only cell of the coarse map with some objectness.
    maps = {name: np.full(x.shape[1:], -9.0, "f4") for name, x in outputs.items()}
    maps["logits3"][1, 2, 1] = [0, 0, 0, 0, 9, 9, -9, -9]
    maps["logits2"][3, 3, 0] = [0, 0, 0, 0, 8, 9, -9, -9]
    for each in (task, shuffled):
        found = jax.jit(each.decode)(maps, first(batch))
        sides = found.boxes[:2, 2:] - found.boxes[:2, :2]
        np.testing.assert_allclose(sides, [[24, 24], [4, 4]], rtol=1e-5)
        np.testing.assert_allclose(found.boxes[1], [12, 12, 16, 16], rtol=1e-5)


@pytest.mark.slow
def test_self_adversarial_training_makes_what_is_found_vanish():
    """A step of the images lowers the scores of confident predictions, in some of the images."""
    options = {"adversarial_rate": 0.05, "adversarial_start": 3}
    task = make("yolov4", **options)
    sure = make("yolov4", **options, adversarial_probability=1.0)
    batch, variables = batch_of(16), variables_of("yolov4")
    keys = Keys(jax.random.split(jax.random.key(0), 16), jax.random.key(1))

    @jax.jit
    def run(variables, batch):
        batch = jax.vmap(task.prepare)(batch)

        def scores_of(batch):
            outputs, _ = task.forward(variables, batch, keys=None, step=0, train=False)
            boxes = [outputs[name].reshape(16, -1, 8) for name in ("logits3", "logits2")]
            x = jax.nn.sigmoid(jnp.concatenate(boxes, axis=1)[..., 4:])
            return x[..., :1] * x[..., 1:]

        changed = {
            (step, name): each.perturb(variables, batch, keys=keys, step=jnp.int32(step))
            for name, each in (("some", task), ("all", sure))
            for step in (2, 3)
        }
        images = {name: x.image for name, x in changed.items()}
        return batch.image, images, scores_of(batch), scores_of(changed[3, "all"])

    image, images, before, after = jax.device_get(run(variables, batch))
    for name in ("some", "all"):
        np.testing.assert_array_equal(images[2, name], image)
    moved = (images[3, "all"] != image).any(axis=(1, 2, 3))
    confident = (before > 0.25).any(axis=(1, 2))
    np.testing.assert_array_equal(moved, confident)
    some = (images[3, "some"] != image).any(axis=(1, 2, 3))
    assert 0 < some.sum() < moved.sum()
    np.testing.assert_array_equal(images[3, "some"][some], images[3, "all"][some])
    assert images[3, "all"].min() >= 0
    assert images[3, "all"].max() <= 1
    assert after[before > 0.25].mean() < before[before > 0.25].mean()
    assert make("yolov4").perturb is None


def test_the_anchors_of_yolov4_are_those_of_its_masks():
    maps = {
        "logits3": np.full((4, 4, 2, 8), -9.0, "f4"),
        "logits2": np.full((8, 8, 2, 8), -9, "f4"),
    }
    maps["logits3"][1, 2, 1] = [0, 0, 0, 0, 9, 9, -9, -9]
    maps["logits2"][3, 3, 0] = [9, -9, 0, 0, 8, 9, -9, -9]
    expected = {(): [(24, 24), (4, 4)], ((3, 0), (2, 1)): [(4, 4), (16, 16)]}
    for masks, sides in expected.items():
        detector = detector_of("yolov4", masks=masks)
        found = jax.jit(detector.decode)(maps, first(batch_of()))
        places = [(20, 12), (14 + 2 * 1.2, 14 - 2 * 1.2)]
        for box, (x, y), (w, h) in zip(found.boxes, places, sides, strict=False):
            corners = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
            np.testing.assert_allclose(box, corners, atol=2e-3)


def first(batch):
    return jax.tree.map(lambda x: x[0], batch)


def test_detections_are_kept_in_pixels_of_the_original():
    task, batch = task_of("yolov2"), batch_of()
    outputs, _, decoded = results_of("yolov2", batch)
    found = jax.device_get(jax.jit(jax.vmap(task.dataset_metric.collect))(outputs, batch))
    scale, offset = np.float32([0.5, 0.25] * 2), np.float32([2, 0] * 2)
    expected = np.clip((decoded.boxes - offset) / scale, 0, [50, 100, 50, 100])
    np.testing.assert_allclose(found.boxes, expected, rtol=1e-5, atol=1e-4)
    assert (found.boxes[..., 2] == 50).any(), "some reach beyond the original, beside the letterbox"
    np.testing.assert_array_equal(found.scores, decoded.scores)


def maps_of(logits=()):
    """Maps of the small yolov2 that say nothing but what is given: (row, column, anchor) -> t."""
    maps = np.full((4, 4, 4, 8), -9.0, "f4")
    for place, values in dict(logits).items():
        maps[place] = values
    return {"logits": maps}


def test_a_detection_is_clipped_to_the_part_of_the_input_that_shows_the_image():
    """A box of 24 x 24 around (20, 20), of an image of 18 rows and 25 columns."""
    maps, task = maps_of({(2, 2, 3): [0, 0, 0, 0, 9, 9, -9, -9]}), task_of("yolov2")
    batch = batch_of(extent=np.tile(np.int32([18, 25]), (2, 1)))
    examples = (
        first(batch),
        first(ImageBatch(image=batch.image, mask=batch.mask, extent=batch.extent)),
        first(batch).replace(extent=None),
    )
    run = jax.jit(lambda maps, examples: [task.decode(maps, example) for example in examples])
    *cut, whole = jax.device_get(run(maps, examples))
    for found in cut:
        np.testing.assert_allclose(found.boxes[0], [8, 8, 25, 18], rtol=1e-5)
    np.testing.assert_allclose(whole.boxes[0], [8, 8, 32, 32], rtol=1e-5)


def perfect(batch):
    """Detections that are the objects themselves, in pixels of the original."""
    scale, offset = np.float32([0.5, 0.25] * 2), np.float32([2, 0] * 2)
    return Detections(
        boxes=(batch.boxes - offset) / scale,
        scores=np.where(batch.box_mask, 0.9, 0).astype("f4"),
        labels=batch.labels,
        valid=batch.box_mask,
    )


def summary_of(found, records):
    return task_of("yolov2").dataset_metric.summarize(found, records)


def test_voc_may_add_the_last_pixel_to_detections():
    """An object in pixels 0 to 9 is [0, 0, 10, 10] here; a script finds [0, 0, 9, 4] in its file,
    and counts 10 x 5 pixels: an IoU of 0.5, instead of 0.36."""
    records = [
        {
            "boxes": np.float64([[0, 0, 10, 10]]),
            "labels": np.array([0]),
            "crowd": np.array([False]),
            "difficult": np.array([False]),
        }
    ]
    found = Detections(
        boxes=np.float32([[[0, 0, 9, 4]]]),
        scores=np.float32([[0.9]]),
        labels=np.array([[0]]),
        valid=np.array([[True]]),
    )
    parts = as_json(task_of("yolov2"))
    assert parts["dataset_metric"] == {"voc_inclusive": False, "confusion_score": 0.3}
    inclusive = RESTORE["detection"]({**parts, "dataset_metric": {"voc_inclusive": True}})
    for task, expected in ((inclusive, 1), (task_of("yolov2"), 0)):
        numbers = task.dataset_metric.summarize(found, records).numbers
        assert numbers["mAP_VOC"] == expected
        assert numbers["AP50"] == 0


def test_what_equals_the_objects_has_an_ap_of_one():
    batch = batch_of(8)
    records = [{**x, "area": np.ones(len(x["labels"]))} for x in records_of(batch)]
    numbers, tables = summary_of(perfect(batch), records)
    assert numbers["AP"] == numbers["AP50"] == numbers["AP75"] == numbers["mAP_VOC"] == 1
    assert numbers["AP_small"] == 1
    assert "AP_large" not in numbers, "no object is large: the area counts"
    counts = np.bincount(batch.labels[batch.box_mask], minlength=3)
    np.testing.assert_array_equal(tables["class_objects"], counts)
    assert (counts > 0).sum() == 2, "a class without objects has no average precision"
    for name in ("class_ap", "class_ap50"):
        np.testing.assert_array_equal(tables[name], np.where(counts > 0, 1, np.nan))
    few = batch.replace(box_mask=batch.box_mask & (np.arange(8)[:, None] < 4))
    assert 0 < summary_of(perfect(few), records).numbers["AP"] < 1
    surer = np.tile(np.where(np.arange(8)[:, None] < 4, 0.5, 0.9), 4).astype("f4")
    of_few = [x if number < 4 else none_of(x) for number, x in enumerate(records)]
    assert summary_of(perfect(batch).replace(scores=surer), of_few).numbers["AP"] < 1


def none_of(record):
    arrays = {name: x[:0] for name, x in record.items() if isinstance(x, np.ndarray)}
    return {**record, **arrays}


def test_the_summary_is_cocos_of_the_same_tables():
    batch, rng = batch_of(12), np.random.default_rng(3)
    found = perfect(batch)
    shift = rng.normal(scale=2, size=found.boxes.shape).astype("f4")
    boxes = np.sort(np.clip(found.boxes + shift, 0, 100).reshape(12, 4, 2, 2), axis=2)
    scores = np.where(found.valid, rng.uniform(0.1, 1, (12, 4)), 0)
    found = found.replace(boxes=boxes.reshape(12, 4, 4), scores=scores.astype("f4"))
    records = records_of(batch)
    numbers, tables = summary_of(found, records)
    rows = [(i, j) for i in range(12) for j in range(4) if found.valid[i, j]]
    detections = DetectionTable(
        image=np.array([i for i, _ in rows]),
        boxes=np.array([found.boxes[i, j] for i, j in rows], np.float64),
        scores=np.array([found.scores[i, j] for i, j in rows], np.float64),
        labels=np.array([found.labels[i, j] for i, j in rows]),
    )
    of = {
        name: np.concatenate([x[name] for x in records])
        for name in ("boxes", "labels", "crowd", "difficult")
    }
    image = np.repeat(np.arange(12), [len(x["labels"]) for x in records])
    objects = ObjectTable(image=image, **of, area=np.asarray(box_area(of["boxes"].astype("f4"))))
    expected = coco_average_precision(detections, objects, num_classes=3)
    assert 0 < numbers["AP"] < 1
    for name, number in expected.stats.items():
        if np.isnan(number):
            assert name not in numbers
        else:
            assert numbers[name] == pytest.approx(number), name
    np.testing.assert_allclose(tables["class_ap"], expected.class_ap)
    np.testing.assert_allclose(tables["class_ap50"], expected.class_ap50)
    for percent in (50, 75):
        curves = tables[f"precision{percent}"]
        np.testing.assert_array_equal(curves[1], expected.curve(1, iou_threshold=percent / 100)[1])
        np.testing.assert_allclose(np.nanmean(curves), expected.stats[f"AP{percent}"])
        np.testing.assert_allclose(tables[f"class_ap{percent}"], curves.mean(axis=1))
    matches = matched_classes(detections, objects, num_classes=3, score_threshold=0.3)
    confusions = count_confusions(*matches, num_classes=4)
    assert 0 < np.trace(confusions) < confusions.sum()
    np.testing.assert_array_equal(tables["confusions"], confusions)
    np.testing.assert_array_equal(tables["confusion_objects"], confusions.sum(axis=1))
    wrong = confusions[~np.eye(4, dtype=bool)]
    assert tables["confused_pairs"][:, 2].sum() == wrong.sum()


def test_without_any_object_or_image_the_numbers_are_zero():
    batch = batch_of()
    empty = batch.replace(box_mask=np.zeros_like(batch.box_mask))
    none = jax.tree.map(lambda x: x[:0], batch)
    for each in (empty, none):
        numbers, tables = summary_of(perfect(each), records_of(each))
        assert numbers == {"AP": 0, "AP50": 0, "AP75": 0, "mAP_VOC": 0}
        np.testing.assert_array_equal(tables["class_objects"], [0, 0, 0])
        assert np.isnan(tables["class_ap"]).all()
        assert np.isnan(tables["precision50"]).all()
        assert tables["confusions"].shape == (4, 4)
        assert not tables["confusions"].any()
    # Detections where there are no objects.
    numbers, _ = summary_of(perfect(batch), records_of(empty))
    assert numbers["AP"] == numbers["mAP_VOC"] == 0
    assert set(task_of("yolov2").dataset_metric.names) == {"AP", "AP50", "AP75", "mAP_VOC"}


def test_crowds_do_not_count_for_coco_nor_difficult_objects_for_voc():
    batch = batch_of(4)
    first_of_all = np.arange(4)[None] == np.zeros((4, 1), int)
    found = perfect(batch.replace(box_mask=batch.box_mask & ~first_of_all))
    without, _ = summary_of(found, records_of(batch))
    crowds, _ = summary_of(found, records_of(batch.replace(crowd=first_of_all)))
    difficult, _ = summary_of(found, records_of(batch.replace(difficult=first_of_all)))
    assert crowds["AP"] == 1 > without["AP"]
    assert crowds["mAP_VOC"] == without["mAP_VOC"] < 1
    assert difficult["mAP_VOC"] == 1
    assert difficult["AP"] == without["AP"]


def test_an_object_without_an_area_has_that_of_its_mask_or_else_of_its_box():
    mask = np.zeros((100, 50), bool)
    mask[10:14, 20:25] = True
    record = {
        "boxes": np.float64([[20, 10, 25, 18]]),
        "labels": np.array([1]),
        "crowd": np.array([False]),
        "difficult": np.array([False]),
        "size": (100, 50),
    }
    masks = (encode_mask(mask),)
    assert object_table([record]).area.tolist() == [40]
    assert object_table([{**record, "area": None, "masks": masks}]).area.tolist() == [20]
    assert object_table([{**record, "area": [7.0], "masks": masks}]).area.tolist() == [7]
    assert len(object_table([])) == len(detection_table(first_of_none())) == 0


def first_of_none():
    return jax.tree.map(lambda x: x[:0], perfect(batch_of()))


AUGMENTED = (
    aug.Mosaic(0.5),
    aug.Mixup(0.5),
    aug.ScaleTranslate(scale=(0.8, 1.2)),
    aug.RandomFlip(0.5),
)


@pytest.mark.long
def test_all_augmentation_together():
    task = make("yolov2", *AUGMENTED)
    assert task.partners == 4
    batch = batch_of(8)
    others = jax.tree.map(lambda x: np.stack([x] * 4, axis=1), batch_of(8, seed=1))
    keys = jax.random.split(jax.random.key(0), 8)
    augment = jax.jit(jax.vmap(task.augment))
    result = augment(keys, batch.replace(partners=others))
    assert result.image.shape == batch.image.shape
    assert result.boxes.shape == batch.boxes.shape
    assert result.partners is result.placement is result.size is result.area is None
    assert 0 <= result.image.min() < result.image.max() <= 255
    boxes = np.asarray(result.boxes)[np.asarray(result.box_mask)]
    assert len(boxes) > 8, "boxes of partners are among them"
    assert (boxes >= 0).all()
    assert (boxes <= SIZE).all()
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    again = augment(keys, batch.replace(partners=others))
    np.testing.assert_array_equal(again.image, result.image)
    assert (np.asarray(result.boxes) != np.asarray(batch.boxes)).any()


def test_every_step_of_the_augmentation_has_a_key_of_its_own():
    keys = []

    def note(key, example):
        keys.append(key)
        return example

    task = make("yolov2", note, note, note)
    keys.clear()
    task.augment(jax.random.key(3), first(batch_of()))
    drawn = {np.asarray(jax.random.key_data(key)).tobytes() for key in keys}
    assert len(drawn) == 3


DECODING = [
    ({"iou_threshold": 0.2}, 2),
    ({"iou_threshold": 0.9}, 3),
    ({"iou_threshold": 0.9, "score_threshold": 0.7}, 2),
    ({"iou_threshold": 0.9, "max_detections": 1}, 1),
    ({"iou_threshold": 0.9, "max_candidates": 2}, 2),
]


@pytest.mark.parametrize(("options", "count"), slow_but(DECODING, [DECODING[0], DECODING[2]]))
def test_options_of_the_decoding_arrive(options, count):
    """Three boxes of one class in different cells, of falling score; two of them overlap."""
    maps = maps_of(
        {
            (1, 1, 2): [0, 0, 0, 0, 9, 9, -9, -9],
            (1, 2, 2): [-4, 0, 0, 0, 2, 9, -9, -9],
            (3, 3, 0): [0, 0, 0, 0, 0, 9, -9, -9],
        }
    )
    options = DetectOptions(**{"score_threshold": 0.05, **options})
    found = jax.jit(make("yolov2", decode=options).decode)(maps, first(batch_of()))
    assert found.valid.shape == (options.max_detections,)
    assert found.valid.sum() == count


@pytest.mark.slow
def test_options_of_yolov1s_reading_arrive():
    maps = {
        "coordinates": np.full((4, 4, 2, 4), 0.5, "f4"),
        "confidence": np.tile(np.float32([0.4, 0.6]), (4, 4, 1)),
        "class_scores": np.tile(np.float32([1, 0, 0]), (4, 4, 1)),
    }
    example = first(batch_of())
    plain = jax.jit(task_of("yolov1").decode)(maps, example)
    best = jax.jit(make("yolov1", best_box_only=True).decode)(maps, example)
    sizes = jax.jit(make("yolov1", predicts_roots=False).decode)(maps, example)
    # A quarter of the image's side, as a root; or half of it. (Those at the border are cut.)
    for found, side in ((plain, SIZE / 4), (sizes, SIZE / 2)):
        np.testing.assert_allclose(
            (found.boxes[:, 2:] - found.boxes[:, :2]).max(axis=0), [side] * 2
        )
    assert (np.asarray(best.scores)[np.asarray(best.valid)] > 0.5).all()


def test_without_augmentation_an_example_stays_as_it_is():
    task, batch = task_of("yolov2"), batch_of()
    assert task.partners == 0
    result = jax.vmap(task.augment)(jax.random.split(jax.random.key(0), 2), batch)
    np.testing.assert_array_equal(result.image, batch.image)
    np.testing.assert_array_equal(result.boxes, batch.boxes)


@pytest.mark.parametrize(
    ("steps", "partners"),
    [
        ((aug.Mixup(0.1),), 1),
        ((aug.Mosaic(0.1), aug.RandomFlip(), aug.Mixup()), 4),
    ],
)
def test_partners_are_as_many_as_the_augmentation_takes(steps, partners):
    assert make("yolov2", *steps).partners == partners


def my_loss(logits, boxes, labels, box_mask, anchors, step, *, stride, factor=2.0):
    terms = yolov2_loss(logits, boxes, labels, box_mask, anchors, step, stride=stride)
    return {"mine": (factor * terms["class"][0], terms["class"][1])}


def a_number(logits, boxes, labels, box_mask, anchors, step, *, stride):
    return logits.sum()


def test_a_loss_of_ones_own():
    task = make("yolov2", loss=my_loss, factor=3.0)
    batch = batch_of()
    outputs, plain, _ = results_of("yolov2", batch)
    terms = terms_of_maps(task, outputs, batch)
    assert terms.keys() == {"mine"}
    np.testing.assert_allclose(terms["mine"][0], 3 * plain["class"][0], rtol=1e-6)


# Detectors of a user's own


class Centre(nn.Module):
    """A network that says for each image the one box in it and a score for each class."""

    num_classes: int = 3

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Dense(4 + self.num_classes)(images.mean(axis=(1, 2)))
        return {"box": x[:, :4], "scores": x[:, 4:]}


def centre_loss(outputs, example):
    """One pair, and no need for the key or the step."""
    error = ((outputs["box"] - example.boxes[0] / SIZE) ** 2).sum()
    return jnp.where(example.box_mask[0], error, 0), example.box_mask.any().astype(jnp.float32)


def centre_decode(outputs, example):
    corner, sides = SIZE * jax.nn.sigmoid(outputs["box"]).reshape(2, 2) / 2
    boxes = jnp.concatenate([corner, corner + sides])[None]
    scores = jax.nn.softmax(outputs["scores"])
    extent = example.extent.astype(jnp.float32)
    return Detections(
        boxes=jnp.minimum(boxes, jnp.tile(extent[::-1], 2)[None]),
        scores=scores.max(keepdims=True),
        labels=scores.argmax(keepdims=True).astype(jnp.int32),
        valid=jnp.ones(1, bool),
    )


def centre_task(loss=centre_loss, **fields):
    detector = Detector(Centre(), loss, centre_decode, **fields)
    return detection(detector, INPUTS, class_names=NAMES)


def test_a_detector_of_ones_own_runs_through_the_task():
    task, batch = centre_task(), batch_of(8)
    variables = random_values(jax.eval_shape(task.init, jax.random.key(0)))
    terms = terms_of(task, variables, batch)
    assert terms.keys() == {"detection_loss"}
    total, weight = terms["detection_loss"]
    assert total.shape == weight.shape == (8,)
    crowd = terms_of(task, variables, batch.replace(crowd=np.ones_like(batch.crowd)))
    assert not np.asarray(crowd["detection_loss"]).any()
    found = evaluate(task, variables, [batch], records_of(batch))
    assert found.collected.boxes.shape == (8, 1, 4)
    assert 0 <= found.metrics["AP"] <= 1
    predicted = jax.jit(functools.partial(predictions_of, task))(
        variables,
        ImageBatch(
            image=batch.image,
            mask=batch.mask,
            extent=np.full((8, 2), 5, np.int32),
            placement=batch.placement,
            size=batch.size,
        ),
    )
    assert (predicted.boxes <= 5).all()


def test_an_evaluation_does_not_depend_on_filler_or_padding():
    task, batch = centre_task(), batch_of(6)
    variables = random_values(jax.eval_shape(task.init, jax.random.key(0)))
    records = records_of(batch)
    expected = evaluate(task, variables, [batch], records)
    halves = [jax.tree.map(lambda x, k=k: x[k : k + 3], batch) for k in (0, 3)]
    cut = [with_filler(padded(half, 2), 1) for half in halves]
    found = evaluate(task, variables, cut, records)
    assert found.metrics == pytest.approx(expected.metrics, rel=1e-5)
    assert len(found.collected.valid) == 6
    for one, other in zip(
        jax.tree.leaves(found.collected), jax.tree.leaves(expected.collected), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_a_detectors_loss_gets_the_key_and_the_step_if_it_names_them():
    def loss(outputs, example, *, step, key):
        return {"step": (step, 1.0), "key": (jax.random.uniform(key), 1.0)}

    task, key = centre_task(loss), jax.random.key(4)
    example = first(batch_of())
    outputs = {"box": jnp.zeros(4), "scores": jnp.zeros(3)}
    terms = jax.jit(task.loss)(outputs, example, key=key, step=9)
    assert terms["step"] == (9, 1)
    assert terms["key"] == (jax.jit(jax.random.uniform)(key), 1)
    only_step = centre_task(lambda outputs, example, step: (step, 1))
    assert only_step.loss(outputs, example, key=key, step=9) == {"detection_loss": (9, 1)}


def test_a_detector_may_run_its_network_in_its_own_way():
    model = Centre()

    def forward(variables, batch, *, keys, step, train):
        outputs = model.apply(variables, 1 - batch.image, train=False)
        return {**outputs, "boxes_seen": batch.box_mask.sum(axis=1)}, {}

    detector = Detector(model, centre_loss, centre_decode, forward=forward)
    task = detection(detector, INPUTS, class_names=NAMES)
    variables = random_values(jax.eval_shape(task.init, jax.random.key(0)))
    batch = batch_of()
    outputs = outputs_of(task, variables, batch)
    np.testing.assert_array_equal(outputs["boxes_seen"], batch.box_mask.sum(axis=1))
    mirrored = outputs_of(centre_task(), variables, batch.replace(image=255 - batch.image))
    np.testing.assert_allclose(outputs["box"], mirrored["box"], rtol=1e-4, atol=1e-5)
    named = detector_of()

    def as_it_is(variables, batch, *, keys, step, train):
        return named.model.apply(variables, batch.image, train=False), {}

    named = dataclasses.replace(named, forward=as_it_is)
    parts = as_json(detection(named, INPUTS, class_names=NAMES))
    with pytest.raises(InputError, match="as_it_is, which has no name"):
        RESTORE["detection"](parts)


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        (Detector(Centre(), lambda outputs: 1, centre_decode), "^loss: <lambda> cannot be called"),
        (
            Detector(Centre(), lambda outputs, example: 1, centre_decode),
            "^loss: the loss returns 1",
        ),
        (
            Detector(Centre(), centre_loss, lambda outputs, example: example.extent + "x"),
            "^decode: ",
        ),
        (
            Detector(Centre(), centre_loss, centre_decode, multiple_of=5),
            r"^size is \(32, 32\): give",
        ),
        (
            Detector(Centre(4), centre_loss, centre_decode, num_classes=4),
            "^model tells 4 classes apart, but there are 3 class_names",
        ),
        (Detector(nn.Dense(3), centre_loss, centre_decode), "^model: "),
    ],
)
def test_what_is_wrong_with_a_detector_of_ones_own(detector, message):
    with pytest.raises(OptionError, match=message):
        detection(detector, INPUTS, class_names=NAMES)


# Descriptions

DESCRIBED = {
    "yolov1": {"predicts_roots": False, "best_box_only": True, "lambda_coord": 3.0},
    "yolov2": {"constrained": False, "prior_steps": 7},
    "yolov3": {"ignore_threshold": 0.7},
    "yolov4": {"masks": ((3, 2), (1, 2)), "iou_threshold": 0.5, "adversarial_rate": 0.1},
}


@pytest.mark.parametrize("version", long_but(VERSIONS, [], ["yolov1", "yolov2"]))
def test_a_description_gives_the_same_task_for_evaluation(version):
    decode = DetectOptions(score_threshold=0.01, iou_threshold=0.6, max_detections=20)
    steps = (aug.Mixup(0.5), aug.RandomFlip(0.5))
    task = make(
        version,
        *steps,
        decode=decode,
        fields={"norm": None} if version == "yolov1" else {},
        **DESCRIBED[version],
    )
    if version != "yolov1":
        task = with_frozen_statistics(task, ("backbone/*",))
    parts = as_json(task)
    assert parts["loss"]["loss"]["name"].endswith(f"{version}_loss")
    assert parts["loss"]["train_difficult"] is False
    assert len(parts["augment"]["augment"]) == len(steps)
    again = RESTORE["detection"](parts)
    assert again.loss is None
    assert again.class_names == NAMES
    assert again.inputs == task.inputs
    variables = random_values(jax.eval_shape(task.init, jax.random.key(0)))
    batch = batch_of(extent=np.tile(np.int32([30, 20]), (2, 1)))

    stricter = RESTORE["detection"](parts, decode={"max_detections": 1})

    @jax.jit
    def run(variables, batch):
        results = []
        for each in (task, again):
            prepared = jax.vmap(each.prepare)(batch)
            outputs, _ = each.forward(variables, prepared, keys=None, step=0, train=False)
            results.append((outputs, jax.vmap(each.decode)(outputs, prepared)))
        return results, jax.vmap(stricter.decode)(outputs, prepared)

    results, few = jax.device_get(run(variables, batch))
    jax.tree.map(np.testing.assert_array_equal, *results)
    found = results[0][1]
    assert found.valid.any()
    assert (found.boxes[..., 2] <= 20).all()
    assert as_json(again)["decode"] == parts["decode"]

    assert 0 < few.valid.sum() <= 2 < found.valid.sum()
    with pytest.raises(OptionError, match=r"^score_threshold is 2: give at .* at most 1$"):
        RESTORE["detection"](parts, decode={"score_threshold": 2})
    with pytest.raises(InputError, match="unexpected keyword argument 'score'"):
        RESTORE["detection"](parts, decode={"score": 0.5})


def test_a_description_of_what_has_no_name_says_what_to_give():
    parts = as_json(centre_task())
    assert parts["loss"]["loss"]["object"].endswith(":centre_loss")
    with pytest.raises(InputError, match="Centre, which has no name"):
        RESTORE["detection"](parts)
    parts["forward"] = as_json(task_of("yolov2"))["forward"]
    with pytest.raises(InputError, match="centre_decode, which has no name"):
        RESTORE["detection"](parts)
    parts = as_json(task_of("yolov2"))
    parts["decode"]["detector"] = "yolov0"
    with pytest.raises(InputError, match="unknown detector 'yolov0': did you mean 'yolov"):
        RESTORE["detection"](parts)


def test_a_part_that_is_replaced_is_no_longer_what_is_described():
    task = task_of("yolov2")
    for name in ("forward", "loss", "augment", "decode", "inputs"):
        assert task.origin[name][0] is getattr(task, name)
    mine = dataclasses.replace(task, loss=lambda *arguments, **given: {})
    assert mine.origin["loss"][0] is not mine.loss
    detector = dataclasses.replace(detector_of(), loss=centre_loss)
    description = detection_of_two_maps(detector).origin["loss"][1]
    assert description["loss"]["object"].endswith(":centre_loss")


def detection_of_two_maps(detector):
    """A task of a detector whose loss wants other maps than its network gives."""

    def forward(variables, batch, *, keys, step, train):
        outputs = detector.model.apply(variables, batch.image, train=False)
        return {**outputs, "box": jnp.zeros((len(batch.image), 4))}, {}

    return detection(dataclasses.replace(detector, forward=forward), INPUTS, class_names=NAMES)


# Errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: detection(detector_of(), INPUTS, class_names=()),
            "^class_names has 0 names: give",
        ),
        (
            lambda: detection(detector_of(), INPUTS, class_names="cat"),
            "^class_names is 'cat': give",
        ),
        (
            lambda: detection(detector_of(), INPUTS, class_names=4),
            r"^model tells 3 classes apart, .* 4 class_names: create it with num_classes=4",
        ),
        (lambda: make(inputs=Inputs((36, 36))), r"^size is \(36, 36\): give multiples of 8"),
        (
            lambda: make("yolov3", inputs=Inputs((32, 36))),
            r"^size is \(32, 36\): give multiples of",
        ),
        (lambda: make(anchors=()), r"^anchors is \(\): give \(width, height\)"),
        (lambda: make(anchors=((1, 2), (3,))), r"^anchors is .*give \(width, height\) in pixels"),
        (lambda: make(anchors=((1, 2), (3, 0))), r"give \(width, height\) in pixels"),
        (lambda: make(anchors=((1, 2), (3, float("inf")))), r"give \(width, height\) in pixels"),
        (
            lambda: make("yolov3", anchors=((1, 2), (3, 4), (5, 6))),
            "^anchors has 3: the network predicts at 2 scales",
        ),
        (
            lambda: detectors.yolov2(create_model("lenet5", num_classes=3), ANCHORS),
            "^model is .*, which has no field num_anchors: give a network",
        ),
        (
            lambda: detectors.yolov1(create_model("resnet20", num_classes=3)),
            r"^model gives no map 'coordinates', but c1, c2, .*logits",
        ),
        (lambda: detectors.yolov3(model_of("yolov2"), ANCHORS), "^model has no scales: give a"),
        (lambda: detectors.yolov4(model_of("yolov2"), ANCHORS), "^model has no scales: give a"),
        (lambda: make("yolov4", scale_x_y=(1.1,)), "^scale_x_y has 1 entries, and the network"),
        (lambda: make("yolov4", scale_x_y=0.0), "^scale_x_y is 0.0: give more than 0"),
        (lambda: make("yolov4", masks=((0, 1),)), "^masks has 1 entries, and the network"),
        (lambda: make("yolov4", masks=((0, 1), (2,))), "^masks is .*as many anchors for each map"),
        (lambda: make("yolov4", masks=((0, 1), (2, 4))), "^masks is .*the anchors are 0 to 3"),
        (lambda: make("yolov4", adversarial_rate=-1.0), "^adversarial_rate is -1.0: give more"),
        (lambda: make(fields={"reorg_order": "dark"}), "^model.reorg_order is 'dark': choose one"),
        (lambda: make(gamma=1.0), "^loss: yolov2_loss cannot be called as it is: .*'gamma'"),
        (lambda: make(stride=4), "^stride follows from the network: leave it out"),
        (
            lambda: make(ignore_threshold=2.0),
            "^loss.ignore_threshold is 2.0: give at least 0 and at",
        ),
        (lambda: make(prior_steps="x"), "^loss: "),
        (lambda: make(loss=a_number), "^loss: the loss returns"),
        (lambda: make(loss=None, gamma=1.0), "^gamma is an option of the loss: give a loss"),
        (
            lambda: DetectOptions(score_threshold=2),
            "^score_threshold is 2: give at least 0 and at most",
        ),
        (lambda: DetectOptions(iou_threshold=-0.1), "^iou_threshold is -0.1"),
        (lambda: DetectOptions(max_detections=0), "^max_detections is 0: give at least 1"),
        (lambda: make("yolov2", aug.Elastic()), "^augment: Elastic cannot move the boxes"),
        (lambda: make("yolov2", aug.RandAugment()), "^augment: RandAugment cannot move the boxes"),
        (lambda: make("yolov2", aug.ClassMixup(3)), "^augment: "),
        (
            lambda: make("yolov2", lambda key, example: None),
            "^augment returns NoneType: return the",
        ),
    ],
)
def test_options_that_do_not_fit_are_clear_errors(call, message):
    with pytest.raises(OptionError, match=message):
        call()


# The rungs of the paper's table from YOLO to YOLOv2 (Redmon & Farhadi 2017, table 2): each is one
# change of an argument. The high-resolution classifier is a matter of pre-training.
FREE = {"constrained": False}
EXTRACTION = {**BACKBONE, "stages": (*STAGES[:-1], (3, ((6, 3),)))}
RUNGS = {
    "YOLO": ("yolov1", {}, {}),
    "batch norm": ("yolov1", {"norm": "batch_norm"}, {}),
    "convolutional": ("yolov1", {"norm": "batch_norm", "hidden": ()}, {}),
    "anchor boxes": ("yolov2", {"backbone": EXTRACTION, "passthrough": None}, FREE),
    "new network": ("yolov2", {"passthrough": None}, FREE),
    "dimension priors": (
        "yolov2",
        {"passthrough": None},
        {**FREE, "anchors": ((3, 5), (7, 9), (20, 14))},
    ),
    "location prediction": ("yolov2", {"passthrough": None}, {}),
    "passthrough": ("yolov2", {}, {}),
    "high-resolution detector": ("yolov2", {}, {"inputs": Inputs((40, 40))}),
}


@pytest.mark.long
def test_every_rung_from_yolo_to_yolov2_is_a_change_of_an_argument():
    shapes = {}
    for rung in RUNGS:
        version, fields, options = RUNGS[rung]
        task = make(version, fields=fields, **options)
        batch = batch_of(image=np.zeros((2, *task.inputs.shape), np.uint8))

        def run(key, batch, task=task):
            variables = task.init(key)
            batch = jax.vmap(task.prepare)(batch)
            outputs, _ = task.forward(variables, batch, keys=None, step=0, train=False)
            one = functools.partial(task.loss, key=None, step=jnp.int32(0))
            return variables, jax.vmap(one)(outputs, batch), jax.vmap(task.decode)(outputs, batch)

        variables, terms, found = jax.eval_shape(run, jax.random.key(0), batch)
        assert found.boxes.shape == (2, 100, 4), rung
        assert all(total.shape == (2,) for total, _ in terms.values()), rung
        shapes[rung] = {
            (jax.tree_util.keystr(path), x.shape)
            for path, x in jax.tree_util.tree_leaves_with_path(variables["params"])
        }
    changing = ("batch norm", "convolutional", "anchor boxes", "new network", "dimension priors")
    order = list(RUNGS)
    for rung in (*changing, "passthrough"):
        before = order[order.index(rung) - 1]
        assert shapes[rung] != shapes[before], f"{rung} changes the network"


@pytest.mark.slow
def test_location_prediction_changes_loss_and_decoding():
    batch, free = batch_of(), make("yolov2", constrained=False)
    outputs, plain, _ = results_of("yolov2", batch)
    assert not np.allclose(terms_of_maps(free, outputs, batch)["xy"][0], plain["xy"][0])
    # tx = 2: two anchors' widths to the right of the cell's middle, or within the cell.
    maps = maps_of({(1, 1, 0): [2, 0, 0, 0, 9, 9, -9, -9]})
    for task, centre in ((free, 12 + 2 * 4), (task_of("yolov2"), 8 * (1 + 1 / (1 + np.exp(-2))))):
        box = jax.jit(task.decode)(maps, first(batch)).boxes[0]
        np.testing.assert_allclose(box, [centre - 2, 10, centre + 2, 14], rtol=1e-5)
