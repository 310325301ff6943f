"""Trees of classes and maps of classes in Darknet's form: what is read, and what is refused."""

import pytest

from jaxvision.core import InputError
from jaxvision.interop import read_class_map, read_word_tree
from jaxvision.ops import WordTree

TREE = WordTree(("n1", "n2", "n3"), (-1, 0, 0))


def written(tmp_path, text):
    path = tmp_path / "a.tree"
    path.write_text(text)
    return path


def test_a_tree_and_a_map(tmp_path):
    assert read_word_tree(written(tmp_path, "n1 -1\nn2 0\n n3\t0 \n")) == TREE
    assert read_class_map(written(tmp_path, "2\n0\n2"), TREE) == (2, 0, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: give a line 'name parent' for each node"),
        ("n1 -1\nn2\n", ", line 2: is 'n2': give a name and its parent"),
        ("n1 -1\n\nn2 0\n", ", line 2: is '': give a name and its parent"),
        ("n1 -1\nn2 0 0\n", ", line 2: is 'n2 0 0': give a name"),
        ("n1 x\n", ", line 1: 'x' is no integer"),
        ("n1 -1\nn2 1\n", ", line 2: the node 'n2' has the parent 1: give the index of a node bef"),
        ("n1 -1\nn2 0\nn3 -1\n", ", line 3: the node 'n3' is not next to its siblings"),
        ("n1 -1\nn1 0\n", ", line 2: the node 'n1' has the name of node 0"),
    ],
)
def test_what_is_no_tree_is_refused(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_word_tree(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: give the index of a node for each class"),
        ("0\n3\n", ", line 2: is the node 3: the tree has nodes 0 to 2"),
        ("-1\n", ", line 1: is the node -1"),
        ("0\ncat\n", ", line 2: 'cat' is no integer"),
    ],
)
def test_what_is_no_map_is_refused(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_class_map(path, TREE)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="nowhere cannot be read as a tree of classes: No such"):
        read_word_tree(tmp_path / "nowhere")
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="b cannot be read as a map of classes: not UTF-8"):
        read_class_map(tmp_path / "b", TREE)


def test_the_published_files(real_data):
    folder = real_data / "darknet" / "wordtree"
    tree = read_word_tree(folder / "9k.tree")
    names = (folder / "9k.names").read_text().splitlines()
    assert len(names) == len(tree)
    coco = read_class_map(folder / "coco9k.map", tree)
    assert [names[node] for node in coco[:3]] == ["person", "bicycle", "car"]
    assert len(read_class_map(folder / "inet9k.map", tree)) == 200
