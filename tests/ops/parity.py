"""torchvision as a reference, with or without its compiled operators."""

import importlib

import pytest

_NMS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_ROI_ALIGN = (
    "(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor"
)
_OPERATORS = {  # the two that tests/models/torchvision_ops.py implements have their signatures
    "nms": _NMS,
    "roi_align": _ROI_ALIGN,
    **dict.fromkeys(
        (
            "qnms",
            "_roi_align_backward",
            "roi_pool",
            "_roi_pool_backward",
            "ps_roi_align",
            "_ps_roi_align_backward",
            "ps_roi_pool",
            "_ps_roi_pool_backward",
            "deform_conv2d",
            "_deform_conv2d_backward",
        ),
        "(Tensor x) -> Tensor",
    ),
}


def import_torchvision(module):
    """(torch, a module of torchvision); skips the test where they are missing."""
    torch = pytest.importorskip("torch")
    # As tests run in a process for each core, threads would mostly wait for each other.
    torch.set_num_threads(1)
    try:
        pytest.importorskip("torchvision")
    except RuntimeError:  # It came without its compiled operators, and asks what they are like.
        for name, signature in _OPERATORS.items():
            torch.library.define(f"torchvision::{name}", signature)
    return torch, importlib.import_module(f"torchvision.{module}")
