"""Augmentations one after the other, with a probability, and with other examples."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import chex
import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.core import InputError, OptionError, check_range

E = TypeVar("E")
Tree = TypeVar("Tree")


class Augmentation(Protocol):
    """A random change of one example on the device: a function of (key, example).

    Those of this package are frozen dataclasses whose fields are numbers, tuples and other
    augmentations, so that they can be compared and described. A plain function is one too.

    Attributes:
      partners: how many other examples it takes from the field `partners` of each example; where
        there is no such attribute it is 0.
    """

    partners: int

    def __call__(self, key: Array, example: E) -> E:
        """Changes an example.

        Args:
          key: key[].
          example: a batch struct without its leading axis.
        Returns:
          The example, with the same shapes and without the partners that were taken.
        """


@dataclass(frozen=True)
class Compose:
    """Applies several augmentations one after the other; step i has the key fold_in(key, i).

    An example needs as many partners as all steps together. Each step that takes partners gets the
    next ones, exactly as many as it takes. A step that takes none also changes the partners that
    later steps take, each with a key of its own: of `(RandomFlip(), ClassMixup(10, mixup=1.0))`
    both images of a mixed one are flipped by themselves.

    Attributes:
      steps: augmentations, or functions (key, example) -> example.
    """

    steps: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.steps, tuple | list) or not all(map(callable, self.steps)):
            raise OptionError(
                "steps", f"steps is {self.steps!r}: give a tuple of functions (key, example)"
            )
        object.__setattr__(self, "steps", tuple(self.steps))

    @property
    def partners(self) -> int:
        """How many other examples all steps together take."""
        return sum(map(partners_of, self.steps))

    def __call__(self, key: Array, example: E) -> E:
        """Changes an example by all steps.

        Args:
          key: key[].
          example: a batch struct without its leading axis, with at least as many partners as the
            steps take.
        Returns:
          The example, without partners.
        Raises:
          AssertionError, InputError: of a step; InputError: too few partners.
        """
        left, _ = take_partners(example, self.partners, "Compose")
        if getattr(example, "partners", None) is not None:
            example = example.replace(partners=None)
        for number, step in enumerate(self.steps):
            count = partners_of(step)
            if count:
                taken, left = _cut(left, count)
                example = example.replace(partners=taken)
            example = step(jax.random.fold_in(key, number), example)
            if left is not None and not count:
                # The numbers from len(steps) on are of no step.
                partner_key = jax.random.fold_in(key, len(self.steps) + number)
                left = jax.vmap(step)(jax.random.split(partner_key, _count(left)), left)
        return example


def partners_of(augmentation: Callable[..., Any]) -> int:
    """How many other examples an augmentation, or a function, takes beside each one."""
    return getattr(augmentation, "partners", 0)


def take_partners(example: Any, count: int, what: str) -> tuple[Any, Any]:
    """The first partners of an example, and those that are left.

    Args:
      example: a batch struct without its leading axis.
      count: how many are taken.
      what: what takes them, for the message.
    Returns:
      Examples [count, ...] and [rest, ...], each None where there are none.
    Raises:
      InputError: the example has fewer.
    """
    partners = getattr(example, "partners", None)
    if count and _count(partners) < count:
        raise InputError(
            f"{what} takes {count} of an example's partners, and there are {_count(partners)}: let "
            f"the loader send {count} with each example"
        )
    return _cut(partners, count)


def with_probability(
    key: Array,
    example: Tree,
    function: Callable[[Array, Tree], Tree],
    *,
    probability: float,
) -> Tree:
    """Applies a function with the given probability, and else gives the example.

    Both are computed and one is chosen: under `vmap`, which is how augmentation runs, a
    `lax.cond` becomes the same choice, and it would refuse a function that turns bytes to floats.

    Args:
      key: key[].
      example: arrays in any structure: an example, or an image.
      function: (key, example) -> example, of the same shapes; a field that it sets to None is
        None in any case.
      probability: in [0, 1].
    Returns:
      The example, with dtypes that hold both.
    Raises:
      AssertionError: the function changes a shape.
      InputError: the probability is out of its range.
    """
    check_range("probability", probability, least=0, most=1)
    choice_key, function_key = jax.random.split(key)
    changed = function(function_key, example)
    happens = jax.random.bernoulli(choice_key, probability)

    def choose(x: Array | None, y: Array) -> Array | None:
        if x is None:
            return None
        chex.assert_equal_shape([x, y])
        return jnp.where(happens, x, y)

    return jax.tree.map(choose, changed, example, is_leaf=lambda x: x is None)


def _count(partners: Any) -> int:
    return 0 if partners is None else len(jax.tree.leaves(partners)[0])


def _cut(partners: Any, count: int) -> tuple[Any, Any]:
    """The first so many partners and the rest; None for none."""
    number = _count(partners)
    first = jax.tree.map(lambda x: x[:count], partners) if count else None
    return first, jax.tree.map(lambda x: x[count:], partners) if count < number else None
