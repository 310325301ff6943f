"""What R-CNNs compute of each region of interest: heads for boxes, masks and keypoints.

A head takes the features of N regions, f32[N, h, w, C], of any images. Layers have torchvision's
names.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.layers import (
    Conv,
    ConvTranspose,
    Norm,
    as_backbone,
    conv_in_sequence,
    dtypes_of,
    norm_of,
    relu,
    run_block,
)
from jaxvision.models.backbones.resnet import RESNETS
from jaxvision.ops import resize_bilinear


class MLPHead(nn.Module):
    """Two fully connected layers with ReLU, fc6 and fc7, for Fast and Faster R-CNN.

    Features are flattened channel by channel, as in torch.

    Attributes:
      hidden: channels of both layers: 1024 on a pyramid, 4096 on VGG-16.

    Call:
      x f32[N, h, w, C] -> [N, hidden].

    Source: Girshick 2015 ("Fast R-CNN"), section 2.1; Lin et al. 2017 ("Feature pyramid networks"),
      section 4.2.
    """

    hidden: int = 1024
    dropout: float = 0.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        x = _flat(x)
        for name in ("fc6", "fc7"):
            x = relu(nn.Dense(self.hidden, name=name, **dtypes_of(self))(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return x


class ConvHead(nn.Module):
    """Four 3x3 convolutions and a fully connected layer, as in torchvision's second version.

    Attributes:
      depth: number of convolutions.
      features: their channels.
      hidden: channels of the fully connected layer.

    Call:
      x f32[N, h, w, C] -> [N, hidden].

    Source: Wu & He 2018 ("Group normalization"), section 4.2, "4conv1fc".
    """

    depth: int = 4
    features: int = 256
    hidden: int = 1024
    remat: bool = False
    norm: Norm | None = None
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        dtypes = dtypes_of(self)
        conv = partial(conv_in_sequence, norm=norm_of(self, train=train), act=relu, **dtypes)

        def tower(x: Array) -> Array:
            for number in range(self.depth):
                x = conv(x, self.features, 3, str(number))
            return x

        x = run_block(self, tower, x)
        return relu(nn.Dense(self.hidden, name=str(self.depth + 1), **dtypes)(_flat(x)))


class StageHead(nn.Module):
    """The last stage of a classifier and the mean of its map, for Faster R-CNN on ResNet's c4.

    Attributes:
      stage: builds the stage; it returns "pooled" features.

    Call:
      x f32[N, h, w, C] -> [N, features].

    Source: He et al. 2016 ("Deep residual learning"), appendix A; it is stage 4 of ResNet, conv5_x.
    """

    stage: Callable[..., nn.Module] = partial(RESNETS["resnet50"], parts=(4, 4))
    remat: bool = False
    norm: Norm | None = None
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        stage = self.stage(**as_backbone(self, self.stage, name="stage"))
        return stage(x, train=train)["pooled"]


class MaskHead(nn.Module):
    """The mask head of Mask R-CNN: a map of twice the size, with a channel for each class.

    Layers: head_{i}_0 (and the norms head_{i}_1), predictor_conv5_mask and
    predictor_mask_fcn_logits.

    Attributes:
      outputs: channels of the result.
      depth: number of 3x3 convolutions.
      features: their channels, and those of the transposed convolution.

    Call:
      x f32[N, M, M, C] -> logits [N, 2 M, 2 M, outputs].

    Source: He et al. 2017 ("Mask R-CNN"), figure 4, right.
    """

    outputs: int
    depth: int = 4
    features: int = 256
    remat: bool = False
    norm: Norm | None = None
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        dtypes = dtypes_of(self)
        conv = partial(conv_in_sequence, norm=norm_of(self, train=train), act=relu, **dtypes)

        def tower(x: Array) -> Array:
            for number in range(self.depth):
                x = conv(x, self.features, 3, f"head_{number}")
            return x

        x = run_block(self, tower, x)
        up = ConvTranspose(self.features, (2, 2), stride=2, name="predictor_conv5_mask", **dtypes)
        return Conv(self.outputs, (1, 1), name="predictor_mask_fcn_logits", **dtypes)(relu(up(x)))


class KeypointHead(nn.Module):
    """The keypoint head of Mask R-CNN: a map of four times the size for each keypoint.

    Layers: head_{2 i} and predictor_kps_score_lowres.

    Attributes:
      outputs: number of keypoints.
      depth: number of 3x3 convolutions.
      features: their channels.

    Call:
      x f32[N, M, M, C] -> logits [N, 4 M, 4 M, outputs].

    Source: He et al. 2017 ("Mask R-CNN"), section 5; the last map is enlarged bilinearly.
    """

    outputs: int = 17
    depth: int = 8
    features: int = 512
    remat: bool = False
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        del train
        dtypes = dtypes_of(self)

        def tower(x: Array) -> Array:
            for number in range(self.depth):
                place = "head", 2 * number
                x = conv_in_sequence(x, self.features, 3, *place, norm=None, act=relu, **dtypes)
            return x

        x = run_block(self, tower, x)
        how = {"stride": 2, "padding": 1, "name": "predictor_kps_score_lowres", **dtypes}
        x = ConvTranspose(self.outputs, (4, 4), **how)(x)
        return resize_bilinear(x, (2 * x.shape[1], 2 * x.shape[2]))


def _flat(x: Array) -> Array:
    """[N, h, w, C] -> [N, C h w], channel by channel."""
    return x.transpose(0, 3, 1, 2).reshape(len(x), -1)


HEADS = {
    "conv": ConvHead,
    "keypoint": KeypointHead,
    "mask": MaskHead,
    "mlp": MLPHead,
    "stage": StageHead,
}
"""Values of the fields `box_head`, `mask_head` and `keypoint_head` of a network by name."""
