"""Trains R-CNN, Fast R-CNN and Faster R-CNN on the same scenes, and measures time and precision.

  python benchmarks/claims/rcnn_family.py --proposals FOLDER [--steps 1500] [--picture FILE.png]

All three have the same stack of convolutions and see as many pixels in training. R-CNN (Girshick,
Donahue, Darrell & Malik 2014) runs it on a warped crop of each proposal; the classifier is trained
on crops, then support vector machines and a regression are fitted to its features. Fast R-CNN
(Girshick 2015) runs it once on the image and pools the features of each proposal. Both get the
proposals of selective search, which are written to FOLDER by the first run and read by later ones.
Faster R-CNN (Ren, He, Girshick & Sun 2015) proposes regions from the same features. The table has
the seconds for one image, medians over some test images one at a time, and AP50 and AP of the test
scenes.
"""

import argparse
import functools
import pathlib
import statistics
import time

import jax
import numpy as np
import optax
from matplotlib.figure import Figure
from training import machine

import jaxvision
from jaxvision import augment, data, features, metrics, tasks
from jaxvision.ops import box_iou
from jaxvision.tasks.detection_metrics import detection_table, object_table
from jaxvision.tasks.inference import predictions_of

SIDE, CLASSES, MOST = 96, 10, 500  # pixels, digits, proposals of an image
CROP, CONTEXT = 32, 2  # pixels of a region's crop and of its surroundings, nearly as 16 of 227
STAGES = (
    (0, ((16, 3),)),
    (1, ((32, 3),)),
    (2, ((64, 3),)),
    (3, ((128, 3), (64, 1), (128, 3))),
)
INPUTS = jaxvision.Inputs((SIDE, SIDE))
COLOR = augment.RandomHsv(hue=0.5, saturation=2.0, value=1.5)
propose = functools.partial(data.selective_search, mode="quality", scale=50, max_proposals=MOST)


def scenes(split, count, options):
    """The first scenes of a split with the proposals of selective search, kept in memory."""
    source = data.Scenes(split, dir=options.dir)
    source = data.Subset(source, range(min(count or len(source), len(source))))
    path = options.proposals / f"scenes_{split}_{len(source)}.npz"
    if not path.exists():
        print(f"selective search of {len(source)} images", flush=True)
        data.write_proposals(path, source, propose)
    return data.Cached(data.WithProposals(source, path))


def fitted(task, source, transform, *, batch_size, options):
    """The variables of a task's network after a training."""
    train = data.TrainLoader(source, transform, batch_size=batch_size, seed=options.seed)
    rate = optax.cosine_onecycle_schedule(options.steps, options.learning_rate, 0.2)
    optimizer = optax.adamw(rate, weight_decay=0.05)
    result = jaxvision.fit(task, optimizer, train=train, steps=options.steps, seed=options.seed)
    return result.variables


def fit_rcnn(train, options):
    """R-CNN: a classifier of crops, then support vector machines and regression."""
    size = (CROP, CROP)
    crops = features.region_examples(
        train, size=size, context=CONTEXT, fill=(0.0,) * 3, per_image=16, seed=options.seed
    )
    classes, inputs = CLASSES + 1, jaxvision.Inputs(size)
    model = jaxvision.create_model("darknet19", stages=STAGES, classifier="fc", num_classes=classes)
    task = tasks.classification(model, inputs, class_names=classes, augment=(COLOR,))
    transform = data.ToClassification(inputs, classes)
    batch_size = 16 * (SIDE // CROP) ** 2
    variables = fitted(task, crops, transform, batch_size=batch_size, options=options)
    regions = features.RegionFeatures(
        task, variables, map="c3", flatten=True, context=CONTEXT, batch_size=100
    )
    few = data.Subset(train, range(min(options.images, len(train))))
    return features.fit_rcnn(regions, few, CLASSES)


def fit_detector(name, train, options):
    """The task and the variables of Fast or Faster R-CNN, like configs/scenes_faster_rcnn.py."""
    fields = {
        "backbone": {"name": "plain_darknet", "stages": STAGES},
        "levels": ("c3",),
        "features": None,
        "box_size": 5,
        "aligned": True,
        "class_agnostic": True,
        "box_head": {"name": "mlp", "hidden": 128},
        "num_classes": CLASSES,
    }
    anchors = {"anchor_sizes": ((15, 21),), "aspect_ratios": (1.4, 2.0), "rounded_anchors": False}
    if name == "fast_rcnn":
        model = jaxvision.create_model(name, **fields)
        detector = tasks.detectors.fast_rcnn(model, box_batch_size_per_image=32, beta=1 / 9)
    else:
        model = jaxvision.create_model(name, **fields, **anchors)
        detector = tasks.detectors.faster_rcnn(
            model,
            rpn_pre_nms_top_n_train=200,
            rpn_post_nms_top_n_train=100,
            rpn_pre_nms_top_n_test=200,
            rpn_post_nms_top_n_test=32,
            box_batch_size_per_image=32,
            rpn_batch_size_per_image=64,
        )
    steps = augment.JitterCrop(0.2), COLOR
    task = tasks.detection(detector, INPUTS, class_names=CLASSES, augment=steps)
    return task, fitted(task, train, example_of(name), batch_size=16, options=options)


def example_of(name):
    """The transform of a detector's examples."""
    most = MOST if name == "fast_rcnn" else None
    return data.ToDetection(INPUTS, CLASSES, max_boxes=8, max_proposals=most)


def median_seconds(run, rounds):
    """The median time of run(0), run(1), ..., after a call that compiles."""
    run(0)
    times = []
    for number in range(rounds):
        began = time.perf_counter()
        jax.block_until_ready(run(number))
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def recall_of(source):
    """The share of the objects that a proposal overlaps with an IoU of 0.5 at least."""
    found = []
    for index in range(len(source)):
        record = source[index]
        boxes = np.zeros((MOST, 4), np.float32)
        boxes[: len(record["proposals"])] = record["proposals"]
        objects = np.zeros((8, 4), np.float32)
        objects[: len(record["boxes"])] = record["boxes"]
        best = np.asarray(box_iou(boxes, objects)).max(axis=0)
        found += (best[: len(record["boxes"])] >= 0.5).tolist()
    return np.mean(found)


def measure_rcnn(train, test, rounds, options):
    """(seconds of the network, AP50, AP) of R-CNN."""
    detector = fit_rcnn(train, options)

    def run(index):
        return detector.detect(test[index]["image"], test[index]["proposals"])

    found = [run(index) for index in range(len(test))]
    table = detection_table(jax.tree.map(lambda *x: np.stack(x), *found))
    objects = object_table([test.target(index) for index in range(len(test))])
    stats = metrics.coco_average_precision(table, objects, num_classes=CLASSES).stats
    # The programs for all numbers of proposals are compiled by now.
    return median_seconds(run, rounds), stats["AP50"], stats["AP"]


def measure_detector(name, train, test, rounds, options):
    """(seconds of the network, AP50, AP) of Fast or Faster R-CNN."""
    task, variables = fit_detector(name, train, options)
    transform = example_of(name)
    stats = jaxvision.evaluate(
        task, variables, data.EvalLoader(test, transform, batch_size=20)
    ).metrics
    variables = jax.device_put(variables)
    examples = [transform(test[index], test.where(index)) for index in range(rounds)]
    batches = [jax.tree.map(lambda x: x[None], example) for example in examples]
    predict = jax.jit(functools.partial(predictions_of, task))
    seconds = median_seconds(lambda index: predict(variables, batches[index]), rounds)
    return seconds, stats["AP50"], stats["AP"]


def draw(path, rows):
    """Draws the seconds for an image and AP50.

    Args:
      path: path of the picture, or None.
      rows: name -> (seconds of proposals, seconds of the network, AP50, AP).
    """
    if path is None:
        return
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    names, (proposals, network, ap50, _) = list(rows), np.array(list(rows.values())).T
    left.bar(names, proposals, label="proposals")
    left.bar(names, network, bottom=proposals, label="network and suppression")
    left.set(title="seconds for an image")
    left.legend()
    right.bar(names, ap50)
    right.set(title="AP50 on the test scenes", ylim=(0, 1))
    figure.savefig(path, dpi=110)
    print(f"wrote {path}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--proposals", type=pathlib.Path, required=True, help="a folder")
    parser.add_argument("--steps", type=int, default=1500, help="of each training")
    parser.add_argument("--learning-rate", type=float, default=1e-2)
    parser.add_argument(
        "--images", type=int, default=100, help="that R-CNN's last step is fitted to"
    )
    parser.add_argument("--train-images", type=int, help="default: all")
    parser.add_argument("--test-images", type=int, help="default: all")
    parser.add_argument("--rounds", type=int, default=20, help="images that are timed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dir", help="folder of TFDS")
    parser.add_argument("--picture", type=pathlib.Path, help="file to draw to")
    options = parser.parse_args()
    train = scenes("train", options.train_images, options)
    test = scenes("test", options.test_images, options)
    rounds = min(options.rounds, len(test))
    search = median_seconds(lambda index: propose(test[index]["image"]), rounds)
    count = np.mean([len(test[index]["proposals"]) for index in range(len(test))])
    print(
        f"selective search: {search:.3f} s and {count:.0f} proposals for an image, recall "
        f"{recall_of(test):.3f} at an IoU of 0.5\n"
    )
    print(
        "| detector | proposals, s | network, s | sum, s | AP50 | AP |\n|---|---|---|---|---|---|"
    )
    detector = functools.partial(measure_detector, train=train, test=test)
    how = {"rounds": rounds, "options": options}
    rows = {}
    for name, seconds, run in (
        ("R-CNN", search, functools.partial(measure_rcnn, train, test)),
        ("Fast R-CNN", search, functools.partial(detector, "fast_rcnn")),
        ("Faster R-CNN", 0.0, functools.partial(detector, "faster_rcnn")),
    ):
        network, ap50, ap = run(**how)
        rows[name] = seconds, network, ap50, ap
        times = f"{seconds:.3f} | {network:.3f} | {seconds + network:.3f}"
        print(f"| {name} | {times} | {ap50:.3f} | {ap:.3f} |", flush=True)
    draw(options.picture, rows)
    versions = machine("flax", "optax", "scikit-learn", "opencv-contrib-python-headless")
    print(f"{options.steps} steps of each training; {versions}")


if __name__ == "__main__":
    main()
