"""The hierarchical softmax over a tree of classes in plain loops, one node at a time."""

import math

import numpy as np


def ancestors(tree, node):
    """The node itself, its parent, and so on up to the root."""
    while node >= 0:
        yield node
        node = tree.parents[node]


def siblings(tree, node):
    return [other for other in range(len(tree)) if tree.parents[other] == tree.parents[node]]


def _conditional(x, tree, node):
    highest = max(x[other] for other in siblings(tree, node))
    total = sum(math.exp(float(x[other]) - highest) for other in siblings(tree, node))
    return float(x[node]) - highest - math.log(total)


def _of_each(function, logits):
    rows = [function(x) for x in np.reshape(logits, (-1, np.shape(logits)[-1]))]
    return np.array(rows, np.float32).reshape(*np.shape(logits)[:-1], *np.shape(rows)[1:])


def word_tree_log_softmax(logits, *, tree):
    return _of_each(lambda x: [_conditional(x, tree, n) for n in range(len(tree))], logits)


def _path_sum(x, tree, node):
    return sum(_conditional(x, tree, other) for other in ancestors(tree, node))


def word_tree_log_probabilities(logits, *, tree, nodes=None):
    nodes = range(len(tree)) if nodes is None else nodes
    return _of_each(lambda x: [_path_sum(x, tree, node) for node in nodes], logits)


def word_tree_log_probability(logits, labels, *, tree):
    shape = np.shape(logits)[:-1]
    rows = np.reshape(logits, (-1, len(tree)))
    flat = np.broadcast_to(labels, shape).reshape(-1)
    found = [
        _path_sum(x, tree, label) if 0 <= label < len(tree) else math.nan
        for x, label in zip(rows, flat, strict=True)
    ]
    return np.array(found, np.float32).reshape(shape)


def _top_node(x, tree, threshold):
    node, probability = -1, 1.0
    while True:
        children = [other for other in range(len(tree)) if tree.parents[other] == node]
        if not children:
            return node, probability
        best = max(children, key=lambda n: (x[n], -n))
        product = probability * math.exp(_conditional(x, tree, best))
        if node >= 0 and not product > threshold:
            return node, probability
        node, probability = best, product


def word_tree_top_node(logits, *, tree, threshold=0.5):
    found = _of_each(lambda x: _top_node(x, tree, threshold), logits)
    return found[..., 0].astype(np.int32), found[..., 1]


def gradient_of_log_probability(x, tree, label):
    """By the logits: of each group on the path, 1 at the node on the path less the softmax."""
    result = np.zeros(len(tree))
    for node in ancestors(tree, label):
        for other in siblings(tree, node):
            result[other] = (other == node) - math.exp(_conditional(x, tree, other))
    return result
