"""The classification loss of a tree of classes."""

from jax import Array

from jaxvision.core import at_least_float32, check_array
from jaxvision.losses.reduction import where_counted
from jaxvision.ops import WordTree, word_tree_log_probability


def word_tree_cross_entropy(
    logits: Array, target: Array, weight: Array | float = 1.0, *, tree: WordTree
) -> tuple[Array, Array]:
    """Computes the cross entropy of one example whose classes are the nodes of a tree.

    It is the sum of the softmax cross entropies of the groups of siblings along the path from the
    label to its root, which is -log of the label's probability. The other groups, among them those
    below the label, have no loss: a label may be any node.

    Args:
      logits: f32[N], one for each node.
      target: a node, i32[]. One outside 0..N - 1 gives NaN.
      weight: f32[], how much the example counts. If it is 0, logits and target change nothing.
      tree: of N nodes.
    Returns:
      (total, weight), both f32[].
    Source: Redmon and Farhadi 2017 ("YOLO9000"), section 4, "Hierarchical classification".
    """
    logits = at_least_float32(check_array("logits", logits, (len(tree),)))
    target = check_array("target", target, (), "int").astype(int)
    weight = check_array("weight", weight, (), "number").astype(logits.dtype)
    logits, target = (where_counted(weight != 0, x) for x in (logits, target))
    return -weight * word_tree_log_probability(logits, target, tree=tree), weight
