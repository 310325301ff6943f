"""The learning curves of a run, as a picture."""

import pathlib

import numpy as np

from jaxvision.core.files import replacing
from jaxvision.engine.history import Best, History
from jaxvision.engine.journal import METRICS, read_metrics

CURVES = "curves.png"


def _smooth(values: np.ndarray) -> np.ndarray:
    """A running mean over a fiftieth of the run, shorter at both ends."""
    half = max(1, len(values) // 100)
    total = np.concatenate([[0.0], np.cumsum(values)])
    high = np.minimum(np.arange(len(values)) + half + 1, len(values))
    low = np.maximum(np.arange(len(values)) - half, 0)
    return (total[high] - total[low]) / (high - low)


def draw_curves(workdir: pathlib.Path, best: Best | None, history: History) -> None:
    """Draws the loss and a metric over the steps into curves.png.

    Args:
      workdir: the run's folder, with metrics.jsonl in it.
      best: names the metric; the best evaluation is marked. None: the first metric of the
        evaluations is drawn, if there are any.
      history: of the evaluations.
    """
    lines = read_metrics(workdir / METRICS)
    if not lines:
        return
    metric = None
    if history:
        metric = best.metric if best else next(iter(history[0]["metrics"]), None)
    # Imported late, because that takes a second; and without a display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, *others = figure.subplots(1, 1 if metric is None else 2, squeeze=False)[0]

    def training(axes, name: str) -> None:
        points = [(line["step"], line[name]) for line in lines if name in line]
        if points:
            steps, values = np.array(points).T
            axes.plot(steps, values, color="C0", alpha=0.25, linewidth=0.8)
            axes.plot(steps, _smooth(values), color="C0", label="training, smoothed")

    training(left, "loss")
    left.set(title="loss", xlabel="step", yscale="log")
    for right in others:
        training(right, metric)
        right.set(title=metric, xlabel="step")
        scores = {e["step"]: e["metrics"][metric] for e in history}
        line = {"color": "C1", "label": "validation", "ms": 4}
        right.plot(*zip(*scores.items(), strict=True), "o-", **line)
        if best is not None:
            step = best.ranked(history)[0]
            label = f"best: {scores[step]:.4g} at step {step}"
            right.plot(step, scores[step], "*", color="C3", label=label, ms=14)
    for axes in (left, *others):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    with replacing(workdir / CURVES, "wb") as file:
        figure.savefig(file, format="png", dpi=120)
