"""From YOLO's maps to detections: by hand, and targets put through all of it come back."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision.core import Inputs
from jaxvision.data import ToDetection, VocFolder
from jaxvision.data.sources.scenes import SIZE, scenes
from jaxvision.metrics import DetectionTable, ObjectTable, coco_average_precision
from jaxvision.models import create_model
from jaxvision.ops import (
    best_anchor,
    box_iou,
    cell_index,
    elementwise_generalized_box_iou,
    encode_yolo,
    encode_yolov1,
    shape_iou,
)
from jaxvision.tasks import DetectOptions, detect, detection, detectors
from jaxvision.tasks.detectors import (
    yolov1_candidates,
    yolov2_candidates,
    yolov3_candidates,
    yolov4_candidates,
)
from tests.marks import long_but
from tests.reference.ops.boxes import box_iou as reference_iou
from tests.tasks.loop import as_json, train

SURE = 20.0  # a logit


def test_yolov1_by_hand():
    # One cell of 10 x 10 pixels with two boxes.
    coordinates = np.float32([0.5, 0.5, 1, 0.5, 0.5, 0.5, -1, 0.5]).reshape(1, 1, 2, 4)
    confidence = np.float32([0.5, 0.25]).reshape(1, 1, 2)
    classes = np.float32([1, -1, 0.5]).reshape(1, 1, 3)
    find = jax.jit(
        functools.partial(yolov1_candidates, image_size=(10, 10)),
        static_argnames=("best_box_only", "predicts_roots"),
    )
    boxes, scores = find(coordinates, confidence, classes)
    np.testing.assert_allclose(boxes, [[0, 3.75, 10, 6.25], [5, 3.75, 5, 6.25]])
    np.testing.assert_allclose(scores, [[0.5, 0, 0.25], [0.25, 0, 0.125]])
    _, scores = find(coordinates, confidence, classes, best_box_only=True)
    np.testing.assert_allclose(scores, [[0.5, 0, 0.25], [0, 0, 0]])
    boxes, _ = find(coordinates, confidence, classes, predicts_roots=False)
    np.testing.assert_allclose(boxes[0], [0, 2.5, 10, 7.5])
    _, scores = find(coordinates, -confidence, np.stack([classes, -classes], axis=2))
    np.testing.assert_array_equal(scores, np.zeros((2, 3)))


def test_yolov2_and_v3_by_hand():
    logits = np.zeros((1, 1, 1, 7), np.float32)
    logits[..., 5] = np.log(3)
    anchors = np.float32([[4, 6]]), np.float32([[2, 2]])

    @jax.jit
    def find(logits):
        maps = [logits, logits]
        return (
            yolov2_candidates(logits, anchors[0], stride=10),
            yolov3_candidates(maps, anchors, strides=(10, 4)),
        )

    (boxes, scores), of_v3 = find(logits)
    np.testing.assert_allclose(boxes, [[3, 2, 7, 8]])
    np.testing.assert_allclose(scores, [[0.5 * 0.75, 0.5 * 0.25]], rtol=1e-6)
    boxes, scores = of_v3
    np.testing.assert_allclose(boxes, [[3, 2, 7, 8], [1, 1, 3, 3]])
    np.testing.assert_allclose(scores, [[0.5 * 0.75, 0.25]] * 2, rtol=1e-6)


def test_yolov4_by_hand():
    logits = np.zeros((1, 2, 1, 7), np.float32)
    logits[0, 1, 0] = [np.log(3), 0, np.log(3), 0, 0, np.log(3), 0]
    anchors = np.float32([[4, 6]])
    find = functools.partial(yolov4_candidates, strides=(10,))

    @jax.jit
    def run(logits):
        exponential = find([logits], [anchors], scale_x_y=(1.2,))
        return exponential, find([logits], [anchors], scale_x_y=(2.0,), squared=True)

    (boxes, scores), (squared, others) = run(logits)
    # In the second cell 1.2 * 0.75 - 0.1 = 0.8 and a width of 3 * 4; 2 * 0.75 - 0.5 = 1 and
    # (2 * 0.75)^2 * 4 = 9.
    np.testing.assert_allclose(boxes, [[3, 2, 7, 8], [12, 2, 24, 8]], rtol=1e-5)
    np.testing.assert_allclose(squared, [[3, 2, 7, 8], [15.5, 2, 24.5, 8]], rtol=1e-5)
    np.testing.assert_allclose(scores, [[0.25, 0.25], [0.5 * 0.75, 0.25]], rtol=1e-6)
    np.testing.assert_array_equal(others, scores)


def test_detections_by_hand():
    boxes = np.float32([[0, 0, 10, 10], [1, 0, 11, 10], [-5, 20, 5, 30]])
    scores = np.float32([[0.9, 0.2], [0.8, 0.3], [0.1, 0.0]])
    options = DetectOptions(score_threshold=0.05, iou_threshold=0.5, max_detections=5)
    run = jax.jit(functools.partial(detect, image_size=(25, 40), options=options))
    found = run(boxes, scores)
    # The second box is suppressed for class 0, the first for class 1.
    np.testing.assert_array_equal(found.valid, [True, True, True, False, False])
    np.testing.assert_array_equal(found.labels, [0, 1, 0, 0, 0])
    np.testing.assert_allclose(found.scores, [0.9, 0.3, 0.1, 0, 0])
    np.testing.assert_array_equal(found.boxes[:3], [boxes[0], boxes[1], [0, 20, 5, 25]])
    np.testing.assert_array_equal(found.boxes[3:], np.zeros((2, 4)))


def test_detections_of_fewer_candidates_than_may_be():
    boxes, scores = np.float32([[0, 0, 10, 10]]), np.float32([[0.9]])
    found = jax.jit(detect)(boxes, scores, image_size=jnp.array([8, 6]))
    assert found.valid.shape == (100,)
    assert found.valid.sum() == 1
    np.testing.assert_array_equal(found.boxes[0], [0, 0, 6, 8])


def padded(rows):
    """With zeros to 64 rows, so that every image compiles the same."""
    return np.concatenate([rows, np.zeros((64 - len(rows), rows.shape[1]), rows.dtype)])


def logit(p):
    p = np.clip(np.asarray(p, np.float64), 1e-7, 1 - 1e-7)
    return np.log(p) - np.log1p(-p)


class V1:
    """Maps that say what a network should for the given objects; the last in a cell stays."""

    grid, classes = (12, 12), 10

    def maps(self, boxes, labels):
        coordinates = np.zeros((*self.grid, 2, 4), np.float32)
        confidence = np.zeros((*self.grid, 2), np.float32)
        scores = np.zeros((*self.grid, self.classes), np.float32)
        size = {"grid_size": self.grid, "image_size": (SIZE, SIZE)}
        codes = np.asarray(encode_yolov1(padded(boxes), **size))[: len(boxes)]
        for place, code, label in zip(self.places(boxes), codes, labels, strict=True):
            coordinates[place][1], confidence[place] = code, (0, 1)
            scores[place] = np.arange(self.classes) == label
        return coordinates, confidence, scores

    def places(self, boxes):
        cells = cell_index(padded(boxes), grid_size=self.grid, image_size=(SIZE, SIZE))
        rows, columns = (np.asarray(x)[: len(boxes)].tolist() for x in cells)
        return list(zip(rows, columns, strict=True))

    def candidates(self, *maps):
        return yolov1_candidates(*maps, image_size=(SIZE, SIZE))


class Anchored:
    """As V1, for maps with anchors; an object's place is (map, row, column, anchor)."""

    def __init__(self, anchors, strides, size, classes):
        self.anchors = [np.float32(x) for x in anchors]
        self.strides, self.size, self.classes = strides, size, classes

    def maps(self, boxes, labels):
        maps = [
            np.full((self.size // s, self.size // s, len(a), 5 + self.classes), -SURE, np.float32)
            for a, s in zip(self.anchors, self.strides, strict=True)
        ]
        places = np.array(self.places(boxes))
        for level, stride in enumerate(self.strides):
            here = np.flatnonzero(places[:, 0] == level)
            _, rows, columns, anchors = padded(places[here]).T
            sizes = self.anchors[level][anchors]
            codes = encode_yolo(padded(boxes[here]), sizes, rows, columns, stride=stride)
            for index, code in zip(here, np.asarray(codes), strict=False):
                label, place = labels[index], places[index, 1:]
                values = maps[level][tuple(place)]
                values[:2], values[2:4] = logit(code[:2]), code[2:]
                values[5:] = np.where(np.arange(self.classes) == label, SURE, -SURE)
                values[4] = SURE
        return maps

    def places(self, boxes):
        best, _ = best_anchor(padded(boxes[:, 2:] - boxes[:, :2]), np.concatenate(self.anchors))
        known = [(level, i) for level, x in enumerate(self.anchors) for i in range(len(x))]
        levels, anchors = np.array(known)[np.asarray(best)[: len(boxes)]].T
        strides = np.array(self.strides)[levels]
        columns, rows = ((boxes[:, :2] + boxes[:, 2:]) / 2 // strides[:, None]).astype(int).T
        return list(zip(*(x.tolist() for x in (levels, rows, columns, anchors)), strict=True))

    def candidates(self, *maps):
        if len(maps) == 1:
            return yolov2_candidates(*maps, self.anchors[0], stride=self.strides[0])
        return yolov3_candidates(maps, self.anchors, strides=self.strides)


SCENE_ANCHORS = [[8, 14], [12, 22], [18, 32]]
VERSIONS = {
    "v1": V1(),
    "v2": Anchored([SCENE_ANCHORS], (8,), SIZE, 10),
    "v3": Anchored([[[18, 32], [26, 36]], [[8, 14], [12, 22]]], (16, 8), SIZE, 10),
}


def found_in(version, boxes, labels, image_size):
    """Detections in what a perfect network says, without padding."""

    @jax.jit
    def run(*maps):
        return detect(*version.candidates(*maps), image_size=image_size)

    for each_boxes, each_labels in zip(boxes, labels, strict=True):
        found = jax.device_get(run(*version.maps(each_boxes, each_labels)))
        yield found.boxes[found.valid], found.scores[found.valid], found.labels[found.valid]


@pytest.mark.slow
@pytest.mark.parametrize("name", VERSIONS)
def test_perfect_maps_of_the_scenes_have_an_ap_of_one(name):
    version, boxes, labels, shared = VERSIONS[name], [], [], 0
    for _, _, each_boxes, each_labels in itertools.islice(scenes("test"), 30):
        each_boxes = each_boxes.astype(np.float32)
        if len(set(version.places(each_boxes))) < len(each_boxes):
            shared += 1  # two objects, one predictor: the network could not say both
            continue
        boxes.append(each_boxes)
        labels.append(each_labels)
    assert len(boxes) > 20
    assert shared < 10
    tables = []
    for image, found in enumerate(found_in(version, boxes, labels, (SIZE, SIZE))):
        tables.append((np.full(len(found[0]), image), *found))
    detections = DetectionTable(*(np.concatenate(x) for x in zip(*tables, strict=True)))
    flags = np.zeros(sum(map(len, labels)), bool)
    objects = ObjectTable(
        image=np.repeat(np.arange(len(boxes)), [len(x) for x in labels]),
        boxes=np.concatenate(boxes),
        labels=np.concatenate(labels),
        crowd=flags,
        difficult=flags,
    )
    result = coco_average_precision(detections, objects, num_classes=10)
    assert result.stats["AP"] == result.stats["AR100"] == 1
    assert len(detections) == len(objects)


@pytest.mark.slow
def test_bccd_loses_what_shares_a_predictor_or_is_suppressed(real_data):
    """Box by box: nothing else is lost on the way from the files to detections."""
    source = VocFolder(real_data / "bccd", "trainval")
    transform = ToDetection(Inputs((416, 416), resize="stretch"), 3, max_boxes=64)
    anchors = [[[36, 37], [60, 60], [74, 90], [105, 112], [150, 140]]]
    version = Anchored(anchors, (32,), 416, 3)
    examples = [transform(source[i], source.where(i)) for i in range(len(source))]
    boxes = [x.boxes[x.box_mask] for x in examples]
    labels = [x.labels[x.box_mask] for x in examples]
    lost = expected = 0
    for each_boxes, each_labels, (found, _, found_labels) in zip(
        boxes, labels, found_in(version, boxes, labels, (416, 416)), strict=True
    ):
        iou = reference_iou(found, each_boxes)
        near = (iou > 0.999) & (found_labels[:, None] == each_labels[None])
        kept = survivors(version.places(each_boxes), each_boxes, each_labels)
        same = reference_iou(each_boxes, each_boxes) > 0.999  # a box may be in the file twice
        same &= each_labels[:, None] == each_labels[None]
        np.testing.assert_array_equal(near.any(axis=0), same[kept].any(axis=0))
        assert len(found) == len(kept)
        lost += len(each_labels) - len(found)
        expected += len(each_labels) - len(kept)
    assert lost == expected
    assert 0 < lost < 0.05 * sum(map(len, labels))


def survivors(places, boxes, labels):
    """The last object of each predictor, and of these, cell by cell, what no other suppresses."""
    last = {place: index for index, place in enumerate(places)}
    kept = []
    for _, index in sorted(last.items()):
        rivals = [k for k in kept if labels[k] == labels[index]]
        if not rivals or reference_iou(boxes[rivals], boxes[[index]]).max() <= 0.45:
            kept.append(index)
    return kept


# A researcher's example: another loss of the boxes, and another rule of matching


def generalized_iou_loss(t, target_t, decoded, target_box):
    del t, target_t
    return 1 - elementwise_generalized_box_iou(decoded, target_box)


def top_three(decoded, anchors, strides, boxes, box_mask):
    """The three anchors of all maps that fit an object best, in the cell of its centre.

    Where several objects want the same predictor, the one that fits it better gets it. What
    overlaps an object by more than a half counts neither way.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    fit = shape_iou(sides, jnp.concatenate(anchors)) * box_mask[:, None]
    chosen = fit >= jax.lax.top_k(fit, 3)[0][:, -1:]
    matches, start = [], 0
    for of_map, stride in zip(decoded, strides, strict=True):
        height, width, count = of_map.shape[:3]
        size = height * stride, width * stride
        row, column = cell_index(boxes, grid_size=(height, width), image_size=size)
        here = jnp.arange(height)[None, :, None] == row[:, None, None]
        here = here & (jnp.arange(width)[None, None] == column[:, None, None])  # [G, H, W]
        of_anchor = (chosen & box_mask[:, None])[:, start : start + count]
        wanted = here[..., None] & of_anchor[:, None, None]  # [G, H, W, A]
        score = jnp.where(wanted, fit[:, None, None, start : start + count], -1)
        iou = box_iou(of_map.reshape(-1, 4), boxes).max(axis=1).reshape(of_map.shape[:3])
        empty = jnp.where(iou > 0.5, -2, -1)
        matches.append(jnp.where(wanted.any(axis=0), score.argmax(axis=0), empty))
        start += count
    return matches


RESEARCHERS_SCALES = {
    1: ((3, None, ((8, 1),), 8),),
    2: ((3, None, ((8, 1),), 8), (2, 8, (), 8)),
}


def researchers_task(scales):
    stages = tuple((level, ((8, 3),)) for level in range(4))
    model = create_model(
        "yolov3",
        num_classes=3,
        backbone={"name": "plain_darknet", "stages": stages},
        scales=RESEARCHERS_SCALES[scales],
    )
    anchors = ((4, 4), (6, 10), (10, 6), (12, 12), (20, 16), (24, 24))
    detector = detectors.yolov3(
        model, anchors, box_loss=generalized_iou_loss, match=top_three, ignore_threshold=0.6
    )
    return detection(detector, Inputs((32, 32)), class_names=("cat", "dog", "cow"))


def toy_batch():
    from tests.tasks.test_detection import batch_of

    return batch_of(4)


def test_the_researchers_rule_gives_each_object_three_predictors():
    batch = jax.tree.map(lambda x: x[0], toy_batch())
    boxes, mask = batch.boxes, batch.box_mask & (batch.boxes[:, 2:] > batch.boxes[:, :2]).all(1)
    anchors = [np.float32([[12, 12], [20, 16], [24, 24]]), np.float32([[4, 4], [6, 10], [10, 6]])]
    decoded = [np.zeros((4, 4, 3, 4), "f4"), np.zeros((8, 8, 3, 4), "f4")]
    run = jax.jit(functools.partial(top_three, strides=(8, 4)))
    matches = run(decoded, anchors, boxes=boxes, box_mask=mask)
    found = np.concatenate([np.asarray(of_map).ravel() for of_map in matches])
    for index in np.flatnonzero(mask):
        assert (found == index).sum() == 3
    assert (found >= 0).sum() == 3 * mask.sum()


def test_the_researchers_detector_is_described():
    parts = as_json(researchers_task(1))["loss"]
    assert parts["box_loss"]["object"].endswith(":generalized_iou_loss")
    assert parts["match"]["object"].endswith(":top_three")
    assert parts["ignore_threshold"] == 0.6


@pytest.mark.parametrize("scales", long_but(RESEARCHERS_SCALES, [], [1]))
def test_the_researchers_detector_learns(scales):
    task, batch = researchers_task(scales), toy_batch()
    losses = train(task, [batch] * 20, optimizer=optax.adam(1e-2)).losses
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.7 * losses[0]
    assert (np.diff(losses) < 0).mean() > 0.8
