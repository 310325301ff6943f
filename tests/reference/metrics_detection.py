"""Average precision by loops: one detection, one object, one threshold at a time.

A detection is (image, box, score, label), an object (image, box, label, crowd, difficult, area).
"""

from fractions import Fraction

import numpy as np

# The very floats of pycocotools, for cases that lie exactly at a threshold.
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10).tolist()
RECALLS = np.linspace(0, 1, 101).tolist()
AREAS = [(0, 1e10), (0, 1024), (1024, 9216), (9216, 1e10)]
MOST = [1, 10, 100]


def overlap(box1, box2):
    width = min(box1[2], box2[2]) - max(box1[0], box2[0])
    height = min(box1[3], box2[3]) - max(box1[1], box2[1])
    return width * height if width > 0 and height > 0 else 0.0


def area_of(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def box_iou(box1, box2, crowd=False):
    both = overlap(box1, box2)
    if both == 0:
        return 0.0
    return both / (area_of(box1) if crowd else area_of(box1) + area_of(box2) - both)


def by_score(detections):
    """Falling; of equal scores by image, then as they came."""
    return sorted(detections, key=lambda detection: (-detection[2], detection[0]))


def rows(detections, objects):
    """The tables as tuples."""
    area = objects.area if objects.area is not None else [area_of(box) for box in objects.boxes]
    return (
        list(
            zip(
                detections.image.tolist(),
                detections.boxes.tolist(),
                detections.scores.tolist(),
                detections.labels.tolist(),
                strict=True,
            )
        ),
        list(
            zip(
                objects.image.tolist(),
                objects.boxes.tolist(),
                objects.labels.tolist(),
                objects.crowd.tolist(),
                objects.difficult.tolist(),
                area,
                strict=True,
            )
        ),
    )


def voc_average_precision(detections, objects, *, num_classes, iou_threshold, method):
    """AP of each class, NaN where there is nothing to find."""
    detections, objects = rows(detections, objects)
    result = []
    for label in range(num_classes):
        of_class = [object_ for object_ in objects if object_[2] == label]
        total = sum(not object_[4] for object_ in of_class)
        claimed, correct = set(), []
        for image, box, _, of_label, *_ in by_score(detections):
            if of_label != label:
                continue
            best, highest = None, -1.0
            for index, object_ in enumerate(of_class):
                if object_[0] == image and box_iou(box, object_[1]) > highest:
                    best, highest = index, box_iou(box, object_[1])
            if highest < iou_threshold:
                correct.append(False)
            elif not of_class[best][4]:
                correct.append(best not in claimed)
                claimed.add(best)
        result.append(_voc_ap(correct, total, method) if total else float("nan"))
    return np.array(result)


def _voc_ap(correct, total, method):
    points, found = [], 0
    for seen, hit in enumerate(correct, start=1):
        found += hit
        points.append((Fraction(int(found), int(total)), found / seen))
    if method == "11point":
        levels = [Fraction(i, 10) for i in range(11)]
        return sum(max((p for r, p in points if r >= level), default=0) for level in levels) / 11
    area, before = 0.0, 0
    for index, (recall, _) in enumerate(points):
        area += float(recall - before) * max(p for _, p in points[index:])
        before = recall
    return area


def coco_average_precision(detections, objects, *, num_classes):
    """(precision [T, R, K, A, M], recall [T, K, A, M]) for boxes, NaN where nothing exists."""
    detections, objects = rows(detections, objects)
    objects = [(*o[:4], o[3], o[5]) for o in objects]
    return _coco(detections, objects, num_classes, AREAS, MOST, box_iou, area_of)


def coco_keypoint_average_precision(detections, objects, *, num_classes, sigmas):
    """As `coco_average_precision`, for keypoints."""
    of_detections, of_objects = rows(detections, objects)
    found = [
        (d[0], points.tolist(), *d[2:])
        for d, points in zip(of_detections, detections.keypoints, strict=True)
    ]
    present = [
        (o[0], (points.tolist(), o[1], o[5]), *o[2:4], o[3] or not (points[:, 2] > 0).any(), o[5])
        for o, points in zip(of_objects, objects.keypoints, strict=True)
    ]

    def similarity(points, object_, crowd):
        return keypoint_similarity(points, *object_, sigmas)

    def area(points):
        x, y, _ = zip(*points, strict=True)
        return (max(x) - min(x)) * (max(y) - min(y))

    return _coco(found, present, num_classes, [AREAS[0], *AREAS[2:]], [20], similarity, area)


def keypoint_similarity(points, others, box, area, sigmas):
    """OKS of a detection's points and an object's."""
    x1, y1, x2, y2 = box
    labelled = [k for k, other in enumerate(others) if other[2] > 0]
    terms = []
    for k in labelled or range(len(others)):
        x, y, _ = points[k]
        if labelled:
            dx, dy = x - others[k][0], y - others[k][1]
        else:
            dx = max(x1 - (x2 - x1) - x, x - x2 - (x2 - x1), 0)
            dy = max(y1 - (y2 - y1) - y, y - y2 - (y2 - y1), 0)
        exponent = (dx**2 + dy**2) / (2 * (area + np.spacing(1)) * (2 * sigmas[k]) ** 2)
        terms.append(np.exp(-exponent))
    return sum(terms) / len(terms)


def _coco(detections, objects, num_classes, areas, most, iou, area_of):
    """Objects have, in place of `difficult`, whether they are ignored."""
    images = sorted({row[0] for row in detections + objects})
    shape = len(IOU_THRESHOLDS), num_classes, len(areas), len(most)
    recall = np.full(shape, np.nan)
    precision = np.full((len(RECALLS), *shape), np.nan)
    for t, k, a, m in np.ndindex(shape):
        outcomes, total = [], 0
        for image in images:
            found = [d for d in by_score(detections) if d[0] == image and d[3] == k][: most[m]]
            present = [o for o in objects if o[0] == image and o[2] == k]
            of_image, count = _match(found, present, IOU_THRESHOLDS[t], areas[a], iou, area_of)
            outcomes += of_image
            total += count
        if not total:
            continue
        points, hits = [], 0
        for seen, (_, correct, _) in enumerate(by_score(outcomes), start=1):
            hits += correct
            points.append((hits / total, hits / seen))
        recall[t, k, a, m] = hits / total
        for r, level in enumerate(RECALLS):
            precision[r, t, k, a, m] = max((p for x, p in points if x >= level), default=0)
    return precision.swapaxes(0, 1), recall


def _match(found, present, threshold, limits, iou_of, area_of):
    """((image, correct, score) of each detection that counts, how many objects count)."""
    least, most = limits
    counts = [not o[4] and least <= o[5] <= most for o in present]
    taken, outcomes = set(), []
    for image, box, score, _ in found:
        best, highest = None, (False, threshold)
        for index, object_ in enumerate(present):
            if index in taken and not object_[3]:
                continue
            iou = iou_of(box, object_[1], object_[3])
            # One that counts beats any that does not; of equals the later.
            if iou >= threshold and (counts[index], iou) >= highest:
                best, highest = index, (counts[index], iou)
        if best is not None:
            taken.add(best)
        if counts[best] if best is not None else least <= area_of(box) <= most:
            outcomes.append((image, best is not None, score))
    return outcomes, sum(counts)


def confusion_matrix(detections, objects, *, num_classes, iou_threshold, score_threshold):
    """i64[K + 1, K + 1]; see `matched_classes`."""
    detections, objects = rows(detections, objects)
    matrix = np.zeros((num_classes + 1, num_classes + 1), int)
    for image in {row[0] for row in detections + objects}:
        found = [d for d in by_score(detections) if d[0] == image and d[2] >= score_threshold]
        present = [o for o in objects if o[0] == image and not (o[3] or o[4])]
        ignored = [o for o in objects if o[0] == image and (o[3] or o[4])]
        for same in (True, False):
            left = []
            for detection in found:
                best, highest = None, iou_threshold
                for index, object_ in enumerate(present):
                    if (object_[2] == detection[3]) == same:
                        iou = box_iou(detection[1], object_[1])
                        if iou >= highest:
                            best, highest = index, iou
                if best is None:
                    left.append(detection)
                else:
                    matrix[present.pop(best)[2], detection[3]] += 1
            found = left
        for object_ in present:
            matrix[object_[2], num_classes] += 1
        for _, box, _, label in found:
            if all(box_iou(box, o[1], o[3]) < iou_threshold for o in ignored):
                matrix[num_classes, label] += 1
    return matrix
