"""R-CNN: crops of regions by hand, and a detector that finds rectangles in noise."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from PIL import Image

from jaxvision.core import InputError, Inputs
from jaxvision.features import RegionFeatures, crop_regions, fit_rcnn, region_examples
from jaxvision.metrics import coco_average_precision
from jaxvision.ops import box_iou
from jaxvision.tasks import classification
from jaxvision.tasks.detection_metrics import detection_table, object_table

SIDE, CLASSES = 48, 2
COLORS = np.array([[230, 40, 40], [40, 60, 230]])


class Rectangles:
    """Red (class 0) and blue (class 1) rectangles in noise, and proposals near and far."""

    class_names = ("red", "blue")

    def __init__(self, count, seed=0):
        self._records = [make_record(np.random.default_rng((seed, n))) for n in range(count)]

    def __len__(self):
        return len(self._records)

    def __getitem__(self, index):
        return self._records[index]

    def where(self, index):
        return f"image {index}"

    def target(self, index):
        return {name: x for name, x in self._records[index].items() if name != "image"}


def make_record(rng):
    image = rng.integers(60, 190, (SIDE, SIDE, 3)).astype(np.uint8)
    corners = np.array([[2, 2], [26, 2], [2, 26], [26, 26]])[rng.permutation(4)[: rng.integers(3)]]
    corners = corners + rng.integers(0, 5, corners.shape)
    boxes = np.concatenate([corners, corners + rng.integers(9, 16, corners.shape)], axis=1)
    labels = rng.integers(0, CLASSES, len(boxes))
    for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True):
        image[y1:y2, x1:x2] = COLORS[label]
    near = np.repeat(boxes, 4, axis=0) + rng.integers(-3, 4, (4 * len(boxes), 4))
    corner = rng.uniform(0, 30, (12, 2))
    far = np.concatenate([corner, corner + rng.uniform(8, 18, (12, 2))], axis=1)
    none = np.zeros(len(boxes), bool)
    return {
        "image": image,
        "boxes": boxes.astype(np.float64).reshape(-1, 4),
        "labels": labels,
        "crowd": none,
        "difficult": none,
        "proposals": np.clip(np.concatenate([near.reshape(-1, 4), far]), 0, SIDE).astype("f4"),
    }


class Tiny(nn.Module):
    """Mean colors of 4 x 4 cells are its map."""

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.relu(nn.Conv(12, (3, 3), strides=2)(images))
        c2 = nn.avg_pool(x, (2, 2), (2, 2))
        pooled = c2.mean(axis=(1, 2))
        return {"c2": c2, "pooled": pooled, "logits": nn.Dense(CLASSES + 1)(pooled)}


@pytest.fixture(scope="module")
def features():
    inputs = Inputs((16, 16), mean=(0.5,) * 3, std=(0.25,) * 3)
    task = classification(Tiny(), inputs, class_names=CLASSES + 1)
    variables = jax.jit(task.init)(jax.random.key(0))
    return RegionFeatures(task, variables, map="c2", flatten=True, context=2, batch_size=16)


@pytest.fixture(scope="module")
def fitted(features):
    how = {"ridge": 10.0, "svm_c": 0.01}
    return fit_rcnn(features, Rectangles(60), CLASSES, **how)


def test_a_crop_has_the_context_and_what_is_outside_is_filled():
    image = np.random.default_rng(0).integers(0, 255, (30, 40, 3)).astype(np.uint8)
    # A box of the inner size: the crop is a window of the image.
    (crop,) = crop_regions(image, np.float32([[12, 9, 24, 17]]), size=(12, 16), context=2)
    np.testing.assert_array_equal(crop, image[7:19, 10:26])
    fill = (1.0, 2.0, 3.0)
    crop = np.asarray(
        crop_regions(image, np.float32([[0, 0, 12, 8]]), size=(12, 16), context=2, fill=fill)
    )[0]
    np.testing.assert_array_equal(crop[2:, 2:], image[:10, :14])
    assert (crop[:2] == [1, 2, 3]).all()
    assert (crop[:, :2] == [1, 2, 3]).all()
    # A wider box is squeezed, and so is its context: 2 pixels of 12 are 5 of 30.
    (crop,) = crop_regions(image, np.float32([[5, 9, 35, 17]]), size=(12, 16), context=2)
    with Image.fromarray(image) as whole:
        expected = whole.resize((16, 12), Image.Resampling.BILINEAR, box=(0, 7, 40, 19))
    assert np.abs(np.asarray(crop).astype(int) - np.asarray(expected)).max() <= 1


def test_features_are_those_of_the_crops_one_by_one(features):
    record = Rectangles(1)[0]
    boxes = record["proposals"]
    assert len(boxes) % features.batch_size
    together = features(record["image"], boxes)
    assert together.shape == (len(boxes), 4 * 4 * 12)
    for number in (0, len(boxes) - 1):
        alone = features(record["image"], boxes[number : number + 1])
        np.testing.assert_allclose(alone[0], together[number], atol=1e-5)
    assert features(record["image"], np.zeros((0, 4))).shape == (0, 4 * 4 * 12)


def evaluate(detector, source, **options):
    found = [
        detector.detect(record["image"], record["proposals"], max_detections=20, **options)
        for record in map(source.__getitem__, range(len(source)))
    ]
    stacked = jax.tree.map(lambda *x: np.stack(x), *found)
    objects = object_table([source.target(index) for index in range(len(source))])
    return stacked, coco_average_precision(detection_table(stacked), objects, num_classes=CLASSES)


def test_it_detects_in_other_images(fitted):
    _, result = evaluate(fitted, Rectangles(30, seed=1))
    assert result.stats["AP50"] > 0.9
    unmoved = fitted._replace(
        box_kernel=np.zeros_like(fitted.box_kernel), box_bias=np.zeros_like(fitted.box_bias)
    )
    _, rough = evaluate(unmoved, Rectangles(30, seed=1))
    # The regression makes the boxes better than the best of the proposals.
    assert result.stats["AP"] > rough.stats["AP"] + 0.05


def test_detections_lie_in_the_image_and_are_suppressed_class_by_class(fitted):
    source = Rectangles(8, seed=2)
    found, _ = evaluate(fitted, source, iou_threshold=0.2, score_threshold=-1.5)
    assert found.valid.any()
    assert not found.boxes[~found.valid].any()
    assert found.boxes.min() >= 0
    assert found.boxes.max() <= SIDE
    for boxes, labels, valid in zip(found.boxes, found.labels, found.valid, strict=True):
        overlap = np.asarray(box_iou(boxes, boxes)) * (labels[:, None] == labels)
        overlap = np.triu(overlap, 1) * valid * valid[:, None]
        assert overlap.max() <= 0.2 + 1e-6
    scores = np.where(found.valid, found.scores, -np.inf)
    assert (scores[:, 1:] <= scores[:, :-1]).all()


def test_no_proposals_and_no_objects_of_a_class(features):
    source = Rectangles(12)
    detector = fit_rcnn(features, source, CLASSES + 1, mining_rounds=0)
    assert detector.bias[CLASSES] == -np.inf
    record = source[0]
    assert not detector.detect(record["image"], np.zeros((0, 4))).valid.any()
    found = detector.detect(record["image"], record["proposals"], score_threshold=-100.0)
    assert found.valid.any()
    assert (found.labels[found.valid] < CLASSES).all()


def test_mining_adds_negatives_that_are_hard(features):
    source = Rectangles(40)
    how = {"negatives_per_image": 1, "svm_c": 0.01}
    rough, mined = (fit_rcnn(features, source, CLASSES, mining_rounds=n, **how) for n in (0, 2))

    def highest_of_background(detector):
        scores = []
        for index in range(len(source)):
            record = source[index]
            x = detector.scale * features(record["image"], record["proposals"])
            boxes = np.float32(record["boxes"]).reshape(-1, 4)
            iou = np.asarray(box_iou(record["proposals"], boxes)).max(axis=1, initial=0)
            scores.append((x @ detector.kernel + detector.bias)[iou < 0.3].max())
        return np.mean(scores)

    assert highest_of_background(mined) < highest_of_background(rough)


def test_crowds_and_difficult_objects_are_neither_positive_nor_negative(features):
    source = Rectangles(12)
    records = [dict(source[index]) for index in range(12)]
    flagged = Rectangles(12)
    for number, record in enumerate(records):
        real = record["labels"] == 0
        flagged._records[number] = {**record, "crowd": ~real}
    detector = fit_rcnn(features, flagged, CLASSES)
    assert detector.bias[1] == -np.inf
    crops = region_examples(flagged, size=(16, 16), context=2)
    assert set(crops.labels.tolist()) == {0, 1}


def test_the_examples_of_regions_are_crops_with_the_class_of_their_object():
    source = Rectangles(20)
    crops = region_examples(source, size=(16, 16), context=2, per_image=12)
    assert crops.class_names == ("background", "red", "blue")
    objects = sum(len(source[index]["labels"]) > 0 for index in range(20))
    assert 0 < (crops.labels > 0).sum() <= 3 * objects
    assert len(crops) <= 12 * 20
    for label, color in enumerate(COLORS, start=1):
        inner = np.concatenate(
            [
                crops[n]["image"][6:10, 6:10].reshape(-1, 3)
                for n in np.flatnonzero(crops.labels == label)
            ]
        )
        np.testing.assert_allclose(np.median(inner, axis=0), color, atol=2)
    again = region_examples(source, size=(16, 16), context=2, per_image=12)
    np.testing.assert_array_equal(again.labels, crops.labels)
    np.testing.assert_array_equal(again[5]["image"], crops[5]["image"])
    other = region_examples(source, size=(16, 16), context=2, per_image=12, seed=1)
    assert any((other[n]["image"] != crops[n]["image"]).any() for n in range(len(other)))


def test_what_does_not_fit_is_refused(features):
    source = Rectangles(2)
    with pytest.raises(InputError, match="context is 8: give"):
        crop_regions(np.zeros((9, 9, 3), np.uint8), np.zeros((1, 4)), size=(16, 20), context=8)
    with pytest.raises(InputError, match="ridge is -1"):
        fit_rcnn(features, source, CLASSES, ridge=-1.0)
    with pytest.raises(InputError, match="positive_fraction is 2"):
        region_examples(source, size=(16, 16), positive_fraction=2.0)
    bare = Rectangles(2)
    del bare._records[0]["proposals"]
    with pytest.raises(InputError, match="image 0: has no proposals: give a source WithProposals"):
        fit_rcnn(features, bare, CLASSES)
    empty = Rectangles(1)
    none = {name: empty[0][name][:0] for name in ("boxes", "labels", "crowd", "difficult")}
    empty._records[0] |= none
    with pytest.raises(InputError, match="no objects to fit an R-CNN to"):
        fit_rcnn(features, empty, CLASSES)
