"""Reads trees of classes in Darknet's form, and the maps of classes onto their nodes."""

import os
import pathlib

from jaxvision.core import InputError, one_line, reason_of
from jaxvision.core.files import read_text
from jaxvision.ops import WordTree
from jaxvision.ops.word_tree import NodeError


def read_word_tree(path: str | os.PathLike[str]) -> WordTree:
    """Reads a tree of classes, such as Darknet's 9k.tree.

    Args:
      path: path of a text file with a line "name parent" for each node, in order: the parent is the
        number of its line, counted from 0, or -1 for a root. Parents come before their children,
        and nodes with the same parent are contiguous.
    Raises:
      InputError: the file cannot be read, or is no such tree. The message names the line.
    """
    path = pathlib.Path(path)
    names, parents = [], []
    for number, line in enumerate(_lines(path, "a tree of classes"), 1):
        words = line.split()
        if len(words) != 2:
            raise _error(path, number, f"is {one_line(line, 60)!r}: give a name and its parent")
        names.append(words[0])
        parents.append(_integer(path, number, words[1]))
    if not names:
        raise InputError(f"{path} is empty: give a line 'name parent' for each node")
    try:
        return WordTree(tuple(names), tuple(parents))
    except NodeError as error:
        node = f"{one_line(names[error.node], 60)!r}"
        raise _error(path, error.node + 1, f"the node {node} {error.reason}") from None


def read_class_map(path: str | os.PathLike[str], tree: WordTree) -> tuple[int, ...]:
    """Reads the nodes of classes, such as Darknet's coco9k.map.

    Args:
      path: path of a text file with the index of a node for each class, one a line.
      tree: which has the nodes.
    Returns:
      the node of each class, in order.
    Raises:
      InputError: the file cannot be read, or a line is no node of the tree. The message names the
        line.
    """
    path = pathlib.Path(path)
    nodes = []
    for number, line in enumerate(_lines(path, "a map of classes"), 1):
        node = _integer(path, number, line.strip())
        if not 0 <= node < len(tree):
            raise _error(
                path, number, f"is the node {node}: the tree has nodes 0 to {len(tree) - 1}"
            )
        nodes.append(node)
    if not nodes:
        raise InputError(f"{path} is empty: give the index of a node for each class, one a line")
    return tuple(nodes)


def find_beside(name: str, source: str) -> pathlib.Path:
    """Finds a file that a description names, such as data/9k.tree.

    Its path is taken from the folder of the description, from the folder above it, and from the
    working directory. If it is in none of these places, its name alone is looked for in these
    folders and in their sub-folders data and cfg.

    Args:
      name: the path in the description.
      source: path of the description.
    Raises:
      InputError: it is nowhere there.
    """
    here = pathlib.Path(source).absolute().parent
    folders = list(dict.fromkeys((here, here.parent, pathlib.Path.cwd())))
    file = pathlib.Path(name).name
    places = [folder / name for folder in folders]
    places += [folder / part / file for folder in folders for part in ("", "data", "cfg")]
    for place in places:
        if place.is_file():
            return place
    raise InputError(
        f"{source} names the file {one_line(name, 60)}, which is not there: put it into "
        f"{folders[0]}, or give its content"
    )


def _lines(path: pathlib.Path, kind: str) -> list[str]:
    try:
        return read_text(path).splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as {kind}: {reason_of(error)}") from None


def _integer(path: pathlib.Path, line: int, word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise _error(path, line, f"{one_line(word, 60)!r} is no integer") from None


def _error(path: pathlib.Path, line: int, reason: str) -> InputError:
    return InputError(f"{path}, line {line}: {reason}")
