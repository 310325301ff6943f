"""Draws the README's pictures from finished runs.

python docs/make_pictures.py runs/digits_lenet5 runs/scenes_yolov2_tiny
"""

import json
import pathlib
import sys

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

import jaxvision
from jaxvision import data

ROWS, COLUMNS = 6, 16


def scenes(workdir):
    """Writes the upper half of the page of predictions that the run has written."""
    with Image.open(workdir / "predictions_test.png") as page:
        upper = page.crop((0, 0, page.width, page.height // 2)).convert("RGB")
    target = pathlib.Path(__file__).parent / "scenes.jpg"
    upper.save(target, quality=88)
    print(f"wrote {target}")


def digits(workdir, run):
    """Draws the test digits of which the network is least sure, and the curves of its training."""
    records = data.Digits("test")
    images = [records[i]["image"] for i in range(len(records))]
    labels = np.array([records[i]["label"] for i in range(len(records))])
    found = [each.result for each in jaxvision.predict(run.task, run.variables, images)]
    transform = data.ToClassification(run.task.inputs, num_classes=10)
    inputs = [transform(records[i], records.where(i)).image for i in range(len(records))]
    guesses = np.array([each["index"] for each in found])
    sure = np.array([each["probabilities"].max() for each in found])

    figure = Figure(figsize=(13, 7), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(3, 2))
    wrong = (guesses != labels).sum()
    upper.suptitle(
        f"LeNet-5 on the {len(labels)} test digits, the least sure first: {wrong} wrong (red)"
    )
    # Those of which the network is least sure are the interesting ones.
    order = np.argsort(sure)[: ROWS * COLUMNS]
    for axes, index in zip(upper.subplots(ROWS, COLUMNS).flat, order, strict=True):
        axes.imshow(inputs[index][:, :, 0], cmap="gray_r")
        right = guesses[index] == labels[index]
        axes.set_title(
            f"{guesses[index]} ({100 * sure[index]:.0f} %)",
            fontsize=8,
            color="black" if right else "red",
            fontweight="normal" if right else "bold",
            pad=1,
        )
        axes.axis("off")

    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    left, right = lower.subplots(1, 2)
    left.semilogy([line["step"] for line in lines], [line["loss"] for line in lines], lw=0.6)
    left.set(title="training loss", xlabel="step")
    evaluated = [line for line in lines if "validation/accuracy" in line]
    right.plot(
        [line["step"] for line in evaluated],
        [line["validation/accuracy"] for line in evaluated],
        "o-",
    )
    right.set(title="validation accuracy", xlabel="step", ylim=(0.9, 1.002))
    for axes in (left, right):
        axes.grid(alpha=0.3)
    target = pathlib.Path(__file__).parent / "digits.png"
    figure.savefig(target, dpi=90)
    print(f"wrote {target}")


def main(workdirs):
    for workdir in map(pathlib.Path, workdirs):
        run = jaxvision.load_run(workdir)
        if run.task.kind == "detection":
            scenes(workdir)
        else:
            digits(workdir, run)


if __name__ == "__main__":
    main(sys.argv[1:])
