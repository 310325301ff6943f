"""Optimizers and schedules of optax by name, as configs name them."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import optax

from jaxvision.cli.options import read_group
from jaxvision.core import OptionError, check_range, lookup, under
from jaxvision.engine import Phase, decay_mask
from jaxvision.engine.phases import Schedule


@dataclass(frozen=True)
class ScheduleOptions:
    """How the learning rate changes.

    Attributes:
      name: "constant", "step", "cosine", "one_cycle", "polynomial" or "plateau".
      warmup: of step, cosine, one_cycle and polynomial: share of the steps in which the rate goes
        up.
      milestones: of step: shares of the steps at which the rate falls.
      factor: of step and plateau: by what the rate is multiplied where it falls.
      power: of polynomial: exponent of the share of the steps that are left.
      window: of plateau: share of the steps over which training losses are averaged.
      patience: of plateau: windows without a better loss after which the rate falls.
    Raises:
      OptionError: an option is out of range.
    """

    name: str = "cosine"
    warmup: float = 0.0
    milestones: Sequence[float] = (0.5, 0.75)
    factor: float = 0.1
    power: float = 0.9
    window: float = 0.02
    patience: int = 2

    def __post_init__(self) -> None:
        lookup(SCHEDULES, self.name, "schedule")
        check_range("warmup", self.warmup, least=0, less_than=1)
        check_range("factor", self.factor, more_than=0, less_than=1)
        check_range("power", self.power, more_than=0)
        check_range("window", self.window, more_than=0, most=1)
        check_range("patience", self.patience, least=1)
        for share in self.milestones:
            check_range("milestones", share, more_than=0, less_than=1)
        if len(set(self.milestones)) < len(self.milestones):
            raise OptionError(
                "milestones", f"milestones {self.milestones} names one twice: give each once"
            )


@dataclass(frozen=True)
class OptimizerOptions:
    """The optimizer of a training.

    Attributes:
      name: "sgd", "adam" or "adamw".
      learning_rate: the highest.
      momentum: of sgd.
      nesterov: of sgd: Nesterov's momentum.
      b1: of adam and adamw: decay of the mean of the gradients.
      b2: of adam and adamw: decay of the mean of their squares.
      weight_decay: in the gradient of sgd and adam, decoupled in adamw; not of biases and norms.
      clip_norm: the largest global norm of the gradient; 0 for any.
      lr_multipliers: (pattern, factor of the learning rate) pairs, after the head's warm-up; the
        first pattern that matches a parameter counts, as in (("layer1*", 0.1), ("fc", 10.0)).
      ema_decay: of the exponential moving average of all variables, which is evaluated instead of
        them; 0 for none.
      schedule: how the learning rate changes.
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
    lr_multipliers: Sequence[tuple[str, float]] = ()
    ema_decay: float = 0.0
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)

    def __post_init__(self) -> None:
        lookup(OPTIMIZERS, self.name, "optimizer")
        check_range("learning_rate", self.learning_rate, more_than=0)
        for name in ("momentum", "b1", "b2", "ema_decay"):
            check_range(name, getattr(self, name), least=0, less_than=1)
        for name in ("weight_decay", "clip_norm"):
            check_range(name, getattr(self, name), least=0)
        Phase(optax.identity(), lr_multipliers=self.lr_multipliers)  # checks them


@dataclass(frozen=True)
class HeadWarmupOptions:
    """A first phase in which only some parameters, such as a new head, are trained.

    Attributes:
      steps: of the phase; 0: all parameters are trained from the first step on.
      only: patterns of the parameters that are trained, as ("fc",).
      learning_rate: the highest; None: as in the other steps.
    Raises:
      OptionError: an option is out of range, or there are steps without patterns.
    """

    steps: int = 0
    only: Sequence[str] = ()
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        check_range("steps", self.steps, least=0)
        if self.steps and not self.only:
            raise OptionError(
                "only", "only is empty: name the parameters that are trained first, as ('fc',)"
            )
        if self.learning_rate is not None:
            check_range("learning_rate", self.learning_rate, more_than=0)


def _constant(options: OptimizerOptions, steps: int) -> Schedule:
    del steps
    return optax.constant_schedule(options.learning_rate)


def _step_decay(options: OptimizerOptions, steps: int) -> Schedule:
    """Linear warm-up over `warmup` of the steps; times `factor` at each of `milestones` of them."""
    schedule = options.schedule
    ends = Counter(round(share * steps) for share in schedule.milestones)
    drops = {end: schedule.factor**times for end, times in ends.items()}
    stairs = optax.piecewise_constant_schedule(options.learning_rate, drops)
    warmup = round(schedule.warmup * steps)
    if not warmup:
        return stairs
    return lambda step: stairs(step) * jnp.minimum(step / warmup, 1)


def _cosine(options: OptimizerOptions, steps: int) -> Schedule:
    """Linear warm-up over `warmup` of the steps, then half a cosine down to 0."""
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=options.learning_rate,
        warmup_steps=min(round(options.schedule.warmup * steps), steps - 1),
        decay_steps=steps,
    )


def _one_cycle(options: OptimizerOptions, steps: int) -> Schedule:
    """Up over `warmup` of the steps and down again, both as half a cosine (Smith & Topin 2018)."""
    return optax.cosine_onecycle_schedule(
        steps, options.learning_rate, pct_start=options.schedule.warmup
    )


def _polynomial(options: OptimizerOptions, steps: int) -> Schedule:
    """Linear warm-up over `warmup` of the steps, then a power of the share of steps that are left.

    Source: Chen et al. 2017 ("Rethinking atrous convolution"), section 4.1: the power is 0.9.
    """
    warmup = min(round(options.schedule.warmup * steps), steps - 1)
    falling = optax.polynomial_schedule(
        options.learning_rate, 0.0, options.schedule.power, steps - warmup, transition_begin=warmup
    )
    if not warmup:
        return falling
    return lambda step: falling(step) * jnp.minimum(step / warmup, 1)


SCHEDULES: dict[str, Callable[[OptimizerOptions, int], Schedule]] = {
    "constant": _constant,
    "step": _step_decay,
    "cosine": _cosine,
    "one_cycle": _one_cycle,
    "polynomial": _polynomial,
    # A constant rate that the plateau rule scales down; see `_phase`.
    "plateau": _constant,
}


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
    return optax.adamw(
        rate, b1=options.b1, b2=options.b2, weight_decay=options.weight_decay, mask=decay_mask
    )


OPTIMIZERS: dict[str, Callable[[OptimizerOptions, Schedule], optax.GradientTransformation]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
}


def _phase(
    options: OptimizerOptions,
    steps: int,
    *,
    only: Sequence[str] = (),
    freeze: Sequence[str] = (),
    last: bool = False,
) -> Phase:
    """A phase of some steps, with the whole schedule for them."""
    schedule = lookup(SCHEDULES, options.schedule.name, "schedule")(options, steps)
    chain = [lookup(OPTIMIZERS, options.name, "optimizer")(options, schedule)]
    if options.clip_norm:
        chain.insert(0, optax.clip_by_global_norm(options.clip_norm))
    if options.schedule.name == "plateau":
        # Looks at the training loss, averaged over windows, because that is part of the step and
        # so of its state: a resumed run scales the rate down where the other one did.
        chain.append(
            optax.contrib.reduce_on_plateau(
                factor=options.schedule.factor,
                patience=options.schedule.patience,
                accumulation_size=max(1, round(options.schedule.window * steps)),
            )
        )
    return Phase(
        optax.chain(*chain),
        steps=None if last else steps,
        only=tuple(only),
        freeze=tuple(freeze),
        lr_multipliers=tuple(tuple(pair) for pair in options.lr_multipliers),
        schedule=schedule,
    )


def make_phases(
    options: OptimizerOptions,
    steps: int,
    *,
    head_warmup: HeadWarmupOptions | None = None,
    freeze: Sequence[str] = (),
) -> list[Phase]:
    """Makes the phases of a training: the head's warm-up, if there is one, and that of the rest.

    Each has the whole schedule for its own steps; `lr_multipliers` are for the second.

    Args:
      options: of the optimizer. `ema_decay` is for `fit`.
      steps: updates in all.
      head_warmup: of the first phase; None for none.
      freeze: patterns of parameters that are trained in no phase.
    Raises:
      OptionError: the warm-up has as many steps as the training.
    """
    warmup = HeadWarmupOptions() if head_warmup is None else head_warmup
    check_range("steps", warmup.steps, least=0, less_than=steps)
    rest = _phase(options, steps - warmup.steps, freeze=freeze, last=True)
    if not warmup.steps:
        return [rest]
    rate = options.learning_rate if warmup.learning_rate is None else warmup.learning_rate
    head_options = dataclasses.replace(options, lr_multipliers=(), learning_rate=rate)
    head = _phase(head_options, warmup.steps, only=warmup.only, freeze=freeze)
    return [head, rest]


def phases_of_config(config: Any) -> tuple[list[Phase], float]:
    """The phases of a run of the command line, and the decay of the EMA of its variables.

    Args:
      config: of the run, with `steps`, `freeze`, `optimizer` and `head_warmup`.
    Raises:
      OptionError: an option is out of range, or does not fit the others; names its path.
    """
    options = read_group(OptimizerOptions, config.optimizer, "optimizer")
    head = read_group(HeadWarmupOptions, config.head_warmup, "head_warmup")
    with under("head_warmup"):
        check_range("steps", head.steps, least=0, less_than=config.steps)
    phases = make_phases(options, config.steps, head_warmup=head, freeze=tuple(config.freeze))
    return phases, options.ema_decay
