"""Detectors in Darknet's format as tasks: their heads, options, and predictions."""

import functools

import jax
import numpy as np
import pytest

from jaxvision.core import DetectionBatch, Detections, ImageBatch, InputError, Inputs
from jaxvision.interop import DarknetNetwork, parse_cfg, read_cfg
from jaxvision.losses import yolo9000_loss
from jaxvision.ops import WordTree, clip_boxes_to_image
from jaxvision.predict import darknet_task, predict
from jaxvision.tasks import detection
from jaxvision.tasks.decoding import DetectOptions, detect
from jaxvision.tasks.detection import restore_detection
from jaxvision.tasks.detectors import (
    darknet,
    darknet_candidates,
    yolov1_candidates,
    yolov2_candidates,
    yolov3_candidates,
)
from jaxvision.tasks.inference import predictions_of
from tests.marks import long_but, slow_but
from tests.models.variables import random_variables
from tests.reference import darknet as reference
from tests.tasks.loop import as_json

NET = "[net]\nheight=32\nwidth=32\nchannels=3\n"
CONV = "[conv]\nfilters={}\nsize=3\nstride={}\npad=1\nactivation=linear\n"
REGION = "[region]\nanchors=1,1,2,1.5\nnum=2\nclasses=3\ncoords=4\nsoftmax={}\n"
YOLO = "[yolo]\nmask={}\nanchors=4,6,9,9,16,12\nnum=3\nclasses=3\n"
CFGS = {
    "detection": NET
    + CONV.format(4, 8)
    + "[connected]\noutput=208\nactivation=linear\n"
    + "[detection]\nside=4\nnum=2\nclasses=3\ncoords=4\nsqrt=1\nsoftmax=0\n",
    "region": NET + CONV.format(16, 8) + REGION.format(1),
    "yolo": NET
    + CONV.format(8, 8)
    + YOLO.format("2")
    + "[route]\nlayers=-2\n[upsample]\nstride=2\n"
    + CONV.format(16, 1)
    + YOLO.format("0,1"),
}


def whole(images):
    """A batch of images that fill the network's input."""
    return ImageBatch(image=images, mask=np.ones(len(images), bool))


def predictions(task, variables, batch):
    return jax.jit(functools.partial(predictions_of, task))(variables, batch)


def candidates_of(kind, maps):
    if kind == "detection":
        parts = (maps[name] for name in ("coordinates", "confidence", "class_scores"))
        return yolov1_candidates(*parts, image_size=(32, 32))
    if kind == "region":
        return yolov2_candidates(maps["region1"], np.float32([[8, 8], [16, 12]]), stride=8)
    anchors = [np.float32([[16, 12]]), np.float32([[4, 6], [9, 9]])]
    return yolov3_candidates([maps["yolo1"], maps["yolo5"]], anchors, strides=(8, 4))


@pytest.mark.parametrize("kind", slow_but(CFGS, []))
def test_darknets_heads_are_read_as_the_versions_of_yolo(kind):
    description = parse_cfg(CFGS[kind])
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    network = DarknetNetwork(description)
    variables = random_variables(network, images / np.float32(255))
    options = {"score_threshold": 0.01, "iou_threshold": 0.3, "max_detections": 20}
    task = darknet_task(description, **options)
    found = predictions(task, variables, whole(images))
    assert isinstance(found, Detections)

    @jax.jit
    def one(image):
        maps = network.apply(variables, image[None] / 255, train=False)
        boxes, scores = candidates_of(kind, {name: x[0] for name, x in maps.items()})
        return detect(boxes, scores, image_size=(32, 32), options=DetectOptions(**options))

    found = jax.device_get(found)
    assert found.valid.any()
    for number in range(2):
        expected = jax.device_get(one(images[number]))
        for name in ("boxes", "scores", "labels", "valid"):
            value = getattr(found, name)[number]
            np.testing.assert_allclose(value, getattr(expected, name), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_classes_of_a_region_without_softmax_do_not_exclude_each_other():
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    scores = []
    for softmax in (0, 1):
        description = parse_cfg(NET + CONV.format(16, 8) + REGION.format(softmax))
        variables = random_variables(DarknetNetwork(description), images / np.float32(255))
        task = darknet_task(description, iou_threshold=1.0)
        found = predictions(task, variables, whole(images))
        scores.append(np.sort(found.scores[0]))
    assert scores[0].sum() > scores[1].sum() * 1.05


def test_uncertain_boxes_of_gaussian_yolo():
    """In each form of its place; more uncertain boxes have lower scores."""
    text = CFGS["yolo"].split("[yolo]")[0].replace("filters=8", "filters=24")
    rng = np.random.default_rng(0)
    x, anchors = rng.normal(size=(3, 4, 2, 12)).astype("f4"), [(5.0, 6.0), (12.0, 9.0)]
    for point in ("center", "left_top", "right_bottom"):
        head = f"[Gaussian_yolo]\nanchors=5,6,12,9\nnum=2\nclasses=3\nyolo_point={point}\n"
        (head,) = parse_cfg(text + head + "scale_x_y=1.1\n").heads()
        boxes, scores = darknet_candidates([head], {"Gaussian_yolo1": x}, image_size=(32, 32))
        expected = reference.gaussian(x, anchors, head.stride, 1.1, point)
        np.testing.assert_allclose(boxes, expected[0], rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(scores, expected[1], rtol=1e-5)


def test_new_coordinates_are_probabilities_already():
    """Column 1 of row 0, by hand: 2 x 0.75 - 0.5 = 1, 2 x 0.5 - 0.5 = 0.5; sizes (2 t)^2."""
    text = CFGS["yolo"].split("[yolo]")[0] + YOLO.format("2") + "scale_x_y=2\nnew_coords=1\n"
    (head,) = parse_cfg(text).heads()
    x = np.zeros((4, 4, 1, 8), np.float32)
    x[0, 1, 0] = [0.75, 0.5, 0.5, 1, 0.5, 0.2, 0.4, 1]
    boxes, scores = darknet_candidates([head], {"yolo1": x}, image_size=(32, 32))
    np.testing.assert_allclose(boxes[1], [16 - 8, 4 - 24, 16 + 8, 4 + 24])
    np.testing.assert_allclose(scores[1], [0.1, 0.2, 0.5], rtol=1e-6)
    assert not scores[2:].any()


def test_boxes_are_suppressed_as_the_description_says():
    """Of an IoU of 0.6, centres 2.5 apart: greedynms keeps both, as 0.6 - (6.25 / 256.25)^0.6."""
    logits = np.full((4, 4, 1, 6), -9, np.float32)
    for row, place in enumerate((0.9, 0.2125)):  # at 8 + 7.2 and 16 + 1.7 pixels
        logits[1 + row, 1, 0] = [0, np.log(place / (1 - place)), 0, 0, 9 - row, 9]
    text = CFGS["yolo"].split("[yolo]")[0].replace("filters=8", "filters=6")
    text += "[yolo]\nanchors=10,10\nclasses=1\n"
    image = np.zeros((32, 32, 3), np.uint8)
    for options, count in (("", 1), ("nms_kind=greedynms\n", 2), ("nms_kind=default\n", 1)):
        task = darknet_task(parse_cfg(text + options), iou_threshold=0.55, score_threshold=0.5)
        assert task.inputs.resize == ("stretch" if options else "letterbox")
        found = task.decode({"yolo1": logits}, ImageBatch(image=image, mask=np.True_))
        assert found.valid.sum() == count


TREE = WordTree(("animal", "thing", "cat", "dog"), (-1, -1, 0, 0))
IN_TREE = (NET + CONV.format(18, 8) + REGION.format(1)).replace("classes=3", "classes=4")
HIERARCHICAL = IN_TREE + "tree=data/a.tree\n"


def in_tree(task):
    """What is found in a map of one sure object, a dog for which cats are no match."""
    logits = np.full((4, 4, 2, 9), -9, np.float32)
    logits[1, 2, 1] = [0, 0, 0, 0, 2, *np.log([0.9, 0.1, 0.2, 0.8])]
    image = ImageBatch(image=np.zeros((32, 32, 3), np.uint8), mask=np.True_)
    found = jax.device_get(jax.jit(task.decode)({"region1": logits}, image))
    return found.labels[found.valid].tolist(), found.scores[found.valid]


def test_a_region_in_a_tree_finds_nodes_or_mapped_classes():
    description, sure = parse_cfg(HIERARCHICAL), 1 / (1 + np.exp(-2))
    options = {"tree": TREE, "score_threshold": 0.01}
    labels, scores = in_tree(darknet_task(description, class_names=TREE.names, **options))
    assert labels == [3]
    np.testing.assert_allclose(scores, [sure], rtol=1e-5)
    task = darknet_task(description, tree_threshold=0.8, **options)
    assert in_tree(task)[0] == [0]
    task = darknet_task(description, nodes=(2, 3), class_names=("cat", "dog"), **options)
    labels, scores = in_tree(task)
    assert labels == [1, 0]
    np.testing.assert_allclose(scores, [0.72 * sure, 0.18 * sure], rtol=1e-5)
    mapped = parse_cfg(HIERARCHICAL + "map=data/a.map\n")
    assert in_tree(darknet_task(mapped, nodes=(), **options))[0] == [3]


def test_trees_and_maps_are_found_beside_the_description(tmp_path, monkeypatch):
    tree = "".join(
        f"{name} {above}\n" for name, above in zip(TREE.names, TREE.parents, strict=True)
    )
    (tmp_path / "cfg").mkdir()
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path / "away")
    cfg = tmp_path / "cfg" / "net.cfg"
    cfg.write_text(HIERARCHICAL + "map=data/a.map\n")
    with pytest.raises(InputError, match=r"net.cfg names the file data/a.tree, which is not there"):
        darknet_task(read_cfg(cfg))
    places = ("cfg/data", "data", "away/data", "cfg", "away", ".")
    for place in places:
        folder = tmp_path / place
        folder.mkdir(exist_ok=True)
        (folder / "a.tree").write_text(tree)
        (folder / "a.map").write_text("3\n")
        assert in_tree(darknet_task(read_cfg(cfg)))[0] == [0]
        (folder / "a.map").write_text("4\n")
        with pytest.raises(InputError, match=r"a.map, line 1: is the node 4"):
            darknet_task(read_cfg(cfg))
        (folder / "a.tree").unlink()
        (folder / "a.map").unlink()


def test_a_region_in_a_tree_is_trained_as_yolo9000():
    network = DarknetNetwork(parse_cfg(HIERARCHICAL))
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 4, 2, 9)).astype("f4")
    truth = np.float32([[3, 4, 14, 20], [9, 9, 30, 21]]), np.int32([1, 0]), np.bool_([True, True])
    example = DetectionBatch(
        np.zeros((32, 32, 3), np.float32), *truth, ~truth[2], ~truth[2], np.True_
    )
    anchors, step = np.float32([[8, 8], [16, 12]]), np.int32(7)
    for nodes, labels in ((), truth[1]), ((2, 3), truth[1] + 2):
        detector = darknet(network, tree=TREE, nodes=nodes, label_objectness="none")
        for alone in (None, np.False_, np.True_):
            given = example.replace(labels_only=alone)
            terms = detector.loss({"region1": logits}, given, key=None, step=step)
            arrays = logits, truth[0], labels, truth[2], anchors, step, np.bool_(bool(alone))
            expected = yolo9000_loss(*arrays, tree=TREE, stride=8, label_objectness="none")
            assert terms == expected


def test_a_run_in_a_tree_needs_no_file():
    """Its description holds the tree and the nodes."""
    network = DarknetNetwork(parse_cfg(HIERARCHICAL + "map=data/a.map\n"))
    for nodes, found in ((), [3]), ((2, 3), [1, 0]):
        detector = darknet(network, tree=TREE, nodes=nodes)
        task = detection(detector, Inputs((32, 32)), class_names=len(nodes) or 4)
        again = restore_detection(as_json(task), decode={"score_threshold": 0.01})
        assert in_tree(again)[0] == found


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (IN_TREE, {"tree": TREE}, "^tree is given, but the classes of <cfg> are no tree: leave it"),
        (IN_TREE, {"nodes": (0,)}, "^nodes is given, but"),
        (
            HIERARCHICAL,
            {"tree": WordTree(("a",), (-1,))},
            "^tree has 1 nodes, but the .region. of <cfg> has 4 classes: give a tree with a node",
        ),
        (HIERARCHICAL, {"tree": TREE, "nodes": (4,)}, "^nodes: there is no node 4"),
        (HIERARCHICAL, {"tree": TREE, "tree_threshold": 2}, "^tree_threshold is 2: give at least"),
        (
            HIERARCHICAL,
            {"tree": TREE, "nodes": (1, 2, 3), "class_names": TREE.names},
            "^class_names has 4 names, but the detector has 3 classes",
        ),
    ],
)
def test_wrong_trees_are_refused(text, options, message):
    with pytest.raises(InputError, match=message):
        darknet_task(parse_cfg(text), **options)


def test_a_description_of_a_classifier_finds_nothing():
    classifier = NET + CONV.format(3, 2) + "[avg]\n[softmax]\n"
    with pytest.raises(InputError, match=r"does not describe a detector: it has no .detection., "):
        darknet_task(parse_cfg(classifier))


@pytest.mark.parametrize("kind", long_but(CFGS, [], ["detection"]))
def test_images_are_brought_to_the_size_of_the_input_as_in_darknet(kind):
    description = parse_cfg(CFGS[kind])
    names = ("cat", "dog", "cow")
    task = darknet_task(description, class_names=names, score_threshold=0.01)
    assert (task.kind, task.class_names, task.inputs.size) == ("detection", names, (32, 32))
    assert task.inputs.resize == ("stretch" if kind == "detection" else "letterbox")
    image = np.random.default_rng(0).integers(0, 256, (20, 64, 3), np.uint8)
    network = DarknetNetwork(description)
    variables = random_variables(network, np.zeros((1, 32, 32, 3), np.float32))
    like = jax.eval_shape(task.init, jax.random.key(0))
    assert jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, like)
    results = [list(predict(task, variables, [image] * 3, batch_size=n)) for n in (1, 2)]
    for one, other in zip(*results, strict=True):
        boxes = one.result.boxes
        assert len(boxes) > 0
        assert ((boxes >= 0) & (boxes <= [64, 20, 64, 20])).all()
        assert (np.diff(one.result.scores) <= 0).all()
        np.testing.assert_allclose(one.result.scores, other.result.scores, atol=1e-5)
        # Cells beside a letterboxed image are alike, so that equal scores may change places.
        distance = np.abs(boxes[:, None] - other.result.boxes[None]).max(axis=-1)
        apart = np.abs(one.result.scores[:, None] - other.result.scores[None]) > 1e-5
        assert np.where(apart, np.inf, distance).min(axis=1).max() < 1e-3


@pytest.mark.slow
def test_boxes_are_clipped_to_the_extent():
    description = parse_cfg(CFGS["region"])
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    variables = random_variables(DarknetNetwork(description), images / np.float32(255))
    # An IoU of 1 suppresses nothing, so that clipping changes the boxes alone.
    task = darknet_task(description, iou_threshold=1.0)
    batch = whole(images)

    @jax.jit
    def run(variables, extent):
        free = predictions_of(task, variables, batch)
        clipped = predictions_of(task, variables, batch.replace(extent=extent))
        return free, clipped, clip_boxes_to_image(free.boxes, (20, 32))

    free, clipped, expected = jax.device_get(run(variables, np.int32([[20, 32]])))
    assert (free.boxes > 20).any()
    # What is left of a box may have no area; others take its place.
    expected = expected[0][(expected[0, :, 2:] > expected[0, :, :2]).all(axis=1)]
    assert 0 < len(expected) < free.valid.sum()
    np.testing.assert_allclose(clipped.boxes[0, : len(expected)], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"class_names": ("cat",)},
            "^class_names has 1 names, but the detector has 3 classes: giv",
        ),
        ({"score_threshold": 2}, "^score_threshold is 2: give at least 0 and at most 1$"),
        ({"iou_threshold": -1}, "^iou_threshold is -1: give at least 0 and at most 1$"),
        ({"max_detections": 0}, "^max_detections is 0: give at least 1$"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        darknet_task(parse_cfg(CFGS["region"]), **options)
