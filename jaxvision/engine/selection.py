"""Which parameters of a network are trained, and how fast."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flax.traverse_util
import jax

from jaxvision.core import OptionError, listed, name_matches, names_matching


@dataclass(frozen=True)
class Selection:
    """Which parameters are trained, and by which factor their changes are multiplied.

    All are trained, or those that `only` chooses, but none that `freeze` chooses.

    Attributes:
      only: patterns, see `jaxvision.core.patterns`; () for all.
      freeze: patterns likewise.
      lr_multipliers: (pattern, factor); the first pattern that chooses a parameter counts, and one
        that none chooses has the factor 1.
    """

    only: Sequence[str] = ()
    freeze: Sequence[str] = ()
    lr_multipliers: Sequence[tuple[str, float]] = ()

    def split(self, params: Any) -> tuple[Any, Any]:
        """Splits parameters into two trees: those that are trained, and the others.

        Raises:
          OptionError: a pattern matches nothing, or nothing is trained.
        """
        if not (self.only or self.freeze or self.lr_multipliers):
            return params, {}
        flat = flax.traverse_util.flatten_dict(params, sep="/")
        names_matching(flat, [pattern for pattern, _ in self.lr_multipliers], what="lr_multipliers")
        names = names_matching(flat, self.only, what="only") if self.only else set(flat)
        names -= names_matching(flat, self.freeze, what="freeze")
        if not names:
            raise OptionError("freeze", "freeze leaves nothing to train: freeze less")
        return tuple(
            flax.traverse_util.unflatten_dict(
                {name: x for name, x in flat.items() if (name in names) == trained}, sep="/"
            )
            for trained in (True, False)
        )

    def scale(self, changes: Any) -> Any:
        """Multiplies the changes of parameters by their factors."""
        if not self.lr_multipliers:
            return changes
        flat = flax.traverse_util.flatten_dict(changes, sep="/")
        return flax.traverse_util.unflatten_dict(
            {name: self._factor(name) * change for name, change in flat.items()}, sep="/"
        )

    def _factor(self, name: str) -> float:
        factors = (factor for pattern, factor in self.lr_multipliers if name_matches(name, pattern))
        return next(factors, 1.0)

    def describe(self, params: Any) -> str:
        """Says in one line which parameters are trained, and how many there are."""
        trained, frozen = self.split(params)
        count, rest = (sum(x.size for x in jax.tree.leaves(part)) for part in (trained, frozen))
        if not rest:
            return f"all {count:,} parameters are trained"
        paths = flax.traverse_util.flatten_dict(trained)
        layers = list(dict.fromkeys("/".join(path[:-1] or path) for path in paths))
        shown = listed(layers, more="more layers")
        return f"{count:,} of {count + rest:,} parameters are trained: {shown}"


def join(trained: Any, frozen: Any) -> Any:
    """Joins the parameters that `Selection.split` split."""
    if not frozen:
        return trained
    flat = map(flax.traverse_util.flatten_dict, (trained, frozen))
    return flax.traverse_util.unflatten_dict({path: x for part in flat for path, x in part.items()})
