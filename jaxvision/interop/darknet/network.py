"""The network of a Darknet description."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.core import at_least_float32, check_array
from jaxvision.interop.darknet import heads, layers, weighted
from jaxvision.interop.darknet.activations import ACTIVATIONS
from jaxvision.interop.darknet.description import Description
from jaxvision.interop.darknet.dialects import ALEXEYAB
from jaxvision.layers import Conv, DropBlock, Norm, batch_norm, run_block
from jaxvision.ops import (
    avg_pool,
    depth_to_space,
    global_avg_pool,
    max_pool,
    resize_nearest,
    space_to_depth,
)

darknet_norm = partial(batch_norm, momentum=0.99, epsilon=1e-6)
"""Batch norm with Darknet's momentum.

Darknet divides by sqrt(variance) + 1e-6, this norm by sqrt(variance + 1e-6). For variances of at
least 0.01 the results differ by less than 1 part in 20,000. In a channel with almost no variance,
rounding errors grow by a factor of 1,000 instead of 1,000,000. The running variance is the biased
one here (see `BatchNorm`).
"""

alexeyab_norm = partial(batch_norm, momentum=0.99, epsilon=1e-5)
"""Batch norm of AlexeyAB's fork, which divides by sqrt(variance + 1e-5)."""

_he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
_he_normal_local = nn.initializers.variance_scaling(
    2.0, "fan_in", "normal", in_axis=-2, out_axis=-1, batch_axis=(0, 1)
)


class DarknetNetwork(nn.Module):
    """Any network that a description can hold; see `read_cfg` and `parse_cfg`.

    The variables of layer n are named `conv{n}`, `connected{n}` or `local{n}` ("kernel" and, if no
    norm follows, "bias") and `bn{n}` ("scale", "bias", "mean", "var"), with n as Darknet prints it.

    Attributes:
      description: the description of the layers.
      norm: norm of the layers with batch_normalize=1; None: that of the description's dialect,
        `darknet_norm` or `alexeyab_norm`.
      remat: whether to compute each convolution, with its norm and activation, a second time in the
        backward pass.
      axis_name, dtype, param_dtype: see `jaxvision.models`.

    Call:
      images f32[B, H, W, C], in [0, 1] for published weights -> named maps, without the activations
      of a head:

      - "region{n}", "yolo{n}": [B, h, w, A, 5 + C], (tx, ty, tw, th, to, classes) for each anchor,
        with n the number of the layer; strides and anchors are in `description.heads(H, W)`;
      - "Gaussian_yolo{n}": [B, h, w, A, 9 + C], where tx, ty, tw and th are each followed by their
        uncertainty;
      - from [detection], YOLOv1: "coordinates" [B, side, side, boxes, 4], "confidence"
        [B, side, side, boxes] and "class_scores" [B, side, side, C];
      - "logits": [B, C], the input of [softmax]; [B, groups, C / groups] with several groups;
      - "features": the last map, if there is none of these.

      Training needs a key for "dropout" if there is a [dropout]. The map of every layer that does
      not end its branch is in the collection "intermediates", as "layer{n}", if it is mutable; that
      of a layer before a [yolo] with new_coords is without the sigmoid.
    """

    description: Description
    remat: bool = False
    norm: Norm | None = None
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        images = check_array("images", images, ("B", "H", "W", self.description.image.channels))
        self.description.sizes(*images.shape[1:3])  # raises InputError if a layer does not fit
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        of_dialect = alexeyab_norm if self.description.dialect == ALEXEYAB else darknet_norm
        norm = partial(self.norm or of_dialect, train=train, axis_name=self.axis_name, **dtypes)
        how = _How(norm, dtypes, train)
        outputs: dict[int, Array] = {
            -1: images if self.dtype is None else images.astype(self.dtype)
        }
        maps: dict[str, Array] = {}
        blocks = {number: _Shared() for number in self._shared()}
        for block in blocks.values():
            nn.share_scope(self, block)
        for layer in self.description.layers:
            inputs = [outputs[number] for number in layer.inputs]
            if isinstance(layer, heads.End):
                maps |= _MAPS[type(layer)](layer, *inputs)
                continue
            if isinstance(layer, layers.Softmax):
                maps["logits"] = _logits(layer, *inputs)
            forward = partial(_FORWARD[type(layer)], layer, how)
            if isinstance(layer, weighted.Convolutional):
                if layer.shared in blocks:
                    forward = partial(blocks[layer.shared], layer, how)
                else:
                    forward = partial(run_block, self, forward)
            x = outputs[layer.index] = forward(*inputs)
            self.sow("intermediates", f"layer{layer.index}", x)
        return maps or {"features": x}

    def _shared(self) -> set[int]:
        """The numbers of the convolutions whose weights others have too."""
        convolutions = (
            layer for layer in self.description.layers if isinstance(layer, weighted.Convolutional)
        )
        return {layer.shared for layer in convolutions if layer.shared != layer.index}


class _How(NamedTuple):
    """The arguments of layers besides their own options."""

    norm: Callable[..., Array]
    dtypes: dict[str, Any]
    train: bool


class _Shared(nn.Module):
    """A convolution and its norm that may be applied several times, with the same weights."""

    @nn.compact
    def __call__(self, layer: weighted.Convolutional, how: _How, x: Array) -> Array:
        return _convolutional(layer, how, x)


def _flat(x: Array) -> Array:
    """[B, H, W, C] -> [B, C H W], channel by channel."""
    return x.transpose(0, 3, 1, 2).reshape(len(x), -1)


def _normed_and_activated(
    layer: weighted.Convolutional | weighted.Connected, how: _How, x: Array
) -> Array:
    if layer.batch_normalize:
        x = how.norm(x, name=layer.norm_name)
    return ACTIVATIONS[layer.activation](x)


def _convolutional(layer: weighted.Convolutional, how: _How, x: Array) -> Array:
    x = Conv(
        layer.filters,
        (layer.size, layer.size),
        strides=layer.stride,
        padding=layer.padding * layer.dilation,
        kernel_dilation=layer.dilation,
        feature_group_count=layer.groups,
        use_bias=not layer.batch_normalize,
        kernel_init=_he_normal,
        name=layer.name,
        **how.dtypes,
    )(x)
    return _normed_and_activated(layer, how, x)


def _connected(layer: weighted.Connected, how: _How, x: Array) -> Array:
    x = nn.Dense(
        layer.outputs,
        use_bias=not layer.batch_normalize,
        kernel_init=_he_normal,
        name=layer.name,
        **how.dtypes,
    )(_flat(x))
    return _normed_and_activated(layer, how, x[:, None, None])


def _local(layer: weighted.Local, how: _How, x: Array) -> Array:
    x = nn.ConvLocal(
        layer.filters,
        (layer.size, layer.size),
        strides=layer.stride,
        padding=layer.padding,
        kernel_init=_he_normal_local,
        name=layer.name,
        **how.dtypes,
    )(x)
    return ACTIVATIONS[layer.activation](x)


def _batchnorm(layer: weighted.Batchnorm, how: _How, x: Array) -> Array:
    return how.norm(x, name=layer.norm_name)


def _padded(layer: layers.Maxpool, x: Array, value: float) -> Array:
    """x with the cells that its windows reach beyond its borders."""
    pads = []
    before = layer.padding // 2
    for cells, places in zip(
        x.shape[1:3], layer.output(layers.Size(*x.shape[1:]))[:2], strict=True
    ):
        reach = (places - 1) * layer.stride + layer.size
        pads.append((before, max(0, reach - before - cells)))
    return jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=value)


def _maxpool(layer: layers.Maxpool, how: _How, x: Array) -> Array:
    return max_pool(_padded(layer, x, -jnp.inf), layer.size, stride=layer.stride)


def _local_avgpool(layer: layers.LocalAvgpool, how: _How, x: Array) -> Array:
    pool = partial(avg_pool, kernel_size=layer.size, stride=layer.stride)
    return pool(_padded(layer, x, 0)) / pool(_padded(layer, jnp.ones_like(x), 0))


def _avgpool(layer: layers.Avgpool, how: _How, x: Array) -> Array:
    return global_avg_pool(x)[:, None, None]


def _route(layer: layers.Route, how: _How, *inputs: Array) -> Array:
    parts = [jnp.split(x, layer.groups, axis=-1)[layer.group_id] for x in inputs]
    return jnp.concatenate(parts, axis=-1)


def _shortcut(layer: layers.Shortcut, how: _How, x: Array, other: Array) -> Array:
    own, step = layer.steps(layers.Size(*x.shape[1:]), layers.Size(*other.shape[1:]))
    rows, columns, channels = (min(a, b) for a, b in zip(x.shape[1:], other.shape[1:], strict=True))
    part = other[:, : rows * step : step, : columns * step : step, :channels]
    x = x.at[:, : rows * own : own, : columns * own : own, :channels].add(part)
    return ACTIVATIONS[layer.activation](x)


def _upsample(layer: layers.Upsample, how: _How, x: Array) -> Array:
    return layer.scale * resize_nearest(x, [n * layer.stride for n in x.shape[1:3]])


def _reorg(layer: layers.Reorg, how: _How, x: Array) -> Array:
    if layer.reverse:
        return depth_to_space(x, layer.stride, order="space_first")
    return space_to_depth(x, layer.stride, order="darknet")


def _reorg3d(layer: layers.Reorg3d, how: _How, x: Array) -> Array:
    return space_to_depth(x, layer.stride, order="space_first")


def _product(layer: layers.Product, how: _How, x: Array, other: Array) -> Array:
    return ACTIVATIONS[layer.activation](x * other)


def _crop(layer: layers.Crop, how: _How, x: Array) -> Array:
    top, left = (x.shape[1] - layer.height) // 2, (x.shape[2] - layer.width) // 2
    x = x[:, top : top + layer.height, left : left + layer.width]
    return 2 * x - 1 if layer.adjust else x


def _dropout(layer: layers.Dropout, how: _How, x: Array) -> Array:
    if layer.block is not None:
        size = layer.block
        if isinstance(size, float):
            size = max(1, int(size * min(x.shape[1:3])))
        return DropBlock(layer.probability, size)(x, train=how.train)
    return nn.Dropout(layer.probability, deterministic=not how.train)(x)


def _logits(layer: layers.Softmax, x: Array) -> Array:
    flat = _flat(x) / layer.temperature
    return flat if layer.groups == 1 else flat.reshape(len(x), layer.groups, -1)


def _softmax(layer: layers.Softmax, how: _How, x: Array) -> Array:
    batch, height, width, channels = x.shape
    shares = jax.nn.softmax(at_least_float32(_logits(layer, x))).astype(x.dtype)
    return shares.reshape(batch, channels, height, width).transpose(0, 2, 3, 1)


def _cost(layer: layers.Cost, how: _How, x: Array) -> Array:
    return x


def _yolov1_maps(layer: heads.Detection, x: Array) -> dict[str, Array]:
    cells, boxes = layer.side**2, layer.boxes
    ends = cells * layer.classes, cells * (layer.classes + boxes)
    scores, confidence, coordinates = jnp.split(_flat(x), ends, axis=1)
    grid = (len(x), layer.side, layer.side)
    values = (
        coordinates.reshape(*grid, boxes, 4),
        confidence.reshape(*grid, boxes),
        scores.reshape(*grid, layer.classes),
    )
    return dict(zip(layer.maps, values, strict=True))


def _anchored_map(layer: heads.Anchored, x: Array) -> dict[str, Array]:
    return {layer.name: x.reshape(*x.shape[:3], len(layer.anchors), -1)}


_FORWARD: dict[type[layers.Layer], Callable[..., Array]] = {
    layers.Avgpool: _avgpool,
    layers.Cost: _cost,
    layers.Crop: _crop,
    layers.Dropout: _dropout,
    layers.LocalAvgpool: _local_avgpool,
    layers.Maxpool: _maxpool,
    layers.Reorg: _reorg,
    layers.Reorg3d: _reorg3d,
    layers.Route: _route,
    layers.Sam: _product,
    layers.ScaleChannels: _product,
    layers.Shortcut: _shortcut,
    layers.Softmax: _softmax,
    layers.Upsample: _upsample,
    weighted.Batchnorm: _batchnorm,
    weighted.Connected: _connected,
    weighted.Convolutional: _convolutional,
    weighted.Local: _local,
}
_MAPS: dict[type[heads.End], Callable[..., dict[str, Array]]] = {
    heads.Detection: _yolov1_maps,
    heads.GaussianYolo: _anchored_map,
    heads.Region: _anchored_map,
    heads.Yolo: _anchored_map,
}
