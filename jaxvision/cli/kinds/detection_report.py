"""What an evaluation of a detector shows: tables, precision-recall curves, confusions."""

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from jaxvision import data
from jaxvision.cli.kinds.confusions import confusion_file, draw_confusions, short_names
from jaxvision.cli.kinds.kind import Shown
from jaxvision.metrics.coco import RECALL_THRESHOLDS
from jaxvision.tasks.detection_metrics import CURVES

_LEGEND = 12  # classes that a legend has at most

Tables = Mapping[str, np.ndarray]
"""Those of an evaluation, see `jaxvision.tasks.detection`."""
_MASK = "mask_"  # before the names of what is measured of masks


def _prefixes(tables: Tables) -> list[str]:
    """What the names of numbers begin with: of the boxes and, if there are any, of the masks."""
    return [prefix for prefix in ("", _MASK) if f"class_{prefix}ap" in tables]


def _precisions(tables: Tables) -> dict[str, str]:
    """Name of each average precision -> that of the table of all classes."""
    return {
        f"{prefix}AP{percent}": f"class_{prefix}ap{percent}"
        for prefix in _prefixes(tables)
        for percent in ("", *CURVES)
    }


def class_table(tables: Tables, class_names: Sequence[str]) -> str:
    """Average precision of each class, as lines of text; a dash where there are no objects."""
    width = max(len("class"), *map(len, class_names))
    precisions = _precisions(tables)
    widths = [max(8, len(name) + 2) for name in precisions]
    titles = (f"{name:>{size}}" for name, size in zip(precisions, widths, strict=True))
    lines = [f"{'class':<{width}}  objects" + "".join(titles)]
    columns = (tables[name] for name in ("class_objects", *precisions.values()))
    for name, count, *numbers in zip(class_names, *columns, strict=True):
        texts = ("-" if np.isnan(x) else f"{x:.3f}" for x in numbers)
        shown = "".join(f"{text:>{size}}" for text, size in zip(texts, widths, strict=True))
        lines.append(f"{name:<{width}}  {count:>7}{shown}")
    return "\n".join(lines)


def detection_files(shown: Shown) -> dict[str, Iterable[Sequence[Any]]]:
    """The rows of the CSV files: of classes, their precision-recall curves and confusions.

    A number that no object defines is empty.
    """
    tables, class_names = shown.evaluation.tables, shown.class_names
    counts = tables["class_objects"].tolist()
    precisions = _precisions(tables)
    columns = zip(*(_or_empty(tables[name]) for name in precisions.values()), strict=True)
    of_classes = zip(class_names, counts, columns, strict=True)
    return {
        "classes": chain(
            [["class", "objects", *precisions]],
            ([name, count, *numbers] for name, count, numbers in of_classes),
        ),
        **{
            f"{prefix}precision_recall": _curve_rows(tables, prefix, class_names)
            for prefix in _prefixes(tables)
        },
        **confusion_file(tables, _with_background(class_names)),
    }


def detections_json(shown: Shown, path: pathlib.Path) -> None:
    """Writes what was found in COCO's form of results."""
    data.write_coco_results(path, shown.evaluation.collected, shown.records)


def _curve_rows(tables: Tables, prefix: str, class_names: Sequence[str]) -> Iterable[Sequence[Any]]:
    """The rows of the precision-recall curves, the titles first."""
    yield ["iou", "recall", "mean", *class_names]
    for percent in CURVES:
        curves = _with_mean(tables[f"{prefix}precision{percent}"])
        for recall, precisions in zip(RECALL_THRESHOLDS.tolist(), curves.T, strict=True):
            yield [percent / 100, round(recall, 2), *_or_empty(precisions)]


def detection_figures(tables: Tables, class_names: Sequence[str]) -> dict[str, Any]:
    """Figures of matplotlib: the precision-recall curves, and the confusions of the classes."""
    names = _with_background(class_names)
    support = tables["confusion_objects"]
    return {
        **{
            f"{prefix}precision_recall": _draw_curves(tables, prefix, short_names(class_names))
            for prefix in _prefixes(tables)
        },
        "confusions": draw_confusions(tables, support, names, what="objects"),
    }


def _draw_curves(tables: Tables, prefix: str, names: Sequence[str]) -> Any:
    """The precision at each recall, of each class and their mean, for each IoU threshold."""
    # Imported late, because that takes a second; and without a display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(CURVES), 6), layout="constrained")
    for axes, percent in zip(figure.subplots(1, len(CURVES), sharey=True), CURVES, strict=True):
        mean, *curves = _with_mean(tables[f"{prefix}precision{percent}"])
        few = len(names) <= _LEGEND
        for name, curve in zip(names, curves, strict=True):
            if not np.isnan(curve).any():
                how = {"label": f"{name} {curve.mean():.3f}"} if few else {"color": "0.8"}
                axes.plot(RECALL_THRESHOLDS, curve, linewidth=0.9, **how)
        if not np.isnan(mean).any():
            label = f"mean {mean.mean():.3f}"
            axes.plot(RECALL_THRESHOLDS, mean, "k", linewidth=2, label=label)
            below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.12), "ncols": 3}
            axes.legend(title=f"{prefix}AP{percent}", fontsize=8, **below)
        axes.set(xlabel="recall", title=f"IoU of at least {percent / 100}", xlim=(0, 1))
        axes.set(ylabel="precision", ylim=(0, 1.02))
    return figure


def _with_mean(curves: np.ndarray) -> np.ndarray:
    """The mean over the classes that have objects before the curves: [K, R] -> [1 + K, R].

    It is NaN where there is no such class.
    """
    there = ~np.isnan(curves).any(axis=1)
    mean = curves[there].mean(axis=0) if there.any() else np.full(curves.shape[1], np.nan)
    return np.concatenate([mean[None], curves])


def _with_background(class_names: Sequence[str]) -> tuple[str, ...]:
    return (*class_names, "background")


def _or_empty(numbers: np.ndarray) -> list[Any]:
    return ["" if np.isnan(x) else round(x, 5) for x in numbers.tolist()]
