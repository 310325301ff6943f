"""Detectors in a tree of classes on the command line: trees, nodes, and classes without boxes."""

import jax
import numpy as np
import pytest

from jaxvision.cli.config import find_config, load_config
from jaxvision.cli.kinds.detection_data import SOURCES, DetectionData
from jaxvision.cli.setup import build
from jaxvision.core import InputError, OptionError

FILE = "odd -1\neven -1\n1 0\n2 1\n"


def config_of(tree=None):
    config = load_config(find_config("scenes_yolo9000"))
    if tree is not None:
        with config.ignore_type():
            config.detector.tree = tree
    config.data.class_names = ("1", "2")
    config.data.labels_only = ()
    return config


def classes_of(config):
    model = build(config).task.origin["forward"][1]["model"]
    return model["num_classes"]


def test_a_tree_of_names_or_of_a_file(tmp_path):
    path = tmp_path / "a.tree"
    path.write_text(FILE)
    assert classes_of(config_of()) == 16
    config = config_of(str(path))
    assert classes_of(config) == 4
    (tmp_path / "a.map").write_text("3\n2\n")
    config.detector.nodes = str(tmp_path / "a.map")
    parts = build(config).task.origin["decode"][1]
    assert parts["nodes"] == [3, 2]
    config = config_of(str(path))
    config.data.class_names = ("odd", "even", "1", "2")
    parts = build(config).task.origin["decode"][1]
    assert parts["nodes"] is None


def test_a_classifier_in_the_tree_of_its_classes(tmp_path):
    """What is above the classes; without inner nodes of one child, and without the root."""
    (tmp_path / "a.tree").write_text("all -1\ndigit 0\nletter 0\nodd 1\neven 1\n1 3\n3 3\n2 4\n")
    config = load_config(find_config("digits_resnet20"))
    config.data.class_names = ("1", "2", "3")
    config.tree.file = str(tmp_path / "a.tree")
    for prune, names in ((True, ("odd", "2", "1", "3")), (False, ("all", "digit"))):
        config.tree.prune = prune
        task = build(config).task
        tree = task.origin["decode"][1]["tree"]
        assert set(names) <= set(tree["names"])
        assert len(tree["names"]) == (4 if prune else 7)
        params = jax.eval_shape(task.init, jax.random.key(0))["params"]
        assert params["fc"]["bias"].shape == (len(tree["names"]),)
    config.data.class_names = ("1", "2", "3", "x")
    with pytest.raises(OptionError, match=r"config.tree.file is .*, which has no node 'x'"):
        build(config)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ("", r"config.detector.tree is not set: give a file in the form of Darknet's 9k.tree"),
        ("nowhere.tree", "nowhere.tree cannot be read as a tree of classes: No such file"),
        ({"1": "odd"}, "config.detector.tree: the parent of '1' is 'odd', which is no node"),
        ({"odd": "", "1": "odd"}, r"config.detector.tree has no node '2'"),
    ],
)
def test_other_trees_are_refused(tree, message):
    config = config_of(tree)
    config.data.class_names = ("1", "2", "3")
    with pytest.raises(InputError, match=message):
        build(config)


@pytest.mark.slow
def test_classes_without_boxes_have_scenes_of_one_object():
    options = DetectionData(labels_only=("7", "9"), validation_fraction=0.0)
    source = SOURCES["scenes"](options, "train")
    found = {False: [], True: []}
    for index in range(len(source)):
        target = source.target(index)
        found[bool(target.get("labels_only"))].append(target["labels"])
    assert {len(labels) for labels in found[True]} == {1}
    assert {*np.concatenate(found[True]).tolist()} == {7, 9}
    assert {*np.concatenate(found[False]).tolist()} == {*range(10)} - {7, 9}
    assert not any(
        SOURCES["scenes"](options, "test").target(index).get("labels_only") for index in range(9)
    )


def test_wrong_classes_without_boxes_are_refused():
    with pytest.raises(OptionError, match=r"^validation_fraction is 0.1, but some training images"):
        DetectionData(labels_only=("7",))
    options = DetectionData(labels_only=("x",), validation_fraction=0.0)
    with pytest.raises(OptionError, match=r"^labels_only has 'x': give some of 0, 1"):
        SOURCES["scenes"](options, "train")
