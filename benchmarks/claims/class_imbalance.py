"""Trains one detector with cross entropy, with hard-negative mining and with the focal loss.

  python benchmarks/claims/class_imbalance.py [--steps 1600] [--seeds 3] [--picture FILE.png]

First the arithmetic of the lectures: ten objects with a loss of 3 each beside 10,000 boxes of the
background with a loss of 0.22 each. The table shows how much of the sum each of the three leaves to
the objects. Then a small RetinaNet is trained on the embedded scenes with each of them (Lin, Goyal,
Girshick, He & Dollár 2017, "Focal loss for dense object detection", section 3), the loss of the
boxes being the same. The table has AP50 and AP of the test scenes: the mean over the seeds, the
least and the largest.
"""

import argparse
import pathlib

import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from training import machine

import jaxvision
from jaxvision import augment, data, losses, ops, tasks

OBJECTS, BACKGROUND = (10, 3.0), (10_000, 0.22)  # how many, and the cross entropy of each
RATIO = 3  # negatives kept for each positive
SIDE, CLASSES = 96, 10


def focal_weight(loss, gamma=2.0):
    """What the focal loss multiplies a cross entropy by: (1 - p)^gamma, with p = exp(-loss)."""
    return (1 - np.exp(-loss)) ** gamma


def arithmetic():
    """Prints the sums of the losses of objects and background; returns the objects' shares."""
    (objects, hard), (others, easy) = OBJECTS, BACKGROUND
    rows = {
        "cross entropy": (objects * hard, others * easy),
        f"{RATIO} negatives for each object": (objects * hard, RATIO * objects * easy),
        "focal loss": (
            objects * hard * focal_weight(hard),
            others * easy * focal_weight(easy),
        ),
    }
    print("| | objects | background | share of the objects |\n|---|---|---|---|")
    for name, (first, second) in rows.items():
        print(f"| {name} | {first:.1f} | {second:.1f} | {first / (first + second):.1%} |")
    return [first / (first + second) for first, second in rows.values()]


def cross_entropy_loss(logits, deltas, anchors, boxes, labels, box_mask):
    """Every anchor counts the same."""
    truth = boxes, labels, box_mask
    return losses.retinanet_loss(logits, deltas, anchors, *truth, alpha=None, gamma=0.0)


def mined_loss(logits, deltas, anchors, boxes, labels, box_mask):
    """The positives count, and of the negatives those with the highest loss."""
    truth = boxes, labels, box_mask
    terms = losses.retinanet_loss(logits, deltas, anchors, *truth)
    matches = ops.match_anchors(
        ops.box_iou(anchors, boxes),
        box_mask,
        high_threshold=0.5,
        low_threshold=0.4,
        forced="all_ties",
    )
    positive, negative = matches >= 0, matches == ops.NEGATIVE
    classes = jnp.where(positive, labels[jnp.maximum(matches, 0)], -1)
    targets = (classes[:, None] == jnp.arange(logits.shape[1])[None]).astype(logits.dtype)
    each = optax.sigmoid_binary_cross_entropy(logits, targets).sum(axis=1)
    kept = positive | ops.mine_hard_negatives(each, positive, negative, ratio=RATIO)
    total = jnp.where(kept, each, 0).sum() / jnp.maximum(positive.sum(), 1)
    return {**terms, "classification": (total, jnp.ones(()))}


LOSSES = {
    "cross entropy": cross_entropy_loss,
    "hard-negative mining": mined_loss,
    "focal loss": losses.retinanet_loss,
}


def detector(loss):
    """A RetinaNet like that of configs/scenes_retinanet.py, without its first stage."""
    stages = (
        (1, ((32, 3),)),
        (2, ((64, 3),)),
        (3, ((128, 3), (64, 1), (128, 3))),
    )
    model = jaxvision.create_model(
        "retinanet",
        backbone={"name": "plain_darknet", "stages": stages},
        levels=("c3",),
        p6_from=None,
        features=64,
        depth=2,
        head_norm="batch_norm",
        num_classes=CLASSES,
    )
    shapes = {"sizes": (15,), "scales_per_octave": 2, "aspect_ratios": (1.4, 2.0)}
    return tasks.detectors.retinanet(model, **shapes, loss=loss)


def result_of(loss, seed, options):
    """(AP50, AP) of the test scenes after a training."""
    inputs = jaxvision.Inputs((SIDE, SIDE))
    color = augment.RandomHsv(hue=0.5, saturation=2.0, value=1.5)
    task = tasks.detection(detector(loss), inputs, class_names=CLASSES, augment=(color,))
    example = data.ToDetection(inputs, CLASSES, max_boxes=8)
    train = data.TrainLoader(
        data.Cached(data.Scenes("train", dir=options.dir)), example, batch_size=16, seed=seed
    )
    rate = optax.cosine_onecycle_schedule(options.steps, options.learning_rate, 0.2)
    optimizer = optax.adamw(rate, weight_decay=0.05)
    fitted = jaxvision.fit(task, optimizer, train=train, steps=options.steps, seed=seed)
    test = data.EvalLoader(data.Scenes("test", dir=options.dir), example, batch_size=50)
    metrics = jaxvision.evaluate(task, fitted.variables, test).metrics
    return metrics["AP50"], metrics["AP"]


def draw(path, shares, ap50):
    """Draws the shares of the objects in the loss, and AP50 with its range over the seeds.

    Args:
      path: path of the picture, or None.
      shares: of each loss.
      ap50: name of each loss -> f[seeds].
    """
    if path is None:
        return
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.bar(list(ap50), shares)
    left.set(title="share of the objects in the loss", ylim=(0, 1))
    means = np.array([x.mean() for x in ap50.values()])
    ends = np.array([[x.min(), x.max()] for x in ap50.values()]).T
    right.bar(list(ap50), means, yerr=np.abs(ends - means), capsize=6)
    right.set(title="AP50 on the test scenes", ylim=(0, 1))
    figure.savefig(path, dpi=110)
    print(f"wrote {path}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=1e-2)
    parser.add_argument("--dir", help="folder of TFDS")
    parser.add_argument("--picture", type=pathlib.Path, help="file to draw to")
    options = parser.parse_args()
    shares = arithmetic()
    print("\n| loss | AP50 | least | largest | AP |\n|---|---|---|---|---|")
    figures_of = {}
    for name, loss in LOSSES.items():
        found = np.array([result_of(loss, seed, options) for seed in range(options.seeds)])
        ap50, ap = found.T
        figures_of[name] = ap50
        figures = [f"{x:.3f}" for x in (ap50.mean(), ap50.min(), ap50.max(), ap.mean())]
        print(f"| {name} | {' | '.join(figures)} |", flush=True)
    draw(options.picture, shares, figures_of)
    print(
        f"{options.steps} steps, batches of 16, {options.seeds} seeds; {machine('flax', 'optax')}"
    )


if __name__ == "__main__":
    main()
