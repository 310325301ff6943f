"""Trains the steps from YOLO to YOLOv2, one after the other, on the embedded scenes.

  python benchmarks/claims/yolov2_ladder.py --workdir runs/ladder [--picture FILE.png]

The paper of YOLOv2 (Redmon & Farhadi 2017, "YOLO9000", table 2) adds one idea after the other to
YOLO. Here each of them is a small detector of digits on photographs of 96 x 96 pixels:

  YOLO                       YOLOv1 of a plain stack of convolutions and a fully connected layer, on
                             a grid of 3 x 3; no norms. The stack was trained to classify scenes
                             with one digit, at half the resolution
  batch norm                 after each convolution
  high-resolution classifier the stack is trained further at the full resolution
  convolutional              a convolution in place of the fully connected layers, on 12 x 12 cells
  anchor boxes               YOLOv2's loss, with three squares as anchors; offsets are not limited
  new network                the stack of Darknet-19, with 1x1 convolutions
  dimension priors           anchors by k-means of the boxes
  location prediction        centres within their cell
  passthrough                the finer map beside the last one
  multi-scale                training at sizes from 64 to 128 pixels
  high-resolution detector   the same weights on images of 128 x 128 pixels

Each rung keeps what the ones before it have. A training that is finished has a file in --workdir,
and is not repeated: the same command goes on where it was stopped. The table has AP50 of the test
scenes, the mean over the seeds with the least and the largest, beside the mAP of the paper on VOC
2007. The paper gives one number for "convolutional" and "anchor boxes" together, and one for
"dimension priors" and "location prediction".
"""

import argparse
import dataclasses
import functools
import json
import pathlib
import time
from typing import Any

import jax
import numpy as np
import optax
from matplotlib.figure import Figure
from PIL import Image
from tqdm import tqdm
from training import machine

import jaxvision
from jaxvision import augment, data, interop, ops, tasks
from jaxvision.core.files import replacing

SIDE, LARGE, CLASSES = 96, 128, 10
SIZES = (64, 80, 96, 112, 128)  # pixels, of multi-scale training
BATCH = 16
SQUARES = ((8.0, 8.0), (16.0, 16.0), (32.0, 32.0))
COLOR = augment.RandomHsv(hue=0.5, saturation=2.0, value=1.5)
STACKS = {
    "plain": (
        (0, ((16, 3),)),
        (1, ((32, 3),)),
        (2, ((64, 3),)),
        (3, ((128, 3),)),
    ),
    "darknet": (
        (0, ((16, 3),)),
        (1, ((32, 3),)),
        (2, ((64, 3),)),
        (3, ((128, 3), (64, 1), (128, 3))),
    ),
}


@dataclasses.dataclass(frozen=True)
class Rung:
    """What a detector of the ladder is made of.

    Attributes:
      norm: after each convolution, or None.
      pretrained_at: sizes at which the stack was trained to classify, one after the other.
      connected: whether the last layers are fully connected.
      anchors: "squares", "priors", or None for YOLOv1.
      stack: a key of STACKS.
      constrained: whether centres are predicted within their cell.
      passthrough: whether the finer map is used too.
      sizes: of the images in training.
    """

    norm: str | None = None
    pretrained_at: tuple[int, ...] = (SIDE // 2,)
    connected: bool = True
    anchors: str | None = None
    stack: str = "plain"
    constrained: bool = False
    passthrough: bool = False
    sizes: tuple[int, ...] = (SIDE,)


ADDED = {
    "YOLO": {},
    "batch norm": {"norm": "batch_norm"},
    "high-resolution classifier": {"pretrained_at": (SIDE // 2, SIDE)},
    "convolutional": {"connected": False},
    "anchor boxes": {"anchors": "squares"},
    "new network": {"stack": "darknet"},
    "dimension priors": {"anchors": "priors"},
    "location prediction": {"constrained": True},
    "passthrough": {"passthrough": True},
    "multi-scale": {"sizes": SIZES},
}
HIGH = "high-resolution detector"
PUBLISHED = {
    "YOLO": 63.4,
    "batch norm": 65.8,
    "high-resolution classifier": 69.5,
    "anchor boxes": 69.2,
    "new network": 69.6,
    "location prediction": 74.4,
    "passthrough": 75.4,
    "multi-scale": 76.8,
    HIGH: 78.6,
}
"""mAP on VOC 2007, percent."""


def ladder():
    """Name -> rung, each with all that was added before."""
    rungs, rung = {}, Rung()
    for name, added in ADDED.items():
        rungs[name] = rung = dataclasses.replace(rung, **added)
    return rungs


@functools.cache
def scenes(split, count, folder, *, single=False):
    """The first scenes of a split, kept in memory."""
    source = data.Scenes(split, dir=folder, single=single)
    return data.Cached(data.Subset(source, range(min(count or len(source), len(source)))))


def of_labels(source, size):
    """Scenes of one digit as images for classification."""
    records = [source[index] for index in range(len(source))]
    images = [np.asarray(Image.fromarray(x["image"]).resize((size, size))) for x in records]
    return data.Arrays(np.stack(images), np.array([int(x["labels"][0]) for x in records]))


def rate_of(rung, options):
    """The highest learning rate: without norms a fifth."""
    return options.learning_rate * (1 if rung.norm else 0.2)


def fitted(task, train, steps, variables, rung, seed, options):
    """The variables of a task's network after a training."""
    rate = optax.cosine_onecycle_schedule(steps, rate_of(rung, options), 0.2)
    optimizer = optax.adamw(rate, weight_decay=0.05)
    how = {"steps": steps, "seed": seed, "variables": variables}
    return jaxvision.fit(task, optimizer, train=train, **how).variables


def pretrained(rung, seed, options):
    """The variables of the stack as a classifier; they are kept in a folder of --workdir."""
    sizes = "-".join(map(str, rung.pretrained_at))
    folder = options.workdir / f"{rung.stack}_{rung.norm or 'no_norm'}_{sizes}_seed{seed}"
    folder = folder.with_name(f"{folder.name}_{options.pretrain_steps}")
    if interop.is_variables(folder):
        return interop.restore_variables(folder)
    *before, size = rung.pretrained_at
    variables = None
    if before:
        variables = pretrained(dataclasses.replace(rung, pretrained_at=(*before,)), seed, options)
    classifier = jaxvision.create_model(
        "darknet19",
        stages=STACKS[rung.stack],
        classifier="fc",
        norm=rung.norm,
        num_classes=CLASSES,
    )
    inputs = jaxvision.Inputs((size, size))
    task = tasks.classification(classifier, inputs, class_names=CLASSES, augment=(COLOR,))
    source = of_labels(scenes("train", options.train_images, options.dir, single=True), size)
    example = data.ToClassification(inputs, CLASSES)
    train = data.TrainLoader(source, example, batch_size=2 * BATCH, seed=seed)
    # The paper trains 160 epochs at the low resolution, and 10 at the high one.
    steps = options.pretrain_steps // (4 if before else 1)
    variables = fitted(task, train, max(1, steps), variables, rung, seed, options)
    interop.save_variables(folder, jax.device_get(variables))
    return variables


def priors_of(source):
    """Three anchors by k-means of the boxes of the training scenes."""
    boxes = np.concatenate([source.target(index)["boxes"] for index in range(len(source))])
    shapes = np.float32(boxes[:, 2:] - boxes[:, :2])
    return np.asarray(ops.kmeans_anchors(jax.random.key(0), shapes, k=3)).tolist()


def detector_of(rung, train):
    """The detector of a rung."""
    stages = STACKS[rung.stack]
    if rung.anchors is None:
        fields = {"convolutions": ((128, 2), (128, 2)) if rung.connected else ((128, 1),)}
        fields |= {"hidden": (256,) if rung.connected else (), "dropout": 0.0}
        model = jaxvision.create_model(
            "yolov1", stages=stages, norm=rung.norm, num_classes=CLASSES, **fields
        )
        return tasks.detectors.yolov1(model)
    model = jaxvision.create_model(
        "yolov2",
        backbone={"name": "plain_darknet", "stages": stages},
        level=3,
        convolutions=(128,),
        passthrough=32 if rung.passthrough else None,
        norm=rung.norm,
        num_classes=CLASSES,
    )
    anchors = SQUARES if rung.anchors == "squares" else priors_of(train)
    return tasks.detectors.yolov2(model, anchors, constrained=rung.constrained, prior_steps=50)


def result_of(rung, seed, options):
    """Side of the test images -> (AP50, AP) after a training."""
    train = scenes("train", options.train_images, options.dir)
    test = scenes("test", options.test_images, options.dir)
    task_of = functools.partial(
        tasks.detection, detector_of(rung, train), class_names=CLASSES, augment=(COLOR,)
    )

    def example_of(side):
        inputs = jaxvision.Inputs((side, side), resize="stretch")
        return inputs, data.ToDetection(inputs, CLASSES, max_boxes=8)

    inputs, example = example_of(SIDE)
    task = task_of(inputs)
    if len(rung.sizes) > 1:
        transforms = tuple(example_of(side)[1] for side in rung.sizes)
        example = data.MultiScale(transforms, every=10, seed=seed)
    own = task.init(jax.random.key(seed))
    variables = interop.transfer(own, pretrained(rung, seed, options)).variables
    loader = data.TrainLoader(train, example, batch_size=BATCH, seed=seed)
    variables = fitted(task, loader, options.steps, variables, rung, seed, options)
    found = {}
    for side in (SIDE, LARGE) if len(rung.sizes) > 1 else (SIDE,):
        inputs, example = example_of(side)
        loader = data.EvalLoader(test, example, batch_size=50)
        metrics = jaxvision.evaluate(task_of(inputs), variables, loader).metrics
        found[str(side)] = metrics["AP50"], metrics["AP"]
    return found


def kept(name, rung, seed, options):
    """The result of a rung with a seed, from its file or by a training.

    Raises:
      SystemExit: the file has a result of other settings.
    """
    file = options.workdir / f"{name.replace(' ', '_')}_seed{seed}.json"
    settings: dict[str, Any] = {
        name: getattr(options, name)
        for name in ("steps", "pretrain_steps", "learning_rate", "train_images", "test_images")
    }
    settings["rung"] = dataclasses.asdict(rung)
    settings = json.loads(json.dumps(settings))
    if file.exists():
        content = json.loads(file.read_text())
        if content["settings"] != settings:
            raise SystemExit(
                f"{file} is of other settings ({content['settings']}): give another --workdir, or "
                "delete it"
            )
        return content
    began = time.perf_counter()
    found = result_of(rung, seed, options)
    content = {"settings": settings, "found": found, "seconds": time.perf_counter() - began}
    with replacing(file) as stream:
        json.dump(content, stream)
    return content


def draw(path, figures):
    """Draws the ladder beside the published one.

    Args:
      path: path of the picture, or None.
      figures: name -> AP50 of each seed.
    """
    if path is None:
        return
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names = list(figures)
    places = np.arange(len(names))
    means = np.array([np.mean(figures[name]) for name in names])
    ends = np.array([(np.min(figures[name]), np.max(figures[name])) for name in names]).T
    left.barh(places, means, xerr=np.abs(ends - means), capsize=3)
    left.set(title="AP50 on the test scenes", xlim=(0, 1), yticks=places, yticklabels=names)
    left.invert_yaxis()
    published = [PUBLISHED.get(name, 0.0) for name in names]
    right.barh(places, published, color="C1")
    right.set(title="mAP on VOC 2007 (Redmon & Farhadi 2017, table 2)", xlim=(55, 80))
    for axes in (left, right):
        axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)
    print(f"wrote {path}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="a folder")
    parser.add_argument("--steps", type=int, default=800, help="of each detector")
    parser.add_argument("--pretrain-steps", type=int, default=400, help="of each classifier")
    parser.add_argument("--learning-rate", type=float, default=1e-2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rungs", nargs="+", choices=list(ADDED), help="default: all")
    parser.add_argument("--train-images", type=int, help="default: all")
    parser.add_argument("--test-images", type=int, help="default: all")
    parser.add_argument("--dir", help="folder of TFDS")
    parser.add_argument("--picture", type=pathlib.Path, help="file to draw to")
    options = parser.parse_args()
    options.workdir.mkdir(parents=True, exist_ok=True)
    rungs = {name: rung for name, rung in ladder().items() if name in (options.rungs or ADDED)}
    trainings = [(name, seed) for seed in range(options.seeds) for name in rungs]
    contents = {
        (name, seed): kept(name, rungs[name], seed, options)
        for name, seed in tqdm(trainings, desc="trainings", disable=None)
    }
    figures, seconds = {}, sum(content["seconds"] for content in contents.values())
    for name in rungs:
        found = [contents[name, seed]["found"] for seed in range(options.seeds)]
        figures[name] = [each[str(SIDE)][0] for each in found]
        if str(LARGE) in found[0]:
            figures[HIGH] = [each[str(LARGE)][0] for each in found]
    print("| rung | AP50 | least | largest | step | mAP of the paper |\n|---|---|---|---|---|---|")
    before = None
    for name, found in figures.items():
        mean = np.mean(found)
        step = "" if before is None else f"{mean - before:+.3f}"
        numbers = f"{mean:.3f} | {np.min(found):.3f} | {np.max(found):.3f}"
        print(f"| {name} | {numbers} | {step} | {PUBLISHED.get(name, '')} |")
        before = mean
    draw(options.picture, figures)
    print(
        f"{options.steps} steps of {BATCH} images, {options.seeds} seeds, {seconds / 60:.0f} "
        f"minutes in all; {machine('flax', 'optax')}"
    )


if __name__ == "__main__":
    main()
