"""YOLO9000 as a detector: by hand, against flat classes, its two kinds of images, its record."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.core import DetectionBatch, Inputs, OptionError
from jaxvision.losses import yolo9000_loss
from jaxvision.models import create_model
from jaxvision.models.backbones.darknet import PlainDarknet
from jaxvision.ops import WordTree
from jaxvision.tasks import DetectOptions, detect, detection, detectors
from jaxvision.tasks.detection import restore_detection
from jaxvision.tasks.detectors import yolo9000_detections, yolov2_candidates
from tests.models.variables import random_values
from tests.tasks.loop import as_json

# animal (cat (lion), dog), thing
TREE = WordTree(("animal", "thing", "cat", "dog", "lion", "tabby"), (-1, -1, 0, 0, 2, 2))
ANCHORS = np.float32([[4, 6], [8, 8]])
SIZE = 32
STAGES = ((1, ((4, 3),)), (2, ((4, 1),)), (3, ((6, 1),)))


def model_of(**fields):
    backbone = functools.partial(PlainDarknet, STAGES)
    given = {"level": 3, "backbone": backbone, "num_classes": len(TREE), **fields}
    return create_model("yolo9000", **given)


def make(**options):
    tree = options.pop("tree", TREE)
    return detectors.yolo9000(model_of(), ANCHORS, tree, **options)


@functools.cache
def task_of(nodes=None, **options):
    names = TREE.names if nodes is None else len(nodes)
    return detection(make(nodes=nodes, **options), Inputs((SIZE, SIZE)), class_names=names)


def batch_of(labels_only=None, labels=(4, 1)):
    """Two images of two objects."""
    boxes = np.float32([[[2, 2, 10, 12], [20, 14, 27, 30]]] * 2)
    return DetectionBatch(
        image=np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8),
        boxes=boxes,
        labels=np.int32([labels] * 2),
        box_mask=np.ones((2, 2), bool),
        crowd=np.zeros((2, 2), bool),
        difficult=np.zeros((2, 2), bool),
        mask=np.ones(2, bool),
        labels_only=labels_only,
    )


def logits_of(places):
    """A map of 2 x 2 cells that says nothing but what is given: (row, column, anchor) -> t."""
    logits = np.full((2, 2, 2, 5 + len(TREE)), 0, np.float32)
    logits[..., 4] = -20
    for place, t in places.items():
        logits[place] = t
    return logits


def decode(logits, **options):
    how = {"stride": 10, "tree": TREE, "image_size": (20, 20), **options}
    return jax.device_get(jax.jit(lambda x: yolo9000_detections(x, ANCHORS, **how))(logits))


def test_a_box_is_the_most_specific_node_that_is_probable_enough():
    """Of one cell: animal 0.9, cat of these 0.8, lion of these 0.75: 0.72 and 0.54."""
    p = np.float32([0.9, 0.1, 0.8, 0.2, 0.75, 0.25])
    logits = logits_of({(0, 1, 0): [0, 0, 0, 0, 2, *np.log(p)]})
    for threshold, label in ((0.5, 4), (0.6, 2), (0.75, 0), (0.95, 0)):
        found = decode(logits, tree_threshold=threshold)
        assert found.valid.sum() == 1
        assert found.labels[0] == label
        np.testing.assert_allclose(found.scores[0], 1 / (1 + np.exp(-2)), rtol=1e-6)
        np.testing.assert_allclose(found.boxes[0], [13, 2, 17, 8])


def test_mapped_classes_have_the_probability_of_their_nodes():
    p = np.float32([0.9, 0.1, 0.8, 0.2, 0.75, 0.25])
    logits = logits_of({(0, 1, 0): [0, 0, 0, 0, 2, *np.log(p)]})
    options = DetectOptions(score_threshold=0.01, iou_threshold=1.0)
    found = decode(logits, nodes=(4, 3, 0), options=options)
    best = np.array([0.9, 0.54, 0.18]) / (1 + np.exp(-2))
    assert found.labels[:3].tolist() == [2, 0, 1]
    np.testing.assert_allclose(found.scores[:3], best, rtol=1e-5)


def test_boxes_of_a_node_are_suppressed_and_clipped():
    cat = [9, -9, 9, -9, 0, 0]
    dog = [9, -9, -9, 9, 0, 0]
    places = {
        (0, 0, 1): [0, 0, 0, 0, 3, *cat],
        (0, 1, 1): [-20, 0, 0, 0, 2, *cat],  # at x = 10, of an IoU of 3 / 13 with the first
        (1, 0, 1): [0, -20, 0, 0, 1, *dog],
        (1, 1, 1): [20, 20, 0, 0, 0, *dog],  # only a quarter of it within the image
    }
    found = decode(logits_of(places), options=DetectOptions(iou_threshold=0.2))
    assert found.labels[found.valid].tolist() == [2, 3, 3]
    np.testing.assert_allclose(found.boxes[2], [16, 16, 20, 20], atol=1e-4)
    found = decode(logits_of(places), options=DetectOptions(iou_threshold=0.3))
    assert found.labels[found.valid].tolist() == [2, 2, 3, 3]


def test_a_tree_of_roots_alone_is_yolov2():
    logits = np.random.default_rng(0).normal(scale=2, size=(2, 2, 2, 5 + len(TREE))).astype("f4")
    flat = WordTree(TREE.names, (-1,) * len(TREE))
    found = decode(logits, tree=flat, nodes=tuple(range(len(TREE))))
    boxes, scores = yolov2_candidates(logits, ANCHORS, stride=10)
    expected = jax.device_get(detect(boxes, scores, image_size=(20, 20)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)


@functools.cache
def variables():
    return random_values(jax.eval_shape(task_of().init, jax.random.key(0)))


@functools.cache
def program(nodes=None, **options):
    task = task_of(nodes, **options)

    @jax.jit
    def run(variables, batch):
        batch = jax.vmap(task.prepare)(batch)
        outputs, _ = task.forward(variables, batch, keys=None, step=0, train=False)
        loss = functools.partial(task.loss, key=None, step=jnp.int32(0))
        return outputs, jax.vmap(loss)(outputs, batch), jax.vmap(task.decode)(outputs, batch)

    return lambda batch: jax.device_get(run(variables(), batch))


def terms_by_hand(logits, batch, number, labels_only, labels=None):
    truth = batch.boxes, batch.labels if labels is None else labels, batch.box_mask
    terms = yolo9000_loss(
        logits[number],
        *(x[number] for x in truth),
        ANCHORS,
        np.int32(0),
        np.bool_(labels_only),
        tree=TREE,
        stride=8,
    )
    return {name: total for name, (total, _) in terms.items()}


def test_the_loss_of_both_kinds_of_images_in_one_batch():
    batch = batch_of(labels_only=np.array([False, True]))
    outputs, terms, found = program()(batch)
    assert found.labels.shape == (2, 100)
    for number, kind in enumerate((False, True)):
        expected = terms_by_hand(outputs["logits"], batch, number, kind)
        for name, total in expected.items():
            np.testing.assert_allclose(terms[name][0][number], total, rtol=1e-4, err_msg=name)
    assert terms["xy"][0][0] > 0
    assert terms["xy"][0][1] == 0
    _, located, _ = program()(batch_of())
    assert located["xy"][0].all()


def test_labels_are_the_mapped_classes_where_nodes_are_given():
    nodes = (3, 4)
    batch = batch_of(labels=(1, 0))
    outputs, terms, found = program(nodes)(batch)
    assert set(found.labels[found.valid]) <= {0, 1}
    expected = terms_by_hand(outputs["logits"], batch, 0, False, np.array(nodes)[batch.labels])
    np.testing.assert_allclose(terms["class"][0][0], expected["class"], rtol=1e-4)
    _, terms, _ = program(nodes)(batch_of(labels=(2, 0)))
    assert np.isnan(terms["class"][0]).all()


def test_a_restored_detector_finds_the_same():
    """From the description of a run, which holds the tree."""
    for nodes in (None, (3, 4)):
        task = task_of(nodes, tree_threshold=0.3)
        again = restore_detection(as_json(task))
        outputs, _, found = program(nodes, tree_threshold=0.3)(batch_of())
        example = jax.tree.map(lambda x: x[0], batch_of())
        first = jax.tree.map(lambda x: x[0], outputs)
        actual = jax.device_get(jax.jit(again.decode)(first, example))
        expected = jax.tree.map(lambda x: x[0], found)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), actual, expected)
        assert again.class_names == task.class_names


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: detectors.yolo9000(model_of(num_classes=5), ANCHORS, TREE),
            "^model has 5 classes, and the tree 6 nodes: set its num_classes to 6$",
        ),
        (lambda: make(nodes=(0, 6)), "^nodes: there is no node 6: the tree has nodes 0 to 5$"),
        (lambda: make(nodes=()), "^nodes: no nodes are given"),
        (lambda: make(tree_threshold=1.0), r"^tree_threshold is 1.0: give at least 0 and less tha"),
        (lambda: make(tree=TREE, gamma=1), "^loss: yolo9000_loss cannot be called as it is: .*'ga"),
        (lambda: make(labels_only=1), "^labels_only follows from the network: leave it out"),
        (
            lambda: detection(make(), Inputs((SIZE, SIZE)), class_names=5),
            "6 classes",
        ),
    ],
)
def test_wrong_options_are_refused(make, message):
    with pytest.raises(OptionError, match=message):
        make()
