"""Trains the steps from YOLO to YOLOv2, one after the other, on the embedded scenes.

  python benchmarks/claims/yolov2_ladder.py --workdir runs/ladder [--picture FILE.png]

The paper of YOLOv2 (Redmon & Farhadi 2017, "YOLO9000", table 2) adds one idea after the other to
YOLO. Here each of them is a small detector of digits on photographs of 96 x 96 pixels:

  YOLO                       YOLOv1 of a plain stack of convolutions and a fully connected layer, on
                             a grid of 3 x 3; no norms. The stack was trained to classify digits,
                             cut out of the scenes, at half the resolution
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
scenes, the mean over the seeds with the least and the largest, and the average recall with 100
detections, beside the mAP of the paper on VOC 2007. A step is the difference to the row before, in
the paper's column to the row before that has a number: the paper gives one number for
"convolutional" and "anchor boxes" together, and one for "dimension priors" and "location
prediction".
"""

import argparse
import dataclasses
import functools
import itertools
import json
import pathlib
import time

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
WINDOW = 48  # pixels, of the part around a digit that is classified
NORMAL = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
SIZES = (64, 80, 96, 112, 128)  # pixels, of multi-scale training
BATCH = 16
METRICS = "AP50", "AR100"
SQUARES = ((8.0, 8.0), (16.0, 16.0), (32.0, 32.0))
COLOR = augment.RandomHsv(hue=0.5, saturation=2.0, value=1.5)
AUGMENT = augment.JitterCrop(0.2), COLOR
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
      pretrained_at: sides of the windows when the stack was trained to classify, one after the
        other.
      connected: whether the last layers are fully connected.
      anchors: "squares", "priors", or None for YOLOv1.
      stack: a key of STACKS.
      constrained: whether centres are predicted within their cell.
      passthrough: whether the finer map is used too.
      sizes: of the images in training.
    """

    norm: str | None = None
    pretrained_at: tuple[int, ...] = (WINDOW // 2,)
    connected: bool = True
    anchors: str | None = None
    stack: str = "plain"
    constrained: bool = False
    passthrough: bool = False
    sizes: tuple[int, ...] = (SIDE,)


MULTI, HIGH = "multi-scale", "high-resolution detector"  # one training, measured at two sizes
ADDED = {
    "YOLO": {},
    "batch norm": {"norm": "batch_norm"},
    "high-resolution classifier": {"pretrained_at": (WINDOW // 2, WINDOW)},
    "convolutional": {"connected": False},
    "anchor boxes": {"anchors": "squares"},
    "new network": {"stack": "darknet"},
    "dimension priors": {"anchors": "priors"},
    "location prediction": {"constrained": True},
    "passthrough": {"passthrough": True},
    MULTI: {"sizes": SIZES},
}
PUBLISHED = {
    "YOLO": 63.4,
    "batch norm": 65.8,
    "high-resolution classifier": 69.5,
    "anchor boxes": 69.2,
    "new network": 69.6,
    "location prediction": 74.4,
    "passthrough": 75.4,
    MULTI: 76.8,
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
def scenes(split, count, folder):
    """The first scenes of a split, kept in memory."""
    source = data.Scenes(split, dir=folder)
    return data.Cached(data.Subset(source, range(min(count or len(source), len(source)))))


def digits_of(source, side):
    """The digits of scenes as images for classification: a window around each, resized."""
    images, labels = [], []
    for record in map(source.__getitem__, range(len(source))):
        most = np.array(record["image"].shape[1::-1]) - WINDOW
        centers = (record["boxes"][:, :2] + record["boxes"][:, 2:]) / 2
        corners = np.clip((centers - WINDOW / 2).round(), 0, most).astype(int)
        for left, top in corners.tolist():
            window = record["image"][top : top + WINDOW, left : left + WINDOW]
            images.append(np.asarray(Image.fromarray(window).resize((side, side))))
        labels.extend(record["labels"].tolist())
    return data.Arrays(np.stack(images), np.array(labels))


def rate_of(rung, options, *, detector):
    """The highest learning rate: a fifth without norms, and for fully connected layers."""
    slow = rung.norm is None or (detector and rung.connected)
    return options.learning_rate * (0.2 if slow else 1)


def fitted(task, train, steps, rate, variables, seed):
    """The variables of a task's network after a training."""
    optimizer = optax.adamw(optax.cosine_onecycle_schedule(steps, rate, 0.2), weight_decay=0.05)
    how = {"steps": steps, "seed": seed, "variables": variables}
    return jaxvision.fit(task, optimizer, train=train, **how).variables


def pretrained(rung, seed, options):
    """The variables of the stack as a classifier.

    They are kept in a folder of --workdir, whose name has all settings.
    """
    sizes = "-".join(map(str, rung.pretrained_at))
    network = f"{rung.stack}_{rung.norm or 'no_norm'}_{sizes}"
    images = options.train_images or "all"
    how = f"steps{options.pretrain_steps}_rate{options.learning_rate:g}_images{images}_seed{seed}"
    folder = options.workdir / "classifiers" / f"{network}_{how}"
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
    inputs = jaxvision.Inputs((size, size), **NORMAL)
    task = tasks.classification(classifier, inputs, class_names=CLASSES, augment=(COLOR,))
    source = digits_of(scenes("train", options.train_images, options.dir), size)
    example = data.ToClassification(inputs, CLASSES)
    train = data.TrainLoader(source, example, batch_size=2 * BATCH, seed=seed)
    # The paper trains 160 epochs at the low resolution, and 10 at the high one.
    steps = max(1, options.pretrain_steps // (4 if before else 1))
    rate = rate_of(rung, options, detector=False)
    variables = fitted(task, train, steps, rate, variables, seed)
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
        fields = {"convolutions": ((128, 2), (256, 2)) if rung.connected else ((128, 1),)}
        fields |= {"hidden": (1024,) if rung.connected else (), "dropout": 0.0}
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
    """Side of the test images -> METRICS after a training."""
    train = scenes("train", options.train_images, options.dir)
    test = scenes("test", options.test_images, options.dir)
    task_of = functools.partial(
        tasks.detection, detector_of(rung, train), class_names=CLASSES, augment=AUGMENT
    )

    def example_of(side):
        inputs = jaxvision.Inputs((side, side), resize="stretch", **NORMAL)
        return inputs, data.ToDetection(inputs, CLASSES, max_boxes=8)

    inputs, example = example_of(SIDE)
    task = task_of(inputs)
    if len(rung.sizes) > 1:
        transforms = tuple(example_of(side)[1] for side in rung.sizes)
        example = data.MultiScale(transforms, every=10, seed=seed)
    own = task.init(jax.random.key(seed))
    variables = interop.transfer(own, pretrained(rung, seed, options)).variables
    loader = data.TrainLoader(train, example, batch_size=BATCH, seed=seed)
    rate = rate_of(rung, options, detector=True)
    variables = fitted(task, loader, options.steps, rate, variables, seed)
    found = {}
    for side in (SIDE, LARGE) if len(rung.sizes) > 1 else (SIDE,):
        inputs, example = example_of(side)
        loader = data.EvalLoader(test, example, batch_size=50)
        metrics = jaxvision.evaluate(task_of(inputs), variables, loader).metrics
        found[str(side)] = {name: metrics[name] for name in METRICS}
    return found


def settings_of(rung, options):
    """What a result depends on, as json has it."""
    names = "steps", "pretrain_steps", "learning_rate", "train_images", "test_images"
    settings = {name: getattr(options, name) for name in names}
    settings |= {"rung": dataclasses.asdict(rung), "batch": BATCH, "metrics": METRICS}
    return json.loads(json.dumps(settings))


def kept(file, settings):
    """The content of the file of a result, or None if there is none yet.

    Raises:
      SystemExit: it is of other settings.
    """
    if not file.exists():
        return None
    content = json.loads(file.read_text())
    if content["settings"] != settings:
        raise SystemExit(
            f"{file} is of other settings ({content['settings']}): give another --workdir, or "
            "remove it"
        )
    return content


def results(rungs, options):
    """(name, seed) -> content of the file of each result; what is missing is trained.

    Raises:
      SystemExit: a file has a result of other settings.
    """
    contents, missing = {}, {}
    for seed, name in itertools.product(range(options.seeds), rungs):
        file = options.workdir / f"{name.replace(' ', '_')}_seed{seed}.json"
        contents[name, seed] = kept(file, settings_of(rungs[name], options))
        if contents[name, seed] is None:
            missing[name, seed] = file
    for (name, seed), file in tqdm(missing.items(), desc="trainings", disable=None):
        began = time.perf_counter()
        found = result_of(rungs[name], seed, options)
        contents[name, seed] = {
            "settings": settings_of(rungs[name], options),
            "found": found,
            "seconds": time.perf_counter() - began,
        }
        with replacing(file) as stream:
            json.dump(contents[name, seed], stream)
    print(f"trained {len(missing)} of {len(contents)}; the others are in {options.workdir}\n")
    return contents


def print_table(figures):
    """Prints a row for each rung.

    Args:
      figures: name -> METRICS of each seed.
    """
    print("| rung | AP50 | least | largest | step | AR | mAP of the paper | its step |")
    print("|---" * 8 + "|")
    before = published = None
    for name, found in figures.items():
        ap50, recall = (np.array([each[metric] for each in found]) for metric in METRICS)
        cells = [name, *(f"{x:.3f}" for x in (ap50.mean(), ap50.min(), ap50.max()))]
        cells.append("" if before is None else f"{ap50.mean() - before:+.3f}")
        before = ap50.mean()
        cells.append(f"{recall.mean():.3f}")
        number = PUBLISHED.get(name)
        cells.append("" if number is None else f"{number}")
        cells.append("" if None in (number, published) else f"{number - published:+.1f}")
        published = number or published
        print(f"| {' | '.join(cells)} |")


def draw(path, figures):
    """Draws the ladder beside the published one.

    Args:
      path: path of the picture, or None.
      figures: name -> METRICS of each seed.
    """
    if path is None:
        return
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names = list(figures)
    places = np.arange(len(names))
    ap50 = np.array([[each["AP50"] for each in found] for found in figures.values()])
    means, ends = ap50.mean(axis=1), np.array([ap50.min(axis=1), ap50.max(axis=1)])
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
    parser.add_argument("--steps", type=int, default=1000, help="of each detector")
    parser.add_argument("--pretrain-steps", type=int, default=1000, help="of each classifier")
    parser.add_argument("--learning-rate", type=float, default=1e-2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rungs", nargs="+", choices=[*ADDED, HIGH], help="default: all")
    parser.add_argument("--train-images", type=int, help="default: all")
    parser.add_argument("--test-images", type=int, help="default: all")
    parser.add_argument("--dir", help="folder of TFDS")
    parser.add_argument("--picture", type=pathlib.Path, help="file to draw to")
    options = parser.parse_args()
    for name in ("steps", "pretrain_steps", "seeds"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} has to be 1 or more")
    options.workdir.mkdir(parents=True, exist_ok=True)
    wanted = {MULTI if name == HIGH else name for name in options.rungs or ADDED}
    rungs = {name: rung for name, rung in ladder().items() if name in wanted}
    contents = results(rungs, options)
    figures, seconds = {}, sum(content["seconds"] for content in contents.values())
    for name in rungs:
        found = [contents[name, seed]["found"] for seed in range(options.seeds)]
        figures[name] = [each[str(SIDE)] for each in found]
        if name == MULTI:
            figures[HIGH] = [each[str(LARGE)] for each in found]
    print_table(figures)
    draw(options.picture, figures)
    print(
        f"{options.steps} steps of {BATCH} images, {options.seeds} seeds, {seconds / 60:.0f} "
        f"minutes in all; {machine('flax', 'optax')}"
    )


if __name__ == "__main__":
    main()
