"""Goes through traced programs."""

from jaxvision.ops.primitives import jaxprs_in_params


def equations_of(jaxpr):
    """The operations of a program and of those that it calls."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations_of(inner)
