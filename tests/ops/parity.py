"""torchvision as a reference, with or without its compiled operators."""

import importlib

import pytest

_OPERATORS = (
    "nms",
    "qnms",
    "roi_align",
    "_roi_align_backward",
    "roi_pool",
    "_roi_pool_backward",
    "ps_roi_align",
    "_ps_roi_align_backward",
    "ps_roi_pool",
    "_ps_roi_pool_backward",
    "deform_conv2d",
    "_deform_conv2d_backward",
)


def import_torchvision(module):
    """(torch, a module of torchvision); skips the test where they are missing."""
    torch = pytest.importorskip("torch")
    try:
        pytest.importorskip("torchvision")
    except RuntimeError:  # It came without its compiled operators, and asks what they are like.
        for name in _OPERATORS:
            torch.library.define(f"torchvision::{name}", "(Tensor x) -> Tensor")
    return torch, importlib.import_module(f"torchvision.{module}")
