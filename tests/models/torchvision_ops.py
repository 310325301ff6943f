"""Torchvision's detectors on a CPU without its compiled operators: its NMS, in torch."""

import functools

from tests.ops.parity import import_torchvision


def import_detection(module):
    """(torch, a module of torchvision.models.detection), which can suppress boxes."""
    torch, found = import_torchvision(f"models.detection.{module}")
    _with_nms(torch)
    return torch, found


@functools.cache
def _with_nms(torch):
    _, extension = import_torchvision("extension")
    if extension._has_ops():
        return
    _, boxes = import_torchvision("ops.boxes")
    torch.library.impl("torchvision::nms", "CPU", functools.partial(_nms, torch))
    extension._has_ops = lambda: True
    extension._assert_has_ops = boxes._assert_has_ops = lambda: None


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
