"""Trees of classes, and the hierarchical softmax over their nodes (YOLO9000)."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxvision.core import InputError, at_least_float32, check_array, check_range

_NAN = float("nan")


class NodeError(InputError):
    """Raised if a node does not fit into a tree.

    Attributes:
      node: index of the node.
      reason: what is wrong and how to fix it.
    """

    def __init__(self, node: int, name: str, reason: str):
        super().__init__(f"node {node} of the tree, {name!r}, {reason}")
        self.node, self.reason = node, reason


@dataclasses.dataclass(frozen=True)
class WordTree:
    """A tree of classes, or several trees: each node is a class, and its children are kinds of it.

    Nodes are numbered such that parents come before their children, and siblings, the nodes with
    the same parent, are contiguous. The roots are siblings, too. The record is hashable.
    `WordTree.from_parents` numbers the nodes by itself.

    Attributes:
      names: of the N nodes, at least one, each different, such as WordNet ids.
      parents: index of each node's parent; -1 for the roots.
    Raises:
      NodeError: the names or the parents are no such tree.
      InputError: there are no nodes, or not one parent for each name.
    Source: Redmon and Farhadi 2017 ("YOLO9000"), section 4.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "parents", tuple(int(parent) for parent in self.parents))
        if not self.names or len(self.names) != len(self.parents):
            raise InputError(
                f"the tree has {len(self.names)} names and {len(self.parents)} parents: give one "
                "parent for each name, and at least one node"
            )
        first: dict[str, int] = {}
        finished: set[int] = set()
        for node, (name, parent) in enumerate(zip(self.names, self.parents, strict=True)):
            if name in first:
                raise NodeError(node, name, f"has the name of node {first[name]}: rename one")
            first[name] = node
            if not -1 <= parent < node:
                raise NodeError(
                    node,
                    name,
                    f"has the parent {parent}: give the index of a node before it, or -1 for a "
                    "root",
                )
            if node and parent != self.parents[node - 1]:
                finished.add(self.parents[node - 1])
            if parent in finished:
                raise NodeError(
                    node,
                    name,
                    f"is not next to its siblings, the nodes with the parent {parent}: give "
                    "siblings one after another",
                )

    @classmethod
    def from_parents(cls, parents: Mapping[str, str | None]) -> "WordTree":
        """Makes a tree of the name of each node's parent, None for roots.

        The roots come first, then their children, and so on; siblings are in the given order.

        Args:
          parents: name -> name of the parent, in any order.
        Raises:
          InputError: a parent is no node, or nodes are their own ancestors.
        """
        children: dict[str | None, list[str]] = {}
        for name, parent in parents.items():
            if parent is not None and parent not in parents:
                raise InputError(f"the parent of {name!r} is {parent!r}, which is no node: add it")
            children.setdefault(parent, []).append(name)
        order = list(children.get(None, ()))
        for name in order:  # grows while it is read
            order.extend(children.get(name, ()))
        if len(order) != len(parents):
            lost = next(name for name in parents if name not in set(order))
            raise InputError(f"{lost!r} is not below a root: give None as the parent of each root")
        index = {name: node for node, name in enumerate(order)}
        above = (parents[name] for name in order)
        return cls(tuple(order), tuple(-1 if name is None else index[name] for name in above))

    def __len__(self) -> int:
        return len(self.names)

    @functools.cached_property
    def index(self) -> dict[str, int]:
        """Name -> node."""
        return {name: node for node, name in enumerate(self.names)}

    @functools.cached_property
    def groups(self) -> np.ndarray:
        """i32[N]: number of the group of siblings of each node; the roots are group 0."""
        parents = np.array(self.parents)
        return np.cumsum(np.diff(parents, prepend=parents[0]) != 0, dtype=np.int32)

    @functools.cached_property
    def group_starts(self) -> np.ndarray:
        """i32[groups]: the first node of each group."""
        return np.unique(self.groups, return_index=True)[1].astype(np.int32)

    @functools.cached_property
    def group_sizes(self) -> np.ndarray:
        """i32[groups]: how many nodes each group has."""
        return np.bincount(self.groups).astype(np.int32)

    @functools.cached_property
    def child_groups(self) -> np.ndarray:
        """i32[N]: the group of each node's children; -1 for leaves."""
        result = np.full(len(self), -1, np.int32)
        for group, start in enumerate(self.group_starts):
            if self.parents[start] >= 0:
                result[self.parents[start]] = group
        return result

    @functools.cached_property
    def paths(self) -> np.ndarray:
        """i32[N, levels]: each node, its parent and so on up to its root, then -1."""
        columns = [np.arange(len(self), dtype=np.int32)]
        parents = np.array([*self.parents, -1], np.int32)  # of -1, the last, -1
        while (columns[-1] >= 0).any():
            columns.append(parents[columns[-1]])
        return np.stack(columns[:-1], axis=1)

    @functools.cached_property
    def depths(self) -> np.ndarray:
        """i32[N]: how many ancestors each node has."""
        return (self.paths >= 0).sum(axis=1, dtype=np.int32) - 1

    def path(self, node: int) -> tuple[int, ...]:
        """Returns a node, its parent and so on up to its root."""
        return tuple(self.paths[node][self.paths[node] >= 0].tolist())

    def subtree(self, nodes: Iterable[int]) -> "WordTree":
        """Returns the tree of some nodes and all their ancestors.

        Args:
          nodes: indices of nodes of this tree, at least one.
        Raises:
          InputError: there is no such node, or none is given.
        """
        kept = np.unique(self.paths[self.checked_nodes(nodes)])
        return self._of(kept[kept >= 0].tolist(), self.parents)

    def without_single_children(self, keep: Iterable[int] = ()) -> "WordTree":
        """Returns the tree without the inner nodes that have one child: it takes their place.

        Args:
          keep: indices of nodes that are not removed, such as those of labels.
        """
        children = np.bincount(np.array(self.parents) + 1, minlength=len(self) + 1)[1:]
        kept = set(keep) | set(np.flatnonzero(children != 1).tolist())
        above = []
        for parent in self.parents:
            while parent >= 0 and parent not in kept:
                parent = self.parents[parent]
            above.append(parent)
        return self._of(sorted(kept), above)

    def without_roots(self) -> "WordTree":
        """Returns the tree without its roots: their children are the roots.

        Raises:
          InputError: no root has children.
        """
        kept = [node for node, parent in enumerate(self.parents) if parent >= 0]
        parents = [
            -1 if self.depths[node] <= 1 else self.parents[node] for node in range(len(self))
        ]
        return self._of(kept, parents)

    def checked_nodes(self, nodes: Iterable[int]) -> np.ndarray:
        """Returns indices of nodes as an array, i32[K].

        Raises:
          InputError: there is no such node, or none is given.
        """
        given = list(nodes)
        for node in given:
            if not 0 <= node < len(self):
                raise InputError(
                    f"there is no node {node}: the tree has nodes 0 to {len(self) - 1}"
                )
        if not given:
            raise InputError("no nodes are given: give at least one")
        return np.array(given, np.int32)

    def _of(self, nodes: Sequence[int], parents: Sequence[int]) -> "WordTree":
        """The tree of some nodes, with other parents."""
        names = {-1: None, **dict(enumerate(self.names))}
        return WordTree.from_parents({self.names[node]: names[parents[node]] for node in nodes})


def word_tree_log_softmax(logits: Array, *, tree: WordTree) -> Array:
    """Computes the logarithm of each node's probability given its parent.

    It is a softmax over each group of siblings. The roots are a group, too.

    Args:
      logits: f32[..., N], one for each node.
      tree: of N nodes.
    Returns:
      f32[..., N], at most 0.
    Source: Redmon and Farhadi 2017 ("YOLO9000"), section 4, "Hierarchical classification".
    """
    return _log_softmax(_checked(logits, tree), tree.groups)


def word_tree_log_probabilities(
    logits: Array, *, tree: WordTree, nodes: tuple[int, ...] | None = None
) -> Array:
    """Computes the logarithm of each node's probability.

    The probability of a node is the product of the conditional ones, see `word_tree_log_softmax`,
    along the path to its root. Those of the children of a node sum to that of the node.

    Args:
      logits: f32[..., N], one for each node.
      tree: of N nodes.
      nodes: those that are wanted, K of them, in any order; None: all.
    Returns:
      f32[..., K], or f32[..., N].
    Raises:
      InputError: there is no such node.
    Source: Redmon and Farhadi 2017 ("YOLO9000"), section 4, "Hierarchical classification".
    """
    logits = _checked(logits, tree)
    if nodes is None:
        return _sum_of_levels(_log_softmax(logits, tree.groups), tree)
    paths = tree.paths[tree.checked_nodes(nodes)]
    # Only the groups on the paths count: their nodes, and a number for each of them.
    used = np.isin(tree.groups, tree.groups[paths[paths >= 0]])
    groups = np.unique(tree.groups[used], return_inverse=True)[1].astype(np.int32)
    conditional = _log_softmax(logits[..., np.flatnonzero(used)], groups)
    place = np.cumsum(used) - 1
    total = jnp.zeros((), logits.dtype)
    for level in paths.T:
        values = conditional[..., place[level]]
        total += jnp.where(np.broadcast_to(level >= 0, values.shape), values, 0)
    return total


def word_tree_log_probability(logits: Array, labels: Array, *, tree: WordTree) -> Array:
    """Computes the logarithm of the probability of one node for each array of logits.

    It is that of `word_tree_log_probabilities`, but computes only the groups on the path of the
    label.

    Args:
      logits: f32[..., N], one for each node.
      labels: i32[...], the nodes. A label outside 0..N - 1 gives NaN.
      tree: of N nodes.
    Returns:
      f32[...].
    Source: as `word_tree_log_probabilities`.
    """
    logits = _checked(logits, tree)
    labels = check_array("labels", labels, logits.shape[:-1], "int").astype(jnp.int32)
    exists = (labels >= 0) & (labels < len(tree))
    paths = jnp.asarray(tree.paths)[jnp.where(exists, labels, 0)]
    on_path = paths >= 0
    groups = jnp.asarray(tree.groups)[paths]
    members, inside = _members(groups, tree)
    own = jnp.where(on_path, _take(logits, paths), 0)
    siblings = jnp.where(inside, _take(logits, members), -jnp.inf)
    siblings = jnp.where(on_path[..., None], siblings, 0)  # finite, where no group is
    conditional = own - jax.nn.logsumexp(siblings, axis=-1)
    total = jnp.where(on_path, conditional, 0).sum(axis=-1)
    return jnp.where(exists, total, _NAN)


def word_tree_top_node(
    logits: Array, *, tree: WordTree, threshold: float = 0.5
) -> tuple[Array, Array]:
    """Finds the most specific node that is probable enough, going down from the roots.

    The most probable root is taken, whatever its probability, and then the most probable child
    again and again, as long as the probability of the node, the product along its path, is above
    the threshold. Of equal children the first one is taken.

    Args:
      logits: f32[..., N], one for each node.
      tree: of N nodes.
      threshold: at least 0 and less than 1.
    Returns:
      (node i32[...], its probability f32[...]).
    Raises:
      OptionError: threshold is out of range.
    Source: Redmon and Farhadi 2017 ("YOLO9000"), section 4; Darknet's `hierarchy_top_prediction`.
    """
    check_range("threshold", threshold, least=0, less_than=1)
    logits = _checked(logits, tree)
    child_groups = jnp.asarray(tree.child_groups)

    def best_of(groups: Array) -> tuple[Array, Array]:
        """The most probable node of a group, and its probability given its parent."""
        members, inside = _members(groups, tree)
        x = jnp.where(inside, _take(logits, members), -jnp.inf)
        best = jnp.argmax(x, axis=-1)
        highest = jnp.take_along_axis(x, best[..., None], axis=-1)[..., 0]
        node = jnp.take_along_axis(members, best[..., None], axis=-1)[..., 0]
        return node, jnp.exp(highest - jax.nn.logsumexp(x, axis=-1))

    def descend(state: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        node, probability = state
        below = child_groups[node]
        child, conditional = best_of(jnp.maximum(below, 0))
        goes = (below >= 0) & (probability * conditional > threshold)
        child, product = jnp.where(goes, child, node), probability * conditional
        return (child, jnp.where(goes, product, probability)), None

    start = best_of(jnp.zeros(logits.shape[:-1], jnp.int32))
    # A node below the threshold stays: the product of a child cannot be above it.
    (node, probability), _ = lax.scan(descend, start, None, length=tree.paths.shape[1] - 1)
    return node, probability


def _checked(logits: Any, tree: WordTree) -> Array:
    return at_least_float32(check_array("logits", logits, ("...", len(tree))))


def _members(groups: Array, tree: WordTree) -> tuple[Array, Array]:
    """The nodes of groups, i32[..., largest], and which of them exist, bool[..., largest]."""
    shape = (*groups.shape, int(tree.group_sizes.max()))
    offsets = lax.broadcasted_iota(jnp.int32, shape, groups.ndim)
    inside = offsets < jnp.asarray(tree.group_sizes)[groups][..., None]
    nodes = jnp.asarray(tree.group_starts)[groups][..., None] + offsets
    return jnp.where(inside, nodes, 0), inside


def _take(x: Array, nodes: Array) -> Array:
    """f[..., N], i32[..., *more] -> f[..., *more], where "..." are the same axes."""
    flat = nodes.reshape(*x.shape[:-1], -1)
    return jnp.take_along_axis(x, flat, axis=-1).reshape(nodes.shape)


def _log_softmax(logits: Array, groups: np.ndarray) -> Array:
    """f[..., N] -> f[..., N]: over the nodes with the same number, i32[N] in ascending order."""
    reduce = {"segment_ids": groups, "num_segments": int(groups[-1]) + 1}
    x = jnp.moveaxis(logits, -1, 0)
    highest = jax.ops.segment_max(lax.stop_gradient(x), **reduce, indices_are_sorted=True)
    shifted = x - highest[groups]
    total = jax.ops.segment_sum(jnp.exp(shifted), **reduce, indices_are_sorted=True)
    return jnp.moveaxis(shifted - jnp.log(total)[groups], 0, -1)


def _sum_of_levels(values: Array, tree: WordTree) -> Array:
    """f[..., N] -> f[..., N]: the sum over each node and its ancestors, level by level."""
    order = np.argsort(tree.depths, kind="stable")
    place, parents, sums = np.argsort(order), np.array(tree.parents), []
    before = 0
    for depth in range(tree.depths.max() + 1):
        nodes = order[tree.depths[order] == depth]
        own = values[..., nodes]
        if depth:
            own = own + sums[-1][..., place[parents[nodes]] - before]
        before = place[nodes[0]]
        sums.append(own)
    return jnp.concatenate(sums, axis=-1)[..., place]
