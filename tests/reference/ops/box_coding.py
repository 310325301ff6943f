"""Box coding in plain python floats, one box at a time."""

import math

import numpy as np


def _centre_and_size(box):
    x1, y1, x2, y2 = (float(x) for x in box)
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1


def _corners(x, y, w, h):
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def _each(code, *arrays):
    """Applies `code` to the rows of arrays [..., n]."""
    leading = np.shape(arrays[0])[:-1]
    rows = [np.reshape(a, (-1, np.shape(a)[-1])) for a in arrays]
    results = [code(*row) for row in zip(*rows, strict=True)]
    return np.array(results, float).reshape(*leading, 4)


def encode_boxes(boxes, anchors, *, weights=(1.0, 1.0, 1.0, 1.0)):
    def encode(box, anchor):
        x, y, w, h = _centre_and_size(box)
        xa, ya, wa, ha = _centre_and_size(anchor)
        if min(w, h, wa, ha) <= 0:
            return [0.0] * 4
        deltas = [(x - xa) / wa, (y - ya) / ha, math.log(w / wa), math.log(h / ha)]
        return [d * weight for d, weight in zip(deltas, weights, strict=True)]

    return _each(encode, boxes, anchors)


def decode_boxes(deltas, anchors, *, weights=(1.0, 1.0, 1.0, 1.0), max_log_scale=4.135166556742356):
    def decode(delta, anchor):
        tx, ty, tw, th = (float(d) / weight for d, weight in zip(delta, weights, strict=True))
        xa, ya, wa, ha = _centre_and_size(anchor)
        w, h = (math.exp(min(t, max_log_scale)) for t in (tw, th))
        return _corners(tx * wa + xa, ty * ha + ya, w * wa, h * ha)

    return _each(decode, deltas, anchors)


def _cell(box, grid_size, image_size):
    x, y, _, _ = _centre_and_size(box)
    row = math.floor(y / (image_size[0] / grid_size[0]))
    column = math.floor(x / (image_size[1] / grid_size[1]))
    return min(max(row, 0), grid_size[0] - 1), min(max(column, 0), grid_size[1] - 1)


def cell_index(boxes, *, grid_size, image_size):
    cells = [_cell(box, grid_size, image_size) for box in boxes]
    return tuple(np.array(x, np.int32).reshape(len(boxes)) for x in zip(*cells, strict=True))


def encode_yolov1(boxes, *, grid_size, image_size):
    def encode(box):
        x, y, w, h = _centre_and_size(box)
        if min(w, h) <= 0:
            return [0.0] * 4
        row, column = _cell(box, grid_size, image_size)
        height, width = image_size
        return [
            x * grid_size[1] / width - column,
            y * grid_size[0] / height - row,
            math.sqrt(w / width),
            math.sqrt(h / height),
        ]

    return _each(encode, boxes)


def decode_yolov1(coordinates, *, image_size):
    rows, columns, _, _ = coordinates.shape
    height, width = image_size
    boxes = np.zeros(coordinates.shape)
    for row, column, predictor in np.ndindex(coordinates.shape[:3]):
        x, y, w, h = (float(v) for v in coordinates[row, column, predictor])
        boxes[row, column, predictor] = _corners(
            (column + x) * width / columns, (row + y) * height / rows, w * w * width, h * h * height
        )
    return boxes


def encode_yolo(boxes, anchors, rows, columns, *, stride, constrained=True):
    def encode(box, anchor, row, column):
        x, y, w, h = _centre_and_size(box)
        pw, ph = (float(p) for p in anchor)
        if min(w, h, pw, ph) <= 0:
            return [0.0] * 4
        offset = [min(max(v, 0.0), 1.0) for v in (x / stride - column[0], y / stride - row[0])]
        if not constrained:
            middle = (column[0] + 0.5) * stride, (row[0] + 0.5) * stride
            offset = [(x - middle[0]) / pw, (y - middle[1]) / ph]
        return [*offset, math.log(w / pw), math.log(h / ph)]

    return _each(encode, boxes, anchors, rows[..., None], columns[..., None])


def decode_yolo(
    logits,
    anchors,
    *,
    stride,
    constrained=True,
    scale_x_y=1.0,
    squared=False,
    activated=False,
    max_log_scale=10.0,
):
    def sigmoid(t):
        return t if activated else 1 / (1 + math.exp(-t))

    def place(t):
        return scale_x_y * sigmoid(t) - (scale_x_y - 1) / 2

    def factor(t):
        return (2 * sigmoid(t)) ** 2 if squared else math.exp(min(t, max_log_scale))

    boxes = np.zeros(logits.shape)
    for row, column, anchor in np.ndindex(logits.shape[:3]):
        tx, ty, tw, th = (float(v) for v in logits[row, column, anchor])
        pw, ph = (float(p) for p in anchors[anchor])
        if constrained:
            x, y = place(tx) + column, place(ty) + row
        else:
            x, y = column + 0.5 + tx * pw / stride, row + 0.5 + ty * ph / stride
        boxes[row, column, anchor] = _corners(
            x * stride,
            y * stride,
            pw * factor(tw),
            ph * factor(th),
        )
    return boxes
