"""Classification in a tree of classes: probabilities, metrics, loss, and Darknet-19 on ImageNet."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.core import ClassificationBatch, Inputs, OptionError
from jaxvision.interop import read_word_tree
from jaxvision.losses import word_tree_cross_entropy
from jaxvision.models import create_model
from jaxvision.ops import WordTree, word_tree_log_probabilities
from jaxvision.tasks import RESTORE, classification
from tests.models.structure import size_of
from tests.tasks.loop import as_json

TREE = WordTree(("animal", "thing", "cat", "dog", "lion"), (-1, -1, 0, 0, 2))
NAMES = ("thing", "dog", "lion")
NODES = (1, 3, 4)
INPUTS = Inputs((32, 32))


@functools.cache
def task_of(names=NAMES, num_classes=5, **options):
    model = create_model("lenet5", num_classes=num_classes)
    return classification(model, INPUTS, class_names=names, tree=TREE, top_k=(1, 2), **options)


def example_of(label):
    image = np.zeros((32, 32, 3), np.uint8)
    return ClassificationBatch(image, np.int32(label), np.float32(1), np.True_)


LOGITS = np.random.default_rng(0).normal(scale=2, size=len(TREE)).astype("f4")


def test_classes_have_the_probabilities_of_their_nodes():
    """Of all leaves, they sum to 1."""
    task, outputs = task_of(), {"logits": LOGITS}
    found = jax.device_get(jax.jit(task.decode)(outputs, example_of(0)))
    expected = np.exp(word_tree_log_probabilities(LOGITS, tree=TREE))[list(NODES)]
    np.testing.assert_allclose(found["probabilities"], expected, rtol=1e-5)
    assert found["label"] == expected.argmax()
    order = np.argsort(-expected)
    for label in range(3):
        metrics = jax.jit(task.metrics)(outputs, example_of(label))
        assert metrics["accuracy"][0] == (label == order[0])
        assert metrics["top2_accuracy"][0] == (label in order[:2])
    collected = jax.jit(task.dataset_metric.collect)(outputs, example_of(1))
    assert (collected["label"], collected["predicted"]) == (1, expected.argmax())
    np.testing.assert_allclose(collected["confidence"], expected.max(), rtol=1e-5)


def test_the_loss_is_that_of_the_node():
    for label, node in enumerate(NODES):
        terms = jax.jit(functools.partial(task_of().loss, key=None, step=jnp.int32(0)))(
            {"logits": LOGITS}, example_of(label)
        )
        ((total, weight),) = terms.values()
        expected, _ = word_tree_cross_entropy(LOGITS, np.int32(node), tree=TREE)
        np.testing.assert_allclose([total, weight], [expected, 1], rtol=1e-5)


def test_a_restored_task_decodes_the_same():
    task = task_of()
    again = RESTORE["classification"](as_json(task))
    found, expected = (x.decode({"logits": LOGITS}, None) for x in (again, task))
    np.testing.assert_array_equal(found["probabilities"], expected["probabilities"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: task_of(("cat", "bird")), "^tree has no node 'bird': give a tree that has all"),
        (lambda: task_of(num_classes=3), "3 .*5 nodes of the tree"),
    ],
)
def test_other_classes_and_networks_are_refused(make, message):
    with pytest.raises(OptionError, match=message):
        make()


@pytest.mark.slow
def test_darknet19_classifies_imagenet_in_a_tree(real_data):
    """Of the paper's 1,369 nodes, which its last 1x1 convolution gives."""
    folder = real_data / "darknet"
    whole = read_word_tree(folder / "wordtree" / "9k.tree")
    classes = (folder / "names" / "imagenet.labels.list").read_text().split()[:1000]
    tree = whole.subtree(whole.index[name] for name in classes)
    tree = tree.without_single_children().without_roots()
    model = create_model("darknet19", num_classes=len(tree))
    task = classification(model, Inputs((64, 64)), class_names=classes, tree=tree)
    variables = jax.eval_shape(task.init, jax.random.key(0))
    flat = jax.eval_shape(
        classification(create_model("darknet19", num_classes=1000), INPUTS, class_names=1000).init,
        jax.random.key(0),
    )
    assert size_of(variables["params"]) - size_of(flat["params"]) == 369 * (1024 + 1)
    logits = np.random.default_rng(0).normal(size=len(tree)).astype("f4")
    found = jax.jit(task.decode)({"logits": logits}, None)
    np.testing.assert_allclose(found["probabilities"].sum(), 1, rtol=1e-5)
