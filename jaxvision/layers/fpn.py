"""The feature pyramid network (Lin, Dollár, Girshick, He, Hariharan & Belongie 2017, "Feature
pyramid networks for object detection", section 3)."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.core import OptionError
from jaxvision.layers.conv import Conv, conv_in_sequence
from jaxvision.layers.fields import dtypes_of, norm_of
from jaxvision.layers.norm import Norm
from jaxvision.ops import resize_nearest

EXTRAS = ("pool", "p6p7_from_p5", "p6p7_from_c5")
"""Values of the field `extra` of `FPN`, besides None."""


class FPN(nn.Module):
    """A feature pyramid: maps of several resolutions that all have the features of the coarsest.

    A 1x1 convolution brings each map to the same channels. From coarse to fine, the sum so far is
    upsampled to the nearest cells and added. A 3x3 convolution of each sum is an output. There are
    no activations. Layers have torchvision's names: inner_blocks_{i}_0, layer_blocks_{i}_0, with
    norms inner_blocks_{i}_1 and layer_blocks_{i}_1, extra_blocks_p6 and extra_blocks_p7.

    Attributes:
      features: channels of all outputs.
      extra: which maps are added after the coarsest one. None: none. "pool": every second cell of
        the coarsest output, as for R-CNNs. "p6p7_from_p5": two maps of 3x3 convolutions of stride 2
        and a ReLU between them, the first of the coarsest output; "p6p7_from_c5": the same, but
        the first of the coarsest input.
      norm: after each convolution but those of `extra`; None gives convolutions with a bias.

    Call:
      maps, from fine to coarse, each f32[B, h, w, C] -> list of [B, h, w, features], of the same
      sizes, and the extra ones. A stride of 2 rounds sizes up.

    Raises:
      OptionError: `extra` is unknown.
    """

    features: int = 256
    extra: str | None = None
    norm: Norm | None = None
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, maps: Sequence[Array], *, train: bool) -> list[Array]:
        if self.extra not in (None, *EXTRAS):
            raise OptionError("extra", f"extra is {self.extra!r}: give None or one of {EXTRAS}")
        initialised = {"kernel_init": nn.initializers.lecun_uniform(), **dtypes_of(self)}
        norm = norm_of(self, train=train)
        conv = partial(conv_in_sequence, norm=norm, act=None, **initialised)
        outputs, above = [], None
        for number, x in reversed(list(enumerate(maps))):
            inner = conv(x, self.features, 1, f"inner_blocks_{number}")
            if above is not None:
                inner = inner + resize_nearest(above, inner.shape[1:3])
            outputs.insert(0, conv(inner, self.features, 3, f"layer_blocks_{number}"))
            above = inner
        if self.extra == "pool":
            return [*outputs, outputs[-1][:, ::2, ::2]]
        if self.extra is None:
            return outputs
        halved = partial(
            Conv, self.features, (3, 3), strides=2, padding=[(1, 1), (1, 1)], **initialised
        )
        source = outputs[-1] if self.extra == "p6p7_from_p5" else maps[-1]
        p6 = halved(name="extra_blocks_p6")(source)
        return [*outputs, p6, halved(name="extra_blocks_p7")(nn.relu(p6))]
