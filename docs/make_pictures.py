"""Draws the README's pictures from finished runs.

python docs/make_pictures.py runs/digits_lenet5 runs/scenes_yolov2_tiny
"""

import json
import pathlib
import sys

import jax
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from jaxvision.cli import assemble
from jaxvision.engine import Parallel

ROWS, COLUMNS = 6, 16


def scenes(workdir):
    """The upper half of the page of predictions that the run left."""
    with Image.open(workdir / "predictions_test.png") as page:
        upper = page.crop((0, 0, page.width, page.height // 2)).convert("RGB")
    target = pathlib.Path(__file__).parent / "scenes.jpg"
    upper.save(target, quality=88)
    print(f"wrote {target}")


def digits(workdir, config):
    task = assemble.make_task(config)
    parallel = Parallel(devices=jax.devices()[:1])
    state = assemble.restore_best(workdir, config, task, parallel).state

    @jax.jit
    def predict(batch):
        prepared = jax.vmap(task.prepare)(batch)
        outputs, _ = task.forward(state.averaged, prepared, keys=None, step=0, train=False)
        return jax.vmap(task.decode)(outputs)

    records = assemble.open_records(assemble.open_data(config), "test")
    batches = list(assemble.eval_data(config, records))
    found = [jax.device_get(predict(batch)) for batch in batches]
    real = np.concatenate([batch.mask for batch in batches])
    images = np.concatenate([batch.image for batch in batches])[real]
    labels = np.concatenate([batch.label for batch in batches])[real]
    guesses = np.concatenate([each["label"] for each in found])[real]
    sure = np.concatenate([each["probabilities"] for each in found])[real].max(axis=1)

    figure = Figure(figsize=(13, 7), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(3, 2))
    wrong = (guesses != labels).sum()
    upper.suptitle(
        f"LeNet-5 on the {len(labels)} test digits, the least sure first: {wrong} wrong (red)"
    )
    # The least sure first: the interesting ones.
    order = np.argsort(sure)[: ROWS * COLUMNS]
    for axes, index in zip(upper.subplots(ROWS, COLUMNS).flat, order, strict=True):
        axes.imshow(images[index, :, :, 0], cmap="gray_r")
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
        config = assemble.saved_config(workdir)
        if config.task == "detection":
            scenes(workdir)
        else:
            digits(workdir, config)


if __name__ == "__main__":
    main(sys.argv[1:])
