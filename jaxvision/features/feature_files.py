"""Writes and reads files of features, and checks whether two of them can be compared."""

import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from jaxvision.core import InputError, close_names, reason_of
from jaxvision.core.digest import json_digest
from jaxvision.core.files import parse_json, read_npz, replacing
from jaxvision.features.features import Features, check_finite

_SUFFIX = ".npz"
_FIELDS = tuple(field for field in Features._fields if field != "maps")
_TEXTS = ("files", "failed", "class_names")
_JSON = ("origin", "about")


def check_features_file(path: pathlib.Path, maps: Iterable[str] = ()) -> None:
    """Raises InputError if a file of features cannot have this name, or cannot hold such maps."""
    if path.suffix != _SUFFIX:
        raise InputError(f"{path} is not a file of features: give a name that ends in {_SUFFIX}")
    clash = set(maps) & set(_FIELDS)
    if clash:
        raise InputError(f"a map with the name {min(clash)!r} cannot be stored: leave it out")


def write_features(path: pathlib.Path, features: Features) -> None:
    """Writes an npz file, and its folder if needed; an interrupted call leaves no partial file.

    Each map and each other field is an array with its name; `origin` and `about` are JSON.

    Raises:
      InputError: the file's name has another suffix, or a map has the name of a field.
    """
    check_features_file(path, features.maps)
    arrays = {
        **features.maps,
        "indices": features.indices,
        **{name: np.array(getattr(features, name), str) for name in _TEXTS},
        **{name: np.array(json.dumps(getattr(features, name))) for name in _JSON},
    }
    if features.labels is not None:
        arrays["labels"] = features.labels
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, "wb") as file:
        np.savez(file, **arrays)


def read_features(path: pathlib.Path, *, maps: Sequence[str] = ()) -> Features:
    """Reads what `write_features` wrote.

    Args:
      path: of the file.
      maps: names of the maps to read; (): all.
    Raises:
      InputError: there is no such file or map, the file was not written by `write_features`, or
        features are not finite.
    """
    check_features_file(path)
    advice = "write it with `jaxvision features`"
    if not path.is_file():
        raise InputError(f"there is no file {path}: {advice}")

    def choose(names: list[str]) -> list[str]:
        missing = set(_FIELDS) - {*names, "labels"}
        if missing:
            raise InputError(
                f"{path} is not a file of features, because it has no {min(missing)!r}: {advice}"
            )
        known = [name for name in names if name not in _FIELDS]
        for name in maps:
            if name not in known:
                raise InputError(f"{path} has no map {name!r}: {close_names(name, known)}")
        return [*(maps or known), *(name for name in names if name in _FIELDS)]

    arrays = read_npz(path, advice, choose)
    try:
        features = _features(arrays)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{path} is not a file of features ({reason_of(error)}): {advice}"
        ) from error
    check_finite(features.maps, features.files)
    return features


def _features(arrays: Mapping[str, np.ndarray]) -> Features:
    """Returns features of the arrays of a file; raises ValueError if they are none."""
    maps = {name: x for name, x in arrays.items() if name not in _FIELDS}
    files, indices, labels = arrays["files"], arrays["indices"], arrays.get("labels")
    kinds = {
        **dict.fromkeys(maps, ("f", 2)),
        **dict.fromkeys(_TEXTS, ("U", 1)),
        **dict.fromkeys(_JSON, ("U", 0)),
        **dict.fromkeys(("indices", "labels"), ("iu", 1)),
    }
    for name, x in arrays.items():
        kind, rank = kinds[name]
        if x.dtype.kind not in kind or x.ndim != rank:
            raise ValueError(f"{name} is {x.dtype}{list(x.shape)}")
    counted = [*maps.values(), files, indices, *([] if labels is None else [labels])]
    if len({len(x) for x in counted}) != 1:
        raise ValueError("its arrays are of different numbers of images")
    texts = {name: tuple(arrays[name].tolist()) for name in _TEXTS}
    about = {name: parse_json(arrays[name].item()) for name in _JSON}
    if not all(isinstance(value, dict) for value in about.values()):
        raise ValueError("origin or about is no object")
    if labels is not None:
        _check_labels(labels, texts["class_names"])
    return Features(maps=maps, indices=indices, labels=labels, **texts, **about)


def _check_labels(labels: np.ndarray, class_names: Sequence[str]) -> None:
    """Raises ValueError if a label is not the number of one of the classes."""
    largest = len(class_names) or np.inf
    if ((labels < 0) | (labels >= largest)).any():
        raise ValueError(f"it has labels that are not of its {len(class_names)} class_names")


def check_comparable(one: Features, other: Features) -> None:
    """Raises InputError unless two features have the same network, classes and preparation."""
    for key in ("model", "variables", "preparation", "flatten"):
        if one.about.get(key) != other.about.get(key):
            raise InputError(
                f"the two files of features differ in {key}: compute both in the same way"
            )
    if one.labels is not None and other.labels is not None and one.class_names != other.class_names:
        first, second = (", ".join(x.class_names[:3]) for x in (one, other))
        raise InputError(
            f"the two files of features have different classes, {first} ... and {second} ...: give "
            "features of the same data"
        )
    if one.maps.keys() != other.maps.keys():
        lacking = ", ".join(sorted(one.maps.keys() ^ other.maps.keys()))
        raise InputError(
            f"only one of the two files of features has {lacking}: name maps that both have"
        )


def images_digest(names: Iterable[str]) -> str:
    """Computes a digest of names of images, and of the size and time of those that are files."""

    def stamp(name: str) -> tuple[int, ...]:
        found = os.stat(name) if os.path.isfile(name) else None
        return (found.st_size, found.st_mtime_ns) if found else ()

    return json_digest([(name, stamp(name)) for name in names])
