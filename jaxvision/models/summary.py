"""Counts the parameters and multiply-adds of a network by tracing it, without computing it."""

import math
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.extend as jex
import jax.numpy as jnp


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

    Multiply-adds are counted in the program for XLA's own convolution, even if this platform uses
    another form. Only convolutions and matrix products are counted. Torchvision's tables call the
    same number FLOPS.

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


def _multiply_adds(jaxpr: jex.core.Jaxpr) -> int:
    total, of_platforms = 0, set()
    for equation in jaxpr.eqns:
        name, options = equation.primitive.name, equation.params
        if name == "platform_index":
            of_platforms.update(equation.outvars)
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            features = kernel[options["dimension_numbers"].rhs_spec[0]]
            taps = math.prod(kernel) // features
            total += math.prod(equation.outvars[0].aval.shape) * taps
        elif name == "dot_general":
            (contracted, _), _ = options["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            summed = math.prod(shape[axis] for axis in contracted)
            total += math.prod(equation.outvars[0].aval.shape) * summed
        elif name == "cond":
            branches = [_multiply_adds(branch.jaxpr) for branch in options["branches"]]
            # The last of the forms for platforms is XLA's own.
            total += branches[-1] if equation.invars[0] in of_platforms else max(branches)
        elif name == "scan":
            total += options["length"] * _multiply_adds(options["jaxpr"].jaxpr)
        else:
            total += sum(map(_multiply_adds, jex.core.jaxprs_in_params(options)))
    return total
