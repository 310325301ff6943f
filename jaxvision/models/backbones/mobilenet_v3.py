"""MobileNetV3 (Howard, Sandler, Chu, Chen, Chen, Tan, Wang, Zhu, Pang, Vasudevan, Le & Adam 2019,
"Searching for MobileNetV3")."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.core import check_choice
from jaxvision.layers import (
    Norm,
    batch_norm,
    conv_in_sequence,
    drop_path,
    dtypes_of,
    make_divisible,
    norm_of,
    run_block,
    squeeze_excite,
)
from jaxvision.ops import global_avg_pool


class Block(NamedTuple):
    """A row of the paper's tables 1 and 2: its columns k, exp size, #out, SE, NL (is HS) and s."""

    kernel_size: int
    expanded: int
    channels: int
    squeeze: bool
    hard_swish: bool
    stride: int


LARGE = (
    Block(3, 16, 16, False, False, 1),
    Block(3, 64, 24, False, False, 2),
    Block(3, 72, 24, False, False, 1),
    Block(5, 72, 40, True, False, 2),
    Block(5, 120, 40, True, False, 1),
    Block(5, 120, 40, True, False, 1),
    Block(3, 240, 80, False, True, 2),
    Block(3, 200, 80, False, True, 1),
    Block(3, 184, 80, False, True, 1),
    Block(3, 184, 80, False, True, 1),
    Block(3, 480, 112, True, True, 1),
    Block(3, 672, 112, True, True, 1),
    Block(5, 672, 160, True, True, 2),
    Block(5, 960, 160, True, True, 1),
    Block(5, 960, 160, True, True, 1),
)
REDUCED_LARGE = (
    *LARGE[:12],
    Block(5, 672, 80, True, True, 2),
    Block(5, 480, 80, True, True, 1),
    Block(5, 480, 80, True, True, 1),
)
"""The large network with half of the channels after the last stride, as the paper has it in
detectors (section 6.3)."""

SMALL = (
    Block(3, 16, 16, True, False, 2),
    Block(3, 72, 24, False, False, 2),
    Block(3, 88, 24, False, False, 1),
    Block(5, 96, 40, True, True, 2),
    Block(5, 240, 40, True, True, 1),
    Block(5, 240, 40, True, True, 1),
    Block(5, 120, 48, True, True, 1),
    Block(5, 144, 48, True, True, 1),
    Block(5, 288, 96, True, True, 2),
    Block(5, 576, 96, True, True, 1),
    Block(5, 576, 96, True, True, 1),
)
LAYOUTS = ("ssdlite", "fpn", "segmentation")
"""Values of the field `layout` of `MobileNetV3`, besides None."""

NORM = partial(batch_norm, epsilon=1e-3, momentum=0.99)
"""The norm of torchvision's networks."""

STEM_CHANNELS, HEAD_EXPANSION, SQUEEZE_REDUCTION = 16, 6, 4


class MobileNetV3(nn.Module):
    """The MobileNetV3 network.

    It has inverted residual blocks, some of them with squeeze-and-excitation, and hard swish as
    activation. Layers are named as in torchvision; as there, squeeze-and-excitation has a quarter
    of the expanded channels of a block.

    Attributes:
      blocks: rows of the paper's table 1 or 2, without the first and the last ones.
      hidden: channels of the first layer of the classifier.
      width: multiplier of all channels.
      dilated: whether the last stride is replaced by 1, with a dilation of 2 in the convolutions
        from there on.
      layout: None: that of the classifier. "ssdlite": that of torchvision's SSDlite, with its maps
        (section 6.3) and names of layers. The last two maps are then the expansion of the last
        block with a stride, at that block's input size, and the convolution after the blocks. The
        network is divided between them: features_0_{place}... and features_1_{place}..., each from
        0. "fpn": that of torchvision's Faster R-CNN. The last two maps, both of stride 32, are the
        output of the last block with a stride, "c5", and the convolution after the blocks, "c6";
        the names of layers lack "features_". "segmentation": that of torchvision's networks for
        segmentation. Each map is the output of the first block of its size, not of the last one;
        the last map is the convolution after the blocks. The names lack "features_", too.
      dropout: dropout rate of the hidden features in training.
      drop_path: rate of stochastic depth of the last block in training; block i of n has i / n of
        it.
      act: activation of the rows with HS in the tables; those with RE have a ReLU.

    Call:
      images f32[B, H, W, C] -> {"c1": [B, H/2, W/2, 16], "c2": [B, H/4, W/4, 24],
      "c3": [B, H/8, W/8, 40], "c4": [B, H/16, W/16, 112], "c5": [B, H/32, W/32, 160],
      "pooled": [B, 960], "logits": [B, num_classes]}. The small network has 16, 16, 24, 48, 96 and
      576 channels. The maps are the outputs of the last block of each size (c1 of the small network
      is that of the stem). Sizes round up. With `dilated` there is no c5, and c4 is the output of
      the last block.
    """

    blocks: tuple[Block, ...]
    hidden: int
    width: float = 1.0
    dilated: bool = False
    layout: str | None = None
    num_classes: int | None = 1000
    dropout: float = 0.2
    drop_path: float = 0.0
    act: Callable[[Array], Array] = nn.hard_swish
    remat: bool = False
    norm: Norm | None = NORM
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        blocks = [Block(*row) for row in self.blocks]  # the caller may give plain tuples
        if self.layout is not None:
            check_choice("layout", self.layout, LAYOUTS)
        dtypes, norm = dtypes_of(self), norm_of(self, train=train)
        conv = partial(conv_in_sequence, norm=norm, act=self.act, **dtypes)

        def scaled(channels: int):
            return make_divisible(channels * self.width)

        last = max(place for place, block in enumerate(blocks, start=1) if block.stride > 1)

        def name_of(place: int, part: int | None = None) -> str:
            """Returns the name of a layer by its place in the sequence, or of its part."""
            inside = "" if part is None else f"_block_{part}"
            if self.layout in ("fpn", "segmentation"):
                return f"{place}{inside}"
            if self.layout is None:
                return f"features_{place}{inside}"
            if place == last and part:
                return f"features_1_0_{part}"
            if place == last:
                return f"features_0_{place}"
            second = place > last
            return f"features_{int(second)}_{place - last * second}{inside}"

        def inverted(x: Array, *, block: Block, dilation: int, drop: float, place: int):
            """Applies a block; returns its result and its expansion."""
            features, inner = scaled(block.channels), scaled(block.expanded)
            act = self.act if block.hard_swish else nn.relu
            y, part = x, 0
            if inner != x.shape[-1]:
                y = conv(y, inner, 1, name_of(place, part), act=act)
                part += 1
            stride = 1 if dilation > 1 else block.stride
            how = {"stride": stride, "dilation": dilation, "groups": inner, "act": act}
            expansion = y
            y = conv(y, inner, block.kernel_size, name_of(place, part), **how)
            part += 1
            if block.squeeze:
                squeezed = make_divisible(inner // SQUEEZE_REDUCTION)
                how = {"gate": nn.hard_sigmoid, **dtypes}
                y = squeeze_excite(y, squeezed, name=name_of(place, part), **how)
                part += 1
            y = conv(y, features, 1, name_of(place, part), act=None)
            if block.stride == 1 and x.shape[-1] == features:
                y = x + drop_path(y, drop, train=train)
            return y, expansion

        x = conv(images, scaled(STEM_CHANNELS), 3, name_of(0), stride=2)
        maps, level, count = {"c1": x}, 1, len(blocks)
        for place, block in enumerate(blocks, start=1):
            dilation = 2 if self.dilated and place >= last else 1
            starts = block.stride > dilation
            if starts:
                level += 1
            how = {"dilation": dilation, "drop": self.drop_path * place / count, "place": place}
            x, expansion = run_block(self, partial(inverted, block=block, **how), x)
            if starts or self.layout != "segmentation":
                maps[f"c{level}"] = x
            if self.layout == "ssdlite" and place == last:
                maps[f"c{level - 1}"] = expansion
            elif self.layout == "fpn" and place == last:
                level += 1
        x = conv(x, HEAD_EXPANSION * x.shape[-1], 1, name_of(count + 1))
        if self.layout is not None:
            maps[f"c{level}"] = x
        maps["pooled"] = global_avg_pool(x)
        if self.num_classes is not None:
            dense = partial(nn.Dense, kernel_init=nn.initializers.normal(0.01), **dtypes)
            y = self.act(dense(scaled(self.hidden), name="classifier_0")(maps["pooled"]))
            y = nn.Dropout(self.dropout, deterministic=not train)(y)
            maps["logits"] = dense(self.num_classes, name="classifier_3")(y)
        return maps


MOBILENETS_V3 = {
    "mobilenet_v3_large": partial(MobileNetV3, blocks=LARGE, hidden=1280),
    "mobilenet_v3_small": partial(MobileNetV3, blocks=SMALL, hidden=1024),
}
