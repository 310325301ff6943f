"""DenseNet (Huang, Liu, van der Maaten & Weinberger 2017, "Densely connected convolutional
networks")."""

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.layers import Norm, batch_norm, conv_norm_act, dtypes_of, norm_of, run_block
from jaxvision.models.sides import check_sides
from jaxvision.ops import avg_pool, global_avg_pool, max_pool


class DenseNet(nn.Module):
    """The DenseNet network. In a block each layer uses the outputs of all layers before it.

    By default it is the paper's DenseNet-BC for ImageNet: a layer has a 1x1 and a 3x3 convolution,
    and between two blocks a transition halves the channels and the resolution. Layers are named as
    in torchvision.

    Attributes:
      blocks: number of layers of each block.
      growth_rate: channels that a layer adds, k in the paper.
      stem_channels: channels of the first convolution.
      bottleneck: channels of the 1x1 convolution of a layer, as a multiple of growth_rate; None
        builds no such convolution.
      compression: fraction of the channels that a transition keeps, theta in the paper.
      cifar_stem: whether the stem is the one for CIFAR: only a 3x3 convolution, instead of a 7x7
        convolution of stride 2 with norm and activation and a pooling of stride 2.
      dropout: dropout rate of the output of each layer, in training.
      act: activation before each convolution except the first.
      remat: whether to compute layers and the concatenation of their inputs a second time in the
        backward pass. Memory is then linear in the number of layers of a block, not quadratic.
      norm: before each activation; None gives convolutions with a bias.

    Call:
      images f32[B, H, W, C], sides at least 2^(n+1) - 3 (29), where n is the number of blocks, or
      2^(n-1) with `cifar_stem` ->
      {"c1": [B, H/2, W/2, 64], of the stem, "c2": [B, H/4, W/4, 256], "c3": [B, H/8, W/8, 512],
      "c4": [B, H/16, W/16, 1024], "c5": [B, H/32, W/32, 1024], "pooled": [B, 1024],
      "logits": [B, num_classes]}, with the channels of DenseNet-121; from c2 on each map holds all
      channels of a block after norm and activation. The first two halvings of the size round up,
      the others down. `cifar_stem` omits the first two: {"c1": [B, H, W, 16], "c2": [B, H, W, 160],
      "c3": [B, H/2, W/2, 304], "c4": [B, H/4, W/4, 448], ...} for 12 layers in a block and a growth
      rate of 12 without compression.

    Raises:
      InputError: the images are smaller than that.
    """

    blocks: tuple[int, ...]
    growth_rate: int = 32
    stem_channels: int = 64
    bottleneck: int | None = 4
    compression: float = 0.5
    cifar_stem: bool = False
    dropout: float = 0.0
    num_classes: int | None = 1000
    act: Callable[[Array], Array] = nn.relu
    remat: bool = False
    norm: Norm | None = batch_norm
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        last = len(self.blocks)
        least = 2 ** (last - 1) if self.cifar_stem else 2 ** (last + 1) - 3
        check_sides(images, 1, more_than=least - 1)
        dtypes, norm = dtypes_of(self), norm_of(self, train=train)
        init = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
        alone = {"norm": None, "norm_name": "", "act": None, "use_bias": norm is None}
        conv = partial(conv_norm_act, kernel_init=init, **alone, **dtypes)

        def norm_act(x: Array, *, name: str):
            return self.act(x if norm is None else norm(x, name=name))

        def layer(seen: tuple[Array, ...], *, name: str):
            y, place = norm_act(jnp.concatenate(seen, axis=-1), name=f"{name}_norm1"), 1
            if self.bottleneck is not None:
                y = conv(y, self.bottleneck * self.growth_rate, 1, name=f"{name}_conv1")
                y, place = norm_act(y, name=f"{name}_norm2"), 2
            y = conv(y, self.growth_rate, 3, name=f"{name}_conv{place}")
            return nn.Dropout(self.dropout, deterministic=not train)(y)

        if self.cifar_stem:
            x = conv(images, self.stem_channels, 3, name="features_conv0")
            maps = {"c1": x}
        else:
            x = conv(images, self.stem_channels, 7, name="features_conv0", stride=2)
            maps = {"c1": norm_act(x, name="features_norm0")}
            x = max_pool(maps["c1"], 3, stride=2, padding=1)
        for block, layers in enumerate(self.blocks, start=1):
            seen = (x,)
            for number in range(1, layers + 1):
                name = f"features_denseblock{block}_denselayer{number}"
                seen += (run_block(self, partial(layer, name=name), seen),)
            name = f"features_transition{block}"
            x = jnp.concatenate(seen, axis=-1)
            x = norm_act(x, name=f"{name}_norm" if block < last else "features_norm5")
            maps[f"c{block + 1}"] = x
            if block < last:
                kept = int(x.shape[-1] * self.compression)
                x = avg_pool(conv(x, kept, 1, name=f"{name}_conv"), 2)
        maps["pooled"] = global_avg_pool(x)
        if self.num_classes is not None:
            init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
            dense = nn.Dense(self.num_classes, kernel_init=init, name="classifier", **dtypes)
            maps["logits"] = dense(maps["pooled"])
        return maps


CIFAR = {"cifar_stem": True, "num_classes": 10}
CIFAR_PLAIN = {**CIFAR, "stem_channels": 16, "bottleneck": None, "compression": 1.0}

DENSENETS = {
    "densenet121": partial(DenseNet, blocks=(6, 12, 24, 16)),
    "densenet161": partial(DenseNet, blocks=(6, 12, 36, 24), growth_rate=48, stem_channels=96),
    "densenet169": partial(DenseNet, blocks=(6, 12, 32, 32)),
    "densenet201": partial(DenseNet, blocks=(6, 12, 48, 32)),
    # Networks of the paper's tables 1 and 2, named by their layers and growth rates.
    "densenet_cifar_40_12": partial(DenseNet, blocks=(12,) * 3, growth_rate=12, **CIFAR_PLAIN),
    "densenet_cifar_100_12": partial(DenseNet, blocks=(32,) * 3, growth_rate=12, **CIFAR_PLAIN),
    "densenet_cifar_bc_100_12": partial(
        DenseNet, blocks=(16,) * 3, growth_rate=12, stem_channels=24, **CIFAR
    ),
    "densenet_cifar_bc_190_40": partial(
        DenseNet, blocks=(31,) * 3, growth_rate=40, stem_channels=80, **CIFAR
    ),
}
