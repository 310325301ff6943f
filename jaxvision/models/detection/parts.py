"""Parts that several one-stage detectors share: maps of a backbone, and heads on a pyramid."""

import inspect
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.core import InputError
from jaxvision.layers import (
    FPN,
    Conv,
    Norm,
    as_backbone,
    conv_in_sequence,
    dtypes_of,
    norm_of,
    relu,
    run_block,
)

PRIOR = 0.01
"""Probability of each class that a head with a sigmoid predicts before training."""

PRIOR_BIAS = -math.log((1 - PRIOR) / PRIOR)
"""The bias of class logits that gives `PRIOR` (Lin et al. 2017, "Focal loss", section 4.1)."""


def backbone_maps(
    module: Any, images: Array, *, train: bool, name: str = "backbone"
) -> list[Array]:
    """Computes the maps of a detector's backbone that its field `levels` names.

    Args:
      module: a detector with the fields `backbone`, `levels` and those of
        `jaxvision.layers.as_backbone`. If the activation of the backbone is a ReLU, it is
        `jaxvision.layers.relu`, as its norms are mostly frozen.
      images: f32[B, H, W, C].
      train: whether norms use the statistics of the batch.
      name: name of the backbone.
    Returns:
      the maps, in the order of `levels`.
    Raises:
      InputError: the backbone has no such map.
    """
    fields = as_backbone(module, module.backbone, name=name)
    known = inspect.signature(module.backbone).parameters
    if "act" in known and known["act"].default is nn.relu:
        fields["act"] = relu
    maps = module.backbone(**fields)(images, train=train)
    return [_map_of(maps, level) for level in module.levels]


def _map_of(maps: Mapping[str, Array], level: str) -> Array:
    if level in maps and maps[level].ndim == 4:
        return maps[level]
    known = [f"{name} ({x.shape[-1]} channels)" for name, x in maps.items() if x.ndim == 4]
    raise InputError(
        f"the backbone has no map {level!r}: "
        + (f"it has {', '.join(known)}; set levels to some of these" if known else "it has none")
        + "; jaxvision.models.feature_info lists the maps of a network"
    )


def pyramid_maps(
    module: Any, images: Array, *, train: bool, extra: str | None, norm: Norm | None = None
) -> list[Array]:
    """Computes the feature pyramid of a detector, with torchvision's names.

    Args:
      module: as for `backbone_maps`, with the field `features`.
      images: f32[B, H, W, C].
      train: whether norms use the statistics of the batch.
      extra: see `jaxvision.layers.FPN`.
      norm: likewise.
    Returns:
      maps [B, h, w, features], from fine to coarse.
    """
    maps = backbone_maps(module, images, train=train, name="backbone_body")
    shared = {"norm": norm, "axis_name": module.axis_name, **dtypes_of(module)}
    fpn = FPN(module.features, extra=extra, name="backbone_fpn", **shared)
    return fpn(maps, train=train)


def extra_maps(p6_from: str | None) -> str | None:
    """The value of `extra` of `FPN` for the field `p6_from` of a detector."""
    return p6_from and f"p6p7_from_{p6_from}"


class TowerHead(nn.Module):
    """A tower of 3x3 convolutions with ReLU, and convolutions of its result, as outputs.

    It is called with each map of a pyramid, and all share the weights. Kernels are initialised
    with a standard deviation of 0.01.

    Attributes:
      outputs: (name, channels, initial bias) of each output's layer.
      depth: number of convolutions in the tower.
      output_kernel: side of the kernels of the outputs' layers, 1 or 3.
      nested: whether the layers of the tower are named conv_{i}_0 and conv_{i}_1 (the norm), as in
        torchvision's RetinaNet; otherwise they are conv_{3 i} and conv_{3 i + 1}, as in its FCOS.
      use_bias: whether the convolutions of the tower have a bias; None: only if there is no norm.
      remat: whether to compute a map's tower a second time in the backward pass.
      norm: after each convolution of the tower.

    Call:
      x f32[B, h, w, C] -> {name: [B, h, w, channels]}; the tower has C channels.
    """

    outputs: Sequence[tuple[str, int, float]]
    depth: int = 4
    output_kernel: int = 3
    nested: bool = True
    use_bias: bool | None = None
    remat: bool = False
    norm: Norm | None = None
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> dict[str, Array]:
        initialised = {"kernel_init": nn.initializers.normal(0.01), **dtypes_of(self)}
        norm = norm_of(self, train=train)
        how = {"use_bias": self.use_bias, "act": relu}
        conv = partial(conv_in_sequence, norm=norm, **how, **initialised)

        def tower(x: Array) -> Array:
            for number in range(self.depth):
                place = (f"conv_{number}", 0) if self.nested else ("conv", 3 * number)
                x = conv(x, x.shape[-1], 3, *place)
            return x

        x = run_block(self, tower, x)
        zeros = self.output_kernel // 2
        around = {"kernel_size": (self.output_kernel,) * 2, "padding": [(zeros, zeros)] * 2}
        return {
            name: Conv(
                channels,
                bias_init=nn.initializers.constant(bias),
                name=name,
                **around,
                **initialised,
            )(x)
            for name, channels, bias in self.outputs
        }


def by_anchor(x: Array, num_anchors: int) -> Array:
    """Splits the channels of a head's output: [B, h, w, A K] -> [B, h, w, A, K]."""
    return x.reshape(*x.shape[:-1], num_anchors, x.shape[-1] // num_anchors)
