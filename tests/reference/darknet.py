"""An interpreter of Darknet descriptions in plain numpy, for one image, in evaluation.

It reads a description and the floats of a weights file in their order, and keeps maps as Darknet
does, [C, H, W], in float64.
"""

import math

import numpy as np


def read(text):
    """[(kind, {option: value})] of a description without comments."""
    sections = []
    for line in text.split():
        if line.startswith("["):
            sections.append((line[1:-1], {}))
        else:
            name, value = line.split("=")
            sections[-1][1][name] = value
    return sections


def logistic(x):
    return 1 / (1 + math.exp(-x))


def elu(x, alpha=1.0):
    return x if x >= 0 else alpha * (math.exp(x) - 1)


def plse(x):
    if x < -4:
        return 0.01 * (x + 4)
    if x > 4:
        return 0.01 * (x - 4) + 1
    return 0.125 * x + 0.5


def stair(x):
    below = math.floor(x)
    if below % 2 == 0:
        return math.floor(x / 2)
    return (x - below) + math.floor(x / 2)


def lhtan(x):
    if x < 0:
        return 0.001 * x
    if x > 1:
        return 0.001 * (x - 1) + 1
    return x


ACTIVATIONS = {
    "elu": elu,
    "hardtan": lambda x: -1 if x < -1 else 1 if x > 1 else x,
    "leaky": lambda x: x if x > 0 else 0.1 * x,
    "lhtan": lhtan,
    "linear": lambda x: x,
    "loggy": lambda x: 2 / (1 + math.exp(-x)) - 1,
    "logistic": logistic,
    "mish": lambda x: x * math.tanh(math.log(1 + math.exp(x))),
    "plse": plse,
    "ramp": lambda x: x * (x > 0) + 0.1 * x,
    "relie": lambda x: x if x > 0 else 0.01 * x,
    "relu": lambda x: x * (x > 0),
    "relu6": lambda x: min(max(x, 0.0), 6.0),
    "selu": lambda x: 1.0507 * elu(x, 1.6732),
    "stair": stair,
    "swish": lambda x: x * logistic(x),
    "tanh": math.tanh,
}


def activate(x, name):
    return np.vectorize(ACTIVATIONS[name], otypes=[float])(x)


class Floats:
    """Those of a weights file, taken from the front, and the deviations by which norms divide."""

    def __init__(self, values, fork):
        self.values, self.at = np.asarray(values, np.float64), 0
        self.deviation = (
            (lambda v: math.sqrt(v + 1e-5)) if fork else (lambda v: math.sqrt(v) + 1e-6)
        )

    def take(self, *shape):
        count = int(np.prod(shape))
        assert self.at + count <= len(self.values)
        self.at += count
        return self.values[self.at - count : self.at].reshape(shape)


def normed(x, deviation, biases, scales, means, variances):
    """Of x [C, ...], as Darknet does it."""
    out = np.zeros_like(x)
    for c in range(len(x)):
        out[c] = (x[c] - means[c]) / deviation(variances[c]) * scales[c] + biases[c]
    return out


def window(x, row, column, size, dilation=1):
    """[C, size, size] of x at a corner, zeros outside."""
    out = np.zeros((len(x), size, size))
    for i in range(size):
        for j in range(size):
            h, w = row + i * dilation, column + j * dilation
            if 0 <= h < x.shape[1] and 0 <= w < x.shape[2]:
                out[:, i, j] = x[:, h, w]
    return out


def convolutional(x, options, weights, deviation):
    """Of the weights (biases, statistics or None, kernel) that `take_convolution` gives."""
    filters, size = int(options["filters"]), int(options.get("size", 1))
    stride, groups = int(options.get("stride", 1)), int(options.get("groups", 1))
    pad = size // 2 if int(options.get("pad", 0)) else int(options.get("padding", 0))
    dilation = int(options.get("dilation", 1))
    biases, statistics, kernel = weights
    inputs, outputs = len(x) // groups, filters // groups
    rows = (x.shape[1] + 2 * pad - size) // stride + 1
    columns = (x.shape[2] + 2 * pad - size) // stride + 1
    out = np.zeros((filters, rows, columns))
    for f in range(filters):
        first = f // outputs * inputs
        for i in range(rows):
            for j in range(columns):
                corner = i * stride - pad * dilation, j * stride - pad * dilation
                seen = window(x[first : first + inputs], *corner, size, dilation)
                out[f, i, j] = (seen * kernel[f]).sum()
    out = normed(out, deviation, biases, *statistics) if statistics else out + biases[:, None, None]
    return activate(out, options.get("activation", "logistic"))


def take_convolution(x, options, floats):
    filters, size = int(options["filters"]), int(options.get("size", 1))
    biases = floats.take(filters)
    norm = int(options.get("batch_normalize", 0))
    statistics = [floats.take(filters) for _ in range(3)] if norm else None
    inputs = len(x) // int(options.get("groups", 1))
    return biases, statistics, floats.take(filters, inputs, size, size)


def connected(x, options, floats):
    count, norm = int(options["output"]), int(options.get("batch_normalize", 0))
    biases, matrix = floats.take(count), floats.take(count, x.size)
    out = matrix @ x.ravel()
    statistics = [floats.take(count) for _ in range(3)] if norm else None
    out = normed(out, floats.deviation, biases, *statistics) if norm else out + biases
    return activate(out, options.get("activation", "logistic"))[:, None, None]


def local(x, options, floats):
    filters, size = int(options["filters"]), int(options["size"])
    stride, pad = int(options.get("stride", 1)), int(options.get("pad", 0))
    rows, columns = ((n - (1 if pad else size)) // stride + 1 for n in x.shape[1:])
    biases = floats.take(filters, rows, columns)
    kernels = floats.take(rows * columns, filters, x.shape[0] * size * size)
    out = np.zeros((filters, rows, columns))
    for i in range(rows):
        for j in range(columns):
            seen = window(x, i * stride - pad, j * stride - pad, size).ravel()
            out[:, i, j] = kernels[i * columns + j] @ seen + biases[:, i, j]
    return activate(out, options.get("activation", "logistic"))


def maxpool(x, options):
    stride = int(options.get("stride", 1))
    size = int(options.get("size", stride))
    padding = int(options.get("padding", size - 1))
    rows, columns = ((n + padding - size) // stride + 1 for n in x.shape[1:])
    out = np.full((len(x), rows, columns), -np.inf)
    for i in range(rows):
        for j in range(columns):
            for di in range(size):
                for dj in range(size):
                    h, w = i * stride - padding // 2 + di, j * stride - padding // 2 + dj
                    if 0 <= h < x.shape[1] and 0 <= w < x.shape[2]:
                        out[:, i, j] = np.maximum(out[:, i, j], x[:, h, w])
    return out


def local_avgpool(x, options):
    """The mean of the cells of each window that there are."""
    stride = int(options.get("stride", 1))
    size = int(options.get("size", stride))
    padding = int(options.get("padding", size - 1))
    rows, columns = ((n + padding - size) // stride + 1 for n in x.shape[1:])
    out = np.zeros((len(x), rows, columns))
    for i in range(rows):
        for j in range(columns):
            seen = []
            for di in range(size):
                for dj in range(size):
                    h, w = i * stride - padding // 2 + di, j * stride - padding // 2 + dj
                    if 0 <= h < x.shape[1] and 0 <= w < x.shape[2]:
                        seen.append(x[:, h, w])
            out[:, i, j] = sum(seen) / len(seen)
    return out


def product(x, other, options):
    """x has as many numbers as the other map, one for each of its channels, or for each cell."""
    out = np.zeros_like(other)
    for k in range(len(other)):
        for i in range(other.shape[1]):
            for j in range(other.shape[2]):
                channel = k if len(x) > 1 else 0
                cell = (i, j) if x.shape[1:] != (1, 1) else (0, 0)
                out[k, i, j] = x[channel][cell] * other[k, i, j]
    return activate(out, options.get("activation", "linear"))


def reorg3d(x, options):
    c, h, w = x.shape
    s = int(options.get("stride", 1))
    out = np.zeros((c * s * s, h // s, w // s))
    for k in range(len(out)):
        for j in range(out.shape[1]):
            for i in range(out.shape[2]):
                offset, channel = divmod(k, c)
                out[k, j, i] = x[channel, j * s + offset // s, i * s + offset % s]
    return out


def route(outputs, options):
    groups, group = int(options.get("groups", 1)), int(options.get("group_id", 0))
    parts = []
    for text in options["layers"].split(","):
        x = outputs[int(text)]  # Python counts from the back as Darknet does
        width = len(x) // groups
        parts += [x[group * width + c] for c in range(width)]
    return np.stack(parts)


def shortcut(x, other, options):
    out = x.copy()
    (c1, h1, w1), (c2, h2, w2) = other.shape, x.shape
    stride, sample = max(1, w1 // w2), max(1, w2 // w1)
    for k in range(min(c1, c2)):
        for j in range(min(h1, h2)):
            for i in range(min(w1, w2)):
                out[k, j * sample, i * sample] += other[k, j * stride, i * stride]
    return activate(out, options.get("activation", "linear"))


def upsample(x, options):
    stride, scale = int(options.get("stride", 2)), float(options.get("scale", 1))
    out = np.zeros((x.shape[0], x.shape[1] * stride, x.shape[2] * stride))
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            out[:, i, j] = scale * x[:, i // stride, j // stride]
    return out


def reorg(x, options):
    """Both ways walk over the cells (k, j, i) of the layer's input, taken as a flat memory."""
    c, h, w = x.shape
    s, reverse = int(options.get("stride", 1)), int(options.get("reverse", 0))
    flat, out = x.ravel(), np.zeros(x.size)
    for k in range(c):
        for j in range(h):
            for i in range(w):
                here = i + w * (j + h * k)
                channel, offset = k % (c // s**2), k // (c // s**2)
                column, row = i * s + offset % s, j * s + offset // s
                there = column + w * s * (row + h * s * channel)
                if reverse:
                    out[there] = flat[here]
                else:
                    out[here] = flat[there]
    return out.reshape((c // s**2, h * s, w * s) if reverse else (c * s**2, h // s, w // s))


def crop(x, options):
    height, width = int(options["crop_height"]), int(options["crop_width"])
    top, left = (x.shape[1] - height) // 2, (x.shape[2] - width) // 2
    x = x[:, top : top + height, left : left + width]
    return x if int(options.get("noadjust", 0)) else 2 * x - 1


def softmax(x, options):
    parts = []
    x = x / float(options.get("temperature", 1))
    for part in np.split(x.ravel(), int(options.get("groups", 1))):
        shares = [math.exp(value - part.max()) for value in part]
        parts += [share / sum(shares) for share in shares]
    return np.reshape(parts, x.shape)


HEADS = ("Gaussian_yolo", "detection", "region", "yolo")
WEIGHTED = {"connected": connected, "local": local}
PLAIN = {
    "crop": crop,
    "local_avgpool": local_avgpool,
    "maxpool": maxpool,
    "reorg": reorg,
    "reorg3d": reorg3d,
    "softmax": softmax,
    "upsample": upsample,
}


def run(text, image, floats, fork=False):
    """The map [C, H, W] of each layer; of a head its input.

    Args:
      text: of the description, without comments and blanks.
      image: [C, H, W].
      floats: of the weights file, after its header.
      fork: whether norms are those of AlexeyAB's fork.
    """
    floats = Floats(floats, fork)
    x, outputs, kernels = image.astype(np.float64), [], []
    for kind, options in read(text)[1:]:
        kernels.append(None)
        if kind in WEIGHTED:
            x = WEIGHTED[kind](x, options, floats)
        elif kind == "convolutional":
            if "share_index" in options:
                number = int(options["share_index"])
                kernels[-1] = kernels[number if number >= 0 else len(outputs) + number]
            else:
                kernels[-1] = take_convolution(x, options, floats)
            x = convolutional(x, options, kernels[-1], floats.deviation)
        elif kind == "batchnorm":
            x = normed(x, floats.deviation, *(floats.take(len(x)) for _ in range(4)))
        elif kind in ("sam", "scale_channels"):
            x = product(x, outputs[int(options["from"])], options)
        elif kind == "route":
            x = route(outputs, options)
        elif kind == "shortcut":
            x = shortcut(x, outputs[int(options["from"])], options)
        elif kind == "avgpool":
            x = x.mean(axis=(1, 2))[:, None, None]
        elif kind in PLAIN:
            x = PLAIN[kind](x, options)
        else:
            assert kind in ("contrastive", "cost", "dropout") or kind in HEADS
        outputs.append(x)
    assert floats.at == len(floats.values)
    return outputs


def anchored(x, anchors):
    """[H, W, A, 5 + C] of a head's map: entry e of anchor a is channel a (5 + C) + e."""
    entries = len(x) // anchors
    out = np.zeros((*x.shape[1:], anchors, entries))
    for a in range(anchors):
        for e in range(entries):
            out[:, :, a, e] = x[a * entries + e]
    return out


def yolov1(x, side, boxes, classes):
    """(coordinates, confidence, class scores) out of the flat vector of a [detection]."""
    x = x.ravel()
    coordinates = np.zeros((side, side, boxes, 4))
    confidence = np.zeros((side, side, boxes))
    scores = np.zeros((side, side, classes))
    for cell in range(side * side):
        row, column = divmod(cell, side)
        for c in range(classes):
            scores[row, column, c] = x[cell * classes + c]
        for b in range(boxes):
            number = cell * boxes + b
            confidence[row, column, b] = x[side * side * classes + number]
            start = side * side * (classes + boxes) + 4 * number
            coordinates[row, column, b] = x[start : start + 4]
    return coordinates, confidence, scores


def gaussian(x, anchors, stride, scale, point):
    """(boxes, scores) of a [Gaussian_yolo]'s map [H, W, A, 9 + C], cell by cell."""
    boxes, scores = [], []
    for row, column, a in np.ndindex(x.shape[:3]):
        tx, ux, ty, uy, tw, uw, th, uh, objectness, *classes = (float(v) for v in x[row, column, a])
        centre_x = (column + scale * logistic(tx) - (scale - 1) / 2) * stride
        centre_y = (row + scale * logistic(ty) - (scale - 1) / 2) * stride
        width, height = math.exp(tw) * anchors[a][0], math.exp(th) * anchors[a][1]
        if point == "left_top":
            centre_x, centre_y = centre_x + width / 2, centre_y + height / 2
        if point == "right_bottom":
            centre_x, centre_y = centre_x - width / 2, centre_y - height / 2
        boxes.append(
            [
                centre_x - width / 2,
                centre_y - height / 2,
                centre_x + width / 2,
                centre_y + height / 2,
            ]
        )
        sure = 1 - sum(map(logistic, (ux, uy, uw, uh))) / 4
        scores.append([logistic(objectness) * logistic(c) * sure for c in classes])
    return np.array(boxes), np.array(scores)
