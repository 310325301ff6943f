"""SHA-256 digests of arrays, JSON values and files."""

import hashlib
import json
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np


def _described(tree: Any) -> Iterator[tuple[str, tuple[bytes, np.ndarray]]]:
    """Yields (path, bytes to hash) of every array, sorted by path; copies no array of one piece."""
    arrays = {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(tree))
    }
    for path in sorted(arrays):
        array = arrays[path]
        header = f"{path}\0{array.dtype.name}\0{array.shape}\0".encode()
        yield path, (header, np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def array_digests(tree: Any) -> dict[str, str]:
    """Returns path -> sha256 of path, dtype, shape and bytes, for every array of a tree."""
    return {path: _sha256(parts) for path, parts in _described(tree)}


def state_digest(tree: Any) -> str:
    """Returns one sha256 of path, dtype, shape and bytes of all arrays of a tree, by path."""
    return _sha256(part for _, parts in _described(tree) for part in parts)


def _sha256(parts: Iterable[bytes | np.ndarray]) -> str:
    """The digest of parts one after the other; other threads run while a large one is hashed."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def json_digest(value: Any) -> str:
    """Returns the sha256 of a JSON value; the order of its keys has no effect."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def file_digests(folder: pathlib.Path) -> dict[str, str]:
    """Returns relative path -> sha256 for every file in a folder."""
    digests = {}
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                digests[str(path.relative_to(folder))] = hashlib.file_digest(
                    file, "sha256"
                ).hexdigest()
    return digests
