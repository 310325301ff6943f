"""Classification with localisation: the class and the box of one object (Sermanet et al. 2014,
"OverFeat: integrated recognition, localization and detection using convolutional networks",
section 4)."""

from collections.abc import Callable
from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.core import InputError, at_least_float32
from jaxvision.layers import Norm, as_backbone, batch_norm, dtypes_of
from jaxvision.models.backbones.resnet import RESNETS
from jaxvision.ops import adaptive_avg_pool


class Localizer(nn.Module):
    """A backbone with two heads: the class of the image's object, and its box.

    The module "class_head" is a fully connected layer on the backbone's pooled features, as that
    of a classifier. The means of these features over the whole image hardly tell where the object
    is, so the module "box_head" is a fully connected layer on the last map, averaged to a grid.

    Attributes:
      backbone: builds the module "backbone", whose features "pooled" and last map "c{level}" are
        used.
      grid: the last map is averaged to this number of rows and columns for the box; None: the box
        head is on the pooled features too, which any backbone has.

    Call:
      images f32[B, H, W, C] -> {"logits": [B, num_classes], "box": f32[B, 4]}, both arguments of
      `jaxvision.tasks.detectors.localizer`. A box is (centre x, centre y, width, height), each in
      0..1: fractions of the width and the height of the network's input.

    Raises:
      InputError: the backbone returns no map.
    """

    backbone: Callable[..., nn.Module] = RESNETS["resnet18"]
    grid: int | None = 7
    num_classes: int = 1000
    norm: Norm | None = batch_norm
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        maps = self.backbone(**as_backbone(self))(images, train=train)
        pooled = where = maps["pooled"]
        if self.grid is not None:
            where = adaptive_avg_pool(_last_map(maps), self.grid).reshape(len(images), -1)
        logits = nn.Dense(self.num_classes, name="class_head", **dtypes_of(self))(pooled)
        box = nn.Dense(4, name="box_head", **dtypes_of(self))(where)
        return {"logits": logits, "box": nn.sigmoid(at_least_float32(box))}


def _last_map(maps: dict[str, Array]) -> Array:
    """The map "c{level}" of the highest level, f[B, h, w, C]."""
    levels = [int(name[1:]) for name in maps if name[0] == "c" and name[1:].isdecimal()]
    if not levels:
        raise InputError(
            f"the backbone gives no map c1, c2, ..., but {', '.join(maps)}: choose another one, or "
            "set grid to None"
        )
    return maps[f"c{max(levels)}"]


LOCALIZERS = {"localizer": Localizer}
