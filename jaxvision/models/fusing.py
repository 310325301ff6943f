"""Fuses batch norms into the convolutions before them, for inference."""

import re
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import jax.numpy as jnp

from jaxvision.core import InputError, at_least_float32


def fuse_conv_bn(variables: Mapping[str, Any], *, epsilon: float = 1e-5) -> dict[str, Any]:
    """Returns variables for the same network with `norm=None`, which then computes the same maps.

    In evaluation a batch norm is affine. With s = scale / sqrt(var + epsilon), the kernel of the
    convolution becomes s kernel, channel by channel, and its bias becomes bias + s (b - mean),
    where b is its bias before, or 0.

    Args:
      variables: variables of a network whose norms directly follow convolutions: layer1_0_bn2 after
        layer1_0_conv2, fc6_bn after fc6, downsample_1 after downsample_0. VGG is not supported,
        because its layers have other numbers without norms.
      epsilon: epsilon of the norms, which the variables do not tell: 1e-5 for most networks, 1e-3
        for MobileNetV3, EfficientNetV2 and SSDlite, 0 for retinanet_resnet50_fpn.
    Returns:
      variables without norms and their statistics, in the dtypes of the convolutions.
    Raises:
      InputError: a batch norm has no such convolution.
    Source: Ioffe & Szegedy 2015 ("Batch normalization"), algorithm 2, step 11.
    """
    fused = flax.traverse_util.flatten_dict(dict(variables))
    norms = [path[1:-1] for path in fused if path[0] == "batch_stats" and path[-1] == "mean"]
    for norm in norms:
        *modules, name = norm
        paths = [("params", *modules, conv) for conv in _convolutions_before(name)]
        conv = next((path for path in paths if (*path, "kernel") in fused), None)
        if conv is None:
            raise InputError(
                f"the batch norm {'/'.join(norm)} has no convolution to fuse it with: there is no "
                f"layer named {' or '.join(path[-1] for path in paths)}"
            )
        mean, var = (fused.pop(("batch_stats", *norm, leaf)) for leaf in ("mean", "var"))
        frozen = ("batch_stats", *norm, "scale") in fused
        collection = "batch_stats" if frozen else "params"
        scale, bias = (fused.pop((collection, *norm, leaf)) for leaf in ("scale", "bias"))
        kernel = fused[(*conv, "kernel")]
        before = fused.get((*conv, "bias"), 0)
        factor = at_least_float32(scale) / jnp.sqrt(at_least_float32(var) + epsilon)
        fused[(*conv, "kernel")] = (kernel * factor[None, None, None]).astype(kernel.dtype)
        fused[(*conv, "bias")] = (bias + factor * (before - mean)).astype(kernel.dtype)
    return flax.traverse_util.unflatten_dict(fused)


def _convolutions_before(norm: str) -> list[str]:
    """Returns the names that the convolution before a norm may have."""
    numbered = re.fullmatch(r"(.*_)(\d+)", norm)
    if numbered:
        return [f"{numbered[1]}{int(numbered[2]) - 1}"]
    beside = [re.sub(r"bn(\d*)$", r"conv\1", norm)]
    return [*beside, norm.removesuffix("_bn")] if norm.endswith("_bn") else beside
