"""The training step, for any task."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxvision.core import (
    AXIS,
    InputError,
    Task,
    TrainState,
    at_least_float32,
    check_range,
    listed,
    mean_ratio,
    merge,
)
from jaxvision.core.memory import in_gigabytes, machine_memory
from jaxvision.engine.gradients import device_gradients
from jaxvision.engine.keys import INIT, seed_array, stream_key
from jaxvision.engine.parallel import Mapped, Parallel
from jaxvision.engine.phases import Phase, Stage, stage_after
from jaxvision.engine.selection import join

Record = dict[str, Array]
"""What a step reports: name -> f32[]."""


def _phase_of(optimizer: optax.GradientTransformation | Phase) -> Phase:
    return optimizer if isinstance(optimizer, Phase) else Phase(optimizer)


def _initial(
    task: Task, phase: Phase, ema_decay: float, variables: Any, seed: Array | int
) -> TrainState:
    variables = dict(task.init(stream_key(seed, INIT)) if variables is None else variables)
    ema = jax.tree.map(at_least_float32, variables) if ema_decay else None
    params = variables.pop("params")
    return TrainState(jnp.int32(0), params, variables, phase.init(params), ema)


def init_state(
    task: Task,
    optimizer: optax.GradientTransformation | Phase,
    seed: int,
    *,
    variables: Mapping[str, Any] | None = None,
    ema_decay: float = 0.0,
) -> TrainState:
    """The state before the first step, on one device.

    Args:
      task: what is trained.
      optimizer: one of optax's, or a phase with it.
      seed: of the initialisation.
      variables: the network's variables, such as pretrained ones; None: those of `task.init`.
      ema_decay: of the exponential moving average of all variables; 0: there is none.
    Raises:
      InputError: the variables have other names, shapes or dtypes than those of `task.init`, or
        the state does not fit into memory.
    """
    phase = _phase_of(optimizer)
    if variables is not None:
        variables = dict(variables)
        _check_like(variables, jax.eval_shape(task.init, jax.random.key(0)))
    # It runs once, so compiling is nearly all it costs, and optimising only makes that longer.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    initial = jax.jit(partial(_initial, task, phase, ema_decay), compiler_options=options)
    given = variables, seed_array(seed)
    check_state(initial.eval_shape(*given))  # is traced for the call
    return initial(*given)


def _check_like(variables: Any, like: Any) -> None:
    def shapes(tree: Any) -> dict[str, str]:
        return {
            jax.tree_util.keystr(path, simple=True, separator="/"): (
                f"{jnp.dtype(x.dtype).name}{list(x.shape)}"
            )
            for path, x in jax.tree_util.tree_leaves_with_path(tree)
        }

    given, wanted = shapes(variables), shapes(like)
    wrong = [
        f"{name} is {given.get(name, 'missing')}, and not {wanted.get(name, 'there')}"
        for name in sorted(given.keys() | wanted.keys())
        if given.get(name) != wanted.get(name)
    ]
    if wrong:
        raise InputError(
            f"the given variables are not those of the task's network: {listed(wrong, most=3)}: "
            "build it with the same options, or use jaxvision.interop.transfer"
        )


def check_state(state: TrainState) -> None:
    """Raises InputError if a state, of which the shapes are given, does not fit into memory."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    path, largest = max(leaves, key=lambda leaf: leaf[1].size)
    stats = jax.local_devices()[0].memory_stats() or {}
    count, memory = (
        sum(x.size * x.dtype.itemsize for _, x in leaves),
        stats.get("bytes_limit") or machine_memory(),
    )
    if count > memory:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        raise InputError(
            f"the variables of the network and the state of the optimizer take "
            f"{in_gigabytes(count)}, and the device has {in_gigabytes(memory)} of memory; the "
            f"largest array is {name}, {jnp.dtype(largest.dtype).name}{list(largest.shape)}: "
            "make the network smaller"
        )


def abstract_state(
    task: Task, optimizer: optax.GradientTransformation | Phase, *, ema_decay: float = 0.0
) -> TrainState:
    """Shapes and dtypes of the state, without computing it; see `init_state`."""
    return jax.eval_shape(partial(_initial, task, _phase_of(optimizer), ema_decay, None), 0)


def place_state(state: TrainState, parallel: Parallel, *, shard_state: bool = False) -> TrainState:
    """Copies a state, which every process has whole, to the devices, as `make_update` takes it."""
    return parallel.place(state, parallel.shardings(state, in_pieces=shard_state))


def _with_fresh_optimizer(
    state: TrainState, phase: Phase, *, parallel: Parallel, shard_state: bool
) -> TrainState:
    """The state, on the devices, with the first state of another phase's optimizer."""
    params = jax.device_get(state.params)
    state = state.replace(opt_state=jax.jit(phase.init)(params))
    placed = parallel.shardings(state, in_pieces=shard_state).opt_state
    return state.replace(opt_state=parallel.place(state.opt_state, placed))


def _moved(ema: Any, variables: Any, ema_decay: float, steps: Array) -> Any:
    """The moving average after some steps; unchanged to the bit where it equals the variables."""
    share = 1 - jnp.minimum(ema_decay, (1 + steps) / (10 + steps))
    return jax.tree.map(
        lambda mean, x: (mean + share * (x - mean)).astype(mean.dtype), ema, variables
    )


def _all_sums(
    task: Task, phase: Phase, *, accumulate: int, add: Callable[[Any, Any], Any]
) -> Callable[[TrainState, Any, Array], tuple[Any, Any]]:
    """Gradients, and (losses, metrics, statistics), of the examples of all devices.

    Args:
      task: what is trained.
      phase: which parameters are trained.
      accumulate: as in `make_update`.
      add: (gradients, anything else) -> both, added over the devices.
    """
    compute = device_gradients(task, phase.selection, accumulate=accumulate)

    def sums(state: TrainState, batch: Any, seed: Array) -> tuple[Any, Any]:
        gradients, (shares, metrics, statistics) = compute(state, batch, seed)
        before, moved = {name: state.statistics[name] for name in statistics}, {}
        if not task.sync_batch_norm:
            moved = jax.tree.map(jnp.subtract, statistics, before)
        gradients, (losses, metrics, moved) = add(gradients, (shares, metrics, moved))
        if not task.sync_batch_norm:  # of what is frozen the change is 0 to the bit
            devices = jax.lax.axis_size(AXIS)
            statistics = jax.tree.map(
                lambda x, total: x + (total / devices).astype(x.dtype), before, moved
            )
        return gradients, (losses, metrics, statistics)

    return sums


def _sum_over_devices(tree: Any) -> Any:
    """The sum of each array over the devices, in few all-reduces.

    All arrays are there before any is added: otherwise XLA for GPUs moves the operations that end
    the computation of a gradient behind its sum, and has dozens of sums that it cannot combine.
    """
    return jax.lax.psum(jax.lax.optimization_barrier(tree), AXIS)


def _change(
    stage: Stage, *, ema_decay: float
) -> Callable[[TrainState, Any, Any], tuple[TrainState, Record]]:
    """What follows the sums over the devices: (state, gradients, others) -> (state, record)."""
    phase = stage.phase
    transformation = optax.with_extra_args_support(phase.optimizer)

    def change(state: TrainState, gradients: Any, others: Any) -> tuple[TrainState, Record]:
        losses, metrics, statistics = others
        loss = sum(losses.values())
        trained, frozen = phase.selection.split(state.params)
        changes, opt_state = transformation.update(gradients, state.opt_state, trained, value=loss)
        changes = phase.selection.scale(changes)
        new_state = TrainState(
            step=state.step + 1,
            params=join(optax.apply_updates(trained, changes), frozen),
            statistics={**state.statistics, **statistics},
            opt_state=opt_state,
        )
        if state.ema is not None:
            ema = _moved(state.ema, new_state.variables, ema_decay, new_state.step)
            new_state = new_state.replace(ema=ema)
        rate = phase.learning_rate(opt_state, state.step - stage.start)
        record = merge(
            losses,
            {
                "loss": loss,
                **({} if rate is None else {"learning_rate": rate}),
                "gradient_norm": optax.tree.norm(gradients),
            },
            {name: mean_ratio(*pair) for name, pair in metrics.items()},
        )
        return new_state, record

    return change


def device_update(
    task: Task, stage: Stage, *, ema_decay: float, accumulate: int = 1
) -> Callable[[TrainState, Any, Array], tuple[TrainState, Record]]:
    """The training step as one device runs it, within the mapped axis `AXIS`."""
    sums = _all_sums(
        task,
        stage.phase,
        accumulate=accumulate,
        add=lambda gradients, others: _sum_over_devices((gradients, others)),
    )
    change = _change(stage, ema_decay=ema_decay)

    def update(state: TrainState, batch: Any, seed: Array) -> tuple[TrainState, Record]:
        return change(state, *sums(state, batch, seed))

    return update


def _update_in_pieces(
    task: Task, stage: Stage, *, parallel: Parallel, ema_decay: float, accumulate: int
) -> Mapped:
    """The training step of which each device updates its pieces of the state."""
    sums = _all_sums(
        task,
        stage.phase,
        accumulate=accumulate,
        add=lambda gradients, others: (
            parallel.reduce_scatter(gradients),
            jax.lax.psum(others, AXIS),
        ),
    )
    return parallel.map_in_pieces(
        sums,
        _change(stage, ema_decay=ema_decay),
        like=lambda state: stage.phase.selection.split(state.params)[0],
        more=1,
    )


def make_update(
    task: Task,
    optimizer: optax.GradientTransformation | Phase,
    *,
    parallel: Parallel,
    ema_decay: float = 0.0,
    start: int = 0,
    accumulate: int = 1,
    shard_state: bool = False,
) -> Mapped:
    """Makes the training step over all devices.

    Every device computes the totals of its examples, divided by the weights of all; the sum of
    its gradients over the devices is that of the global batch, whatever the number of devices.

    Args:
      task: what is trained.
      optimizer: one of optax's, or a phase with it.
      parallel: the devices.
      ema_decay: of the exponential moving average of all variables; 0: there is none. After t
        steps the average keeps min(ema_decay, (1 + t) / (10 + t)) of itself, so that it soon
        forgets the initial variables.
      start: steps of the training before this phase, for the logged learning rate.
      accumulate: number of parts of the batch, one after the other, whose gradients are added
        before the update, so that a device has the activations of one part in memory. Except for
        what a network does to a whole batch, the result is that of the whole batch: each loss term
        is divided by the weights of all parts, and each example has the same random keys. Batch
        norm takes each part by itself, and moves its running statistics with every part; dropout
        draws other numbers. The weights are found first, in a pass over the parts without
        gradients. It costs next to nothing where they follow from the targets; where they follow
        from the outputs, as of sampled proposals, it is a forward pass: a third more FLOPs. See
        `jaxvision.engine.gradients`.
      shard_state: whether the optimizer's state and the EMA lie in pieces, one on each device; for
        `shard_map`. The gradients are then reduced and scattered, each device updates its pieces of
        the parameters, and all gather them. The result is the same, whatever the optimizer: it is
        a function of whole arrays, which the compiler divides between the devices, with sums over
        them for a global norm. An array of which the number of devices divides no axis stays whole.
    Returns:
      (state, batch, seed) -> (state, record). The state is from `init_state`, placed by
      `place_state`, and is donated; the batch is from `Parallel.shard`; the seed, uint32[], is that
      of all randomness in the step. The record has each loss term, their sum "loss", the task's
      metrics, "gradient_norm", and "learning_rate" where it is known. It compiles once for each
      form of batch, as multi-scale training has several, and not again for another seed.
    Raises:
      OptionError: accumulate is less than 1, or `shard_state` is not for this kind of `Parallel`.
      ValueError: at the first step, if two of these have the same name.
      InputError: at the first step, if the devices and parts do not divide the batch.
    """
    check_range("accumulate", accumulate, least=1)
    if shard_state:
        parallel.check_pieces()
    stage = Stage(_phase_of(optimizer), start)
    options = {"ema_decay": ema_decay, "accumulate": accumulate}
    if shard_state:
        return _update_in_pieces(task, stage, parallel=parallel, **options)
    update = device_update(task, stage, **options)
    return parallel.map(update, donate_state=True, more=1)


class StagedUpdate:
    """The training steps of several phases, one after the other; called as `make_update`'s result.

    A phase compiles, and starts with a fresh state of its optimizer, at its first step.

    Args:
      task: what is trained.
      stages: in the order of their starts.
      parallel: the devices.
      ema_decay: as in `make_update`.
      accumulate: as in `make_update`.
      shard_state: as in `make_update`.
      start: steps of the training before the first call.
      log: shows a line to the user, for each compilation.
    """

    def __init__(
        self,
        task: Task,
        stages: Sequence[Stage],
        *,
        parallel: Parallel,
        ema_decay: float,
        accumulate: int = 1,
        shard_state: bool = False,
        start: int,
        log: Callable[[str], None],
    ):
        self._stages, self._parallel, self._step = stages, parallel, start
        self._shard_state = shard_state
        self._updates = [
            make_update(
                task,
                phase,
                parallel=parallel,
                ema_decay=ema_decay,
                start=begin,
                accumulate=accumulate,
                shard_state=shard_state,
            ).reporting("the training step", log)
            for phase, begin in stages
        ]

    def __call__(self, state: TrainState, batch: Any, seed: Array) -> tuple[TrainState, Record]:
        self._step += 1
        stage = stage_after(self._stages, self._step)
        if self._step - 1 == stage.start > 0:
            state = _with_fresh_optimizer(
                state, stage.phase, parallel=self._parallel, shard_state=self._shard_state
            )
        number = [one.start for one in self._stages].index(stage.start)
        return self._updates[number](state, batch, seed)
