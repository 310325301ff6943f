"""Fits linear probes: how well does a linear classifier do on each map of a network?

  jaxvision probe --train=train.npz --test=test.npz --out=probes
  jaxvision probe --train=train.npz --test=test.npz --out=probes --maps=c2,c3,pooled --l2=1e-3

The files are those of `jaxvision features`, with labels. Features are standardised by the mean and
standard deviation of the training set. The classifier is a softmax regression, fitted by L-BFGS to
the whole set at once. Without --l2 the weight decay of each map is chosen from 1, 0.1, ... to 1e-5
by the accuracy on a held-out fifth of the training set; the probe is then fitted to all of it.

--out gets probe.json and probe.png, the accuracy by map. The last line on stdout is the result, as
JSON.
"""

import json
import pathlib
from typing import Any

import jax.numpy as jnp
from absl import flags

from jaxvision.cli import arguments
from jaxvision.cli.report import save_picture
from jaxvision.core import InputError, check_range
from jaxvision.core.files import replace_text
from jaxvision.engine import log, progress_bar
from jaxvision.features import (
    Features,
    check_comparable,
    choose_l2,
    fit_linear_probe,
    read_features,
)


def main(argv: list[str]) -> None:
    """The command; its result goes to stdout."""
    values = flags.FlagValues()
    for name, meaning in (
        ("train", "features to fit to, .npz, with labels"),
        ("test", "features to measure on, .npz, with labels"),
        ("out", "folder for probe.json and probe.png; made if it is not there"),
    ):
        flags.DEFINE_string(name, None, meaning, flag_values=values)
    flags.DEFINE_list("maps", [], "names of the maps; all if left out", flag_values=values)
    flags.DEFINE_float(
        "l2",
        None,
        "factor of half the squared weights, of N images scikit-learn's C = 1 / (N l2); chosen if "
        "left out",
        flag_values=values,
    )
    arguments.parse(values, argv, __doc__)
    for name in ("train", "test", "out"):
        if not values[name].value:
            raise InputError(f"no --{name} (--help tells what it is)")
    if values.l2 is not None:
        check_range("--l2", values.l2, more_than=0)
    train, test = (_labelled(values[name].value, values.maps) for name in ("train", "test"))
    check_comparable(train, test)
    out = pathlib.Path(values.out).expanduser()
    out.mkdir(parents=True, exist_ok=True)

    if values.l2 is None:
        log("l2 of each map: by the accuracy on a held-out fifth of the training set")
    probes = {
        name: _probe(train, test, name, values.l2)
        for name in progress_bar(train.maps, "fitting", visible=True)
    }
    log(_table(probes))
    for name, probe in probes.items():
        if not probe["converged"]:
            log(f"{name}: stopped after {probe['steps']} steps, before it was at its minimum")
    result = {
        "classes": len(train.class_names),
        "train": len(train.labels),
        "test": len(test.labels),
        "maps": probes,
    }
    replace_text(out / "probe.json", json.dumps(result, indent=1))
    save_picture(_draw(probes, len(train.labels), len(test.labels)), out / "probe.png")
    print(json.dumps(result), flush=True)


def _labelled(file: str, maps: list[str]) -> Features:
    features = read_features(pathlib.Path(file).expanduser(), maps=maps)
    if features.labels is None:
        raise InputError(
            f"{file} has no labels: give features of a --split of `jaxvision features`"
        )
    return features


def _probe(train: Features, test: Features, name: str, l2: float | None) -> dict[str, Any]:
    classes = len(train.class_names)
    x, labels = jnp.asarray(train.maps[name]), jnp.asarray(train.labels)
    tried = None
    if l2 is None:
        l2, tried = choose_l2(x, labels, classes)
    probe = fit_linear_probe(x, labels, classes, l2=l2)
    return {
        "dimensions": x.shape[1],
        "l2": l2,
        "train_accuracy": probe.accuracy(x, labels),
        "test_accuracy": probe.accuracy(test.maps[name], test.labels),
        "steps": probe.steps,
        "converged": probe.converged,
        **({} if tried is None else {"held_out_accuracy": {f"{k:g}": v for k, v in tried.items()}}),
    }


def _table(probes: dict[str, Any]) -> str:
    """A line for each map."""
    width = max(len("map"), *map(len, probes))
    lines = [f"{'map':<{width}}  dimensions       l2   train    test"]
    for name, x in probes.items():
        lines.append(
            f"{name:<{width}}  {x['dimensions']:>10}  {x['l2']:>7.2g}  "
            f"{x['train_accuracy']:.4f}  {x['test_accuracy']:.4f}"
        )
    return "\n".join(lines)


def _draw(probes: dict[str, Any], train: int, test: int) -> Any:
    """The figure: accuracy by map, in the network's order."""
    # Late, because it takes a second; and without a display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.5 + 1.1 * max(3, len(probes)), 4.5), layout="constrained")
    axes = figure.subplots()
    for part, count, color in (("train", train, "C0"), ("test", test, "C1")):
        heights = [x[f"{part}_accuracy"] for x in probes.values()]
        label = f"{part}, {count} images"
        axes.plot(range(len(probes)), heights, "o-", color=color, ms=5, label=label)
    for place, x in enumerate(probes.values()):
        axes.annotate(
            f"{x['test_accuracy']:.3f}",
            (place, x["test_accuracy"]),
            xytext=(0, -14),
            textcoords="offset points",
            ha="center",
            color="C1",
        )
    ticks = [f"{name}\n{x['dimensions']}" for name, x in probes.items()]
    axes.set_xticks(range(len(probes)), ticks)
    axes.margins(x=0.1, y=0.15)
    axes.set(title="linear probes", xlabel="map and its dimensions", ylabel="accuracy")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2)
    return figure
