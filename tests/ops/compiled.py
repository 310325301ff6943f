"""Operators compiled as a whole: operation by operation, each of these is compiled by itself."""

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import chex
import jax


def compiled(function):
    """The function under jit, with results in numpy; what is annotated as no array is static."""
    parameters = inspect.signature(function).parameters.values()
    static = [p.name for p in parameters if "Array" not in str(p.annotation)]
    run = jax.jit(function, static_argnames=static)
    return lambda *args, **options: jax.device_get(run(*args, **options))


@dataclasses.dataclass(frozen=True)
class Case:
    """An operator and its slow reference, both called with the same arrays and options."""

    function: Callable[..., Any]
    reference: Callable[..., Any]
    arrays: Sequence[Any]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    rtol: float = 1e-5
    atol: float = 1e-6


def check_cases(cases):
    """Every operator equals its reference; one program computes them all.

    Args:
      cases: name -> Case.
    Returns:
      The results of the operators, by name.
    """

    @jax.jit
    def run(arrays):
        return {name: case.function(*arrays[name], **case.options) for name, case in cases.items()}

    found = jax.device_get(run({name: list(case.arrays) for name, case in cases.items()}))
    for name, case in cases.items():
        expected = case.reference(*case.arrays, **case.options)
        try:
            chex.assert_trees_all_equal_shapes(found[name], expected)
            chex.assert_trees_all_close(found[name], expected, rtol=case.rtol, atol=case.atol)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
    return found
