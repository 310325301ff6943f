"""Optimizers and schedules by name, all from optax."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import optax

from jaxvision.cli.options import read_group
from jaxvision.core import OptionError, check_range, lookup, under
from jaxvision.engine import Phase, decay_mask
from jaxvision.engine.phases import Schedule


@dataclass(frozen=True)
class ScheduleOptions:
    """How the learning rate changes over the steps.

    Attributes:
      name: "constant", "step", "cosine", "one_cycle" or "plateau".
      warmup: step, cosine, one_cycle: share of the steps in which the rate rises.
      milestones: step: shares of the steps after which the rate is multiplied by the factor.
      factor: step, plateau: what the rate is multiplied by.
      window: plateau: share of the steps over which losses are averaged.
      patience: plateau: windows without a better loss.
    Raises:
      OptionError: an option is out of range.
    """

    name: str = "cosine"
    warmup: float = 0.0
    milestones: tuple[float, ...] = (0.5, 0.75)
    factor: float = 0.1
    window: float = 0.02
    patience: int = 2

    def __post_init__(self) -> None:
        lookup(SCHEDULES, self.name, "schedule")
        check_range("warmup", self.warmup, least=0, less_than=1)
        check_range("factor", self.factor, more_than=0, less_than=1)
        check_range("window", self.window, more_than=0, most=1)
        check_range("patience", self.patience, least=1)
        for share in self.milestones:
            check_range("milestones", share, more_than=0, less_than=1)
        if len(set(self.milestones)) < len(self.milestones):
            raise OptionError(
                "milestones", f"milestones {self.milestones} has one twice: give each once"
            )


@dataclass(frozen=True)
class OptimizerOptions:
    """How parameters change.

    Attributes:
      name: "sgd", "adam" or "adamw".
      learning_rate: the highest one.
      momentum: sgd.
      nesterov: sgd: Nesterov's momentum.
      b1: adam and adamw: decay of the mean of the gradients.
      b2: adam and adamw: decay of the mean of their squares.
      weight_decay: of kernels, not of biases and norms; in the gradient for sgd and adam, decoupled
        for adamw.
      clip_norm: largest global norm of the gradients; 0: any.
      lr_multipliers: (pattern of names, factor of the learning rate) pairs, after the head's own
        steps: (("layer1*", 0.1), ("fc", 10.0)); the first pattern that matches counts.
      ema_decay: decay of the exponential moving average (EMA) of all variables, which is evaluated
        instead of them; 0: none.
    Raises:
      OptionError: an option is out of range.
    """

    name: str = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    b1: float = 0.9
    b2: float = 0.999
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    lr_multipliers: tuple[tuple[str, float], ...] = ()
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        lookup(OPTIMIZERS, self.name, "optimizer")
        check_range("learning_rate", self.learning_rate, more_than=0)
        for name in ("momentum", "b1", "b2", "ema_decay"):
            check_range(name, getattr(self, name), least=0, less_than=1)
        for name in ("weight_decay", "clip_norm"):
            check_range(name, getattr(self, name), least=0)


@dataclass(frozen=True)
class HeadWarmupOptions:
    """Fine-tuning: what is new is trained alone before the rest of the run.

    Attributes:
      steps: of the run's; 0: all parameters are trained from the first step on.
      only: patterns of the parameters that are trained in these steps, as in freeze: ("fc",)
      learning_rate: None: that of the optimizer.
    Raises:
      OptionError: an option is out of range.
    """

    steps: int = 0
    only: tuple[str, ...] = ()
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        check_range("steps", self.steps, least=0)
        if self.learning_rate is not None:
            check_range("learning_rate", self.learning_rate, more_than=0)
        if self.steps and not self.only:
            raise OptionError(
                "only", "only is empty: name the parameters that are trained first, as ('fc',)"
            )


def _constant(rate: float, options: ScheduleOptions, steps: int) -> Schedule:
    del options, steps
    return optax.constant_schedule(rate)


def _step_decay(rate: float, options: ScheduleOptions, steps: int) -> Schedule:
    """Linear warm-up over `warmup` of the steps; times `factor` at each of `milestones`."""
    ends = Counter(round(share * steps) for share in options.milestones)
    drops = {end: options.factor**times for end, times in ends.items()}
    stairs = optax.piecewise_constant_schedule(rate, drops)
    warmup = round(options.warmup * steps)
    if not warmup:
        return stairs
    return lambda step: stairs(step) * jnp.minimum(step / warmup, 1)


def _cosine(rate: float, options: ScheduleOptions, steps: int) -> Schedule:
    """Linear warm-up over `warmup` of the steps, then half a cosine down to 0."""
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=rate,
        warmup_steps=min(round(options.warmup * steps), steps - 1),
        decay_steps=steps,
    )


def _one_cycle(rate: float, options: ScheduleOptions, steps: int) -> Schedule:
    """Up over `warmup` of the steps and down again, both as half a cosine (Smith & Topin 2018)."""
    return optax.cosine_onecycle_schedule(steps, rate, pct_start=options.warmup)


SCHEDULES: dict[str, Callable[[float, ScheduleOptions, int], Schedule]] = {
    "constant": _constant,
    "step": _step_decay,
    "cosine": _cosine,
    "one_cycle": _one_cycle,
    # A constant rate that the plateau rule scales down; see `make_phase`.
    "plateau": _constant,
}
"""Name -> (highest rate, options, steps) -> schedule."""


def _sgd(options: OptimizerOptions, rate: Schedule) -> optax.GradientTransformation:
    return optax.chain(
        optax.add_decayed_weights(options.weight_decay, mask=decay_mask),
        optax.sgd(rate, momentum=options.momentum or None, nesterov=options.nesterov),
    )


def _adam(options: OptimizerOptions, rate: Schedule) -> optax.GradientTransformation:
    return optax.chain(
        optax.add_decayed_weights(options.weight_decay, mask=decay_mask),
        optax.adam(rate, b1=options.b1, b2=options.b2),
    )


def _adamw(options: OptimizerOptions, rate: Schedule) -> optax.GradientTransformation:
    decay = {"weight_decay": options.weight_decay, "mask": decay_mask}
    return optax.adamw(rate, b1=options.b1, b2=options.b2, **decay)


OPTIMIZERS: dict[str, Callable[[OptimizerOptions, Schedule], optax.GradientTransformation]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
}
"""Name -> (options, schedule) -> optimizer."""


def make_phase(
    options: OptimizerOptions, how: ScheduleOptions, *, steps: int, **phase: Any
) -> Phase:
    """The phase of a training with an optimizer and a schedule by name.

    Args:
      options: of the optimizer.
      how: of the schedule.
      steps: that it is used for.
      **phase: further fields of `jaxvision.engine.Phase`.
    """
    schedule = SCHEDULES[how.name](options.learning_rate, how, steps)
    chain = [OPTIMIZERS[options.name](options, schedule)]
    if options.clip_norm:
        chain.insert(0, optax.clip_by_global_norm(options.clip_norm))
    if how.name == "plateau":
        # It looks at the training loss, averaged over windows, because that is part of the step and
        # so of its state: a resumed run scales the rate down where the other one did.
        chain.append(
            optax.contrib.reduce_on_plateau(
                factor=how.factor,
                patience=how.patience,
                accumulation_size=max(1, round(how.window * steps)),
            )
        )
    optimizer = optax.with_extra_args_support(optax.chain(*chain))
    return Phase(optimizer, schedule=schedule, **phase)


def phases_of_config(config: Any) -> tuple[list[Phase], float]:
    """The phases of a run, and the decay of the EMA: of the head alone if asked for, and of all.

    Each phase has the schedule for its own steps; `lr_multipliers` are for the second one.

    Args:
      config: of the run, with `steps`, `freeze`, `optimizer` and `head_warmup`.
    Raises:
      OptionError: an option is out of range, or does not fit the others.
    """
    options = read_group(OptimizerOptions, config.optimizer, "optimizer")
    how = read_group(ScheduleOptions, config.optimizer.schedule, "optimizer.schedule")
    head = read_group(HeadWarmupOptions, config.head_warmup, "head_warmup")
    with under("head_warmup"):
        check_range("steps", head.steps, least=0, less_than=config.steps)
    freeze, rest = tuple(config.freeze), config.steps - head.steps
    with under("optimizer"):
        every = make_phase(
            options, how, steps=rest, freeze=freeze, lr_multipliers=options.lr_multipliers
        )
    if not head.steps:
        return [every], options.ema_decay
    if head.learning_rate is not None:
        options = dataclasses.replace(options, learning_rate=head.learning_rate)
    first = make_phase(options, how, steps=head.steps, only=head.only, freeze=freeze)
    return [dataclasses.replace(first, steps=head.steps), every], options.ema_decay
