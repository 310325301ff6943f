"""Files of features: written, read, and whether they are of the same images and network."""

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
    """Raises InputError if a file of features cannot be called so, or cannot keep such maps."""
    if path.suffix != _SUFFIX:
        raise InputError(f"{path} is no file of features: give a name that ends in {_SUFFIX}")
    clash = set(maps) & set(_FIELDS)
    if clash:
        raise InputError(f"a map called {min(clash)!r} cannot be kept: leave it out")


def write_features(path: pathlib.Path, features: Features) -> None:
    """Writes an npz file, whole or not at all; makes its folder.

    Each map is an array under its name; so are the other fields, `origin` and `about` as JSON.

    Raises:
      InputError: another suffix, or a map with the name of a field.
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
    """What `write_features` wrote.

    Args:
      path: of the file.
      maps: names of those to read; none: all.
    Raises:
      InputError: there is no such file or map, it is none of `write_features`, or features are not
        finite.
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
        raise InputError(f"{path} holds no features, it lacks {min(missing)!r}: {advice}")
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
    """Raises InputError if features are not of the same network, classes and preparation."""
    for key in ("model", "variables", "preparation", "flatten"):
        if one.about.get(key) != other.about.get(key):
            raise InputError(
                f"the two files of features are of another {key}: compute both in the same way"
            )
    if one.labels is not None and other.labels is not None and one.class_names != other.class_names:
        first, second = (", ".join(x.class_names[:3]) for x in (one, other))
        raise InputError(
            f"the two files of features have other classes, {first} ... and {second} ...: give "
            "features of the same data"
        )
    if one.maps.keys() != other.maps.keys():
        lacking = ", ".join(sorted(one.maps.keys() ^ other.maps.keys()))
        raise InputError(f"only one of the two files of features has {lacking}: name others")


def images_digest(names: Iterable[str]) -> str:
    """Of names of images, files or places in one, and of each file's size and time."""

    def stamp(name: str) -> tuple[int, ...]:
        found = os.stat(name) if os.path.isfile(name) else None
        return (found.st_size, found.st_mtime_ns) if found else ()

    return json_digest([(name, stamp(name)) for name in names])
