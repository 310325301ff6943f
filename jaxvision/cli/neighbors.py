"""Finds nearest neighbors in the features of a network: the images that it finds similar.

  jaxvision neighbors --index=train.npz --queries=test.npz --out=near
  jaxvision neighbors --index=all.npz --queries=all.npz --map=c4 --metric=l2 --k=5 --out=near

The files are those of `jaxvision features`. If both are the same file, an image is not its own
neighbor.

--out gets neighbors.json with the neighbors of all queries, and pages of pictures, neighbors_1.png
and so on. A row shows a query at the left, then its neighbors with their distance and class. At
most --most queries are shown, evenly spread over the file; --most=0 draws none. If the classes are
known, a green frame marks the query's class and a red one another class, and the command prints
the accuracy of a vote of the neighbors. For the pictures, the images must still be where they were
when the features were extracted. The last line on stdout is the result, as JSON.
"""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from absl import flags

from jaxvision.cli import arguments
from jaxvision.cli.features import images_of
from jaxvision.core import InputError, check_range
from jaxvision.core.files import replace_text
from jaxvision.engine import log, progress_bar
from jaxvision.features import Features, check_comparable, read_features
from jaxvision.ops import NEIGHBOR_METRICS, majority_vote, nearest_neighbors
from jaxvision.predict import Neighbor, draw_neighbors, write_picture

_ROWS = 8  # queries on a page


def main(argv: list[str]) -> None:
    """The command; its result goes to stdout."""
    values = flags.FlagValues()
    for name, default, meaning in (
        ("index", None, "features of the images to search, .npz"),
        ("queries", None, "features of the images whose neighbors to find, .npz"),
        ("out", None, "folder for neighbors.json and the pictures; made if it is not there"),
        ("map", "pooled", "name of the map"),
    ):
        flags.DEFINE_string(name, default, meaning, flag_values=values)
    flags.DEFINE_enum(
        "metric", "cosine", list(NEIGHBOR_METRICS), "distance of features", flag_values=values
    )
    for name, default, meaning in (
        ("k", 8, "neighbors of each query"),
        ("most", 32, "queries in the pictures at most; 0: no pictures"),
    ):
        flags.DEFINE_integer(name, default, meaning, flag_values=values)
    arguments.parse(values, argv, __doc__)
    for name in ("index", "queries", "out"):
        if not values[name].value:
            raise InputError(f"no --{name} (--help tells what it is)")
    check_range("--most", values.most, least=0)
    files = [pathlib.Path(values[name].value).expanduser() for name in ("index", "queries")]
    index, queries = (read_features(file, maps=[values.map]) for file in files)
    check_comparable(index, queries)
    itself = files[0].resolve() == files[1].resolve()
    check_range("--k", values.k, least=1, most=len(index.files) - itself)
    out = pathlib.Path(values.out).expanduser()
    out.mkdir(parents=True, exist_ok=True)

    distances, found = _search(index, queries, values, itself=itself)
    result: dict[str, Any] = {
        "map": values.map,
        "metric": values.metric,
        "k": values.k,
        "index": len(index.files),
        "queries": len(queries.files),
    }
    if index.labels is not None and queries.labels is not None:
        voted = np.asarray(majority_vote(index.labels[found]))
        result["accuracy"] = float((voted == queries.labels).mean())
        log(f"the vote of {values.k} neighbors finds the class of {result['accuracy']:.4f}")
    rows = [
        {
            **_entry(queries, number),
            "neighbors": [
                {**_entry(index, other), "distance": float(f"{distance:.6g}")}
                for other, distance in zip(*pair, strict=True)
            ],
        }
        for number, pair in enumerate(zip(found.tolist(), distances.tolist(), strict=True))
    ]
    replace_text(out / "neighbors.json", json.dumps({**result, "found": rows}, indent=1))
    pages = []
    if values.most:
        for number, page in enumerate(_draw(index, queries, rows, found, values.most), start=1):
            pages.append(str(out / f"neighbors_{number}.png"))
            write_picture(pages[-1], page)
        log(f"pages of pictures in {out}: {len(pages)}")
    print(json.dumps({**result, "pictures": pages}), flush=True)


def _search(
    index: Features, queries: Features, values: flags.FlagValues, *, itself: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Distances f32[M, k] and numbers i32[M, k] of the neighbors."""
    distances, found = jax.device_get(
        nearest_neighbors(
            queries.maps[values.map],
            index.maps[values.map],
            k=values.k + itself,
            metric=values.metric,
        )
    )
    if not itself:
        return distances, found
    # Of each row one goes: itself, or the last where so many others are as near.
    own = found == np.arange(len(found))[:, None]
    own[:, -1] |= ~own.any(axis=1)
    return distances[~own].reshape(-1, values.k), found[~own].reshape(-1, values.k)


def _entry(features: Features, number: int) -> dict[str, Any]:
    """What there is to say of an image."""
    entry = {"file": features.files[number]}
    if features.labels is not None:
        entry["label"] = features.class_names[features.labels[number]]
    return entry


def _draw(
    index: Features, queries: Features, rows: list[Any], found: np.ndarray, most: int
) -> Iterator[np.ndarray]:
    """The pages."""
    read_query, read_other = images_of(queries), images_of(index)

    def cells(number: int) -> list[Neighbor]:
        row = rows[number]
        own = row.get("label")
        cells = [Neighbor(read_query(number), own or pathlib.Path(row["file"]).name)]
        for other, entry in zip(found[number].tolist(), row["neighbors"], strict=True):
            label = entry.get("label")
            same = None if own is None or label is None else own == label
            caption = f"{label or ''}  {entry['distance']:.3g}"
            cells.append(Neighbor(read_other(other), caption, same))
        return cells

    count = min(most, len(found))
    shown = np.linspace(0, len(found) - 1, count).astype(int).tolist()
    for first in progress_bar(range(0, count, _ROWS), "drawing", visible=True):
        yield draw_neighbors([cells(number) for number in shown[first : first + _ROWS]])
