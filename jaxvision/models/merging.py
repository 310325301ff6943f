"""Batch norms merged into the convolutions before them, for inference."""

import re
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import jax.numpy as jnp

from jaxvision.core import InputError, at_least_float32


def merge_batch_norm(variables: Mapping[str, Any], *, epsilon: float = 1e-5) -> dict[str, Any]:
    """Variables for the same network with `norm=None`, which then gives the same maps.

    In evaluation a batch norm is affine: with s = scale / sqrt(var + epsilon), the convolution's
    kernel becomes s kernel, channel by channel, and its bias bias + s (b - mean), b being its bias
    before, or 0.

    Args:
      variables: of a network whose norms come directly after convolutions: layer1_0_bn2 after
        layer1_0_conv2, fc6_bn after fc6, downsample_1 after downsample_0. (Not a VGG, which numbers
        its layers in another way without norms.)
      epsilon: the norms' own.
    Returns:
      Variables without norms and statistics, in the convolutions' dtypes.
    Raises:
      InputError: there is no such convolution for a batch norm.
    Source: Ioffe & Szegedy 2015 ("Batch normalization"), algorithm 2, step 11.
    """
    merged = flax.traverse_util.flatten_dict(dict(variables))
    norms = [path[1:-1] for path in merged if path[0] == "batch_stats" and path[-1] == "mean"]
    for norm in norms:
        *modules, name = norm
        paths = [("params", *modules, conv) for conv in _convolutions_before(name)]
        conv = next((path for path in paths if (*path, "kernel") in merged), None)
        if conv is None:
            raise InputError(
                f"the batch norm {'/'.join(norm)} has no convolution that it can be merged into: "
                f"there is no {' nor '.join(path[-1] for path in paths)}"
            )
        mean, var = (merged.pop(("batch_stats", *norm, leaf)) for leaf in ("mean", "var"))
        scale, bias = (merged.pop(("params", *norm, leaf)) for leaf in ("scale", "bias"))
        kernel = merged[(*conv, "kernel")]
        before = merged.get((*conv, "bias"), 0)
        factor = at_least_float32(scale) / jnp.sqrt(at_least_float32(var) + epsilon)
        merged[(*conv, "kernel")] = (kernel * factor[None, None, None]).astype(kernel.dtype)
        merged[(*conv, "bias")] = (bias + factor * (before - mean)).astype(kernel.dtype)
    return flax.traverse_util.unflatten_dict(merged)


def _convolutions_before(norm: str) -> list[str]:
    """What the convolution before a norm may be called."""
    numbered = re.fullmatch(r"(.*_)(\d+)", norm)
    if numbered:
        return [f"{numbered[1]}{int(numbered[2]) - 1}"]
    beside = [re.sub(r"bn(\d*)$", r"conv\1", norm)]
    return [*beside, norm.removesuffix("_bn")] if norm.endswith("_bn") else beside
