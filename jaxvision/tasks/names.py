"""What has a name in a run's description: networks, norms, losses, augmentations, options.

A run folder describes its task by these names, and `jaxvision.load_run` builds it from them.
Nothing that a run folder names is imported.
"""

from functools import partial

import flax.linen as nn

from jaxvision.augment import AUGMENTATIONS
from jaxvision.core import Inputs
from jaxvision.interop import DarknetNetwork, Description
from jaxvision.layers import NORMS
from jaxvision.losses import (
    cross_entropy,
    fast_rcnn_loss,
    faster_rcnn_loss,
    fcos_loss,
    heatmap_l2_loss,
    huber_loss,
    l1_loss,
    l2_loss,
    localization_loss,
    retinanet_loss,
    rpn_loss,
    smooth_l1_loss,
    softmax_focal_loss,
    ssd_multibox_loss,
    word_tree_cross_entropy,
    yolo9000_loss,
    yolov1_loss,
    yolov2_loss,
    yolov3_loss,
    yolov4_loss,
)
from jaxvision.models import BACKBONES, HEADS, MODELS
from jaxvision.ops import WordTree
from jaxvision.tasks.composite_losses import (
    binary_segmentation_loss,
    gaussian_loss,
    segmentation_loss,
)
from jaxvision.tasks.decoding import DetectOptions, HeatmapDecode
from jaxvision.tasks.degradations import DEGRADATIONS

LOSSES = {
    "classification": {
        "cross_entropy": cross_entropy,
        "softmax_focal_loss": softmax_focal_loss,
        "word_tree_cross_entropy": word_tree_cross_entropy,
    },
    "detection": {
        "fast_rcnn_loss": fast_rcnn_loss,
        "faster_rcnn_loss": faster_rcnn_loss,
        "fcos_loss": fcos_loss,
        "localization_loss": localization_loss,
        "retinanet_loss": retinanet_loss,
        "rpn_loss": rpn_loss,
        "ssd_multibox_loss": ssd_multibox_loss,
        "yolo9000_loss": yolo9000_loss,
        "yolov1_loss": yolov1_loss,
        "yolov2_loss": yolov2_loss,
        "yolov3_loss": yolov3_loss,
        "yolov4_loss": yolov4_loss,
    },
    "landmarks": {
        "heatmap_cross_entropy": gaussian_loss,
        "heatmap_l2_loss": partial(gaussian_loss, loss=heatmap_l2_loss),
    },
    "restoration": {
        "l1_loss": l1_loss,
        "l2_loss": l2_loss,
        "huber_loss": huber_loss,
        "smooth_l1_loss": smooth_l1_loss,
    },
    "segmentation": {
        "cross_entropy": segmentation_loss,
        "binary_cross_entropy": binary_segmentation_loss,
    },
}
"""Kind of task -> name -> loss; the constructors of the tasks say what a loss gets."""

NAMES = {
    "model": MODELS,
    "darknet": {"DarknetNetwork": DarknetNetwork, "Description": Description},
    "backbone": BACKBONES,
    "head": HEADS,
    "norm": NORMS,
    "activation": {
        "gelu": nn.gelu,
        "leaky_relu": nn.leaky_relu,
        "relu": nn.relu,
        "sigmoid": nn.sigmoid,
        "silu": nn.silu,
        "tanh": nn.tanh,
    },
    **{f"{kind}_loss": losses for kind, losses in LOSSES.items()},
    "augmentation": AUGMENTATIONS,
    "degradation": DEGRADATIONS,
    "options": {
        "DetectOptions": DetectOptions,
        "HeatmapDecode": HeatmapDecode,
        "Inputs": Inputs,
        "WordTree": WordTree,
    },
}
"""Slot -> name -> object; see `jaxvision.core.describe`."""
