"""Phases of a training: which optimizer, for how many steps, of which parameters."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxvision.core import OptionError, check_range
from jaxvision.engine.selection import Selection

Schedule = Callable[[Array | int], Array | float]


def decay_mask(params: Any) -> Any:
    """Chooses the parameters that weight decay applies to: kernels, neither biases nor norms.

    It is the `mask` of `optax.adamw` and `optax.add_decayed_weights`.

    Args:
      params: a tree of parameters.
    Returns:
      The same tree of bools: True for arrays of at least two axes.
    """
    return jax.tree.map(lambda p: jnp.ndim(p) > 1, params)


@dataclass(frozen=True)
class Phase:
    """Some steps of a training with one optimizer, which starts with a fresh state.

    Attributes:
      optimizer: changes the parameters that are trained. One that looks at the loss, as
        `optax.contrib.reduce_on_plateau` does, gets it as `value`.
      steps: updates in this phase; None, in the last phase alone: the rest of the steps.
      only: patterns of the parameters that are trained, see `jaxvision.core.patterns`; () for all.
      freeze: patterns of parameters that are not trained. What is frozen has neither a gradient
        nor a state in the optimizer.
      lr_multipliers: (pattern, factor) pairs: what the optimizer changes is multiplied by the
        factor of the first pattern that matches the parameter's name, or by 1.
      schedule: (updates in this phase so far) -> learning rate, for the log alone; None: the log
        has the rate of `optax.inject_hyperparams`, if the optimizer uses it, else none.
    Raises:
      OptionError: an option is out of range.
    """

    optimizer: optax.GradientTransformation
    steps: int | None = None
    only: Sequence[str] = ()
    freeze: Sequence[str] = ()
    lr_multipliers: Sequence[tuple[str, float]] = ()
    schedule: Schedule | None = None

    def __post_init__(self) -> None:
        if not (hasattr(self.optimizer, "init") and hasattr(self.optimizer, "update")):
            raise OptionError(
                "optimizer", f"optimizer is {self.optimizer!r}: give one of optax's optimizers"
            )
        if self.steps is not None:
            check_range("steps", self.steps, least=1)
        for pair in self.lr_multipliers:
            if not (
                isinstance(pair, tuple | list)
                and len(pair) == 2
                and isinstance(pair[0], str)
                and isinstance(pair[1], int | float)
            ):
                raise OptionError(
                    "lr_multipliers",
                    f"lr_multipliers has {pair!r}: give pairs of a pattern and a factor, as "
                    "(('layer1*', 0.1),)",
                )
            if not pair[1] > 0:
                raise OptionError(
                    "lr_multipliers",
                    f"lr_multipliers of {pair[0]!r} is {pair[1]}: give more than 0",
                )

    @property
    def selection(self) -> Selection:
        """The parameters that are trained, and their factors."""
        return Selection(self.only, self.freeze, self.lr_multipliers)

    def init(self, params: Any) -> Any:
        """The optimizer's first state: of the parameters that are trained, and of no others."""
        return self.optimizer.init(self.selection.split(params)[0])

    def learning_rate(self, opt_state: Any, count: Array | int) -> Array | None:
        """The rate of one update of this phase; None where it is not known.

        Args:
          opt_state: the state after the update.
          count: updates in this phase before it.
        Returns:
          f32[], times the scale of each `optax.contrib.reduce_on_plateau` in the optimizer.
        """
        states = jax.tree.leaves(opt_state, is_leaf=_is_known)
        if self.schedule is not None:
            rate = jnp.float32(self.schedule(count))
        else:
            rates = [
                state.hyperparams["learning_rate"]
                for state in states
                if _is_injected(state) and "learning_rate" in state.hyperparams
            ]
            if len(rates) != 1:
                return None
            rate = jnp.float32(rates[0])
        for state in states:
            if isinstance(state, optax.contrib.ReduceLROnPlateauState):
                rate *= state.scale
        return rate


def _is_injected(state: Any) -> bool:
    return isinstance(getattr(state, "hyperparams", None), dict)


def _is_known(state: Any) -> bool:
    return isinstance(state, optax.contrib.ReduceLROnPlateauState) or _is_injected(state)


class Stage(NamedTuple):
    """A phase and its place in the training.

    Attributes:
      phase: the phase.
      start: steps of the training before its first.
    """

    phase: Phase
    start: int = 0


def stages_of(
    optimizer: optax.GradientTransformation | Sequence[Phase],
    steps: int,
    *,
    freeze: Sequence[str] = (),
) -> tuple[Stage, ...]:
    """The phases of a training with their places.

    Args:
      optimizer: one optimizer for all steps, or the phases in their order.
      steps: updates in all.
      freeze: patterns of parameters that no phase trains, beside those of each phase.
    Raises:
      OptionError: the steps of the phases do not add up to those of the training.
    """
    # optax's optimizers are named tuples, and so sequences too.
    if isinstance(optimizer, Phase):
        phases = [optimizer]
    elif hasattr(optimizer, "update"):
        phases = [Phase(optimizer)]
    else:
        phases = list(optimizer)
    if not phases or not all(isinstance(phase, Phase) for phase in phases):
        raise OptionError(
            "optimizer", "optimizer is no optimizer: give one of optax's, or a sequence of Phase"
        )
    stages, start = [], 0
    for number, phase in enumerate(phases, start=1):
        if phase.steps is None and number < len(phases):
            raise OptionError(
                "steps", f"phase {number} of {len(phases)} has no steps: only the last may not"
            )
        if freeze:
            phase = dataclasses.replace(phase, freeze=(*phase.freeze, *freeze))
        stages.append(Stage(phase, start))
        start += phase.steps or 0
    last = stages[-1]
    if last.start >= steps or (last.phase.steps is not None and start != steps):
        each = ", ".join("the rest" if p.steps is None else str(p.steps) for p in phases)
        raise OptionError(
            "steps", f"the phases have {each} steps of {steps}: give steps that add up to {steps}"
        )
    return tuple(stages)


def stage_after(stages: Sequence[Stage], step: int) -> Stage:
    """The stage whose optimizer made the update before a step's end, and so the state after it."""
    return [stage for stage in stages if stage.start < max(step, 1)][-1]
