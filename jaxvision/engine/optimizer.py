"""Optimizers and schedules, all from optax, by name."""

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxvision.core import InputError, check_range, lookup
from jaxvision.engine.selection import Selection

Schedule = Callable[[Array | int], Array | float]


def _is_plateau(state: Any) -> bool:
    return isinstance(state, optax.contrib.ReduceLROnPlateauState)


@dataclass(frozen=True)
class Optimizer:
    """How parameters change, from one step of a run on.

    Attributes:
      transformation: of the parameters that train; takes `value`, the loss, as an extra argument
        of its update.
      schedule: (updates by this optimizer so far) -> learning rate, before any reduction on a
        plateau.
      selection: which parameters train.
      start: steps of the run before its first.
      ema_decay: of the running means of all variables; 0 for none. After t steps of the run the
        means keep min(ema_decay, (1 + t) / (10 + t)), so that they soon forget the beginning.
    """

    transformation: optax.GradientTransformationExtraArgs
    schedule: Schedule
    selection: Selection = field(default_factory=Selection)
    start: int = 0
    ema_decay: float = 0.0

    def init(self, params: Any) -> Any:
        """The optimizer's state: of the parameters that train, and of no others."""
        return self.transformation.init(self.selection.split(params)[0])

    def learning_rate(self, opt_state: Any, step: Array) -> Array:
        """The rate of the run's update number `step` (from 0), which left `opt_state`; f32[]."""
        rate = jnp.float32(self.schedule(step - self.start))
        for state in jax.tree.leaves(opt_state, is_leaf=_is_plateau):
            if _is_plateau(state):
                rate *= state.scale
        return rate


def decays(params: Any) -> Any:
    """Which parameters weight decay applies to: kernels, and neither biases nor norms.

    Args:
      params: a tree of parameters.
    Returns:
      The same tree of bools: True for arrays of at least two axes.
    """
    return jax.tree.map(lambda p: jnp.ndim(p) > 1, params)


def _constant(config: Any, steps: int) -> Schedule:
    del steps
    return optax.constant_schedule(config.learning_rate)


def _step_decay(config: Any, steps: int) -> Schedule:
    """Linear warm-up over `warmup` of the run; times `factor` at each of `milestones` of it."""
    ends = Counter(round(share * steps) for share in config.schedule.milestones)
    drops = {end: config.schedule.factor**times for end, times in ends.items()}
    stairs = optax.piecewise_constant_schedule(config.learning_rate, drops)
    warmup = round(config.schedule.warmup * steps)
    if not warmup:
        return stairs
    return lambda step: stairs(step) * jnp.minimum(step / warmup, 1)


def _cosine(config: Any, steps: int) -> Schedule:
    """Linear warm-up over `warmup` of the run, then half a cosine down to 0."""
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.learning_rate,
        warmup_steps=min(round(config.schedule.warmup * steps), steps - 1),
        decay_steps=steps,
    )


def _one_cycle(config: Any, steps: int) -> Schedule:
    """Up over `warmup` of the run and down again, both as half a cosine (Smith & Topin 2018)."""
    return optax.cosine_onecycle_schedule(
        steps, config.learning_rate, pct_start=config.schedule.warmup
    )


SCHEDULES: dict[str, Callable[[Any, int], Schedule]] = {
    "constant": _constant,
    "step": _step_decay,
    "cosine": _cosine,
    "one_cycle": _one_cycle,
    # A constant rate that the plateau rule scales down; see `make_optimizer`.
    "plateau": _constant,
}


def _sgd(config: Any, rate: Schedule) -> optax.GradientTransformation:
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay, mask=decays),
        optax.sgd(rate, momentum=config.momentum or None, nesterov=config.nesterov),
    )


def _adam(config: Any, rate: Schedule) -> optax.GradientTransformation:
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay, mask=decays),
        optax.adam(rate, b1=config.b1, b2=config.b2),
    )


def _adamw(config: Any, rate: Schedule) -> optax.GradientTransformation:
    return optax.adamw(
        rate, b1=config.b1, b2=config.b2, weight_decay=config.weight_decay, mask=decays
    )


OPTIMIZERS: dict[str, Callable[[Any, Schedule], optax.GradientTransformation]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
}


def _rates(config: Any) -> tuple[tuple[str, float], ...]:
    rates = tuple(tuple(pair) if isinstance(pair, list | tuple) else pair for pair in config.rates)
    for pair in rates:
        if not (
            isinstance(pair, tuple)
            and len(pair) == 2
            and isinstance(pair[0], str)
            and isinstance(pair[1], int | float)
        ):
            raise InputError(
                f"config.optimizer.rates has {pair!r}: give pairs of a pattern and a factor, as "
                "(('layer1*', 0.1),)"
            )
        check_range(f"config.optimizer.rates of {pair[0]!r}", pair[1], more_than=0)
    return rates


def _check(config: Any) -> None:
    name = "config.optimizer"
    check_range(f"{name}.learning_rate", config.learning_rate, more_than=0)
    for key in ("momentum", "b1", "b2", "ema_decay"):
        check_range(f"{name}.{key}", getattr(config, key), least=0, less_than=1)
    for key in ("weight_decay", "clip_norm"):
        check_range(f"{name}.{key}", getattr(config, key), least=0)
    schedule, name = config.schedule, f"{name}.schedule"
    check_range(f"{name}.warmup", schedule.warmup, least=0, less_than=1)
    check_range(f"{name}.factor", schedule.factor, more_than=0, less_than=1)
    check_range(f"{name}.window", schedule.window, more_than=0, most=1)
    check_range(f"{name}.patience", schedule.patience, least=1)
    for share in schedule.milestones:
        check_range(f"{name}.milestones", share, more_than=0, less_than=1)
    if len(set(schedule.milestones)) < len(schedule.milestones):
        raise InputError(f"{name}.milestones {schedule.milestones} names one twice: give each once")


def make_optimizer(
    config: Any,
    *,
    steps: int,
    start: int = 0,
    only: Sequence[str] = (),
    freeze: Sequence[str] = (),
) -> Optimizer:
    """The optimizer of a config.

    Args:
      config: `config.optimizer` with `name`, `learning_rate`, `momentum`, `nesterov`, `b1`, `b2`,
        `weight_decay` (in the gradient for sgd and adam, decoupled for adamw; never on biases and
        norms), `clip_norm` (largest global norm of the gradient, 0 for none), `rates` (pairs of a
        pattern and the factor of the learning rate of what it matches; the first that matches
        counts), `ema_decay` and `schedule` with `name`, `milestones`, `factor`, `warmup`, `window`,
        `patience`; see `jaxvision.cli.config.default_config`.
      steps: that it is used for.
      start: steps of the run before them.
      only: patterns of the parameters that train, () for all.
      freeze: patterns of those that do not.
    Raises:
      InputError: unknown optimizer or schedule, or a figure out of range.
    """
    _check(config)
    selection = Selection(only, freeze, _rates(config))
    schedule = lookup(SCHEDULES, config.schedule.name, "schedule")(config, steps)
    chain = [lookup(OPTIMIZERS, config.name, "optimizer")(config, schedule)]
    if config.clip_norm:
        chain.insert(0, optax.clip_by_global_norm(config.clip_norm))
    if selection.rates:
        chain.append(optax.stateless(lambda changes, params: selection.scale(changes)))
    if config.schedule.name == "plateau":
        # Looks at the training loss, averaged over windows, because that is part of the step and
        # so of its state: a resumed run scales the rate down where the other one did.
        chain.append(
            optax.contrib.reduce_on_plateau(
                factor=config.schedule.factor,
                patience=config.schedule.patience,
                accumulation_size=max(1, round(config.schedule.window * steps)),
            )
        )
    transformation = optax.with_extra_args_support(optax.chain(*chain))
    return Optimizer(transformation, schedule, selection, start, config.ema_decay)


def make_optimizers(config: Any) -> tuple[Optimizer, ...]:
    """The optimizers of a run, one after the other: of the head alone, if asked for, and of all.

    Each has the schedule for its own steps; `optimizer.rates` are for the second.

    Args:
      config: the run's, with `steps`, `optimizer` (see `make_optimizer`), `freeze` and `head_first`
        (`steps`, `train`, `learning_rate`).
    Raises:
      InputError: as `make_optimizer`; or the head has as many steps as the run, or no patterns.
    """
    first, freeze = config.head_first, config.freeze
    check_range("config.head_first.steps", first.steps, least=0, less_than=config.steps)
    rest = make_optimizer(
        config.optimizer,
        steps=config.steps - first.steps,
        start=first.steps,
        freeze=freeze,
    )
    if not first.steps:
        return (rest,)
    if not first.train:
        raise InputError(
            "config.head_first.train is empty: name the parameters that train first, as ('fc',)"
        )
    settings = copy.deepcopy(config.optimizer)
    settings.rates = ()
    if first.learning_rate is not None:
        check_range("config.head_first.learning_rate", first.learning_rate, more_than=0)
        settings.learning_rate = first.learning_rate
    head = make_optimizer(settings, steps=first.steps, only=first.train, freeze=freeze)
    return head, rest


def optimizer_after(optimizers: Sequence[Optimizer], step: int) -> Optimizer:
    """The one that made the update before a step's end, and so the state after it."""
    return [optimizer for optimizer in optimizers if optimizer.start < max(step, 1)][-1]
