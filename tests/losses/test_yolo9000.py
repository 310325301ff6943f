"""Losses over a tree of classes: by hand, against loops, gradients, both kinds of images."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.core import OptionError
from jaxvision.interop import read_word_tree
from jaxvision.losses import word_tree_cross_entropy, yolo9000_loss, yolov2_loss
from jaxvision.losses.yolo9000 import LABEL_OBJECTNESS
from jaxvision.ops import WordTree
from tests.reference import losses_tree as reference
from tests.reference.ops.word_tree import gradient_of_log_probability

TREE = WordTree(tuple("abcdefg"), (-1, -1, 0, 0, 1, 2, 2))
ANCHORS = np.float32([[10, 12], [25, 20]])
STRIDE, STEP = 16, np.int32(10**6)


@functools.cache
def program(label_objectness="paper", **options):
    """(terms, gradient of their sum by the logits), of the arrays of the loss."""
    options = {"tree": TREE, "stride": STRIDE, **options}

    def total(logits, *arrays):
        terms = yolo9000_loss(logits, *arrays, label_objectness=label_objectness, **options)
        return sum(total for total, _ in terms.values()), {k: t for k, (t, _) in terms.items()}

    gradient = jax.jit(jax.grad(total, has_aux=True))

    def run(*arrays):
        slope, terms = jax.device_get(gradient(*arrays))
        return terms, slope

    return run


def example(seed, *, labels_only, count=4):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 40, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 24, (count, 2))], axis=1)
    return (
        rng.normal(scale=2, size=(4, 4, 2, 5 + len(TREE))).astype("f4"),
        boxes.astype("f4"),
        rng.integers(0, len(TREE), count),
        rng.random(count) < 0.7,
        ANCHORS,
        STEP,
        np.bool_(labels_only),
    )


def test_cross_entropy_in_a_tree_by_hand():
    """Of e, whose parent b has no other child: only the roots have a loss, log 4."""
    x = np.log(np.float32([3, 1, 5, 1, 9, 1, 1]))
    total, weight = word_tree_cross_entropy(x, np.int32(4), np.float32(2), tree=TREE)
    np.testing.assert_allclose([total, weight], [2 * math.log(4), 2], rtol=1e-6)
    total, _ = word_tree_cross_entropy(x, np.int32(5), tree=TREE)  # f, of c, of a
    np.testing.assert_allclose(total, -math.log(3 / 4 * 5 / 6 * 1 / 2), rtol=1e-6)


@pytest.mark.parametrize("label", [0, 3, 4, 6])
def test_the_gradient_of_the_cross_entropy_equals_loops(label):
    x = np.random.default_rng(0).normal(size=7).astype("f4")

    @jax.jit
    def slope(x, label):
        return jax.grad(lambda x: word_tree_cross_entropy(x, label, tree=TREE)[0])(x)

    found = slope(x, np.int32(label))
    np.testing.assert_allclose(found, -gradient_of_log_probability(x, TREE, label), atol=1e-6)


@pytest.mark.parametrize("labels_only", [False, True])
@pytest.mark.parametrize("label_objectness", LABEL_OBJECTNESS)
def test_both_kinds_of_images_equal_the_reference(label_objectness, labels_only):
    run = program(label_objectness, class_weight=2.0, no_object_weight=0.5)
    options = {"class_weight": 2.0, "no_object_weight": 0.5, "stride": STRIDE, "tree": TREE}
    for seed in range(5):
        arrays = example(seed, labels_only=labels_only)
        expected = reference.yolo9000_loss(*arrays, label_objectness=label_objectness, **options)
        terms, slope = run(*arrays)
        assert np.isfinite(slope).all()
        assert set(terms) == set(expected)
        for name, (total, _) in expected.items():
            np.testing.assert_allclose(terms[name], total, rtol=2e-5, atol=1e-5, err_msg=name)


def test_only_the_classes_differ_from_yolov2():
    """Of a tree of roots alone, nothing does."""
    flat = WordTree(TREE.names, (-1,) * len(TREE))
    arrays = example(0, labels_only=False)
    terms, _ = program(tree=flat)(*arrays)
    expected = jax.jit(functools.partial(yolov2_loss, stride=STRIDE))(*arrays[:-1])
    for name, (total, _) in expected.items():
        np.testing.assert_allclose(terms[name], total, rtol=1e-5, err_msg=name)


def label_alone(label, **objectness):
    """An image of a label, whose place 1, 2, 0 has the most of it, and 3, 3, 1 the objectness."""
    logits, *rest = example(0, labels_only=True)
    logits[:] = 0
    logits[..., 4] = -3
    logits[1, 2, 0, 4] = objectness.get("best", -2)
    logits[1, 2, 0, 5 + label] = 8
    logits[3, 3, 1, 4] = objectness.get("other", -1.5)
    rest[1][:], rest[2][:] = label, [False, True, True, False]
    return logits, *rest


def test_a_label_alone_trains_one_prediction():
    """c has the parent a: log(1 + e^-8) for its group of two, and log 2 for the roots."""
    objectness = 1 / (1 + math.exp(2))
    for how, term in (("paper", "objectness"), ("darknet", "no_objectness"), ("none", None)):
        terms, slope = program(how)(*label_alone(2))
        expected = dict.fromkeys(terms, 0.0)
        expected["class"] = math.log(2) + math.log1p(math.exp(-8))
        if how == "paper":
            expected["objectness"] = 2.5 * (0.3 - objectness) ** 2
        if how == "darknet":
            others = 30 / (1 + math.exp(3)) ** 2 + 1 / (1 + math.exp(1.5)) ** 2
            expected["no_objectness"] = others / 2
        for name, total in expected.items():
            np.testing.assert_allclose(terms[name], total, rtol=1e-5, err_msg=f"{how} {name}")
        trained = np.argwhere(slope)
        classes = {tuple(place) for place in trained if place[3] >= 5}
        assert classes == {(1, 2, 0, 5 + node) for node in (0, 1, 2, 3)}, "its path alone"
        others = {tuple(place) for place in trained if place[3] < 5}
        if term is None:
            assert not others
        elif how == "paper":
            assert others == {(1, 2, 0, 4)}
            assert slope[1, 2, 0, 4] < 0, "towards more"
        else:
            assert len(others) == 31
            assert (1, 2, 0, 4) not in others
            assert all(place[3] == 4 for place in others)


def test_labels_alone_count_from_an_update_on():
    run = program(label_start=7)
    for step in (6, 7):
        *arrays, _, alone = label_alone(2)
        terms, slope = run(*arrays, np.int32(step), alone)
        assert (terms["class"] > 0) == (slope.any()) == (step == 7)
    # Images with boxes count before.
    *arrays, _, alone = example(0, labels_only=False)
    expected, _ = program()(*arrays, np.int32(6), alone)
    assert run(*arrays, np.int32(6), alone)[0] == expected


def test_objectness_counts_as_well_as_the_label():
    """A place that is sure of the label, but not of an object, is not the one."""
    terms, slope = program("paper")(*label_alone(2, best=-9, other=2))
    assert {tuple(place[:3]) for place in np.argwhere(slope)} == {(3, 3, 1)}
    np.testing.assert_allclose(terms["class"], 2 * math.log(2), rtol=1e-5)
    assert terms["objectness"] == 0, "above 0.3 already"


def test_the_first_label_counts_and_no_box_does():
    arrays = label_alone(2)
    first, slope = program()(*arrays)
    arrays[2][2], arrays[2][0] = 5, 6  # the second, and padding
    arrays[1][1:3] = [[0, 0, 0, 0], [1e6, 1e6, 1e6, 1e6]]
    again, slope_again = program()(*arrays)
    assert again == first
    np.testing.assert_array_equal(slope, slope_again)
    arrays[3][:] = False
    nothing, slope = program()(*arrays)
    assert not any(nothing.values())
    assert not slope.any()


def test_both_kinds_in_one_batch():
    both = [example(seed, labels_only=seed % 2) for seed in range(4)]
    batch = [np.stack(arrays) for arrays in zip(*both, strict=True)]
    loss = functools.partial(yolo9000_loss, tree=TREE, stride=STRIDE)
    terms = jax.jit(jax.vmap(loss))(*batch)
    for number, arrays in enumerate(both):
        alone, _ = program()(*arrays)
        for name, (total, _) in terms.items():
            np.testing.assert_allclose(total[number], alone[name], rtol=1e-5, atol=1e-6)


def test_a_label_that_is_no_node_gives_nan():
    for labels_only in (False, True):
        arrays = example(0, labels_only=labels_only)
        arrays[3][:] = True
        arrays[2][:] = len(TREE)
        terms, _ = program()(*arrays)
        assert np.isnan(terms["class"])


def test_nothing_is_as_large_as_boxes_by_nodes_by_depth(real_data):
    """With 9,418 nodes and their gradient, for 13 x 13 x 3 boxes and 30 objects."""
    tree = read_word_tree(real_data / "darknet" / "wordtree" / "9k.tree")
    loss = functools.partial(yolo9000_loss, tree=tree, stride=32)
    shapes = [(13, 13, 3, 5 + len(tree)), (30, 4), (30,), (30,), (3, 2), (), ()]
    dtypes = [np.float32, np.float32, np.int32, bool, np.float32, np.int32, bool]
    arrays = [jax.ShapeDtypeStruct(*pair) for pair in zip(shapes, dtypes, strict=True)]

    def total(*arrays):
        return sum(total for total, _ in loss(*arrays).values())

    memory = jax.jit(jax.grad(total)).lower(*arrays).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4 * 4 * math.prod(shapes[0])


def test_wrong_options_are_refused():
    arrays = example(0, labels_only=True)
    with pytest.raises(OptionError, match=r"^label_objectness is 'maybe': choose one of paper"):
        yolo9000_loss(*arrays, tree=TREE, stride=STRIDE, label_objectness="maybe")
    with pytest.raises(AssertionError, match=r"^logits is float32\[4, 4, 2, 11\]: give float"):
        yolo9000_loss(jnp.zeros((4, 4, 2, 11)), *arrays[1:], tree=TREE, stride=STRIDE)
