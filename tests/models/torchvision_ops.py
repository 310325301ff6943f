"""Torchvision's detectors on a CPU without its compiled operators: NMS and RoIAlign, in torch."""

import functools
import math

from tests.ops.parity import import_torchvision


def import_detection(module):
    """(torch, a module of torchvision.models.detection), which can suppress and pool boxes."""
    torch, found = import_torchvision(f"models.detection.{module}")
    _with_operators(torch)
    return torch, found


@functools.cache
def _with_operators(torch):
    _, extension = import_torchvision("extension")
    if extension._has_ops():
        return
    _, boxes = import_torchvision("ops.boxes")
    _, roi_align = import_torchvision("ops.roi_align")
    torch.library.impl("torchvision::nms", "CPU", functools.partial(_nms, torch))
    torch.library.impl("torchvision::roi_align", "CPU", functools.partial(_roi_align, torch))
    pool = _roi_align_with_gradient(torch)
    torch.library.impl("torchvision::roi_align", "AutogradCPU", pool)
    extension._has_ops = roi_align._has_ops = lambda: True
    extension._assert_has_ops = boxes._assert_has_ops = lambda: None
    roi_align._assert_has_ops = lambda: None


def _nms(torch, boxes, scores, iou_threshold):
    """The greedy suppression of its C++ code: strictly above, of equal scores the first one."""
    order = torch.argsort(scores, descending=True, stable=True)
    boxes = boxes[order]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept, alive = [], torch.ones(len(boxes), dtype=torch.bool)
    for n in range(len(boxes)):
        if not alive[n]:
            continue
        kept.append(n)
        first = torch.maximum(boxes[n, :2], boxes[:, :2])
        last = torch.minimum(boxes[n, 2:], boxes[:, 2:])
        both = (last - first).clamp(min=0).prod(dim=1)
        iou = both / (area[n] + area - both)  # NaN of two boxes without area suppresses nothing
        alive &= ~(iou > iou_threshold)
    return order[kept]


def _roi_align(torch, maps, rois, *options):
    """RoIAlign of its C++ code, as two products with matrices of bilinear weights for each RoI.

    Args:
      maps: [B, C, H, W].
      rois: [N, 5], the index of a map and a box, xyxy.
      *options: spatial_scale, height and width in bins, sampling_ratio (samples along each side of
        a bin; -1: as many as it has cells, rounded up) and aligned.
    """
    pooled = maps.new_zeros(len(rois), maps.shape[1], *options[1:3])
    for place, index, down, right in _products(torch, maps, rois, *options):
        pooled[place] = down @ maps[index] @ right.T
    return pooled


@functools.cache
def _roi_align_with_gradient(torch):
    """The function with a gradient, for which it keeps the RoIs alone, as the C++ code does."""

    class RoIAlign(torch.autograd.Function):
        @staticmethod
        def forward(ctx, maps, rois, *options):
            ctx.save_for_backward(rois)
            ctx.shape, ctx.options = maps.shape, options
            return _roi_align(torch, maps, rois, *options)

        @staticmethod
        def backward(ctx, gradient):
            (rois,) = ctx.saved_tensors
            maps = gradient.new_zeros(ctx.shape)
            for place, index, down, right in _products(torch, maps, rois, *ctx.options):
                maps[index] += down.T @ gradient[place] @ right
            return maps, *[None] * (1 + len(ctx.options))

    return RoIAlign.apply


def _products(torch, maps, rois, spatial_scale, height, width, sampling_ratio, aligned):
    """Of each RoI on a map: its place, the index of its cells in the maps, and the two matrices."""
    shift = 0.5 if aligned else 0.0
    for place, (index, *box) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (value * spatial_scale - shift for value in box)
        down = _weights(torch, y1, y2, maps.shape[2], height, sampling_ratio, aligned)
        right = _weights(torch, x1, x2, maps.shape[3], width, sampling_ratio, aligned)
        rows, columns = down.any(dim=0).nonzero()[:, 0], right.any(dim=0).nonzero()[:, 0]
        if len(rows) and len(columns):
            rows, columns = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            cells = int(index), slice(None), rows, columns
            yield place, cells, down[:, rows].to(maps), right[:, columns].to(maps)


def _weights(torch, start, end, cells, bins, sampling_ratio, aligned):
    """The weight of each cell in each bin along one axis, f64[bins, cells]."""
    size = end - start if aligned else max(end - start, 1.0)
    count = sampling_ratio if sampling_ratio > 0 else math.ceil(size / bins)
    weights = torch.zeros(bins, cells, dtype=torch.float64)
    for number in range(bins):
        for sample in range(count):
            place = start + (number + (sample + 0.5) / count) * size / bins
            if not -1 <= place <= cells:
                continue
            place = min(max(place, 0.0), cells - 1.0)
            before = math.floor(place)
            weights[number, before] += (before + 1 - place) / count
            if before + 1 < cells:
                weights[number, before + 1] += (place - before) / count
    return weights
