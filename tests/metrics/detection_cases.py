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


def hard_keypoint_tables(rng, *, count=17, most=60):
    """(detections, objects, num_classes), with keypoints on a coarse grid and many ties.

    Crowds with and without keypoints, objects without a labelled keypoint, objects without area.
    """
    images, classes = rng.integers(1, 5), int(rng.integers(1, 3))
    ids = rng.permutation(20)[:images]
    unit = rng.choice([1, 5, 17, 3.7])
    number, present = rng.integers(0, most), rng.integers(0, 12)
    corner = rng.integers(0, 8, (present, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 12, (present, 2))], axis=1) * unit
    truth = np.zeros((present, count, 3))
    truth[..., :2] = (corner[:, None] + rng.integers(0, 12, (present, count, 2))) * unit
    truth[..., 2] = rng.integers(0, 3, (present, count)) * (rng.random((present, 1)) < 0.8)
    found = rng.integers(0, 20, (number, count, 3)) * unit
    if present:
        near = rng.random(number) < 0.8
        noise = rng.integers(-2, 3, (near.sum(), count, 3)) * unit * rng.choice([0, 0.5, 1])
        found[near] = truth[rng.integers(0, present, near.sum())] + noise
    detections = DetectionTable(
        image=ids[rng.integers(0, images, number)],
        boxes=np.zeros((number, 4)),
        scores=rng.integers(0, rng.choice([3, 1000]), number) / 7,
        labels=rng.integers(0, classes, number),
        keypoints=found,
    )
    limits = [0, 32**2, 32**2 + 0.5, 96**2 - 1, 96**2, 5000, 1e10, 1e10 + 1]
    objects = ObjectTable(
        image=ids[rng.integers(0, images, present)],
        boxes=boxes,
        labels=rng.integers(0, classes, present),
        crowd=rng.random(present) < rng.choice([0, 0.3]),
        difficult=np.zeros(present, bool),
        area=rng.choice(limits, present) if rng.random() < 0.4 else None,
        keypoints=truth,
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


def pycocotools_results(
    detections, objects, *, num_classes, iou_type, sigmas=None, max_detections=None
):
    """(precision, recall, the numbers of COCO), NaN in place of -1.

    With `max_detections` the arrays have this number of detections too; the numbers are the same.
    """

    def xywh(boxes):
        return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()

    def shape(table, row):
        if iou_type == "keypoints":
            return {"keypoints": table.keypoints[row].ravel().tolist()}
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

    def of_keypoints(row):
        if iou_type != "keypoints":
            return {}
        labelled = int((objects.keypoints[row, :, 2] > 0).sum())
        return {"bbox": xywh(objects.boxes)[row], "num_keypoints": labelled}

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
                **of_keypoints(row),
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
        if sigmas is not None:
            evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        if max_detections is not None:
            evaluation.params.maxDets = [*evaluation.params.maxDets, max_detections]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    arrays = evaluation.eval["precision"], evaluation.eval["recall"], evaluation.stats
    return tuple(np.where(array == -1, np.nan, array) for array in arrays)
