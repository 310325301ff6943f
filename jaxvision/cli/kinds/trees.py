"""Trees of classes on the command line."""

import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxvision.core import OptionError, option_errors
from jaxvision.interop import read_word_tree
from jaxvision.ops import WordTree


@dataclass(frozen=True)
class TreeOptions:
    """A tree of the classes, of which the network predicts each node given its parent.

    Attributes:
      file: of a tree in the form of Darknet's 9k.tree, whose nodes are called as the classes; "":
        there is none. Nodes that are no class and not above one are left out.
      prune: leave out inner nodes with one child too, and the roots, unless they are classes.
    """

    file: str = ""
    prune: bool = True


def read_tree(tree: str | Mapping[str, str]) -> WordTree:
    """A tree from its file, or from the name of each node's parent, "" for roots.

    Raises:
      InputError: the file cannot be read.
      OptionError: a parent is no node.
    """
    if isinstance(tree, str):
        return read_word_tree(pathlib.Path(tree).expanduser())
    with option_errors("tree"):
        return WordTree.from_parents({name: x or None for name, x in tree.items()})


def tree_of_classes(options: TreeOptions, class_names: Sequence[str]) -> WordTree | None:
    """The tree of classes and what is above them; None if the options name no file.

    Raises:
      InputError: the file cannot be read.
      OptionError: the tree lacks a class.
    """
    if not options.file:
        return None
    tree = read_tree(options.file)
    for name in class_names:
        if name not in tree.index:
            raise OptionError(
                "file", f"file is {options.file}, which has no node {name!r}: classes are nodes"
            )
    tree = tree.subtree(tree.index[name] for name in class_names)
    if options.prune:
        tree = tree.without_single_children(tree.index[name] for name in class_names)
        if all(tree.parents[tree.index[name]] >= 0 for name in class_names):
            tree = tree.without_roots()
    return tree
