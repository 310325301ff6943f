"""What an evaluation of a classifier shows: tables, figures and the worst mistakes."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from jaxvision.cli.kinds.confusions import LISTED, confusion_file, draw_confusions
from jaxvision.cli.kinds.kind import PICTURES, Shown, to_look_at
from jaxvision.data.transforms.placing import with_channels
from jaxvision.metrics import Calibration

Tables = Mapping[str, np.ndarray]
"""Those of an evaluation, see `jaxvision.tasks.classification`."""


def class_table(tables: Tables, class_names: Sequence[str]) -> str:
    """Support, precision, recall and F1 score of each class, as lines of text.

    Of many classes, those with the lowest F1 scores are listed. A number that no example defines is
    a dash.
    """
    support, f1 = tables["class_support"], tables["class_f1"]
    shown: Sequence[int] = range(len(class_names))
    title, last = "class", ""
    if len(class_names) > LISTED:
        there = np.flatnonzero(support)
        shown = there[np.argsort(f1[there], kind="stable")][:LISTED].tolist()
        title = "worst classes"
        last = f"\n(of {len(class_names)} classes; the file of the classes has all)"
    width = max(map(len, ["mean", title, *(class_names[i] for i in shown)]))
    lines = [f"{title:<{width}}  support  precision  recall      F1"]
    for i in shown:
        columns = (tables[f"class_{name}"][i] for name in ("precision", "recall", "f1"))
        lines.append(_line(class_names[i], width, support[i], columns, there=support[i] > 0))
    there = support > 0
    means = (
        tables[f"class_{name}"][there].mean() if there.any() else 0.0
        for name in ("precision", "recall", "f1")
    )
    lines.append(_line("mean", width, support.sum(), means, there=there.any()))
    return "\n".join(lines) + last


def _line(name: str, width: int, support: int, columns: Any, *, there: bool) -> str:
    shown = [f"{x:.3f}" if there else "-" for x in columns]
    return f"{name:<{width}}  {support:>7}  {shown[0]:>9}  {shown[1]:>6}  {shown[2]:>6}"


def class_files(shown: Shown) -> dict[str, Iterable[Sequence[Any]]]:
    """The rows of the CSV files: of classes, their confusions, the confidence and the mistakes.

    They are made as they are written. Too many classes have no matrix of confusions.
    """
    tables, class_names = shown.evaluation.tables, shown.class_names
    columns = ("support", "precision", "recall", "f1")
    of_classes = zip(class_names, *(tables[f"class_{x}"].tolist() for x in columns), strict=True)
    bins = len(tables["bin_count"])
    edges = np.round(np.arange(bins + 1) / bins, 6).tolist()
    of_bins = (tables[f"bin_{x}"].tolist() for x in ("count", "confidence", "accuracy"))
    files: dict[str, Iterable[Sequence[Any]]] = {
        "classes": chain([["class", *columns]], of_classes),
        "calibration": chain(
            [["more_than", "at_most", "count", "confidence", "accuracy"]],
            zip(edges[:-1], edges[1:], *of_bins, strict=True),
        ),
        "mistakes": chain(
            [["example", "truth", "predicted", "confidence"]],
            (
                [shown.records.where(index), truth, predicted, round(confidence, 5)]
                for index, truth, predicted, confidence in _mistakes(shown)
            ),
        ),
    }
    return files | confusion_file(tables, class_names)


def class_figures(tables: Tables, class_names: Sequence[str]) -> dict[str, Any]:
    """Figures of matplotlib: the confusions of the classes, and the reliability diagram."""
    support = tables["class_support"]
    confusions = draw_confusions(tables, support, class_names, what="examples")
    names_of_bins = ("count", "confidence", "accuracy")
    bins = Calibration(**{name: tables[f"bin_{name}"] for name in names_of_bins})
    return {"confusions": confusions, "calibration": _draw_reliability(bins)}


def _draw_reliability(of_bins: Calibration) -> Any:
    """The accuracy at each confidence, and how many examples have it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    count, confidence, accuracy = of_bins.count, of_bins.confidence, of_bins.accuracy
    bins, examples = len(count), max(1, count.sum())
    left, there = np.arange(bins) / bins, count > 0
    upper.bar(left, accuracy, 1 / bins, align="edge", edgecolor="white", label="accuracy")
    upper.plot(confidence[there], accuracy[there], "k.", label="mean confidence of the bin")
    upper.plot([0, 1], [0, 1], "k--", linewidth=0.8, label="perfectly calibrated")
    upper.set(
        ylabel="accuracy", ylim=(0, 1), title=f"expected calibration error {of_bins.error:.4f}"
    )
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    lower.bar(left, count / examples, 1 / bins, align="edge", edgecolor="white", color="C1")
    lower.set(xlabel="confidence", ylabel="share of examples", xlim=(0, 1))
    return figure


def worst_mistakes(shown: Shown) -> list[dict[str, np.ndarray]]:
    """The images that were given a wrong class with the highest confidence, and both classes."""
    rows = []
    for index, truth, predicted, confidence in _mistakes(shown)[:PICTURES]:
        image, _ = to_look_at(with_channels(np.asarray(shown.records[index]["image"]), 3))
        rows.append({f"found {predicted} ({confidence:.2f}), truth {truth}": image})
    return rows


def _mistakes(shown: Shown) -> list[tuple[int, str, str, float]]:
    """(index, true class, predicted class, confidence) of each, the most confident one first."""
    labels, predicted, confidence = (
        np.asarray(shown.evaluation.collected[x]) for x in ("label", "predicted", "confidence")
    )
    names = shown.class_names
    wrong = np.flatnonzero(labels != predicted)
    order = wrong[np.argsort(-confidence[wrong], kind="stable")].tolist()
    return [(i, names[labels[i]], names[predicted[i]], float(confidence[i])) for i in order]
