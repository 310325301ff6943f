"""Compares COCO's average precision with pycocotools, faster-coco-eval and hotcoco: seconds.

  python benchmarks/coco_ap.py [--images 5000] [--detections 100] [--classes 80] [--rounds 3]
                               [--slow-rounds 1] [--segm-images 500]

The data set is synthetic: each image has 1 to 14 objects, 2 % of them crowds, and --detections
detections, some of them near objects. First boxes are measured ("bbox"), then masks (ellipses,
"segm") of fewer images. The columns are

  tables      seconds to prepare the input of the library: tables of arrays for this one, COCO's
              dictionaries for the others (including `loadRes`)
  seconds     median of the rounds, from this input to the twelve numbers (evaluate and accumulate);
              masks are given as COCO's compressed text, and reading it is included
  ratio       seconds divided by those of this library
  difference  largest difference of the twelve numbers from pycocotools

Each round runs all libraries, one after the other. pycocotools takes tens of seconds, so it only
runs in the first --slow-rounds. A library that is not installed is omitted.
"""

import argparse
import contextlib
import dataclasses
import io
import statistics
import time
from functools import partial

import numpy as np
from timing import machine

from jaxvision.metrics import DetectionTable, ObjectTable, coco_average_precision
from jaxvision.ops import compress_counts, decompress_masks, encode_mask, mask_area

WIDTH, HEIGHT = 640, 480


def make_boxes(rng, count):
    """Makes random boxes of all three sizes inside the image, f64[count, 4], xyxy."""
    sides = np.exp(rng.uniform(np.log(8), np.log(400), (count, 2))) * [1, HEIGHT / WIDTH]
    corner = rng.uniform(0, 1, (count, 2)) * ([WIDTH, HEIGHT] - sides)
    return np.concatenate([corner, corner + sides], axis=1).astype(np.float32).astype(np.float64)


def ellipses(boxes):
    """Returns the run-lengths of the ellipse inside each box."""
    masks = []
    for x1, y1, x2, y2 in boxes:
        x = (np.arange(WIDTH) + 0.5 - (x1 + x2) / 2) / ((x2 - x1) / 2)
        y = (np.arange(HEIGHT) + 0.5 - (y1 + y2) / 2) / ((y2 - y1) / 2)
        masks.append(encode_mask(y[:, None] ** 2 + x**2 < 1))
    return masks


def make_tables(images, detections, classes, *, masks=False, seed=0):
    """Makes (detections, objects) of a synthetic data set."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 15, images)
    image = np.repeat(np.arange(images), counts)
    boxes, labels = make_boxes(rng, image.size), rng.integers(0, classes, image.size)
    found = np.repeat(np.arange(images), detections)
    near = np.repeat(np.cumsum(counts) - counts, detections) + rng.integers(0, counts[found])
    jitter = rng.normal(0, 0.1, (found.size, 4)) * np.tile(
        boxes[near, 2:] - boxes[near, :2], (1, 2)
    )
    is_near = rng.random(found.size) < 0.4
    found_boxes = np.where(is_near[:, None], boxes[near] + jitter, make_boxes(rng, found.size))
    found_boxes[:, 2:] = np.maximum(found_boxes[:, 2:], found_boxes[:, :2] + 1)
    right = is_near & (rng.random(found.size) < 0.8)
    # Scores have few decimals, so that equal scores occur.
    scores = np.clip(rng.normal(0.3 + 0.3 * right, 0.2), 0.001, 1).round(3)
    found_table = DetectionTable(
        image=found,
        boxes=found_boxes.astype(np.float32).astype(np.float64),
        scores=scores,
        labels=np.where(right, labels[near], rng.integers(0, classes, found.size)),
        masks=ellipses(found_boxes) if masks else None,
    )
    objects = ObjectTable(
        image=image,
        boxes=boxes,
        labels=labels,
        crowd=rng.random(image.size) < 0.02,
        difficult=np.zeros(image.size, bool),
        masks=ellipses(boxes) if masks else None,
    )
    return found_table, objects


def as_coco(detections, objects, iou_type):
    """Converts tables to (data set, results) as COCO's dictionaries."""

    def rows(table):
        xywh = np.concatenate([table.boxes[:, :2], table.boxes[:, 2:] - table.boxes[:, :2]], axis=1)
        for row, (image, label, box) in enumerate(
            zip(table.image.tolist(), table.labels.tolist(), xywh.tolist(), strict=True)
        ):
            entry = {"image_id": image, "category_id": label}
            if iou_type == "segm":
                mask = table.masks[row]
                area = mask_area(mask)
                counts = compress_counts(mask.counts)
                entry["segmentation"] = {"size": list(mask.size), "counts": counts}
            else:
                area = box[2] * box[3]
                entry["bbox"] = box
            yield entry, {"id": row + 1, "area": area}

    annotations = [
        {**entry, **rest, "iscrowd": int(crowd)}
        for (entry, rest), crowd in zip(rows(objects), objects.crowd, strict=True)
    ]
    images = np.union1d(detections.image, objects.image).tolist()
    classes = np.union1d(detections.labels, objects.labels).tolist()
    data_set = {
        "info": {},
        "images": [{"id": i, "width": WIDTH, "height": HEIGHT} for i in images],
        "categories": [{"id": k, "name": str(k)} for k in classes],
        "annotations": annotations,
    }
    results = [
        {**entry, "score": score}
        for (entry, _), score in zip(rows(detections), detections.scores.tolist(), strict=True)
    ]
    return data_set, results


def pycocotools(data_set, results, iou_type):
    """Prepares the input, and returns a function that computes the twelve numbers."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO()
    truth.dataset = data_set
    truth.createIndex()
    return partial(numbers_of, COCOeval, truth, truth.loadRes(results), iou_type)


def faster_coco_eval(data_set, results, iou_type):
    from faster_coco_eval import COCO, COCOeval_faster

    truth = COCO(data_set)
    return partial(numbers_of, COCOeval_faster, truth, truth.loadRes(results), iou_type)


def hotcoco(data_set, results, iou_type):
    from hotcoco import COCO, COCOeval

    truth = COCO(data_set)
    return partial(numbers_of, COCOeval, truth, truth.loadRes(results), iou_type)


def numbers_of(evaluation_class, truth, found, iou_type):
    evaluation = evaluation_class(truth, found, iou_type)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats[:12]


def read_masks(table, texts):
    """Returns the table with masks that are read from COCO's compressed text."""
    return dataclasses.replace(table, masks=decompress_masks(table.masks.sizes, texts))


def quiet(call, *arguments):
    """Calls a function without its output, and returns (seconds, result)."""
    with contextlib.redirect_stdout(io.StringIO()):
        began = time.perf_counter()
        result = call(*arguments)
        return time.perf_counter() - began, result


def measure(iou_type, images, options):
    began = time.perf_counter()
    detections, objects = make_tables(
        images, options.detections, options.classes, masks=iou_type == "segm"
    )
    print(
        f"{iou_type}: {images} images, {len(detections)} detections, {len(objects)} objects, "
        f"{options.classes} classes; made in {time.perf_counter() - began:.1f} s",
        flush=True,
    )

    tables = [detections, objects]
    if iou_type == "segm":
        texts = [[compress_counts(mask.counts) for mask in table.masks] for table in tables]

    def ours():
        given = tables if iou_type == "bbox" else map(read_masks, tables, texts)
        result = coco_average_precision(*given, num_classes=options.classes, iou_type=iou_type)
        return np.array(list(result.stats.values()))

    calls = {"ours": ours}
    seconds, _ = quiet(type(detections), *(vars(detections).values()))
    seconds += quiet(type(objects), *(vars(objects).values()))[0]
    prepared = {"ours": seconds}
    libraries = {
        "hotcoco": hotcoco,
        "faster-coco-eval": faster_coco_eval,
        "pycocotools": pycocotools,
    }
    for name, library in libraries.items():
        try:
            dictionaries, made = quiet(as_coco, detections, objects, iou_type)
            loaded, calls[name] = quiet(library, *made, iou_type)
            prepared[name] = dictionaries + loaded
        except ImportError:
            print(f"# {name} is not installed: omitted")
    times, numbers = {name: [] for name in calls}, {}
    for turn in range(options.rounds):
        for name in list(calls) if turn % 2 else list(reversed(calls)):
            if name == "pycocotools" and turn >= options.slow_rounds:
                continue
            taken, numbers[name] = quiet(calls[name])
            times[name].append(taken)
            print(f"#   round {turn + 1}, {name}: {taken:.2f} s", flush=True)
    print(f"  {'':>16}   tables  seconds    ratio  difference")
    for name, values in times.items():
        taken = statistics.median(values)
        line = f"  {name:>16} {prepared[name]:8.2f} {taken:8.2f}"
        line += f" {taken / statistics.median(times['ours']):8.1f}"
        if "pycocotools" in numbers:
            # For values that do not exist, both return -1 and this library NaN.
            difference = np.nan_to_num(numbers[name], nan=-1) - numbers["pycocotools"]
            line += f"  {np.abs(difference).max():.1e}"
        print(line, flush=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100, help="for each image")
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slow-rounds", type=int, default=1, help="rounds of pycocotools")
    parser.add_argument("--segm-images", type=int, default=500)
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds: give at least 1")
    if options.slow_rounds < 1:
        parser.error("--slow-rounds: give at least 1")
    for iou_type, images in (("bbox", options.images), ("segm", options.segm_images)):
        measure(iou_type, images, options)
    print(machine("numpy", "pycocotools", "faster-coco-eval", "hotcoco"))


if __name__ == "__main__":
    main()
