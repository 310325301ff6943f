"""Measures the hierarchical softmax over the nodes of a tree: milliseconds of each function.

  python benchmarks/word_tree.py [--tree 9k.tree] [--map coco9k.map] [--grid 13] [--rounds 9]

The logits are random, of three boxes in each cell, as in YOLO9000. "top node" goes down the tree
with a threshold; "mapped" gives the probabilities of the classes of a map, or of 80 nodes; "all"
those of all nodes; "label" that of one node of each box, and "label, gradient" its derivative.
Beside the time is the memory that the compiled program needs besides the logits and the result.
Without a tree in Darknet's form, it is a random one.
"""

import argparse
from functools import partial

import jax
import numpy as np
from timing import machine, median_ms

from jaxvision.interop import read_class_map, read_word_tree
from jaxvision.ops import (
    WordTree,
    word_tree_log_probabilities,
    word_tree_log_probability,
    word_tree_top_node,
)


def random_tree(count):
    """Makes a tree of which most nodes are near the root."""
    rng = np.random.default_rng(0)
    parents = {"0": None}
    for node in range(1, count):
        parents[str(node)] = str(int(node * rng.uniform() ** 3))
    return WordTree.from_parents(parents)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tree")
    parser.add_argument("--map")
    parser.add_argument("--nodes", type=int, default=9418)
    parser.add_argument("--grid", type=int, default=13)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    tree = read_word_tree(options.tree) if options.tree else random_tree(options.nodes)
    rng = np.random.default_rng(0)
    nodes = tuple(rng.integers(0, len(tree), 80).tolist())
    if options.map:
        nodes = read_class_map(options.map, tree)
    shape = options.grid, options.grid, 3
    logits = jax.device_put(rng.normal(size=(*shape, len(tree))).astype("f4"))
    labels = jax.device_put(rng.integers(0, len(tree), shape).astype("i4"))
    of_label = partial(word_tree_log_probability, tree=tree)
    functions = {
        "top node": (partial(word_tree_top_node, tree=tree), logits),
        "mapped": (partial(word_tree_log_probabilities, tree=tree, nodes=nodes), logits),
        "all": (partial(word_tree_log_probabilities, tree=tree), logits),
        "label": (of_label, logits, labels),
        "label, gradient": (jax.grad(lambda x, y: of_label(x, y).sum()), logits, labels),
    }
    calls, memory = {}, {}
    for name, (function, *arrays) in functions.items():
        program = jax.jit(function).lower(*arrays).compile()
        memory[name] = program.memory_analysis().temp_size_in_bytes / 2**20
        calls[name] = partial(lambda f, x: jax.block_until_ready(f(*x)), program, arrays)
    times = median_ms(calls, rounds=options.rounds)
    print(f"{len(tree)} nodes in {len(tree.group_sizes)} groups, {np.prod(shape)} boxes,")
    print(f"logits of {logits.nbytes / 2**20:.1f} MiB:")
    for name, ms in times.items():
        print(f"  {name:>16} {ms:8.2f} ms {memory[name]:8.1f} MiB")
    print(machine())


if __name__ == "__main__":
    main()
