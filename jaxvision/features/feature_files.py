"""Writes and reads files of features, and checks whether two of them can be compared."""

import json
import os
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from jaxvision.core import InputError, close_names
from jaxvision.core.digest import json_digest
from jaxvision.core.files import NPZ_ERRORS, replacing
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
    try:
        with np.load(path, allow_pickle=False) as file:
            known = [name for name in file if name not in _FIELDS]
            read = [name for name in file if name in _FIELDS or name in (maps or known)]
            arrays = {name: file[name] for name in read}
    except NPZ_ERRORS as error:
        raise InputError(f"{path} cannot be read ({error}): {advice}") from error
    missing = set(_FIELDS) - arrays.keys() - {"labels"}
    if missing:
        raise InputError(
            f"{path} is not a file of features, because it has no {min(missing)!r}: {advice}"
        )
    for name in maps:
        if name not in known:
            raise InputError(f"{path} has no map {name!r}: {close_names(name, known)}")
    features = Features(
        maps={name: arrays[name] for name in maps or known},
        indices=arrays["indices"],
        labels=arrays.get("labels"),
        **{name: tuple(arrays[name].tolist()) for name in _TEXTS},
        **{name: json.loads(arrays[name].item()) for name in _JSON},
    )
    check_finite(features.maps, features.files)
    return features


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
