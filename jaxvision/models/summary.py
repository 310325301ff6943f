"""Counts the parameters and multiply-adds of a network by tracing it, without computing it."""

import math
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.ops.primitives import Jaxpr, jaxprs_in_params

# Of the library's convolution and its transposes: where the kernel [..., kh, kw, C, D] and the
# result of the convolution are among the arguments and what is returned.
_CONVOLUTIONS = {"conv": (0, 2), "conv_dx": (0, 1), "conv_dk": (2, 1)}


class Summary(NamedTuple):
    """The size and cost of a network for one image.

    Attributes:
      params: number of elements of its parameters.
      macs: multiply-adds of its convolutions and matrix products, in evaluation.
      maps: name -> shape of the arrays that it returns, with the batch axis.
    """

    params: int
    macs: int
    maps: dict[str, tuple[int, ...]]


def summarize(model: nn.Module, input_size: tuple[int, int, int]) -> Summary:
    """Counts the parameters and multiply-adds of a network, and finds the shapes of its maps.

    Multiply-adds are counted by the definition of a convolution or a matrix product, whatever form
    the platform uses; those of a transposed convolution are those of the convolution that it
    transposes. Nothing else is counted. Torchvision's tables call the same number FLOPS.

    Args:
      model: the network.
      input_size: (height, width, channels) of the image.
    Raises:
      InputError: the network does not take images of this size.
    """
    run = partial(model.init_with_output, train=False)
    trace = jax.make_jaxpr(run, return_shape=True)
    jaxpr, (maps, variables) = trace(jax.random.key(0), jnp.zeros((1, *input_size)))
    return Summary(
        params=sum(math.prod(x.shape) for x in jax.tree.leaves(variables["params"])),
        macs=_multiply_adds(jaxpr.jaxpr),
        maps={name: x.shape for name, x in maps.items()},
    )


def _multiply_adds(jaxpr: Jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name, options = equation.primitive.name, equation.params
        shapes = [x.aval.shape for x in (*equation.invars, *equation.outvars)]
        if name in _CONVOLUTIONS:
            kernel, result = (shapes[position] for position in _CONVOLUTIONS[name])
            total += math.prod(result) * math.prod(kernel[-4:-1])
        elif name == "conv_general_dilated":
            kernel, result = shapes[1:]
            features = kernel[options["dimension_numbers"].rhs_spec[0]]
            total += math.prod(result) * (math.prod(kernel) // features)
        elif name == "dot_general":
            (contracted, _), _ = options["dimension_numbers"]
            summed = math.prod(shapes[0][axis] for axis in contracted)
            total += math.prod(shapes[-1]) * summed
        elif name == "cond":
            total += max(_multiply_adds(branch.jaxpr) for branch in options["branches"])
        elif name == "scan":
            total += options["length"] * _multiply_adds(options["jaxpr"].jaxpr)
        else:
            total += sum(map(_multiply_adds, jaxprs_in_params(options)))
    return total
