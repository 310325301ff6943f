"""Which parameters of a network train, and how fast."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flax.traverse_util
import jax

from jaxvision.core import InputError, listed, name_matches, names_matching


@dataclass(frozen=True)
class Selection:
    """Which parameters train, and at which factor of the learning rate.

    All train, or those that `only` chooses, but none that `freeze` chooses.

    Attributes:
      only: patterns, see `jaxvision.core.patterns`; () for all.
      freeze: likewise.
      rates: (pattern, factor); of a parameter that several choose the first counts, and one that
        none chooses has the factor 1.
    """

    only: Sequence[str] = ()
    freeze: Sequence[str] = ()
    rates: Sequence[tuple[str, float]] = ()

    def split(self, params: Any) -> tuple[Any, Any]:
        """Parameters as two trees: those that train, and the others.

        Raises:
          InputError: a pattern matches nothing, or nothing trains.
        """
        if not (self.only or self.freeze or self.rates):
            return params, {}
        flat = flax.traverse_util.flatten_dict(params, sep="/")
        names_matching(flat, [pattern for pattern, _ in self.rates], what="config.optimizer.rates")
        names = (
            names_matching(flat, self.only, what="config.head_first.train")
            if self.only
            else set(flat)
        )
        names -= names_matching(flat, self.freeze, what="config.freeze")
        if not names:
            raise InputError("config.freeze leaves nothing to train: freeze less")
        return tuple(
            flax.traverse_util.unflatten_dict(
                {name: x for name, x in flat.items() if (name in names) == trains}, sep="/"
            )
            for trains in (True, False)
        )

    def scale(self, changes: Any) -> Any:
        """Changes of parameters, each times its factor."""
        flat = flax.traverse_util.flatten_dict(changes, sep="/")
        return flax.traverse_util.unflatten_dict(
            {name: self._factor(name) * change for name, change in flat.items()}, sep="/"
        )

    def _factor(self, name: str) -> float:
        return next((factor for pattern, factor in self.rates if name_matches(name, pattern)), 1.0)

    def describe(self, params: Any) -> str:
        """What trains, and how much of it there is, in one line."""
        trained, frozen = self.split(params)
        count, rest = (sum(x.size for x in jax.tree.leaves(part)) for part in (trained, frozen))
        if not rest:
            return f"all {count:,} parameters train"
        paths = flax.traverse_util.flatten_dict(trained)
        layers = list(dict.fromkeys("/".join(path[:-1] or path) for path in paths))
        shown = listed(layers, more="more layers")
        return f"{count:,} of {count + rest:,} parameters train: {shown}"


def join(trained: Any, frozen: Any) -> Any:
    """The parameters that `Selection.split` split."""
    if not frozen:
        return trained
    flat = map(flax.traverse_util.flatten_dict, (trained, frozen))
    return flax.traverse_util.unflatten_dict({path: x for part in flat for path, x in part.items()})
