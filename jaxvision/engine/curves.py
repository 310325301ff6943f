"""The learning curves of a run, as a picture."""

import numpy as np

from jaxvision.engine.history import History
from jaxvision.engine.journal import METRICS, read_metrics
from jaxvision.engine.run import Run

CURVES = "curves.png"


def _smooth(values: np.ndarray) -> np.ndarray:
    """A running mean over a fiftieth of the run, shorter at both ends."""
    half = max(1, len(values) // 100)
    total = np.concatenate([[0.0], np.cumsum(values)])
    high = np.minimum(np.arange(len(values)) + half + 1, len(values))
    low = np.maximum(np.arange(len(values)) - half, 0)
    return (total[high] - total[low]) / (high - low)


def draw_curves(run: Run, history: History) -> None:
    """Draws loss and the criterion's metric over the steps into curves.png.

    Args:
      run: gives the folder, with metrics.jsonl in it, and the metric.
      history: of the evaluations; the best is marked.
    """
    metric = run.criterion.metric
    lines = read_metrics(run.workdir / METRICS)
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
    if history:
        scores = {e["step"]: e["metrics"][metric] for e in history}
        best = run.criterion.ranked(history)[0]
        right.plot(*zip(*scores.items(), strict=True), "o-", color="C1", label="validation", ms=4)
        label = f"best: {scores[best]:.4g} at step {best}"
        right.plot(best, scores[best], "*", color="C3", label=label, ms=14)
    right.set(title=metric, xlabel="step")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    figure.savefig(run.workdir / CURVES, dpi=120)
