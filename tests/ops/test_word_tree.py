"""Trees of classes: their form, probabilities against loops, and memory on the tree of YOLO9000."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import ops
from jaxvision.core import InputError
from jaxvision.interop import read_word_tree
from jaxvision.ops import WordTree
from tests.ops.compiled import Case, check_cases
from tests.reference.ops import word_tree as reference

# Two roots, an only child, groups of several sizes, and paths of one to four nodes.
TREE = WordTree(tuple("abcdefghij"), (-1, -1, 0, 0, 0, 1, 3, 3, 7, 7))
ALONE = WordTree(("thing",), (-1,))


def logits_of(tree, *shape, seed=0):
    return np.random.default_rng(seed).normal(scale=3, size=(*shape, len(tree))).astype("f4")


def random_tree(rng, count):
    """A tree of any form, numbered by `from_parents`."""
    parents = {"0": None}
    for node in range(1, count):
        parent = rng.integers(-1, node)
        parents[str(node)] = None if parent < 0 else str(parent)
    return WordTree.from_parents(parents)


@pytest.fixture(scope="module")
def nine_thousand(real_data):
    return read_word_tree(real_data / "darknet" / "wordtree" / "9k.tree")


def test_the_parts_of_a_tree():
    assert len(TREE) == 10
    assert TREE.index["h"] == 7
    np.testing.assert_array_equal(TREE.groups, [0, 0, 1, 1, 1, 2, 3, 3, 4, 4])
    np.testing.assert_array_equal(TREE.group_starts, [0, 2, 5, 6, 8])
    np.testing.assert_array_equal(TREE.group_sizes, [2, 3, 1, 2, 2])
    np.testing.assert_array_equal(TREE.child_groups, [1, 2, -1, 3, -1, -1, -1, 4, -1, -1])
    np.testing.assert_array_equal(TREE.depths, [0, 0, 1, 1, 1, 1, 2, 2, 3, 3])
    assert TREE.path(9) == (9, 7, 3, 0)
    np.testing.assert_array_equal(TREE.paths[1], [1, -1, -1, -1])
    assert ALONE.path(0) == (0,)
    same = WordTree(list(TREE.names), np.array(TREE.parents))
    assert (same, hash(same)) == (TREE, hash(TREE))
    assert hash(same) != hash(ALONE)


def test_a_tree_of_the_names_of_parents():
    parents = {"cat": "animal", "animal": None, "lion": "cat", "dog": "animal", "car": None}
    tree = WordTree.from_parents(parents)
    assert tree.names == ("animal", "car", "cat", "dog", "lion")
    assert tree.parents == (-1, -1, 0, 0, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WordTree((), ()), "^the tree has 0 names and 0 parents: give one parent for each"),
        (lambda: WordTree(("a",), ()), "^the tree has 1 names and 0 parents"),
        (lambda: WordTree(("a", "a"), (-1, 0)), "^node 1 of the tree, 'a', has the name of node 0"),
        (lambda: WordTree(("a", "b"), (-1, 1)), "^node 1 .*'b', has the parent 1: give the index"),
        (lambda: WordTree(("a", "b"), (-1, -2)), "^node 1 .*'b', has the parent -2: give the ind"),
        (lambda: WordTree(("a",), (0,)), "^node 0 .*'a', has the parent 0"),
        (
            lambda: WordTree(tuple("abcd"), (-1, 0, -1, 0)),
            "^node 2 .*'c', is not next to its siblings, the nodes with the parent -1: give sib",
        ),
        (
            lambda: WordTree(tuple("abcde"), (-1, -1, 0, 1, 0)),
            "^node 4 .*'e', is not next to its siblings, the nodes with the parent 0: give sibl",
        ),
        (lambda: WordTree.from_parents({"a": "b"}), "^the parent of 'a' is 'b', which is no node"),
        (
            lambda: WordTree.from_parents({"a": "b", "b": "a"}),
            "^'a' is not below a root: give None as the parent of each root",
        ),
        (lambda: WordTree.from_parents({}), "^the tree has 0 names"),
        (lambda: TREE.subtree([10]), "^there is no node 10: the tree has nodes 0 to 9$"),
        (lambda: TREE.subtree([]), "^no nodes are given: give at least one$"),
        (lambda: ALONE.without_roots(), "^the tree has 0 names"),
        (
            lambda: ops.word_tree_log_probabilities(logits_of(TREE), tree=TREE, nodes=(3, -1)),
            "^there is no node -1: the tree",
        ),
        (
            lambda: ops.word_tree_top_node(logits_of(TREE), tree=TREE, threshold=1),
            "^threshold is 1: give at least 0 and less than 1$",
        ),
    ],
)
def test_what_is_no_tree_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_parts_of_a_tree_and_its_reductions():
    part = TREE.subtree([9, 5])
    assert part.names == ("a", "b", "d", "f", "h", "j")
    assert part.parents == (-1, -1, 0, 1, 2, 4)
    short = part.without_single_children()
    assert (short.names, short.parents) == (("f", "j"), (-1, -1))
    kept = part.without_single_children(keep=[2])  # d
    assert (kept.names, kept.parents) == (("d", "f", "j"), (-1, -1, 0))
    below = TREE.without_roots()
    assert below.names == ("c", "d", "e", "f", "g", "h", "i", "j")
    assert below.parents == (-1, -1, -1, -1, 1, 1, 5, 5)


def test_operators_equal_the_reference():
    """Of trees of any form; equal logits, of which the first wins; no threshold at all."""
    cases = {}
    rng = np.random.default_rng(0)
    for number, tree in enumerate([TREE, ALONE, random_tree(rng, 7), random_tree(rng, 15)]):
        x = logits_of(tree, 2, 3, seed=number)
        x[0, 0] = 0
        labels = rng.integers(0, len(tree), (2, 3))
        nodes = tuple(rng.integers(0, len(tree), 4).tolist())
        every = {
            "log_softmax": ([x], {}),
            "log_probabilities": ([x], {}),
            "log_probabilities of some": ([x], {"nodes": nodes}),
            "log_probability": ([x, labels], {}),
            "top_node": ([x], {}),
            "top_node at 0.1": ([x], {"threshold": 0.1}),
            "top_node at 0": ([x], {"threshold": 0}),
        }
        for kind, (arrays, options) in every.items():
            name = f"word_tree_{kind.split()[0]}"
            functions = getattr(ops, name), getattr(reference, name)
            cases[f"{kind}, tree {number}"] = Case(
                *functions, arrays, {"tree": tree, **options}, atol=1e-5
            )
    check_cases(cases)


def test_probabilities_of_children_sum_to_that_of_their_parent():
    p = np.exp(ops.word_tree_log_probabilities(logits_of(TREE, 5), tree=TREE))
    np.testing.assert_allclose(p[:, :2].sum(axis=1), 1, rtol=1e-5)
    for parent, children in ((0, [2, 3, 4]), (1, [5]), (3, [6, 7]), (7, [8, 9])):
        np.testing.assert_allclose(p[:, children].sum(axis=1), p[:, parent], rtol=1e-5)


def test_going_down_by_hand():
    """Of a root of 0.8: a child of 0.7 of it is 0.56; one of 0.9 of that is 0.504, then 0.45."""
    tree = WordTree(tuple("abcdefgh"), (-1, -1, 0, 0, 2, 2, 4, 4))
    x = np.log(np.float32([0.8, 0.2, 0.7, 0.3, 0.9, 0.1, 0.9, 0.1]))
    for threshold, node, probability in (
        (0.9, 0, 0.8),  # the best root, although it is below the threshold
        (0.6, 0, 0.8),
        (0.51, 2, 0.56),
        (0.5, 4, 0.504),
        (0.4, 6, 0.4536),
    ):
        found = ops.word_tree_top_node(x, tree=tree, threshold=threshold)
        assert int(found[0]) == node
        np.testing.assert_allclose(found[1], probability, rtol=1e-5)


def test_gradients_equal_those_of_loops():
    x, labels = logits_of(TREE, len(TREE)), np.arange(len(TREE))
    expected = [reference.gradient_of_log_probability(x[n], TREE, n) for n in labels]

    def by_label(x):
        return ops.word_tree_log_probability(x, labels, tree=TREE).sum()

    def by_all(x):
        return jnp.trace(ops.word_tree_log_probabilities(x, tree=TREE))

    def by_nodes(x):
        every = ops.word_tree_log_probabilities(x, tree=TREE, nodes=tuple(labels.tolist()))
        return jnp.trace(every)

    for function in (by_label, by_all, by_nodes):
        found = jax.jit(jax.grad(function))(x)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    forward = jax.jit(lambda x, t: jax.jvp(by_label, (x,), (t,))[1])(x, np.ones_like(x))
    np.testing.assert_allclose(forward, np.sum(expected), atol=1e-5)


def test_labels_that_are_no_node_give_nan():
    x, labels = logits_of(TREE, 4), np.array([-1, 10, 0, 10**6])
    found = ops.word_tree_log_probability(x, labels, tree=TREE)
    np.testing.assert_array_equal(np.isnan(found), [True, True, False, True])


def test_the_tree_of_yolo9000(nine_thousand):
    tree = nine_thousand
    assert (len(tree), len(tree.group_sizes)) == (9418, 1846)
    assert tree.parents.count(-1) == 4
    assert np.sort(tree.group_sizes)[-3:].tolist() == [100, 100, 149]
    assert (tree.group_sizes == 1).sum() == 46
    assert (tree.child_groups < 0).sum() == 7573
    assert tree.depths.max() == 16


def test_the_tree_of_imagenet_has_1369_nodes(nine_thousand, real_data):
    """The paper's number: without inner nodes of one child, and without the two roots."""
    names = real_data / "darknet" / "names" / "imagenet.labels.list"
    classes = names.read_text().split()[:1000]
    closure = nine_thousand.subtree(nine_thousand.index[name] for name in classes)
    assert len(closure) == 1695
    tree = closure.without_single_children()
    assert len(tree) == 1371
    tree = tree.without_roots()
    assert len(tree) == 1369
    leaves = {name for name, below in zip(tree.names, tree.child_groups, strict=True) if below < 0}
    assert leaves == set(classes)


@functools.cache
def temporary_bytes(function, *shapes):
    arrays = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]
    return jax.jit(function).lower(*arrays).compile().memory_analysis().temp_size_in_bytes


def test_nothing_is_as_large_as_boxes_by_nodes_by_depth(nine_thousand):
    """Of 13 x 13 x 3 boxes, beside the logits: going down needs far less than they do."""
    tree, count = nine_thousand, 13 * 13 * 3
    logits, labels = ((count, len(tree)), np.float32), ((count,), np.int32)
    size = 4 * count * len(tree)
    nodes = tuple(range(0, len(tree), 118))  # 80 of them
    top = functools.partial(ops.word_tree_top_node, tree=tree)
    some = functools.partial(ops.word_tree_log_probabilities, tree=tree, nodes=nodes)
    every = functools.partial(ops.word_tree_log_probabilities, tree=tree)
    one = functools.partial(ops.word_tree_log_probability, tree=tree)
    assert temporary_bytes(top, logits) < size / 4
    assert temporary_bytes(some, logits) < 4 * size
    assert temporary_bytes(one, logits, labels) < 4 * size
    assert temporary_bytes(every, logits) < 6 * size
