"""Tables for tests: hard cases by chance, and pycocotools' numbers for them."""

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from jaxvision.metrics import DetectionTable, ObjectTable
from jaxvision.ops import compress_counts, encode_mask, mask_area

SIZE = (12, 16)


def detection_table(rows, masks=None):
    """From (image, box, score, label)."""
    image, boxes, scores, labels = zip(*rows, strict=True) if rows else ([], [], [], [])
    return DetectionTable(
        np.array(image, int),
        np.array(boxes, float).reshape(-1, 4),
        np.array(scores, float),
        np.array(labels, int),
        masks,
    )


def object_table(rows, *, crowd=(), difficult=(), area=None, masks=None):
    """From (image, box, label); crowd and difficult name rows."""
    image, boxes, labels = zip(*rows, strict=True) if rows else ([], [], [])
    flags = np.arange(len(rows))
    return ObjectTable(
        np.array(image, int),
        np.array(boxes, float).reshape(-1, 4),
        np.array(labels, int),
        np.isin(flags, crowd),
        np.isin(flags, difficult),
        None if area is None else np.array(area, float),
        masks,
    )


def hard_tables(rng, *, masks=False, most=60):
    """(detections, objects, num_classes).

    Few images and classes, boxes on a coarse grid (equal IoUs, IoUs at thresholds, boxes without
    area, areas at the limits), few scores (ties), crowds; none of either, now and then.
    """
    images, classes = rng.integers(1, 5), int(rng.integers(1, 4))
    ids = rng.permutation(20)[:images]
    unit = rng.choice([1, 8, 16, 32, 3.7])
    number, count = rng.integers(0, most), rng.integers(0, 20)

    def boxes(n):
        corner = rng.integers(0, rng.integers(2, 8), (n, 2))
        return np.concatenate([corner, corner + rng.integers(0, 4, (n, 2))], axis=1)

    def masks_of(boxes):
        result = []
        for x1, y1, x2, y2 in boxes:
            mask = np.zeros(SIZE, bool)
            mask[y1:y2, x1:x2] = rng.random((y2 - y1, x2 - x1)) < rng.choice([0.8, 1])
            result.append(encode_mask(mask))
        return result

    truth, found = boxes(count), boxes(number)
    if count:
        near = rng.random(number) < 0.5
        found[near] = truth[rng.integers(0, count, near.sum())]
    limits = [0, 32**2, 32**2 + 0.5, 96**2 - 1, 96**2, 5000, 1e10, 1e10 + 1]
    detections = DetectionTable(
        image=ids[rng.integers(0, images, number)],
        boxes=found * unit,
        scores=rng.integers(0, rng.choice([3, 1000]), number) / 7,
        labels=rng.integers(0, classes, number),
        masks=masks_of(found) if masks else None,
    )
    objects = ObjectTable(
        image=ids[rng.integers(0, images, count)],
        boxes=truth * unit,
        labels=rng.integers(0, classes, count),
        crowd=rng.random(count) < rng.choice([0, 0.3]),
        difficult=rng.random(count) < rng.choice([0, 0.3]),
        area=rng.choice(limits, count) if rng.random() < 0.4 else None,
        masks=masks_of(truth) if masks else None,
    )
    return detections, objects, classes


def permuted(detections, objects, rng):
    """The same tables with the images in another order; within an image rows keep theirs."""
    ids = rng.permutation(np.union1d(detections.image, objects.image))
    place = np.argsort(ids)
    sorted_ids = np.sort(ids)

    def reordered(table):
        rows = np.argsort(place[np.searchsorted(sorted_ids, table.image)], kind="stable")
        columns = {}
        for name, column in vars(table).items():
            if name == "masks" and column is not None:
                columns[name] = column.take(rows)
            else:
                columns[name] = None if column is None else column[rows]
        return type(table)(**columns)

    return reordered(detections), reordered(objects)


def pycocotools_results(detections, objects, *, num_classes, iou_type):
    """(precision, recall, the twelve numbers), NaN in place of -1."""

    def xywh(boxes):
        return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()

    def shape(table, row):
        if iou_type == "bbox":
            return {"bbox": xywh(table.boxes)[row]}
        mask = table.masks[row]
        return {"segmentation": {"size": list(mask.size), "counts": compress_counts(mask.counts)}}

    def size(row):
        if objects.area is not None:
            return float(objects.area[row])
        if objects.masks is not None:
            return mask_area(objects.masks[row])
        _, _, width, height = xywh(objects.boxes)[row]
        return width * height

    truth, found = COCO(), COCO()
    truth.dataset = {
        "info": {},
        "images": [
            {"id": i, "height": SIZE[0], "width": SIZE[1]}
            for i in np.union1d(detections.image, objects.image).tolist()
        ],
        "categories": [{"id": label} for label in range(num_classes)],
        # An id of 0 would count as no match.
        "annotations": [
            {
                "id": row + 1,
                "image_id": int(objects.image[row]),
                "category_id": int(objects.labels[row]),
                "iscrowd": int(objects.crowd[row]),
                "area": size(row),
                **shape(objects, row),
            }
            for row in range(len(objects))
        ],
    }
    results = [
        {
            "image_id": int(detections.image[row]),
            "category_id": int(detections.labels[row]),
            "score": float(detections.scores[row]),
            **shape(detections, row),
        }
        for row in range(len(detections))
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        # An empty list cannot be loaded.
        found.dataset = {**truth.dataset, "annotations": []}
        found.createIndex()
        found = truth.loadRes(results) if results else found
        evaluation = COCOeval(truth, found, iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    arrays = evaluation.eval["precision"], evaluation.eval["recall"], evaluation.stats
    return tuple(np.where(array == -1, np.nan, array) for array in arrays)
