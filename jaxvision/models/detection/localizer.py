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
from jaxvision.layers import Conv, Norm, as_backbone, batch_norm, dtypes_of
from jaxvision.models.backbones.resnet import RESNETS


class Localizer(nn.Module):
    """A backbone with two fully connected heads: the class of the image's object, and its box.

    The means of a map over the whole image hardly tell where the object is. With `attention`, the
    features of both heads are means of the last map, weighted by a softmax over its cells, of a 1x1
    convolution ("attention"). The mean of the cells' centres under the same weights is where the
    network looks, and the box head gives the centre of the box relative to it.

    Attributes:
      backbone: builds the module "backbone", whose last map "c{level}" is used.
      attention: False: both heads are on the backbone's features "pooled", which any backbone has,
        and the centre of the box is relative to that of the image.

    Call:
      images f32[B, H, W, C] -> {"logits": [B, num_classes], "box": f32[B, 4]}, both arguments of
      `jaxvision.tasks.detectors.localizer`. A box is (centre x, centre y, width, height) in
      fractions of the width and the height of the network's input; width and height are in 0..1.

    Raises:
      InputError: the backbone returns no map, and attention is not False.
    """

    backbone: Callable[..., nn.Module] = RESNETS["resnet18"]
    attention: bool = True
    num_classes: int = 1000
    remat: bool = False
    norm: Norm | None = batch_norm
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        maps = self.backbone(**as_backbone(self, self.backbone))(images, train=train)
        features, place = maps.get("pooled"), jnp.full((len(images), 2), 0.5)
        if self.attention:
            x = _last_map(maps)
            scores = Conv(1, (1, 1), name="attention", **dtypes_of(self))(x)
            features, place = _attended(x, at_least_float32(scores))
        logits = nn.Dense(self.num_classes, name="class_head", **dtypes_of(self))(features)
        box = at_least_float32(nn.Dense(4, name="box_head", **dtypes_of(self))(features))
        box = jnp.concatenate([place + box[:, :2], nn.sigmoid(box[:, 2:])], axis=-1)
        return {"logits": logits, "box": box}


def _last_map(maps: dict[str, Array]) -> Array:
    """The map "c{level}" of the highest level, f[B, h, w, C]."""
    levels = [int(name[1:]) for name in maps if name[0] == "c" and name[1:].isdecimal()]
    if not levels:
        raise InputError(
            f"the backbone gives no map c1, c2, ..., but {', '.join(maps)}: choose another one, or "
            "set attention to False"
        )
    return maps[f"c{max(levels)}"]


def _attended(x: Array, scores: Array) -> tuple[Array, Array]:
    """The means of a map and of the centres of its cells, weighted by a softmax over the cells.

    Args:
      x: f[B, h, w, C].
      scores: f32[B, h, w, 1].
    Returns:
      f[B, C], and (x, y) in fractions of the map's width and height, f32[B, 2].
    """
    weights = nn.softmax(scores.reshape(len(x), -1)).reshape(scores.shape)
    rows, columns = ((jnp.arange(side) + 0.5) / side for side in x.shape[1:3])
    means = (
        weights * part for part in (x, columns.reshape(1, 1, -1, 1), rows.reshape(1, -1, 1, 1))
    )
    features, *place = (mean.sum((1, 2)) for mean in means)
    return features.astype(x.dtype), jnp.concatenate(place, axis=-1)


LOCALIZERS = {"localizer": Localizer}
