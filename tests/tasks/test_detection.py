"""The detection task: what is trained, what is found, and what it is worth."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import augment as aug
from jaxvision.cli.config import default_config
from jaxvision.core import DetectionBatch, Detections, InputError
from jaxvision.losses import yolov2_loss
from jaxvision.tasks import detection
from jaxvision.tasks.detection import average_precision

TINY = {
    "name": "plain_darknet",
    "stages": ((0, ((4, 3),)), (1, ((4, 3),)), (2, ((4, 3),)), (3, ((4, 3),))),
}
SIZE = 32


def config_of(version="yolov2", **changes):
    config = default_config("detection")
    config.data.image_size = SIZE
    config.data.class_names = ("cat", "dog", "cow")
    config.model.name, config.loss.name = version, f"{version}_loss"
    if version == "yolov1":
        config.model.stages = TINY["stages"]
        config.model.convolutions, config.model.hidden = ((4, 1),), (8,)
    else:
        config.model.backbone = TINY
        config.anchors = ((4, 4), (8, 8), (16, 16), (24, 24))
    if version == "yolov2":
        config.model.level, config.model.convolutions, config.model.passthrough = 3, (4,), 4
    if version == "yolov3":
        config.model.scales = ((3, None, ((4, 1),), 4), (2, 4, (), 4))
    with config.unlocked():
        for key, value in changes.items():
            *groups, last = key.split("__")
            functools.reduce(getattr, groups, config)[last] = value
    return config


VERSIONS = ("yolov1", "yolov2", "yolov3")
every_version = pytest.mark.parametrize(
    "version",
    [pytest.param(v, marks=() if v == "yolov2" else pytest.mark.slow) for v in VERSIONS],
)


@functools.cache  # as compiling takes longer than all the rest
def task_of(version):
    return detection(config_of(version))


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
        "placement": np.tile(np.float32([0.5, 0.25, 2, 0]), (size, 1)),
        "size": np.tile(np.int32([100, 50]), (size, 1)),
        "area": np.ones((size, boxes), "f4"),
    }
    return DetectionBatch(**{**fields, **changes})


@functools.cache
def losses(task):
    def run(variables, batch):
        batch = jax.vmap(task.prepare)(batch)
        outputs, _ = task.forward(variables, batch, keys=None, step=0, train=False)
        one = functools.partial(task.loss, key=None, step=jnp.int32(0))
        return jax.vmap(one)(outputs, batch)

    return jax.jit(run)


@functools.cache
def variables_of(version):
    return jax.jit(task_of(version).init)(jax.random.key(0))


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
def test_every_version_finds_what_its_config_says_and_padding_changes_nothing(version):
    task, variables, batch = task_of(version), variables_of(version), batch_of()
    terms = losses(task)(variables, batch)
    assert {weight.tolist() == [1, 1] for _, weight in terms.values()} == {True}
    more = losses(task)(variables, padded(batch, 3))
    for name, (total, _) in terms.items():
        np.testing.assert_allclose(more[name][0], total, rtol=1e-6, err_msg=name)
    outputs, _ = task.forward(
        variables, jax.vmap(task.prepare)(batch), keys=None, step=0, train=False
    )
    found = jax.jit(jax.vmap(task.decode))(outputs)
    assert found.boxes.shape == (2, 100, 4)
    assert found.valid.any()
    assert (found.boxes >= 0).all()
    assert (found.boxes <= SIZE).all()
    assert (np.diff(found.scores, axis=1) <= 0).all()


@every_version
def test_crowds_and_difficult_objects_are_not_trained_on(version):
    task, variables, batch = task_of(version), variables_of(version), batch_of()
    batch = batch.replace(box_mask=np.arange(4)[None] < np.array([[2], [2]]))
    second = np.arange(4)[None] == np.array([[1], [1]])
    without = losses(task)(variables, batch.replace(box_mask=batch.box_mask & ~second))
    for flag in ("crowd", "difficult"):
        terms = losses(task)(variables, batch.replace(**{flag: second}))
        for name, (total, _) in without.items():
            np.testing.assert_allclose(terms[name][0], total, rtol=1e-6)
    all_of_them = losses(task)(variables, batch)
    assert any(
        not np.allclose(all_of_them[name][0], total, rtol=1e-4)
        for name, (total, _) in without.items()
    )


def test_difficult_objects_are_trained_on_if_the_config_says_so():
    task = detection(config_of(data__difficult=True))
    variables, batch = variables_of("yolov2"), batch_of()
    plain = losses(task)(variables, batch)
    flagged = losses(task)(variables, batch.replace(difficult=batch.box_mask))
    crowd = losses(task)(variables, batch.replace(crowd=batch.box_mask))
    np.testing.assert_array_equal(flagged["class"][0], plain["class"][0])
    assert (crowd["class"][0] == 0).all()


@pytest.mark.slow
def test_the_anchors_of_yolov3_go_by_size_the_largest_to_the_coarsest_map():
    task, shuffled = task_of("yolov3"), config_of("yolov3")
    shuffled.anchors = tuple(shuffled.anchors[i] for i in (2, 0, 3, 1))
    variables, batch = variables_of("yolov3"), batch_of()
    outputs, _ = task.forward(
        variables, jax.vmap(task.prepare)(batch), keys=None, step=0, train=False
    )
    # A box as large as its anchor in the only cell of the coarse map with some objectness.
    maps = {name: np.full(x.shape[1:], -9.0, "f4") for name, x in outputs.items()}
    maps["logits3"][1, 2, 1] = [0, 0, 0, 0, 9, 9, -9, -9]
    maps["logits2"][3, 3, 0] = [0, 0, 0, 0, 8, 9, -9, -9]
    for each in (task, detection(shuffled)):
        found = jax.jit(each.decode)(maps)
        sides = found.boxes[:2, 2:] - found.boxes[:2, :2]
        np.testing.assert_allclose(sides, [[24, 24], [4, 4]], rtol=1e-5)
        np.testing.assert_allclose(found.boxes[1], [12, 12, 16, 16], rtol=1e-5)


def test_detections_and_objects_are_kept_in_pixels_of_the_original():
    task, variables, batch = task_of("yolov2"), variables_of("yolov2"), batch_of()
    outputs, _ = task.forward(
        variables, jax.vmap(task.prepare)(batch), keys=None, step=0, train=False
    )
    found, objects = jax.jit(jax.vmap(task.collect))(outputs, batch)
    decoded = jax.device_get(jax.jit(jax.vmap(task.decode))(outputs))
    scale, offset = np.float32([0.5, 0.25] * 2), np.float32([2, 0] * 2)
    expected = np.clip((decoded.boxes - offset) / scale, 0, [50, 100, 50, 100])
    np.testing.assert_allclose(found.boxes, expected, rtol=1e-5, atol=1e-4)
    assert (found.boxes[..., 2] == 50).any(), "some reach beyond the original, beside the letterbox"
    np.testing.assert_allclose(objects.boxes, (batch.boxes - offset) / scale, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(found.scores, decoded.scores)
    assert objects.image is None


def perfect(batch):
    """Detections that are the objects themselves."""
    return Detections(
        boxes=batch.boxes,
        scores=np.where(batch.box_mask, 0.9, 0).astype("f4"),
        labels=batch.labels,
        valid=batch.box_mask,
    )


def test_what_equals_the_objects_has_an_ap_of_one_whatever_the_padding():
    task, batch = task_of("yolov2"), batch_of(8)
    for each in (batch, padded(batch, 5)):
        numbers = task.summarize((perfect(batch), each))
        assert numbers["AP"] == numbers["AP50"] == numbers["AP75"] == numbers["mAP_VOC"] == 1
        assert numbers["AP_small"] == 1
        assert "AP_large" not in numbers, "no object is large: the area counts"
    halved = batch.replace(box_mask=batch.box_mask & (np.arange(8)[:, None] < 4))
    assert 0 < task.summarize((perfect(halved), batch))["AP"] < 1
    surer = np.tile(np.where(np.arange(8)[:, None] < 4, 0.5, 0.9), 4).astype("f4")
    assert task.summarize((perfect(batch).replace(scores=surer), halved))["AP"] < 1


def test_without_any_object_or_image_the_numbers_are_zero():
    task, batch = task_of("yolov2"), batch_of()
    empty = batch.replace(box_mask=np.zeros_like(batch.box_mask))
    none = jax.tree.map(lambda x: x[:0], batch)
    for each in (empty, none):
        numbers = task.summarize((perfect(each), each))
        assert numbers == {"AP": 0, "AP50": 0, "AP75": 0, "mAP_VOC": 0}


def test_crowds_do_not_count_for_coco_nor_difficult_objects_for_voc():
    batch = batch_of(4)
    first = np.arange(4)[None] == np.zeros((4, 1), int)
    found = perfect(batch.replace(box_mask=batch.box_mask & ~first))
    without = average_precision((found, batch), num_classes=3)
    coco, voc = average_precision((found, batch.replace(crowd=first)), num_classes=3)
    assert coco.stats["AP"] == 1 > without[0].stats["AP"]
    assert voc == without[1] < 1
    coco, voc = average_precision((found, batch.replace(difficult=first)), num_classes=3)
    assert voc == 1
    assert coco.stats["AP"] == without[0].stats["AP"]


AUGMENTED = {
    "augment__mosaic": 0.5,
    "augment__mixup": 0.5,
    "augment__jitter": 0.2,
    "augment__scale": (0.8, 1.2),
    "augment__flip": 0.5,
    "augment__hue": 0.1,
    "augment__saturation": 1.5,
    "augment__value": 1.5,
}


@pytest.mark.slow
def test_all_augmentation_together():
    task = detection(config_of(**AUGMENTED))
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


EVERY_OPTION = {
    "augment__mosaic": 0.25,
    "augment__mixup": 0.75,
    "augment__mixup_alpha": 2.5,
    "augment__jitter": 0.15,
    "augment__scale": (0.7, 1.3),
    "augment__ratio": (0.9, 1.1),
    "augment__translate": 0.05,
    "augment__flip": 0.4,
    "augment__hue": 0.2,
    "augment__saturation": 1.75,
    "augment__value": 1.25,
    "augment__least_visible": 0.35,
    "augment__least_side": 2.5,
    "detect__score_threshold": 0.015,
    "detect__iou_threshold": 0.55,
    "detect__max_detections": 7,
    "detect__max_candidates": 70,
    "detect__best_box_only": True,
}


def test_every_option_arrives_and_every_step_has_a_key_of_its_own(monkeypatch):
    """No augmentation runs here: what it is called with is noted."""
    called, keys = {}, {}

    def noting(name):
        def note(key, thing, *rest, **options):
            called[name], keys[name] = options, key
            if rest:  # with_probability: the function that it is to call
                called[rest[0].func] = rest[0].keywords
                keys[rest[0].func] = keys[name]
            return thing

        return note

    task_config = config_of(**EVERY_OPTION)
    real_mosaic, real_mixup = aug.mosaic, aug.mixup
    detection(task_config)  # is sound
    for name in (
        "with_probability",
        "random_jitter_crop",
        "random_scale_and_translate",
        "random_horizontal_flip",
        "random_hsv",
    ):
        monkeypatch.setattr(aug, name, noting(name))
    task = detection(task_config)
    called.clear()
    keys.clear()
    example = jax.tree.map(lambda x: x[0], batch_of())
    task.augment(jax.random.key(3), example)
    rule = {"least_visible": 0.35, "least_side": 2.5}
    assert called.pop(real_mosaic) == rule
    assert called.pop(real_mixup) == {"alpha": 2.5, "partner": 3}
    assert called.pop("with_probability")["probability"] == 0.75  # of the last, mixup
    assert called == {
        "random_jitter_crop": {"jitter": 0.15, **rule},
        "random_scale_and_translate": {
            "scale": (0.7, 1.3),
            "ratio": (0.9, 1.1),
            "translate": 0.05,
            **rule,
        },
        "random_horizontal_flip": {"probability": 0.4},
        "random_hsv": {"hue": 0.2, "saturation": 1.75, "value": 1.25},
    }
    del keys["with_probability"]
    drawn = {np.asarray(jax.random.key_data(key)).tobytes() for key in keys.values()}
    assert len(drawn) == 6


def test_options_of_decoding_arrive(monkeypatch):
    noted = {}

    def detect(boxes, scores, **options):
        noted.update(options)
        return boxes, scores

    module = importlib.import_module("jaxvision.tasks.detection")  # not the function of that name
    monkeypatch.setattr(module, "detect", detect)
    task = detection(config_of(**EVERY_OPTION))
    assert noted.pop("image_size") == (SIZE, SIZE)
    assert noted == {
        "score_threshold": 0.015,
        "iou_threshold": 0.55,
        "max_detections": 7,
        "max_candidates": 70,
    }
    assert task.partners == 4


def test_options_of_yolov1s_reading_arrive():
    maps = {
        "coordinates": np.full((4, 4, 2, 4), 0.5, "f4"),
        "confidence": np.tile(np.float32([0.4, 0.6]), (4, 4, 1)),
        "class_scores": np.tile(np.float32([1, 0, 0]), (4, 4, 1)),
    }
    plain = jax.jit(task_of("yolov1").decode)(maps)
    best = jax.jit(detection(config_of("yolov1", detect__best_box_only=True)).decode)(maps)
    sizes = jax.jit(detection(config_of("yolov1", loss__predicts_roots=False)).decode)(maps)
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


@pytest.mark.parametrize(("mosaic", "mixup", "partners"), [(1, 0, 3), (0, 0.1, 1), (0.1, 1, 4)])
def test_partners_are_as_many_as_the_augmentation_takes(mosaic, mixup, partners):
    config = config_of(augment__mosaic=float(mosaic), augment__mixup=float(mixup))
    assert detection(config).partners == partners


def my_loss(logits, boxes, labels, box_mask, anchors, step, *, stride, factor=2.0):
    terms = yolov2_loss(logits, boxes, labels, box_mask, anchors, step, stride=stride)
    return {"mine": (factor * terms["class"][0], terms["class"][1])}


def a_number(logits, boxes, labels, box_mask, anchors, step, *, stride):
    return logits.sum()


def test_a_loss_of_ones_own():
    name = f"{__name__}:my_loss"
    task = detection(config_of(loss__name=name, loss__factor=3.0))
    variables, batch = variables_of("yolov2"), batch_of()
    plain = losses(task_of("yolov2"))(variables, batch)
    terms = losses(task)(variables, batch)
    assert terms.keys() == {"mine"}
    np.testing.assert_allclose(terms["mine"][0], 3 * plain["class"][0], rtol=1e-6)


@pytest.mark.parametrize(
    ("version", "changes", "message"),
    [
        ("yolov2", {"data__class_names": ()}, "number of config.data.class_names is 0"),
        ("yolov2", {"data__image_size": 36}, "image_size is 36: give multiples of 8"),
        ("yolov3", {"data__image_size": 36}, "image_size is 36: give multiples of 8"),
        ("yolov2", {"data__sizes": (32, 36)}, "config.data.sizes is 36: give multiples of 8"),
        ("yolov1", {"data__sizes": (32, 40)}, "fully connected layers"),
        ("yolov2", {"data__mean": (0.5,)}, "3 channels, but 1 figures in mean"),
        ("yolov2", {"anchors": ()}, r"config.anchors is \(\): give \(width, height\)"),
        ("yolov2", {"anchors": ((1, 2), (3,))}, "give \\(width, height\\) in pixels"),
        ("yolov2", {"anchors": ((1, 2), (3, 0))}, "give \\(width, height\\) in pixels"),
        ("yolov3", {"anchors": ((1, 2), (3, 4), (5, 6))}, "has 3: yolov3 predicts at 2 scales"),
        ("yolov1", {"anchors": ((1, 2),)}, "config.anchors: yolov1 has none"),
        ("yolov2", {"model__num_anchors": 3}, "num_anchors follows from config.anchors"),
        ("yolov2", {"model__nam": 3}, "yolov2 has no field 'nam'"),
        ("yolov2", {"model__name": "lenet5"}, "'lenet5' is no detector: known: fast_yolov1"),
        ("yolov2", {"loss__name": "yolov1_loss"}, "unknown loss 'yolov1_loss'"),
        ("yolov2", {"loss__gamma": 1.0}, "config.loss: yolov2_loss got other options"),
        ("yolov2", {"loss__stride": 4}, "config.loss.stride follows from the network"),
        ("yolov2", {"augment__flip": 1.5}, "config.augment.flip is 1.5"),
        ("yolov2", {"detect__iou_threshold": -0.1}, "config.detect.iou_threshold is -0.1"),
        ("yolov2", {"detect__max_detections": 0}, "config.detect.max_detections is 0"),
        ("yolov2", {"model__norm": "batchnorm"}, "unknown norm 'batchnorm'.*'batch_norm'"),
        ("yolov2", {"model__backbone": {"stages": ()}}, "the backbone of yolov2 has no name"),
        ("yolov2", {"model__backbone": {"name": "darknet20"}}, "unknown backbone 'darknet20'"),
        ("yolov2", {"model__reorg_order": "dark"}, "reorg_order|order"),
        ("yolov2", {"anchors": ((1, 2), (3, float("inf")))}, "give \\(width, height\\) in pixels"),
        ("yolov2", {"data__class_names": ("cat,dog",)}, r"has 'cat,dog': give \('cat', 'dog'\)"),
        ("yolov2", {"augment__scale": (0.8,)}, "config.augment: "),
        ("yolov2", {"augment__jitter": 0.6}, "config.augment: jitter is 0.6"),
        ("yolov2", {"augment__saturation": 0.5}, "config.augment: saturation is 0.5"),
        ("yolov2", {"loss__prior_steps": "x"}, "config.loss: "),
        ("yolov2", {"loss__ignore_threshold": 2.0}, "config.loss: ignore_threshold is 2.0"),
        (
            "yolov2",
            {"loss__name": f"{__name__}:a_number"},
            "config.loss: the loss returns",
        ),
    ],
)
def test_settings_that_do_not_fit_are_clear_errors(version, changes, message):
    with pytest.raises(InputError, match=message):
        detection(config_of(version, **changes))


# "Rungs" of the paper's table from YOLO to YOLOv2 (Redmon & Farhadi 2017, table 2): each is one
# change of the config. The high-resolution classifier is a matter of pre-training; the
# high-resolution detector of image_size.
EXTRACTION = {**TINY, "stages": (*TINY["stages"][:-1], (3, ((6, 3),)))}
RUNGS = {
    "YOLO": ("yolov1", {}),
    "batch norm": ("yolov1", {"model__norm": "batch_norm"}),
    "convolutional": ("yolov1", {"model__norm": "batch_norm", "model__hidden": ()}),
    "anchor boxes": (
        "yolov2",
        {"model__backbone": EXTRACTION, "model__passthrough": None, "loss__constrained": False},
    ),
    "new network": ("yolov2", {"model__passthrough": None, "loss__constrained": False}),
    "dimension priors": (
        "yolov2",
        {
            "model__passthrough": None,
            "loss__constrained": False,
            "anchors": ((3, 5), (7, 9), (20, 14)),
        },
    ),
    "location prediction": ("yolov2", {"model__passthrough": None}),
    "passthrough": ("yolov2", {}),
    "multi-scale": ("yolov2", {"data__sizes": (24, 32, 40)}),
    "high-resolution detector": ("yolov2", {"data__image_size": 40}),
}


@pytest.mark.slow
def test_every_rung_from_yolo_to_yolov2_is_a_change_of_the_config():
    shapes = {}
    for rung, (version, changes) in RUNGS.items():
        config = config_of(version, **changes)
        task, size = detection(config), config.data.image_size
        batch = batch_of(image=np.zeros((2, size, size, 3), np.uint8))

        def run(key, batch, task=task):
            variables = task.init(key)
            batch = jax.vmap(task.prepare)(batch)
            outputs, _ = task.forward(variables, batch, keys=None, step=0, train=False)
            one = functools.partial(task.loss, key=None, step=jnp.int32(0))
            return variables, jax.vmap(one)(outputs, batch), jax.vmap(task.decode)(outputs)

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


def test_location_prediction_changes_loss_and_decoding():
    variables, batch = variables_of("yolov2"), batch_of()
    free = detection(config_of(loss__constrained=False))
    plain = losses(task_of("yolov2"))(variables, batch)
    assert not np.allclose(losses(free)(variables, batch)["xy"][0], plain["xy"][0])
    # tx = 2: two anchors' widths to the right of the cell's middle, or within the cell.
    maps = {"logits": np.full((4, 4, 4, 8), -9.0, "f4")}
    maps["logits"][1, 1, 0] = [2, 0, 0, 0, 9, 9, -9, -9]
    for task, centre in ((free, 12 + 2 * 4), (task_of("yolov2"), 8 * (1 + 1 / (1 + np.exp(-2))))):
        box = jax.jit(task.decode)(maps).boxes[0]
        np.testing.assert_allclose(box, [centre - 2, 10, centre + 2, 14], rtol=1e-5)
