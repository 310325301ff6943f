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
      variables: of a network whose norms bn1, layer1_0_bn2, ... come directly after the
        convolutions conv1, layer1_0_conv2, ...
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
        conv = ("params", *modules, re.sub(r"bn(\d*)$", r"conv\1", name))
        if (*conv, "kernel") not in merged:
            raise InputError(
                f"the batch norm {'/'.join(norm)} has no convolution that it can be merged into: "
                "bn1 goes with conv1"
            )
        mean, var = (merged.pop(("batch_stats", *norm, leaf)) for leaf in ("mean", "var"))
        scale, bias = (merged.pop(("params", *norm, leaf)) for leaf in ("scale", "bias"))
        kernel = merged[(*conv, "kernel")]
        before = merged.get((*conv, "bias"), 0)
        factor = at_least_float32(scale) / jnp.sqrt(at_least_float32(var) + epsilon)
        merged[(*conv, "kernel")] = (kernel * factor[None, None, None]).astype(kernel.dtype)
        merged[(*conv, "bias")] = (bias + factor * (before - mean)).astype(kernel.dtype)
    return flax.traverse_util.unflatten_dict(merged)
