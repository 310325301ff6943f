"""YOLOv4 (Bochkovskiy et al. 2020, "YOLOv4: optimal speed and accuracy of object detection",
section 3.4), YOLOv4-tiny and YOLOv4-csp (Wang et al. 2021, "Scaled-YOLOv4")."""

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.layers import DropBlock, Norm, as_backbone, batch_norm, run_block
from jaxvision.models.backbones.cspdarknet import CSPDarknet53, TinyCSPDarknet
from jaxvision.models.backbones.darknet import NumberedConvs, leaky_relu
from jaxvision.models.detection.yolov3 import Scale, YOLOv3, spatial_pyramid
from jaxvision.ops import resize_nearest


class YOLOv4(nn.Module):
    """The YOLOv4 network: spatial pyramid pooling and a path aggregation network.

    The coarsest map goes through spatial pyramid pooling. On the way up, the features of a scale
    are upsampled and concatenated with the next finer map of the backbone; on the way down, they
    are concatenated with what the way up had at the next coarser scale. Boxes are predicted at each
    scale of the way down. Convolutions of neck and heads are named conv1, conv2, ... in order.

    Attributes:
      backbone: builds the module "backbone", whose maps of these scales are used.
      scales: (level, width) of each scale from coarse to fine: the map is 2^level times smaller
        than the image, and the neck has `width` channels there.
      pooling: sides of the max poolings of spatial pyramid pooling.
      csp: whether the blocks of the neck are cross stage partial ones: they have two branches, as
        in Scaled-YOLOv4.
      act: activation of neck and heads.
      drop_block: in training, the rate of DropBlock on each map that the neck takes from the
        backbone.
      drop_block_size: side of its blocks, pixels of the map.
      num_classes: C classes.
      num_anchors: A anchors for each scale.
      norm: after each convolution except the last of each head; None: a bias instead.

    Call:
      images f32[N, H, W, 3], sides multiples of 32 -> {"logits{level}": [N, H / 2^level,
      W / 2^level, A, 5 + C]} for each scale, fine to coarse.
    """

    backbone: Callable[..., nn.Module] = CSPDarknet53
    scales: tuple[tuple[int, int], ...] = ((5, 512), (4, 256), (3, 128))
    pooling: tuple[int, ...] = (5, 9, 13)
    csp: bool = False
    act: Callable[[Array], Array] = leaky_relu
    drop_block: float = 0.0
    drop_block_size: int = 7
    num_classes: int = 80
    num_anchors: int = 3
    remat: bool = False
    norm: Norm | None = batch_norm
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        maps = self.backbone(**as_backbone(self, self.backbone))(images, train=train)
        drop = DropBlock(self.drop_block, self.drop_block_size)
        maps = {level: drop(maps[f"c{level}"], train=train) for level, _ in self.scales}
        conv = NumberedConvs(self, train=train, act=self.act)
        block = partial(_partial_block if self.csp else _block, conv)
        depth = 5 + self.num_classes
        (level, width), *finer = self.scales
        pooled = partial(_partial_pooling if self.csp else _pooling, conv, sides=self.pooling)
        x = run_block(self, partial(pooled, width=width), maps[level])
        on_the_way_up = [x]
        for level, width in finer:
            above = conv(x, width, 1)
            lateral = conv(maps[level], width, 1)
            above = resize_nearest(above, lateral.shape[1:3])
            x = jnp.concatenate([lateral, above], axis=-1)
            x = run_block(self, partial(block, width=width), x)
            on_the_way_up.append(x)
        outputs = {}
        for level, width in reversed(self.scales):
            beside = on_the_way_up.pop()
            if outputs:
                x = conv(x, width, 3, stride=2)
                x = jnp.concatenate([x, beside], axis=-1)
                x = run_block(self, partial(block, width=width), x)
            y = conv.linear(conv(x, 2 * width, 3), self.num_anchors * depth)
            outputs[f"logits{level}"] = y.reshape(*y.shape[:3], self.num_anchors, depth)
        return outputs


def _block(conv: NumberedConvs, x: Array, width: int) -> Array:
    """Applies 1x1 and 3x3 convolutions in turn, the latter with twice the channels."""
    for _ in range(2):
        x = conv(conv(x, width, 1), 2 * width, 3)
    return conv(x, width, 1)


def _partial_block(conv: NumberedConvs, x: Array, width: int) -> Array:
    """Applies 1x1 and 3x3 convolutions in turn to one of two branches."""
    x = conv(x, width, 1)
    beside = conv(x, width, 1)
    for _ in range(2):
        x = conv(conv(x, width, 1), width, 3)
    return conv(jnp.concatenate([x, beside], axis=-1), width, 1)


def _pooling(conv: NumberedConvs, x: Array, width: int, sides: tuple[int, ...]) -> Array:
    """Applies spatial pyramid pooling between two groups of three convolutions."""
    x = conv(conv(conv(x, width, 1), 2 * width, 3), width, 1)
    x = conv(spatial_pyramid(x, sides), width, 1)
    return conv(conv(x, 2 * width, 3), width, 1)


def _partial_pooling(conv: NumberedConvs, x: Array, width: int, sides: tuple[int, ...]) -> Array:
    """Applies spatial pyramid pooling in one of two branches."""
    beside = conv(x, width, 1)
    x = conv(conv(conv(x, width, 1), width, 3), width, 1)
    x = conv(conv(spatial_pyramid(x, sides), width, 1), width, 3)
    return conv(jnp.concatenate([x, beside], axis=-1), width, 1)


TINY_SCALES = (
    Scale(5, None, ((256, 1),), 512),
    Scale(4, 128, ((256, 3),), None),
    Scale(3, 64, ((128, 3),), None),
)
YOLOS_V4 = {
    "yolov4": YOLOv4,
    "yolov4_tiny": partial(YOLOv3, backbone=TinyCSPDarknet, scales=TINY_SCALES[:2]),
    "yolov4_tiny_3l": partial(YOLOv3, backbone=TinyCSPDarknet, scales=TINY_SCALES),
    "yolov4_csp": partial(
        YOLOv4,
        backbone=partial(CSPDarknet53, plain_first=True),
        csp=True,
        act=jax.nn.mish,
    ),
}
