"""YOLOv1 (Redmon, Divvala, Girshick & Farhadi 2016, "You only look once: unified, real-time object
detection", section 2)."""

from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.layers import Norm, as_backbone, run_block
from jaxvision.models.backbones.darknet import (
    EXTRACTION,
    NumberedConvs,
    PlainDarknet,
    Stage,
    dense,
    leaky_relu,
)

FAST = (
    Stage(0, ((16, 3),)),
    Stage(1, ((32, 3),)),
    Stage(2, ((64, 3),)),
    Stage(3, ((128, 3),)),
    Stage(4, ((256, 3),)),
    Stage(5, ((512, 3),)),
    Stage(6, ((1024, 3),) * 3),
)


class YOLOv1(nn.Module):
    """The YOLOv1 network. Each cell of a grid over the image predicts boxes and one class.

    With 448x448 images the grid has 7x7 cells. The fully connected layers fix the image size: a
    network only takes images of the size with which it was initialised.

    Attributes:
      stages: stages of the backbone, the module "backbone".
      convolutions: (channels, stride) of the 3x3 convolutions after it, conv1, conv2, ...
      hidden: widths of the fully connected layers fc1, fc2, ... before the last one. If empty, the
        last layer is a 1x1 convolution ("convolutional" in the paper's table of the steps from
        YOLO to YOLOv2).
      linear_first: whether fc1 has no activation, as in the fast network.
      num_classes: C classes.
      num_boxes: B boxes for each cell.
      classes_of_boxes: whether each box has class scores of its own.
      dropout: dropout rate after the last hidden layer, in training.
      norm: after each convolution; None as in the paper.

    Call:
      images f32[N, H, W, 3] -> {"coordinates": [N, H/64, W/64, B, 4], "confidence":
      [N, H/64, W/64, B], "class_scores": [N, H/64, W/64, C], or [N, H/64, W/64, B, C]}: the
      arguments of `jaxvision.losses.yolov1_loss`.
    """

    stages: tuple[Stage, ...] = EXTRACTION
    convolutions: tuple[tuple[int, int], ...] = ((1024, 1), (1024, 2), (1024, 1), (1024, 1))
    hidden: tuple[int, ...] = (4096,)
    linear_first: bool = False
    num_classes: int = 20
    num_boxes: int = 2
    classes_of_boxes: bool = False
    dropout: float = 0.5
    remat: bool = False
    norm: Norm | None = None
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        backbone = PlainDarknet(self.stages, **as_backbone(self, PlainDarknet))
        x = backbone(images, train=train)[f"c{self.stages[-1][0]}"]
        conv = NumberedConvs(self, train=train)

        def convolved(x: Array) -> Array:
            for features, stride in self.convolutions:
                x = conv(x, features, 3, stride=stride)
            return x

        x = run_block(self, convolved, x)
        grid, boxes = x.shape[:3], self.num_boxes
        scores = self.num_classes * (boxes if self.classes_of_boxes else 1)
        depth = boxes * 5 + scores
        if self.hidden:
            x = jnp.moveaxis(x, -1, 1).reshape(len(x), -1)  # channels first, as in Darknet
            for number, width in enumerate(self.hidden, start=1):
                x = dense(self, width, f"fc{number}")(x)
                if number > 1 or not self.linear_first:
                    x = leaky_relu(x)
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
            x = dense(self, grid[1] * grid[2] * depth, f"fc{len(self.hidden) + 1}")(x)
            x = x.reshape(*grid, depth)
        else:
            x = conv.linear(x, depth)
        coordinates, confidence, classes = jnp.split(x, [4 * boxes, 5 * boxes], axis=-1)
        if self.classes_of_boxes:
            classes = classes.reshape(*grid, boxes, self.num_classes)
        return {
            "coordinates": coordinates.reshape(*grid, boxes, 4),
            "confidence": confidence,
            "class_scores": classes,
        }


YOLOS_V1 = {
    "yolov1": YOLOv1,
    "fast_yolov1": partial(
        YOLOv1, stages=FAST, convolutions=(), hidden=(256, 4096), linear_first=True
    ),
}
