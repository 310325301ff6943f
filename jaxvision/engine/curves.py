"""The learning curves of a run, as a picture."""

import pathlib

import numpy as np

from jaxvision.engine.journal import METRICS, read_metrics

CURVES = "curves.png"


def _smooth(values: np.ndarray) -> np.ndarray:
    """A running mean over a fiftieth of the run, shorter at both ends."""
    half = max(1, len(values) // 100)
    total = np.concatenate([[0.0], np.cumsum(values)])
    high = np.minimum(np.arange(len(values)) + half + 1, len(values))
    low = np.maximum(np.arange(len(values)) - half, 0)
    return (total[high] - total[low]) / (high - low)


def draw_curves(workdir: pathlib.Path, *, metric: str, best_step: int | None) -> None:
    """Draws loss and `metric` over the steps into curves.png, from metrics.jsonl.

    Args:
      workdir: of the run.
      metric: the metric to draw, in training and (as "validation/METRIC") in evaluation.
      best_step: marked, if given.
    """
    lines = read_metrics(workdir / METRICS)
    if not lines:
        return
    # Late, because it takes a second; and without a display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)

    def training(axes, name: str) -> None:
        points = [(line["step"], line[name]) for line in lines if name in line]
        if points:
            steps, values = np.array(points).T
            axes.plot(steps, values, color="C0", alpha=0.25, linewidth=0.8)
            axes.plot(steps, _smooth(values), color="C0", label="training, smoothed")

    training(left, "loss")
    left.set(title="loss", xlabel="step", yscale="log")
    training(right, metric)
    name = f"validation/{metric}"
    points = [(line["step"], line[name]) for line in lines if name in line]
    if points:
        steps, values = np.array(points).T
        right.plot(steps, values, "o-", color="C1", markersize=4, label="validation")
        if best_step in steps:
            value = values[list(steps).index(best_step)]
            right.plot(
                best_step,
                value,
                "*",
                color="C3",
                markersize=14,
                label=f"best: {value:.4g} at step {best_step}",
            )
    right.set(title=metric, xlabel="step")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    figure.savefig(workdir / CURVES, dpi=120)
