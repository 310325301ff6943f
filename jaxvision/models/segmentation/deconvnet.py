"""DeconvNet (Noh, Hong & Han 2015, "Learning deconvolution network for semantic segmentation")."""

from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.layers import (
    Conv,
    ConvTranspose,
    Norm,
    batch_norm,
    conv_norm_act,
    dtypes_of,
    norm_of,
    run_block,
)
from jaxvision.models.backbones.vgg import VGG_16, Stage
from jaxvision.models.sides import check_sides
from jaxvision.ops import max_pool_with_indices, max_unpool


class DeconvNet(nn.Module):
    """The DeconvNet network: the convolutions of VGG-16 as encoder, and their mirror as decoder.

    The decoder has unpooling, which puts each maximum back where the pooling found it, and
    transposed convolutions. Layers are named as in the paper's table 2: conv1_1, ..., fc6, fc7,
    fc6_deconv, deconv5_1, ..., deconv1_2, seg_score. The norm after a layer has its name with the
    suffix _bn.

    Attributes:
      stages: stages of the encoder. The decoder has the same in reverse order; the last layer of
        each stage has the channels of the stage before.
      hidden: channels of fc6 and fc7.
      window: side of the kernels of fc6 and fc6_deconv.
      num_classes: K classes; None builds no last layer.
      norm: after each layer except the last; None gives layers with a bias.

    Call:
      images f32[B, H, W, C], sides multiples of 2^n (32), at least window 2^n (224), where n is the
      number of stages -> {"c{level}": [B, H / 2^level, W / 2^level, channels], the input of each
      pooling, "fc7": [B, H / 2^n - window + 1, ..., hidden], "d{level}": [B, H / 2^level,
      W / 2^level, channels], the outputs of the stages of the decoder, "logits": [B, H, W, K]}.

    Raises:
      InputError: a side of the images is not such a multiple.
    """

    stages: tuple[Stage, ...] = VGG_16
    hidden: int = 4096
    window: int = 7
    num_classes: int | None = 21
    remat: bool = False
    norm: Norm | None = batch_norm
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        step = 2 ** len(self.stages)
        check_sides(images, step, more_than=self.window * step - 1)
        dtypes, norm = dtypes_of(self), norm_of(self, train=train)

        def conv(x: Array, features: int, kernel_size: int, name: str, **options: Any) -> Array:
            options = {"norm": norm, "norm_name": f"{name}_bn", **dtypes, **options}
            return conv_norm_act(x, features, kernel_size, name=name, **options)

        def deconv(x: Array, features: int, kernel_size: int, name: str, padding: int) -> Array:
            x = ConvTranspose(
                features,
                (kernel_size, kernel_size),
                padding=padding,
                use_bias=norm is None,
                name=name,
                **dtypes,
            )(x)
            return nn.relu(x if norm is None else norm(x, name=f"{name}_bn"))

        def encoded(x: Array, *, number: int) -> Array:
            channels, convolutions = self.stages[number - 1]
            for layer in range(1, convolutions + 1):
                x = conv(x, channels, 3, f"conv{number}_{layer}")
            return x

        def decoded(x: Array, *, number: int) -> Array:
            channels, convolutions = self.stages[number - 1]
            last, _ = self.stages[max(number - 2, 0)]
            for layer in range(1, convolutions + 1):
                features = channels if layer < convolutions else last
                x = deconv(x, features, 3, f"deconv{number}_{layer}", padding=1)
            return x

        x, maps, places = images, {}, []
        for level in range(len(self.stages)):
            x = maps[f"c{level}"] = run_block(self, partial(encoded, number=level + 1), x)
            x, indices = max_pool_with_indices(x, 2)
            places.append(indices)
        channels = x.shape[-1]
        x = conv(x, self.hidden, self.window, "fc6", padding=0)
        x = maps["fc7"] = conv(x, self.hidden, 1, "fc7")
        x = deconv(x, channels, self.window, "fc6_deconv", padding=0)
        for level in reversed(range(len(self.stages))):
            x = max_unpool(x, places[level], output_size=maps[f"c{level}"].shape[1:3])
            x = maps[f"d{level}"] = run_block(self, partial(decoded, number=level + 1), x)
        if self.num_classes is not None:
            maps["logits"] = Conv(self.num_classes, (1, 1), name="seg_score", **dtypes)(x)
        return maps


DECONVNETS = {"deconvnet": DeconvNet}
