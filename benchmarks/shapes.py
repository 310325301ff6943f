"""Compares the ways to give a detector images of mixed shapes, by average precision.

  python benchmarks/shapes.py --data BCCD_Dataset/BCCD [--steps 600] [--side 256]

The photographs of BCCD (640x480) are cropped to eight shapes, from 10 : 3 to 1 : 3. A small
RetinaNet on a ResNet-18 is trained on the crops of "trainval", resized to fit in a square of --side
pixels, in buckets. Then the crops of "test" are evaluated with the same weights: letterboxed;
padded to one shape ("fixed"); to at most four shapes ("buckets"); and each to a shape of its own
("exact"). Each is resized on the host with antialiasing to uint8, and without antialiasing in
float32. "shapes" is the number of shapes, each of which the network is compiled for; "padding" the
share of padding in all pixels of the inputs.
"""

import argparse
import time

import numpy as np
import optax
from timing import machine

import jaxvision
from jaxvision import data, tasks

CROPS = ((1, 1), (1, 0.75), (0.75, 1), (0.5, 1), (1, 0.4), (0.6, 0.6), (0.25, 1), (1, 0.45))
"""Shares of the width and of the height."""


class Crops:
    """A crop of each record, whose shape and place follow from its index.

    Of the objects those are kept whose centre is within it.
    """

    def __init__(self, source):
        self._source, self.class_names = source, source.class_names

    def __len__(self):
        return len(self._source)

    def _window(self, index):
        """(x1, y1, x2, y2)."""
        height, width = self._source[index]["image"].shape[:2]
        across, down = CROPS[index % len(CROPS)]
        w, h = round(across * width), round(down * height)
        x, y = np.random.RandomState(index).randint((width - w + 1, height - h + 1))
        return x, y, x + w, y + h

    def size(self, index):
        x1, y1, x2, y2 = self._window(index)
        return y2 - y1, x2 - x1

    def __getitem__(self, index):
        record, (x1, y1, x2, y2) = dict(self._source[index]), self._window(index)
        record["image"] = record["image"][y1:y2, x1:x2]
        boxes = np.asarray(record["boxes"], np.float32).reshape(-1, 4)
        x, y = (boxes[:, :2] + boxes[:, 2:]).T / 2
        kept = (x1 < x) & (x < x2) & (y1 < y) & (y < y2)
        origin, limit = np.float32([x1, y1] * 2), np.float32([x2 - x1, y2 - y1] * 2)
        record["boxes"] = np.clip(boxes[kept] - origin, 0, limit)
        for name in ("labels", "crowd", "difficult"):
            record[name] = np.asarray(record[name])[kept]
        return record

    def target(self, index):
        return {name: x for name, x in self[index].items() if name != "image"}

    def where(self, index):
        return self._source.where(index)


def source_of(folder, split):
    return data.Cached(Crops(data.Cached(data.VocFolder(folder, split, drop_bad=True))))


def detector(side, classes):
    """As in configs/bccd_retinanet.py."""
    model = jaxvision.create_model(
        "retinanet",
        backbone="resnet18",
        p6_from=None,
        features=64,
        depth=2,
        head_norm="group_norm",
        num_classes=classes,
    )
    sizes = tuple(side / 416 * size for size in (22, 48, 100))
    return tasks.detectors.retinanet(model, sizes=sizes)


def padding_of(inputs, sizes):
    """The number of shapes of the inputs, and the share of padding in all of them."""
    shapes = [inputs.size_of(size) or inputs.shape[:2] for size in sizes]
    seen = sum(h * w * min(H / h, W / w) ** 2 for (h, w), (H, W) in zip(sizes, shapes, strict=True))
    return len(set(shapes)), 1 - seen / sum(H * W for H, W in shapes)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="the folder of BCCD, in VOC's form")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    options = parser.parse_args()
    train, test = (source_of(options.data, split) for split in ("trainval", "test"))
    names, box = train.class_names, (options.side, options.side)

    def example_of(inputs):
        return data.ToDetection(inputs, len(names), max_boxes=64)

    inputs = jaxvision.Inputs(box, resize="fit", shapes="buckets")
    task = tasks.detection(detector(options.side, len(names)), inputs, class_names=names)
    loader = data.TrainLoader(train, example_of(inputs), batch_size=options.batch, seed=0)
    rate = optax.cosine_onecycle_schedule(options.steps, 1e-3, 0.1)
    start = time.perf_counter()
    optimizer = optax.adamw(rate, weight_decay=0.05)
    fitted = jaxvision.fit(task, optimizer, train=loader, steps=options.steps, seed=0)
    minutes = (time.perf_counter() - start) / 60
    sizes = [test.size(index) for index in range(len(test))]
    print("| resize | shapes | padding | resampling | AP | AP50 |\n|---|---|---|---|---|---|")
    for resize, shapes in (
        ("letterbox", "fixed"),
        ("fit", "fixed"),
        ("fit", "buckets"),
        ("fit", "exact"),
    ):
        for resampling in ("uint8", "float32"):
            how = {"resize": resize, "shapes": shapes, "resampling": resampling, "fill": 0}
            inputs = jaxvision.Inputs(box, **how)
            task = tasks.detection(detector(options.side, len(names)), inputs, class_names=names)
            batch = 1 if shapes == "exact" else 8
            test_loader = data.EvalLoader(test, example_of(inputs), batch_size=batch)
            found = jaxvision.evaluate(task, fitted.variables, test_loader).metrics
            count, padding = padding_of(inputs, sizes)
            way = resize if resize == "letterbox" else f"{resize}, {shapes}"
            print(
                f"| {way} | {count} | {padding:.0%} | {resampling} | {found['AP']:.3f} | "
                f"{found['AP50']:.3f} |",
                flush=True,
            )
    print(
        f"{options.steps} steps of {options.batch} in {minutes:.1f} min, {len(test)} test images, "
        f"{options.side} pixels; {machine('flax', 'optax')}"
    )


if __name__ == "__main__":
    main()
