"""Functions that combine augmentations, apply them with a probability, and take partners."""

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
    """A random change of one example on the device: a function (key, example) -> example.

    The augmentations of this package are frozen dataclasses whose fields are numbers, tuples and
    other augmentations, so that they can be compared and described. A plain function is also an
    augmentation.

    Attributes:
      partners: number of further examples that it takes from the field `partners` of each example;
        0 if there is no such attribute.
      needs_masks: whether it fails for examples without masks; False if there is no such attribute.
    """

    partners: int
    needs_masks: bool

    def __call__(self, key: Array, example: E) -> E:
        """Changes an example.

        Args:
          key: key[].
          example: a batch struct without its leading axis.
        Returns:
          the example, with the same shapes and without the partners that were taken.
        """


@dataclass(frozen=True)
class Compose:
    """Applies several augmentations one after the other; step i uses the key fold_in(key, i).

    An example needs as many partners as all steps together. Each step that takes partners gets the
    next partners, exactly as many as it takes. A step that takes no partners also changes the
    partners for later steps, each with its own key: with
    `(RandomFlip(), ClassMixup(10, mixup=1.0))` both images are flipped independently before they
    are mixed.

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
        """The number of further examples that all steps together take."""
        return sum(map(partners_of, self.steps))

    @property
    def needs_masks(self) -> bool:
        """Whether a step fails for examples without masks."""
        return any(getattr(step, "needs_masks", False) for step in self.steps)

    def __call__(self, key: Array, example: E) -> E:
        """Applies all steps to an example.

        Args:
          key: key[].
          example: a batch struct without its leading axis, with at least as many partners as the
            steps take.
        Returns:
          the example, without partners.
        Raises:
          InputError: there are too few partners, or a step raises it.
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
                # The numbers from len(steps) on are not used by any step.
                partner_key = jax.random.fold_in(key, len(self.steps) + number)
                left = jax.vmap(step)(jax.random.split(partner_key, _count(left)), left)
        return example


def partners_of(augmentation: Callable[..., Any]) -> int:
    """Returns the number of further examples that an augmentation takes for each example."""
    return getattr(augmentation, "partners", 0)


def take_partners(example: Any, count: int, what: str) -> tuple[Any, Any]:
    """Returns the first partners of an example, and the remaining ones.

    Args:
      example: a batch struct without its leading axis.
      count: number of partners to take.
      what: name of the augmentation, for the message.
    Returns:
      examples [count, ...] and [rest, ...]; None in place of zero examples.
    Raises:
      InputError: the example has fewer than `count` partners.
    """
    partners = getattr(example, "partners", None)
    if count and _count(partners) < count:
        raise InputError(
            f"{what} takes {count} of an example's partners, and there are {_count(partners)}: let "
            f"the loader provide {count} with each example"
        )
    return _cut(partners, count)


def with_probability(
    key: Array,
    example: Tree,
    function: Callable[[Array, Tree], Tree],
    *,
    probability: float,
) -> Tree:
    """Applies a function with a probability, and returns the example unchanged otherwise.

    Both results are computed and one is selected. Under `vmap`, as augmentation runs, a `lax.cond`
    would become the same selection, and it does not accept a function that converts uint8 to
    floats.

    Args:
      key: key[].
      example: arrays in any structure: an example, or an image.
      function: (key, example) -> example, with the same shapes. A field that it sets to None is
        always None in the result.
      probability: probability of the function, in [0, 1].
    Returns:
      the example, with dtypes to which both results can be converted.
    Raises:
      AssertionError: the function changes a shape.
      InputError: probability is out of range.
    """
    check_range("probability", probability, least=0, most=1)
    choice_key, function_key = jax.random.split(key)
    changed = function(function_key, example)
    happens = jax.random.bernoulli(choice_key, float(probability))

    def choose(x: Array | None, y: Array) -> Array | None:
        if x is None:
            return None
        chex.assert_equal_shape([x, y])
        return jnp.where(happens, x, y)

    return jax.tree.map(choose, changed, example, is_leaf=lambda x: x is None)


def _count(partners: Any) -> int:
    return 0 if partners is None else len(jax.tree.leaves(partners)[0])


def _cut(partners: Any, count: int) -> tuple[Any, Any]:
    """Returns the first `count` partners and the rest; None in place of zero partners."""
    number = _count(partners)
    first = jax.tree.map(lambda x: x[:count], partners) if count else None
    return first, jax.tree.map(lambda x: x[count:], partners) if count < number else None
