"""Which class was taken for which: rows of a CSV file, and a figure."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from jaxvision.engine import log

LISTED = 30
"""Classes that a printed table and the picture of a confusion matrix have at most."""
_PAIRS = 20  # of classes that are confused, in a figure
_LETTERS = 40  # of a class's name, in a figure


def short_names(names: Sequence[str]) -> list[str]:
    """Names of classes as a figure has them."""
    return [name[:_LETTERS] for name in names]


def confusion_file(
    tables: Mapping[str, np.ndarray], names: Sequence[str]
) -> dict[str, Iterable[Sequence[Any]]]:
    """The rows of the CSV file "confusions"; of too many classes there is none.

    Args:
      tables: of `jaxvision.tasks.building.confusion_tables`.
      names: of the rows and columns.
    """
    if "confusions" not in tables:
        log(f"no table of confusions: {len(names)} classes are too many")
        return {}
    rows = zip(names, tables["confusions"], strict=True)
    titles = [["truth \\ predicted", *names]]
    return {"confusions": chain(titles, ([name, *counts.tolist()] for name, counts in rows))}


def draw_confusions(
    tables: Mapping[str, np.ndarray], support: np.ndarray, names: Sequence[str], *, what: str
) -> Any:
    """A figure of the confusion matrix; of many classes, of the pairs confused most often.

    Args:
      tables: of `jaxvision.tasks.building.confusion_tables`.
      support: int[K], how many there are of each true class.
      names: of the K classes.
      what: is counted, such as "examples".
    """
    names = short_names(names)
    if len(names) <= LISTED:
        return _draw_matrix(tables["confusions"], names, what)
    return _draw_pairs(tables["confused_pairs"], support, names, what)


def _draw_matrix(confusions: np.ndarray, names: Sequence[str], what: str) -> Any:
    """The matrix: a row for each true class, coloured by the share of what is in it."""
    # Imported late, because that takes a second; and without a display.
    from matplotlib.figure import Figure

    side = 3 + 0.42 * len(names)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    shares = confusions / np.maximum(confusions.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(confusions):
        if count:
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, count, ha="center", va="center", color=color, fontsize=8)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted class", ylabel="true class", title=f"{what} of each class")
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    return figure


def _draw_pairs(pairs: np.ndarray, support: np.ndarray, names: Sequence[str], what: str) -> Any:
    """The pairs of classes that are confused most often."""
    from matplotlib.figure import Figure

    pairs = pairs[:_PAIRS]
    figure = Figure(figsize=(9, 1.5 + 0.3 * len(pairs)), layout="constrained")
    axes = figure.subplots()
    counts = [count for _, _, count in pairs]
    axes.barh(range(len(pairs)), counts, color="C0")
    for place, (truth, _, count) in enumerate(pairs):
        axes.text(count, place, f" {count} of {support[truth]}", va="center", fontsize=8)
    labels = [f"{names[truth]} taken for {names[predicted]}" for truth, predicted, _ in pairs]
    axes.set_yticks(range(len(pairs)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set(xlabel=what, title=f"what is confused most often, of {len(names)} classes")
    return figure
